//! Long work on the whole database, on a thread of its own: compaction and collection.
//!
//! Invariants. ONE: at most one of them at a time. HELD: it goes on as long as somebody holds its
//! [`Job`], and ends at its next step when nobody does or the server ends.

use std::ops::{Bound, ControlFlow};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;
use toykv::{Db, Error, ErrorKind, Progress, Result};

use super::Store;
use crate::shutdown::Shutdown;

/// What is to be done.
#[derive(Clone, Debug)]
pub(crate) enum Upkeep {
    /// Merge what is stored from `start` to before `end`.
    Compact { start: Option<Vec<u8>>, end: Option<Vec<u8>> },
    /// Give back the space of dead values.
    Collect,
}

/// How far it has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) done_bytes: u64,
    pub(crate) total_bytes: u64,
    /// How it ended, once it has.
    pub(crate) outcome: Option<Result<()>>,
}

/// Work under way.
pub(crate) struct Job {
    reports: watch::Receiver<Report>,
    given_up: Arc<AtomicBool>,
}

impl Drop for Job {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl Job {
    /// The newest report.
    pub(crate) fn report(&mut self) -> Report {
        self.reports.borrow_and_update().clone()
    }

    /// Waits for a report that was not yet read.
    pub(crate) async fn changed(&mut self) {
        // Fails only when the thread is gone, which has told the outcome before.
        let _ = self.reports.changed().await;
    }

    /// Ends it at its next step; the outcome is Cancelled.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }
}

/// Says that there is no work any more, however the thread ends.
struct Busy(Arc<AtomicBool>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Store {
    /// Begins it; `None` while other such work is under way.
    pub(crate) fn begin(&self, what: Upkeep, shutdown: &Arc<Shutdown>) -> Result<Option<Job>> {
        if self.upkeep.swap(true, Ordering::AcqRel) {
            return Ok(None);
        }
        let busy = Busy(Arc::clone(&self.upkeep));
        let given_up = Arc::new(AtomicBool::new(false));
        let (send, reports) = watch::channel(Report::default());
        let (db, shutdown) = (self.db.clone(), Arc::clone(shutdown));
        let job = Job { reports, given_up: Arc::clone(&given_up) };
        let work = move || {
            let work = || {
                run(&db, &what, &mut |progress| {
                    send.send_modify(|report| {
                        report.done_bytes = progress.done_bytes;
                        report.total_bytes = progress.total_bytes;
                    });
                    match given_up.load(Ordering::Relaxed) || shutdown.has_started() {
                        true => ControlFlow::Break(()),
                        false => ControlFlow::Continue(()),
                    }
                })
            };
            // Whoever waits hears of an end in any case.
            let outcome = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::Poisoned, "the work panicked: the log says where"))
            });
            // Whoever hears of the end may begin the next.
            drop(busy);
            send.send_modify(|report| report.outcome = Some(outcome));
        };
        let spawned = std::thread::Builder::new().name("toykv-upkeep".into()).spawn(work);
        spawned.map_err(|error| {
            Error::new(ErrorKind::NoMemory, format!("cannot start a thread: {error}"))
        })?;
        Ok(Some(job))
    }
}

fn run(
    db: &Db,
    what: &Upkeep,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<()> {
    match what {
        Upkeep::Compact { start, end } => {
            let lower = start.as_deref().map_or(Bound::Unbounded, Bound::Included);
            let upper = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            db.compact_with(lower, upper, progress)
        }
        Upkeep::Collect => db.gc_with(progress),
    }
}
