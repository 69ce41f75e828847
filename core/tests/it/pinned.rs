//! Heap that readers hold: counted while they do, in the statistics and in the memory budget,
//! wherever the bytes come from, and gone with the last of them.

use std::ops::Bound;
use std::path::Path;

use toykv::sim::SimDisk;
use toykv::{Compression, Db, IoMode, Options, Scan, ScanOptions, Value};

use crate::support::value_of;

/// Longer than what goes into the cache.
const VALUE_LEN: u64 = 300_000;

fn key(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}

/// A long value that shrinks.
fn value(index: u64) -> Vec<u8> {
    (0..VALUE_LEN).map(|at| (at / 50 + index) as u8).collect()
}

/// So many values, flushed.
fn filled(disk: &SimDisk, options: &Options, count: u64) -> Db {
    let db = disk.open_db("/db", options).unwrap();
    for index in 0..count {
        db.put(&key(index), &value(index)).unwrap();
    }
    db.flush().unwrap();
    db
}

fn pinned(db: &Db) -> u64 {
    db.stats().pinned_bytes
}

/// So many values, and what is counted for each beside its bytes: not much.
#[track_caller]
fn assert_holds(db: &Db, values: u64) {
    let most = values * (VALUE_LEN + 400);
    assert!((values * VALUE_LEN..=most).contains(&pinned(db)), "{} of {values}", pinned(db));
}

#[test]
fn decompressed_values_are_counted_until_the_last_clone_goes() {
    let disk = SimDisk::new();
    let options = Options::new().compression(Compression::Lz4).memory_budget(64 << 20);
    let db = filled(&disk, &options, 20);
    // And some that are only in the log.
    for index in 20..30 {
        db.put(&key(index), &value(index)).unwrap();
    }
    assert_eq!(pinned(&db), 0);
    let mut values: Vec<Value> = (0..30).map(|i| db.get(&key(i)).unwrap().unwrap()).collect();
    assert_holds(&db, 30);
    let clones = values.clone();
    values.truncate(10);
    let part = db.get_range(&key(5), 100, 40_000).unwrap();
    assert_holds(&db, 31);
    drop((clones, part));
    assert_holds(&db, 10);
    let snapshot = db.snapshot().unwrap();
    let mut scan = snapshot.scan(&ScanOptions::new()).unwrap();
    for _ in 0..15 {
        scan.next_entry().unwrap();
    }
    // A scan holds its last value.
    assert_holds(&db, 11);
    drop(scan);
    std::thread::scope(|scope| {
        values.drain(..).for_each(|value| drop(scope.spawn(move || drop(value))));
    });
    assert_eq!(pinned(&db), 0);
}

#[test]
fn blocks_of_compressed_tables_that_a_value_lies_in_are_counted() {
    let disk = SimDisk::new();
    let options = Options::new().compression(Compression::Zstd).cache_size_bytes(0);
    let db = disk.open_db("/db", &options.memtable_size_bytes(1 << 20)).unwrap();
    for index in 0..2000 {
        db.put(&key(index), &[&value_of(index / 9, 150)[..], &[7; 150]].concat()).unwrap();
    }
    db.flush().unwrap();
    let held = db.get(&key(77)).unwrap().unwrap();
    let block = pinned(&db);
    assert!((8 << 10..65 << 10).contains(&block), "{block}");
    let other = db.get(&key(1777)).unwrap();
    assert_eq!(pinned(&db), 2 * block);
    drop((held, other));
    assert_eq!(pinned(&db), 0);
    // What the cache keeps is its own; the reader holds nothing beside it.
    drop(db);
    let db = disk.open_db("/db", &Options::new()).unwrap();
    let held = db.get(&key(77)).unwrap();
    let stats = db.stats();
    assert_eq!((stats.pinned_bytes, stats.cache_bytes), (0, block));
    drop(held);
}

#[test]
fn what_scans_read_ahead_is_counted() {
    let disk = SimDisk::new();
    let options = Options::new().io(IoMode::Direct).memtable_size_bytes(1 << 20);
    let db = disk.open_db("/db", &options).unwrap();
    for index in 0..20_000 {
        db.put(&key(index), &value_of(index, 100)).unwrap();
    }
    // One run, which stays as it is.
    db.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
    assert_eq!(pinned(&db), 0);
    let mut scans = Vec::new();
    for _ in 0..4 {
        let mut scan = db.scan(&ScanOptions::new()).unwrap();
        for _ in 0..10_000 {
            scan.next_entry().unwrap();
        }
        scans.push(scan);
    }
    let four = pinned(&db);
    assert!(four >= 4 * (500 << 10), "{four}");
    scans.pop();
    assert_eq!(pinned(&db), four / 4 * 3);
    drop(scans);
    assert_eq!(pinned(&db), 0);
}

/// The budget has a quarter for the cache and an eighth for what is pinned, here 2 and 1 MiB.
#[test]
fn the_cache_gives_way_to_what_readers_hold() {
    const MIB: u64 = 1 << 20;
    let disk = SimDisk::new();
    let options = Options::new().compression(Compression::Lz4).memory_budget(8 * MIB);
    let db = filled(&disk, &options, 12);
    let small = |index: u64| (1000 + index).to_be_bytes();
    for index in 0..60_000 {
        db.put(&small(index), &[&value_of(index, 60)[..], &[7; 60]].concat()).unwrap();
    }
    db.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
    let warm = || {
        for index in 0..60_000 {
            db.get(&small(index)).unwrap();
        }
        db.stats().cache_bytes
    };
    assert!(warm() > MIB * 3 / 2);
    let mut values: Vec<Value> = Vec::new();
    for count in [3, 8, 12] {
        values.extend((values.len() as u64..count).map(|i| db.get(&key(i)).unwrap().unwrap()));
        let cache = warm();
        assert_holds(&db, count);
        // As exact as a sixteenth of the cache, and that it keeps.
        assert!(cache + pinned(&db).min(3 * MIB) <= 3 * MIB + MIB / 4, "{cache}, {count}");
    }
    assert!(db.stats().cache_bytes <= MIB / 4);
    drop(values);
    assert!(warm() > MIB * 3 / 2);
    // Not so one that an option sizes.
    drop(db);
    let db = disk.open_db("/db", &options.cache_size_bytes(2 * MIB)).unwrap();
    let values: Vec<_> = (0..12).map(|i| db.get(&key(i)).unwrap().unwrap()).collect();
    (0..60_000).for_each(|index| drop(db.get(&small(index)).unwrap()));
    assert!(db.stats().cache_bytes > MIB * 3 / 2);
    drop(values);
}

/// Long separated values that a scan will show are asked for ahead: no more than it has shown, and
/// nearly none that are hidden.
#[test]
fn a_scan_asks_for_long_values_ahead_but_for_few_in_vain() {
    let noise = |n: u64| -> Vec<u8> {
        let words = (n * 640..(n + 1) * 640).map(|at| at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        words.map(|word| word ^ word >> 29).flat_map(u64::to_be_bytes).collect()
    };
    let key = |n: u64| n.to_be_bytes();
    for compression in [Compression::None, Compression::Lz4] {
        let disk = SimDisk::new();
        let options = Options::new().memtable_size_bytes(64 << 20).compression(compression);
        let db = disk.open_db("/ahead", &options).unwrap();
        // The last keys in three versions, two of them for snapshots.
        let mut snapshots = Vec::new();
        for round in 0..3 {
            for n in 600 * round.min(1)..700 {
                db.put(&key(n), &noise(n + round)).unwrap();
            }
            snapshots.push(db.snapshot().unwrap());
        }
        db.flush().unwrap();
        db.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
        let places = |scan: Scan, count: usize| {
            disk.take_asked();
            assert_eq!(scan.take(count).filter(|entry| entry.is_ok()).count(), count);
            let log = |path: &Path| path.extension().is_some_and(|name| name == "vlog");
            disk.take_asked().into_iter().filter(|(path, _)| log(path)).count()
        };
        let scan = |from: u64, reverse: bool| {
            let (from, to) = (key(from), key(from + 150));
            let options = ScanOptions::new().lower(Bound::Included(&from));
            options.upper(Bound::Excluded(&to)).reverse(reverse)
        };
        // A value that was shown is verified, and not asked for again: each scan has its own keys.
        assert_eq!(places(db.scan(&scan(0, false)).unwrap(), 1), 1);
        for (from, reverse) in [(10, false), (100, true)] {
            let asked = places(db.scan(&scan(from, reverse)).unwrap(), 10);
            assert!((15..=20).contains(&asked), "{asked}");
        }
        let asked = places(db.scan(&scan(400, false)).unwrap(), 100);
        assert!((105..=120).contains(&asked), "{asked}");
        // What the first scan has shown is verified; what it asked for beyond is not.
        assert_eq!(places(db.scan(&scan(400, false)).unwrap(), 50), 0);
        let asked = places(snapshots[0].scan(&scan(600, false)).unwrap(), 10);
        assert!((10..=20).contains(&asked), "{asked}");
        let asked = places(db.scan(&scan(640, false)).unwrap(), 10);
        assert!((10..=20).contains(&asked), "{asked}");
        assert_eq!(places(db.scan(&scan(100, false).keys_only(true)).unwrap(), 50), 0);
        // Fifteen of sixteen are deleted.
        for n in (50..200).filter(|n| n % 16 != 0) {
            db.delete(&key(n)).unwrap();
        }
        assert_eq!(places(db.scan(&scan(50, false)).unwrap(), 9), 9);
        db.close().unwrap();
        // Not where values are read past the page cache.
        let db = disk.open_db("/ahead", &options.clone().io(IoMode::Direct)).unwrap();
        assert_eq!(places(db.scan(&scan(0, false)).unwrap(), 5), 0);
    }
}
