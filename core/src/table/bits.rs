//! One bit for each part of a table, set once (layer L3).

use std::sync::atomic::{AtomicU64, Ordering};

/// One bit for every part that was checked. The bytes never change, so order does not matter.
pub(super) struct Bits(Box<[AtomicU64]>);

impl Bits {
    pub(super) fn new(len: usize) -> Bits {
        Bits((0..len.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    /// What it takes on the heap.
    pub(super) fn heap_bytes(&self) -> u64 {
        self.0.len() as u64 * 8
    }

    #[inline]
    pub(super) fn get(&self, index: usize) -> bool {
        self.0
            .get(index / 64)
            .is_some_and(|word| word.load(Ordering::Relaxed) >> (index % 64) & 1 == 1)
    }

    pub(super) fn set(&self, index: usize) {
        if let Some(word) = self.0.get(index / 64) {
            word.fetch_or(1 << (index % 64), Ordering::Relaxed);
        }
    }

    /// Every index whose bit is set.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        let words = self.0.iter().enumerate();
        words.flat_map(|(at, word)| {
            let word = word.load(Ordering::Relaxed);
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at * 64 + bit)
        })
    }
}
