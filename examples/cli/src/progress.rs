//! Long work: how far it has come, shown on a terminal, and whether it shall stop.
//!
//! Invariant TWICE: the first Ctrl-C ends the verb under way at its next step, a second one before
//! that ends the program.

use std::io;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::SIGINT;
use signal_hook::flag;

use crate::failure::{Exit, Failure, Result};

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on Ctrl-C is noticed by [`check`] instead of ending the program.
pub(crate) fn watch_interrupts() -> io::Result<()> {
    let interrupted = INTERRUPTED.get_or_init(Arc::default);
    // The order counts: the first of the two looks at what earlier signals have left.
    flag::register_conditional_shutdown(SIGINT, Exit::Cancelled as i32, Arc::clone(interrupted))?;
    flag::register(SIGINT, Arc::clone(interrupted))?;
    Ok(())
}

/// Forgets an interrupt that has done its work.
pub(crate) fn forget_interrupt() {
    if let Some(interrupted) = INTERRUPTED.get() {
        interrupted.store(false, Ordering::Relaxed);
    }
}

/// Fails once Ctrl-C was pressed.
pub(crate) fn check() -> Result<()> {
    if INTERRUPTED.get().is_some_and(|interrupted| interrupted.load(Ordering::Relaxed)) {
        return Err(Failure::new(Exit::Cancelled, "interrupted"));
    }
    Ok(())
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Entries,
    Bytes,
}

/// A bar on a terminal's standard error, and nothing elsewhere; gone when dropped.
pub(crate) struct Meter {
    bar: ProgressBar,
}

impl Meter {
    /// Begins at nothing of `total`, if that is known.
    pub(crate) fn new(what: &'static str, unit: Unit, total: Option<u64>) -> Meter {
        let text = match (unit, total.is_some()) {
            (Unit::Entries, true) => {
                "{msg} [{bar:30}] {human_pos} of {human_len}, {per_sec}, {eta} left"
            }
            (Unit::Entries, false) => "{msg} {spinner} {human_pos}, {per_sec}",
            (Unit::Bytes, true) => {
                "{msg} [{bar:30}] {binary_bytes} of {binary_total_bytes}, \
                 {binary_bytes_per_sec}, {eta} left"
            }
            (Unit::Bytes, false) => "{msg} {spinner} {binary_bytes}, {binary_bytes_per_sec}",
        };
        let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
        let style = ProgressStyle::with_template(text).unwrap_or_else(|_| {
            // Every template above is read by a test.
            ProgressStyle::default_bar()
        });
        bar.set_style(style.progress_chars("=> "));
        bar.set_message(what);
        Meter { bar }
    }

    /// So much has been done; fails once Ctrl-C was pressed.
    pub(crate) fn at(&self, done: u64) -> Result<()> {
        self.bar.set_position(done);
        check()
    }

    /// So much there is to do.
    pub(crate) fn of(&self, total: u64) {
        self.bar.set_length(total);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
