//! Looking a key up in a pinned view (layer L5).
//!
//! Memtables newest first, then runs newest first; the first version that the reader may see wins.

use std::ops::Range;
use std::sync::Arc;

use super::view::View;
use crate::buffer::Bytes;
use crate::error::{Error, ErrorKind, Result};
use crate::prefetch::prefetch_bytes;
use crate::table::Table;
use crate::types::{Kind, SeqNo, ValuePointer};
use crate::vlog::Segment;

/// Bytes of a value in a table whose lines come with the entry's head.
const HEAD_BYTES: usize = 128;

/// A value that was found, and what keeps its bytes in memory.
pub(crate) struct Found<'a> {
    pub(crate) value: Bytes<'a>,
    pub(crate) owner: Owner<'a>,
}

/// The file that a value lies in; it matters where the value is mapped.
#[derive(Clone, Copy)]
pub(crate) enum Owner<'a> {
    Segment(&'a Arc<Segment>),
    Table(&'a Arc<Table>),
}

impl View {
    /// The value of `key` for a reader at `seqno`.
    #[inline]
    pub(crate) fn get(&self, key: &[u8], hash: u64, seqno: SeqNo) -> Result<Option<Found<'_>>> {
        self.find::<false>(key, hash, seqno, &(0..0))
    }

    /// As get, cut to `len` bytes from `offset`; of a long value nothing else is touched, unless it
    /// is compressed.
    pub(crate) fn get_range(
        &self,
        key: &[u8],
        hash: u64,
        seqno: SeqNo,
        offset: u64,
        len: usize,
    ) -> Result<Option<Found<'_>>> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        self.find::<true>(key, hash, seqno, &(start..start.saturating_add(len)))
    }

    /// The value of `key`; `PART`: only `range` of it, which need not be verified when it is long,
    /// see FORMAT.
    #[inline(always)]
    fn find<const PART: bool>(
        &self,
        key: &[u8],
        hash: u64,
        seqno: SeqNo,
        range: &Range<usize>,
    ) -> Result<Option<Found<'_>>> {
        let mut asked = false;
        for part in &self.parts {
            if part.memtable.is_empty() {
                continue;
            }
            if !asked {
                self.prefetch_runs(key, hash);
                asked = true;
            }
            if let Some(entry) = part.memtable.get(key, hash, seqno) {
                if entry.kind == Kind::Delete {
                    return Ok(None);
                }
                let (mut value, owner) = (part.value(key, &entry)?, Owner::Segment(&part.segment));
                prefetch_bytes(&value, 0);
                if PART {
                    value.cut(range.clone());
                }
                return Ok(Some(Found { value, owner }));
            }
        }
        // A lone run is read at once.
        if !asked && self.version.runs.len() > 1 {
            self.prefetch_runs(key, hash);
        }
        for run in &self.version.runs {
            let Some(table) = run.table_for(key) else { continue };
            if let Some(entry) = table.find::<PART>(key, hash, seqno, range)? {
                return match entry.kind {
                    Kind::Delete => Ok(None),
                    Kind::Put => {
                        prefetch_bytes(&entry.value, HEAD_BYTES);
                        Ok(Some(Found { value: entry.value, owner: Owner::Table(table) }))
                    }
                    Kind::Pointer => self
                        .resolve_as::<PART>(key, &entry.value, range)
                        .map(Some)
                        .map_err(|error| table.blame(error, &entry.value)),
                    Kind::Packed => {
                        let error = unreadable("an entry of a table has a kind of the log");
                        Err(table.blame(error, &entry.value))
                    }
                };
            }
        }
        Ok(None)
    }

    /// Whether `key` is there for a reader at `seqno`; a separated value is not read.
    #[inline]
    pub(crate) fn contains(&self, key: &[u8], hash: u64, seqno: SeqNo) -> Result<bool> {
        for part in &self.parts {
            if let Some(entry) = part.memtable.get(key, hash, seqno) {
                return Ok(entry.kind != Kind::Delete);
            }
        }
        for run in &self.version.runs {
            if let Some(table) = run.table_for(key)
                && let Some(entry) = table.get(key, hash, seqno)?
            {
                return Ok(entry.kind != Kind::Delete);
            }
        }
        Ok(false)
    }

    /// The separated value that `pointer`, as a table stores it, leads to.
    #[inline(always)]
    fn resolve_as<const PART: bool>(
        &self,
        key: &[u8],
        pointer: &[u8],
        range: &Range<usize>,
    ) -> Result<Found<'_>> {
        let (pointer, segment) = self.target(pointer)?;
        let value = match PART {
            true => segment.pointed_part(pointer.offset, key, pointer.len, range.clone())?,
            false => segment.pointed_value(pointer.offset, key, pointer.len, true)?,
        };
        Ok(Found { value, owner: Owner::Segment(segment) })
    }

    /// The separated value that `pointer` leads to, for who goes on: it does not go into the cache.
    #[inline]
    pub(crate) fn resolve(&self, key: &[u8], pointer: &[u8]) -> Result<Bytes<'_>> {
        let (pointer, segment) = self.target(pointer)?;
        segment.pointed_value(pointer.offset, key, pointer.len, false)
    }

    /// Asks for the first lines of the separated value that `pointer` leads to.
    pub(crate) fn ask_lines(&self, pointer: &[u8]) {
        if let Ok((pointer, segment)) = self.target(pointer) {
            segment.ask_lines(pointer.offset, pointer.len);
        }
    }

    /// Asks for the pages of the separated value that `pointer` leads to.
    pub(crate) fn ask_pages(&self, pointer: &[u8]) {
        if let Ok((pointer, segment)) = self.target(pointer) {
            segment.ask_pages(pointer.offset, pointer.len);
        }
    }

    #[inline(always)]
    fn target(&self, pointer: &[u8]) -> Result<(ValuePointer, &Arc<Segment>)> {
        let pointer = ValuePointer::decode(pointer)
            .ok_or_else(|| unreadable("a value pointer in a table has a wrong length"))?;
        Ok((pointer, self.version.segment_of(&pointer)?))
    }

    /// Asks the processor to load what `get` of a key with this hash will touch first.
    #[inline]
    pub(crate) fn prefetch(&self, key: &[u8], hash: u64) {
        self.parts.iter().for_each(|part| part.memtable.prefetch(hash));
        self.prefetch_runs(key, hash);
    }

    /// Asks for the lines of the runs.
    #[inline(never)]
    fn prefetch_runs(&self, key: &[u8], hash: u64) {
        for run in &self.version.runs {
            if let Some(table) = run.table_for(key) {
                table.prefetch(hash);
            }
        }
    }

    /// Asks for what `get` will touch next, when what [`View::prefetch`] asked for has come.
    #[inline]
    pub(crate) fn prefetch_entry(&self, key: &[u8], hash: u64) {
        for run in &self.version.runs {
            if let Some(table) = run.table_for(key) {
                table.prefetch_entry(hash);
            }
        }
    }
}

#[cold]
fn unreadable(what: &str) -> Error {
    Error::new(ErrorKind::Corruption, what)
}
