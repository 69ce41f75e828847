//! Writers that wait: nobody for ever, each counted, and none that asked not to.

use std::ops::Bound;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use toykv::sim::{CrashPolicy, Fault, Intervention, OpKind, Operation, SimDisk};
use toykv::{Db, Durability, Error, ErrorKind, Options, WriteOptions};

use crate::support::value_of;

fn small() -> Options {
    Options::new()
        .memtable_size_bytes(64 << 10)
        .backlog_limit_bytes(256 << 10)
        .durability(Durability::Process)
}

fn no_wait() -> WriteOptions {
    WriteOptions::new().no_wait(true)
}

/// Writes until that fails.
fn fill(db: &Db, options: &WriteOptions) -> Error {
    let put = |i: u64| db.put_with(&i.to_be_bytes(), &value_of(i, 500), options).err();
    (0..).find_map(put).unwrap()
}

/// What comes, or a panic where nothing ever does.
fn soon<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(Duration::from_secs(60)).expect("waits for ever")
}

/// Holds the flush thread back until the sender is dropped.
fn hold_flush(path: &Path) -> (Intervention, Sender<()>) {
    let (release, released) = channel::<()>();
    let hold = Intervention::at(path, "flush: begins", move || {
        let _ = released.recv();
    });
    (hold, release)
}

#[test]
fn who_waits_hears_that_the_log_is_poisoned() {
    let path = Path::new("/poisoned while a writer waits");
    let disk = SimDisk::new();
    let db = disk.open_db(path, &small()).unwrap();
    let (_hold, release) = hold_flush(path);
    let (waits, waiting) = channel();
    let _waits = Intervention::at(path, "stall: waits", move || waits.send(()).unwrap());
    let (ended, end) = channel();
    let other = db.clone();
    std::thread::spawn(move || ended.send(fill(&other, &WriteOptions::new())));
    soon(&waiting);
    disk.fail(Fault::when(|_| true).on(OpKind::Sync));
    assert_eq!(db.sync().unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(soon(&end).kind(), ErrorKind::Poisoned);
    drop(release);
}

#[test]
fn who_waits_for_the_sync_of_another_hears_of_its_end() {
    let path = Path::new("/waits for a sync");
    let db = SimDisk::new().open_db(path, &small()).unwrap();
    let sync = WriteOptions::new().durability(Durability::Sync);
    let (ended, end) = channel();
    let (other, how) = (db.clone(), sync);
    let step = Intervention::at(path, "sync: done", move || {
        let late = other.clone();
        std::thread::spawn(move || ended.send(late.put_with(b"late", b"", &how)));
        while !other.contains(b"late").unwrap() {
            std::thread::yield_now();
        }
        // It begins to wait; where that takes longer the test notices less.
        std::thread::sleep(Duration::from_millis(100));
    });
    db.put_with(b"early", b"", &sync).unwrap();
    assert_eq!(step.met(), 1);
    soon(&end).unwrap();
}

#[test]
fn without_threads_nobody_waits_for_them() {
    let path = Path::new("/no threads");
    let disk = SimDisk::new();
    let options = small().durability(Durability::Interval).sync_interval_ms(3_600_000);
    let db = disk.open_db(path, &options).unwrap();
    let _none = Intervention::mistake(path, "no threads");
    // No thread would sync it later.
    db.put(b"first", b"1").unwrap();
    let image = disk.crash_image(&CrashPolicy::DROP_ALL, 1);
    assert!(image.open_db(path, &options).unwrap().contains(b"first").unwrap());
    let (ended, end) = channel();
    let other = db.clone();
    std::thread::spawn(move || ended.send(fill(&other, &WriteOptions::new())));
    let error = soon(&end);
    assert!(error.to_string().contains("cannot start thread"), "{error}");
    db.flush().unwrap();
    db.put(b"k", b"").unwrap();
}

#[test]
fn a_stall_is_bounded_and_counted() {
    let path = Path::new("/stall limit");
    let disk = SimDisk::new();
    let db = disk.open_db(path, &small().stall_limit_ms(20)).unwrap();
    let (_hold, release) = hold_flush(path);
    let error = fill(&db, &WriteOptions::new());
    assert_eq!(error.kind(), ErrorKind::WouldStall, "{error}");
    let stats = db.stats();
    assert!(stats.stalled_backlog_us >= 10_000, "{stats:?}");
    assert!(db.health().stalled_us >= stats.stalled_backlog_us);
    assert_eq!(fill(&db, &no_wait()).kind(), ErrorKind::WouldStall);
    drop(release);
    while db.stats().memtables > 1 {
        std::thread::yield_now();
    }
    db.put_with(b"again", b"", &no_wait()).unwrap();
}

#[test]
fn a_pop_is_slowed_as_every_write() {
    let path = Path::new("/pop stalls");
    let disk = SimDisk::new();
    let db = disk.open_db(path, &small().stall_limit_ms(20)).unwrap();
    let (_hold, release) = hold_flush(path);
    fill(&db, &WriteOptions::new());
    let before = db.stats().stalled_backlog_us;
    assert_eq!(db.pop_first().unwrap_err().kind(), ErrorKind::WouldStall);
    assert_eq!(db.pop_last_with(&no_wait()).unwrap_err().kind(), ErrorKind::WouldStall);
    assert!(db.stats().stalled_backlog_us > before);
    drop(release);
}

/// A writer that owes time and must not wait is let in again when time has passed.
#[test]
fn what_is_owed_is_paid_by_time() {
    let path = Path::new("/pays by time");
    let disk = SimDisk::new();
    let db = disk.open_db(path, &small()).unwrap();
    let (_hold, release) = hold_flush(path);
    let mut refused = 0;
    for i in 0..3000u64 {
        match db.put_with(&(i % 10).to_be_bytes(), &value_of(i, 50), &no_wait()) {
            Ok(_) if refused > 0 => break,
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldStall);
                refused += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
    assert!(refused > 0 && refused < 2000, "{refused}");
    drop(release);
}

/// However much it owes itself, a write that must not wait happens when nothing is owed before it.
#[test]
fn a_long_write_that_must_not_wait_is_let_in_when_all_is_paid() {
    let path = Path::new("/pays afterwards");
    let options = small().memtable_size_bytes(1 << 20).backlog_limit_bytes(4 << 20);
    let db = SimDisk::new().open_db(path, &options).unwrap();
    let (_hold, release) = hold_flush(path);
    let value = value_of(1, 10_000);
    // Three of them wait for their flush: 32 us are owed for each KiB.
    let put = |i: u64| db.put(&i.to_be_bytes(), &value).map(drop).unwrap();
    (0..).map(put).find(|()| db.stats().memtables >= 4).unwrap();
    let long = vec![1; 100_000];
    let tries = (0..1000).take_while(|_| {
        std::thread::sleep(Duration::from_millis(1));
        let answer = db.put_with(b"long", &long, &no_wait());
        answer.is_err_and(|error| error.kind() == ErrorKind::WouldStall)
    });
    assert!(tries.count() < 1000, "never let in");
    drop(release);
}

#[test]
fn no_wait_does_not_wait_for_a_segment() {
    let path = Path::new("/no wait for a segment");
    let disk = SimDisk::new();
    let db = disk.open_db(path, &small()).unwrap();
    let (prepare, prepared) = channel::<()>();
    let _prepare = Intervention::at(path, "log: prepares a segment", move || {
        let _ = prepared.recv();
    });
    let error = fill(&db, &no_wait());
    assert_eq!(error.kind(), ErrorKind::WouldStall, "{error}");
    // Somebody else waits for it, with the writer's lock.
    let other = db.clone();
    let (told, tell) = channel();
    let _waits = Intervention::at(path, "rotate: waits for a segment", move || {
        let asks = std::thread::spawn(move || other.put_with(b"k", b"", &no_wait()));
        told.send(asks.join().unwrap()).unwrap();
        drop(prepare);
    });
    db.put(b"k", &value_of(1, 500)).unwrap();
    assert_eq!(soon(&tell).unwrap_err().kind(), ErrorKind::WouldStall);
    db.put_with(b"k", &value_of(2, 500), &no_wait()).unwrap();
    assert!(db.stats().stalled_segment_us > 0);
}

#[test]
fn a_thread_that_panics_tries_again() {
    let path = Path::new("/panics");
    let disk = SimDisk::new();
    let db = disk.open_db(path, &small()).unwrap();
    let places = ["flush: begins", "log: prepares a segment"];
    let panics = places.map(|place| Intervention::at(path, place, || panic!("on purpose")));
    let mut count = 0u64;
    while panics.iter().any(|panic| panic.met() == 0) {
        match db.put(&count.to_be_bytes(), &value_of(count, 500)) {
            Ok(_) => count += 1,
            // At the limit of the backlog writers hear why it does not shrink.
            Err(error) => assert!(error.to_string().contains("on purpose"), "{error}"),
        }
    }
    while db.stats().memtables > 1 {
        if let Some(error) = db.health().background_error {
            assert!(error.to_string().contains("on purpose"), "{error}");
        }
        std::thread::yield_now();
    }
    db.close().unwrap();
    assert_eq!(disk.open_db(path, &small()).unwrap().len().unwrap(), count);
}

#[test]
fn what_succeeds_again_is_no_longer_told() {
    let path = Path::new("/told once");
    let disk = SimDisk::new();
    let db = disk.open_db(path, &small()).unwrap();
    let failing = disk.clone();
    let _prepare = Intervention::at(path, "log: prepares a segment", move || {
        failing.fail(Fault::when(|_| true).on(OpKind::Create));
    });
    let mut put = (0..).map(|i: u64| db.put(&i.to_be_bytes(), &value_of(i, 500)).unwrap());
    while disk.faults_struck() == 0 {
        put.next();
    }
    put.nth(300);
    let error = db.health().background_error;
    assert!(error.is_none(), "{error:?}");
}

#[test]
fn segments_that_are_flushed_early_do_not_grow() {
    let disk = SimDisk::new();
    let db = disk.open_db("/db", &Options::new()).unwrap();
    for i in 0..8u8 {
        db.put(&[i], b"").unwrap();
        db.flush().unwrap();
    }
    assert_eq!(db.stats().segment_bytes, 1 << 20);
}

#[test]
fn an_open_that_has_committed_succeeds() {
    let disk = SimDisk::new();
    disk.open_db("/db", &small()).unwrap().put(b"k", b"v").unwrap();
    let orphan = |operation: &Operation<'_>| operation.kind == OpKind::RemoveFile;
    let image = disk.process_image();
    image.fail(Fault::when(orphan).forever());
    let db = image.open_db("/db", &small()).unwrap();
    assert!(image.faults_struck() > 0);
    assert_eq!(db.get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
}

#[test]
fn nothing_is_compacted_in_a_poisoned_database() {
    let disk = SimDisk::new();
    let db = disk.open_db("/db", &small()).unwrap();
    for i in 0..2u8 {
        db.put(b"k", &[i]).unwrap();
        db.flush().unwrap();
    }
    disk.fail(Fault::when(|_| true).on(OpKind::Sync));
    db.put(b"k", b"3").unwrap();
    db.sync().unwrap_err();
    let before = disk.change_count();
    let whole = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    assert_eq!(db.compact(whole.0, whole.1).unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(disk.change_count(), before);
}

#[test]
fn writers_are_slowed_while_dead_values_wait_for_a_collection_that_lags() {
    let path = Path::new("/collection lags");
    let options = small().memtable_size_bytes(256 << 10).backlog_limit_bytes(1 << 20);
    let db = SimDisk::new().open_db(path, &options).unwrap();
    let (release, released) = channel::<()>();
    let hold = Intervention::at(path, "collection: chosen", move || {
        let _ = released.recv();
    });
    let slowed = |db: &Db| db.stats().stalled_space_us > 0;
    let put = |i: u64| {
        // Each segment keeps some values, so none goes without a collection.
        let key = if i.is_multiple_of(12) { 1000 + i } else { i % 64 };
        db.put(&key.to_be_bytes(), &value_of(i, 4000)).unwrap();
    };
    let count = (0..4000).position(|i| {
        put(i);
        // Merges find what is dead; on a busy machine those of the background come late. There
        // a put of 4 kB takes longer than what it owes; one of 120 kB owes more than the
        // millisecond from which on a writer waits.
        if i % 256 == 255 {
            db.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
            db.put(b"large", &value_of(i, 120_000)).unwrap();
        }
        slowed(&db)
    });
    // Two memtables of dead values are no trouble, whatever is live.
    assert!(count.is_some_and(|count| count > 128), "{count:?}");
    let deadline = Instant::now() + Duration::from_secs(60);
    while hold.met() == 0 {
        assert!(Instant::now() < deadline, "nothing is collected");
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(release);
    db.gc().unwrap();
    db.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
    db.gc().unwrap();
    let before = db.stats().stalled_space_us;
    (0..64).for_each(put);
    assert_eq!(db.stats().stalled_space_us, before);
    db.audit().unwrap();
}
