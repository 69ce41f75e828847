//! Reading a table (layer L3): an open table is immutable, shared by all threads, and answers from
//! its map without lock, copy or allocation.

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fs::{Access, File, FileSystem};
use crate::table::block::{Block, RawEntry};
use crate::table::format::FOOTER_LEN;
use crate::table::index::Index;
use crate::table::locator::{self, Line};
use crate::table::parts::Parts;
use crate::types::{FileNumber, Kind, SeqNo};

/// An entry of a table; the value lies in the table's map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableEntry<'a> {
    /// Its sequence number.
    pub(crate) seqno: SeqNo,
    /// What it says about its key.
    pub(crate) kind: Kind,
    /// The value, or an encoded pointer of 16 bytes, or nothing.
    pub(crate) value: &'a [u8],
}

/// An open table.
pub(crate) struct Table {
    pub(super) parts: Parts,
    pub(super) index: Index,
    pub(super) seqno_base: SeqNo,
    /// Home lines of the locator.
    lines: u64,
    #[cfg(test)]
    pub(super) hash_seed: u64,
    fs: Arc<dyn FileSystem>,
}

impl Table {
    /// Maps the table `number` at `path` and checks its footer. `size_bytes` and `seqno_base` are
    /// what the version says; the file must have that size. The file itself is closed again.
    pub(crate) fn open(
        fs: &Arc<dyn FileSystem>,
        path: &Path,
        number: FileNumber,
        size_bytes: u64,
        hash_seed: u64,
        seqno_base: SeqNo,
    ) -> Result<Table> {
        let file = fs.open(path)?;
        let size = file.size()?;
        if size != size_bytes || size < FOOTER_LEN as u64 {
            let what = format!("table has {size} bytes instead of {size_bytes}");
            return Err(Error::corruption(path, size.min(size_bytes), what));
        }
        let len = usize::try_from(size)
            .map_err(|_| Error::corruption(path, 0, "table is larger than memory can be"))?;
        let parts = Parts::open(file.map(len, Access::Random)?, path, hash_seed)?;
        let footer = parts.footer();
        if footer.number != number {
            let what = format!("this is table {} instead of {number}", footer.number);
            return Err(parts.corrupt(parts.layout().footer, &what));
        }
        let index = Index::new(footer.blocks, footer.cells);
        let (lines, fs) = (footer.lines, Arc::clone(fs));
        Ok(Table {
            parts,
            index,
            seqno_base,
            lines,
            #[cfg(test)]
            hash_seed,
            fs,
        })
    }

    /// The smallest encoded key.
    #[cfg(test)]
    pub(crate) fn smallest(&self) -> &[u8] {
        self.parts.smallest()
    }

    /// The largest encoded key.
    #[cfg(test)]
    pub(crate) fn largest(&self) -> &[u8] {
        self.parts.largest()
    }

    /// Entries, all versions counted.
    pub(crate) fn entries(&self) -> u64 {
        self.parts.footer().entries
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        self.parts.path()
    }

    /// Starts to load what a `get` of a key with this hash reads first.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        self.parts.prefetch_line(locator::home(hash, self.lines));
    }

    /// Starts to load the entries that the line asked for by [`Table::prefetch`] names.
    #[inline]
    pub(crate) fn prefetch_entry(&self, hash: u64) {
        let Ok(line) = self.parts.line(locator::home(hash, self.lines)) else { return };
        let mut bits = locator::matches(line, hash);
        while bits != 0 {
            let position = locator::position(line, bits.trailing_zeros() as usize);
            bits &= bits - 1;
            self.parts.prefetch(position >> self.parts.grid_shift() << self.parts.grid_shift());
            for line in 0..3 {
                self.parts.prefetch(position + 64 * line);
            }
        }
    }

    /// The newest version of `key` with a sequence number up to `max_seqno`. `key` is encoded and
    /// `hash` its hash under the database's seed.
    #[inline]
    pub(crate) fn get(
        &self,
        key: &[u8],
        hash: u64,
        max_seqno: SeqNo,
    ) -> Result<Option<TableEntry<'_>>> {
        let home = locator::home(hash, self.lines);
        let line = self.parts.line(home)?;
        if let Some(found) = self.probe(line, key, hash)? {
            return self.visible(found, key, max_seqno);
        }
        if locator::may_be_displaced(line, hash) {
            self.get_displaced(key, hash, max_seqno)
        } else {
            Ok(None)
        }
    }

    /// As get, for keys that are not in their home line.
    #[cold]
    fn get_displaced(
        &self,
        key: &[u8],
        hash: u64,
        max_seqno: SeqNo,
    ) -> Result<Option<TableEntry<'_>>> {
        let home = locator::home(hash, self.lines);
        let line = self.parts.line(home)?;
        for step in 1..=locator::reach(line) {
            if let Some(found) = self.probe(self.parts.line(home + step)?, key, hash)? {
                return self.visible(found, key, max_seqno);
            }
        }
        if locator::must_search(line) { self.search(key, max_seqno) } else { Ok(None) }
    }

    /// The entry of `key` that a line of the locator points at.
    #[inline(always)]
    fn probe(&self, line: &Line, key: &[u8], hash: u64) -> Result<Option<Found<'_>>> {
        let mut bits = locator::matches(line, hash);
        while bits != 0 {
            let position = locator::position(line, bits.trailing_zeros() as usize);
            bits &= bits - 1;
            if position == 0 {
                continue;
            }
            // The entry, its value and its block's header are loaded side by side.
            for line in 0..3 {
                self.parts.prefetch(position + 64 * line);
            }
            let cell = position >> self.parts.grid_shift();
            let block = self.parts.block_in_cell(cell)?;
            let Some(entry) = block.entry_at(position - (cell << self.parts.grid_shift())) else {
                return Err(self.parts.damaged(cell));
            };
            if block.has_key(&entry, key) {
                return Ok(Some(Found { block, entry }));
            }
        }
        Ok(None)
    }

    /// The found version, or an older one, that `max_seqno` sees.
    #[inline(always)]
    fn visible<'a>(
        &'a self,
        found: Found<'a>,
        key: &[u8],
        max_seqno: SeqNo,
    ) -> Result<Option<TableEntry<'a>>> {
        let entry = self.entry(&found.entry);
        if entry.seqno <= max_seqno {
            Ok(Some(entry))
        } else {
            self.get_older(found, key, max_seqno)
        }
    }

    #[inline]
    pub(super) fn entry<'a>(&self, entry: &RawEntry<'a>) -> TableEntry<'a> {
        let seqno = self.seqno_base.wrapping_add(entry.delta);
        TableEntry { seqno, kind: entry.kind, value: entry.value }
    }

    /// Follows the older versions of a key a few steps, then searches.
    #[cold]
    fn get_older<'a>(
        &'a self,
        found: Found<'a>,
        key: &[u8],
        max_seqno: SeqNo,
    ) -> Result<Option<TableEntry<'a>>> {
        let Found { block, mut entry } = found;
        let last = block.last_entry_offset().unwrap_or(0);
        for _ in 0..16 {
            if entry.end > last {
                break;
            }
            let Some(next) = block.entry_at(entry.end).filter(|next| next.older) else {
                return Ok(None);
            };
            if self.entry(&next).seqno <= max_seqno {
                return Ok(Some(self.entry(&next)));
            }
            entry = next;
        }
        self.search(key, max_seqno)
    }

    /// The file once more, for reading it without the map.
    pub(super) fn open_file(&self) -> Result<Arc<dyn File>> {
        self.fs.open(self.path())
    }
}

/// An entry that a probe found, and its block.
struct Found<'a> {
    block: Block<'a>,
    entry: RawEntry<'a>,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({}, {} entries)", self.path().display(), self.entries())
    }
}
