//! Looking a key up in a pinned view (layer L5).
//!
//! Memtables newest first, then runs newest first; the first version that the reader may see wins.

use std::sync::Arc;

use super::view::View;
use crate::error::{Error, ErrorKind, Result};
use crate::table::Table;
use crate::types::{Kind, SeqNo, ValuePointer};
use crate::vlog::Segment;

/// A value that was found, and what keeps its bytes in memory.
pub(crate) struct Found<'a> {
    pub(crate) value: &'a [u8],
    pub(crate) owner: Owner<'a>,
}

/// The file that a value lies in.
#[derive(Clone, Copy)]
pub(crate) enum Owner<'a> {
    Segment(&'a Arc<Segment>),
    Table(&'a Arc<Table>),
}

impl View {
    /// The value of `key` for a reader at `seqno`.
    #[inline]
    pub(crate) fn get(&self, key: &[u8], hash: u64, seqno: SeqNo) -> Result<Option<Found<'_>>> {
        for part in &self.parts {
            if part.memtable.is_empty() {
                continue;
            }
            if let Some(entry) = part.memtable.get(key, hash, seqno) {
                if entry.kind == Kind::Delete {
                    return Ok(None);
                }
                let value = part.segment.value(entry.offset, key.len(), entry.value_len)?;
                return Ok(Some(Found { value, owner: Owner::Segment(&part.segment) }));
            }
        }
        for run in &self.version.runs {
            let Some(table) = run.table_for(key) else { continue };
            if let Some(entry) = table.get(key, hash, seqno)? {
                return match entry.kind {
                    Kind::Delete => Ok(None),
                    Kind::Put => Ok(Some(Found { value: entry.value, owner: Owner::Table(table) })),
                    Kind::Pointer => self.resolve(key, entry.value).map(Some),
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
    #[inline]
    pub(crate) fn resolve(&self, key: &[u8], pointer: &[u8]) -> Result<Found<'_>> {
        let pointer = ValuePointer::decode(pointer).ok_or_else(|| {
            Error::new(ErrorKind::Corruption, "a value pointer in a table has a wrong length")
        })?;
        let segment = self.version.segment_of(&pointer)?;
        let value = segment.pointed_value(pointer.offset, key, pointer.len)?;
        Ok(Found { value, owner: Owner::Segment(segment) })
    }

    /// Asks the processor to load what `get` of a key with this hash will touch first.
    #[inline]
    pub(crate) fn prefetch(&self, key: &[u8], hash: u64) {
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
