//! Taking entries from either end (layer L5).
//!
//! The writer remembers a key below which, and one from which on, nothing lives, so popping again
//! and again does not walk over the tombstones of what was popped before. It also remembers the
//! keys that come next: looking one up takes less than a seek.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::cursor::TreeCursor;
use super::lookup::Found;
use super::state::Engine;
use super::view::View;
use super::writer::{Upcoming, Writer};
use crate::batch::BatchEntry;
use crate::checksum::hash_key;
use crate::error::Result;
use crate::key::{LookupKey, user_key};
use crate::options::WriteOptions;
use crate::types::{DEFAULT_KEYSPACE, Kind, SeqNo};
use crate::vlog::FrameSize;

/// What the tombstone of a pop counts as when writers are slowed; its key is not known yet.
const POP_BYTES: u64 = 128;

/// Most keys that are looked up at once; every seek after a first looks up twice as many.
const MOST_UPCOMING: usize = 256;

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
        // Invariant PIN; nothing is published while the writer's lock is held.
        let view = self.view.load();
        let seqno = self.visible.load(Ordering::Acquire);
        let end = usize::from(!first);
        // Taken out of the writer: whatever fails from here on, they are looked up anew.
        let mut upcoming = std::mem::take(&mut writer.upcoming[end]);
        let (index, found) = loop {
            let Some((index, hash)) = upcoming.take() else {
                look_ahead(&writer, &view, (seqno, self.env.hash_seed), first, &mut upcoming)?;
                if upcoming.len() == 0 {
                    return Ok(None);
                }
                continue;
            };
            if let Some(found) = view.get(upcoming.key(index), hash, seqno)? {
                break (index, found);
            }
        };
        let key = upcoming.key(index);
        let entry = BatchEntry { kind: Kind::Delete, key, value: b"" };
        let entries = std::iter::once(entry);
        let size = FrameSize::of(entries.clone().map(|e| (e.kind, e.key, e.value)))?;
        // Found before the write, so that a value that cannot be read is not lost.
        let taken = take(user_key(key), &found);
        self.make_room(&mut writer, size, options)?;
        let seqno = self.append(&mut writer, entries, size, options)?;
        let bound = if first { &mut writer.low } else { &mut writer.high };
        let bound = bound.get_or_insert_default();
        bound.clear();
        bound.extend_from_slice(key);
        if first {
            bound.push(0);
        }
        writer.upcoming[end] = upcoming;
        drop(writer);
        self.settle(seqno, options)?;
        Ok(Some(taken))
    }
}

/// Looks up the keys at one end, twice as many as the last time; none when nothing lives.
fn look_ahead(
    writer: &Writer,
    view: &Arc<View>,
    (seqno, hash_seed): (SeqNo, u64),
    first: bool,
    upcoming: &mut Upcoming,
) -> Result<()> {
    upcoming.clear();
    upcoming.wanted = (2 * upcoming.wanted).clamp(1, MOST_UPCOMING);
    let bound = |known: &Option<Vec<u8>>, above| match known {
        Some(key) => LookupKey::encoded(key),
        None => LookupKey::start_of(DEFAULT_KEYSPACE + above),
    };
    let (lower, upper) = (bound(&writer.low, 0), bound(&writer.high, 1));
    let mut cursor = TreeCursor::new(Arc::clone(view), seqno, lower, upper);
    if first {
        cursor.seek_to_first()?;
    } else {
        cursor.seek_to_last()?;
    }
    while cursor.valid() && upcoming.len() < upcoming.wanted {
        let key = cursor.key();
        let hash = hash_key(key, hash_seed);
        // The lines that the lookup reads come while the cursor goes on.
        view.prefetch(key, hash);
        upcoming.push(key, hash);
        if first { cursor.next()? } else { cursor.prev()? }
    }
    Ok(())
}
