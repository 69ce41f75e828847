//! Long work on the whole database, on a thread of its own: compaction, collection, and the search
//! for damage.
//!
//! Invariants. ONE: at most one of them at a time. HELD: it goes on as long as somebody holds its
//! [`Job`], and ends at its next step when nobody does or the server ends.

use std::ops::{Bound, ControlFlow};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;
use toykv::{DamageReport, Db, Error, ErrorKind, Progress, Result};

use super::Store;
use crate::shutdown::Shutdown;

/// What is to be done.
#[derive(Clone, Debug)]
pub(crate) enum Upkeep {
    /// Merge what is stored from `start` to before `end`.
    Compact { start: Option<Vec<u8>>, end: Option<Vec<u8>> },
    /// Give back the space of dead values.
    Collect,
    /// Search for damage.
    Verify,
}

/// What a search found; `None` of other work.
pub(crate) type Found = Option<Arc<DamageReport>>;

/// How far it has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) done_bytes: u64,
    pub(crate) total_bytes: u64,
    /// How it ended, once it has.
    pub(crate) outcome: Option<Result<Found>>,
}

/// Told how far the work has come; it goes on or breaks off.
type Tell<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

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
        self.begin_with(shutdown, move |db, progress| run(db, &what, progress))
    }

    fn begin_with(
        &self,
        shutdown: &Arc<Shutdown>,
        run: impl FnOnce(&Db, Tell<'_>) -> Result<Found> + Send + 'static,
    ) -> Result<Option<Job>> {
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
                run(&db, &mut |progress| {
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

fn run(db: &Db, what: &Upkeep, progress: Tell<'_>) -> Result<Found> {
    match what {
        Upkeep::Compact { start, end } => {
            let lower = start.as_deref().map_or(Bound::Unbounded, Bound::Included);
            let upper = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            db.compact_with(lower, upper, progress).map(|()| None)
        }
        Upkeep::Collect => db.gc_with(progress).map(|()| None),
        Upkeep::Verify => db.scrub(0, progress).map(|report| Some(Arc::new(report))),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use toykv::{Durability, Options};

    use super::*;

    /// A store with a table, so that a search has a step.
    fn open(dir: &std::path::Path) -> Store {
        let store = Store::open(&dir.join("db"), Options::new(), Durability::Process).unwrap();
        store.db.put(b"a", b"1").unwrap();
        store.db.flush().unwrap();
        store
    }

    fn end(mut job: Job) -> Result<Found> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        loop {
            if let Some(outcome) = job.report().outcome {
                return outcome;
            }
            runtime.block_on(job.changed());
        }
    }

    /// Work that goes on until it is told to stop, but not for ever.
    fn endless(db: &Db, tell: Tell<'_>) -> Result<Found> {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(60) {
            db.scrub(0, tell)?;
        }
        Ok(None)
    }

    #[test]
    fn work_ends_when_it_is_given_up_and_when_the_server_ends() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let shutdown = Arc::<Shutdown>::default();
        let begin = || store.begin_with(&shutdown, endless).unwrap();
        let job = begin().unwrap();
        assert!(begin().is_none(), "one at a time");
        job.give_up();
        assert_eq!(end(job).unwrap_err().kind(), ErrorKind::Cancelled);
        let job = begin().unwrap();
        shutdown.start();
        assert_eq!(end(job).unwrap_err().kind(), ErrorKind::Cancelled);
    }

    #[test]
    fn work_that_panics_has_an_end_and_lets_the_next_begin() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let shutdown = Arc::default();
        let job = store.begin_with(&shutdown, |_, _| panic!("planted"));
        let error = end(job.unwrap().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Poisoned);
        assert!(error.message().contains("panicked"), "{error}");
        let job = store.begin(Upkeep::Verify, &shutdown).unwrap().expect("nothing is under way");
        assert!(end(job).unwrap().expect("a report").is_clean());
    }
}
