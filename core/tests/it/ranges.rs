//! Parts of values: what get_range answers wherever the value lies, and what it reads for that.

use toykv::sim::SimDisk;
use toykv::{Compression, Db, ErrorKind, IoMode, Options, WriteBatch};

use crate::support::value_of;

const IO: [IoMode; 2] = [IoMode::Mapped, IoMode::Direct];

fn options(compression: Compression, threshold: u64, io: IoMode) -> Options {
    let options = Options::new().memtable_size_bytes(1 << 20).value_threshold_bytes(threshold);
    options.compression(compression).io(io)
}

/// A database whose values lie in every place that there is: in the log, in tables, in tables as
/// blocks of several cells, behind pointers, compressed.
fn database(disk: &SimDisk, options: &Options) -> (Db, Vec<usize>) {
    let db = disk.open_db("/ranges", options).unwrap();
    let lens = vec![0, 1, 100, 119, 120, 1023, 1024, 9_000, 65_535, 65_536, 300_000];
    for len in &lens {
        db.put(&key(*len), &value(*len)).unwrap();
    }
    (db, lens)
}

fn key(len: usize) -> Vec<u8> {
    format!("value of {len} bytes").into_bytes()
}

fn value(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 3 % 251) as u8).collect()
}

fn check(db: &Db, lens: &[usize]) {
    for &len in lens {
        let whole = value(len);
        for offset in [0, 1, 118, 1023, len / 2, len.saturating_sub(1), len, len + 1, usize::MAX] {
            for count in [0, 1, 119, 120, 5_000, len, usize::MAX] {
                let start = offset.min(len);
                let expected = &whole[start..offset.saturating_add(count).clamp(start, len)];
                let found = db.get_range(&key(len), offset as u64, count).unwrap().unwrap();
                assert!(*found == *expected, "{offset}+{count} of {len}");
            }
        }
        assert_eq!(db.get_range(&key(len + 7), 0, 10).unwrap(), None);
    }
}

#[test]
fn a_part_is_what_the_whole_has_there() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        for (threshold, io) in [64, 2000, 1 << 32].into_iter().flat_map(|t| IO.map(|io| (t, io))) {
            let disk = SimDisk::new();
            let (db, lens) = database(&disk, &options(compression, threshold, io));
            check(&db, &lens);
            let snapshot = db.snapshot().unwrap();
            db.flush().unwrap();
            check(&db, &lens);
            let mut batch = WriteBatch::new();
            for len in &lens {
                batch.put(&key(*len), &value(*len)).unwrap();
            }
            batch.put(b"filler", &vec![1; 1 << 20]).unwrap();
            db.write(&batch).unwrap();
            check(&db, &lens);
            db.put(&key(9_000), b"newer").unwrap();
            assert_eq!(*db.get_range(&key(9_000), 3, 9).unwrap().unwrap(), *b"er");
            assert_eq!(*snapshot.get_range(&key(9_000), 6, 1).unwrap().unwrap(), [2]);
            db.delete(&key(9_000)).unwrap();
            assert_eq!(db.get_range(&key(9_000), 3, 9).unwrap(), None);
        }
    }
}

/// A long value that does not shrink, and its neighbours; flushed.
fn noise(disk: &SimDisk, options: &Options) -> Vec<u8> {
    let whole = value_of(1, 300_000);
    let db = disk.open_db("/ranges", options).unwrap();
    db.put(b"before", &value_of(2, 3000)).unwrap();
    db.put(b"long", &whole).unwrap();
    db.put(b"longer", &value_of(3, 3000)).unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    whole
}

/// Every way to keep a long value that does not shrink.
fn ways() -> impl Iterator<Item = (Options, String)> {
    let compressions = [Compression::None, Compression::Lz4];
    compressions.into_iter().flat_map(|compression| {
        [64, 1 << 32].into_iter().flat_map(move |threshold| {
            IO.map(|io| {
                let way = format!("{compression:?}, threshold {threshold}, {io:?}");
                (options(compression, threshold, io), way)
            })
        })
    })
}

/// Damages the last byte of the long value wherever it lies.
fn damage(disk: &SimDisk, whole: &[u8]) {
    let mut places = 0;
    for (path, _) in disk.files() {
        let bytes = disk.read_file(&path).unwrap();
        let found = bytes.windows(whole.len()).position(|part| *part == *whole);
        if let Some(start) = found {
            disk.overwrite(&path, (start + 299_999) as u64, &[!whole[299_999]]).unwrap();
            places += 1;
        }
    }
    assert_eq!(places, 1);
}

#[test]
fn a_part_of_a_long_value_does_not_touch_the_rest() {
    for (options, way) in ways() {
        let disk = SimDisk::new();
        let whole = noise(&disk, &options);
        damage(&disk, &whole);
        let db = disk.open_db("/ranges", &options).unwrap();
        let part = || db.get_range(b"long", 1000, 70_000);
        assert!(*part().unwrap().unwrap() == whole[1000..71_000], "{way}");
        // Nothing but reading the whole finds what is wrong with it.
        assert_eq!(db.get(b"long").unwrap_err().kind(), ErrorKind::Corruption, "{way}");
        assert!(part().is_ok(), "{way}");
        for key in [&b"before"[..], b"longer"] {
            assert!(db.get_range(key, 5, 2000).unwrap().is_some(), "{way}");
        }
        assert_eq!(db.get_range(b"lon", 0, 9).unwrap(), None);
    }
}

#[test]
fn a_part_of_a_long_value_is_all_that_is_read_and_held() {
    for (options, way) in ways() {
        let disk = SimDisk::new();
        let whole = noise(&disk, &options);
        let db = disk.open_db("/ranges", &options).unwrap();
        // Locator and index are checked when they are used first.
        db.get(b"before").unwrap();
        disk.record_trace(true);
        let part = db.get_range(b"long", 200_000, 5_000).unwrap().unwrap();
        let read: u64 = disk.trace().iter().map(|operation| bytes_read(operation)).sum();
        disk.record_trace(false);
        assert!(*part == whole[200_000..205_000], "{way}");
        assert!(read < 6_000, "{way}: {read} bytes read");
        assert!(db.stats().pinned_bytes < 6_000, "{way}: {:?}", db.stats());
        // A part of what the cache has comes from there.
        let small = db.get_range(b"before", 100, 2_000).unwrap().unwrap();
        assert!(*small == value_of(2, 3000)[100..2_100], "{way}");
    }
}

/// The length in the trace of a read.
fn bytes_read(operation: &str) -> u64 {
    let words: Vec<&str> = operation.split_whitespace().collect();
    let len = words.iter().find_map(|word| word.split_once('+')).map(|(_, len)| len);
    match words.get(1) {
        Some(&"Read") => len
            .and_then(|len| len.trim_end_matches(':').parse().ok())
            .unwrap_or_else(|| panic!("{operation}")),
        _ => 0,
    }
}

#[test]
fn a_disk_without_direct_io_is_refused_by_name() {
    let options = Options::new().io(IoMode::Direct);
    let disk = SimDisk::new();
    disk.refuse_direct();
    let error = disk.open_db("/new", &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("/new/LOCK"), "{error}");
    drop(disk.open_db("/new", &Options::new()).unwrap());
    let error = disk.open_db("/new", &options.read_only(true)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("/new/CURRENT"), "{error}");
}
