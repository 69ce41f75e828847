//! Compaction (layer L5): neighbouring runs become one. Versions that nobody sees go, and so do
//! tombstones where nothing older is left.
//!
//! Invariant AGE: the result takes the place, and the number, of the newest input; inputs are
//! neighbours; runs that arrive meanwhile are newer. Reads its input with `pread`, so that a scan
//! of everything does not touch the maps.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::counters::Counters;
use super::dropped::Dropped;
use super::hooks;
use super::locks::thread;
use super::obsolete;
use super::pick::{JOIN_TABLE_BYTES, Job, Terms, input_numbers, pick, pick_range};
use super::retain::Retain;
use super::run_writer::{FinishedRun, RunWriter};
use super::state::{Change, Engine, closed_error, lock, wait};
use super::view::Run;
use crate::error::{Error, ErrorKind, Result};
use crate::iter::{Cursor, Merge};
use crate::planted::planted;
use crate::table::{IterMode, Table, TableIter};
use crate::types::{Kind, SeqNo};
use crate::version::{KeyRange, RunId, RunMeta, VersionState};

/// Entries between two looks at whether to go on.
const CHECK_EVERY: u64 = 4096;

/// Asks the owner of a job whether to go on, with bytes read so far.
type Check<'a> = &'a mut dyn FnMut(u64) -> ControlFlow<()>;

/// A job with the files it works on. Its runs are busy until it is dropped.
struct Plan<'a> {
    engine: &'a Engine,
    inputs: Vec<RunMeta>,
    bottom: bool,
    join: bool,
    /// The same, open. Only these: segments may go while it works.
    runs: Vec<Run>,
}

impl Drop for Plan<'_> {
    fn drop(&mut self) {
        // Who sees that nobody is busy with them finds their files held by nobody, too.
        self.runs.clear();
        let mut shared = lock(&self.engine.shared);
        shared.busy_runs.retain(|id| !self.inputs.iter().any(|run| run.id == *id));
        drop(shared);
        self.engine.done.notify_all();
        self.engine.work.notify_all();
    }
}

/// A call of `compact`: the background starts no compaction meanwhile.
struct ByHand<'a>(&'a Engine);

impl ByHand<'_> {
    /// Misuse when this thread is in another one, which would be waited for without end.
    fn begin(engine: &Engine) -> Result<ByHand<'_>> {
        let own = thread::current().id();
        let callers = &mut lock(&engine.shared).manual_compactions;
        if callers.contains(&own) {
            let what = "a compaction was asked for by the progress of another";
            return Err(Error::new(ErrorKind::Misuse, what));
        }
        callers.push(own);
        Ok(ByHand(engine))
    }
}

impl Drop for ByHand<'_> {
    fn drop(&mut self) {
        let own = thread::current().id();
        lock(&self.0.shared).manual_compactions.retain(|caller| *caller != own);
        self.0.work.notify_all();
    }
}

impl Engine {
    /// Does the most useful compaction in the background. False when there is none.
    pub(crate) fn compact_once(&self) -> Result<bool> {
        let dir = &self.env.dir;
        let large = JOIN_TABLE_BYTES.min(self.env.plan.table_size_bytes / 2);
        let join_bytes = hooks::limit(dir, "join size", large);
        let spare_percent = self.env.options.space_amplification_percent - 100;
        let snapshots = self.snapshots();
        let choose = |state: &VersionState, busy: &[RunId]| {
            pick(state, &Terms { busy, join_bytes, spare_percent, snapshots: &snapshots })
        };
        let plan = self.plan(choose, true)?;
        hooks::reach(dir, "compaction: picked");
        let Some(plan) = plan else { return Ok(false) };
        let mut go_on = |_| match self.is_stopping() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let result = self.run_plan(&plan, &mut go_on);
        // It holds the inputs.
        drop(plan);
        obsolete::collect(self);
        hooks::reach(dir, "compaction: over");
        match result {
            Err(error) if error.kind() == ErrorKind::Cancelled => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Merges every run that has a key in `range` into one. `check` is called with bytes read.
    pub(crate) fn compact_range(
        &self,
        range: KeyRange<'_>,
        check: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<()> {
        let _job = self.begin_job()?;
        let by_hand = ByHand::begin(self)?;
        let result = self.compact_range_alone(range, check);
        drop(by_hand);
        let result = result.and_then(|()| self.rest_if_empty());
        obsolete::collect_and_wait(self);
        match result {
            Err(error) if error.kind() == ErrorKind::Cancelled && self.is_stopping() => {
                Err(closed_error())
            }
            other => other,
        }
    }

    fn compact_range_alone(
        &self,
        range: KeyRange<'_>,
        check: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<()> {
        // Looked at again under the lock under which the job is chosen: two may have waited.
        let plan = loop {
            self.wait_for_compactions();
            hooks::reach(&self.env.dir, "compact: nobody else");
            let mut others = false;
            let choose = |state: &VersionState, busy: &[RunId]| {
                others = !busy.is_empty();
                if others { None } else { pick_range(state, range) }
            };
            let plan = self.plan(choose, false)?;
            if !others {
                break plan;
            }
        };
        let Some(plan) = plan else {
            return if self.is_stopping() { Err(closed_error()) } else { Ok(()) };
        };
        hooks::reach(&self.env.dir, "compact: planned");
        let total: u64 = plan.inputs.iter().map(RunMeta::size_bytes).sum();
        let mut go_on = |read| match self.is_stopping() {
            true => ControlFlow::Break(()),
            false => check(read, total),
        };
        self.run_plan(&plan, &mut go_on)
    }

    /// Whether the database is being closed. The lock is free again when this returns: callbacks
    /// run without one.
    fn is_stopping(&self) -> bool {
        lock(&self.shared).stop
    }

    fn wait_for_compactions(&self) {
        let mut shared = lock(&self.shared);
        while !shared.busy_runs.is_empty() && !shared.stop {
            hooks::reach(&self.env.dir, "compact: waits");
            shared = wait(&self.done, shared);
        }
    }

    /// Chooses a job and marks its runs as busy.
    fn plan(
        &self,
        choose: impl FnOnce(&VersionState, &[u64]) -> Option<Job>,
        automatic: bool,
    ) -> Result<Option<Plan<'_>>> {
        let files = self.files()?;
        let mut shared = lock(&self.shared);
        if shared.stop || (automatic && !shared.manual_compactions.is_empty()) {
            return Ok(None);
        }
        // Nothing could be committed.
        self.check_poisoned()?;
        let Some(job) = choose(&files.state, &shared.busy_runs) else { return Ok(None) };
        let (first, count, bottom, join) = match job {
            Job::Merge { first, count, bottom } => (first, count, bottom, false),
            Job::Join { newer } => (newer, 2, false, true),
        };
        let bottom = bottom || hooks::planted(&self.env.dir, "tombstones dropped without proof");
        let mut inputs = files.state.runs[first..first + count].to_vec();
        if join && hooks::planted(&self.env.dir, "join past a neighbour") {
            inputs[1..].clone_from_slice(&files.state.runs[files.state.runs.len() - 1..]);
        }
        shared.busy_runs.extend(inputs.iter().map(|run| run.id));
        let runs = self.view.load().version.runs[first..first + count].to_vec();
        Ok(Some(Plan { engine: self, inputs, bottom, join, runs }))
    }

    fn run_plan(&self, plan: &Plan<'_>, check: Check<'_>) -> Result<()> {
        let Some(newest) = plan.inputs.first() else { return Ok(()) };
        let mut change = Change::default();
        for number in input_numbers(&plan.inputs) {
            change.edit.remove_table(number);
        }
        if plan.join {
            for meta in plan.inputs.iter().flat_map(|run| &run.tables) {
                change.edit.add_table(newest.id, (**meta).clone());
            }
            return self.commit(change);
        }
        let (run, dropped) = self.merge(plan, check)?;
        let committed = run.open(&self.env).and_then(|tables| {
            change.tables = tables;
            for meta in &run.metas {
                change.edit.add_table(newest.id, meta.clone());
            }
            let mut files = self.files()?;
            dropped.describe(&files.state, &mut change.edit);
            self.stamp(&mut change.edit);
            self.commit_locked(&mut files, change)
        });
        if let Err(error) = committed {
            if self.is_undone() {
                run.discard(&self.env);
            }
            return Err(error);
        }
        let counters = &self.env.counters;
        Counters::add(&counters.compactions, 1);
        Counters::add(&counters.compaction_bytes_written, run.size_bytes);
        Ok(())
    }

    /// Writes the merged run; answers also which separated values it no longer points to.
    fn merge(&self, plan: &Plan<'_>, check: Check<'_>) -> Result<(FinishedRun, Dropped)> {
        let all = !planted("compaction: the oldest input is left out");
        let runs = &plan.runs[..plan.runs.len() - usize::from(!all && plan.runs.len() > 1)];
        let base = plan.inputs.iter().map(RunMeta::min_seqno).min().unwrap_or(0);
        let total: u64 = plan.inputs.iter().map(RunMeta::size_bytes).sum();
        let entries: u64 = plan.inputs.iter().map(RunMeta::entries).sum();
        let mut retain = Retain::new(self.snapshots(), plan.bottom);
        // Many runs share what their buffers may take.
        let read_ahead = self.env.plan.builder_bytes as usize * 4 / runs.len().max(1);
        let source = |run| RunSource::new(run, read_ahead);
        let mut merge = Merge::new(runs.iter().map(source).collect());
        let mut writer = RunWriter::new(&self.env, base);
        let mut dropped = Dropped::default();
        // A key that several sources may have; otherwise only an older version can follow it.
        let (mut repeated, mut last_key) = (false, Vec::new());
        let mut seen = 0u64;
        merge.seek(b"")?;
        while merge.valid() {
            if seen.is_multiple_of(CHECK_EVERY) {
                let read =
                    (u128::from(total) * u128::from(seen) / u128::from(entries.max(1))) as u64;
                if check(read).is_break() {
                    return Err(Error::new(ErrorKind::Cancelled, "compaction was cancelled"));
                }
            }
            seen += 1;
            let source = merge.current();
            let iter = source.iter();
            let is_new = match repeated {
                true => iter.key() != last_key.as_slice(),
                false => !iter.is_older_version(),
            };
            if is_new {
                retain.start_key();
            }
            repeated = merge.may_repeat();
            if repeated {
                last_key.clear();
                last_key.extend_from_slice(iter.key());
            }
            if retain.keep(iter.seqno(), iter.kind()) {
                copy_entry(source, &retain, &mut writer, base, plan.bottom)?;
            } else if iter.kind() == Kind::Pointer {
                let noted = dropped.note(iter.key(), iter.value());
                noted.map_err(|error| iter.blame(error))?;
            }
            merge.advance()?;
        }
        Counters::add(&self.env.counters.compaction_bytes_read, total);
        Ok((writer.finish()?, dropped))
    }
}

/// Writes the current entry of a source.
#[inline]
fn copy_entry(
    source: &RunSource,
    retain: &Retain,
    writer: &mut RunWriter<'_>,
    base: SeqNo,
    bottom: bool,
) -> Result<()> {
    let iter = source.iter();
    let (key, seqno, kind) = (iter.key(), iter.seqno(), iter.kind());
    // Who sees it sees it always: at the bottom the smallest number does, and takes no space.
    let seqno = if bottom && retain.visible_to_all(seqno) { base } else { seqno };
    writer.add(key, seqno, kind, iter.value()).map_err(|error| match error.kind() {
        // A table whose checksums are right and whose entries are not where they belong.
        ErrorKind::Misuse => iter.wrong("entries are out of order"),
        _ => error,
    })
}

/// All entries of a run, read in order.
struct RunSource {
    tables: Vec<Arc<Table>>,
    index: usize,
    iter: Option<TableIter>,
    read_ahead: usize,
}

impl RunSource {
    fn new(run: &Run, read_ahead: usize) -> RunSource {
        let tables = run.tables.iter().map(|(_, table)| Arc::clone(table)).collect();
        RunSource { tables, index: 0, iter: None, read_ahead }
    }

    #[inline]
    fn iter(&self) -> &TableIter {
        self.iter.as_ref().expect("a valid source has a table open")
    }

    fn open_from(&mut self, index: usize) -> Result<()> {
        self.index = index;
        self.iter = None;
        if let Some(table) = self.tables.get(index) {
            let mut iter = TableIter::new(Arc::clone(table), IterMode::Buffered)?;
            iter.set_read_ahead(self.read_ahead);
            iter.seek_to_first()?;
            self.iter = Some(iter);
        }
        Ok(())
    }
}

impl Cursor for RunSource {
    /// Only to the start: a compaction reads everything.
    fn seek(&mut self, key: &[u8]) -> Result<()> {
        debug_assert!(key.is_empty());
        self.open_from(0)
    }
    fn seek_before(&mut self, _key: &[u8]) -> Result<()> {
        Err(Error::new(ErrorKind::Unsupported, "compaction only reads forward"))
    }
    #[inline]
    fn next(&mut self) -> Result<()> {
        if let Some(iter) = &mut self.iter {
            iter.next()?;
            if !iter.valid() {
                return self.open_from(self.index + 1);
            }
        }
        Ok(())
    }
    fn prev(&mut self) -> Result<()> {
        Err(Error::new(ErrorKind::Unsupported, "compaction only reads forward"))
    }
    #[inline]
    fn valid(&self) -> bool {
        self.iter.as_ref().is_some_and(TableIter::valid)
    }
    #[inline]
    fn key(&self) -> &[u8] {
        self.iter().key()
    }
}

impl Engine {
    /// Whether a compaction would find work now.
    pub(crate) fn wants_compaction(&self) -> bool {
        let version = Arc::clone(&self.view.load().version);
        (version.runs.len() > 1 || version.old_bytes() > 0) && !self.closed.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::sim::SimDisk;
    use crate::options::Options;
    use crate::table::hostile::mend;
    use std::ops::Bound;
    use std::path::PathBuf;

    const PATH: &str = "/db";

    /// A closed database with one table, of these keys and values, that was changed before its
    /// checksums were made right again; and the table's path.
    fn forged(entries: &[(&[u8], &[u8])], change: impl FnOnce(&mut [u8])) -> (SimDisk, PathBuf) {
        let disk = SimDisk::new();
        let db = disk.open_db(PATH, &Options::new()).unwrap();
        for (key, value) in entries {
            db.put(key, value).unwrap();
        }
        db.flush().unwrap();
        db.close().unwrap();
        let paths = disk.files().into_iter().map(|(path, _)| path);
        let tables: Vec<_> =
            paths.filter(|path| path.extension().is_some_and(|e| e == "table")).collect();
        let [path] = &tables[..] else { panic!("{tables:?}") };
        let mut bytes = disk.read_file(path).unwrap();
        change(&mut bytes);
        mend(&mut bytes);
        disk.overwrite(path, 0, &bytes).unwrap();
        (disk, path.clone())
    }

    /// What a compaction says after a put of a key.
    fn compact(disk: &SimDisk, key: &[u8]) -> Result<()> {
        let db = disk.open_db(PATH, &Options::new()).unwrap();
        db.put(key, b"new").unwrap();
        db.compact(Bound::Unbounded, Bound::Unbounded)
    }

    fn find(bytes: &[u8], what: &[u8]) -> usize {
        bytes.windows(what.len()).position(|window| window == what).unwrap()
    }

    #[test]
    fn a_table_whose_entries_are_out_of_order_is_not_merged_and_is_named() {
        let entries: [(&[u8], &[u8]); 3] =
            [(b"key-a", b"value of a"), (b"key-c", b"value of c"), (b"key-e", b"value of e")];
        for (last, in_order) in [(b'd', true), (b'f', false), (b'a', false)] {
            let (disk, path) = forged(&entries, |bytes| {
                // The block has what the keys share once, and of each key its last byte.
                let at = find(bytes, b"value of c") - 1;
                assert_eq!(bytes[at], b'c');
                bytes[at] = last;
            });
            let result = compact(&disk, b"other");
            if in_order {
                result.unwrap();
                continue;
            }
            let error = result.unwrap_err();
            let found = (error.kind(), error.message(), error.path(), error.offset());
            let what = "entries are out of order";
            assert_eq!(found, (ErrorKind::Corruption, what, Some(&*path), Some(0)));
        }
    }

    #[test]
    fn a_pointer_to_nowhere_is_refused_by_the_compaction_that_drops_it() {
        let entries: [(&[u8], &[u8]); 1] = [(b"key", &[7; 5000])];
        for forge in [false, true] {
            let (disk, path) = forged(&entries, |bytes| {
                // The key, then the segment's number and the offset in it.
                let offset = find(bytes, b"key") + 3 + 8;
                assert_ne!(bytes[offset..offset + 4], [0; 4]);
                if forge {
                    bytes[offset..offset + 4].fill(0);
                }
            });
            let result = compact(&disk, b"key");
            if !forge {
                result.unwrap();
                continue;
            }
            let error = result.unwrap_err();
            let what = "a value pointer in a table is none";
            assert_eq!((error.kind(), error.message()), (ErrorKind::Corruption, what));
            assert_eq!((error.path(), error.offset().is_some()), (Some(&*path), true), "{error}");
        }
    }
}
