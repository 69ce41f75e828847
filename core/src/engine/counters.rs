//! What the engine counts (layer L5): totals since open, for `stats`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Totals since open, for `stats`.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Keys and values; only the holder of the writer's lock adds to it.
    pub(crate) user_bytes: AtomicU64,
    pub(crate) flushes: AtomicU64,
    pub(crate) flush_bytes_written: AtomicU64,
    pub(crate) compactions: AtomicU64,
    pub(crate) compaction_bytes_read: AtomicU64,
    pub(crate) compaction_bytes_written: AtomicU64,
    pub(crate) collections: AtomicU64,
    pub(crate) collection_bytes_written: AtomicU64,
    pub(crate) log_bytes_written: AtomicU64,
    pub(crate) syncs: AtomicU64,
    /// Microseconds that writers waited, by [`Stall`].
    pub(crate) stalled_us: [AtomicU64; 4],
    /// Microseconds that callers waited for a sync of the log.
    pub(crate) sync_wait_us: AtomicU64,
}

/// What a writer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stall {
    /// Memtables that wait for their flush.
    Backlog,
    /// Runs that wait for their compaction.
    Runs,
    /// The next segment of the log.
    Segment,
    /// Dead values that wait for their collection.
    Space,
}

impl Stall {
    /// The one with this number.
    pub(crate) fn of(number: u64) -> Stall {
        match number {
            1 => Stall::Runs,
            2 => Stall::Segment,
            3 => Stall::Space,
            _ => Stall::Backlog,
        }
    }
}

impl Counters {
    /// Adds a frame of the log. Only by the holder of the writer's lock, so that it is cheap.
    #[inline]
    pub(crate) fn add_write(&self, log_bytes: u64, user_bytes: u64) {
        for (counter, bytes) in
            [(&self.log_bytes_written, log_bytes), (&self.user_bytes, user_bytes)]
        {
            counter.store(counter.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
        }
    }

    /// Adds the time since `start` to what writers waited.
    pub(crate) fn add_stall(&self, cause: Stall, start: Instant) {
        Counters::add(&self.stalled_us[cause as usize], start.elapsed().as_micros() as u64);
    }

    /// Adds to a total.
    #[inline]
    pub(crate) fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }
}
