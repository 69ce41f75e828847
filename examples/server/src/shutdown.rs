//! The end of the server: said once, heard everywhere.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// Whether the server ends.
#[derive(Debug)]
pub struct Shutdown {
    started: AtomicBool,
    over: AtomicBool,
    signal: watch::Sender<bool>,
}

impl Default for Shutdown {
    fn default() -> Shutdown {
        let signal = watch::Sender::new(false);
        Shutdown { started: AtomicBool::new(false), over: AtomicBool::new(false), signal }
    }
}

impl Shutdown {
    /// Says so, as often as one likes.
    pub fn start(&self) {
        self.started.store(true, Ordering::SeqCst);
        self.signal.send_replace(true);
    }

    /// Whether it was said.
    #[inline]
    pub fn has_started(&self) -> bool {
        self.started.load(Ordering::SeqCst)
    }

    /// Says that clients have had their time: long commands end as well.
    pub(crate) fn cut_short(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    /// Whether that was said.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Waits until it is said.
    pub async fn wait(&self) {
        // Fails only when the sender is gone, which lives in `self`.
        let _ = self.signal.subscribe().wait_for(|started| *started).await;
    }
}
