//! Reading a table (layer L3): an open table is immutable, shared by all threads, and answers from
//! its map without lock, copy or allocation; where blocks are not read in place, from the cache.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::buffer::{Bytes, Charge};
use crate::cache::FileAccess;
use crate::error::{Error, Result};
use crate::fs::{ALIGNMENT, Access, AlignedBytes, File, FileSystem, Region};
use crate::table::block::{Block, RawEntry};
use crate::table::elsewhere::Elsewhere;
use crate::table::format::{FOOTER_LEN, FOOTER_SPACE, Footer, PAGE};
use crate::table::index::Index;
use crate::table::loaded::Loaded;
use crate::table::locator::{self, Line};
use crate::table::parts::Parts;
use crate::types::{Compression, FileNumber, Kind, SeqNo};

/// An entry of a table; the value lies in the table's map or in a buffer of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableEntry<'a> {
    /// Its sequence number.
    pub(crate) seqno: SeqNo,
    /// What it says about its key.
    pub(crate) kind: Kind,
    /// The value, or an encoded pointer of 16 bytes, or nothing.
    pub(crate) value: Bytes<'a>,
}

/// An open table.
pub(crate) struct Table {
    pub(super) parts: Parts,
    pub(super) index: Index,
    pub(super) seqno_base: SeqNo,
    /// Home lines of the locator.
    pub(super) lines: u64,
    pub(super) hash_seed: u64,
    fs: Arc<dyn FileSystem>,
    /// What it takes on the heap.
    _heap: Charge,
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
        access: &FileAccess,
    ) -> Result<Table> {
        let file = if access.direct { fs.open_direct(path)? } else { fs.open(path)? };
        let size = file.size()?;
        if size != size_bytes || size < FOOTER_LEN as u64 {
            let what = format!("table has {size} bytes instead of {size_bytes}");
            return Err(Error::corruption(path, size.min(size_bytes), what));
        }
        let len = usize::try_from(size)
            .map_err(|_| Error::corruption(path, 0, "table is larger than memory can be"))?;
        let end_len = len.min(FOOTER_SPACE);
        let mut region = match access.direct {
            true => read_end(&*file, len, end_len)?,
            false => file.map(len, Access::Random)?,
        };
        let end = region.get(region.len() - end_len, end_len).unwrap_or(&[]);
        let (footer, layout) = Footer::read(end, len, path, hash_seed)?;
        if footer.number != number {
            let what = format!("this is table {} instead of {number}", footer.number);
            return Err(Error::corruption(path, layout.footer as u64, what));
        }
        let index = Index::new(footer.blocks, footer.cells);
        let (lines, fs) = (footer.lines, Arc::clone(fs));
        if access.direct {
            let locator_len = (layout.locator_end - layout.data_end) as u64;
            // Zeros between blocks and locator belong to the part that is checked.
            let start = match access.cache.has_room_for_file(locator_len) {
                true => layout.data_end - layout.data_end.min(PAGE),
                false => layout.locator_end,
            };
            region = read_end(&*file, len, len - start)?;
        }
        let file = access.direct.then_some(file);
        let pages = (layout.locator_end - layout.data_end).div_ceil(PAGE);
        let elsewhere = (access.direct || footer.compression != Compression::None)
            .then(|| Elsewhere::new(Arc::clone(&access.cache), number, footer.cells, pages, file));
        let parts = Parts::open(region, footer, layout, elsewhere, path)?;
        let _heap = access.cache.charge_file(size_of::<Table>() as u64 + parts.heap_bytes());
        Ok(Table { parts, index, seqno_base, lines, hash_seed, fs, _heap })
    }

    /// The smallest encoded key.
    pub(crate) fn smallest(&self) -> &[u8] {
        self.parts.smallest()
    }

    /// The largest encoded key.
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

    /// An error about a value of this table, with the file and, where it is read in place, the
    /// offset of the value; 0 where it is not.
    #[cold]
    pub(crate) fn blame(&self, error: Error, value: &[u8]) -> Error {
        let start = self.parts.slice(0, 1).as_ptr().addr();
        let offset = value.as_ptr().addr().wrapping_sub(start) as u64;
        let in_place = self.parts.elsewhere().is_none();
        let inside = in_place && offset < self.parts.layout().data_end as u64;
        error.in_file(self.path(), if inside { offset } else { 0 })
    }

    /// Starts to load what a `get` of a key with this hash reads first.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        self.parts.prefetch_line(locator::home(hash, self.lines));
    }

    /// Starts to load the entries that the line asked for by [`Table::prefetch`] names.
    #[inline]
    pub(crate) fn prefetch_entry(&self, hash: u64) {
        if self.parts.elsewhere().is_some() {
            return;
        }
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
        self.find::<false>(key, hash, max_seqno, &(0..0))
    }

    /// As get. `PART`: only `range` of the value is wanted, so a block that is one long entry and
    /// not compressed is not verified, since that would read all of it.
    #[inline(always)]
    pub(crate) fn find<const PART: bool>(
        &self,
        key: &[u8],
        hash: u64,
        max_seqno: SeqNo,
        range: &Range<usize>,
    ) -> Result<Option<TableEntry<'_>>> {
        if PART {
            return self.find_part(key, hash, max_seqno, range);
        }
        if self.parts.elsewhere().is_some() {
            return self.get_loaded(key, hash, max_seqno, 0);
        }
        self.find_mapped::<false>(key, hash, max_seqno)
    }

    /// As find, for parts.
    #[inline(never)]
    fn find_part(
        &self,
        key: &[u8],
        hash: u64,
        max_seqno: SeqNo,
        range: &Range<usize>,
    ) -> Result<Option<TableEntry<'_>>> {
        let found = match self.parts.elsewhere() {
            None => self.find_mapped::<true>(key, hash, max_seqno)?,
            Some(_) => match self.find_long(key, hash, max_seqno, range)? {
                None => self.get_loaded(key, hash, max_seqno, 0)?,
                found => return Ok(found),
            },
        };
        Ok(found.map(|mut found| {
            if found.kind == Kind::Put {
                found.value.cut(range.clone());
            }
            found
        }))
    }

    /// As find, where blocks are read in place.
    #[inline(always)]
    fn find_mapped<const PART: bool>(
        &self,
        key: &[u8],
        hash: u64,
        max_seqno: SeqNo,
    ) -> Result<Option<TableEntry<'_>>> {
        let home = locator::home(hash, self.lines);
        let line = self.parts.line(home)?;
        if let Some(found) = self.probe::<PART>(line, key, hash)? {
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
        self.get_loaded(key, hash, max_seqno, 1)
    }

    /// As get, wherever blocks are, beginning so many lines behind the home line.
    #[inline(never)]
    fn get_loaded(
        &self,
        key: &[u8],
        hash: u64,
        max_seqno: SeqNo,
        first: usize,
    ) -> Result<Option<TableEntry<'_>>> {
        let home = locator::home(hash, self.lines);
        let home_line = self.parts.line_anywhere(home)?;
        let displaced = locator::may_be_displaced(&home_line, hash);
        let reach = if displaced { locator::reach(&home_line) } else { 0 };
        for step in first..=reach {
            let line = self.parts.line_anywhere(home + step)?;
            let Some((loaded, offset)) = self.probe_loaded(&line, key, hash)? else { continue };
            let Some(raw) = loaded.block().entry_at(offset) else { break };
            let seqno = self.seqno_base.wrapping_add(raw.delta);
            if seqno > max_seqno {
                return self.search(key, max_seqno);
            }
            return Ok(Some(TableEntry { seqno, kind: raw.kind, value: loaded.value(&raw) }));
        }
        let search = displaced && locator::must_search(&home_line);
        if search { self.search(key, max_seqno) } else { Ok(None) }
    }

    /// The block, and the offset in it, of the entry of `key` that a line of the locator points at.
    fn probe_loaded(
        &self,
        line: &Line,
        key: &[u8],
        hash: u64,
    ) -> Result<Option<(Loaded<'_>, usize)>> {
        let mut bits = locator::matches(line, hash);
        while bits != 0 {
            let position = locator::position(line, bits.trailing_zeros() as usize);
            bits &= bits - 1;
            if position == 0 {
                continue;
            }
            let cell = position >> self.parts.grid_shift();
            let offset = position - (cell << self.parts.grid_shift());
            let loaded = self.parts.load(cell, true)?;
            let entry = loaded.block().entry_at(offset);
            let entry = entry.ok_or_else(|| self.parts.damaged(cell))?;
            if loaded.block().has_key(&entry, key) {
                return Ok(Some((loaded, offset)));
            }
        }
        Ok(None)
    }

    /// The entry of `key` that a line of the locator points at.
    #[inline(always)]
    fn probe<const PART: bool>(
        &self,
        line: &Line,
        key: &[u8],
        hash: u64,
    ) -> Result<Option<Found<'_>>> {
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
            let block = match PART {
                true => self.parts.part_in_cell(cell)?,
                false => self.parts.block_in_cell(cell)?,
            };
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
        if self.seqno_base.wrapping_add(found.entry.delta) <= max_seqno {
            Ok(Some(self.entry(&found.entry)))
        } else {
            self.get_older(found, key, max_seqno)
        }
    }

    /// An entry that is read in place.
    #[inline(always)]
    fn entry<'a>(&self, entry: &RawEntry<'a>) -> TableEntry<'a> {
        let seqno = self.seqno_base.wrapping_add(entry.delta);
        TableEntry { seqno, kind: entry.kind, value: Bytes::Mapped(entry.value) }
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
            if self.seqno_base.wrapping_add(next.delta) <= max_seqno {
                return Ok(Some(self.entry(&next)));
            }
            entry = next;
        }
        self.search(key, max_seqno)
    }

    /// The file once more, for reading it without the map.
    pub(super) fn open_file(&self) -> Result<Arc<dyn File>> {
        match self.direct_file() {
            Some(file) => Ok(Arc::clone(file)),
            None => self.fs.open(self.path()),
        }
    }

    /// The file, when it is read directly.
    pub(super) fn direct_file(&self) -> Option<&Arc<dyn File>> {
        self.parts.elsewhere().and_then(Elsewhere::file)
    }
}

/// The last `len` bytes of a file of `size` bytes, in memory.
fn read_end(file: &dyn File, size: usize, len: usize) -> Result<Region> {
    let mut bytes = AlignedBytes::zeroed(len, ALIGNMENT);
    file.read_at(&mut bytes, (size - len) as u64)?;
    Ok(Region::of(bytes))
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
