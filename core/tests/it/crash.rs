//! Power loss at every change of the disk, in scripts and in random programs: what comes back is a
//! prefix of the commits with everything that was acknowledged, also after a crash in recovery.
//!
//! Checks ATOM, NOHOLE, ACK, NOZOMBIE, BYTES, RECOV. `TOYKV_CRASH_FULL=1` tries every change with
//! every policy.

use std::env;

use toykv::sim::{CrashPolicy, Effect, Fault, OpKind, Operation, SimDisk};
use toykv::{Compression, Durability, IoMode, Options, Result, ScanOptions};

use crate::oracle::{
    Commit, History, Run, check_db, check_disk, key_of, open_rest, read_all, value_of,
};

use Durability::{Interval, Process, Sync};

/// A program that is stopped at every change.
struct Script {
    name: &'static str,
    durability: Durability,
    body: fn(&mut Run) -> Result<()>,
}

/// How much is tried: crash points of a script, and policies at each.
struct Effort {
    points: u64,
    policies: usize,
    recovery_points: u64,
}

fn effort() -> Effort {
    if env::var_os("TOYKV_CRASH_FULL").is_some() {
        Effort { points: u64::MAX, policies: 19, recovery_points: u64::MAX }
    } else {
        Effort { points: 150, policies: 7, recovery_points: 5 }
    }
}

fn options(durability: Durability) -> Options {
    Options::new()
        .durability(durability)
        .sync_interval_ms(1)
        .memtable_size_bytes(64 << 10)
        .backlog_limit_bytes(512 << 10)
}

/// What tables are compressed with: a crash leaves the same, whatever it is.
fn compression(seed: u64) -> Compression {
    [Compression::None, Compression::Lz4, Compression::Zstd][seed as usize / 2 % 3]
}

/// When the power goes off in a script.
#[derive(Clone, Copy, Debug)]
enum Stop {
    /// Before the change of the disk with this index.
    Change(u64),
    /// Before the write to the database with this index; those at `process` change no disk.
    Write(u64),
    End,
}

/// Runs a script until the power goes off; an error before that is a fault of the database.
fn run_until(script: &Script, at: Stop, seed: u64, plant: Option<Fault>) -> Result<Run, String> {
    let disk = SimDisk::new();
    if let Stop::Change(at) = at {
        disk.crash_at_change(at);
    }
    if seed % 2 == 1 {
        disk.set_write_back(20, seed);
    }
    if let Some(fault) = plant {
        disk.fail(fault);
    }
    let io = if seed / 6 % 2 == 1 { IoMode::Direct } else { IoMode::Mapped };
    let options = options(script.durability).compression(compression(seed)).io(io);
    let mut run = Run::new(disk, options);
    if let Stop::Write(at) = at {
        run.cut_at_write = Some(at);
    }
    let result = run.open().and_then(|()| (script.body)(&mut run));
    if let Err(error) = result
        && !run.disk.is_off()
    {
        return Err(format!("{}: until {at:?}, seed {seed}: {error}", script.name));
    }
    run.disk.power_off();
    run.drop_db();
    Ok(run)
}

/// The policies for a crash point: the two ends, and others in turn.
fn policies(effort: &Effort, turn: u64) -> Vec<(String, CrashPolicy)> {
    let standard = CrashPolicy::standard();
    let rest = standard.len() - 2;
    let others = (0..effort.policies - 3).map(|i| 2 + (turn as usize * 5 + i) % rest);
    let picked = [0, 1].into_iter().chain(others).map(|i| standard[i]);
    let mut picked: Vec<_> = picked.map(|(name, policy)| (name.to_owned(), policy)).collect();
    picked.push((format!("random {turn}"), CrashPolicy::random(turn)));
    picked
}

/// How many commits a policy must leave.
fn least(history: &History, policy: &CrashPolicy) -> usize {
    if *policy == CrashPolicy::KEEP_ALL { history.kept } else { history.durable }
}

/// Looks at one crash in several ways.
fn check_crash(run: &Run, effort: &Effort, turn: u64) -> Result<u64, String> {
    let mut checked = 0;
    for (name, policy) in policies(effort, turn) {
        let fail = |what: String| format!("policy {name} {policy:?}, seed {turn}: {what}");
        let image = run.disk.crash_image(&policy, turn);
        let least = least(&run.history, &policy);
        let count = check_disk(&image, &run.options, &run.history, least).map_err(fail)?;
        // What recovery made is there to stay.
        check_same(&image, run, count).map_err(|what| fail(format!("opened again: {what}")))?;
        checked += 1;
        let changes = image.change_count();
        let step = (changes / effort.recovery_points).max(1);
        if !turn.is_multiple_of(8) && effort.points != u64::MAX {
            continue;
        }
        for at in (turn % step..changes).step_by(step as usize) {
            crash_in_recovery(run, &policy, turn, at, count)
                .map_err(|what| fail(format!("recovery stopped at {at}: {what}")))?;
            checked += 1;
        }
    }
    Ok(checked)
}

/// The disk holds the state after `count` commits, or one that equals it.
fn check_same(disk: &SimDisk, run: &Run, count: usize) -> Result<(), String> {
    let db = open_rest(disk, &run.options, &run.history).map_err(|e| format!("open: {e}"))?;
    let found = read_all(&db)?;
    let gone = run.history.may_be_gone && found.is_empty();
    if !gone && found != run.history.state(count) {
        return Err(format!("not the state after {count} commits"));
    }
    db.close().map_err(|error| format!("close: {error}"))
}

/// Stops the recovery of an image at one of its changes, and the next one as well.
fn crash_in_recovery(
    run: &Run,
    policy: &CrashPolicy,
    turn: u64,
    at: u64,
    count: usize,
) -> Result<(), String> {
    let mut image = run.disk.crash_image(policy, turn);
    for again in 0..2 {
        image.crash_at_change(at >> again);
        match open_rest(&image, &run.options, &run.history) {
            Ok(db) => {
                // The background goes on, so the power may go off while something is read.
                let checked = check_db(&db, &run.history, 0);
                if !image.is_off() {
                    checked?;
                }
                drop(db.close());
            }
            Err(error) if !image.is_off() => return Err(format!("with the power on: {error}")),
            Err(_) => {}
        }
        image.power_off();
        image = image.crash_image(&CrashPolicy::random(turn ^ at), turn + again);
    }
    check_same(&image, run, count)
}

/// Stops a script at its changes and writes and checks what is left.
fn explore(script: &Script) {
    let effort = effort();
    let whole = run_until(script, Stop::End, 0, None).unwrap();
    let (changes, writes) = (whole.disk.change_count(), whole.history.len() as u64);
    let step = (changes / effort.points).max(1);
    let write_step = (writes / effort.points).max(1);
    let at_changes = (0..changes + 5).step_by(step as usize).map(Stop::Change);
    let at_writes = (0..writes).step_by(write_step as usize).map(Stop::Write);
    let mut checked = 0;
    for (turn, at) in at_changes.chain(at_writes).chain([Stop::End]).enumerate() {
        let run = run_until(script, at, turn as u64, None).unwrap();
        match check_crash(&run, &effort, turn as u64) {
            Ok(count) => checked += count,
            Err(what) => panic!("{}: power off at {at:?} of {changes}: {what}", script.name),
        }
    }
    let name = script.name;
    println!(
        "{name}: {changes} changes by {step}, {writes} writes by {write_step}: {checked} states"
    );
}

const MIXED: [Durability; 7] = [Process, Interval, Process, Process, Sync, Interval, Process];

fn put_all(run: &mut Run, tags: std::ops::Range<u64>, len: usize, how: Durability) -> Result<()> {
    tags.into_iter().try_for_each(|tag| run.put(tag * 7 % 41, value_of(tag, len), how))
}

fn mixed_puts(run: &mut Run) -> Result<()> {
    for tag in 0..120 {
        let how = MIXED[tag as usize % 7];
        run.put(tag * 5 % 31, value_of(tag, 20 + tag as usize * 3), how)?;
        if tag % 9 == 4 {
            run.delete(tag * 3 % 31, how)?;
        }
    }
    run.sync()
}

fn batch(tag: u64, entries: u64, len: usize) -> Commit {
    let entry = |i: u64| {
        let key = key_of((tag * 3 + i * 5) % 53);
        let deleted = (tag + i).is_multiple_of(6);
        (key, (!deleted).then(|| value_of(tag * 1000 + i, len + i as usize)))
    };
    (0..entries).map(entry).collect()
}

fn batches(run: &mut Run) -> Result<()> {
    for tag in 0..60 {
        run.write(batch(tag, 1 + tag % 12, 300), MIXED[tag as usize % 7])?;
    }
    Ok(())
}

fn rotation(run: &mut Run) -> Result<()> {
    for tag in 0..400 {
        let how = if tag % 50 == 37 { Sync } else { MIXED[tag as usize % 4] };
        run.put(tag * 11 % 97, value_of(tag, 600 + tag as usize % 300), how)?;
    }
    Ok(())
}

fn large_values(run: &mut Run) -> Result<()> {
    for tag in 0..90 {
        let how = if tag % 17 == 11 { Sync } else { Process };
        run.put(tag * 3 % 23, value_of(tag, 900 + tag as usize * 97 % 7000), how)?;
        if tag % 30 == 20 {
            run.db().flush()?;
            run.delete(tag * 3 % 23, Process)?;
        }
    }
    run.compact()
}

fn flushes(run: &mut Run) -> Result<()> {
    for round in 0..6 {
        put_all(run, round * 20..round * 20 + 20, 100, MIXED[round as usize])?;
        run.db().flush()?;
        run.delete(round, Process)?;
    }
    Ok(())
}

fn compactions(run: &mut Run) -> Result<()> {
    for round in 0..4u64 {
        put_all(run, round * 30..round * 30 + 30, 200 + 500 * round as usize, Process)?;
        for key in 0..6 {
            run.delete(round + key * 4, Process)?;
        }
        run.db().flush()?;
        if round % 2 == 1 {
            run.compact()?;
        }
    }
    put_all(run, 200..210, 50, Sync)?;
    run.compact()
}

fn oversized(run: &mut Run) -> Result<()> {
    for round in 0..3u64 {
        put_all(run, round * 10..round * 10 + 10, 150, Process)?;
        run.write_oversized(batch(round + 7, 40, 2500))?;
        put_all(run, round * 10 + 5..round * 10 + 15, 150, Interval)?;
    }
    run.close()?;
    run.open()?;
    run.delete(3, Sync)
}

fn zombies(run: &mut Run) -> Result<()> {
    for round in 0..8u64 {
        for key in 0..8 {
            let tag = round * 8 + key;
            run.put(key, value_of(tag, if key % 3 == 0 { 1500 } else { 40 }), Process)?;
            if (round + key) % 2 == 0 {
                run.delete(key, Process)?;
            }
        }
        match round % 4 {
            0 => run.db().flush()?,
            1 => run.sync()?,
            2 => run.compact()?,
            _ => run.reopen()?,
        }
    }
    Ok(())
}

/// Values die in several segments, which are collected, and what was collected is collected again.
fn collections(run: &mut Run) -> Result<()> {
    for round in 0..4 {
        let long =
            |i: u64| value_of(round * 100 + i, if i.is_multiple_of(2) { 1100 } else { 2500 });
        for i in 0..24 {
            run.put(i * (round + 1) % 24, long(i), if i % 12 == 0 { Sync } else { Process })?;
        }
        run.db().flush()?;
        for i in 0..3 {
            run.delete(round * 5 + i, Process)?;
        }
        if round % 2 == 1 {
            run.gc()?;
        }
    }
    run.reopen()?;
    run.gc()
}

fn snapshots(run: &mut Run) -> Result<()> {
    for round in 0..4 {
        let from = round * 25;
        put_all(run, from..from + 25, 120, Process)?;
        let snapshot = run.db().snapshot()?;
        let frozen = run.history.state(run.history.len());
        put_all(run, from + 10..from + 40, 1100, Process)?;
        run.delete(round, Process)?;
        run.db().flush()?;
        run.compact()?;
        let seen: Vec<_> = snapshot.scan(&ScanOptions::new())?.collect::<Result<_>>()?;
        assert!(seen.into_iter().eq(frozen), "a snapshot has changed");
    }
    Ok(())
}

fn reopens(run: &mut Run) -> Result<()> {
    for round in 0..6 {
        put_all(run, round * 9..round * 9 + 9, 700, MIXED[round as usize])?;
        run.reopen()?;
    }
    Ok(())
}

fn creation(run: &mut Run) -> Result<()> {
    run.put(1, value_of(1, 10), Process)?;
    run.close()
}

fn destruction(run: &mut Run) -> Result<()> {
    put_all(run, 0..20, 1200, Process)?;
    run.db().flush()?;
    put_all(run, 20..30, 100, Process)?;
    run.close()?;
    run.destroy()
}

macro_rules! scripts {
    ($($name:ident: $durability:expr, $body:expr;)*) => {
        $(#[test]
        fn $name() {
            explore(&Script { name: stringify!($name), durability: $durability, body: $body });
        })*
    };
}

scripts! {
    puts_at_process: Process, |run| {
        put_all(run, 0..60, 70, Process)?;
        run.sync()?;
        put_all(run, 60..90, 70, Process)
    };
    puts_at_interval: Interval, |run| put_all(run, 0..150, 90, Interval);
    puts_at_sync: Sync, |run| put_all(run, 0..40, 90, Sync);
    puts_of_mixed_durability: Process, mixed_puts;
    batches_are_whole_or_absent: Process, batches;
    rotation_over_small_segments: Process, rotation;
    rotation_with_sync_by_default: Sync, rotation;
    values_above_the_threshold: Process, large_values;
    flushes_of_memtables: Process, flushes;
    compactions_of_runs: Process, compactions;
    batches_larger_than_a_memtable: Process, oversized;
    collections_of_segments: Process, collections;
    deleted_and_overwritten_stays_so: Process, zombies;
    snapshots_over_flush_and_compaction: Process, snapshots;
    close_and_reopen: Interval, reopens;
    creation_of_a_database: Process, creation;
    destruction_of_a_database: Process, destruction;
}

/// A lying device under a script: some crash must show it.
fn must_show(script: &Script, what: &str, plant: fn() -> Fault) {
    let effort = Effort { points: 60, policies: 7, recovery_points: 1 };
    for at in (0..200).map(Stop::Change) {
        let run = run_until(script, at, 0, Some(plant()));
        let shown = run.and_then(|run| {
            let mut turns = 1..4;
            turns.try_for_each(|turn| check_crash(&run, &effort, turn).map(drop))
        });
        if let Err(found) = shown {
            println!("{what} shows at {at:?}: {found}");
            return;
        }
    }
    panic!("{}: no crash shows {what}", script.name);
}

/// Lies about every operation of a kind on files with this in their name, after the first `spare`.
fn lie(kind: OpKind, name: &'static str, spare: u64) -> Fault {
    let mut seen = 0;
    let fits = move |operation: &Operation<'_>| {
        let own = operation.kind == kind && operation.path.to_string_lossy().contains(name);
        seen += u64::from(own);
        own && seen > spare
    };
    Fault::when(fits).effect(Effect::Lie).forever()
}

#[test]
fn lies_of_the_disk_are_noticed() {
    let sync = Script { name: "sync", durability: Sync, body: |run| put_all(run, 0..40, 90, Sync) };
    let tables = Script { name: "tables", durability: Process, body: compactions };
    let large = Script { name: "large", durability: Process, body: large_values };
    must_show(&sync, "a sync of the log that is none", || lie(OpKind::Sync, "vlog", 1));
    must_show(&sync, "a write to the log that is lost", || lie(OpKind::Write, "vlog", 9));
    must_show(&sync, "a directory that is never synced", || lie(OpKind::SyncDir, "", 0));
    must_show(&tables, "a directory sync lost later", || lie(OpKind::SyncDir, "", 6));
    must_show(&tables, "a sync of a table that is none", || lie(OpKind::Sync, "table", 0));
    must_show(&tables, "a write to a table that is lost", || lie(OpKind::Write, "table", 2));
    must_show(&tables, "a sync of the manifest that is none", || lie(OpKind::Sync, "MANIF", 2));
    must_show(&large, "a sync of values that is none", || lie(OpKind::Sync, "vlog", 1));
    must_show(&large, "a CURRENT that is not synced", || lie(OpKind::Sync, "CURRENT", 0));
}

#[test]
fn the_oracle_notices_what_is_missing_or_back() {
    let script = Script { name: "oracle", durability: Process, body: zombies };
    let run = run_until(&script, Stop::End, 0, None).unwrap();
    let image = || run.disk.crash_image(&CrashPolicy::KEEP_ALL, 1);
    let count = check_disk(&image(), &run.options, &run.history, run.history.kept).unwrap();
    let mut state = run.history.state(count);
    assert_eq!(run.history.matching(&state, run.history.kept), Some(count));
    let (key, value) = state.pop_first().unwrap();
    assert_eq!(run.history.matching(&state, run.history.durable), None, "a key is missing");
    state.insert(key.clone(), value_of(9999, 10));
    assert_eq!(run.history.matching(&state, 0), None, "a value that never was");
    state.insert(key, value);
    state.insert(key_of(77), value_of(1, 1));
    assert_eq!(run.history.matching(&state, 0), None, "a key that never was");
    let earlier = run.history.state(count - 1);
    assert_eq!(run.history.matching(&earlier, 0), Some(count - 1));
    assert_eq!(run.history.matching(&earlier, count), None, "too early a state");
}
