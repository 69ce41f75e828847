//! The memory that all clients' long commands and replies may take together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits::FREE_BYTES;

/// A number of bytes that connections take from.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    used: AtomicU64,
}

impl Budget {
    /// Nothing taken yet.
    pub(crate) fn new(limit: u64) -> Arc<Budget> {
        Arc::new(Budget { limit, used: AtomicU64::new(0) })
    }

    /// Bytes taken.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: u64) -> bool {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > self.limit {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        true
    }
}

/// What one buffer has taken; dropping it gives that back.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    taken: u64,
    free: usize,
}

impl Share {
    /// Nothing taken yet, and [`FREE_BYTES`] for nothing.
    pub(crate) fn new(budget: &Arc<Budget>) -> Share {
        Share { budget: Arc::clone(budget), taken: 0, free: FREE_BYTES }
    }

    /// Nothing taken yet, and every byte counts.
    pub(crate) fn exact(budget: &Arc<Budget>) -> Share {
        Share { budget: Arc::clone(budget), taken: 0, free: 0 }
    }

    /// Whether more than half of the budget is taken, by this one and the others.
    #[inline]
    pub(crate) fn is_short(&self) -> bool {
        self.budget.used() > self.budget.limit / 2
    }

    /// Takes what a buffer of `bytes` needs beyond the free ones, or gives back what it no longer
    /// needs. False when the others have taken too much; then nothing has changed.
    #[inline]
    pub(crate) fn resize(&mut self, bytes: usize) -> bool {
        if bytes <= self.free && self.taken == 0 {
            return true;
        }
        let needed = bytes.saturating_sub(self.free) as u64;
        if needed > self.taken && !self.budget.take(needed - self.taken) {
            return false;
        }
        if needed < self.taken {
            self.budget.used.fetch_sub(self.taken - needed, Ordering::Relaxed);
        }
        self.taken = needed;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_exceed_the_budget() {
        let budget = Budget::new(1000);
        let (mut a, mut b) = (Share::new(&budget), Share::new(&budget));
        assert!(a.resize(FREE_BYTES) && budget.used() == 0);
        assert!(a.resize(FREE_BYTES + 600) && budget.used() == 600);
        assert!(!b.resize(FREE_BYTES + 401) && budget.used() == 600);
        assert!(b.resize(FREE_BYTES + 400) && budget.used() == 1000);
        assert!(a.resize(10) && budget.used() == 400);
        drop(b);
        assert_eq!(budget.used(), 0);
        let mut c = Share::exact(&budget);
        assert!(c.resize(400) && budget.used() == 400 && !c.is_short());
        assert!(c.resize(600) && c.is_short() && !c.resize(1001));
    }
}
