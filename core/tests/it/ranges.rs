//! Parts of values: what get_range answers wherever the value lies, and what it reads for that.

use toykv::sim::SimDisk;
use toykv::{Compression, Db, ErrorKind, IoMode, Options, WriteBatch};

/// A database whose values lie in every place that there is: in the log, in tables, in tables as
/// blocks of several cells, behind pointers, compressed.
fn database(disk: &SimDisk, compression: Compression, threshold: u64) -> (Db, Vec<usize>) {
    let options = Options::new()
        .memtable_size_bytes(1 << 20)
        .value_threshold_bytes(threshold)
        .compression(compression);
    let db = disk.open_db("/ranges", &options).unwrap();
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
        for threshold in [64, 2000, 1 << 32] {
            let disk = SimDisk::new();
            let (db, lens) = database(&disk, compression, threshold);
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

/// Damages the last byte of the longest value wherever it lies.
fn damage(disk: &SimDisk) {
    let whole = value(300_000);
    let mut places = 0;
    for (path, _) in disk.files() {
        let bytes = disk.read_file(&path).unwrap();
        let found = bytes.windows(whole.len()).position(|part| *part == *whole);
        if let Some(start) = found {
            disk.overwrite(&path, (start + 299_999) as u64, &[0xff]).unwrap();
            places += 1;
        }
    }
    assert_eq!(places, 1);
}

#[test]
fn a_part_of_a_long_value_does_not_touch_the_rest() {
    for threshold in [64, 1 << 32] {
        let disk = SimDisk::new();
        let (db, _) = database(&disk, Compression::None, threshold);
        db.flush().unwrap();
        db.close().unwrap();
        damage(&disk);
        let db = disk.open_db("/ranges", &Options::new()).unwrap();
        let part = || db.get_range(&key(300_000), 1000, 70_000);
        assert!(*part().unwrap().unwrap() == value(300_000)[1000..71_000]);
        // Nothing but reading the whole finds what is wrong with it.
        assert_eq!(db.get(&key(300_000)).unwrap_err().kind(), ErrorKind::Corruption);
        assert!(part().is_ok());
        assert!(db.get(&key(1024)).is_ok());
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
