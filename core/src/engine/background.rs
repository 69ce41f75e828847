//! The background threads (layer L5): flush, compaction, collection, the log thread, which prepares
//! segments and syncs what interval writes left unsynced, and one for the writer's windows. Each
//! starts when it is first needed, sleeps without a timer while there is nothing to do, and is
//! joined by close.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::hooks;
use super::locks::{MutexGuard, thread};
use super::obsolete;
use super::state::{Engine, NextSegment, Role, Shared, lock, wait};
use super::wake::{note_failure, note_success, start, wake_collection, wake_compaction};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::step_back;
use crate::planted::planted;
use crate::types::SeqNo;

/// How long a failed flush or compaction waits before it is tried again, at first and at most.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const RETRY_AT_MOST: Duration = Duration::from_secs(300);

/// Runs that nobody merges yet, beside a compaction under way, from which a second one starts.
const SECOND_COMPACTION_RUNS: usize = 8;

/// Tells the threads to stop and waits for them.
pub(crate) fn stop(engine: &Engine) {
    let mut shared = lock(&engine.shared);
    shared.stop = true;
    let running = std::mem::take(&mut shared.threads.running);
    drop(shared);
    hooks::reach(&engine.env.dir, "close: stops");
    engine.work.notify_all();
    engine.done.notify_all();
    for (_, handle) in running {
        // A thread may hold the last reference to a handle whose drop closes the database.
        if handle.thread().id() != thread::current().id() {
            let _ = handle.join();
        }
    }
    let mut shared = lock(&engine.shared);
    while shared.jobs > 0 {
        shared = wait(&engine.done, shared);
    }
    // A window that nobody maps any more would keep the file of its segment after close.
    shared.window_wanted = None;
}

/// Does one piece of work. A panic is a defect of the engine: it is told as an error.
fn attempt<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_string());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Error::new(ErrorKind::Io, format!("a background thread panicked: {text}")))
    })
}

/// How often in a row a thread's work has failed.
#[derive(Default)]
struct Failures(u32);

impl Failures {
    /// Records how an attempt went; after a failure waits a while, or until close.
    fn after_attempt(&mut self, engine: &Engine, role: Role, result: &Result<bool>) {
        // What it held itself when it was over.
        obsolete::collect(engine);
        let mut shared = lock(&engine.shared);
        let Err(error) = result else {
            self.0 = 0;
            note_success(&mut shared, role);
            return;
        };
        note_failure(&mut shared, role, error);
        engine.done.notify_all();
        let until = Instant::now() + self.next_delay(role, error.kind());
        while !shared.stop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            shared = wait_for(engine, shared, left);
        }
    }

    /// A second, doubled with each failure; a full disk may have room again soon, but a collection
    /// has tried all that it can.
    fn next_delay(&mut self, role: Role, kind: ErrorKind) -> Duration {
        let doubled = RETRY_AFTER * (1 << self.0.min(9));
        self.0 += 1;
        let soon = kind == ErrorKind::DiskFull && role != Role::Collection;
        if soon { RETRY_AFTER } else { doubled.min(RETRY_AT_MOST) }
    }
}

fn wait_for<'a>(
    engine: &'a Engine,
    shared: MutexGuard<'a, Shared>,
    time: Duration,
) -> MutexGuard<'a, Shared> {
    engine.work.wait_timeout(shared, time).unwrap_or_else(PoisonError::into_inner).0
}

/// By how much flushes, and merges and collections, give way to other threads where processors are
/// short: a flush is what writers wait for.
const FLUSH_NICENESS: i32 = 5;
const MERGE_NICENESS: i32 = 10;

/// The body of a thread.
pub(crate) fn run(engine: &Engine, role: Role) {
    // Writers and readers go first: work that lags slows writers down by itself.
    let niceness = match role {
        Role::Flush => FLUSH_NICENESS,
        Role::Compaction | Role::SecondCompaction | Role::Collection => MERGE_NICENESS,
        Role::Log | Role::Window => 0,
    };
    if cfg!(not(feature = "shuttle")) {
        step_back(niceness);
    }
    match role {
        Role::Flush => run_flush(engine),
        Role::Compaction | Role::SecondCompaction => run_compaction(engine, role),
        Role::Collection => run_collection(engine),
        Role::Log => run_log(engine),
        Role::Window => run_windows(engine),
    }
}

fn run_flush(engine: &Engine) {
    let mut failures = Failures::default();
    loop {
        {
            let mut shared = lock(&engine.shared);
            let idle =
                || engine.view.load().parts.len() < 2 || engine.is_poisoned.load(Ordering::Relaxed);
            while !shared.stop && idle() {
                shared = wait(&engine.work, shared);
            }
            if shared.stop {
                return;
            }
        }
        let result = attempt(|| {
            hooks::reach(&engine.env.dir, "flush: begins");
            engine.flush_oldest()
        });
        wake_compaction(engine);
        wake_collection(engine);
        failures.after_attempt(engine, Role::Flush, &result);
    }
}

fn run_compaction(engine: &Engine, role: Role) {
    let mut failures = Failures::default();
    loop {
        let seen = {
            let mut shared = lock(&engine.shared);
            // Nothing can be committed until the database is opened again.
            while !shared.stop && engine.is_poisoned.load(Ordering::Relaxed) {
                shared = wait(&engine.work, shared);
            }
            let free = engine.view.load().version.runs.len().saturating_sub(shared.busy_runs.len());
            let second = !shared.busy_runs.is_empty() && free >= SECOND_COMPACTION_RUNS;
            let seen = shared.commits;
            drop(shared);
            if second {
                start(engine, Role::SecondCompaction);
            }
            seen
        };
        let result = attempt(|| engine.compact_once());
        wake_collection(engine);
        failures.after_attempt(engine, role, &result);
        let mut shared = lock(&engine.shared);
        while !shared.stop && matches!(result, Ok(false)) && shared.commits == seen {
            match until_expiry(engine, &shared) {
                None => shared = wait(&engine.work, shared),
                Some(time) => {
                    shared = wait_for(engine, shared, time);
                    break;
                }
            }
        }
        if shared.stop {
            return;
        }
    }
}

/// How long until a snapshot is too old, and what was kept for it may go; `None` when there is
/// nothing to wait for.
fn until_expiry(engine: &Engine, shared: &Shared) -> Option<Duration> {
    let most = Duration::from_millis(engine.env.options.snapshot_max_age_ms);
    if most.is_zero() || engine.view.load().version.old_bytes() == 0 {
        return None;
    }
    let alive = shared.snapshots.values().filter(|own| !engine.is_expired(own.last));
    let left = alive.map(|own| most.saturating_sub(own.last.elapsed())).min()?;
    Some(left + Duration::from_millis(1))
}

fn run_collection(engine: &Engine) {
    let mut failures = Failures::default();
    loop {
        let seen = {
            let mut shared = lock(&engine.shared);
            while !shared.stop && engine.is_poisoned.load(Ordering::Relaxed) {
                shared = wait(&engine.work, shared);
            }
            shared.commits
        };
        let result = attempt(|| engine.collect_once());
        failures.after_attempt(engine, Role::Collection, &result);
        let mut shared = lock(&engine.shared);
        while !shared.stop && matches!(result, Ok(false)) && shared.commits == seen {
            shared = wait(&engine.work, shared);
        }
        if shared.stop {
            return;
        }
    }
}

/// What the log thread does next.
enum LogTask {
    Prepare(u64),
    Sync,
    Rest,
    Stop,
}

/// How long nobody must have written before a large log is made smaller.
const REST_AFTER_MS: u64 = 2_000;

/// When the log thread sees to it that the database rests.
#[derive(Default)]
struct Rest {
    /// The time, if nothing is written until then; and what was written when it was set.
    due: Option<(Instant, SeqNo)>,
    /// It has been tried, and nothing has happened since.
    tried: bool,
}

impl Rest {
    /// How long to wait, zero when it is time; `None` when there is no reason to.
    fn left(&mut self, engine: &Engine, shared: &Shared) -> Option<Duration> {
        if self.tried || !engine.wants_rest(&shared.next_segment) {
            self.due = None;
            return None;
        }
        let after = hooks::limit(&engine.env.dir, "rest after ms", REST_AFTER_MS);
        let newest = engine.visible.load(Ordering::Relaxed);
        let unchanged = self.due.filter(|(_, seen)| *seen == newest);
        let (due, _) = *self
            .due
            .insert(unchanged.unwrap_or((Instant::now() + Duration::from_millis(after), newest)));
        Some(due.saturating_duration_since(Instant::now()))
    }
}

fn run_log(engine: &Engine) {
    let mut deadline = None;
    let mut rest = Rest::default();
    loop {
        let task = next_log_task(engine, &mut deadline, &mut rest);
        rest.tried = matches!(task, LogTask::Rest);
        match task {
            LogTask::Stop => return,
            LogTask::Prepare(size_bytes) => prepare_segment(engine, size_bytes),
            // What failed stays as large as it is.
            LogTask::Rest => drop(attempt(|| engine.rest())),
            LogTask::Sync => {
                deadline = None;
                // A failure poisons the database, which is how everybody hears of it.
                let _ = attempt(|| sync_interval(engine));
            }
        }
    }
}

fn run_windows(engine: &Engine) {
    let mut shared = lock(&engine.shared);
    while !shared.stop {
        let Some(segment) = shared.window_wanted.take() else {
            shared = wait(&engine.work, shared);
            continue;
        };
        drop(shared);
        // The writer meets an error itself when it needs the window.
        drop(attempt(|| segment.prepare_window()));
        drop(segment);
        shared = lock(&engine.shared);
    }
}

fn prepare_segment(engine: &Engine, size_bytes: u64) {
    let result = attempt(|| {
        hooks::reach(&engine.env.dir, "log: prepares a segment");
        engine.create_segment(size_bytes, None)
    });
    let mut shared = lock(&engine.shared);
    shared.next_segment = match result {
        Ok(segment) => {
            note_success(&mut shared, Role::Log);
            NextSegment::Ready(segment)
        }
        Err(error) => {
            note_failure(&mut shared, Role::Log, &error);
            NextSegment::Failed
        }
    };
    drop(shared);
    engine.done.notify_all();
}

/// Syncs what interval writes left unsynced.
fn sync_interval(engine: &Engine) -> Result<()> {
    engine.dirty.store(false, Ordering::Release);
    // Whoever had the writer's lock before has published what is read here; whoever gets it later
    // finds the mark cleared, and sets it again. Without the lock both could miss each other.
    if let Some(writer) = &engine.writer {
        drop(lock(writer));
    }
    if planted("interval: never synced") {
        return Ok(());
    }
    let target = engine.visible.load(Ordering::Acquire);
    engine.sync_to(target)?;
    engine.mark_synced(target);
    Ok(())
}

fn next_log_task(engine: &Engine, deadline: &mut Option<Instant>, rest: &mut Rest) -> LogTask {
    let interval = Duration::from_millis(engine.env.options.sync_interval_ms);
    let mut shared = lock(&engine.shared);
    loop {
        if shared.stop {
            return LogTask::Stop;
        }
        if let NextSegment::Wanted(size_bytes) = shared.next_segment {
            shared.next_segment = NextSegment::Preparing;
            return LogTask::Prepare(size_bytes);
        }
        if shared.dirty {
            let due = *deadline.get_or_insert_with(|| Instant::now() + interval);
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                shared.dirty = false;
                return LogTask::Sync;
            }
            shared = wait_for(engine, shared, left);
            continue;
        }
        match rest.left(engine, &shared) {
            Some(left) if left.is_zero() => return LogTask::Rest,
            Some(left) => shared = wait_for(engine, shared, left),
            None => shared = wait(&engine.work, shared),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_again_and_again_is_tried_ever_less_often() {
        let mut failures = Failures::default();
        let mut seconds = |kind| failures.next_delay(Role::Flush, kind).as_secs();
        let damaged: Vec<u64> = (0..11).map(|_| seconds(ErrorKind::Corruption)).collect();
        assert_eq!(damaged, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(seconds(ErrorKind::DiskFull), 1);
    }
}
