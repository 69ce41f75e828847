//! Separated values that are stored compressed: every call sees them as they were written, a
//! collection moves them as they are, and the option changes nothing that is there.

use std::ops::Bound;
use std::path::Path;

use toykv::sim::SimDisk;
use toykv::{Compression, Db, Options, ScanOptions, Value, WriteBatch};

use crate::support::value_of;

const SCHEMES: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Zstd];

fn options(compression: Compression) -> Options {
    Options::new().memtable_size_bytes(1 << 20).compression(compression)
}

fn key(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}

/// Half of these shrink to little, the other half are noise.
fn value(index: u64) -> Vec<u8> {
    let len = 900 + index as usize * 37;
    match index % 2 {
        0 => (0..len).map(|at| (at as u64 / 50 + index) as u8).collect(),
        _ => value_of(index, len),
    }
}

fn load(db: &Db, indexes: impl Iterator<Item = u64>) {
    let mut batch = WriteBatch::new();
    for index in indexes {
        if index.is_multiple_of(3) {
            db.put(&key(index), &value(index)).unwrap();
        } else {
            batch.put(&key(index), &value(index)).unwrap();
        }
    }
    db.write(&batch).unwrap();
}

/// Reads everything in every way.
fn check(db: &Db, count: u64) {
    let mut buffer = vec![0; 20_000];
    let keys: Vec<_> = (0..count).map(key).collect();
    let many: Vec<Option<Value>> = db.multi_get(&keys).unwrap();
    for index in 0..count {
        let expected = value(index);
        assert!(*db.get(&key(index)).unwrap().unwrap() == *expected, "{index}");
        assert!(many[index as usize].as_deref() == Some(&expected[..]));
        let len = db.get_into(&key(index), &mut buffer).unwrap();
        assert_eq!(len, Some(expected.len()));
        assert!(buffer[..expected.len()] == *expected);
        assert_eq!(db.get_into(&key(index), &mut [0; 9]).unwrap(), Some(expected.len()));
        let part = db.get_range(&key(index), 700, 150).unwrap().unwrap();
        assert!(*part == expected[700..850]);
    }
    for reverse in [false, true] {
        let mut scan = db.scan(&ScanOptions::new().reverse(reverse)).unwrap();
        let mut indexes: Vec<u64> = (0..count).collect();
        if reverse {
            indexes.reverse();
        }
        for index in &indexes {
            let entry = scan.next_entry().unwrap().unwrap();
            assert!(entry.key == key(*index) && entry.value == value(*index));
        }
        assert!(scan.next_entry().unwrap().is_none());
        let entry = scan.prev_entry().unwrap().unwrap();
        assert!(entry.value == value(*indexes.last().unwrap()));
    }
    assert_eq!(db.len().unwrap(), count);
}

fn live(db: &Db) -> u64 {
    db.explain_space().unwrap().live_value_bytes
}

#[test]
fn values_are_what_was_written_wherever_they_are() {
    for compression in SCHEMES {
        let disk = SimDisk::new();
        let db = disk.open_db("/db", &options(compression)).unwrap();
        load(&db, 0..100);
        check(&db, 100);
        db.close().unwrap();
        // Replayed, without the option: records say themselves what they are.
        let db = disk.open_db("/db", &options(Compression::None)).unwrap();
        check(&db, 100);
        db.flush().unwrap();
        check(&db, 100);
        db.close().unwrap();
        let db = disk.open_db("/db", &options(compression).read_only(true)).unwrap();
        check(&db, 100);
    }
}

#[test]
fn a_value_says_what_it_holds_of_the_heap() {
    for compression in SCHEMES {
        let disk = SimDisk::new();
        let db = disk.open_db("/db", &options(compression)).unwrap();
        db.put(b"short", b"value").unwrap();
        db.put(b"long", &[7; 50_000]).unwrap();
        let heap = |key: &[u8]| db.get(key).unwrap().unwrap().heap_bytes();
        assert_eq!(heap(b"short"), 0);
        let expected = if compression == Compression::None { 0 } else { 50_000 };
        assert_eq!(heap(b"long"), expected, "{compression:?}");
    }
}

#[test]
fn what_shrinks_takes_less_and_user_bytes_are_those_of_the_user() {
    let sizes = SCHEMES.map(|compression| {
        let disk = SimDisk::new();
        let db = disk.open_db("/db", &options(compression)).unwrap();
        load(&db, 0..100);
        let written = db.stats();
        db.flush().unwrap();
        check(&db, 100);
        (live(&db), written.user_bytes, written.log_bytes_written)
    });
    let [none, lz4, zstd] = sizes;
    let noise: u64 = (4..100).filter(|i| i % 2 == 1).map(|i| value(i).len() as u64).sum();
    assert!(none.0 > 2 * noise - 50_000, "{sizes:?} {noise}");
    for packed in [lz4, zstd] {
        assert!((noise..noise + noise / 5).contains(&packed.0), "{sizes:?} {noise}");
        assert_eq!(packed.1, none.1);
        assert!(packed.2 < none.2 * 2 / 3, "{sizes:?}");
    }
}

#[test]
fn the_option_changes_new_values_only_and_collection_moves_them_as_they_are() {
    let disk = SimDisk::new();
    let open = |compression| disk.open_db("/db", &options(compression)).unwrap();
    let mut lives = Vec::new();
    for (turn, compression) in (0..).zip([Compression::Zstd, Compression::None, Compression::Lz4]) {
        let db = open(compression);
        load(&db, turn * 60..turn * 60 + 60);
        // As much again, which dies.
        for index in 1000..1040 {
            db.put(&key(index), &value(index - 1000)).unwrap();
        }
        db.flush().unwrap();
        for index in 1000..1040 {
            db.delete(&key(index)).unwrap();
        }
        db.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
        check(&db, turn * 60 + 60);
        let before = live(&db);
        db.gc().unwrap();
        db.audit().unwrap();
        assert_eq!(live(&db), before);
        check(&db, turn * 60 + 60);
        assert!(db.stats().collections > 0);
        lives.push(before - lives.iter().sum::<u64>());
        db.close().unwrap();
    }
    let plain = |turn: u64| (turn * 60..turn * 60 + 60).map(|i| value(i).len() as u64).sum::<u64>();
    assert!(lives[0] < plain(0) * 2 / 3, "{lives:?}");
    assert!(lives[1] >= plain(1), "{lives:?}");
    assert!(lives[2] < plain(2) * 2 / 3, "{lives:?}");
    for threshold in [64, 5000, 1 << 32] {
        let options = options(Compression::None).value_threshold_bytes(threshold);
        let db = disk.open_db("/db", &options).unwrap();
        check(&db, 180);
        db.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
        db.gc().unwrap();
        db.audit().unwrap();
        check(&db, 180);
        db.close().unwrap();
    }
}

#[test]
fn values_that_were_read_stay_when_all_else_is_gone() {
    let disk = SimDisk::new();
    let db = disk.open_db("/db", &options(Compression::Lz4)).unwrap();
    load(&db, 0..20);
    let (mut values, snapshot) = (Vec::new(), db.snapshot().unwrap());
    values.extend((0..20).map(|index| db.get(&key(index)).unwrap().unwrap()));
    db.flush().unwrap();
    values.extend((0..20).map(|index| db.get(&key(index)).unwrap().unwrap()));
    for index in 0..20 {
        db.delete(&key(index)).unwrap();
    }
    values.extend((0..20).map(|index| snapshot.get(&key(index)).unwrap().unwrap()));
    drop(snapshot);
    db.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
    db.close().unwrap();
    drop(db);
    for (place, read) in values.iter().enumerate() {
        assert!(**read == *value(place as u64 % 20), "{place}");
    }
}

/// Every byte of the compressed values in turn, in the log and after the flush.
#[test]
fn a_damaged_one_is_named_and_nothing_else_is_lost() {
    let value: Vec<u8> = (0..3000).map(|at| (at / 11) as u8).collect();
    for flush in [false, true] {
        let disk = SimDisk::new();
        let db = disk.open_db("/db", &options(Compression::Lz4)).unwrap();
        for index in 0..3 {
            db.put(&key(index), &[&value[..], &key(index)].concat()).unwrap();
        }
        if flush {
            db.flush().unwrap();
        }
        db.sync().unwrap();
        db.close().unwrap();
        let needle = [&[0][..], &key(1)[..], &[192, 11]].concat();
        let mut found = Vec::new();
        for (path, _) in disk.files() {
            let bytes = disk.read_file(&path).unwrap();
            let place = bytes.windows(needle.len()).position(|part| *part == needle);
            found.extend(place.map(|place| (path, place + 9)));
        }
        let [(path, start)] = &found[..] else { panic!("{found:?}") };
        let bytes = disk.read_file(path).unwrap();
        for (at, byte) in bytes.iter().enumerate().skip(*start).take(120) {
            disk.overwrite(path, at as u64, &[byte ^ 0x10]).unwrap();
            let db = disk.open_db("/db", &options(Compression::Lz4).read_only(true));
            let error = match db.and_then(|db| db.get(&key(0)).and(db.get(&key(1)))) {
                Ok(found) => panic!("{at}: {:?}", found.map(|value| value.len())),
                Err(error) => error,
            };
            assert!(error.to_string().contains(&*name(path)), "{error}");
            disk.overwrite(path, at as u64, &[*byte]).unwrap();
        }
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}
