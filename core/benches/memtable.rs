//! The memtable beside a `BTreeMap` in a mutex and `crossbeam-skiplist`.
//!
//! `cargo bench -p toykv --bench memtable [-- keys]`: 1 M random 16-byte user keys unless told
//! otherwise; the structures take turns, five rounds, medians in nanoseconds of processor time an
//! operation. Inserts and gets go in different random orders.

#![expect(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "the memtable is private to the library: its files and what it needs are compiled \
              here once more, tests included"
)]

#[path = "../src/checksum.rs"]
mod checksum;
#[path = "../src/error.rs"]
mod error;
#[path = "../src/key.rs"]
mod key;
#[path = "../src/memtable/mod.rs"]
mod memtable;
#[path = "../src/prefetch.rs"]
mod prefetch;
#[path = "../src/types.rs"]
mod types;

use crossbeam_skiplist::SkipMap;
use memtable::{MemEntry, Memtable};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::ops::Bound;
use std::sync::{Arc, Mutex};
use types::{Kind, SeqNo};

const ROUNDS: usize = 5;
const SEED: u64 = 42;

/// An encoded key and its hash.
#[derive(Clone, Copy)]
struct Key {
    bytes: [u8; 17],
    hash: u64,
}

fn random_key(number: u64) -> Key {
    let mut bytes = [0; 17];
    bytes[1..9].copy_from_slice(&checksum::mix64(number, 1).to_be_bytes());
    bytes[9..].copy_from_slice(&checksum::mix64(number, 2).to_be_bytes());
    Key { bytes, hash: checksum::hash_key(&bytes, SEED) }
}

fn shuffled(keys: &[Key]) -> Vec<Key> {
    let mut keys = keys.to_vec();
    for index in (1..keys.len()).rev() {
        keys.swap(index, (checksum::mix64(index as u64, 3) % (index as u64 + 1)) as usize);
    }
    keys
}

fn entry(seqno: SeqNo) -> MemEntry {
    MemEntry { seqno, kind: Kind::Put, offset: seqno * 40, value_len: 8 }
}

/// Nanoseconds of this thread's processor time; others on the machine do not count.
fn thread_time_ns() -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills the struct that it is given.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(failed, 0);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// Nanoseconds an operation.
fn time(count: usize, work: impl FnOnce()) -> f64 {
    let start = thread_time_ns();
    work();
    (thread_time_ns() - start) as f64 / count as f64
}

/// Reads what a scan is for: the key's bytes and the entry.
fn touch(key: &[u8], entry: &MemEntry) {
    black_box((key[key.len() - 1], entry.offset));
}

/// The structures under one face.
trait Index: Sized {
    const NAME: &'static str;
    fn new(keys: usize) -> Self;
    fn insert(&self, key: &Key, entry: MemEntry);
    fn get(&self, key: &Key) -> Option<MemEntry>;
    /// Walks all in order; the number of keys.
    fn scan(&self) -> usize;
    /// Seeks and reads ten.
    fn seek(&self, key: &Key) -> usize;
    fn note(&self) -> String {
        String::new()
    }
}

struct Ours(Arc<Memtable>);

impl Index for Ours {
    const NAME: &'static str = "memtable";
    fn new(keys: usize) -> Ours {
        Ours(Arc::new(Memtable::new(keys as u64 * 64)))
    }
    fn insert(&self, key: &Key, entry: MemEntry) {
        // SAFETY: one thread runs this program.
        unsafe { self.0.insert(&key.bytes, key.hash, entry) }
    }
    fn get(&self, key: &Key) -> Option<MemEntry> {
        self.0.get(&key.bytes, key.hash, SeqNo::MAX)
    }
    fn scan(&self) -> usize {
        let mut cursor = self.0.iter();
        cursor.seek_to_first();
        let mut count = 0;
        while cursor.valid() {
            touch(cursor.key(), &cursor.entry(SeqNo::MAX).unwrap());
            count += 1;
            cursor.next();
        }
        count
    }
    fn seek(&self, key: &Key) -> usize {
        let mut cursor = self.0.iter();
        cursor.seek(&key.bytes);
        let mut count = 0;
        while cursor.valid() && count < 10 {
            touch(cursor.key(), &cursor.entry(SeqNo::MAX).unwrap());
            count += 1;
            cursor.next();
        }
        count
    }
    fn note(&self) -> String {
        format!("{:.1} bytes a key", self.0.heap_bytes() as f64 / self.0.len() as f64)
    }
}

struct Locked(Mutex<BTreeMap<Box<[u8]>, MemEntry>>);

impl Index for Locked {
    const NAME: &'static str = "BTreeMap in a mutex";
    fn new(_: usize) -> Locked {
        Locked(Mutex::default())
    }
    fn insert(&self, key: &Key, entry: MemEntry) {
        self.0.lock().unwrap().insert(key.bytes.into(), entry);
    }
    fn get(&self, key: &Key) -> Option<MemEntry> {
        self.0.lock().unwrap().get(&key.bytes[..]).copied()
    }
    fn scan(&self) -> usize {
        self.0.lock().unwrap().iter().inspect(|(key, entry)| touch(key, entry)).count()
    }
    fn seek(&self, key: &Key) -> usize {
        let map = self.0.lock().unwrap();
        map.range::<[u8], _>((Bound::Included(&key.bytes[..]), Bound::Unbounded))
            .take(10)
            .map(black_box)
            .count()
    }
}

struct Skip(SkipMap<Box<[u8]>, MemEntry>);

impl Index for Skip {
    const NAME: &'static str = "crossbeam-skiplist";
    fn new(_: usize) -> Skip {
        Skip(SkipMap::new())
    }
    fn insert(&self, key: &Key, entry: MemEntry) {
        self.0.insert(key.bytes.into(), entry);
    }
    fn get(&self, key: &Key) -> Option<MemEntry> {
        self.0.get(&key.bytes[..]).map(|found| *found.value())
    }
    fn scan(&self) -> usize {
        self.0.iter().inspect(|found| touch(found.key(), found.value())).count()
    }
    fn seek(&self, key: &Key) -> usize {
        let range = self.0.range::<[u8], _>((Bound::Included(&key.bytes[..]), Bound::Unbounded));
        range.take(10).inspect(|found| touch(found.key(), found.value())).count()
    }
}

const ROWS: [&str; 6] =
    ["insert", "get, hit", "get, miss", "seek + 10", "scan, a key", "overwrite"];

/// The rows' figures of one round.
fn round<I: Index>(keys: &[Key], others: &[Key], absent: &[Key], note: &mut String) -> [f64; 6] {
    let count = keys.len();
    let index = I::new(count);
    let mut seqno = 0;
    let mut fill = |keys: &[Key]| {
        for key in keys {
            seqno += 1;
            index.insert(key, entry(seqno));
        }
    };
    let insert = time(count, || fill(keys));
    *note = index.note();
    let hit = time(count, || assert!(others.iter().all(|key| index.get(key).is_some())));
    let mut found = 0;
    let miss = time(count, || {
        found = absent.iter().filter(|key| index.get(key).is_some()).count();
    });
    assert_eq!(found, 0);
    let few = &others[..count / 8];
    let seek =
        time(few.len(), || assert!(few.iter().map(|key| index.seek(key)).sum::<usize>() > 0));
    let scan = time(count, || assert_eq!(index.scan(), count));
    let overwrite = time(few.len(), || fill(few));
    [insert, hit, miss, seek, scan, overwrite]
}

/// The figures of all rounds of one structure.
struct Figures {
    name: &'static str,
    note: String,
    rounds: Vec<[f64; 6]>,
}

fn report(figures: &[Figures]) {
    print!("{:14}", "");
    figures.iter().for_each(|figures| print!("{:>22}", figures.name));
    println!();
    for (row, name) in ROWS.iter().enumerate() {
        print!("{name:14}");
        for figures in figures {
            let mut values: Vec<f64> = figures.rounds.iter().map(|round| round[row]).collect();
            values.sort_by(f64::total_cmp);
            let (low, high) = (values[0], values[values.len() - 1]);
            let range = format!("{:.0} ({low:.0}-{high:.0})", values[values.len() / 2]);
            print!("{range:>22}");
        }
        println!();
    }
    figures.iter().for_each(|figures| println!("{} {}", figures.name, figures.note));
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse().ok());
    let count: usize = numbers.next().unwrap_or(1_000_000);
    let rounds: usize = numbers.next().unwrap_or(ROUNDS);
    let only_ours = numbers.next().is_some_and(|peers: usize| peers == 0);
    let keys: Vec<Key> = (0..count as u64).map(random_key).collect();
    let absent: Vec<Key> = (0..count as u64).map(|number| random_key(number + (1 << 40))).collect();
    let others = shuffled(&keys);
    let names: &[&'static str] =
        if only_ours { &[Ours::NAME] } else { &[Ours::NAME, Locked::NAME, Skip::NAME] };
    let mut figures: Vec<Figures> = (names.iter())
        .map(|name| Figures { name, note: String::new(), rounds: Vec::new() })
        .collect();
    // One round more than is counted: the first touch of memory costs microseconds a page.
    for counted in 0..=rounds {
        for figures in &mut figures {
            let round = match figures.name {
                Ours::NAME => round::<Ours>,
                Locked::NAME => round::<Locked>,
                _ => round::<Skip>,
            };
            let round = round(&keys, &others, &absent, &mut figures.note);
            figures.rounds.extend((counted > 0).then_some(round));
        }
    }
    println!("{count} random keys of 17 bytes, {rounds} rounds: median (lowest-highest), ns");
    report(&figures);
}
