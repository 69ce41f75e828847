//! Flush (layer L5): the oldest immutable memtable becomes a run of tables. Small values move into
//! the tables, large ones stay in the segment. Nothing here is about fsync alone.
//!
//! Invariant ORDER: memtables are flushed oldest first, one at a time, so every run is newer than
//! all runs that were there before it.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::count;
use super::counters::Counters;
use super::obsolete;
use super::retain::Retain;
use super::rewrite::{Moved, rewrite};
use super::run_writer::{FinishedRun, RunWriter};
use super::state::{Change, Engine, Env, lock};
use super::view::{MemPart, Version, View, key_count};
use crate::error::{ErrorKind, Result};
use crate::filename::FileName;
use crate::memtable::MemEntry;
use crate::planted::planted;
use crate::table::Table;
use crate::types::{FileNumber, Kind, MAX_SEQNO, SeqNo, ValuePointer};
use crate::version::{DeadSet, SegmentMeta, SegmentState, TableMeta, Values};
use crate::vlog::{Segment, SegmentIdentity, record_len};

/// A memtable as tables, not yet committed.
pub(crate) struct Flushed {
    run: FinishedRun,
    tables: Vec<(FileNumber, Arc<Table>)>,
    /// Keys that it adds to what is older.
    pub(crate) delta: i64,
    /// What becomes of its segment.
    fate: Fate,
}

/// What becomes of the segment of a flushed memtable.
enum Fate {
    /// No table points into it.
    Goes,
    /// It stays for its values; with it where they are read directly from now on.
    Stays(Box<SegmentMeta>, Option<Arc<Segment>>),
    /// Little of it is values; those are in another file.
    Moves(Moved),
}

/// The large values of a memtable's segment.
struct Separated {
    values: Values,
    /// Those that no table needs, in units of 8 bytes, and what they take.
    dropped: Vec<u32>,
    dropped_bytes: u64,
}

impl Separated {
    fn note(&mut self, key: &[u8], entry: &MemEntry, kept: bool) {
        let len = record_len(key.len(), entry.value_len);
        self.values.end = self.values.end.max(entry.offset + len);
        if !self.is_large(entry) {
            return;
        }
        self.values.count += 1;
        self.values.bytes += len;
        if !kept {
            self.dropped.push((entry.offset / 8) as u32);
            self.dropped_bytes += len;
        }
    }

    fn is_large(&self, entry: &MemEntry) -> bool {
        match entry.kind {
            Kind::Packed => true,
            Kind::Put => u64::from(entry.value_len) >= self.values.least_len,
            Kind::Delete | Kind::Pointer => false,
        }
    }
}

/// Keys whose records are asked for ahead.
const PREFETCHED: usize = 16;

/// A segment of which less is live values is not kept: those are rewritten.
const LEAST_LIVE_PERCENT: u64 = 60;

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
    let (run, separated) = write_run(env, part, version, snapshots)?;
    let opened = run.open(env);
    match opened.and_then(|tables| Ok((tables, decide(env, part, separated)?))) {
        Ok((tables, fate)) => Ok(Flushed { run, tables, delta, fate }),
        Err(error) => {
            run.discard(env);
            Err(error)
        }
    }
}

/// Makes durable what tables point to: the segment, or a rewritten one.
fn decide(env: &Env, part: &MemPart, separated: Separated) -> Result<Fate> {
    let Separated { values, dropped, dropped_bytes } = separated;
    if values.bytes == dropped_bytes {
        return Ok(Fate::Goes);
    }
    let SegmentIdentity { id, salt, size_bytes, .. } = *part.segment.identity();
    let dead = DeadSet::new(dropped, dropped_bytes);
    let state = SegmentState::Flushed;
    let meta = SegmentMeta { id, file: id, salt, size_bytes, state, values, dead };
    let inputs = [(Arc::clone(&part.segment), meta)];
    let [(_, meta)] = &inputs;
    if meta.live_bytes() / LEAST_LIVE_PERCENT < size_bytes / 100 {
        match rewrite(env, &inputs, &mut |_| ControlFlow::Continue(())) {
            // A flush makes room, and one damaged value does not stop it: the segment stays.
            Err(error) if matches!(error.kind(), ErrorKind::DiskFull | ErrorKind::Corruption) => {}
            moved => return moved.map(Fate::Moves),
        }
    }
    if !planted("flush: values not synced") {
        part.segment.sync()?;
    }
    let [(segment, meta)] = inputs;
    let direct = env.access.direct.then(|| segment.directly(&*env.fs)).transpose()?;
    Ok(Fate::Stays(Box::new(meta), direct.map(Arc::new)))
}

fn write_run(
    env: &Env,
    part: &MemPart,
    version: &Version,
    snapshots: Vec<SeqNo>,
) -> Result<(FinishedRun, Separated)> {
    let least_len = env.options.value_threshold_bytes;
    let values = Values { least_len, ..Values::default() };
    let mut separated = Separated { values, dropped: Vec::new(), dropped_bytes: 0 };
    let segment = &part.segment;
    let mut retain = Retain::new(snapshots, version.runs.is_empty());
    let mut writer = RunWriter::new(env, part.memtable.first_seqno());
    let mut cursor = part.memtable.iter();
    cursor.seek_to_first();
    // The records lie in the order of writing: another cursor asks for them ahead.
    let mut ahead = part.memtable.iter();
    ahead.seek_to_first();
    let mut prefetch = || {
        if ahead.valid() {
            ahead.entry(MAX_SEQNO).iter().for_each(|entry| segment.prefetch(entry.offset));
            ahead.next();
        }
    };
    (0..PREFETCHED).for_each(|_| prefetch());
    while cursor.valid() {
        prefetch();
        let key = cursor.key();
        retain.start_key();
        for entry in cursor.versions() {
            let kept = retain.keep(entry.seqno, entry.kind);
            if planted("flush: deletes are left out") && entry.kind == Kind::Delete {
                continue;
            }
            separated.note(key, &entry, kept);
            if !kept {
                continue;
            }
            if separated.is_large(&entry) {
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
    Ok((writer.finish()?, separated))
}

/// The part of a change that puts a flushed memtable in place of its segment.
pub(crate) fn describe(part: &MemPart, flushed: &Flushed, run: u64, change: &mut Change) {
    let edit = &mut change.edit;
    for meta in &flushed.run.metas {
        edit.add_table(run, meta.clone());
    }
    change.tables.extend(flushed.tables.iter().cloned());
    let id = part.segment.id();
    match &flushed.fate {
        Fate::Goes => edit.remove_segment(id),
        Fate::Stays(meta, direct) => {
            edit.set_segment_flushed(id, meta.values);
            edit.add_dead(id, meta.dead.clone());
            change.segments.extend(direct.clone());
        }
        Fate::Moves(moved) => {
            edit.remove_segment(id);
            moved.metas.iter().for_each(|meta| edit.add_segment(meta.clone()));
            change.segments.clone_from(&moved.segments);
        }
    }
}

impl Flushed {
    /// What its files take.
    fn size_bytes(&self) -> u64 {
        let moved = match &self.fate {
            Fate::Moves(moved) => moved.identity.size_bytes,
            Fate::Goes | Fate::Stays(..) => 0,
        };
        self.run.size_bytes + moved
    }

    /// The files that it made.
    pub(crate) fn files(&self) -> Vec<FileName> {
        let table = |meta: &TableMeta| FileName::Table(meta.number);
        let mut files: Vec<FileName> = self.run.metas.iter().map(table).collect();
        if let Fate::Moves(moved) = &self.fate {
            files.push(FileName::Segment(moved.identity.file));
        }
        files
    }

    /// Deletes what was built, for a flush that fails before its edit.
    fn discard(&self, env: &Env) {
        self.run.discard(env);
        if let Fate::Moves(moved) = &self.fate {
            moved.discard(env);
        }
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
        Counters::add(&self.env.counters.flush_bytes_written, flushed.size_bytes());
        if let Err(error) = self.commit_flush(part, &flushed) {
            if self.is_undone() {
                flushed.discard(&self.env);
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
            flushed.discard(&self.env);
            return Err(error);
        }
        if planted("flush: segment gone before the edit") {
            obsolete::discard_segment(&self.env, part.segment.id());
        }
        let mut change = Change::default();
        let run = files.state.next_run;
        let count = key_count(&files.state) as i64 + flushed.delta;
        let count = if planted("flush: keys not counted") { 0 } else { count };
        change.edit.set_count(crate::types::DEFAULT_KEYSPACE, count.max(0) as u64);
        describe(part, flushed, run, &mut change);
        change.retired_parts.push(part.segment.id());
        self.stamp(&mut change.edit);
        change.edit.last_seqno = Some(part.memtable.last_seqno().max(files.state.last_seqno));
        self.commit_locked(&mut files, change)
    }
}
