//! Taking entries from either end (layer L5).
//!
//! The writer remembers a key below which, and one from which on, nothing lives, so popping again
//! and again does not walk over the tombstones of what was popped before.

use super::cursor::TreeCursor;
use super::lookup::Found;
use super::state::{Engine, lock};
use crate::batch::BatchEntry;
use crate::error::Result;
use crate::key::LookupKey;
use crate::options::WriteOptions;
use crate::types::{DEFAULT_KEYSPACE, Kind};
use crate::vlog::FrameSize;

impl Engine {
    /// Removes the first or last entry and hands it to `take`.
    pub(crate) fn pop<T>(
        &self,
        first: bool,
        options: &WriteOptions,
        take: impl FnOnce(&[u8], &Found<'_>) -> T,
    ) -> Result<Option<T>> {
        self.check_open()?;
        let mut writer = lock(self.writer()?);
        let (view, seqno) = self.pin(None)?;
        let bound = |known: &Option<Vec<u8>>, above| match known {
            Some(key) => LookupKey::encoded(key),
            None => LookupKey::start_of(DEFAULT_KEYSPACE + above),
        };
        let (lower, upper) = (bound(&writer.low, 0), bound(&writer.high, 1));
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
        self.make_room(&mut writer, size)?;
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
