//! The API on a real directory.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::panic::AssertUnwindSafe;

use toykv::sim::SimDisk;
use toykv::{Db, ErrorKind, Options, ScanOptions, WriteBatch, WriteOptions};

fn small() -> Options {
    Options::new().memtable_size_bytes(256 << 10).backlog_limit_bytes(1 << 20)
}

fn key(i: u64) -> Vec<u8> {
    format!("key{:08}", i.wrapping_mul(7919) % 100_003).into_bytes()
}

fn value(i: u64) -> Vec<u8> {
    vec![i as u8; (i * 37 % 300) as usize + if i.is_multiple_of(50) { 3000 } else { 0 }]
}

#[test]
fn what_is_put_is_found_through_flush_compaction_and_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let db = Db::open(&path, &small()).unwrap();
    let count = 20_000u64;
    for i in 0..count {
        db.put(&key(i), &value(i)).unwrap();
        if i % 3 == 0 {
            db.delete(&key(i)).unwrap();
        }
    }
    let check = |db: &Db, when: &str| {
        for i in 0..count {
            let found = db.get(&key(i)).unwrap();
            let expected = (i % 3 != 0).then(|| value(i));
            assert_eq!(found.as_deref(), expected.as_deref(), "{when} {i}");
        }
        let live = (0..count).filter(|i| i % 3 != 0).count() as u64;
        assert_eq!(db.len().unwrap(), live, "{when}");
        let forward: Vec<_> = db.scan(&ScanOptions::new()).unwrap().map(|e| e.unwrap()).collect();
        assert_eq!(forward.len() as u64, live, "{when}");
        assert!(forward.is_sorted());
        let mut backward: Vec<_> =
            db.scan(&ScanOptions::new().reverse(true)).unwrap().map(|e| e.unwrap()).collect();
        backward.reverse();
        assert_eq!(forward, backward, "{when}");
    };
    check(&db, "written");
    db.flush().unwrap();
    check(&db, "flushed");
    db.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
    check(&db, "compacted");
    let (runs, stats) = (db.runs(), db.stats());
    assert_eq!((runs.len(), stats.runs), (1, 1));
    assert_eq!((runs[0].tables, runs[0].bytes), (stats.tables, stats.table_bytes));
    assert_eq!(runs[0].entries, count - count.div_ceil(3));
    db.close().unwrap();
    let db = Db::open(&path, &small()).unwrap();
    check(&db, "reopened");
    for i in 0..100 {
        db.put(&key(i), b"again").unwrap();
    }
    drop(db);
    let db = Db::open(&path, &Options::new().read_only(true)).unwrap();
    assert_eq!(db.get(&key(3)).unwrap().as_deref(), Some(&b"again"[..]));
    drop(db);
    let db = Db::open(&path, &Options::new()).unwrap();
    assert_eq!(db.get(&key(3)).unwrap().as_deref(), Some(&b"again"[..]));
}

#[test]
fn batches_larger_than_a_segment_are_atomic_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), &small()).unwrap();
    db.put(&key(1), b"before").unwrap();
    let snapshot = db.snapshot().unwrap();
    let mut batch = WriteBatch::new();
    for i in 0..20_000 {
        batch.put(&key(i), b"value of the batch").unwrap();
    }
    batch.delete(&key(2)).unwrap();
    let seqno = db.write(&batch).unwrap();
    assert_eq!(seqno, 1 + 20_001);
    db.put(&key(3), b"after").unwrap();
    assert_eq!(db.len().unwrap(), 19_999);
    assert_eq!(snapshot.get(&key(1)).unwrap().as_deref(), Some(&b"before"[..]));
    assert_eq!(snapshot.get(&key(5)).unwrap().as_deref(), None);
    drop(snapshot);
    db.close().unwrap();
    let db = Db::open(dir.path(), &small()).unwrap();
    assert_eq!(db.len().unwrap(), 19_999);
    assert_eq!(db.get(&key(3)).unwrap().as_deref(), Some(&b"after"[..]));
    assert_eq!(db.get(&key(2)).unwrap().as_deref(), None);
    assert_eq!(db.get(&key(9)).unwrap().as_deref(), Some(&b"value of the batch"[..]));
}

#[test]
fn a_large_batch_of_short_values_in_order_goes_past_the_log_and_no_other_does() {
    let wait = WriteOptions::new();
    let no_wait = WriteOptions::new().no_wait(true);
    let cases = [
        (true, 100, &wait, true),
        (false, 100, &wait, false),
        (true, 2_000, &wait, false),
        (true, 100, &no_wait, false),
        (true, 20, &wait, false),
    ];
    for (in_order, value_len, options, past_the_log) in cases {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path(), &Options::new().memtable_size_bytes(1 << 20)).unwrap();
        db.put(b"older", b"value").unwrap();
        let count = 350_000 / value_len.max(150) as u64;
        let mut batch = WriteBatch::new();
        for number in 0..count {
            let number = if in_order { number } else { count - 1 - number };
            batch.put(&number.to_be_bytes(), &vec![number as u8; value_len]).unwrap();
        }
        let before = db.stats().log_bytes_written;
        assert_eq!(db.write_with(&batch, options).unwrap(), 1 + count);
        let logged = db.stats().log_bytes_written - before;
        assert_eq!(logged < 10_000, past_the_log, "{in_order} {value_len} {options:?}: {logged}");
        db.put(b"newer", b"value").unwrap();
        db.close().unwrap();
        let db = Db::open(dir.path(), &Options::new()).unwrap();
        assert_eq!(db.len().unwrap(), count + 2);
        for number in [0, count / 2, count - 1] {
            let value = db.get(&number.to_be_bytes()).unwrap();
            assert_eq!(value.as_deref(), Some(&vec![number as u8; value_len][..]));
        }
    }
}

#[test]
fn what_is_flushed_leaves_no_file_behind() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), &small()).unwrap();
    // At any one time a thread in the background may still look at a file.
    let clean = (0..20).any(|i| {
        db.put(&key(i), b"small").unwrap();
        db.flush().unwrap();
        let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let segments = names.filter(|path| path.extension().is_some_and(|end| end == "vlog"));
        segments.count() == db.stats().segments
    });
    assert!(clean);
}

#[test]
fn popping_from_both_ends_empties_the_database_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), &small()).unwrap();
    for i in 0..5000 {
        db.put(&key(i), &value(i)).unwrap();
    }
    let mut keys: Vec<_> = (0..5000).map(key).collect();
    keys.sort();
    let sync = WriteOptions::new();
    for (i, pair) in keys.chunks(2).enumerate() {
        if i == 700 {
            db.put(b"a", b"").unwrap();
            db.put(b"z", b"").unwrap();
            assert_eq!(db.pop_first().unwrap().unwrap().0, b"a");
            assert_eq!(db.pop_last().unwrap().unwrap().0, b"z");
            db.flush().unwrap();
        }
        assert_eq!(db.pop_first_with(&sync).unwrap().unwrap().0, pair[0]);
        assert_eq!(db.pop_first().unwrap().unwrap().0, pair[1]);
    }
    assert_eq!(db.pop_first().unwrap(), None);
    assert_eq!(db.pop_last().unwrap(), None);
    assert!(db.is_empty().unwrap());
}

#[test]
fn pops_see_what_was_put_and_deleted_before_keys_that_were_looked_up_already() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), &small()).unwrap();
    let put = |key: &str| assert!(db.put(key.as_bytes(), key.as_bytes()).unwrap() > 0);
    let pop = |first: bool| {
        let (key, value) = if first { db.pop_first() } else { db.pop_last() }.unwrap()?;
        assert_eq!(key, &value[..]);
        Some(String::from_utf8(key).unwrap())
    };
    let popped = |first: bool, count| (0..count).filter_map(|_| pop(first)).collect::<Vec<_>>();
    (100..200).for_each(|number| put(&number.to_string()));
    assert_eq!(popped(true, 5), ["100", "101", "102", "103", "104"]);
    db.delete(b"105").unwrap();
    put("1065");
    put("107");
    assert_eq!(popped(true, 4), ["106", "1065", "107", "108"]);
    put("0");
    assert_eq!(popped(true, 2), ["0", "109"]);
    assert_eq!(popped(false, 5), ["199", "198", "197", "196", "195"]);
    db.delete(b"194").unwrap();
    put("1935");
    put("300");
    db.flush().unwrap();
    assert_eq!(popped(false, 4), ["300", "1935", "193", "192"]);
    for number in 111..191 {
        db.delete(number.to_string().as_bytes()).unwrap();
    }
    assert_eq!(popped(true, 3), ["110", "191"]);
    put("7");
    assert_eq!(popped(false, 2), ["7"]);
}

#[test]
fn a_batch_that_two_threads_build_is_there_whole_and_its_last_entries_win() {
    const COUNT: u64 = 9_000;
    for in_order in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path(), &small()).unwrap();
        let user_key = |number: u64| match in_order {
            true => number.to_be_bytes().to_vec(),
            false => key(number),
        };
        let value = |number: u64, round: u64| [number, round].map(u64::to_be_bytes).concat();
        let mut batch = WriteBatch::new();
        for number in 0..COUNT {
            batch.put(&user_key(number), &value(number, 0).repeat(256)).unwrap();
        }
        if !in_order {
            (0..COUNT).step_by(3).for_each(|n| batch.put(&user_key(n), &value(n, 1)).unwrap());
            (0..COUNT).step_by(7).for_each(|n| batch.delete(&user_key(n)).unwrap());
        }
        let last = db.write(&batch).unwrap();
        assert_eq!(last, batch.len() as u64);
        let expected: BTreeMap<Vec<u8>, Vec<u8>> = (0..COUNT)
            .filter(|number| in_order || number % 7 != 0)
            .map(|number| match in_order || number % 3 != 0 {
                true => (user_key(number), value(number, 0).repeat(256)),
                false => (user_key(number), value(number, 1)),
            })
            .collect();
        let found: BTreeMap<_, _> =
            db.scan(&ScanOptions::new()).unwrap().map(Result::unwrap).collect();
        assert!(found == expected);
        assert_eq!(db.len().unwrap(), expected.len() as u64);
        for (key, value) in expected.iter().step_by(50) {
            assert_eq!(db.get(key).unwrap().as_deref(), Some(&value[..]));
        }
    }
}

#[test]
fn what_is_appended_to_a_batch_comes_after_it() {
    let (mut first, mut second) = (WriteBatch::new(), WriteBatch::new());
    first.put(b"a", b"1").unwrap();
    first.put(b"b", b"1").unwrap();
    second.delete(b"a").unwrap();
    second.put(b"b", b"2").unwrap();
    let before = first.size_bytes();
    first.append(&second).unwrap();
    assert_eq!((first.len(), second.len()), (4, 2));
    assert_eq!(first.size_bytes(), before + second.size_bytes());
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), &small()).unwrap();
    db.write(&first).unwrap();
    assert_eq!(db.get(b"a").unwrap().as_deref(), None);
    assert_eq!(db.get(b"b").unwrap().as_deref(), Some(&b"2"[..]));
}

#[test]
fn the_progress_callback_of_a_compaction_may_use_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path().join("db"), &small()).unwrap();
    let mut calls = 0;
    // The background may have merged everything before the call, which then has nothing to do.
    for round in 0..100 {
        for i in 0..5_000 {
            db.put(&key(i), &value(i + round)).unwrap();
        }
        db.flush().unwrap();
        let mut progress = |_| {
            calls += 1;
            assert_eq!(db.snapshot().unwrap().seqno(), db.stats().seqno);
            db.put(b"from the callback", &[calls]).unwrap();
            ControlFlow::Continue(())
        };
        db.compact_with(Bound::Unbounded, Bound::Unbounded, &mut progress).unwrap();
        if calls > 0 {
            break;
        }
    }
    assert!(calls > 0);
    assert_eq!(db.get(b"from the callback").unwrap().as_deref(), Some(&[calls][..]));
}

/// What waits for itself would wait for ever, so a thread asks for it that may be left behind.
#[test]
fn compacting_from_the_progress_of_a_compaction_is_refused() {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let db = SimDisk::new().open_db("/db", &small()).unwrap();
        let mut refused = Vec::new();
        for round in 0..100 {
            for i in 0..5_000 {
                db.put(&key(i), &value(i + round)).unwrap();
            }
            db.flush().unwrap();
            let mut progress = |_| {
                let all = || db.compact(Bound::Unbounded, Bound::Unbounded);
                let errors = [all(), db.gc()].map(Result::unwrap_err);
                refused.push(errors.map(|error| error.kind()));
                ControlFlow::Continue(())
            };
            db.compact_with(Bound::Unbounded, Bound::Unbounded, &mut progress).unwrap();
            if !refused.is_empty() {
                break;
            }
        }
        // And afterwards as ever.
        db.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
        tell.send(refused).unwrap();
    });
    let refused =
        told.recv_timeout(std::time::Duration::from_secs(300)).expect("it waits for itself");
    assert!(!refused.is_empty());
    assert!(refused.iter().flatten().all(|kind| *kind == ErrorKind::Misuse), "{refused:?}");
}

#[test]
fn who_is_shown_a_value_may_use_the_database_and_panic() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), &small()).unwrap();
    let old = vec![7; 3000];
    for is_flushed in [false, true] {
        db.put(b"a", &old).unwrap();
        if is_flushed {
            db.flush().unwrap();
        }
        let shown = db.get_with(b"a", |shown| {
            db.put(b"a", b"new").unwrap();
            db.flush().unwrap();
            db.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
            let inner = db.get_with(b"a", <[u8]>::to_vec).unwrap();
            (shown.to_vec(), inner.unwrap())
        });
        assert!(shown.unwrap() == Some((old.clone(), b"new".to_vec())), "{is_flushed}");
        let panics = |_: &[u8]| -> usize { panic!("the caller's own") };
        let snapshot = db.snapshot().unwrap();
        for of_snapshot in [false, true] {
            let caught = std::panic::catch_unwind(AssertUnwindSafe(|| match of_snapshot {
                true => snapshot.get_with(b"a", panics),
                false => db.get_with(b"a", panics),
            }));
            let message = caught.unwrap_err().downcast_ref::<&str>().copied();
            assert_eq!(message, Some("the caller's own"));
        }
        assert!(db.health().poisoned.is_none());
    }
    db.put(b"a", &old).unwrap();
    db.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
    let shown = db.get_with(b"a", |shown| {
        db.close().unwrap();
        shown.to_vec()
    });
    assert!(shown.unwrap() == Some(old.clone()));
    assert_eq!(db.get_with(b"a", |_| ()).unwrap_err().kind(), ErrorKind::Closed);
    let db = Db::open(dir.path(), &small()).unwrap();
    assert!(db.get(b"a").unwrap().as_deref() == Some(&old[..]));
}
