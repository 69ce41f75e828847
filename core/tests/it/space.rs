//! The promise about space, what `explain_space` says, and snapshots that become too old.

use std::ops::{Bound, ControlFlow};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use toykv::sim::{Intervention, SimDisk};
use toykv::{Db, Durability, ErrorKind, Options, Space};

use crate::support::{Random, value_of};

fn small() -> Options {
    Options::new()
        .memtable_size_bytes(256 << 10)
        .backlog_limit_bytes(4 << 20)
        .durability(Durability::Process)
}

/// What the files of a directory take on the device, and how many they are.
fn on_the_device(dir: &Path) -> (u64, u64) {
    // A file may go between the two looks.
    let files = std::fs::read_dir(dir).unwrap().filter_map(|entry| entry.unwrap().metadata().ok());
    files.fold((0, 0), |(bytes, count), file| (bytes + file.blocks() * 512, count + 1))
}

fn lines(space: &Space) -> u64 {
    [
        space.live_value_bytes,
        space.dead_value_bytes,
        space.value_overhead_bytes,
        space.log_bytes,
        space.preallocated_bytes,
        space.table_bytes,
        space.manifest_bytes,
        space.obsolete_bytes,
        space.unfinished_bytes,
        space.other_bytes,
    ]
    .iter()
    .sum()
}

/// Waits until background work has made something true.
fn until(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(120), "not within two minutes: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Overwrites keys at random with values of mixed lengths; answers the live bytes.
fn churn(db: &Db, keys: u64, writes: u64) -> u64 {
    let mut random = Random::new(5);
    let mut lens = vec![0u64; keys as usize];
    for mark in 0..writes {
        let key = if mark < keys { mark } else { random.below(keys) };
        let len = match random.below(4) {
            0 => 100,
            1 => 1500,
            2 => 5000,
            _ => 20_000,
        };
        db.put(&key.to_be_bytes(), &value_of(mark, len as usize)).unwrap();
        lens[key as usize] = len;
    }
    lens.iter().filter(|len| **len >= 1024).sum()
}

#[test]
fn space_comes_back_without_any_call() {
    for percent in [120, 150, 300] {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path(), &small().space_amplification_percent(percent)).unwrap();
        let live = churn(&db, 600, 8000);
        // Two segments of the log, one file and what hidden values may take beside the promise.
        let most = live * percent / 100 + 4 * (256 << 10);
        until("the value log keeps its promise", || {
            let space = db.explain_space().unwrap();
            space.total_bytes - space.table_bytes - space.manifest_bytes <= most
        });
        assert!(db.stats().collections > 0);
        db.audit().unwrap();
        db.close().unwrap();
        let db = Db::open(dir.path(), &small().space_amplification_percent(percent)).unwrap();
        db.audit().unwrap();
        db.gc().unwrap();
        let space = db.explain_space().unwrap();
        assert!(space.live_value_bytes < live + live / 50 + 600 * 40, "{space:?} {live}");
        assert!(space.dead_value_bytes < live / 10, "{space:?}");
        assert_eq!(space.hidden_value_bytes, 0);
    }
}

#[test]
fn the_lines_add_up_to_what_the_device_says() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), &small()).unwrap();
    let check = |what: &str| {
        // Background work may come between the two; then they are compared again.
        until(what, || {
            let before = on_the_device(dir.path());
            let space = db.explain_space().unwrap();
            assert_eq!(lines(&space), space.total_bytes, "{space:?}");
            before == on_the_device(dir.path())
                && space.total_bytes.abs_diff(before.0) <= before.1 * 4096
        });
    };
    check("empty");
    churn(&db, 100, 150);
    check("in the log");
    churn(&db, 300, 2000);
    check("after many flushes");
    let scan = db.scan(&toykv::ScanOptions::new()).unwrap();
    churn(&db, 300, 2000);
    db.gc().unwrap();
    check("with files that a scan holds");
    std::thread::sleep(Duration::from_millis(20));
    let space = db.explain_space().unwrap();
    assert!(space.obsolete_bytes > 1 << 20);
    assert_eq!(space.held_files.iter().map(|file| file.bytes).sum::<u64>(), space.obsolete_bytes);
    assert!(space.held_files.iter().any(|file| file.age_ms >= 20), "{space:?}");
    assert!(space.held_files.iter().any(|file| file.name.ends_with(".vlog")), "{space:?}");
    drop(scan);
    db.gc().unwrap();
    check("without");
    until("all are deleted", || {
        db.gc().unwrap();
        db.explain_space().unwrap().obsolete_bytes == 0
    });
}

#[test]
fn what_a_snapshot_holds_is_told_and_freed_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), &small()).unwrap();
    churn(&db, 200, 200);
    let snapshot = db.snapshot().unwrap();
    let again = db.snapshot().unwrap();
    for key in 0..200u64 {
        db.put(&key.to_be_bytes(), &value_of(key, 3000)).unwrap();
    }
    db.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
    let space = db.explain_space().unwrap();
    let [held] = &space.snapshots[..] else { panic!("{space:?}") };
    assert_eq!((held.seqno, held.count), (200, 2));
    let live = space.live_value_bytes;
    assert!(held.held_bytes > 1 << 20 && held.held_bytes < live, "{space:?}");
    drop((snapshot, again));
    until("what the snapshots held is found dead", || {
        db.explain_space().unwrap().live_value_bytes < 200 * 3100
    });
    assert_eq!(db.explain_space().unwrap().snapshots, []);
    db.audit().unwrap();
}

#[test]
fn what_a_snapshot_has_shown_is_no_error_when_its_age_is_reached_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), &small().snapshot_max_age_ms(20)).unwrap();
    db.put(b"key", b"value").unwrap();
    until("a snapshot is read before it is too old", || {
        let snapshot = db.snapshot().unwrap();
        let mut is_shown = false;
        let answer = snapshot.get_with(b"key", |value| {
            is_shown = true;
            std::thread::sleep(Duration::from_millis(40));
            value.len()
        });
        match is_shown {
            true => assert_eq!(answer.unwrap(), Some(5)),
            false => assert_eq!(answer.unwrap_err().kind(), ErrorKind::SnapshotExpired),
        }
        for key in [&b"key"[..], b"none"] {
            let answer = snapshot.get_with(key, |_| is_shown = false);
            assert_eq!(answer.unwrap_err().kind(), ErrorKind::SnapshotExpired);
        }
        is_shown
    });
}

#[test]
fn a_snapshot_that_is_too_old_is_refused_and_its_space_freed() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), &small().snapshot_max_age_ms(1)).unwrap();
    churn(&db, 200, 200);
    let snapshot = db.snapshot().unwrap();
    for key in 0..200u64 {
        db.put(&key.to_be_bytes(), &value_of(key, 3000)).unwrap();
    }
    until("the snapshot is too old", || match snapshot.get(&7u64.to_be_bytes()) {
        Ok(value) => {
            assert!(value.is_some());
            false
        }
        Err(error) => error.kind() == ErrorKind::SnapshotExpired,
    });
    let scan = snapshot.scan(&toykv::ScanOptions::new());
    assert_eq!(scan.map(drop).unwrap_err().kind(), ErrorKind::SnapshotExpired);
    let contains = snapshot.contains(b"");
    assert_eq!(contains.unwrap_err().kind(), ErrorKind::SnapshotExpired);
    db.flush().unwrap();
    // Something may stay hidden, but of the old values, more than a MiB, not much is left.
    until("its space is freed", || db.explain_space().unwrap().live_value_bytes < 200 * 4000);
    assert_eq!(db.snapshot().unwrap().seqno(), 400);
}

#[test]
fn a_collection_that_is_stopped_leaves_everything_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), &small().space_amplification_percent(1000)).unwrap();
    churn(&db, 200, 2000);
    db.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
    let files = on_the_device(dir.path());
    let mut told = Vec::new();
    let stopped = db.gc_with(&mut |progress| {
        told.push((progress.done_bytes, progress.total_bytes));
        ControlFlow::Break(())
    });
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(told.len(), 1);
    assert!(told[0].0 == 0 && told[0].1 > 1 << 20, "{told:?}");
    // What readers had held before may be gone by now; nothing is new.
    let left = on_the_device(dir.path());
    assert!(left.0 <= files.0 && left.1 <= files.1, "{left:?} {files:?}");
    assert_eq!(db.stats().collections, 0);
    db.gc().unwrap();
    assert!(on_the_device(dir.path()).0 < files.0);
    db.audit().unwrap();
}

/// Writes 3 000 values of 4 KiB `times` times; answers their bytes.
fn write_pages(db: &Db, times: u64) -> u64 {
    for mark in 0..3_000 * times {
        db.put(&(mark % 3_000).to_be_bytes(), &value_of(mark, 4096)).unwrap();
    }
    3_000 * 4096
}

#[test]
fn a_small_set_rests_within_the_promise_too() {
    for durability in [Durability::Process, Durability::Interval] {
        let dir = tempfile::tempdir().unwrap();
        let _soon = Intervention::limit(dir.path(), "rest after ms", 50);
        let options = Options::new().memtable_size_bytes(16 << 20).durability(durability);
        let db = Db::open(dir.path(), &options).unwrap();
        let live = write_pages(&db, 3);
        until("the whole directory keeps the promise", || {
            on_the_device(dir.path()).0 <= live * 3 / 2 + (2 << 20)
        });
        for key in (0..3_000u64).step_by(7) {
            let value = db.get(&key.to_be_bytes()).unwrap();
            assert!(value.as_deref() == Some(&value_of(6_000 + key, 4096)[..]));
        }
        // It is awake again: segments grow, and shrink.
        write_pages(&db, 2);
        assert!(db.explain_space().unwrap().log_bytes > 0);
        until("it rests again", || on_the_device(dir.path()).0 <= live * 3 / 2 + (2 << 20));
        db.audit().unwrap();
    }
}

#[test]
fn a_database_with_little_in_it_keeps_no_large_log() {
    for durability in [Durability::Process, Durability::Sync] {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new().memtable_size_bytes(16 << 20).durability(durability);
        let db = Db::open(dir.path(), &options).unwrap();
        let mut batch = toykv::WriteBatch::new();
        for key in 0..200_000u64 {
            batch.put(&key.to_be_bytes(), &value_of(key, 100)).unwrap();
            if batch.len() == 1000 {
                db.write(&batch).unwrap();
                batch.clear();
            }
        }
        let most = 200_000 * 125 + (3 << 20);
        // A file that another thread still holds goes with a later call.
        until("a compaction leaves a small log", || {
            db.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
            on_the_device(dir.path()).0 <= most
        });
        db.put(b"one more", b"value").unwrap();
        db.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
        for key in 0..70_000u64 {
            batch.put(&key.to_be_bytes(), &value_of(key + 1, 100)).unwrap();
        }
        db.write(&batch).unwrap();
        db.close().unwrap();
        let after = on_the_device(dir.path()).0;
        let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name(), entry.metadata().unwrap().len())
        });
        let names: Vec<_> = names.collect();
        assert!(after <= most + 70_000 * 125, "{after} after closing: {names:?}");
        let db = Db::open(dir.path(), &options).unwrap();
        assert_eq!(db.len().unwrap(), 200_001);
        assert_eq!(db.get(b"one more").unwrap().as_deref(), Some(&b"value"[..]));
    }
}

#[test]
fn a_collection_within_the_progress_of_another_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), &small().space_amplification_percent(1000)).unwrap();
    churn(&db, 200, 2000);
    db.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
    let mut heard = Vec::new();
    db.gc_with(&mut |_| {
        heard.extend(db.gc().err().map(|error| error.kind()));
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(heard.contains(&ErrorKind::Misuse), "{heard:?}");
    assert!(heard.iter().all(|kind| *kind == ErrorKind::Misuse), "{heard:?}");
    db.gc().unwrap();
    db.audit().unwrap();
}

/// A database on a simulated disk with 1 600 values of 4 KiB, of which every second is dead, in
/// files of a MiB; closed, so that nobody works on it.
fn half_dead(disk: &SimDisk) {
    let db = disk.open_db("/db", &lazy(1 << 20)).unwrap();
    for key in 0..1_600u64 {
        db.put(&key.to_be_bytes(), &value_of(key, 4096)).unwrap();
    }
    for key in (0..1_600u64).step_by(2) {
        db.delete(&key.to_be_bytes()).unwrap();
    }
    db.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
    db.close().unwrap();
}

/// Nothing is collected unless it is asked for.
fn lazy(memtable_size_bytes: u64) -> Options {
    Options::new()
        .memtable_size_bytes(memtable_size_bytes)
        .space_amplification_percent(1000)
        .durability(Durability::Process)
}

fn used(disk: &SimDisk) -> u64 {
    disk.files().iter().map(|(_, size)| size).sum()
}

#[test]
fn a_collection_goes_on_in_smaller_steps_where_little_room_is_left() {
    let disk = SimDisk::new();
    half_dead(&disk);
    let db = disk.open_db("/db", &lazy(1 << 20)).unwrap();
    let before = used(&disk);
    assert!(before > 6 << 20, "{before}");
    // Room for a file with half of what one holds, not for a full one.
    disk.set_capacity(Some(before + (700 << 10)));
    // Files that a thread still holds for a moment go with the next call.
    until("the dead values are gone", || {
        if let Err(error) = db.gc() {
            assert_eq!(error.kind(), ErrorKind::DiskFull, "{error}");
        }
        used(&disk) < before - (2 << 20)
    });
    db.audit().unwrap();
    for key in (1..1_600u64).step_by(2) {
        let value = db.get(&key.to_be_bytes()).unwrap();
        assert!(value.as_deref() == Some(&value_of(key, 4096)[..]));
    }
}

#[test]
fn one_damaged_record_spares_its_file_and_no_other() {
    let disk = SimDisk::new();
    half_dead(&disk);
    let wanted = value_of(801, 4096);
    let mut damaged = Vec::new();
    for (path, _) in disk.files() {
        let bytes = disk.read_file(&path).unwrap();
        if let Some(at) = bytes.windows(4096).position(|part| *part == *wanted) {
            disk.overwrite(&path, at as u64 + 7, &[!bytes[at + 7]]).unwrap();
            damaged.push(path);
        }
    }
    let [damaged] = &damaged[..] else { panic!("{damaged:?}") };
    let before = used(&disk);
    let db = disk.open_db("/db", &lazy(4 << 20)).unwrap();
    let error = db.gc().unwrap_err();
    assert_eq!((error.kind(), error.path()), (ErrorKind::Corruption, Some(&**damaged)));
    until("the dead values of the other files are gone", || {
        db.gc().unwrap();
        used(&disk) < before - (2 << 20)
    });
    assert!(disk.read_file(damaged).is_ok(), "what is damaged is still there");
    assert!(db.get(&801u64.to_be_bytes()).is_err());
    for key in (1..1_600u64).step_by(2).filter(|key| *key != 801) {
        let value = db.get(&key.to_be_bytes()).unwrap();
        assert!(value.as_deref() == Some(&value_of(key, 4096)[..]), "{key}");
    }
}
