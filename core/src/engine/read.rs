//! Point reads (layer L5).
//!
//! Invariant PIN: the caller has pinned `view` before it loaded `seqno`; the other order loses
//! keys to a concurrent flush. Memtables newest first, then runs newest first; the first version
//! that the reader may see wins.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::state::{Engine, lock};
use super::view::View;
use crate::checksum::hash_key;
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

impl Engine {
    /// Pins the current state for one read and hands it with the newest number to `read`.
    #[inline]
    pub(crate) fn with_view<T>(
        &self,
        at: Option<SeqNo>,
        read: impl FnOnce(&View, SeqNo) -> Result<T>,
    ) -> Result<T> {
        self.check_open()?;
        let view = self.view.load();
        let seqno = at.unwrap_or_else(|| self.visible.load(Ordering::Acquire));
        read(&view, seqno)
    }

    /// Pins the current state for a longer read: the view first, then the number.
    pub(crate) fn pin(&self, at: Option<SeqNo>) -> Result<(Arc<View>, SeqNo)> {
        self.check_open()?;
        let view = self.view.load_full();
        let seqno = at.unwrap_or_else(|| self.visible.load(Ordering::Acquire));
        Ok((view, seqno))
    }

    /// Registers a snapshot of the newest state, under the lock under which flush and compaction
    /// read the list of snapshots.
    pub(crate) fn register_snapshot(&self) -> Result<SeqNo> {
        let mut shared = lock(&self.shared);
        self.check_open()?;
        let seqno = self.visible.load(Ordering::Acquire);
        *shared.snapshots.entry(seqno).or_insert(0) += 1;
        Ok(seqno)
    }

    /// Releases one registration.
    pub(crate) fn release_snapshot(&self, seqno: SeqNo) {
        let mut shared = lock(&self.shared);
        if let Some(count) = shared.snapshots.get_mut(&seqno) {
            *count -= 1;
            if *count == 0 {
                shared.snapshots.remove(&seqno);
            }
        }
    }

    /// The hash of an encoded key in this database.
    #[inline]
    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        hash_key(key, self.env.hash_seed)
    }
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
}
