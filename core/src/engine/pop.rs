//! Taking entries from either end (layer L5).
//!
//! The writer remembers a key below which, and one from which on, nothing lives, so popping again
//! and again does not walk over the tombstones of what was popped before. It also remembers the
//! keys that come next: looking one up takes less than a seek.

use std::sync::Arc;

use super::cursor::TreeCursor;
use super::lookup::Found;
use super::state::Engine;
use super::view::View;
use super::writer::{Upcoming, Writer};
use crate::batch::BatchEntry;
use crate::error::Result;
use crate::key::LookupKey;
use crate::options::WriteOptions;
use crate::types::{DEFAULT_KEYSPACE, Kind, SeqNo};
use crate::vlog::FrameSize;

/// What the tombstone of a pop counts as when writers are slowed; its key is not known yet.
const POP_BYTES: u64 = 128;

/// Most keys that are looked up at once; every seek after a first looks up twice as many.
const MOST_UPCOMING: usize = 64;

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
        // Taken out of the writer: whatever fails from here on, they are looked up anew.
        let mut upcoming = std::mem::take(&mut writer.upcoming);
        if upcoming.first != first {
            upcoming.keys.clear();
            (upcoming.first, upcoming.wanted) = (first, 0);
        }
        let (mut key, found) = loop {
            let Some(key) = upcoming.keys.pop_front() else {
                upcoming.wanted = (2 * upcoming.wanted).clamp(1, MOST_UPCOMING);
                look_ahead(&writer, &view, seqno, &mut upcoming)?;
                if upcoming.keys.is_empty() {
                    return Ok(None);
                }
                continue;
            };
            if let Some(next) = upcoming.keys.front() {
                view.prefetch(next, self.hash(next));
            }
            if let Some(found) = view.get(&key, self.hash(&key), seqno)? {
                break (key, found);
            }
        };
        let entry = BatchEntry { kind: Kind::Delete, key: &key, value: b"" };
        let entries = std::iter::once(entry);
        let size = FrameSize::of(entries.clone().map(|e| (e.kind, e.key, e.value)))?;
        // Found before the write, so that a value that cannot be read is not lost.
        let taken = take(key.get(1..).unwrap_or_default(), &found);
        self.make_room(&mut writer, size, options)?;
        let seqno = self.append(&mut writer, entries, size, options)?;
        if first {
            key.push(0);
            writer.low = Some(key);
        } else {
            writer.high = Some(key);
        }
        writer.upcoming = upcoming;
        drop(writer);
        self.settle(seqno, options)?;
        Ok(Some(taken))
    }
}

/// Looks up the keys at one end; none when nothing lives.
fn look_ahead(
    writer: &Writer,
    view: &Arc<View>,
    seqno: SeqNo,
    upcoming: &mut Upcoming,
) -> Result<()> {
    let bound = |known: &Option<Vec<u8>>, above| match known {
        Some(key) => LookupKey::encoded(key),
        None => LookupKey::start_of(DEFAULT_KEYSPACE + above),
    };
    let (lower, upper) = (bound(&writer.low, 0), bound(&writer.high, 1));
    let mut cursor = TreeCursor::new(Arc::clone(view), seqno, lower, upper);
    if upcoming.first {
        cursor.seek_to_first()?;
    } else {
        cursor.seek_to_last()?;
    }
    while cursor.valid() && upcoming.keys.len() < upcoming.wanted {
        upcoming.keys.push_back(cursor.key().to_vec());
        if upcoming.first { cursor.next()? } else { cursor.prev()? }
    }
    Ok(())
}
