//! Power loss at every moment of every script, under every policy of loss: what comes back is a
//! prefix of the commits with everything that was acknowledged, and it can be gone on with.
//!
//! Checks ATOM, NOHOLE, ACK, NOZOMBIE, BYTES, MONO, RECOV. `TOYKV_CRASH_FULL=1` tries every moment
//! of every variant with every policy instead of a sample, a larger number so many times as many
//! random ones; `TOYKV_CRASH_SCRIPT=name` plays only the scripts whose names begin so.

mod explore;
mod recovery;
mod script;
mod scripts;

use std::collections::BTreeSet;
use std::env;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use toykv::sim::{CrashPolicy, Effect, Fault, OpKind, Operation, SimDisk};
use toykv::{Durability, Options};

use crate::oracle::{Run, check_disk, key_of, value_of};
use crate::support::number_from_env;
use explore::{Cut, Effort, Tally, explore, explore_with};
use recovery::{Depth, crash_in_recovery};
use script::{Script, play};
use scripts::SCRIPTS;

/// How much more than a sample is tried; 0: a sample.
fn fullness() -> u64 {
    number_from_env("TOYKV_CRASH_FULL", 0)
}

/// The scripts that are asked for.
fn chosen() -> Vec<&'static Script> {
    let start = env::var("TOYKV_CRASH_SCRIPT").unwrap_or_default();
    SCRIPTS.iter().filter(|script| script.name.starts_with(&start)).collect()
}

fn named(name: &str) -> &'static Script {
    SCRIPTS.iter().find(|script| script.name == name).unwrap()
}

/// Does something with every script, on as many threads as there are processors.
fn for_every_script<T: Send>(
    body: impl Fn(&Script) -> Result<T, String> + Sync,
) -> Vec<Result<T, String>> {
    let (scripts, next, done) = (chosen(), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(script) = scripts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = body(script);
                    done.lock().unwrap().push(result);
                }
            });
        }
    });
    done.into_inner().unwrap()
}

/// Adds up what was tried; panics with everything that was wrong.
fn add_up(what: &str, results: Vec<Result<Tally, String>>) -> Tally {
    let (mut sum, mut wrong) = (Tally::default(), Vec::new());
    for result in results {
        match result {
            Ok(tally) => sum.add(tally),
            Err(error) => wrong.push(error),
        }
    }
    assert!(wrong.is_empty(), "{what}: {} scripts, {}", wrong.len(), wrong.join("\n"));
    let Tally { scripts, moments, images, states } = sum;
    println!("{what}: {scripts} scripts, {moments} moments, {images} images, {states} states");
    sum
}

#[test]
fn power_loss_at_every_moment() {
    let effort = match fullness() {
        full @ 1.. => Effort { variants: 5, sample: None, random: 3 * full },
        0 => Effort { variants: 3, sample: Some(330), random: 0 },
    };
    let explored = for_every_script(|script| {
        let tally = explore(script, &effort)?;
        let Tally { moments, images, states, .. } = tally;
        println!("{}: {moments} moments, {images} images, {states} states", script.name);
        Ok(tally)
    });
    let sum = add_up("power loss", explored);
    // So that nobody makes the test quicker by looking at nothing.
    let least = if fullness() > 0 { 1_000_000 } else { 20_000 };
    assert!(sum.states >= least || env::var_os("TOYKV_CRASH_SCRIPT").is_some());
}

#[test]
fn crash_within_recovery() {
    let effort = match fullness() {
        full @ 1.. => Depth { images: 60 * full, doubles: 32, triples: 1 },
        0 => Depth { images: 2, doubles: 12, triples: 1 },
    };
    let results = for_every_script(|script| crash_in_recovery(script, &effort));
    let counts = results.into_iter().map(Result::unwrap);
    let sum = counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!("crash within recovery: {} double, {} triple crashes", sum.0, sum.1);
    let (doubles, triples) = if fullness() > 0 { (100_000, 100_000) } else { (2000, 1000) };
    let enough = sum.0 >= doubles && sum.1 >= triples;
    assert!(enough || env::var_os("TOYKV_CRASH_SCRIPT").is_some());
}

/// Polls until the background has synced, however long that takes.
#[test]
fn an_interval_write_is_durable_when_the_background_has_synced() {
    let mut run = Run::new(SimDisk::new(), Options::new().sync_interval_ms(1));
    run.open().unwrap();
    let before = run.db().stats().syncs;
    run.put(1, value_of(1, 100), Durability::Interval).unwrap();
    let waited = Instant::now();
    while run.db().stats().syncs == before {
        assert!(waited.elapsed() < Duration::from_secs(120), "nothing is synced");
        thread::sleep(Duration::from_millis(1));
    }
    // The count goes up when the sync is over, before its callers know.
    run.disk.power_off();
    run.drop_db();
    let image = run.disk.crash_image(&CrashPolicy::DROP_ALL, 1);
    check_disk(&image, &run.options, &run.history, 1).unwrap();
}

#[test]
fn scripts_have_names_of_their_own_and_are_many() {
    let names: BTreeSet<_> = SCRIPTS.iter().map(|script| script.name).collect();
    assert_eq!(names.len(), SCRIPTS.len());
    assert!(SCRIPTS.len() >= 50);
}

/// A lying device under a script: some crash must show it.
fn must_show(script: &Script, what: &str, plant: fn() -> Fault) {
    let effort = Effort { variants: 1, sample: None, random: 0 };
    match explore_with(script, &effort, || Some(plant())) {
        Err(found) => println!("{what} shows: {found}"),
        Ok(_) => panic!("{}: no crash shows {what}", script.name),
    }
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
    let (sync, tables) = (named("puts_at_sync"), named("compactions"));
    let large = named("values_that_stay_in_their_segment");
    must_show(sync, "a sync of the log that is none", || lie(OpKind::Sync, "vlog", 1));
    must_show(sync, "a write to the log that is lost", || lie(OpKind::Write, "vlog", 9));
    must_show(sync, "a directory that is never synced", || lie(OpKind::SyncDir, "", 0));
    must_show(tables, "a directory sync lost later", || lie(OpKind::SyncDir, "", 6));
    must_show(tables, "a sync of a table that is none", || lie(OpKind::Sync, "table", 0));
    must_show(tables, "a write to a table that is lost", || lie(OpKind::Write, "table", 2));
    must_show(tables, "a sync of the manifest that is none", || lie(OpKind::Sync, "MANIF", 2));
    must_show(large, "a sync of values that is none", || lie(OpKind::Sync, "vlog", 1));
    must_show(large, "a CURRENT that is not synced", || lie(OpKind::Sync, "CURRENT", 0));
}

#[test]
fn the_oracle_notices_what_is_missing_or_back() {
    let played = play(named("puts_at_process"), 0, None).unwrap();
    let run = &played.run;
    let image = run.disk.crash_image(&CrashPolicy::KEEP_ALL, 1);
    let count = check_disk(&image, &run.options, &run.history, run.history.kept).unwrap();
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

/// The state is the same with and without a delete of a key that is not there; which it is decides
/// what the next recovery must find.
#[test]
fn a_commit_that_changes_nothing_is_told_by_its_number() {
    let mut run = Run::new(SimDisk::new(), Options::new());
    run.open().unwrap();
    run.put(1, value_of(1, 100), Durability::Sync).unwrap();
    run.delete(2, Durability::Process).unwrap();
    run.disk.power_off();
    run.drop_db();
    for (policy, expected) in [(CrashPolicy::DROP_ALL, 1), (CrashPolicy::KEEP_ALL, 2)] {
        let image = run.disk.crash_image(&policy, 1);
        let count = check_disk(&image, &run.options, &run.history, 1).unwrap();
        assert_eq!(count, expected, "{policy:?}");
    }
}

/// A state of a later time is no state of an earlier one: what is destroyed at the end is not gone
/// before, and what is popped later is there.
#[test]
fn what_was_not_yet_tried_is_not_there() {
    for name in ["destruction", "pops_of_the_first", "pops_of_the_last"] {
        let mut played = play(named(name), 0, None).unwrap();
        let newest = played.run.history.newest();
        let mut early = 0;
        for moment in 0..played.moments.len() {
            let cut = Cut { moment, policy: CrashPolicy::KEEP_ALL, seed: 1 };
            let (_, least) = played.cut(&cut);
            let history = &played.run.history;
            if least > 0 && history.tried < history.len() {
                early += 1;
                assert_eq!(history.matching(&newest, least), None, "{name}, moment {moment}");
            }
        }
        assert!(early > 5, "{name}");
    }
}
