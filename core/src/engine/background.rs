//! The background threads (layer L5): flush, compaction, and the log thread, which prepares
//! segments and syncs what interval writes left unsynced. Each starts when it is first needed,
//! sleeps without a timer while there is nothing to do, and is joined by close.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::hooks;
use super::state::{Engine, NextSegment, Role, Shared, lock, wait};
use super::wake::{note_failure, start, wake_collection, wake_compaction};
use crate::error::Result;
use crate::vlog::Segment;

/// How long a failed flush or compaction waits before it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

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
        if handle.thread().id() != std::thread::current().id() {
            let _ = handle.join();
        }
    }
    let mut shared = lock(&engine.shared);
    while shared.jobs > 0 {
        shared = wait(&engine.done, shared);
    }
}

/// Records how an attempt went; after a failure waits a while, or until something has changed.
fn after_attempt(engine: &Engine, result: &Result<bool>) {
    let mut shared = lock(&engine.shared);
    match result {
        Ok(true) => shared.background_error = None,
        Ok(false) => {}
        Err(error) => {
            note_failure(&mut shared, error);
            engine.done.notify_all();
            if !shared.stop {
                drop(wait_for(engine, shared, RETRY_AFTER));
            }
        }
    }
}

fn wait_for<'a>(
    engine: &'a Engine,
    shared: MutexGuard<'a, Shared>,
    time: Duration,
) -> MutexGuard<'a, Shared> {
    engine.work.wait_timeout(shared, time).unwrap_or_else(PoisonError::into_inner).0
}

/// The body of a thread.
pub(crate) fn run(engine: &Engine, role: Role) {
    match role {
        Role::Flush => run_flush(engine),
        Role::Compaction | Role::SecondCompaction => run_compaction(engine),
        Role::Collection => run_collection(engine),
        Role::Log => run_log(engine),
    }
}

fn run_flush(engine: &Engine) {
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
        let result = engine.flush_oldest();
        wake_compaction(engine);
        wake_collection(engine);
        after_attempt(engine, &result);
    }
}

fn run_compaction(engine: &Engine) {
    loop {
        let seen = {
            let shared = lock(&engine.shared);
            let free = engine.view.load().version.runs.len().saturating_sub(shared.busy_runs.len());
            let second = !shared.busy_runs.is_empty() && free >= SECOND_COMPACTION_RUNS;
            let seen = shared.commits;
            drop(shared);
            if second {
                start(engine, Role::SecondCompaction);
            }
            seen
        };
        let result = engine.compact_once();
        wake_collection(engine);
        after_attempt(engine, &result);
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
    loop {
        let seen = lock(&engine.shared).commits;
        let result = engine.collect_once();
        after_attempt(engine, &result);
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
    Window(Arc<Segment>),
    Sync,
    Stop,
}

fn run_log(engine: &Engine) {
    let mut deadline = None;
    loop {
        match next_log_task(engine, &mut deadline) {
            LogTask::Stop => return,
            LogTask::Prepare(size_bytes) => {
                let result = engine.create_segment(size_bytes, None);
                let mut shared = lock(&engine.shared);
                shared.next_segment = match result {
                    Ok(segment) => NextSegment::Ready(segment),
                    Err(error) => {
                        note_failure(&mut shared, &error);
                        NextSegment::Failed
                    }
                };
                drop(shared);
                engine.done.notify_all();
            }
            // The writer meets an error itself when it needs the window.
            LogTask::Window(segment) => drop(segment.prepare_window()),
            LogTask::Sync => {
                deadline = None;
                // Cleared first: a write that comes now is synced by the next round.
                engine.dirty.store(false, Ordering::Release);
                let target = engine.visible.load(Ordering::Acquire);
                // A failure poisons the database, which is how everybody hears of it.
                if engine.sync_to(target).is_ok() {
                    engine.mark_synced(target);
                }
            }
        }
    }
}

fn next_log_task(engine: &Engine, deadline: &mut Option<Instant>) -> LogTask {
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
        if let Some(segment) = shared.window_wanted.take() {
            return LogTask::Window(segment);
        }
        if shared.dirty {
            let due = *deadline.get_or_insert_with(|| Instant::now() + interval);
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                shared.dirty = false;
                return LogTask::Sync;
            }
            shared = wait_for(engine, shared, left);
        } else {
            shared = wait(&engine.work, shared);
        }
    }
}
