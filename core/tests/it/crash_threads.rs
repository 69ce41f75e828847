//! Power loss while several threads write: by the sequence numbers that writers were told, what
//! comes back is a prefix, with everything that was acknowledged at `sync`.
//!
//! Checks NOHOLE, ACK and ATOM where writers share a flush of the device.

use std::collections::BTreeSet;
use std::sync::Mutex;

use toykv::sim::{CrashPolicy, Effect, Fault, OpKind, SimDisk};
use toykv::{Db, Durability, Options, SeqNo, WriteBatch, WriteOptions};

use crate::oracle::{Dice, PATH, read_all, value_of};

const THREADS: u64 = 4;

fn options() -> Options {
    Options::new().sync_interval_ms(1).memtable_size_bytes(64 << 10).backlog_limit_bytes(1 << 20)
}

/// A write that was acknowledged.
struct Acknowledged {
    seqno: SeqNo,
    synced: bool,
    /// Before the power went off: it is in what processes see.
    kept: bool,
    keys: Vec<Vec<u8>>,
}

/// Writes keys that are used once until an error or the end.
fn write(disk: &SimDisk, db: &Db, (thread, seed): (u64, u64), told: &Mutex<Vec<Acknowledged>>) {
    let mut dice = Dice::new(seed * THREADS + thread);
    for round in 0..150u64 {
        let how = dice.pick(&[Durability::Process, Durability::Interval, Durability::Sync]);
        let count = 1 + dice.below(4);
        let keys: Vec<_> =
            (0..count).map(|i| format!("{thread}-{round:04}-{i}").into_bytes()).collect();
        let mut batch = WriteBatch::new();
        for key in &keys {
            let len = dice.pick(&[20, 300, 1500]);
            batch.put(key, &value_of(round, len)).unwrap();
        }
        let Ok(seqno) = db.write_with(&batch, &WriteOptions::new().durability(how)) else { return };
        let (synced, kept) = (how == Durability::Sync, !disk.is_off());
        told.lock().unwrap().push(Acknowledged { seqno, synced, kept, keys });
        if thread == 0 && round % 40 == 39 && db.flush().is_err() {
            return;
        }
    }
}

/// Lets threads write until the power goes off; answers what they were told.
fn run(disk: &SimDisk, seed: u64) -> Vec<Acknowledged> {
    let told = Mutex::new(Vec::new());
    if let Ok(db) = disk.open_db(PATH, &options()) {
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (db, told) = (&db, &told);
                scope.spawn(move || write(disk, db, (thread, seed), told));
            }
        });
        disk.power_off();
    }
    disk.power_off();
    let mut told = told.into_inner().unwrap();
    told.sort_by_key(|one| one.seqno);
    told
}

/// What is there must be a prefix of what writers were told, after a loss that keeps all that
/// processes see with everything.
fn check(disk: &SimDisk, told: &[Acknowledged], policy: &CrashPolicy) -> Result<(), String> {
    let all = *policy == CrashPolicy::KEEP_ALL;
    let db = disk.open_db(PATH, &options()).map_err(|error| format!("open: {error}"))?;
    let there: BTreeSet<Vec<u8>> = read_all(&db)?.into_keys().collect();
    let mut missing = None;
    for one in told {
        let present = one.keys.iter().filter(|key| there.contains(*key)).count();
        if present != 0 && present != one.keys.len() {
            return Err(format!("half of the batch at {}", one.seqno));
        }
        match missing {
            None if present == 0 => missing = Some(one.seqno),
            Some(missing) if present > 0 => {
                return Err(format!("{} is there and {missing} is not", one.seqno));
            }
            _ => {}
        }
        if present == 0 && (one.synced || all && one.kept) {
            return Err(format!("{} was acknowledged and is missing", one.seqno));
        }
    }
    db.close().map_err(|error| format!("close: {error}"))
}

fn rounds() -> u64 {
    if std::env::var_os("TOYKV_CRASH_FULL").is_some() { 5000 } else { 150 }
}

#[test]
fn what_threads_wrote_comes_back_as_a_prefix() {
    let mut writes = 0;
    for seed in 0..rounds() {
        let disk = SimDisk::new();
        disk.set_write_back((seed % 3 * 20) as u8, seed);
        disk.crash_at_change(Dice::new(seed).below(500));
        let told = run(&disk, seed);
        writes += told.len();
        let policies = [CrashPolicy::DROP_ALL, CrashPolicy::KEEP_ALL, CrashPolicy::random(seed)];
        for policy in policies {
            let image = disk.crash_image(&policy, seed);
            let checked = check(&image, &told, &policy);
            checked.unwrap_or_else(|what| panic!("seed {seed}, {policy:?}: {what}"));
        }
    }
    println!("{writes} writes acknowledged");
}

/// A device that skips some flushes is noticed by this test.
#[test]
fn a_skipped_flush_is_noticed() {
    let noticed = (0..50u64).any(|seed| {
        let disk = SimDisk::new();
        let log = |path: &std::path::Path| path.extension().is_some_and(|name| name == "vlog");
        let mut seen = 0;
        let skip = move |operation: &toykv::sim::Operation<'_>| {
            seen += u64::from(log(operation.path));
            log(operation.path) && seen > 20
        };
        disk.fail(Fault::when(skip).on(OpKind::Sync).effect(Effect::Lie).forever());
        disk.crash_at_change(100 + seed * 8);
        let told = run(&disk, seed);
        let policy = CrashPolicy::DROP_ALL;
        check(&disk.crash_image(&policy, seed), &told, &policy).is_err()
    });
    assert!(noticed);
}
