//! Interleavings that would give wrong answers if the engine took the easy way. Each is brought
//! about on purpose, once with the engine as it is and once with the mistake planted: the first
//! must be right, and the second must not, or the test would prove nothing.

use std::ops::Bound;
use std::path::Path;
use std::sync::mpsc::channel;

use toykv::sim::{CrashPolicy, Fault, Intervention, OpKind, SimDisk};
use toykv::{Compression, Db, Durability, IoMode, Options, ScanOptions, WriteBatch, WriteOptions};

use crate::support::{directory_on_disk, value_of};

/// Whether a scenario ended as it should, or what was wrong.
type Outcome = Result<(), String>;

/// Right as the engine is, wrong with the mistake.
fn both_ways(mistake: &'static str, scenario: impl Fn(&dyn Fn(&Path) -> Planted) -> Outcome) {
    scenario(&|_| None).unwrap_or_else(|wrong| panic!("without the mistake: {wrong}"));
    let planted = |dir: &Path| Some(Intervention::mistake(dir, mistake));
    assert!(scenario(&planted).is_err(), "{mistake:?} was not found out");
}

type Planted = Option<Intervention>;
type Plant<'a> = &'a dyn Fn(&Path) -> Planted;

fn small() -> Options {
    Options::new()
        .memtable_size_bytes(64 << 10)
        .backlog_limit_bytes(1 << 20)
        .durability(Durability::Process)
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: T, fine: &[T]) -> Outcome {
    match fine.contains(&found) {
        true => Ok(()),
        false => Err(format!("{what}: {found:?}, not one of {fine:?}")),
    }
}

/// More than the memtable of [`small`] takes.
fn large_batch() -> WriteBatch {
    let mut batch = WriteBatch::new();
    for i in 0..100 {
        batch.put(format!("large {i:03}").as_bytes(), &value_of(i, 900)).unwrap();
    }
    batch
}

#[test]
fn a_reader_pins_before_it_reads_the_number() {
    type Read = fn(&Db) -> Option<Vec<u8>>;
    let reads: [Read; 4] = [
        |db| db.get(b"k").unwrap().map(|value| value.to_vec()),
        |db| db.multi_get(&[b"k"]).unwrap().remove(0).map(|value| value.to_vec()),
        |db| db.contains(b"k").unwrap().then(|| b"new".to_vec()),
        |db| db.scan(&ScanOptions::new()).unwrap().next().map(|entry| entry.unwrap().1),
    ];
    for read in reads {
        both_ways("number before pin", |plant: Plant<'_>| {
            let dir = tempfile::tempdir().unwrap();
            let _planted = plant(dir.path());
            let db = Db::open(dir.path(), &small()).unwrap();
            db.put(b"k", b"old").unwrap();
            let other = db.clone();
            let step = Intervention::at(dir.path(), "read: between", move || {
                other.put(b"k", b"new").unwrap();
                other.flush().unwrap();
            });
            let found = read(&db);
            assert_eq!(step.met(), 1);
            expect("k", found, &[Some(b"old".to_vec()), Some(b"new".to_vec())])
        });
    }
}

#[test]
fn a_sync_answers_only_for_what_was_there_when_it_began() {
    both_ways("number after sync", |plant| {
        let (disk, path) = (SimDisk::new(), Path::new("/late for a sync"));
        let _planted = plant(path);
        let db = disk.open_db(path, &small()).unwrap();
        db.put(b"early", b"").unwrap();
        let other = db.clone();
        let step = Intervention::at(path, "sync: done", move || {
            other.put(b"late", b"").unwrap();
        });
        db.sync().unwrap();
        assert_eq!(step.met(), 1);
        db.sync().unwrap();
        let left = disk.crash_image(&CrashPolicy::DROP_ALL, 1);
        let left = left.open_db(path, &small()).unwrap().contains(b"late").unwrap();
        expect("late is there", left, &[true])
    });
}

#[test]
fn a_snapshot_is_registered_under_the_lock_under_which_its_number_is_read() {
    both_ways("number before lock", |plant| {
        let dir = tempfile::tempdir().unwrap();
        let _planted = plant(dir.path());
        let db = Db::open(dir.path(), &small()).unwrap();
        db.put(b"k", b"old").unwrap();
        let other = db.clone();
        let step = Intervention::at(dir.path(), "snapshot: before lock", move || {
            other.put(b"k", b"new").unwrap();
            other.flush().unwrap();
        });
        let snapshot = db.snapshot().unwrap();
        assert_eq!(step.met(), 1);
        let found = snapshot.get(b"k").unwrap().map(|value| value.to_vec());
        expect("k", found, &[Some(b"old".to_vec()), Some(b"new".to_vec())])
    });
}

#[test]
fn who_pinned_before_a_large_batch_sees_nothing_that_follows_it() {
    both_ways("active memtable stays", |plant| {
        let dir = tempfile::tempdir().unwrap();
        let _planted = plant(dir.path());
        let db = Db::open(dir.path(), &small()).unwrap();
        let other = db.clone();
        let _step = Intervention::at(dir.path(), "read: between", move || {
            other.write(&large_batch()).unwrap();
            other.put(b"later", b"").unwrap();
        });
        let keys = db.scan(&ScanOptions::new()).unwrap().map(|entry| entry.unwrap().0);
        let keys: Vec<_> = keys.collect();
        let (batch, later) = (keys.len() >= 100, keys.contains(&b"later".to_vec()));
        expect("(batch, later)", (batch, later), &[(false, false), (true, false), (true, true)])
    });
}

#[test]
fn a_large_batch_appears_to_all_calls_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), &small()).unwrap();
    db.put(b"large 005", b"before").unwrap();
    let other = db.clone();
    let (sender, receiver) = channel();
    let _step = Intervention::at(dir.path(), "large batch: committed", move || {
        let look = |value: Option<toykv::Value>| value.map(|value| value.len());
        let len = other.len().unwrap();
        let got = look(other.get(b"large 005").unwrap());
        let scanned = other.scan(&ScanOptions::new()).unwrap().count() as u64;
        let snapshot = other.snapshot().unwrap();
        let in_snapshot = look(snapshot.get(b"large 005").unwrap());
        sender.send((len, got, scanned, snapshot, in_snapshot)).unwrap();
    });
    db.write(&large_batch()).unwrap();
    let (len, got, scanned, snapshot, in_snapshot) = receiver.recv().unwrap();
    let states = [(1, Some(6), 1, Some(6)), (100, Some(900), 100, Some(900))];
    assert!(states.contains(&(len, got, scanned, in_snapshot)), "{len} {got:?} {scanned}");
    let later = snapshot.get(b"large 005").unwrap().map(|value| value.len());
    assert_eq!(later, in_snapshot, "SNAP");
    assert_eq!((db.len().unwrap(), db.scan(&ScanOptions::new()).unwrap().count()), (100, 100));
}

#[test]
fn a_batch_that_two_threads_build_leaves_no_table_when_one_of_them_fails() {
    let path = Path::new("/db");
    // Each half is one table; of the two files one cannot be created, written or synced.
    for kind in [OpKind::Create, OpKind::Write, OpKind::Sync] {
        for nth in 0..2 {
            let disk = SimDisk::new();
            let _limit = Intervention::limit(path, "shared batch", 1);
            let db = disk.open_db(path, &small()).unwrap();
            db.put(b"before", b"").unwrap();
            let mut seen = Vec::new();
            let is_table = |path: &Path| path.extension().is_some_and(|end| end == "table");
            let fault = Fault::when(move |operation| {
                let path = operation.path.to_path_buf();
                if !is_table(&path) {
                    return false;
                }
                if !seen.contains(&path) {
                    seen.push(path.clone());
                }
                seen.get(nth) == Some(&path)
            });
            disk.fail(fault.on(kind).errno(libc::EIO));
            assert!(db.write(&large_batch()).is_err(), "{kind:?} of table {nth}");
            let tables = disk.files().into_iter().filter(|(path, _)| is_table(path)).count();
            assert_eq!(tables, 0, "{kind:?} of table {nth}");
            assert_eq!(db.len().unwrap(), 1);
            db.write(&large_batch()).unwrap();
            assert_eq!(db.len().unwrap(), 101);
            drop(db);
            assert_eq!(disk.open_db(path, &small()).unwrap().len().unwrap(), 101);
        }
    }
}

#[test]
fn no_run_joins_another_past_one_that_lies_between() {
    both_ways("join past a neighbour", |plant| {
        let dir = tempfile::tempdir().unwrap();
        let _planted = plant(dir.path());
        let _limit = Intervention::limit(dir.path(), "join size", 1);
        let db = Db::open(dir.path(), &small()).unwrap();
        for (key, value) in [(b"k", b"old"), (b"k", b"new"), (b"z", b"---")] {
            db.put(key, value).unwrap();
            db.flush().unwrap();
        }
        let failed = || db.health().background_error.is_some();
        while db.stats().runs > 2 && !failed() {
            std::thread::yield_now();
        }
        if let Some(error) = db.health().background_error {
            return Err(error.to_string());
        }
        expect("k", db.get(b"k").unwrap().as_deref(), &[Some(&b"new"[..])])
    });
}

#[test]
fn the_versions_of_a_key_are_in_one_table() {
    both_ways("key split", |plant| {
        let dir = tempfile::tempdir().unwrap();
        let _planted = plant(dir.path());
        let _limit = Intervention::limit(dir.path(), "table size", 4096);
        let db = Db::open(dir.path(), &small()).unwrap();
        let mut snapshots = Vec::new();
        for i in 0..40 {
            db.put(b"many", &value_of(i, 500)).unwrap();
            snapshots.push(db.snapshot().unwrap());
            db.put(format!("{i:02}").as_bytes(), &value_of(i, 500)).unwrap();
            db.put(format!("z{i:02}").as_bytes(), &value_of(i, 500)).unwrap();
        }
        db.flush().map_err(|error| error.to_string())?;
        db.compact(Bound::Unbounded, Bound::Unbounded).map_err(|error| error.to_string())?;
        assert!(db.stats().tables > 5, "{:?}", db.stats());
        for (i, snapshot) in (0..).zip(&snapshots) {
            let expected = value_of(i, 500);
            let found = snapshot.get(b"many").unwrap().map(|value| value.to_vec());
            expect("get", found, &[Some(expected.clone())])?;
            for reverse in [false, true] {
                let range = ScanOptions::new().prefix(b"many").reverse(reverse);
                let found: Vec<_> = snapshot.scan(&range).unwrap().flatten().collect();
                expect("scan", found, &[vec![(b"many".to_vec(), expected.clone())]])?;
            }
        }
        Ok(())
    });
}

#[test]
fn a_tombstone_stays_while_an_older_run_has_its_key() {
    both_ways("tombstones dropped without proof", |plant| {
        let dir = tempfile::tempdir().unwrap();
        let _planted = plant(dir.path());
        let db = Db::open(dir.path(), &small()).unwrap();
        db.put(b"a", b"zombie").unwrap();
        db.put(b"b", b"").unwrap();
        db.flush().unwrap();
        db.put(b"m1", b"").unwrap();
        db.flush().unwrap();
        db.delete(b"a").unwrap();
        db.put(b"m2", b"").unwrap();
        db.flush().unwrap();
        // The oldest run has nothing in this range, and so is no part of it.
        db.compact(Bound::Included(b"m"), Bound::Unbounded).unwrap();
        assert_eq!(db.stats().runs, 2);
        expect("a", db.get(b"a").unwrap().is_some(), &[false])?;
        expect("len", db.len().unwrap(), &[3])?;
        db.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
        assert_eq!(db.stats().runs, 1);
        expect("a", db.get(b"a").unwrap().is_some(), &[false])
    });
}

/// Makes a segment half of whose values are dead; answers how many keys there are.
fn half_dead(db: &Db) -> u64 {
    for i in 0..24u64 {
        db.put(&i.to_be_bytes(), &value_of(i, 2000)).unwrap();
    }
    db.flush().unwrap();
    for i in 0..12u64 {
        db.delete(&i.to_be_bytes()).unwrap();
    }
    db.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
    24
}

#[test]
fn values_that_die_while_they_are_copied_stay_dead() {
    type Change = fn(&Db, u64);
    let changes: [Change; 3] = [
        |db, key| assert!(db.delete(&key.to_be_bytes()).is_ok()),
        |db, key| assert!(db.put(&key.to_be_bytes(), &value_of(key + 100, 2000)).is_ok()),
        |db, key| assert!(db.put(&key.to_be_bytes(), b"now short").is_ok()),
    ];
    for (change, from) in changes.iter().flat_map(|change| [(change, 20), (change, 12)]) {
        both_ways("collection trusts a stale count", |plant| {
            let dir = tempfile::tempdir().unwrap();
            let _planted = plant(dir.path());
            // No collection before the test asks for one.
            let db = Db::open(dir.path(), &small().space_amplification_percent(1000)).unwrap();
            let keys = half_dead(&db);
            let (other, change) = (db.clone(), *change);
            let step = Intervention::at(dir.path(), "collection: copied", move || {
                (from..keys).for_each(|key| change(&other, key));
                other.compact(Bound::Unbounded, Bound::Unbounded).ok();
                other.flush().unwrap();
                other.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
            });
            let collected = db.gc();
            assert_eq!(step.met(), 1);
            collected.map_err(|error| error.to_string())?;
            db.audit().map_err(|error| error.to_string())?;
            for key in 12..from {
                let found = db.get(&key.to_be_bytes()).map_err(|error| error.to_string())?;
                expect("value", found.map(|value| value.to_vec()), &[Some(value_of(key, 2000))])?;
            }
            expect("key 0", db.get(&0u64.to_be_bytes()).unwrap().is_some(), &[false])
        });
    }
}

#[test]
fn a_value_and_a_scan_outlive_a_hundred_collections() {
    outlive_collections(&small());
    outlive_collections(&small().io(IoMode::Direct).compression(Compression::Lz4));
}

fn outlive_collections(options: &Options) {
    let dir = directory_on_disk();
    let db = Db::open(dir.path(), options).unwrap();
    let keys = 30u64;
    for i in 0..keys {
        db.put(&i.to_be_bytes(), &value_of(i, 2000)).unwrap();
    }
    db.flush().unwrap();
    let value = db.get(&7u64.to_be_bytes()).unwrap().unwrap();
    let mut scan = db.scan(&ScanOptions::new()).unwrap();
    let snapshot = db.snapshot().unwrap();
    assert_eq!(scan.next().unwrap().unwrap().1, value_of(0, 2000));
    let mut seen = 1u64;
    for round in 1..=100u64 {
        for i in 0..keys {
            // Some values stay where they are for long, and move all the same.
            if (i + round) % 7 != 0 && i % 10 != 3 {
                db.put(&i.to_be_bytes(), &value_of(round * 100 + i, 2000)).unwrap();
            }
        }
        let before = db.stats().collections;
        db.gc().unwrap();
        assert!(db.stats().collections > before || round == 1, "round {round}");
        db.audit().unwrap();
        if round % 4 == 0 {
            let (key, found) = scan.next().unwrap().unwrap();
            assert_eq!(key, seen.to_be_bytes());
            assert_eq!(found, value_of(seen, 2000));
            seen += 1;
        }
        let frozen = snapshot.get(&(round % keys).to_be_bytes()).unwrap().unwrap();
        assert_eq!(frozen[..], value_of(round % keys, 2000));
    }
    assert_eq!(value[..], value_of(7, 2000));
    let files = || std::fs::read_dir(dir.path()).unwrap().count();
    let held = files();
    drop((scan, snapshot, value));
    db.gc().unwrap();
    assert!(files() < held, "{} files, {held} before", files());
    assert_eq!(db.get(&3u64.to_be_bytes()).unwrap().unwrap()[..], value_of(3, 2000));
}

#[test]
fn an_edit_that_holds_data_follows_the_log_before_it() {
    let path = Path::new("/edit-before-the-log");
    both_ways("edit before the log", |plant| {
        let disk = SimDisk::new();
        let _planted = plant(path);
        let db = disk.open_db(path, &small()).unwrap();
        for i in 0..20u8 {
            db.put(&[i], &value_of(i.into(), 100)).unwrap();
        }
        db.write(&large_batch()).unwrap();
        for seed in 0..20 {
            for (name, policy) in CrashPolicy::standard() {
                let image = disk.crash_image(&policy, seed);
                let found = image.open_db(path, &small()).unwrap();
                let small_ones = (0..20u8).filter(|i| found.contains(&[*i]).unwrap()).count();
                expect(name, (small_ones, found.len().unwrap()), &[(20, 120)])?;
            }
        }
        Ok(())
    });
}

#[test]
fn nothing_is_replayed_behind_a_hole_in_the_segment_before() {
    let path = Path::new("/replay-beyond-a-hole");
    both_ways("replay beyond a hole", |plant| {
        let disk = SimDisk::new();
        let db = disk.open_db(path, &small()).unwrap();
        // No flush: the log stays.
        let table = |operation: &toykv::sim::Operation<'_>| {
            operation.path.extension().is_some_and(|name| name == "table")
        };
        disk.fail(Fault::when(table).on(OpKind::Create).forever());
        for i in 0..150u64 {
            db.put(&i.to_be_bytes(), &value_of(i, 700)).unwrap();
        }
        let image = disk.crash_image(&CrashPolicy::KEEP_ALL, 0);
        let mut logs: Vec<_> = image.files().into_iter().map(|(path, _)| path).collect();
        logs.retain(|path| path.extension().is_some_and(|name| name == "vlog"));
        assert!(logs.len() > 1, "{logs:?}");
        // One page of the first segment never reached the disk.
        image.overwrite(&logs[0], 8 * 4096, &[0; 4096]).unwrap();
        let _planted = plant(path);
        let found = image.open_db(path, &small()).unwrap();
        let there: Vec<_> =
            (0..150u64).filter(|i| found.contains(&i.to_be_bytes()).unwrap()).collect();
        assert!(there.len() > 10 && there.len() < 150, "{there:?}");
        expect("keys", there.clone(), &[(0..there.len() as u64).collect()])
    });
}

#[test]
fn compactions_by_hand_wait_for_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), &small()).unwrap();
    for round in 0..3u8 {
        db.put(b"k", &[round]).unwrap();
        db.flush().unwrap();
    }
    let (other, whole) = (db.clone(), (Bound::Unbounded, Bound::Unbounded));
    let (second_planned, wait_for_second) = channel();
    let (first_goes_on, wait_for_first) = channel();
    let (result_of_second, second) = channel();
    // The first has seen that nobody compacts; now comes a second.
    let _begin = Intervention::at(dir.path(), "compact: nobody else", move || {
        std::thread::spawn(move || result_of_second.send(other.compact(whole.0, whole.1)));
        wait_for_second.recv().unwrap();
    });
    let _second = Intervention::at(dir.path(), "compact: planned", move || {
        second_planned.send(()).unwrap();
        wait_for_first.recv().unwrap();
    });
    let places = ["compact: planned", "compact: waits"];
    let _first = places.map(|place| {
        let first_goes_on = first_goes_on.clone();
        Intervention::at(dir.path(), place, move || first_goes_on.send(()).unwrap_or(()))
    });
    db.compact(whole.0, whole.1).unwrap();
    second.recv().unwrap().unwrap();
    assert_eq!(db.stats().runs, 1);
    assert_eq!(db.get(b"k").unwrap().as_deref(), Some(&[2][..]));
}

#[test]
fn a_write_that_waits_for_sync_is_durable_with_all_before_it() {
    let path = Path::new("/mixed");
    let disk = SimDisk::new();
    let db = disk.open_db(path, &small()).unwrap();
    let sync = WriteOptions::new().durability(Durability::Sync);
    for i in 0..300u64 {
        let options = if i % 50 == 49 { sync } else { WriteOptions::new() };
        db.put_with(&i.to_be_bytes(), &value_of(i, 700), &options).unwrap();
        if i % 50 == 49 {
            let image = disk.crash_image(&CrashPolicy::DROP_ALL, i);
            let found = image.open_db(path, &small()).unwrap();
            assert_eq!(found.len().unwrap(), i + 1, "ACK and NOHOLE");
        }
    }
}

#[test]
fn what_frees_space_returns_when_what_others_delete_is_gone() {
    let calls: [fn(&Db); 3] = [
        |db| db.compact(Bound::Unbounded, Bound::Unbounded).unwrap(),
        |db| db.gc().unwrap(),
        |db| drop(db.explain_space().unwrap()),
    ];
    for call in calls {
        both_ways("deletions go on", |plant| {
            let dir = tempfile::tempdir().unwrap();
            let _planted = plant(dir.path());
            let db = Db::open(dir.path(), &small()).unwrap();
            for round in 0..2 {
                db.put(b"k", &value_of(round, 900)).unwrap();
                db.flush().unwrap();
            }
            let (chosen, wait_for_chosen) = channel();
            let (release, wait_for_release) = channel::<()>();
            let _chosen = Intervention::at(dir.path(), "obsolete: chosen", move || {
                chosen.send(()).unwrap();
                // The test drops the other end.
                let _ = wait_for_release.recv();
            });
            let (happens, what_happens) = channel();
            let returns = happens.clone();
            let _waits = Intervention::at(dir.path(), "obsolete: waits", move || {
                happens.send("waits").unwrap();
            });
            let (first, second) = (db.clone(), db.clone());
            let first = std::thread::spawn(move || calls[0](&first));
            wait_for_chosen.recv().unwrap();
            let second = std::thread::spawn(move || {
                call(&second);
                returns.send("returns").unwrap_or(());
            });
            let found = what_happens.recv().unwrap();
            drop(release);
            first.join().unwrap();
            second.join().unwrap();
            expect("the second", found, &["waits"])
        });
    }
}
