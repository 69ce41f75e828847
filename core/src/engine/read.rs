//! get and snapshot (layer L5): pinning what a read needs.
//!
//! Invariant PIN: the view is pinned before the sequence number is loaded; the other order loses
//! keys to a concurrent flush.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::hooks;
use super::state::{Engine, Registered, lock};
use super::view::View;
use super::wake::wake_compaction;
use crate::checksum::hash_key;
use crate::error::{Error, ErrorKind, Result};
use crate::types::SeqNo;

impl Engine {
    /// Pins the current state for one read and hands it with the newest number to `read`.
    #[inline]
    pub(crate) fn with_view<T>(
        &self,
        at: Option<SeqNo>,
        read: impl FnOnce(&View, SeqNo) -> Result<T>,
    ) -> Result<T> {
        self.check_open()?;
        let (view, seqno) = self.pin_then_number(at, || self.view.load());
        read(&view, seqno)
    }

    /// Pins the current state for a longer read: the view first, then the number.
    pub(crate) fn pin(&self, at: Option<SeqNo>) -> Result<(Arc<View>, SeqNo)> {
        self.check_open()?;
        Ok(self.pin_then_number(at, || self.view.load_full()))
    }

    /// Invariant PIN, and for tests the place between its halves.
    #[inline(always)]
    fn pin_then_number<V>(&self, at: Option<SeqNo>, pin: impl FnOnce() -> V) -> (V, SeqNo) {
        let newest = || at.unwrap_or_else(|| self.visible.load(Ordering::Acquire));
        if hooks::planted(&self.env.dir, "number before pin") {
            let seqno = newest();
            hooks::reach(&self.env.dir, "read: between");
            return (pin(), seqno);
        }
        let view = pin();
        hooks::reach(&self.env.dir, "read: between");
        (view, newest())
    }

    /// Registers a snapshot of the newest state, under the lock under which flush and compaction
    /// read the list of snapshots.
    pub(crate) fn register_snapshot(&self) -> Result<SeqNo> {
        let newest = || self.visible.load(Ordering::Acquire);
        let too_early = hooks::planted(&self.env.dir, "number before lock").then(newest);
        hooks::reach(&self.env.dir, "snapshot: before lock");
        let mut shared = lock(&self.shared);
        self.check_open()?;
        let seqno = too_early.unwrap_or_else(newest);
        let now = Instant::now();
        let new = Registered { count: 0, first: now, last: now };
        let own = shared.snapshots.entry(seqno).or_insert(new);
        (own.count, own.last) = (own.count + 1, now);
        Ok(seqno)
    }

    /// Releases one registration.
    pub(crate) fn release_snapshot(&self, seqno: SeqNo) {
        let mut shared = lock(&self.shared);
        let Some(own) = shared.snapshots.get_mut(&seqno) else { return };
        own.count -= 1;
        if own.count == 0 {
            shared.snapshots.remove(&seqno);
            // What was kept for it may go.
            shared.commits += 1;
            drop(shared);
            wake_compaction(self);
        }
    }

    /// SnapshotExpired when a snapshot made then is too old to be read. Asked after its read has
    /// pinned a view: a compaction that does without the snapshot began later.
    pub(crate) fn check_age(&self, made: Instant) -> Result<()> {
        if !self.is_expired(made) {
            return Ok(());
        }
        let message = "the snapshot is older than snapshot_max_age_ms";
        Err(Error::new(ErrorKind::SnapshotExpired, message))
    }

    /// The hash of an encoded key in this database.
    #[inline]
    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        hash_key(key, self.env.hash_seed)
    }
}
