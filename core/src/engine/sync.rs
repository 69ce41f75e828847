//! The queue for device flushes of the log (layer L5): one flush serves all who wait.
//!
//! Invariant ACK: a caller returns only after a flush that started after its frame was complete
//! has succeeded. Invariant STICKY: after a failed flush nothing is acknowledged any more.

use std::sync::atomic::Ordering;

use super::state::{Counters, Engine, lock, wait};
use crate::error::Result;
use crate::types::SeqNo;
use crate::vlog::Store;

impl Engine {
    /// Waits until every write up to `seqno` is durable. The first caller flushes for all that
    /// have been published by then; the others wait for it or for the next one.
    pub(crate) fn sync_to(&self, seqno: SeqNo) -> Result<()> {
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
        let target = self.visible.load(Ordering::Acquire);
        let result = self.sync_segments();
        Counters::add(&self.env.counters.syncs, 1);
        let mut state = lock(&queue.state);
        state.syncing = false;
        let answer = match result {
            Ok(()) => {
                queue.note_synced(target);
                Ok(())
            }
            Err(error) => {
                let error = self.poison(&error);
                state.error = Some(error.clone());
                Err(error)
            }
        };
        drop(state);
        queue.finished.notify_all();
        answer
    }

    /// Flushes every segment of the log that may hold something unsynced, oldest first. A segment
    /// that has left the view is in tables, which were synced before it left.
    fn sync_segments(&self) -> Result<()> {
        let view = self.view.load_full();
        for part in view.parts.iter().rev() {
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
