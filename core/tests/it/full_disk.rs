//! SPACE on a real file system: a small tmpfs that fills up under a child process, which must see
//! errors and never a signal, read what it was told is there, delete, and write again when there
//! is room. Where mounting is not permitted the simulated disk's capacity takes its place.
//!
//! `TOYKV_FULL_DISK_SIZES=100` tries every size.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::process::Command;

use toykv::sim::SimDisk;
use toykv::{Db, Durability, Error, ErrorKind, Options};

use crate::support::{again, number_from_env, value_of};

const WORK: &str = "TOYKV_FULL_DISK_WORK";
const WORKLOADS: [&str; 5] = ["load", "overwrite", "large", "compaction", "collection"];
/// Deletes that must go on.
const DELETES: u64 = 100;

fn options() -> Options {
    Options::new()
        .memory_budget(8 << 20)
        .memtable_size_bytes(256 << 10)
        .durability(Durability::Process)
}

fn key(i: u64) -> Vec<u8> {
    i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes().to_vec()
}

/// The write with number `i` of a workload: number of the key, length of the value.
fn write(workload: &str, i: u64) -> (u64, usize) {
    match workload {
        "overwrite" => (i % 700, 300),
        "large" => (i, 20_000),
        // Half of it dies, and what lives grows.
        "collection" => (i * 7919 % (200 + i / 2), 3_000),
        _ => (i, 300),
    }
}

fn full(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::DiskFull, "{error}");
}

fn check(db: &Db, model: &BTreeMap<u64, (u64, usize)>) {
    for (number, (mark, len)) in model {
        let found = db.get(&key(*number)).unwrap();
        assert_eq!(found.as_deref(), Some(&value_of(*mark, *len)[..]), "key {number}");
    }
    assert_eq!(db.len().unwrap(), model.len() as u64);
}

/// Fills the disk, looks at what is there, deletes, calls `grow` for more space, and goes on.
fn work(workload: &str, open: impl Fn() -> toykv::Result<Db>, grow: impl FnOnce()) {
    let mut model = BTreeMap::new();
    let db = match open() {
        Ok(db) => db,
        Err(error) => {
            full(&error);
            grow();
            drop(open().unwrap());
            return;
        }
    };
    let mut i = 0;
    let error = loop {
        let (number, len) = write(workload, i);
        if let Err(error) = db.put(&key(number), &value_of(i, len)) {
            break error;
        }
        model.insert(number, (i, len));
        if workload == "compaction"
            && i % 400 == 399
            && let Err(error) =
                db.flush().and_then(|()| db.compact(Bound::Unbounded, Bound::Unbounded))
        {
            full(&error);
        }
        i += 1;
        if i == 100_000 {
            // Overwritten values leave as fast as they come.
            return check(&db, &model);
        }
    };
    full(&error);
    let health = db.health();
    assert!(health.poisoned.is_none(), "{health:?}");
    full(&health.background_error.expect("health says nothing of the full disk"));
    check(&db, &model);
    let gone: Vec<u64> = model.keys().copied().take(DELETES as usize).collect();
    for number in gone {
        db.delete(&key(number)).unwrap();
        model.remove(&number);
    }
    if workload == "collection"
        && let Err(error) = db.gc()
    {
        full(&error);
    }
    check(&db, &model);
    grow();
    for number in 0..1000 {
        db.put(&key(number), &value_of(number, 100)).unwrap();
        model.insert(number, (number, 100));
    }
    db.flush().unwrap();
    check(&db, &model);
    db.close().unwrap();
    drop(db);
    check(&open().unwrap(), &model);
}

fn mount(dir: &Path, more: &str) -> bool {
    let mut command = Command::new("mount");
    command.args(["-t", "tmpfs", "-o", more, "tmpfs"]).arg(dir);
    command.output().is_ok_and(|output| output.status.success())
}

/// A file system of a size, until it is dropped.
struct Small(tempfile::TempDir);

impl Small {
    fn new(size: u64) -> Option<Small> {
        let dir = tempfile::tempdir().unwrap();
        mount(dir.path(), &format!("size={size}")).then_some(Small(dir))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// The child's part; nothing when nobody asks for it.
#[test]
fn child() {
    let Ok(text) = std::env::var(WORK) else { return };
    let (workload, dir) = text.split_once(' ').unwrap();
    let grow = || assert!(mount(Path::new(dir), "remount,size=64m"));
    work(workload, || Db::open(Path::new(dir).join("db"), &options()), grow);
}

fn size(step: u64) -> u64 {
    (1 << 20) + step * (48 << 10)
}

fn sizes() -> impl Iterator<Item = u64> {
    let count = number_from_env("TOYKV_FULL_DISK_SIZES", 8);
    (0..count).map(move |index| size(index * 100 / count))
}

#[test]
fn a_full_disk_is_an_error_at_every_size() {
    if Small::new(1 << 20).is_none() {
        println!("no tmpfs can be mounted: only the simulated disk fills up");
        return;
    }
    for size in sizes() {
        for workload in WORKLOADS {
            let small = Small::new(size).unwrap();
            let text = format!("{workload} {}", small.0.path().display());
            let output = again("full_disk::child", WORK, &text).output().unwrap();
            let told = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{workload}, {size} bytes: {}: {told}", output.status);
        }
    }
}

#[test]
fn a_full_simulated_disk_is_an_error_at_every_size() {
    for size in sizes() {
        for workload in WORKLOADS {
            let disk = SimDisk::new();
            disk.set_capacity(Some(size));
            work(workload, || disk.open_db("/db", &options()), || disk.set_capacity(None));
        }
    }
}
