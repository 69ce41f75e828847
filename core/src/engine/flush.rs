//! Flush (layer L5): the oldest immutable memtable becomes a run of tables. Small values move into
//! the tables, large ones stay in the segment. Nothing here is about fsync alone.
//!
//! Invariant ORDER: memtables are flushed oldest first, one at a time, so every run is newer than
//! all runs that were there before it.

use std::sync::Arc;

use super::count;
use super::obsolete;
use super::retain::Retain;
use super::run_writer::{FinishedRun, RunWriter};
use super::state::{Change, Counters, Engine, Env, lock};
use super::view::{MemPart, Version, View, key_count};
use crate::error::Result;
use crate::table::Table;
use crate::types::{FileNumber, Kind, SeqNo, ValuePointer};
use crate::version::VersionEdit;

/// A memtable as tables, not yet committed.
pub(crate) struct Flushed {
    pub(crate) run: FinishedRun,
    pub(crate) tables: Vec<(FileNumber, Arc<Table>)>,
    /// Keys that it adds to what is older.
    pub(crate) delta: i64,
}

/// Builds the tables of `part`, which is older than every other memtable, and makes durable what
/// they point to. `snapshots` were read after the memtable was frozen.
pub(crate) fn build(
    env: &Env,
    part: &MemPart,
    version: &Arc<Version>,
    snapshots: Vec<SeqNo>,
) -> Result<Flushed> {
    let upto = part.memtable.last_seqno();
    let older = View { parts: Vec::new(), version: Arc::clone(version) };
    let delta = count::delta(part, &older, upto, env.hash_seed)?;
    let run = write_run(env, part, version, snapshots)?;
    let opened = (|| {
        if run.value_bytes > 0 {
            part.segment.sync()?;
        }
        run.open(env)
    })();
    match opened {
        Ok(tables) => Ok(Flushed { run, tables, delta }),
        Err(error) => {
            run.discard(env);
            Err(error)
        }
    }
}

fn write_run(
    env: &Env,
    part: &MemPart,
    version: &Version,
    snapshots: Vec<SeqNo>,
) -> Result<FinishedRun> {
    let threshold = env.options.value_threshold_bytes;
    let segment = &part.segment;
    let mut retain = Retain::new(snapshots, version.runs.is_empty());
    let mut writer = RunWriter::new(env, part.memtable.first_seqno());
    let mut cursor = part.memtable.iter();
    cursor.seek_to_first();
    while cursor.valid() {
        let key = cursor.key();
        retain.start_key();
        for entry in cursor.versions() {
            if !retain.keep(entry.seqno, entry.kind) {
                continue;
            }
            if entry.kind == Kind::Put && u64::from(entry.value_len) >= threshold {
                let (offset, len) = (entry.offset, entry.value_len);
                let pointer = ValuePointer { segment: segment.id(), offset, len };
                writer.add(key, entry.seqno, Kind::Pointer, &pointer.encode())?;
            } else {
                let value = segment.value(entry.offset, key.len(), entry.value_len)?;
                writer.add(key, entry.seqno, entry.kind, value)?;
            }
        }
        cursor.next();
    }
    writer.finish()
}

/// The part of an edit that puts a flushed memtable in place of its segment.
pub(crate) fn describe(part: &MemPart, flushed: &Flushed, run: u64, edit: &mut VersionEdit) {
    for meta in &flushed.run.metas {
        edit.add_table(run, meta.clone());
    }
    let id = part.segment.id();
    match flushed.run.value_bytes {
        0 => edit.remove_segment(id),
        value_bytes => edit.set_segment_flushed(id, value_bytes),
    }
}

impl Engine {
    /// Flushes the oldest immutable memtable. False when there is none.
    pub(crate) fn flush_oldest(&self) -> Result<bool> {
        let _one_at_a_time = lock(&self.flushing);
        self.check_poisoned()?;
        let view = self.view.load_full();
        let [_, .., part] = &view.parts[..] else { return Ok(false) };
        let snapshots = self.snapshots();
        let built = build(&self.env, part, &view.version, snapshots);
        let flushed = built.map_err(|error| {
            let unsynced = part.segment.is_suspect();
            if unsynced { self.poison(&error) } else { error }
        })?;
        Counters::add(&self.env.counters.flushes, 1);
        Counters::add(&self.env.counters.flush_bytes_written, flushed.run.size_bytes);
        if let Err(error) = self.commit_flush(part, &flushed) {
            if self.is_undone() {
                flushed.run.discard(&self.env);
            }
            return Err(error);
        }
        // They hold the segment, which may be of no use any more.
        drop((view, flushed));
        obsolete::collect(self);
        Ok(true)
    }

    fn commit_flush(&self, part: &Arc<MemPart>, flushed: &Flushed) -> Result<()> {
        let mut files = self.files()?;
        // A sync that failed meanwhile may have changed the bytes that went into the tables.
        if let Err(error) = self.check_poisoned() {
            flushed.run.discard(&self.env);
            return Err(error);
        }
        let mut change = Change::default();
        let run = files.state.next_run;
        describe(part, flushed, run, &mut change.edit);
        let count = key_count(&files.state) as i64 + flushed.delta;
        change.edit.set_count(crate::types::DEFAULT_KEYSPACE, count.max(0) as u64);
        change.tables = flushed.tables.clone();
        change.retired_parts.push(part.segment.id());
        self.stamp(&mut change.edit);
        change.edit.last_seqno = Some(part.memtable.last_seqno().max(files.state.last_seqno));
        self.commit_locked(&mut files, change)
    }
}
