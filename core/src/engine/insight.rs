//! What the database tells about itself (layer L5), and the odds and ends of the API.

use std::ops::{Bound, ControlFlow};
use std::sync::atomic::{AtomicU64, Ordering};

use super::counters::Stall;
use super::state::{Engine, lock};
use super::view::Run;
use crate::error::{Error, Result};
use crate::key::put_prefix;
use crate::report::{Health, RunSize, Stats};
use crate::types::DEFAULT_KEYSPACE;
use crate::version::KeyRange;

impl Engine {
    /// Opened for reading only.
    pub(crate) fn is_read_only(&self) -> bool {
        self.writer.is_none()
    }

    /// Makes every published write durable; nothing to do in a database opened for reading.
    pub(crate) fn sync_all(&self) -> Result<()> {
        self.check_open()?;
        if self.is_read_only() {
            return Ok(());
        }
        self.check_poisoned()?;
        self.sync_to(self.visible.load(Ordering::Acquire))
    }

    /// What stands in the way of writes.
    pub(crate) fn health(&self) -> Health {
        let poisoned: Option<Error> = lock(&self.poisoned).clone();
        let newest = lock(&self.shared).background_errors.last().cloned();
        let background_error = newest.map(|(_, error)| error);
        let stalls = &self.env.counters.stalled_us;
        let stalled_us = stalls.iter().map(|us| us.load(Ordering::Relaxed)).sum();
        Health { poisoned, background_error, stalled_us }
    }

    /// Counts and sizes.
    pub(crate) fn stats(&self) -> Stats {
        let (snapshots, obsolete) = {
            let shared = lock(&self.shared);
            (shared.snapshots.values().map(|own| own.count).sum(), shared.obsolete.len())
        };
        let view = self.view.load_full();
        let runs = &view.version.runs;
        let tables = || runs.iter().flat_map(|run| &run.tables);
        let files = || view.version.files.values();
        let parts = || view.parts.iter().map(|part| &part.segment);
        let segments = || parts().chain(&view.version.segments);
        let (counters, cache) = (&self.env.counters, &self.env.access.cache);
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            seqno: self.visible.load(Ordering::Acquire),
            memtables: view.parts.len(),
            memtable_bytes: view.parts.iter().map(|part| part.memtable.heap_bytes() as u64).sum(),
            runs: runs.len(),
            tables: tables().count(),
            table_bytes: tables().map(|(meta, _)| meta.size_bytes).sum(),
            segments: segments().count(),
            segment_bytes: parts().map(|segment| segment.identity().size_bytes).sum::<u64>()
                + files().map(|file| file.size_bytes).sum::<u64>(),
            live_value_bytes: files().map(|file| file.live_bytes).sum(),
            value_file_bytes: files().map(|file| file.size_bytes).sum(),
            snapshots,
            flushes: read(&counters.flushes),
            compactions: read(&counters.compactions),
            compaction_bytes_read: read(&counters.compaction_bytes_read),
            compaction_bytes_written: read(&counters.compaction_bytes_written),
            collections: read(&counters.collections),
            collection_bytes_written: read(&counters.collection_bytes_written),
            flush_bytes_written: read(&counters.flush_bytes_written),
            log_bytes_written: read(&counters.log_bytes_written),
            syncs: read(&counters.syncs),
            sync_wait_us: read(&counters.sync_wait_us),
            stalled_us: counters.stalled_us.iter().map(read).sum(),
            stalled_backlog_us: read(&counters.stalled_us[Stall::Backlog as usize]),
            stalled_runs_us: read(&counters.stalled_us[Stall::Runs as usize]),
            stalled_space_us: read(&counters.stalled_us[Stall::Space as usize]),
            stalled_segment_us: read(&counters.stalled_us[Stall::Segment as usize]),
            open_files: tables().count() + segments().count() + obsolete,
            memory_budget: self.env.plan.budget_bytes,
            user_bytes: read(&counters.user_bytes),
            file_heap_bytes: cache.file_bytes(),
            pinned_bytes: cache.pinned_bytes(),
            cache_bytes: cache.size_bytes(),
            cache_hits: cache.hits(),
            cache_misses: cache.misses(),
        }
    }

    /// The sorted runs, the newest first.
    pub(crate) fn runs(&self) -> Vec<RunSize> {
        let view = self.view.load_full();
        let size = |run: &Run| RunSize {
            tables: run.tables.len(),
            entries: run.tables.iter().map(|(meta, _)| meta.entries).sum(),
            bytes: run.tables.iter().map(|(meta, _)| meta.size_bytes).sum(),
        };
        view.version.runs.iter().map(size).collect()
    }

    /// [`Engine::compact_range`] for bounds on user keys of the default keyspace.
    pub(crate) fn compact_user_range(
        &self,
        lower: Bound<&[u8]>,
        upper: Bound<&[u8]>,
        check: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<()> {
        let encode = |user_key: &[u8]| {
            let mut key = Vec::with_capacity(user_key.len() + 1);
            put_prefix(&mut key, DEFAULT_KEYSPACE);
            key.extend_from_slice(user_key);
            key
        };
        let (lower, upper) = (lower.map(encode), upper.map(encode));
        let range = KeyRange {
            lower: lower.as_ref().map(Vec::as_slice),
            upper: upper.as_ref().map(Vec::as_slice),
        };
        self.compact_range(range, check)
    }
}
