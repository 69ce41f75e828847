//! The background threads (layer L5): flush, compaction, and the log thread, which prepares
//! segments and syncs what interval writes left unsynced. Each starts when it is first needed,
//! sleeps without a timer while there is nothing to do, and is joined by close.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::state::{Engine, NextSegment, Shared, lock, wait};
use crate::error::{Error, ErrorKind, Result};
use crate::vlog::Segment;

/// How long a failed flush or compaction waits before it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Runs that nobody merges yet, beside a compaction under way, from which a second one starts.
const SECOND_COMPACTION_RUNS: usize = 8;

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Flush,
    Compaction,
    SecondCompaction,
    Log,
}

/// The threads that run.
#[derive(Default)]
pub(crate) struct Threads {
    running: Vec<(Role, JoinHandle<()>)>,
}

/// Sees to it that frozen memtables are flushed.
pub(crate) fn wake_flush(engine: &Engine) {
    start(engine, Role::Flush);
    engine.work.notify_all();
}

/// Sees to it that runs are merged when that is useful.
pub(crate) fn wake_compaction(engine: &Engine) {
    if engine.wants_compaction() {
        start(engine, Role::Compaction);
        engine.work.notify_all();
    }
}

/// Asks for the next segment of the log.
pub(crate) fn want_segment(engine: &Engine, size_bytes: u64) {
    {
        let mut shared = lock(&engine.shared);
        if !matches!(shared.next_segment, NextSegment::None | NextSegment::Failed) {
            return;
        }
        shared.next_segment = NextSegment::Wanted(size_bytes);
    }
    if start(engine, Role::Log) {
        engine.work.notify_all();
    } else {
        lock(&engine.shared).next_segment = NextSegment::Failed;
    }
}

/// Asks for the next window of the segment that is being written.
#[cold]
pub(crate) fn want_window(engine: &Engine, segment: &Arc<Segment>) {
    lock(&engine.shared).window_wanted = Some(Arc::clone(segment));
    start(engine, Role::Log);
    engine.work.notify_all();
}

/// Tells the log thread that there is something to sync within the interval.
#[cold]
pub(crate) fn note_dirty(engine: &Engine) {
    if !engine.dirty.swap(true, Ordering::AcqRel) {
        lock(&engine.shared).dirty = true;
        start(engine, Role::Log);
        engine.work.notify_all();
    }
}

/// Starts a thread unless it runs; false when it cannot be had.
fn start(engine: &Engine, role: Role) -> bool {
    let mut shared = lock(&engine.shared);
    if shared.stop || shared.threads.running.iter().any(|(own, _)| *own == role) {
        return !shared.stop;
    }
    let Some(engine_arc) = engine.me.upgrade() else { return false };
    let (name, body): (_, fn(&Engine)) = match role {
        Role::Flush => ("toykv-flush", run_flush),
        Role::Compaction => ("toykv-compact", run_compaction),
        Role::SecondCompaction => ("toykv-compact2", run_compaction),
        Role::Log => ("toykv-log", run_log),
    };
    let builder = std::thread::Builder::new().name(name.into());
    match builder.spawn(move || body(&engine_arc)) {
        Ok(handle) => {
            shared.threads.running.push((role, handle));
            true
        }
        Err(error) => {
            let message = format!("cannot start thread {name}: {error}");
            note_failure(&mut shared, &Error::new(ErrorKind::Io, message));
            false
        }
    }
}

/// Tells the threads to stop and waits for them.
pub(crate) fn stop(engine: &Engine) {
    let mut shared = lock(&engine.shared);
    shared.stop = true;
    let running = std::mem::take(&mut shared.threads.running);
    drop(shared);
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

fn note_failure(shared: &mut Shared, error: &Error) {
    shared.background_error = Some(error.clone());
    shared.background_failures += 1;
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
