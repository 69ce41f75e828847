//! ATOM, NOHOLE, ACK, BYTES and STICKY through the shared library, in a process of its own: a C
//! program (`tests/c/death.c`) that is killed at any time and at certain system calls, and whose
//! system calls fail. This process keeps the oracle.
//!
//! `make test-death-long` runs all of it; the short form is a sample that is the same every time.
//! TOYKV_DEATH_SEED draws another one. What a machine without strace cannot do is left out.
#![expect(clippy::disallowed_methods, reason = "tests look at files from outside the engine")]

mod child;
mod oracle;
#[path = "../../../core/tests/it/support/random.rs"]
mod random;
mod script;
mod scripts;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use child::{Ready, Story, count_calls, strace_works};
use oracle::{Oracle, Outcome};
use random::Random;
use script::{Op, Script};
use tempfile::TempDir;

/// Kills that one database lives through, and runs of it that are tried for that at most: some
/// end before they are killed.
const KILLS_PER_DATABASE: usize = 20;
const RUNS_PER_DATABASE: usize = 200;

/// How much is done: a number from the environment, or `usual`.
fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect(name))
}

/// The same in every short run.
fn seed() -> u64 {
    let seed = number("TOYKV_DEATH_SEED", 1);
    println!("TOYKV_DEATH_SEED={seed}");
    seed
}

/// The compiled child.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, program) = PROGRAM.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let program = dir.path().join("death");
        std::os::unix::fs::symlink(support::library(), dir.path().join("libtoykv.so.0"))
            .expect("a symbolic link");
        let mut compiler = support::c_compiler();
        compiler.args(["-std=gnu99", "-O1", "-g", "-Wall", "-Wextra", "-pedantic", "-Werror"]);
        compiler.arg("-I").arg(support::include_dir());
        compiler.arg(support::crate_dir().join("tests/c/death.c"));
        compiler.arg(format!("-L{}", support::library_dir().display()));
        compiler.arg(format!("-Wl,-rpath,{}", dir.path().display()));
        support::run(compiler.args(["-l:libtoykv.so", "-lpthread", "-o"]).arg(&program), true);
        (dir, program)
    });
    program
}

/// Tells of a run that went wrong all that is needed to see why.
fn expect_fine(outcome: Outcome, what: &str, story: &Story) {
    if let Err(wrong) = outcome {
        panic!("{what}: {wrong}\n{}\nopens {:?}\n{:#?}", story.errors, story.opens, story.exit);
    }
}

/// Runs `work` on every item, on as many threads as there are processors.
fn for_each<T: Sync>(items: &[T], work: impl Fn(usize, &T) + Sync) {
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(items.len());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { break };
                    work(index, item);
                }
            });
        }
    });
}

/// Kills the children of one database, one after another; answers how many ran until it was done.
fn kill_again_and_again(seed: u64) -> usize {
    let mut random = Random::new(seed);
    let dir = tempfile::tempdir().expect("a directory");
    let db = dir.path().join("db");
    let threads = random.one_of(&[1, 1, 2, 4]);
    let mut oracle = Oracle::new(threads, false);
    let mut kills = 0;
    for run in 0..RUNS_PER_DATABASE {
        let script = scripts::anything(random.next(), threads, 300 / threads as u64);
        let mut running = Ready::start(program(), &db, &script).go();
        // In the middle of the open, or after so many answers.
        let lines = random.one_of(&[0, 0, 1, 2, 10, 300]);
        for _ in 0..random.below(lines + 1) {
            running.listen();
        }
        std::thread::sleep(std::time::Duration::from_micros(random.below(3000)));
        let story = running.kill();
        let followed = oracle.follow(&script, &story);
        let read_only = random.below(2) == 0;
        let checked = followed.and_then(|()| oracle.check(&db, &script, read_only));
        expect_fine(checked, &format!("database {seed}, run {run}"), &story);
        kills += usize::from(story.was_killed());
        if kills == KILLS_PER_DATABASE {
            return run + 1;
        }
    }
    panic!("database {seed}: only {kills} of {RUNS_PER_DATABASE} runs were killed in time");
}

#[test]
fn what_was_acknowledged_survives_kills_at_any_time() {
    let kills = number("TOYKV_DEATH_KILLS", 100) as usize;
    let seed = seed();
    let databases: Vec<u64> = (0..kills.div_ceil(KILLS_PER_DATABASE) as u64).collect();
    let runs = AtomicUsize::new(0);
    for_each(&databases, |_, database| {
        let own = kill_again_and_again(seed.wrapping_mul(1_000_003) + database);
        runs.fetch_add(own, Ordering::Relaxed);
    });
    let kills = databases.len() * KILLS_PER_DATABASE;
    println!("{kills} kills in {} runs", runs.into_inner());
}

/// One run of a script in which strace steps in.
struct Case {
    script: &'static Script,
    /// The child does not close the database.
    leave: bool,
    /// The argument of `inject=`.
    inject: String,
    call: &'static str,
}

/// How often a script makes each system call.
type Counted = (Script, BTreeMap<String, usize>);

/// The scripts with their calls; `None` without strace.
fn scripts_and_calls() -> Option<&'static Vec<Counted>> {
    static COUNTED: OnceLock<Option<Vec<Counted>>> = OnceLock::new();
    let count = || {
        let dir = tempfile::tempdir().expect("a directory");
        let counted = |(index, script): (usize, Script)| {
            let calls = count_calls(program(), &dir.path().join(index.to_string()), &script);
            (script, calls)
        };
        let works = strace_works(program(), dir.path());
        works.then(|| scripts::all().into_iter().enumerate().map(counted).collect())
    };
    COUNTED.get_or_init(count).as_ref()
}

/// All places of all scripts that `inject` makes something of, given a call and its number.
fn cases(counted: &'static [Counted], inject: impl Fn(&str, usize) -> Vec<String>) -> Vec<Case> {
    let mut all = Vec::new();
    for (script, calls) in counted {
        for (call, count) in calls {
            let injected = (1..=*count).flat_map(|n| inject(call, n));
            all.extend(injected.map(|inject| Case { script, leave: false, inject, call }));
        }
    }
    all
}

/// `most` of them, drawn with the seed; all when there are no more. Whether a case comes before
/// another depends on these two alone: how often threads waited for each other when the calls were
/// counted changes little of what is drawn.
fn sample(mut all: Vec<Case>, most: usize, seed: u64) -> Vec<Case> {
    all.sort_by_cached_key(|case| {
        let text = format!("{} {} {}", case.script.name, case.leave, case.inject);
        Random::new(script::digest(seed, text.as_bytes())).next()
    });
    all.truncate(most);
    all
}

/// Runs a case; answers whether it was killed.
fn run_case(case: &Case, lenient: bool) -> bool {
    let dir = tempfile::tempdir().expect("a directory");
    let db = dir.path().join("db");
    let arguments = [format!("trace={}", case.call), format!("inject={}", case.inject)];
    let script = Script { leave: case.leave, ..case.script.clone() };
    let ready = Ready::start(program(), &db, &script);
    let story = ready.go_under_strace(&["-e", &arguments[0], "-e", &arguments[1]]).wait();
    let mut oracle = Oracle::new(script.threads.len(), lenient);
    let followed = oracle.follow(&script, &story);
    let checked = followed.and_then(|()| oracle.check(&db, &script, false));
    expect_fine(checked, &format!("{}: {}", script.name, case.inject), &story);
    story.was_killed()
}

#[test]
fn what_was_acknowledged_survives_death_at_each_system_call() {
    let Some(counted) = scripts_and_calls() else { return };
    let all = cases(counted, |call, n| vec![format!("{call}:signal=KILL:when={n}")]);
    let places = all.len();
    let sample = sample(all, number("TOYKV_DEATH_STOPS", 100) as usize, seed());
    let killed = AtomicUsize::new(0);
    for_each(&sample, |_, case| {
        killed.fetch_add(run_case(case, false).into(), Ordering::Relaxed);
    });
    let killed = killed.into_inner();
    println!("{killed} deaths at {} of {places} system calls", sample.len());
    // Threads may make a call less often than they did when it was counted, such as those on locks.
    assert!(killed * 4 > sample.len(), "{killed} deaths of {}", sample.len());
}

/// The calls that may fail and how; what allocates memory is left out.
const FAILING: &[(&[&str], &[&str])] = &[
    (&["fdatasync", "fsync", "msync", "sync_file_range"], &["EIO", "ENOSPC", "EDQUOT"]),
    (&["fallocate"], &["ENOSPC", "EDQUOT", "EIO", "EOPNOTSUPP", "EINTR"]),
    (&["pwrite64"], &["EIO", "ENOSPC", "EDQUOT", "EFBIG", "EINTR"]),
    (&["pread64"], &["EIO", "EINTR"]),
    (&["openat"], &["EIO", "EMFILE", "ENOSPC", "EROFS", "EACCES", "EINTR"]),
    (&["rename", "renameat", "renameat2", "link", "linkat"], &["EIO", "ENOSPC", "EROFS"]),
    (&["unlink", "unlinkat", "ftruncate", "mkdir"], &["EIO", "EROFS"]),
    (&["flock", "getdents64", "fstat", "statx", "newfstatat", "fstatfs", "madvise"], &["EIO"]),
    (&["clone", "clone3"], &["EAGAIN"]),
];

/// Each call of a script that may fail, each way, once and for ever.
fn failures(call: &str, n: usize) -> Vec<String> {
    let fitting = FAILING.iter().filter(|(calls, _)| calls.contains(&call));
    let mut all = Vec::new();
    for errno in fitting.flat_map(|(_, errnos)| *errnos) {
        all.push(format!("{call}:error={errno}:when={n}"));
        // A call that is interrupted is made again, for ever.
        if *errno != "EINTR" {
            all.push(format!("{call}:error={errno}:when={n}+"));
        }
    }
    if call == "pwrite64" {
        // Nothing was written, says the call.
        all.push(format!("{call}:retval=0:when={n}"));
    }
    all
}

#[test]
fn a_failing_call_is_an_error_and_loses_nothing() {
    // In the long form only: it has not run often enough under load to be part of every test.
    let most = number("TOYKV_DEATH_FAILURES", 0) as usize;
    if most == 0 {
        return println!("failing calls are left out: TOYKV_DEATH_FAILURES=5000 makes so many");
    }
    let Some(counted) = scripts_and_calls() else { return };
    let close = cases(counted, failures);
    let leave = cases(counted, failures).into_iter().map(|case| Case { leave: true, ..case });
    let all: Vec<Case> = close.into_iter().chain(leave).collect();
    let places = all.len();
    let sample = sample(all, most, seed());
    for_each(&sample, |_, case| {
        run_case(case, true);
    });
    println!("{} failing calls of {places}", sample.len());
}

#[test]
fn short_reads_and_writes_are_gone_on_with() {
    for script in scripts::all() {
        let dir = tempfile::tempdir().expect("a directory");
        let db = dir.path().join("db");
        let script = Script { short: true, ..script };
        let story = Ready::start(program(), &db, &script).go().wait();
        let mut oracle = Oracle::new(script.threads.len(), false);
        let followed = oracle.follow(&script, &story);
        let checked = followed.and_then(|()| oracle.check(&db, &script, false));
        expect_fine(checked, script.name, &story);
        assert!(story.ended);
    }
}

/// The oracle would notice: a database that lacks what was acknowledged, or holds more.
#[test]
fn what_is_lost_or_too_much_is_noticed() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = dir.path().join("db");
    let mut script = scripts::all().remove(3);
    // Every write happens, however slow the machine.
    script.options.retain(|(name, _)| *name != "stall_limit_ms");
    let story = Ready::start(program(), &db, &script).go().wait();
    let checks = |script: &Script, story: &Story| {
        let mut oracle = Oracle::new(1, false);
        oracle.follow(script, story).and_then(|()| oracle.check(&db, script, true))
    };
    checks(&script, &story).expect("a right story");
    let (current, aside) = (db.join("CURRENT"), dir.path().join("CURRENT"));
    std::fs::rename(&current, &aside).expect("a name");
    let lost = checks(&script, &story).expect_err("a database that has lost its CURRENT");
    assert!(lost.contains("CURRENT"), "{lost}");
    std::fs::rename(&aside, &current).expect("a name");
    for index in 0..script.threads[0].len() {
        // The child says that it was not killed: nothing is in doubt.
        let (mut fewer, mut changed) = (script.clone(), script.clone());
        fewer.threads[0].truncate(index);
        let Op::Write(_, changes) = &mut changed.threads[0][index] else { continue };
        changes[0].value = Some((0, 77));
        let is_last = |key: &str| {
            let later = &script.threads[0][index + 1..];
            !later.iter().any(|op| matches!(op, Op::Write(_, all) if all[0].key == key))
        };
        let key = changes[0].key.clone();
        assert_eq!(checks(&changed, &story).is_err(), is_last(&key), "write {index}");
        let missing = script.threads[0][index..].iter().any(|op| op.changes());
        assert!(!missing || checks(&fewer, &story).is_err(), "the first {index} writes");
    }
}
