//! A cache of bytes that were read and made ready (layer L1), by file and place, of a limited size
//! in bytes. It does not know what it holds. The buffers of a database are made here, so that what
//! readers hold of them and what open files take is counted beside it.
//!
//! Invariants: what is in it never changes, since files do not; who drops a file removes what is in
//! it from there. Entries that were asked for once go before those that were asked for again.

use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use quick_cache::sync::{Cache as Quick, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

use crate::buffer::{BUFFER_BYTES, Buffer, Charge, Meter};
use crate::checksum::mix64;
use crate::types::FileNumber;

/// Which bytes: the number in the file's name, and a place in it that its owner understands.
pub(crate) type CacheKey = (FileNumber, u32);

/// Bytes that most entries have, about; it sizes the cache's own structures.
const USUAL_LEN: u64 = 8 << 10;

/// How files are read.
#[derive(Clone, Debug)]
pub(crate) struct FileAccess {
    /// Holds what is not read in place, and makes the buffers for it.
    pub(crate) cache: Arc<Cache>,
    /// Files are read past the page cache.
    pub(crate) direct: bool,
}

/// The cache gives way in steps of this part of its size, and keeps one of them.
const STEPS: u64 = 16;

/// The cache; shared by all readers of a database.
pub(crate) struct Cache {
    quick: Quick<CacheKey, Buffer, Weight, Mix>,
    /// What it may hold at most.
    size_bytes: u64,
    /// What buffers beside it and open files may take before it gives way to them.
    spare_bytes: u64,
    /// It does not.
    fixed: bool,
    /// What it may hold now.
    capacity: Mutex<u64>,
    /// What was charged when that was looked at last.
    looked_at: AtomicU64,
    /// All buffers, those in the cache included.
    buffers: Arc<Meter>,
    /// What open files take.
    files: Arc<Meter>,
}

#[derive(Clone)]
struct Weight;

impl Weighter<CacheKey, Buffer> for Weight {
    fn weight(&self, _key: &CacheKey, buffer: &Buffer) -> u64 {
        buffer.len() as u64 + BUFFER_BYTES
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

impl FileAccess {
    /// With a cache of its own that holds up to `cache_bytes`.
    pub(crate) fn new(cache_bytes: u64, direct: bool) -> FileAccess {
        FileAccess { cache: Arc::new(Cache::new(cache_bytes, u64::MAX, true)), direct }
    }
}

impl Cache {
    /// An empty cache that holds up to `size_bytes`, and unless that is `fixed` as much less as
    /// buffers beside it and open files together take more than `spare_bytes`.
    pub(crate) fn new(size_bytes: u64, spare_bytes: u64, fixed: bool) -> Cache {
        let options = OptionsBuilder::new()
            .weight_capacity(size_bytes)
            .estimated_items_capacity((size_bytes / USUAL_LEN) as usize)
            .build()
            .expect("both numbers are given");
        Cache {
            quick: Quick::with_options(options, Weight, Mix, DefaultLifecycle::default()),
            size_bytes,
            spare_bytes,
            fixed,
            capacity: Mutex::new(size_bytes),
            looked_at: AtomicU64::new(0),
            buffers: Arc::default(),
            files: Arc::default(),
        }
    }

    /// The bytes, if they are there; counts a hit or a miss.
    #[inline]
    pub(crate) fn get(&self, key: CacheKey) -> Option<Buffer> {
        self.quick.get(&key)
    }

    /// Whether the bytes are there; counts neither hit nor miss.
    pub(crate) fn has(&self, key: CacheKey) -> bool {
        self.quick.contains_key(&key)
    }

    /// Keeps bytes, at the expense of others. What is larger than a good part of the cache is not
    /// kept.
    pub(crate) fn insert(&self, key: CacheKey, buffer: &Buffer) {
        self.quick.insert(key, buffer.clone());
    }

    /// Forgets bytes.
    pub(crate) fn remove(&self, key: CacheKey) {
        self.quick.remove(&key);
    }

    /// Forgets everything of a file. Cost: a walk over the cache.
    pub(crate) fn forget(&self, file: FileNumber) {
        if self.quick.weight() > 0 {
            self.quick.retain(|key, _| key.0 != file);
        }
    }

    /// Makes a buffer of bytes; it is counted until nobody holds it.
    pub(crate) fn buffer(&self, bytes: Box<[u8]>) -> Buffer {
        let buffer = Buffer::new(bytes, &self.buffers);
        self.give_way();
        buffer
    }

    /// Counts what a reader holds in no buffer.
    pub(crate) fn charge_reader(&self, bytes: u64) -> Charge {
        Charge::new(&self.buffers, bytes)
    }

    /// Whether so much more of an open file may be kept in memory for good.
    pub(crate) fn has_room_for_file(&self, bytes: u64) -> bool {
        self.files.bytes().saturating_add(bytes) <= self.spare_bytes
    }

    /// Counts what is kept in memory of an open file.
    pub(crate) fn charge_file(&self, bytes: u64) -> Charge {
        Charge::new(&self.files, bytes)
    }

    /// Grows or shrinks by what is held beside it, when that has changed much.
    fn give_way(&self) {
        if self.fixed {
            return;
        }
        let step = (self.size_bytes / STEPS).max(1);
        let charged = self.buffers.bytes() + self.files.bytes();
        if charged.abs_diff(self.looked_at.load(Ordering::Relaxed)) < step {
            return;
        }
        let mut capacity = self.capacity.lock().unwrap_or_else(PoisonError::into_inner);
        self.looked_at.store(charged, Ordering::Relaxed);
        let beside = self.pinned_bytes() + self.files.bytes();
        let over = beside.saturating_sub(self.spare_bytes).min(self.size_bytes);
        let now = self.size_bytes.saturating_sub(over.next_multiple_of(step)).max(step);
        if *capacity != now {
            *capacity = now;
            self.quick.set_capacity(now);
        }
    }

    /// Bytes that it takes now.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.quick.weight()
    }

    /// Bytes of buffers that are not in it: readers hold them.
    pub(crate) fn pinned_bytes(&self) -> u64 {
        self.buffers.bytes().saturating_sub(self.quick.weight())
    }

    /// Bytes that are kept of open files.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.files.bytes()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(size_bytes: u64) -> Cache {
        Cache::new(size_bytes, u64::MAX, true)
    }

    fn bytes(len: usize) -> Buffer {
        Buffer::new(vec![7; len].into(), &Arc::default())
    }

    #[test]
    fn it_stays_within_its_size_and_counts() {
        let cache = cache(1 << 20);
        for at in 0..1000 {
            cache.insert((1, at), &bytes(8192));
        }
        assert!(cache.size_bytes() <= 1 << 20, "{}", cache.size_bytes());
        assert!(cache.size_bytes() > 1 << 19, "{}", cache.size_bytes());
        assert!(cache.get((2, 0)).is_none());
        assert_eq!((cache.hits(), cache.misses()), (0, 1));
        cache.insert((2, 0), &bytes(3));
        assert_eq!(cache.get((2, 0)).as_deref(), Some(&[7, 7, 7][..]));
        assert_eq!((cache.hits(), cache.misses()), (1, 1));
        cache.remove((2, 0));
        assert!(cache.get((2, 0)).is_none());
    }

    #[test]
    fn what_is_larger_than_the_cache_and_a_cache_of_nothing_are_no_trouble() {
        for size in [0, 1, 10_000] {
            let cache = cache(size);
            cache.insert((1, 1), &bytes(100_000));
            assert!(cache.get((1, 1)).is_none());
            assert!(cache.size_bytes() <= size);
        }
    }

    #[test]
    fn what_is_used_often_survives_a_flood_of_what_is_used_once() {
        let cache = cache(1 << 20);
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
    fn what_readers_hold_is_counted_beside_it_and_it_gives_way_to_that() {
        const MIB: u64 = 1 << 20;
        let cache = Cache::new(4 * MIB, MIB, false);
        let fill = |file| {
            for at in 0..1000 {
                cache.insert((file, at), &cache.buffer(vec![0; 8192].into()));
            }
            cache.size_bytes()
        };
        assert!(fill(1) > 3 * MIB && cache.pinned_bytes() == 0);
        let held: Vec<Buffer> = (0..30).map(|_| cache.buffer(vec![0; 100_000].into())).collect();
        let pinned = 30 * (100_000 + BUFFER_BYTES);
        assert_eq!(cache.pinned_bytes(), pinned);
        let file = cache.charge_file(MIB);
        let full = fill(2);
        assert!(full + pinned + MIB <= 5 * MIB + 4 * MIB / STEPS, "{full}");
        assert!(full > MIB / 2, "{full}");
        // Whoever holds everything leaves it a step.
        let all = cache.charge_reader(100 * MIB);
        assert!((1..=4 * MIB / STEPS).contains(&fill(3)));
        assert_eq!(cache.pinned_bytes(), pinned + 100 * MIB);
        drop((held, file, all));
        assert!(fill(4) > 3 * MIB && cache.pinned_bytes() == 0);
    }
}
