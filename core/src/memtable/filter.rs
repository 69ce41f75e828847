//! The tag filter (part of layer L3's memtable): "surely not here" for one load.
//!
//! A blocked Bloom filter: a key's hash chooses one 64-bit word and four bits of it. Sized once,
//! from the log bytes that the memtable is meant for; a memtable that gets more keys than that
//! answers "perhaps" more often.

use std::sync::atomic::{AtomicU64, Ordering};

/// Log bytes for each byte of filter: 1 MiB of filter for 64 MiB of log.
const LOG_BYTES_PER_BYTE: u64 = 64;

/// Sizes in words: 4 KiB to 64 MiB.
const WORDS: std::ops::RangeInclusive<u64> = 512..=8 << 20;

/// The filter. One thread adds, any thread asks.
pub(super) struct Filter {
    words: Box<[AtomicU64]>,
}

impl Filter {
    /// An empty filter for a memtable over `expected_log_bytes` of log.
    pub(super) fn new(expected_log_bytes: u64) -> Filter {
        let count = expected_log_bytes / (LOG_BYTES_PER_BYTE * 8);
        let count = count.clamp(*WORDS.start(), *WORDS.end());
        Filter { words: (0..count).map(|_| AtomicU64::new(0)).collect() }
    }

    /// The word of a hash, chosen by its upper half, which the bits do not use.
    #[inline(always)]
    fn word(&self, hash: u64) -> &AtomicU64 {
        let index = ((hash >> 32) * self.words.len() as u64) >> 32;
        &self.words[index as usize]
    }

    #[inline(always)]
    fn bits(hash: u64) -> u64 {
        1 << (hash & 63) | 1 << (hash >> 6 & 63) | 1 << (hash >> 12 & 63) | 1 << (hash >> 18 & 63)
    }

    /// Adds a hash. Only one thread at a time may add; otherwise additions could get lost.
    #[inline(always)]
    pub(super) fn add(&self, hash: u64) {
        let word = self.word(hash);
        // Relaxed: whoever knows the entry's sequence number learnt it after this store.
        word.store(word.load(Ordering::Relaxed) | Self::bits(hash), Ordering::Relaxed);
    }

    /// False when this hash was surely not added.
    #[inline(always)]
    pub(super) fn may_contain(&self, hash: u64) -> bool {
        let bits = Self::bits(hash);
        self.word(hash).load(Ordering::Relaxed) & bits == bits
    }

    /// Fetches the word of a hash into the cache ahead of its use.
    #[inline(always)]
    pub(super) fn prefetch(&self, hash: u64) {
        crate::prefetch::prefetch(std::ptr::from_ref(self.word(hash)));
    }

    /// Size in bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.words)
    }
}
