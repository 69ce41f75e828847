//! Calls with arguments out of bounds, or that the database cannot do in its state.

use std::ops::{Bound, ControlFlow};

use toykv::{Db, Durability, ErrorKind, Options, ScanOptions, WriteBatch, WriteOptions};

use super::{check_sample, contents, fill, large_batch, refused, sample, says, small};

const ALL: Bound<&[u8]> = Bound::Unbounded;

#[test]
fn keys_over_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), &small()).unwrap();
    let longest = vec![b'k'; toykv::MAX_KEY_LEN];
    let longer = vec![b'k'; toykv::MAX_KEY_LEN + 1];
    db.put(&longest, b"fits").unwrap();
    let snapshot = db.snapshot().unwrap();
    let mut batch = WriteBatch::new();
    let errors = [
        db.put(&longer, b"").unwrap_err(),
        db.delete(&longer).unwrap_err(),
        db.get(&longer).unwrap_err(),
        db.get_with(&longer, |_| ()).unwrap_err(),
        db.get_into(&longer, &mut []).unwrap_err(),
        db.contains(&longer).unwrap_err(),
        db.multi_get(&[&longest, &longer]).unwrap_err(),
        snapshot.get(&longer).unwrap_err(),
        snapshot.contains(&longer).unwrap_err(),
        batch.put(&longer, b"").unwrap_err(),
        batch.delete(&longer).unwrap_err(),
    ];
    for error in &errors {
        says(error, ErrorKind::TooLarge, "65536");
    }
    assert!(batch.is_empty());
    assert_eq!(db.stats().seqno, 1);
    // As a bound any length is fine.
    let below = ScanOptions::new().upper(Bound::Excluded(&longer));
    assert_eq!(db.scan(&below).unwrap().count(), 1);
    let above = ScanOptions::new().lower(Bound::Included(&longer));
    assert_eq!(db.scan(&above).unwrap().count(), 0);
    db.compact(Bound::Included(&longer), Bound::Excluded(&longer)).unwrap();
    assert_eq!(db.get(&longest).unwrap().as_deref(), Some(&b"fits"[..]));
}

#[test]
fn options_out_of_their_ranges() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let bad = [
        ("value_threshold_bytes", Options::new().value_threshold_bytes(63)),
        ("value_threshold_bytes", Options::new().value_threshold_bytes((1 << 32) + 1)),
        ("memtable_size_bytes", Options::new().memtable_size_bytes((64 << 10) - 1)),
        ("memtable_size_bytes", Options::new().memtable_size_bytes((1 << 30) + 1)),
        ("backlog_limit_bytes", small().backlog_limit_bytes((128 << 10) - 1)),
        ("backlog_limit_bytes", small().backlog_limit_bytes(u64::MAX)),
        ("sync_interval_ms", Options::new().sync_interval_ms(0)),
        ("sync_interval_ms", Options::new().sync_interval_ms(3_600_001)),
        ("error_if_exists", Options::new().error_if_exists(true).read_only(true)),
    ];
    for (name, options) in bad {
        says(&refused(&path, &options), ErrorKind::InvalidArgument, name);
    }
    for threshold in [64, 1 << 32] {
        let db = Db::open(&path, &small().value_threshold_bytes(threshold)).unwrap();
        fill(&db);
        check_sample(&db);
        db.close().unwrap();
        check_sample(&Db::open(&path, &small()).unwrap());
        Db::destroy(&path).unwrap();
    }
}

#[test]
fn every_call_after_close() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), &small()).unwrap();
    fill(&db);
    let value = db.get(&0u64.to_be_bytes()).unwrap().unwrap();
    let snapshot = db.snapshot().unwrap();
    let (mut scan, mut items) =
        (db.scan(&ScanOptions::new()).unwrap(), db.scan(&ScanOptions::new()).unwrap());
    scan.next_entry().unwrap();
    let clone = db.clone();
    db.close().unwrap();
    let before = contents(dir.path());
    let mut batch = WriteBatch::new();
    batch.put(b"k", b"v").unwrap();
    let sync = WriteOptions::new().durability(Durability::Sync);
    for db in [&db, &clone] {
        let errors = [
            db.put(b"k", b"v").unwrap_err(),
            db.put_with(b"k", b"v", &sync).unwrap_err(),
            db.delete(b"k").unwrap_err(),
            db.write(&batch).unwrap_err(),
            db.write(&large_batch()).unwrap_err(),
            db.write(&WriteBatch::new()).unwrap_err(),
            db.get(b"k").unwrap_err(),
            db.get_with(b"k", |_| ()).unwrap_err(),
            db.get_into(b"k", &mut []).unwrap_err(),
            db.contains(b"k").unwrap_err(),
            db.multi_get(&[b"k"]).unwrap_err(),
            db.scan(&ScanOptions::new()).unwrap_err(),
            db.snapshot().unwrap_err(),
            db.pop_first().unwrap_err(),
            db.pop_last().unwrap_err(),
            db.len().unwrap_err(),
            db.is_empty().unwrap_err(),
            db.sync().unwrap_err(),
            db.flush().unwrap_err(),
            db.compact(ALL, ALL).unwrap_err(),
        ];
        for (index, error) in errors.iter().enumerate() {
            assert_eq!(error.kind(), ErrorKind::Closed, "{index}: {error}");
        }
        db.close().unwrap();
        assert!(db.health().poisoned.is_none() && !db.is_read_only());
        assert_eq!(db.path(), dir.path());
        db.stats();
    }
    let errors = [
        snapshot.get(b"k").unwrap_err(),
        snapshot.get_with(b"k", |_| ()).unwrap_err(),
        snapshot.get_into(b"k", &mut []).unwrap_err(),
        snapshot.contains(b"k").unwrap_err(),
        snapshot.multi_get(&[b"k"]).unwrap_err(),
        snapshot.scan(&ScanOptions::new()).unwrap_err(),
        scan.next_entry().unwrap_err(),
        scan.prev_entry().unwrap_err(),
        scan.seek(b"k").unwrap_err(),
        scan.seek_to_start().unwrap_err(),
        scan.seek_to_end().unwrap_err(),
        items.next().unwrap().unwrap_err(),
    ];
    for (index, error) in errors.iter().enumerate() {
        assert_eq!(error.kind(), ErrorKind::Closed, "{index}: {error}");
    }
    assert!(items.next().is_none(), "an iterator ends after an error");
    drop((snapshot, scan, items));
    assert!(contents(dir.path()) == before, "a call after close has changed files");
    assert_eq!(value[..], crate::support::value_of(0, 1500)[..]);
    check_sample(&Db::open(dir.path(), &small()).unwrap());
}

#[test]
fn writes_to_a_database_that_is_opened_for_reading() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let before = contents(dir.path());
    let db = Db::open(dir.path(), &small().read_only(true)).unwrap();
    assert!(db.is_read_only());
    let mut batch = WriteBatch::new();
    batch.put(b"k", b"v").unwrap();
    let errors = [
        db.put(b"k", b"v").unwrap_err(),
        db.delete(b"k").unwrap_err(),
        db.write(&batch).unwrap_err(),
        db.write(&large_batch()).unwrap_err(),
        // Not "would stall": it never begins.
        db.write_with(&large_batch(), &WriteOptions::new().no_wait(true)).unwrap_err(),
        db.write(&WriteBatch::new()).unwrap_err(),
        db.pop_first().unwrap_err(),
        db.pop_last().unwrap_err(),
        db.flush().unwrap_err(),
        db.compact(ALL, ALL).unwrap_err(),
    ];
    for (index, error) in errors.iter().enumerate() {
        assert_eq!(error.kind(), ErrorKind::ReadOnly, "{index}: {error}");
    }
    check_sample(&db);
    db.sync().unwrap();
    assert_eq!(db.scan(&ScanOptions::new().reverse(true)).unwrap().count(), 50);
    drop(db.snapshot().unwrap());
    db.close().unwrap();
    assert!(contents(dir.path()) == before, "reading has changed files");
}

#[test]
fn what_would_wait_and_must_not() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), &small()).unwrap();
    fill(&db);
    let no_wait = WriteOptions::new().no_wait(true);
    let error = db.write_with(&large_batch(), &no_wait).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldStall, "{error}");
    check_sample(&db);
}

#[test]
fn a_compaction_that_is_told_to_stop_or_closes_the_database() {
    let dir = tempfile::tempdir().unwrap();
    // Nothing is merged for the sake of space before the test asks for it.
    let db = Db::open(dir.path(), &small().space_amplification_percent(1000)).unwrap();
    fill(&db);
    db.flush().unwrap();
    let runs = db.stats().runs;
    assert_eq!(runs, 2);
    let files = contents(dir.path());
    let error = db.compact_with(ALL, ALL, &mut |_| ControlFlow::Break(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    assert_eq!(db.stats().runs, runs);
    let left = contents(dir.path());
    assert!(left.keys().all(|path| files.contains_key(path)), "it leaves {:?}", left.keys());
    let mut closed = None;
    let mut close = |progress: toykv::Progress| {
        assert!(progress.done_bytes <= progress.total_bytes);
        closed = Some(db.close().unwrap_err().kind());
        ControlFlow::Continue(())
    };
    db.compact_with(ALL, ALL, &mut close).unwrap();
    assert_eq!(closed, Some(ErrorKind::Misuse));
    assert_eq!(db.stats().runs, 1);
    check_sample(&db);
}
