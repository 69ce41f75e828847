//! A cache of bytes that were read and made ready (layer L1), by file and place, of a limited size
//! in bytes. It does not know what it holds.
//!
//! Invariants: what is in it never changes, since files do not; who drops a file removes what is in
//! it from there. Entries that were asked for once go before those that were asked for again.

use std::hash::{BuildHasher, Hasher};
use std::ops::{Deref, Range};
use std::sync::Arc;

use quick_cache::sync::{Cache as Quick, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

use crate::checksum::mix64;
use crate::types::FileNumber;

/// Which bytes: the number in the file's name, and a place in it that its owner understands.
pub(crate) type CacheKey = (FileNumber, u32);

/// What an entry takes beside its bytes: two counts, a slot, the hash table.
const ENTRY_BYTES: u64 = 96;

/// Bytes that most entries have, about; it sizes the cache's own structures.
const USUAL_LEN: u64 = 8 << 10;

/// The cache; shared by all readers of a database.
pub(crate) struct Cache {
    quick: Quick<CacheKey, Arc<[u8]>, Weight, Mix>,
}

#[derive(Clone)]
struct Weight;

impl Weighter<CacheKey, Arc<[u8]>> for Weight {
    fn weight(&self, _key: &CacheKey, bytes: &Arc<[u8]>) -> u64 {
        bytes.len() as u64 + ENTRY_BYTES
    }
}

/// Hashes the two numbers of a key; they are not an attacker's.
#[derive(Clone, Default)]
struct Mix;

struct Mixer(u64);

impl BuildHasher for Mix {
    type Hasher = Mixer;

    fn build_hasher(&self) -> Mixer {
        Mixer(0)
    }
}

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    #[inline]
    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.0 = mix64(self.0, word);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

impl Cache {
    /// An empty cache that holds up to `size_bytes`.
    pub(crate) fn new(size_bytes: u64) -> Cache {
        let options = OptionsBuilder::new()
            .weight_capacity(size_bytes)
            .estimated_items_capacity((size_bytes / USUAL_LEN) as usize)
            .build()
            .expect("both numbers are given");
        Cache { quick: Quick::with_options(options, Weight, Mix, DefaultLifecycle::default()) }
    }

    /// The bytes, if they are there; counts a hit or a miss.
    #[inline]
    pub(crate) fn get(&self, key: CacheKey) -> Option<Arc<[u8]>> {
        self.quick.get(&key)
    }

    /// Keeps bytes, at the expense of others. What is larger than a good part of the cache is not
    /// kept.
    pub(crate) fn insert(&self, key: CacheKey, bytes: &Arc<[u8]>) {
        self.quick.insert(key, Arc::clone(bytes));
    }

    /// Forgets bytes.
    pub(crate) fn remove(&self, key: CacheKey) {
        self.quick.remove(&key);
    }

    /// Bytes that it takes now.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.quick.weight()
    }

    /// How often bytes were there when asked for.
    pub(crate) fn hits(&self) -> u64 {
        self.quick.hits()
    }

    /// How often they were not.
    pub(crate) fn misses(&self) -> u64 {
        self.quick.misses()
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cache({} bytes)", self.size_bytes())
    }
}

/// Bytes that were read: in a file's map, or in a buffer that they keep.
#[derive(Clone)]
pub(crate) enum Bytes<'a> {
    /// In the map of a file that somebody else keeps.
    Mapped(&'a [u8]),
    /// In a buffer.
    Shared(SharedBytes),
}

/// A part of a buffer, which stays as long as it.
#[derive(Clone)]
pub(crate) struct SharedBytes {
    buffer: Arc<[u8]>,
    start: usize,
    end: usize,
}

impl SharedBytes {
    /// A part of `buffer`, cut at its end.
    #[inline]
    pub(crate) fn new(buffer: Arc<[u8]>, range: Range<usize>) -> SharedBytes {
        let end = range.end.min(buffer.len());
        SharedBytes { start: range.start.min(end), end, buffer }
    }

    /// What keeps the bytes.
    #[inline]
    pub(crate) fn buffer(&self) -> &Arc<[u8]> {
        &self.buffer
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(bytes) => bytes,
            Bytes::Shared(bytes) => bytes,
        }
    }
}

impl Bytes<'_> {
    /// Keeps only this part, itself cut at the end of what there is.
    pub(crate) fn cut(&mut self, range: Range<usize>) {
        let end = range.end.min(self.len());
        let start = range.start.min(end);
        match self {
            Bytes::Mapped(bytes) => *bytes = &bytes[start..end],
            Bytes::Shared(bytes) => {
                (bytes.start, bytes.end) = (bytes.start + start, bytes.start + end);
            }
        }
    }
}

impl PartialEq for Bytes<'_> {
    fn eq(&self, other: &Bytes<'_>) -> bool {
        **self == **other
    }
}

impl Eq for Bytes<'_> {}

impl std::fmt::Debug for Bytes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", &**self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize) -> Arc<[u8]> {
        vec![7; len].into()
    }

    #[test]
    fn it_stays_within_its_size_and_counts() {
        let cache = Cache::new(1 << 20);
        for at in 0..1000 {
            cache.insert((1, at), &bytes(8192));
        }
        assert!(cache.size_bytes() <= 1 << 20, "{}", cache.size_bytes());
        assert!(cache.size_bytes() > 1 << 19, "{}", cache.size_bytes());
        assert_eq!(cache.get((2, 0)), None);
        assert_eq!((cache.hits(), cache.misses()), (0, 1));
        cache.insert((2, 0), &bytes(3));
        assert_eq!(cache.get((2, 0)).as_deref(), Some(&[7, 7, 7][..]));
        assert_eq!((cache.hits(), cache.misses()), (1, 1));
        cache.remove((2, 0));
        assert_eq!(cache.get((2, 0)), None);
    }

    #[test]
    fn what_is_larger_than_the_cache_and_a_cache_of_nothing_are_no_trouble() {
        for size in [0, 1, 10_000] {
            let cache = Cache::new(size);
            cache.insert((1, 1), &bytes(100_000));
            assert_eq!(cache.get((1, 1)), None);
            assert!(cache.size_bytes() <= size);
        }
    }

    #[test]
    fn what_is_used_often_survives_a_flood_of_what_is_used_once() {
        let cache = Cache::new(1 << 20);
        let warm = || (0..40).filter(|at| cache.get((1, *at)).is_some()).count();
        for at in 0..40 {
            cache.insert((1, at), &bytes(8192));
        }
        for _ in 0..3 {
            assert_eq!(warm(), 40);
        }
        for at in 0..10_000 {
            cache.insert((2, at), &bytes(8192));
        }
        assert_eq!(warm(), 40);
    }

    #[test]
    fn a_part_of_a_buffer_is_cut_at_its_end() {
        let buffer: Arc<[u8]> = (0..10).collect();
        let part = |range| SharedBytes::new(Arc::clone(&buffer), range).to_vec();
        assert_eq!(part(2..5), [2, 3, 4]);
        assert_eq!(part(8..50), [8, 9]);
        assert_eq!(part(50..60), []);
        for shared in [true, false] {
            let cut = |range| {
                let whole = SharedBytes::new(Arc::clone(&buffer), 1..9);
                let mut bytes =
                    if shared { Bytes::Shared(whole) } else { Bytes::Mapped(&buffer[1..9]) };
                bytes.cut(range);
                bytes.to_vec()
            };
            assert_eq!(cut(0..3), [1, 2, 3]);
            assert_eq!(cut(2..usize::MAX), [3, 4, 5, 6, 7, 8]);
            assert_eq!(cut(8..9), []);
            assert_eq!(cut(usize::MAX..usize::MAX), []);
        }
    }
}
