//! Slowing writers down while background work lags (layer L5): gradually, counted by cause, and
//! never for longer than `stall_limit_ms`.
//!
//! What is written costs time in proportion to its bytes and to the backlog. All writers share one
//! account, which says until when they will have paid; a writer that is more than a millisecond
//! ahead of it waits. At the limit of the backlog writers wait until a flush makes room.
//!
//! Invariant WAKE: whoever waits here is woken by every commit and every failure in the background,
//! by poisoning and by close.

use std::sync::atomic::Ordering;
use std::sync::{PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::counters::Stall;
use super::hooks;
use super::locks::{Mutex, MutexGuard, thread};
use super::pick_files::pressure_of;
use super::state::{Engine, Shared, closed_error, lock};
use super::view::View;
use super::wake;
use super::writer::Writer;
use crate::error::{Error, ErrorKind, Result};
use crate::options::WriteOptions;

/// Delays shorter than this are put together to one.
const SHORTEST_DELAY: Duration = Duration::from_millis(1);

/// Notes that the holder of the writer's lock waits, until dropped.
pub(crate) struct Waiting<'a>(&'a Engine);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.writer_waits.store(false, Ordering::SeqCst);
    }
}

#[cold]
pub(crate) fn would_stall(what: &str) -> Error {
    Error::new(ErrorKind::WouldStall, what)
}

impl Engine {
    /// Slows a write of so many bytes down when background work lags. WouldStall when it must not
    /// wait, or has waited at the limit for as long as the options allow.
    #[inline]
    pub(crate) fn slow_down(&self, bytes: u64, options: &WriteOptions) -> Result<()> {
        match self.pressure.load(Ordering::Relaxed) {
            0 => Ok(()),
            pressure => self.pay(pressure, bytes, options),
        }
    }

    #[cold]
    fn pay(&self, pressure: u64, bytes: u64, options: &WriteOptions) -> Result<()> {
        let owed = Duration::from_nanos(pressure.saturating_mul(bytes.div_ceil(64)) / 16);
        let limit = Duration::from_millis(self.env.options.stall_limit_ms);
        let delay = self.charge(owed.min(limit), options)?.min(limit);
        if delay.is_zero() && !self.is_backlog_full() {
            return Ok(());
        }
        if options.no_wait {
            return Err(would_stall("writers wait for background work"));
        }
        let cause = Stall::of(self.pressed_by.load(Ordering::Relaxed));
        let start = Instant::now();
        self.pause(start + delay);
        self.env.counters.add_stall(cause, start);
        if !self.is_backlog_full() {
            return Ok(());
        }
        let start = Instant::now();
        let result = self.wait_for_flush(start + limit.saturating_sub(delay));
        self.env.counters.add_stall(Stall::Backlog, start);
        result
    }

    /// Adds to what the writers owe; answers how long the one who adds has to wait.
    fn charge(&self, owed: Duration, options: &WriteOptions) -> Result<Duration> {
        let now = self.opened_at.elapsed().as_nanos() as u64;
        let (owed, burst) = (owed.as_nanos() as u64, SHORTEST_DELAY.as_nanos() as u64);
        let mut paid = self.paid_until_ns.load(Ordering::Relaxed);
        loop {
            let until = paid.max(now) + owed;
            let ahead = until - now;
            // A write that nobody before it makes wait happens, whatever it owes itself.
            if options.no_wait && ahead - owed >= burst {
                return Err(would_stall("writers wait for background work"));
            }
            let account = &self.paid_until_ns;
            let (order, failed) = (Ordering::Relaxed, Ordering::Relaxed);
            match account.compare_exchange_weak(paid, until, order, failed) {
                Ok(_) if ahead < burst || options.no_wait => return Ok(Duration::ZERO),
                Ok(_) => return Ok(Duration::from_nanos(ahead)),
                Err(other) => paid = other,
            }
        }
    }

    /// Waits until then, or until nobody has to wait any more.
    fn pause(&self, until: Instant) {
        let mut shared = lock(&self.shared);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let over = self.pressure.load(Ordering::Relaxed) == 0 || shared.stop;
            if left.is_zero() || over || self.is_poisoned.load(Ordering::Relaxed) {
                return;
            }
            let waited = self.done.wait_timeout(shared, left);
            shared = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until there is room for another memtable.
    fn wait_for_flush(&self, until: Instant) -> Result<()> {
        let runs = wake::wake_flush(self);
        let mut shared = lock(&self.shared);
        let failures = shared.background_failures;
        while self.is_backlog_full() && !shared.stop {
            let newest = shared.background_errors.last().map(|(_, error)| error);
            if !runs || shared.background_failures != failures {
                return Err(newest.cloned().unwrap_or_else(closed_error));
            }
            if self.is_poisoned.load(Ordering::Relaxed) {
                drop(shared);
                return self.check_poisoned();
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(would_stall("writers have waited for a flush for stall_limit_ms"));
            }
            hooks::reach(&self.env.dir, "stall: waits");
            let waited = self.done.wait_timeout(shared, left);
            shared = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    fn is_backlog_full(&self) -> bool {
        self.backlog_permille(&self.view.load()) >= 1000
    }

    /// Notes that the holder of the writer's lock waits for something.
    pub(crate) fn note_waiting(&self) -> Waiting<'_> {
        self.writer_waits.store(true, Ordering::SeqCst);
        Waiting(self)
    }

    /// The writer's lock, which others hold for microseconds, unless they wait for something: then
    /// a write that must not wait hears WouldStall.
    #[inline]
    pub(crate) fn lock_writer<'a>(
        &self,
        writer: &'a Mutex<Writer>,
        options: &WriteOptions,
    ) -> Result<MutexGuard<'a, Writer>> {
        if options.no_wait { self.try_lock_writer(writer) } else { Ok(lock(writer)) }
    }

    #[cold]
    fn try_lock_writer<'a>(&self, writer: &'a Mutex<Writer>) -> Result<MutexGuard<'a, Writer>> {
        loop {
            match writer.try_lock() {
                Ok(guard) => return Ok(guard),
                Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if self.writer_waits.load(Ordering::SeqCst) => {
                    return Err(would_stall("another writer waits"));
                }
                Err(TryLockError::WouldBlock) => thread::yield_now(),
            }
        }
    }

    /// How full the backlog of immutable memtables is, in thousandths, by the bytes of their log or
    /// by the heap that they take, whichever is nearer to its limit.
    pub(crate) fn backlog_permille(&self, view: &View) -> u64 {
        let plan = &self.env.plan;
        let waiting = || view.parts.iter().skip(1);
        let log_bytes: u64 = waiting().map(|part| part.segment.identity().size_bytes).sum();
        let heap_bytes: u64 = waiting().map(|part| part.memtable.heap_bytes() as u64).sum();
        // The active memtable takes the rest of the heap.
        let most_heap = plan.memtables_heap_bytes - plan.memtable_heap_bytes;
        let permille = |bytes: u64, most: u64| bytes.saturating_mul(1000) / most.max(1);
        permille(log_bytes, plan.backlog_limit_bytes).max(permille(heap_bytes, most_heap))
    }

    /// Sets how much writers are slowed: nothing below half of the backlog limit, then more and
    /// more.
    pub(crate) fn update_pressure(&self, shared: &Shared) {
        let view = self.view.load();
        let backlog = self.backlog_permille(&view);
        let runs = view.version.runs.len() as u64;
        // A backlog of memtables: up to 64 us per KiB shortly before the limit. Runs beyond 24:
        // 1 us per KiB for each, since every read pays for them.
        let by_backlog = backlog.saturating_sub(500).saturating_mul(64_000) / 500;
        let by_runs = runs.saturating_sub(24) * 1_000;
        let spare_percent = self.env.options.space_amplification_percent - 100;
        let lag_bytes = 2 * self.env.plan.memtable_size_bytes;
        let (files, spared) = (&view.version.files, &shared.spared_files);
        let by_space = pressure_of(files, spared, spare_percent, lag_bytes);
        let causes =
            [(by_backlog, Stall::Backlog), (by_runs, Stall::Runs), (by_space, Stall::Space)];
        let (most, cause) =
            causes.into_iter().max_by_key(|(own, _)| *own).unwrap_or((0, Stall::Backlog));
        // Whoever has still seen a pressure counts its wait under the cause of that.
        if most > 0 {
            self.pressed_by.store(cause as u64, Ordering::Relaxed);
        }
        self.pressure.store(most, Ordering::Relaxed);
    }
}
