//! Closing a database (layer L5).

use std::sync::atomic::Ordering;

use super::background;
use super::obsolete;
use super::state::{Engine, lock};
use super::writer::Writer;
use crate::error::{ErrorKind, Result};
use crate::planted::planted;
use crate::vlog::Store;

/// A log longer than this is flushed by close, so that the next open need not replay it.
const FLUSH_AT_CLOSE_BYTES: u64 = 1 << 20;

impl Engine {
    /// Closes the database: writes are refused from here on, background work stops, everything
    /// acknowledged becomes durable, and the directory is free for the next opener. Readers that
    /// are under way end in peace. The second call waits for the first and does nothing.
    pub(crate) fn close(&self) -> Result<()> {
        let mut guard = lock(&self.lock);
        if guard.is_none() {
            return Ok(());
        }
        self.closed.store(true, Ordering::Release);
        if let Some(writer) = &self.writer {
            lock(writer).closed = true;
        }
        background::stop(self);
        let result = match &self.writer {
            Some(writer) if !self.is_poisoned.load(Ordering::Relaxed) => {
                self.settle_log(&mut lock(writer))
            }
            _ => Ok(()),
        };
        obsolete::collect(self);
        *guard = None;
        result.and_then(|()| self.check_poisoned())
    }

    /// The last part of close: a long log is flushed, a short one synced.
    fn settle_log(&self, writer: &mut Writer) -> Result<()> {
        let flushed = self.flush_long_log(writer);
        // Whatever became of the flush, what was acknowledged becomes durable.
        let target = self.visible.load(Ordering::Acquire);
        if planted("close: syncs nothing") {
            return Ok(());
        }
        self.sync_to(target)?;
        let synced = self.sync_queue.synced().min(writer.log.last_seqno());
        writer.log.append_empty(synced, Store::Map)?;
        writer.part.segment.sync()?;
        match flushed {
            // It would only have saved the next open a replay.
            Err(error) if error.kind() == ErrorKind::DiskFull => Ok(()),
            other => other,
        }
    }

    fn flush_long_log(&self, writer: &mut Writer) -> Result<()> {
        let parts = self.view.load().parts.len();
        let large = self.wants_rest(&lock(&self.shared).next_segment);
        if parts > 1 || large || writer.log.offset() > FLUSH_AT_CLOSE_BYTES {
            if large {
                self.shrink_log(writer)?;
            } else if !writer.part.memtable.is_empty() {
                self.rotate(writer, 0)?;
            }
            while self.flush_oldest()? {}
        }
        Ok(())
    }
}
