//! What a database gives back when it rests (layer L5): the log's segments are made ahead and
//! large, for writers in a hurry; where nobody writes they would outweigh a small set.
//!
//! Invariant RECOV holds as for any rotation: the log goes on in a new segment, and one that was
//! prepared and not used goes in the edit that registers it.

use std::sync::Arc;

use super::obsolete;
use super::state::{Change, Engine, NextSegment, lock, wait};
use super::wake;
use super::writer::Writer;
use crate::error::{ErrorKind, Result};
use crate::version::VersionEdit;
use crate::vlog::Segment;

/// The smallest segment that a database at rest has.
const LEAST_SEGMENT_BYTES: u64 = 1 << 20;

/// A segment at rest is about this part of what is live.
const RESTING_PART: u64 = 64;

/// The log may take this part of what is live without being made smaller.
const LOG_PART: u64 = 8;

impl Engine {
    /// What the tables take, and the live separated values.
    fn live_bytes(&self) -> u64 {
        let view = self.view.load();
        let tables = view.version.runs.iter().flat_map(|run| &run.tables);
        let tables: u64 = tables.map(|(meta, _)| meta.size_bytes).sum();
        let values: u64 = view.version.files.values().map(|file| file.live_bytes).sum();
        tables + values
    }

    /// The size of the one segment that a database at rest has.
    fn resting_bytes(&self) -> u64 {
        let wanted = (self.live_bytes() / RESTING_PART).max(LEAST_SEGMENT_BYTES);
        wanted.next_power_of_two().min(self.env.plan.memtable_size_bytes)
    }

    /// Whether the log's segments take more than what is live justifies.
    pub(crate) fn wants_rest(&self, next: &NextSegment) -> bool {
        let active = self.view.load().parts.first().map_or(0, |part| size_of(&part.segment));
        let prepared = match next {
            NextSegment::Ready(segment) => size_of(segment),
            _ => 0,
        };
        let most = (self.live_bytes() / LOG_PART).max(2 * self.resting_bytes());
        active + prepared > most
    }

    /// Nobody has written for a while: a large log becomes a small one, and what is in it is
    /// flushed.
    pub(crate) fn rest(&self) -> Result<()> {
        let Some(writer) = &self.writer else { return Ok(()) };
        self.check_poisoned()?;
        {
            let mut writer = lock(writer);
            if writer.closed {
                return Ok(());
            }
            self.shrink_log(&mut writer)?;
        }
        wake::wake_flush(self);
        obsolete::collect(self);
        Ok(())
    }

    /// After a compaction by hand: a large log in which nothing is becomes a small one.
    pub(crate) fn rest_if_empty(&self) -> Result<()> {
        let Some(writer) = &self.writer else { return Ok(()) };
        {
            let mut writer = lock(writer);
            let empty = writer.part.memtable.is_empty() && !writer.closed;
            if !empty || !self.wants_rest(&lock(&self.shared).next_segment) {
                return Ok(());
            }
            match self.shrink_log(&mut writer) {
                // Without room for a small segment the large one stays.
                Err(error) if error.kind() == ErrorKind::DiskFull => return Ok(()),
                other => other?,
            }
        }
        while self.flush_oldest()? {}
        Ok(())
    }

    /// Lets the log go on in a small segment; what was prepared and is larger goes.
    pub(crate) fn shrink_log(&self, writer: &mut Writer) -> Result<()> {
        let most = self.resting_bytes();
        let prepared = self.take_prepared();
        if size_of(&writer.part.segment) <= most {
            let Some(unused) = prepared.filter(|segment| size_of(segment) > most) else {
                return Ok(());
            };
            let mut edit = VersionEdit::new();
            edit.remove_segment(unused.id());
            return self.commit(Change { edit, ..Change::default() });
        }
        let created = self.create_segment(most, prepared.as_ref().map(|segment| segment.id()));
        match created {
            Ok(segment) => self.go_on_in(writer, segment),
            Err(error) => {
                if let Some(segment) = prepared {
                    self.give_back(segment);
                }
                Err(error)
            }
        }
    }

    /// The segment that is ready, if there is one, once none is being prepared.
    fn take_prepared(&self) -> Option<Arc<Segment>> {
        let mut shared = lock(&self.shared);
        while matches!(shared.next_segment, NextSegment::Preparing) {
            shared = wait(&self.done, shared);
        }
        match std::mem::take(&mut shared.next_segment) {
            NextSegment::Ready(segment) => Some(segment),
            _ => None,
        }
    }
}

fn size_of(segment: &Segment) -> u64 {
    segment.identity().size_bytes
}
