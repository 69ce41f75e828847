//! Taking entries from either end (layer L5).
//!
//! The writer remembers a key below which, and one from which on, nothing lives, so popping again
//! and again does not walk over the tombstones of what was popped before.

use super::cursor::TreeCursor;
use super::lookup::Found;
use super::state::Engine;
use crate::batch::BatchEntry;
use crate::error::Result;
use crate::key::put_prefix;
use crate::options::WriteOptions;
use crate::types::{DEFAULT_KEYSPACE, Kind};
use crate::vlog::FrameSize;

/// What the tombstone of a pop counts as when writers are slowed; its key is not known yet.
const POP_BYTES: u64 = 128;

impl Engine {
    /// Removes the first or last entry and hands it to `take`.
    pub(crate) fn pop<T>(
        &self,
        first: bool,
        options: &WriteOptions,
        take: impl FnOnce(&[u8], &Found<'_>) -> T,
    ) -> Result<Option<T>> {
        self.check_open()?;
        self.slow_down(POP_BYTES, options)?;
        let mut writer = self.lock_writer(self.writer()?, options)?;
        let (view, seqno) = self.pin(None)?;
        let lower = writer.low.clone().unwrap_or_else(|| prefix(0));
        let upper = writer.high.clone().unwrap_or_else(|| prefix(1));
        let mut cursor = TreeCursor::new(view, seqno, lower, upper);
        if first {
            cursor.seek_to_first()?
        } else {
            cursor.seek_to_last()?
        }
        if !cursor.valid() {
            return Ok(None);
        }
        let key = cursor.key().to_vec();
        let entry = BatchEntry { kind: Kind::Delete, key: &key, value: b"" };
        let entries = std::iter::once(entry);
        let size = FrameSize::of(entries.clone().map(|e| (e.kind, e.key, e.value)))?;
        // Found before the write, so that a value that cannot be read is not lost.
        let taken = take(key.get(1..).unwrap_or_default(), &cursor.found()?);
        self.make_room(&mut writer, size, options)?;
        let seqno = self.append(&mut writer, entries, size, options)?;
        if first {
            let low = writer.low.get_or_insert_default();
            low.clone_from(&key);
            low.push(0);
        } else {
            writer.high = Some(key);
        }
        drop(writer);
        self.settle(seqno, options)?;
        Ok(Some(taken))
    }
}

/// The prefix of the default keyspace, or of the one `above` it.
fn prefix(above: u32) -> Vec<u8> {
    let mut key = Vec::new();
    put_prefix(&mut key, DEFAULT_KEYSPACE + above);
    key
}
