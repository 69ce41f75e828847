//! What background work and calls that are cut short leave behind, and what they tell.

use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::channel;

use toykv::sim::{Fault, Intervention, OpKind, Operation, SimDisk};
use toykv::{Db, Durability, ErrorKind, Options};

use crate::support::value_of;

const WHOLE: (Bound<&[u8]>, Bound<&[u8]>) = (Bound::Unbounded, Bound::Unbounded);

fn small() -> Options {
    Options::new()
        .memtable_size_bytes(64 << 10)
        .backlog_limit_bytes(1 << 20)
        .durability(Durability::Process)
}

/// Runs that one compaction merges.
fn put_runs(db: &Db, count: u8) {
    for round in 0..count {
        db.put(b"k", &[round]).unwrap();
        db.flush().unwrap();
    }
}

fn files_ending(disk: &SimDisk, ending: &str) -> usize {
    let ends = |path: &Path| path.extension().is_some_and(|name| name == ending);
    disk.files().iter().filter(|(path, _)| ends(path)).count()
}

fn is_manifest(operation: &Operation<'_>) -> bool {
    operation.path.to_string_lossy().contains("MANIFEST")
}

#[test]
fn a_callback_that_panics_leaves_nothing_behind() {
    let disk = SimDisk::new();
    let db = disk.open_db("/db", &small()).unwrap();
    put_runs(&db, 2);
    let compact = || db.compact_with(WHOLE.0, WHOLE.1, &mut |_| panic!("on purpose"));
    catch_unwind(AssertUnwindSafe(compact)).unwrap_err();
    db.compact(WHOLE.0, WHOLE.1).unwrap();
    assert_eq!(db.stats().runs, 1);
    // The background merges again.
    put_runs(&db, 6);
    while db.stats().runs > 3 {
        std::thread::yield_now();
    }
    db.close().unwrap();
    assert_eq!(files_ending(&disk, "table"), tables_of(&disk));
}

/// Tables that the next open finds to be part of the database.
fn tables_of(disk: &SimDisk) -> usize {
    disk.process_image().open_db("/db", &small().read_only(true)).unwrap().stats().tables
}

/// An edit for which there is no room has not happened: what it would have brought goes again.
#[test]
fn a_commit_without_room_leaves_no_file() {
    let disk = SimDisk::new();
    let db = disk.open_db("/db", &small()).unwrap();
    disk.fail(Fault::when(is_manifest).on(OpKind::Allocate).errno(libc::ENOSPC).forever());
    let mut refused = 0;
    for tag in 0.. {
        let written = db.put(b"", &value_of(tag, 100)).map(drop).and_then(|()| db.flush());
        let Err(error) = written else { continue };
        assert_eq!(error.kind(), ErrorKind::DiskFull, "{error}");
        refused += 1;
        if refused == 20 {
            break;
        }
    }
    let segments = db.stats().segments;
    db.close().unwrap();
    assert_eq!(files_ending(&disk, "table"), tables_of(&disk));
    // One more may be there, made ready for the next rotation.
    assert!(files_ending(&disk, "vlog") <= segments + 1, "{segments} {:?}", disk.files());
}

/// Another thread may hold the old view just then, but not every time.
#[test]
fn a_compaction_in_the_background_deletes_what_it_has_replaced() {
    let path = Path::new("/deletes its inputs");
    let left = || {
        let disk = SimDisk::new();
        let db = disk.open_db(path, &small()).unwrap();
        let (sender, receiver) = channel();
        let image = disk.clone();
        let _over = Intervention::at(path, "compaction: over", move || {
            sender.send(files_ending(&image, "table")).unwrap();
        });
        put_runs(&db, 4);
        receiver.recv().unwrap()
    };
    assert!((0..10).any(|_| left() == 1));
}

#[test]
fn compact_tells_that_the_database_was_closed() {
    let path = Path::new("/closed while it compacts");
    for place in ["compact: nobody else", "compact: planned"] {
        // A new database: with more runs the background might merge them first.
        let disk = SimDisk::new();
        let db = disk.open_db(path, &small()).unwrap();
        put_runs(&db, 2);
        let other = db.clone();
        let (sender, receiver) = channel();
        let (stopping, stops) = channel();
        let _stops = Intervention::at(path, "close: stops", move || stopping.send(()).unwrap());
        let _close = Intervention::at(path, place, move || {
            sender.send(std::thread::spawn(move || other.close().unwrap())).unwrap();
            stops.recv().unwrap();
        });
        let error = db.compact(WHOLE.0, WHOLE.1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed, "{place}: {error}");
        receiver.recv().unwrap().join().unwrap();
    }
}

/// Keys without values: the index takes more memory than the log, and is what ends a memtable.
#[test]
fn memtables_keep_within_their_share_of_the_budget() {
    let disk = SimDisk::new();
    let budget = 4 << 20;
    let options = Options::new().memory_budget(budget).durability(Durability::Process);
    let db = disk.open_db("/db", &options).unwrap();
    let mut most = 0;
    for i in 0..100_000u64 {
        db.put(&i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes(), b"").unwrap();
        if i % 64 == 0 {
            most = most.max(db.stats().memtable_bytes);
        }
    }
    assert!(most <= budget / 2, "{most}");
    assert!(most >= budget / 16, "{most}");
    assert_eq!(db.len().unwrap(), 100_000);
}
