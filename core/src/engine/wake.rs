//! Asking the background threads for work (layer L5): each is started when it is first needed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::hooks;
use super::locks::thread;
use super::state::{Engine, NextSegment, Role, Shared, lock};
use crate::error::{Error, ErrorKind};
use crate::vlog::Segment;

/// Sees to it that frozen memtables are flushed; false when no thread can be had.
pub(crate) fn wake_flush(engine: &Engine) -> bool {
    let runs = start(engine, Role::Flush);
    engine.work.notify_all();
    runs
}

/// Sees to it that runs are merged when that is useful.
pub(crate) fn wake_compaction(engine: &Engine) {
    if engine.wants_compaction() {
        start(engine, Role::Compaction);
        engine.work.notify_all();
    }
}

/// Sees to it that segments are rewritten when too much of them is dead.
pub(crate) fn wake_collection(engine: &Engine) {
    if !engine.view.load().version.segments.is_empty() {
        start(engine, Role::Collection);
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
        // The writer that needs it makes it itself.
        lock(&engine.shared).next_segment = NextSegment::Failed;
    }
}

/// Asks for the next window of the segment that is being written.
#[cold]
pub(crate) fn want_window(engine: &Engine, segment: &Arc<Segment>) {
    lock(&engine.shared).window_wanted = Some(Arc::clone(segment));
    start(engine, Role::Window);
    engine.work.notify_all();
}

/// Tells the log thread that there is something to sync within the interval; false when there is
/// none, so that nobody will.
#[cold]
pub(crate) fn note_dirty(engine: &Engine) -> bool {
    if engine.dirty.swap(true, Ordering::AcqRel) {
        return true;
    }
    lock(&engine.shared).dirty = true;
    let runs = start(engine, Role::Log);
    if !runs {
        engine.dirty.store(false, Ordering::Release);
    }
    engine.work.notify_all();
    runs
}

/// Starts a thread unless it runs; false when it cannot be had.
pub(crate) fn start(engine: &Engine, role: Role) -> bool {
    let mut shared = lock(&engine.shared);
    if shared.stop || shared.threads.running.iter().any(|(own, _)| *own == role) {
        return !shared.stop;
    }
    let Some(engine_arc) = engine.me.upgrade() else { return false };
    let name = match role {
        Role::Flush => "toykv-flush",
        Role::Compaction => "toykv-compact",
        Role::SecondCompaction => "toykv-compact2",
        Role::Collection => "toykv-collect",
        Role::Log => "toykv-log",
        Role::Window => "toykv-window",
    };
    let run = engine.run_thread;
    let builder = thread::Builder::new().name(name.into());
    let spawned = match hooks::planted(&engine.env.dir, "no threads") {
        true => Err(std::io::Error::from_raw_os_error(libc::EAGAIN)),
        false => builder.spawn(move || run(&engine_arc, role)),
    };
    match spawned {
        Ok(handle) => {
            shared.threads.running.push((role, handle));
            true
        }
        Err(error) => {
            let message = format!("cannot start thread {name}: {error}");
            note_failure(&mut shared, role, &Error::new(ErrorKind::Io, message));
            engine.done.notify_all();
            false
        }
    }
}

/// Records a failure of background work.
pub(crate) fn note_failure(shared: &mut Shared, role: Role, error: &Error) {
    note_success(shared, role);
    shared.background_errors.push((role, error.clone()));
    shared.background_failures += 1;
}

/// Forgets the failure of what has succeeded now.
pub(crate) fn note_success(shared: &mut Shared, role: Role) {
    shared.background_errors.retain(|(own, _)| *own != role);
}
