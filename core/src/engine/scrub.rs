//! Searching for damage (layer L5): in a closed directory, and in an open database.
//!
//! Invariant: what a read, a collection or the next open would refuse is found. Every file is
//! opened anew, since what is open already remembers what it has checked. Nothing is changed.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::hooks;
use super::obsolete;
use super::recount::{Recount, Sum};
use super::state::{Engine, closed_error, lock};
use super::view::View;
use crate::cache::FileAccess;
use crate::error::{Error, ErrorKind, Result};
use crate::filename::FileName;
use crate::fs::{FileSystem, LockKind, PathKind};
use crate::planted::planted;
use crate::report::{DamageReport, Finding};
use crate::table::{Table, Watch};
use crate::types::{Kind, SegmentId, ValuePointer};
use crate::version::{self, SegmentMeta, SegmentState, TableMeta, VersionState};
use crate::vlog::{
    OpenFor, RewrittenIdentity, Segment, SegmentIdentity, Source, check_log, for_each_value, replay,
};

/// Told of bytes that were read, and of all there are; may wait; an error ends the search.
pub(crate) type Pace<'a> = &'a mut dyn FnMut(u64, u64) -> Result<()>;

/// Bytes of decoded blocks that a search keeps.
const CACHE_BYTES: u64 = 4 << 20;

/// A search under way.
struct Search<'a> {
    fs: Arc<dyn FileSystem>,
    dir: &'a Path,
    access: FileAccess,
    state: &'a VersionState,
    segments: HashMap<SegmentId, Arc<Segment>>,
    /// Segments of the state that could not be opened.
    unopened: Vec<SegmentId>,
    recount: Recount,
    total: u64,
    report: DamageReport,
    pace: Pace<'a>,
}

/// Searches the database in `dir`, which nobody may write meanwhile. NotFound when there is none.
pub(crate) fn verify(fs: Arc<dyn FileSystem>, dir: &Path, pace: Pace<'_>) -> Result<DamageReport> {
    if fs.kind(dir)? != PathKind::Directory {
        return Err(not_found(dir));
    }
    let _guard = fs.lock(&FileName::Lock.path(dir), LockKind::Shared)?;
    let state = match version::load(&*fs, dir) {
        Ok(Some(loaded)) => loaded.state,
        Ok(None) => return Err(not_found(dir)),
        Err(error) => {
            let mut report = DamageReport::default();
            report.add(Finding::of(error, dir)?);
            return Ok(report);
        }
    };
    let mut search = Search::new(fs, dir, &state, pace);
    search.open_segments()?;
    search.tables()?;
    search.values()?;
    search.log()?;
    Ok(search.report)
}

fn not_found(dir: &Path) -> Error {
    Error::new(ErrorKind::NotFound, format!("{} holds no database", dir.display()))
}

impl<'a> Search<'a> {
    fn new(
        fs: Arc<dyn FileSystem>,
        dir: &'a Path,
        state: &'a VersionState,
        pace: Pace<'a>,
    ) -> Search<'a> {
        let tables: u64 = state.tables().map(|meta| meta.size_bytes).sum();
        let values: u64 = state.segments.values().map(SegmentMeta::live_bytes).sum();
        let access = FileAccess::new(CACHE_BYTES, false);
        Search {
            fs,
            dir,
            access,
            state,
            segments: HashMap::new(),
            unopened: Vec::new(),
            recount: Recount::default(),
            total: tables + values,
            report: DamageReport::default(),
            pace,
        }
    }

    /// Notes damage that concerns all of a file.
    fn found(&mut self, error: Error, path: &Path, records: Option<u64>) -> Result<()> {
        self.report.add(Finding { records, ..Finding::of(error, path)? });
        Ok(())
    }

    fn open_segments(&mut self) -> Result<()> {
        for meta in self.state.segments.values() {
            if self.segments.contains_key(&meta.id) || self.unopened.contains(&meta.id) {
                continue;
            }
            let path = FileName::Segment(meta.file).path(self.dir);
            self.report.files += 1;
            let here = self.state.segments.values().filter(|own| own.file == meta.file);
            let ids: Vec<SegmentId> = here.clone().map(|own| own.id).collect();
            let opened = self.open_segment(meta, &path, &ids);
            let live = here.map(SegmentMeta::live_count).sum();
            match opened {
                Ok(segments) => self.segments.extend(segments),
                Err(error) => {
                    self.unopened.extend(&ids);
                    self.found(error, &path, Some(live).filter(|count| *count > 0))?;
                }
            }
        }
        Ok(())
    }

    /// The segments `ids`, which are those of the state in this file.
    fn open_segment(
        &self,
        meta: &SegmentMeta,
        path: &Path,
        ids: &[SegmentId],
    ) -> Result<Vec<(SegmentId, Arc<Segment>)>> {
        let SegmentMeta { id, file, salt, size_bytes, .. } = *meta;
        let db_id = self.state.db_id;
        let mut found = if file == id {
            let identity = SegmentIdentity { id, salt, db_id, size_bytes };
            let purpose = match meta.state {
                SegmentState::Flushed => OpenFor::Values,
                SegmentState::Registered => OpenFor::Replay,
            };
            vec![Segment::open(&*self.fs, path, identity, purpose, &self.access)?]
        } else {
            let identity = RewrittenIdentity { file, salt, db_id, size_bytes };
            Segment::open_rewritten(&*self.fs, path, identity, &self.access)?
        };
        found.retain(|segment| ids.contains(&segment.id()));
        if found.len() != ids.len() {
            return Err(Error::corruption(path, 0, "a rewritten segment is not in its file"));
        }
        Ok(found.into_iter().map(|segment| (segment.id(), Arc::new(segment))).collect())
    }

    fn tables(&mut self) -> Result<()> {
        let state = self.state;
        for meta in state.tables() {
            self.report.files += 1;
            let path = FileName::Table(meta.number).path(self.dir);
            match self.open_table(meta, &path) {
                Ok(table) => {
                    self.recount.begin_table();
                    let table = Arc::new(table);
                    let intact = table.inspect(&mut TableWatch(self))?;
                    self.report.records += intact;
                    if let Err(error) = self.recount.check_table(&table, meta) {
                        self.found(error, &path, None)?;
                    }
                }
                Err(error) => {
                    self.recount.miss();
                    let finding = Finding::of(error, &path)?;
                    let finding = finding.within(&meta.smallest, &meta.largest);
                    self.report.add(Finding { records: Some(meta.entries), ..finding });
                }
            }
        }
        Ok(())
    }

    fn open_table(&self, meta: &TableMeta, path: &Path) -> Result<Table> {
        if self.fs.kind(path)? != PathKind::File {
            return Err(Error::corruption(path, 0, "this table is missing"));
        }
        let (size, seed) = (meta.size_bytes, self.state.hash_seed);
        let base = meta.seqno_base;
        Table::open(&self.fs, path, meta.number, size, seed, base, &self.access)
    }

    /// The value behind a pointer of a table.
    fn value(&mut self, key: &[u8], pointer: &ValuePointer) -> Result<()> {
        let Some(segment) = self.segments.get(&pointer.segment).cloned() else {
            // If it could not be opened, that was said once.
            if !self.unopened.contains(&pointer.segment) {
                let what = format!("points into segment {}, which is not live", pointer.segment);
                let path = FileName::Current.path(self.dir);
                let finding = Finding::of(Error::corruption(&path, 0, what), &path)?;
                self.report.add(Finding { records: Some(1), ..finding.within(key, key) });
            }
            return Ok(());
        };
        match segment.pointed_value(pointer.offset, key, pointer.len, false) {
            Err(_) if planted("verify: values not told") => Ok(()),
            Ok(_) => self.read(u64::from(pointer.len)),
            Err(error) => {
                let finding = Finding::of(error, segment.path())?.within(key, key);
                self.report.add(Finding { records: Some(1), ..finding });
                Ok(())
            }
        }
    }

    /// What a collection would read of flushed segments: frames, offset maps, live values. These
    /// are counted beside what manifest and tables say of them.
    fn values(&mut self) -> Result<()> {
        let state = self.state;
        for meta in state.segments.values().filter(|meta| meta.state == SegmentState::Flushed) {
            let Some(segment) = self.segments.get(&meta.id).cloned() else { continue };
            let (least_len, end) = (meta.values.least_len, meta.values.end);
            let source = Source { segment: &segment, least_len, end, dead: meta.dead.units() };
            let (mut records, mut live) = (0u64, Sum::default());
            let fs = Arc::clone(&self.fs);
            let walked = for_each_value(&*fs, source, &mut |unit, record| {
                records += 1;
                live.add(u64::from(unit), record.len() as u64);
                if records.is_multiple_of(256) { self.read(0) } else { Ok(()) }
            });
            let counted = walked.and_then(|()| self.recount.check_segment(self.dir, meta, live));
            if let Err(error) = counted
                && !planted("verify: flushed segments not told")
            {
                self.found(error, segment.path(), None)?;
            }
        }
        Ok(())
    }

    /// The log, as the next open will replay it.
    fn log(&mut self) -> Result<()> {
        let state = self.state;
        let registered = |meta: &&SegmentMeta| meta.state == SegmentState::Registered;
        let log: Vec<_> = state.segments.values().filter(registered).collect();
        let open: Vec<_> = log.iter().filter_map(|meta| self.segments.get(&meta.id)).collect();
        if open.len() < log.len() {
            return Ok(());
        }
        let open: Vec<_> = open.into_iter().cloned().collect();
        let mut records = 0u64;
        let replayed = replay(&open, state.last_seqno, |_| {
            records += 1;
            if records.is_multiple_of(256) { self.read(0) } else { Ok(()) }
        });
        match replayed {
            Ok(_) => self.report.records += records,
            Err(_) if planted("verify: log not told") => {}
            Err(error) => self.found(error, self.dir, None)?,
        }
        Ok(())
    }

    /// The log of a database that is open, up to what was published.
    fn live_log(&mut self, view: &View, visible: u64) -> Result<()> {
        for part in &view.parts {
            if part.memtable.is_empty() {
                continue;
            }
            let upto = part.memtable.last_seqno().min(visible);
            let fs = Arc::clone(&self.fs);
            let mut damage = Vec::new();
            let read = &mut |bytes| self.read(bytes);
            let checked =
                check_log(&*fs, &part.segment, upto, read, &mut |error| damage.push(error));
            match checked {
                Ok(intact) => self.report.records += intact,
                Err(error) => damage.push(error),
            }
            if planted("scrub: log not told") {
                damage.clear();
            }
            self.report.files += 1;
            for error in damage {
                self.found(error, part.segment.path(), None)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, bytes: u64) -> Result<()> {
        self.report.bytes += bytes;
        (self.pace)(self.report.bytes, self.total.max(self.report.bytes))
    }
}

/// What a table's check tells a search.
struct TableWatch<'s, 'a>(&'s mut Search<'a>);

impl Watch for TableWatch<'_, '_> {
    fn read(&mut self, bytes: u64) -> Result<()> {
        self.0.read(bytes)
    }

    fn entry(&mut self, key: &[u8], kind: Kind, value: &[u8]) -> Result<()> {
        self.0.recount.entry(key, kind, value);
        match ValuePointer::decode(value).filter(|_| kind == Kind::Pointer) {
            Some(pointer) => self.0.value(key, &pointer),
            None => Ok(()),
        }
    }

    fn damage(
        &mut self,
        error: Error,
        first: &[u8],
        last: &[u8],
        records: Option<u64>,
    ) -> Result<()> {
        self.0.recount.miss();
        let finding = Finding::of(error, self.0.dir)?.within(first, last);
        self.0.report.add(Finding { records, ..finding });
        Ok(())
    }
}

/// What a search of an open database looks at, and what keeps its files there.
struct Pinned {
    state: VersionState,
    view: Arc<View>,
    visible: u64,
    _segments: Vec<Arc<Segment>>,
}

impl Engine {
    /// Searches this database while others work on it; `pace` may wait.
    pub(crate) fn scrub(&self, pace: Pace<'_>) -> Result<DamageReport> {
        let pinned = self.pin_files()?;
        let report = self.scrub_pinned(&pinned, pace);
        drop(pinned);
        obsolete::collect(self);
        report
    }

    fn scrub_pinned(&self, pinned: &Pinned, pace: Pace<'_>) -> Result<DamageReport> {
        hooks::reach(&self.env.dir, "scrub: pinned");
        let mut pace = |done, total| {
            if self.closed.load(Ordering::Acquire) {
                return Err(closed_error());
            }
            pace(done, total)
        };
        let env = &self.env;
        let mut search = Search::new(Arc::clone(&env.fs), &env.dir, &pinned.state, &mut pace);
        search.access.direct = env.access.direct;
        // What is still log is looked at as far as it has been published.
        search.open_segments()?;
        search.tables()?;
        search.values()?;
        search.live_log(&pinned.view, pinned.visible)?;
        Ok(search.report)
    }

    /// The state of the files, what keeps them there, and what is published of the log.
    fn pin_files(&self) -> Result<Pinned> {
        self.check_open()?;
        let Some(files) = &self.files else {
            let loaded = version::load(&*self.env.fs, &self.env.dir)?;
            let loaded = loaded.ok_or_else(|| not_found(&self.env.dir))?;
            let (view, visible) = self.pin(None)?;
            return Ok(Pinned { state: loaded.state, view, visible, _segments: Vec::new() });
        };
        let files = lock(files);
        let (view, visible) = self.pin(None)?;
        // The view does not hold a segment that is prepared for later.
        let segments = files.segments.values().cloned().collect();
        Ok(Pinned { state: files.state.clone(), view, visible, _segments: segments })
    }
}

#[cfg(test)]
mod tests {
    use super::super::hooks::Intervention;
    use super::super::state::NextSegment;
    use super::*;
    use crate::fs::sim::SimDisk;
    use crate::options::Options;
    use std::ops::{Bound, ControlFlow};
    use std::thread::yield_now;
    use std::time::{Duration, Instant};

    #[test]
    fn a_segment_that_was_only_prepared_when_a_scrub_began_is_not_missed() {
        let (disk, dir) = (SimDisk::new(), Path::new("/scrubbed"));
        let options = Options::new().memtable_size_bytes(64 << 10).backlog_limit_bytes(1 << 20);
        let db = disk.open_db(dir, &options).unwrap();
        let put = |db: &crate::Db, number: u32| {
            db.put(&(number % 300).to_be_bytes(), &[7; 300]).unwrap();
            yield_now();
        };
        let prepared = (0..100_000).find_map(|number| {
            put(&db, number);
            match &lock(&db.handle().engine().shared).next_segment {
                NextSegment::Ready(segment) => Some(segment.path().to_path_buf()),
                _ => None,
            }
        });
        let prepared = prepared.expect("none is prepared");
        let other = db.clone();
        let step = Intervention::at(dir, "scrub: pinned", move || {
            // Goes into what was prepared; then that is flushed and of no use any more.
            (0..600).for_each(|number| put(&other, number));
            other.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
        });
        let report = db.scrub(0, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(step.met(), 1);
        assert!(report.is_clean(), "{:?}", report.findings);
        // Whichever thread still holds it lets go of it.
        let deadline = Instant::now() + Duration::from_secs(60);
        while disk.files().iter().any(|(path, _)| *path == prepared) {
            assert!(Instant::now() < deadline, "the scrub keeps the segment");
            obsolete::collect(db.handle().engine());
        }
    }
}
