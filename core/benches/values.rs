//! What it costs to separate values of a length or to keep them in tables, and to compress them:
//! sets of 24 MiB with memtables of a MiB, overwritten four times at random, then read at random.
//!
//! `cargo bench -p toykv --bench values [MiB] [directory]`; under two minutes. The directory
//! decides which file system is measured. Rows are taken in turns, separated and not, and the
//! order is turned round in the second round; each figure is the better of the two.

use std::ops::Bound;
use std::path::Path;
use std::time::{Duration, Instant};

use toykv::{Compression, Db, Durability, Options, Stats};

const LENGTHS: [usize; 8] = [100, 256, 512, 1 << 10, 2 << 10, 4 << 10, 16 << 10, 64 << 10];
const OVERWRITES: u64 = 4;
const GETS: u64 = 100_000;
const ROUNDS: usize = 2;

/// How values are kept.
#[derive(Clone, Copy)]
struct Way {
    len: usize,
    separated: bool,
    compression: Compression,
}

/// What was measured of a way; of two rounds the better of each.
#[derive(Clone, Copy)]
struct Row {
    put_ns: f64,
    overwrite_ns: f64,
    get_ns: f64,
    written: f64,
    space: f64,
}

fn main() {
    let numbers = || std::env::args().filter_map(|arg| arg.parse::<u64>().ok());
    let live = numbers().next().unwrap_or(24) << 20;
    let dir = std::env::args().skip(1).find(|arg| Path::new(arg).is_dir());
    let dir = dir.map_or_else(std::env::temp_dir, Into::into);
    let plain = LENGTHS.iter().flat_map(|&len| {
        [true, false].map(|separated| Way { len, separated, compression: Compression::None })
    });
    let packed = [Compression::None, Compression::Lz4, Compression::Zstd].map(|compression| Way {
        len: 4 << 10,
        separated: true,
        compression,
    });
    let ways: Vec<Way> = plain.chain(packed).collect();
    let mut rows: Vec<Option<Row>> = vec![None; ways.len()];
    for round in 0..ROUNDS {
        let mut order: Vec<usize> = (0..ways.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let row = measure(&dir, ways[index], live);
            rows[index] = Some(rows[index].map_or(row, |other| row.better(other)));
        }
    }
    println!(
        "| length | put, ns | overwrite, ns | get, ns | bytes written a byte | directory / live |"
    );
    println!("|---:|---:|---:|---:|---:|---:|");
    let rows: Vec<Row> = rows.into_iter().flatten().collect();
    let (plain, packed) = rows.split_at(2 * LENGTHS.len());
    for (len, pair) in LENGTHS.iter().zip(plain.chunks(2)) {
        let both = |of: fn(&Row) -> f64, digits: usize| {
            format!("{:.digits$} or {:.digits$}", of(&pair[0]), of(&pair[1]))
        };
        println!(
            "| {len} | {} | {} | {} | {} | {} |",
            both(|row| row.put_ns, 0),
            both(|row| row.overwrite_ns, 0),
            both(|row| row.get_ns, 0),
            both(|row| row.written, 2),
            both(|row| row.space, 2),
        );
    }
    for (row, way) in packed.iter().zip(&ways[2 * LENGTHS.len()..]) {
        println!(
            "4096, {:?}: put {:.0} ns, overwrite {:.0}, get {:.0}, written {:.2}, directory {:.2}",
            way.compression, row.put_ns, row.overwrite_ns, row.get_ns, row.written, row.space,
        );
    }
}

impl Row {
    fn better(self, other: Row) -> Row {
        Row {
            put_ns: self.put_ns.min(other.put_ns),
            overwrite_ns: self.overwrite_ns.min(other.overwrite_ns),
            get_ns: self.get_ns.min(other.get_ns),
            written: self.written.min(other.written),
            space: self.space.min(other.space),
        }
    }
}

fn mix(word: u64) -> u64 {
    let word = (word ^ word >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (word ^ word >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ word >> 32
}

fn key(number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&mix(number).to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Half of a value is noise, the other half one byte.
struct Value(Vec<u8>);

impl Value {
    fn fill(&mut self, mark: u64) -> &[u8] {
        let half = self.0.len() / 2;
        for (at, word) in self.0[..half].chunks_exact_mut(8).enumerate() {
            word.copy_from_slice(&mix(mark << 20 | at as u64).to_le_bytes());
        }
        &self.0
    }
}

fn measure(dir: &Path, way: Way, live: u64) -> Row {
    let dir = tempfile::tempdir_in(dir).unwrap();
    let options = Options::new()
        .memory_budget(64 << 20)
        .memtable_size_bytes(1 << 20)
        .durability(Durability::Process)
        .compression(way.compression)
        .value_threshold_bytes(if way.separated { 64 } else { 1 << 32 });
    let db = Db::open(dir.path().join("db"), &options).unwrap();
    let count = live / (way.len as u64 + 16);
    let mut value = Value(vec![7; way.len]);
    let mut put = |number: u64, mark: u64| {
        db.put(&key(number), value.fill(mark)).unwrap();
    };
    let load = per(count, |number| put(number, number));
    let overwrite = per(OVERWRITES * count, |step| put(mix(step) % count, step + count));
    rest(&db);
    let space =
        directory_bytes(&dir.path().join("db")) as f64 / (count * (way.len as u64 + 16)) as f64;
    let written = db.stats().write_amplification();
    db.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
    rest(&db);
    let gets = GETS.min(4 * count);
    let get =
        |step: u64| assert_eq!(db.get(&key(mix(step) % count)).unwrap().unwrap().len(), way.len);
    per(gets, get);
    let get_ns = per(gets, get);
    db.close().unwrap();
    Row { put_ns: load, overwrite_ns: overwrite, get_ns, written, space }
}

/// Nanoseconds for each of `count` calls.
fn per(count: u64, mut call: impl FnMut(u64)) -> f64 {
    let start = Instant::now();
    (0..count).for_each(&mut call);
    start.elapsed().as_nanos() as f64 / count as f64
}

/// Waits until background work has done all that it wants to do: nothing for a third of a second.
fn rest(db: &Db) {
    let work = |stats: Stats| (stats.flushes, stats.compactions, stats.collections);
    let mut before = work(db.stats());
    let mut since = Instant::now();
    while since.elapsed() < Duration::from_millis(330) {
        std::thread::sleep(Duration::from_millis(10));
        let now = work(db.stats());
        if now != before {
            (before, since) = (now, Instant::now());
        }
    }
}

fn directory_bytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).unwrap().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}
