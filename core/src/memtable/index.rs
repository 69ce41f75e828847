//! The memtable itself: one writer, any number of readers (part of layer L3's memtable).

#[cfg(test)]
use super::arena;
use super::arena::{Nodes, Records};
use super::filter::Filter;
use super::record::{self, MemEntry, NewRecord};
use super::tree::{Tree, Writer};
use crate::key::MAX_ENCODED_KEY_LEN;
use crate::types::{Kind, SeqNo};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// A place in the order of insertion; see [`Memtable::for_each_since`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inserted(u32);

impl Inserted {
    /// Before the first entry of any memtable.
    pub(crate) const NONE: Inserted = Inserted(record::WALK_START);
}

/// The index over one segment of the log; see the module's description.
pub(crate) struct Memtable {
    filter: Filter,
    pub(super) tree: Tree,
    writer: UnsafeCell<Writer>,
    state: State,
}

/// What changes with every insert, away from the lines that readers need.
#[repr(align(128))]
struct State {
    /// End of the whole records; the Release store that [`Memtable::for_each_since`] relies on.
    end: AtomicU32,
    entries: AtomicUsize,
    keys: AtomicUsize,
    first_seqno: AtomicU64,
    last_seqno: AtomicU64,
    heap_bytes: AtomicUsize,
}

// SAFETY: `writer` is touched by `insert` only, whose callers promise that one thread at a time is
// in it and that their calls are ordered, and by Drop. All else that is shared is atomic, or is
// written before it is published with Release and does not change afterwards.
unsafe impl Sync for Memtable {}

// SAFETY: the arenas own their memory; no part of it belongs to a thread.
unsafe impl Send for Memtable {}

impl Memtable {
    /// An empty memtable for a segment of `expected_log_bytes` bytes. More is allowed; the filter
    /// only gets worse.
    pub(crate) fn new(expected_log_bytes: u64) -> Memtable {
        let filter = Filter::new(expected_log_bytes);
        let (records, end) = Records::new();
        let state = State {
            end: AtomicU32::new(end.next()),
            entries: AtomicUsize::new(0),
            keys: AtomicUsize::new(0),
            first_seqno: AtomicU64::new(0),
            last_seqno: AtomicU64::new(0),
            heap_bytes: AtomicUsize::new(filter.heap_bytes()),
        };
        let writer = UnsafeCell::new(Writer { end, nodes: Nodes::new() });
        Memtable { filter, tree: Tree::new(records), writer, state }
    }

    /// Adds an entry. `hash` is the key's hash under the database's seed.
    ///
    /// Panics when the arena is full; [`Memtable::has_room`] tells beforehand. Costs about 100 ns.
    ///
    /// # Safety
    /// - One thread at a time may be in `insert` of a memtable, and one call must happen before the
    ///   next (a mutex around it gives both).
    #[inline]
    pub(crate) unsafe fn insert(&self, key: &[u8], hash: u64, entry: MemEntry) {
        let state = &self.state;
        debug_assert!(entry.seqno > state.last_seqno.load(Ordering::Relaxed));
        debug_assert!(entry.offset.is_multiple_of(8) && entry.offset / 8 <= u64::from(u32::MAX));
        assert!(key.len() <= MAX_ENCODED_KEY_LEN);
        // SAFETY: the caller promises to be the only one here.
        let writer = unsafe { &mut *self.writer.get() };
        self.filter.add(hash);
        // SAFETY: as above; it is this tree's writer.
        let is_new = unsafe { self.tree.insert(&NewRecord { key, entry }, writer) };
        // Relaxed loads: nobody else stores.
        let entries = state.entries.load(Ordering::Relaxed);
        if entries == 0 {
            state.first_seqno.store(entry.seqno, Ordering::Relaxed);
        }
        state.entries.store(entries + 1, Ordering::Relaxed);
        let keys = state.keys.load(Ordering::Relaxed) + usize::from(is_new);
        state.keys.store(keys, Ordering::Relaxed);
        state.last_seqno.store(entry.seqno, Ordering::Relaxed);
        let used_bytes = writer.end.used_bytes() + writer.nodes.used_bytes();
        state.heap_bytes.store(self.filter.heap_bytes() + used_bytes, Ordering::Relaxed);
        state.end.store(writer.end.next(), Ordering::Release);
    }

    /// True when `entries` more entries with keys of `key_bytes` bytes in all surely fit. The arena
    /// holds 8 GiB of keys and versions (at most 32 bytes and the key each), more than a segment of
    /// 1 GiB can fill, whose records take 16 bytes at least.
    #[cfg(test)]
    pub(crate) fn has_room(&self, entries: usize, key_bytes: usize) -> bool {
        let need = entries.saturating_mul(record::VERSION_LEN);
        let used = self.state.end.load(Ordering::Relaxed);
        need.saturating_add(key_bytes) <= arena::room_bytes(used)
    }

    /// Fetches what [`Memtable::insert`] of this key needs into the cache. Called some keys ahead
    /// in a batch (about six), or before the log's work for a single one, it halves the time of
    /// inserts into a memtable that is larger than the cache (227 to 112 ns with a million keys,
    /// see `benches/memtable.rs`).
    #[inline]
    pub(crate) fn prefetch_key(&self, key: &[u8], hash: u64) {
        self.filter.prefetch(hash);
        self.tree.prefetch(key);
    }

    /// Fetches what [`Memtable::get`] of a key with this hash looks at first.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        self.filter.prefetch(hash);
    }

    /// The newest version of `key` with a sequence number of at most `max_seqno`.
    #[inline]
    pub(crate) fn get(&self, key: &[u8], hash: u64, max_seqno: SeqNo) -> Option<MemEntry> {
        if !self.filter.may_contain(hash) {
            return None;
        }
        self.tree.find(key)?.visible(max_seqno)
    }

    /// Calls `f` with every entry after the place `since` up to the sequence number `upto`, in the
    /// order of insertion: its key, its kind, and the kind of the next older entry of that key in
    /// this memtable. Answers the place where the next call goes on. Any thread, at any time.
    pub(crate) fn for_each_since(
        &self,
        since: Inserted,
        upto: SeqNo,
        mut f: impl FnMut(&[u8], Kind, Option<Kind>),
    ) -> Inserted {
        let end = self.state.end.load(Ordering::Acquire);
        let mut at = since.0;
        // SAFETY: `at` is the start or an answer of `walk`, and `end` was loaded with Acquire.
        while let Some((step, next)) = unsafe { record::walk(&self.tree.records, at, end) } {
            let entry = step.version.entry();
            if entry.seqno > upto {
                break;
            }
            f(step.key, entry.kind, step.older);
            at = next;
        }
        Inserted(at)
    }

    /// Number of entries: versions of keys.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.state.entries.load(Ordering::Relaxed)
    }

    /// True without any entry.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of different keys.
    #[cfg(test)]
    pub(crate) fn key_count(&self) -> usize {
        self.state.keys.load(Ordering::Relaxed)
    }

    /// Memory in use, in bytes: the filter, records and nodes, replaced ones included.
    #[inline]
    pub(crate) fn heap_bytes(&self) -> usize {
        self.state.heap_bytes.load(Ordering::Relaxed)
    }

    /// The sequence number of the first entry; 0 without any.
    pub(crate) fn first_seqno(&self) -> SeqNo {
        self.state.first_seqno.load(Ordering::Relaxed)
    }

    /// The sequence number of the last entry; 0 without any.
    pub(crate) fn last_seqno(&self) -> SeqNo {
        self.state.last_seqno.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Memtable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memtable").field("entries", &self.len()).finish_non_exhaustive()
    }
}
