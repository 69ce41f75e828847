//! The protocols of commit, pin and install under a scheduler that tries one interleaving after
//! another at every lock, condition and atomic of the engine (layer L5), on the simulated disk.
//! Each scenario is right as the engine is, and a planted mistake is found by it.
//!
//! `make interleavings` runs it; `TOYKV_INTERLEAVINGS=10000` tries more of each scenario.

use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::thread::{self, JoinHandle};
use shuttle::{Config, Runner};
use toykv::sim::{CrashPolicy, Fault, Intervention, OpKind, SimDisk};
use toykv::{Db, Durability, ErrorKind, Options, ScanOptions, WriteBatch, WriteOptions};

/// Tries of each scenario by each scheduler.
fn tries() -> usize {
    std::env::var("TOYKV_INTERLEAVINGS").map_or(200, |text| text.parse().expect("a number"))
}

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    config
}

/// Runs a scenario on a new disk again and again, each time interleaved otherwise.
fn try_all(scenario: impl Fn(&SimDisk) + Send + Sync + Copy + 'static, tries: usize) {
    let run = move || scenario(&SimDisk::new());
    Runner::new(RandomScheduler::new_from_seed(1, tries), config()).run(run);
    Runner::new(PctScheduler::new_from_seed(1, 3, tries), config()).run(run);
    println!("interleavings: {tries} by each of two schedulers");
}

/// Right as the engine is, and found out with the mistake, in the directory of that name.
fn both_ways(path: &str, mistake: &'static str, scenario: fn(&SimDisk)) {
    try_all(scenario, tries());
    let _planted = Intervention::mistake(path, mistake);
    let found = catch_unwind(AssertUnwindSafe(|| try_all(scenario, tries().max(2000))));
    assert!(found.is_err(), "{mistake:?} was not found out");
}

fn small() -> Options {
    Options::new()
        .memtable_size_bytes(64 << 10)
        .backlog_limit_bytes(1 << 20)
        .durability(Durability::Process)
}

fn spawn(db: &Db, work: impl FnOnce(&Db) + Send + 'static) -> JoinHandle<()> {
    let db = db.clone();
    thread::spawn(move || work(&db))
}

fn join(threads: impl IntoIterator<Item = JoinHandle<()>>) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

const PIN: &str = "/pin";

#[test]
fn a_reader_sees_the_old_or_the_new_beside_a_flush() {
    both_ways(PIN, "number before pin", |disk| {
        let db = disk.open_db(PIN, &small()).unwrap();
        db.put(b"k", b"old").unwrap();
        let writer = spawn(&db, |db| {
            db.put(b"k", b"new").unwrap();
            db.flush().unwrap();
        });
        let reader = spawn(&db, |db| {
            let mut newest = false;
            for _ in 0..2 {
                let found = db.get(b"k").unwrap().expect("the key is always there");
                assert!(!newest || found[..] == *b"new", "back to the old");
                newest = found[..] == *b"new";
            }
        });
        join([writer, reader]);
        db.close().unwrap();
    });
}

const SNAPSHOT: &str = "/snapshot";

#[test]
fn a_snapshot_shows_one_state_beside_flush_and_compaction() {
    both_ways(SNAPSHOT, "number before lock", |disk| {
        let db = disk.open_db(SNAPSHOT, &small()).unwrap();
        db.put(b"k", b"old").unwrap();
        let writer = spawn(&db, |db| {
            db.put(b"k", b"new").unwrap();
            db.flush().unwrap();
            db.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
        });
        let reader = spawn(&db, |db| {
            let snapshot = db.snapshot().unwrap();
            let first = snapshot.get(b"k").unwrap().expect("the key is always there").to_vec();
            let second = snapshot.get(b"k").unwrap().expect("the key is always there").to_vec();
            assert_eq!(first, second);
        });
        join([writer, reader]);
        db.close().unwrap();
    });
}

const LARGE: &str = "/large";

#[test]
fn a_large_batch_is_there_before_what_follows_it() {
    both_ways(LARGE, "active memtable stays", |disk| {
        let db = disk.open_db(LARGE, &small()).unwrap();
        let writer = spawn(&db, |db| {
            let mut batch = WriteBatch::new();
            for i in 0..80u8 {
                batch.put(&[b'b', i], &[i; 900]).unwrap();
            }
            db.write(&batch).unwrap();
            db.put(b"later", b"").unwrap();
        });
        let reader = spawn(&db, |db| {
            let keys = db.scan(&ScanOptions::new()).unwrap().map(|entry| entry.unwrap().0);
            let keys: Vec<_> = keys.collect();
            let batch = keys.iter().filter(|key| key.len() == 2).count();
            assert!(batch == 0 || batch == 80, "ATOM: {batch} of the batch");
            assert!(batch == 80 || !keys.contains(&b"later".to_vec()), "NOHOLE");
        });
        join([writer, reader]);
        db.close().unwrap();
    });
}

const SYNC: &str = "/sync";

fn synced_writers(disk: &SimDisk) {
    let db = disk.open_db(SYNC, &small()).unwrap();
    let writers = [b'a', b'b', b'c'].map(|writer| {
        let disk = disk.clone();
        spawn(&db, move |db| {
            let sync = WriteOptions::new().durability(Durability::Sync);
            for i in 0..2u8 {
                db.put_with(&[writer, i], b"v", &sync).unwrap();
                let image = disk.crash_image(&CrashPolicy::DROP_ALL, 0);
                let found = image.open_db(SYNC, &small().read_only(true)).unwrap();
                assert!(found.contains(&[writer, i]).unwrap(), "ACK");
            }
        })
    });
    join(writers);
    db.close().unwrap();
}

#[test]
fn a_synced_write_is_durable_when_it_returns() {
    both_ways(SYNC, "number after sync", synced_writers);
}

#[test]
fn nobody_who_waits_for_a_sync_is_forgotten() {
    both_ways(SYNC, "sync tells nobody", synced_writers);
}

const FAILED: &str = "/failed";

#[test]
fn after_a_failed_sync_nothing_is_acknowledged() {
    try_all(
        |disk| {
            let db = disk.open_db(FAILED, &small()).unwrap();
            db.put_with(b"before", b"v", &WriteOptions::new().durability(Durability::Sync))
                .unwrap();
            let log = |operation: &toykv::sim::Operation<'_>| {
                operation.path.extension().is_some_and(|name| name == "vlog")
            };
            disk.fail(Fault::when(log).on(OpKind::Sync).forever());
            let writers = [b'a', b'b', b'c'].map(|writer| {
                spawn(&db, move |db| {
                    let sync = WriteOptions::new().durability(Durability::Sync);
                    for i in 0..2u8 {
                        let error = db.put_with(&[writer, i], b"v", &sync).unwrap_err();
                        assert_eq!(error.kind(), ErrorKind::Poisoned, "STICKY");
                    }
                    assert!(db.contains(b"before").unwrap());
                })
            });
            join(writers);
            db.close().unwrap_err();
        },
        tries(),
    );
}

const INSTALL: &str = "/install";

#[test]
fn what_dies_while_files_are_rewritten_stays_dead() {
    both_ways(INSTALL, "collection trusts a stale count", |disk| {
        let options = small().space_amplification_percent(1000).value_threshold_bytes(512);
        let db = disk.open_db(INSTALL, &options).unwrap();
        for i in 0..24u8 {
            db.put(&[i], &[i; 2000]).unwrap();
        }
        db.flush().unwrap();
        for i in 0..12u8 {
            db.delete(&[i]).unwrap();
        }
        db.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
        // Priorities rarely change just here: give way, so that others may do much meanwhile.
        let _gives_way = Intervention::at(INSTALL, "collection: copied", thread::yield_now);
        let collects = spawn(&db, |db| db.gc().unwrap());
        let deletes = spawn(&db, |db| {
            db.delete(&[20]).unwrap();
            db.flush().unwrap();
            db.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
        });
        let reads = spawn(&db, |db| {
            assert_eq!(db.get(&[15]).unwrap().unwrap()[..], [15; 2000]);
        });
        join([collects, deletes, reads]);
        db.audit().unwrap();
        assert_eq!(db.len().unwrap(), 11);
        db.close().unwrap();
    });
}

const CLOSE: &str = "/close";

#[test]
fn close_ends_everybody_in_peace_and_keeps_what_was_acknowledged() {
    try_all(
        |disk| {
            let db = disk.open_db(CLOSE, &small()).unwrap();
            let writer = spawn(&db, |db| {
                for i in 0..3u8 {
                    let written = db.put(&[i], &[i; 40_000]);
                    match written {
                        Ok(_) => drop(db.put(&[100 + i], b"said")),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Closed),
                    }
                }
            });
            let others = [0, 1].map(|other| {
                spawn(&db, move |db| {
                    let done = match other {
                        0 => db.flush(),
                        _ => db.compact(Bound::Unbounded, Bound::Unbounded),
                    };
                    let fine = |kind| matches!(kind, ErrorKind::Closed | ErrorKind::Cancelled);
                    assert!(done.is_ok() || done.is_err_and(|error| fine(error.kind())));
                })
            });
            let closes = spawn(&db, |db| db.close().unwrap());
            db.close().unwrap();
            join(others.into_iter().chain([writer, closes]));
            drop(db);
            let db = disk.open_db(CLOSE, &small()).unwrap();
            for i in 0..3u8 {
                let said = db.contains(&[100 + i]).unwrap();
                assert!(!said || db.contains(&[i]).unwrap(), "ACK");
            }
            db.close().unwrap();
        },
        tries(),
    );
}

const POP: &str = "/pop";

#[test]
fn nothing_is_popped_twice_or_lost() {
    try_all(
        |disk| {
            let db = disk.open_db(POP, &small()).unwrap();
            for i in 0..4u8 {
                db.put(&[i], b"v").unwrap();
            }
            let poppers = [true, false].map(|first| {
                let db = db.clone();
                thread::spawn(move || {
                    let pop = || if first { db.pop_first() } else { db.pop_last() };
                    let popped = (0..3).filter_map(|_| pop().unwrap()).map(|(key, _)| key[0]);
                    popped.collect::<Vec<u8>>()
                })
            });
            let flushes = spawn(&db, |db| db.flush().unwrap());
            let mut popped: Vec<u8> =
                poppers.into_iter().flat_map(|popper| popper.join().unwrap()).collect();
            popped.sort_unstable();
            assert_eq!(popped, [0, 1, 2, 3]);
            join([flushes]);
            assert_eq!(db.len().unwrap(), 0);
            db.close().unwrap();
        },
        tries(),
    );
}
