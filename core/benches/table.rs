//! Figures of tables: space, building, point reads, seeks and scans. Arguments: entries, value
//! bytes, and optionally lz4 or zstd with the size of the cache in MiB; values then are half text.
//! Everything is read once before it is timed; times are processor time of the thread.
#![allow(dead_code, unused_imports, missing_docs, unreachable_pub, reason = "parts of the crate")]

#[path = "../src/buffer.rs"]
mod buffer;
#[path = "../src/cache.rs"]
mod cache;
#[path = "../src/checksum.rs"]
mod checksum;
#[path = "../src/coding.rs"]
mod coding;
#[path = "../src/compress.rs"]
mod compress;
#[path = "../src/error.rs"]
mod error;
#[path = "../src/filename.rs"]
mod filename;
#[path = "../src/fs/mod.rs"]
mod fs;
#[path = "../src/planted.rs"]
mod planted;
#[path = "../src/prefetch.rs"]
mod prefetch;
#[path = "../src/table/mod.rs"]
mod table;
#[path = "../src/types.rs"]
mod types;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use cache::FileAccess;
use checksum::{hash_key, mix64};
use compress::Codec;
use fs::{FileSystem, OsFileSystem};
use table::{IterMode, Table, TableBuilder, TableIter, TableParams};
use types::{Compression, Kind};

const SEED: u64 = 7;
const TABLE_SIZE: u64 = 56 << 20;

fn main() {
    let arg = |n: usize, default: u64| {
        std::env::args().filter_map(|a| a.parse().ok()).nth(n).unwrap_or(default)
    };
    let (entries, value_len) = (arg(0, 1_000_000), arg(1, 100) as usize);
    let codec = codec();
    let direct = std::env::args().any(|arg| arg == "direct");
    let access = FileAccess::new(arg(2, 1024) << 20, direct);
    let dir = tempfile::tempdir().unwrap();
    let fs: Arc<dyn FileSystem> = Arc::new(OsFileSystem);
    let mut keys: Vec<[u8; 17]> = (0..entries).map(random_key).collect();
    keys.sort_unstable();
    let value: Vec<u8> = (0..value_len).map(|i| i as u8).collect();
    let make = (codec, &access);

    let start = processor_time();
    let (tables, size) = build(&fs, dir.path(), &keys, &value, make);
    per_entry("build and sync", start, entries);
    let overhead = size as f64 / entries as f64 - 17.0 - value_len as f64;
    println!(
        "{} tables, {size} bytes: {overhead:.2} bytes an entry over key and value",
        tables.len()
    );

    for round in 0..3 {
        let start = processor_time();
        let mut sum = 0usize;
        for (_, table) in &tables {
            let mut iter = TableIter::new(Arc::clone(table), IterMode::Mapped).unwrap();
            iter.seek_to_first().unwrap();
            while iter.valid() {
                sum += iter.value().len() + usize::from(iter.key()[3]);
                iter.next().unwrap();
            }
        }
        per_entry("scan, mapped", start, entries);
        black_box(sum);
        if round == 0 {
            continue;
        }
        let start = processor_time();
        for (_, table) in &tables {
            let mut iter = TableIter::new(Arc::clone(table), IterMode::Buffered).unwrap();
            iter.seek_to_first().unwrap();
            while iter.valid() {
                black_box((iter.key(), iter.value()));
                iter.next().unwrap();
            }
        }
        per_entry("scan, buffered", start, entries);
        let start = processor_time();
        for (_, table) in &tables {
            let mut iter = TableIter::new(Arc::clone(table), IterMode::Mapped).unwrap();
            iter.seek_to_last().unwrap();
            while iter.valid() {
                black_box((iter.key(), iter.value()));
                iter.prev().unwrap();
            }
        }
        per_entry("scan backwards, mapped", start, entries);
        gets(entries, &tables);
        let cache = &access.cache;
        let (hits, misses) = (cache.hits(), cache.misses());
        println!("cache: {hits} hits, {misses} misses, {} bytes", cache.size_bytes());
    }
}

/// The compression that the arguments name.
fn codec() -> Codec {
    let is = |name: &str| std::env::args().any(|arg| arg == name);
    let compression = match (is("lz4"), is("zstd")) {
        (true, _) => Compression::Lz4,
        (_, true) => Compression::Zstd,
        _ => Compression::None,
    };
    Codec { compression, level: 3 }
}

/// Writes the keys, which are sorted, to as many tables as they need; the tables with their first
/// keys' prefixes, and their size in all.
fn build(
    fs: &Arc<dyn FileSystem>,
    dir: &std::path::Path,
    keys: &[[u8; 17]],
    value: &[u8],
    (codec, access): (Codec, &FileAccess),
) -> (Vec<(u64, Arc<Table>)>, u64) {
    let mut tables: Vec<(u64, Arc<Table>)> = Vec::new();
    let (mut size, mut first) = (0, 0);
    while first < keys.len() {
        let number = tables.len() as u64 + 1;
        let path = dir.join(format!("{number:06}.table"));
        let params = TableParams { number, hash_seed: SEED, seqno_base: 1, codec };
        let mut builder = TableBuilder::new(fs.create(&path).unwrap(), params);
        let mut next = first;
        while next < keys.len() && builder.file_size_estimate() < TABLE_SIZE {
            let seqno = 1 + mix64(next as u64, 3) % keys.len() as u64;
            let hash = hash_key(&keys[next], SEED);
            let mut value = value.to_vec();
            if codec.compression != Compression::None {
                let noise = mix64(next as u64, 4);
                let half = value.len() / 2;
                (0..).zip(&mut value[half..]).for_each(|(i, b)| *b = mix64(noise, i) as u8);
            }
            builder.add(&keys[next], hash, seqno, Kind::Put, &value).unwrap();
            next += 1;
        }
        let summary = builder.finish().unwrap();
        size += summary.size_bytes;
        let table = Table::open(fs, &path, number, summary.size_bytes, SEED, 1, access).unwrap();
        tables.push((prefix(&keys[first]), Arc::new(table)));
        first = next;
    }
    (tables, size)
}

fn random_key(i: u64) -> [u8; 17] {
    let mut key = [0; 17];
    key[1..9].copy_from_slice(&mix64(i, 1).to_be_bytes());
    key[9..].copy_from_slice(&mix64(i, 2).to_be_bytes());
    key
}

/// Tables by the first eight bytes of their smallest key after the keyspace.
struct Run<'a>(&'a [(u64, Arc<Table>)]);

impl Run<'_> {
    fn table(&self, key: &[u8; 17]) -> usize {
        let prefix = prefix(key);
        self.0.iter().skip(1).map(|(first, _)| usize::from(*first <= prefix)).sum()
    }
}

fn prefix(key: &[u8; 17]) -> u64 {
    u64::from_be_bytes(*key[1..].first_chunk().unwrap())
}

fn gets(entries: u64, tables: &[(u64, Arc<Table>)]) {
    let run = Run(tables);
    let count = 1_000_000;
    let get =
        |key: &[u8; 17]| tables[run.table(key)].1.get(key, hash_key(key, SEED), u64::MAX).unwrap();
    let start = processor_time();
    let mut found = 0;
    for i in 0..count {
        found += u64::from(get(&random_key(mix64(i, 9) % entries)).is_some());
    }
    per_entry("get", start, count);
    assert_eq!(found, count);
    let start = processor_time();
    let mut last = 0;
    for i in 0..count {
        let entry = get(&random_key((mix64(i, 10) + last) % entries)).unwrap();
        last = u64::from(entry.value[0]);
    }
    per_entry("get, one after the other", start, count);
    let start = processor_time();
    for i in 0..count {
        assert!(get(&random_key(mix64(i, 11))).is_none());
    }
    per_entry("get of an absent key", start, count);
    let new_iter = |table| TableIter::new(table, IterMode::Mapped).unwrap();
    let mut iters: Vec<TableIter> =
        tables.iter().map(|(_, table)| new_iter(Arc::clone(table))).collect();
    for steps in [0, 10] {
        let start = processor_time();
        for i in 0..300_000 {
            let key = random_key(mix64(i, 12) % entries);
            let iter = &mut iters[run.table(&key)];
            iter.seek(&key).unwrap();
            assert!(iter.key() == key);
            for _ in 0..steps {
                black_box(iter.value());
                iter.next().unwrap();
            }
        }
        per_entry(if steps == 0 { "seek" } else { "seek and ten steps" }, start, 300_000);
    }
}

fn per_entry(what: &str, start: Duration, count: u64) {
    let nanos = (processor_time() - start).as_nanos() as f64 / count as f64;
    println!("{what:>28}: {nanos:.1} ns");
}

fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of our own.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
