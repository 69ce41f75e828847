//! The queue for device flushes of the log (layer L5): one flush serves all who wait.
//!
//! Invariant ACK: a caller returns only after a flush that started after its frame was complete
//! has succeeded. Invariant STICKY: after a failed flush nothing is acknowledged any more.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::counters::Counters;
use super::hooks;
use super::state::{Engine, lock, wait};
use crate::error::{Error, ErrorKind, Result};
use crate::planted::planted;
use crate::types::SeqNo;
use crate::vlog::Store;

/// Who syncs. However that ends, the next in the queue goes on.
struct Turn<'a> {
    engine: &'a Engine,
    outcome: Option<Result<()>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let panicked = || Err(self.engine.poison(&Error::new(ErrorKind::Io, "a sync panicked")));
        let outcome = self.outcome.take().unwrap_or_else(panicked);
        let queue = &self.engine.sync_queue;
        let mut state = lock(&queue.state);
        state.syncing = false;
        state.error = outcome.err().or(state.error.take());
        drop(state);
        if !hooks::planted(&self.engine.env.dir, "sync tells nobody") {
            queue.finished.notify_all();
        }
    }
}

impl Engine {
    /// Waits until every write up to `seqno` is durable, and counts the time.
    pub(crate) fn sync_to(&self, seqno: SeqNo) -> Result<()> {
        if self.sync_queue.synced() >= seqno {
            return Ok(());
        }
        let start = Instant::now();
        let result = self.wait_for_sync(seqno);
        let waited = start.elapsed().as_micros() as u64;
        Counters::add(&self.env.counters.sync_wait_us, waited);
        result
    }

    /// Waits until every write up to `seqno` is durable. The first caller flushes for all that
    /// have been published by then; the others wait for it or for the next one.
    fn wait_for_sync(&self, seqno: SeqNo) -> Result<()> {
        let queue = &self.sync_queue;
        let mut state = lock(&queue.state);
        loop {
            if queue.synced() >= seqno {
                return Ok(());
            }
            if let Some(error) = &state.error {
                return Err(error.clone());
            }
            if !state.syncing {
                break;
            }
            state = wait(&queue.finished, state);
        }
        state.syncing = true;
        drop(state);
        let mut turn = Turn { engine: self, outcome: None };
        let target = self.visible.load(Ordering::Acquire);
        if planted("sync: claimed before it is done") {
            queue.note_synced(target);
        }
        let result = self.sync_segments();
        hooks::reach(&self.env.dir, "sync: done");
        let target = match hooks::planted(&self.env.dir, "number after sync") {
            true => self.visible.load(Ordering::Acquire),
            false => target,
        };
        Counters::add(&self.env.counters.syncs, 1);
        if result.is_ok() {
            queue.note_synced(target);
        }
        let outcome = result.map_err(|error| match planted("sync: a failure is forgotten") {
            true => error,
            false => self.poison(&error),
        });
        turn.outcome = Some(outcome.clone());
        outcome
    }

    /// Flushes every segment of the log that may hold something unsynced, oldest first. A segment
    /// that has left the view is in tables, which were synced before it left.
    fn sync_segments(&self) -> Result<()> {
        let view = self.view.load_full();
        for (index, part) in view.parts.iter().enumerate().rev() {
            if planted("sync: none") || index > 0 && planted("sync: the newest segment only") {
                continue;
            }
            part.segment.sync()?;
        }
        Ok(())
    }

    /// When the log has gone idle after a sync up to `target`, says in the log how far it is
    /// durable, so that damage to it cannot pass for a torn tail. Not durable itself: it only ever
    /// helps to detect.
    pub(crate) fn mark_synced(&self, target: SeqNo) {
        let Some(writer) = &self.writer else { return };
        let mut writer = lock(writer);
        if writer.closed || writer.log.last_seqno() > target {
            return;
        }
        let synced = writer.log.last_seqno();
        if let Err(error) = writer.log.append_empty(synced, Store::Map) {
            self.append_failed(&writer.log, &error);
        }
    }
}
