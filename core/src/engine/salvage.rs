//! Reading what can be read of a damaged database (layer L5).
//!
//! Invariants: the source is only read; what is handed out was under a right checksum; the newest
//! version that can be read of a key wins, by its sequence number, and one whose value is lost
//! hides older ones all the same.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::path::Path;
use std::sync::Arc;

use crate::buffer::Bytes;
use crate::cache::FileAccess;
use crate::error::{Error, ErrorKind, Result};
use crate::filename::FileName;
use crate::fs::{FileSystem, LockKind, PathKind};
use crate::key;
use crate::planted::planted;
use crate::report::{DamageReport, Finding};
use crate::table::{Wreck, WreckEntry};
use crate::types::{FileNumber, Kind, SegmentId, SeqNo, ValuePointer};
use crate::version::{self, SegmentMeta, SegmentState, TableMeta};
use crate::vlog::{OpenFor, RewrittenIdentity, Segment, SegmentIdentity, SegmentWreck, replay};

/// Told of bytes that were read, and of all there are; an error ends it.
type Pace<'a> = &'a mut dyn FnMut(u64, u64) -> Result<()>;

/// Where salvaged keys and values go, in key order.
pub(crate) type Emit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<()>;

/// Reads the database in `dir` as far as it can be read.
pub(crate) fn salvage(
    fs: &dyn FileSystem,
    dir: &Path,
    pace: Pace<'_>,
    emit: Emit<'_>,
) -> Result<DamageReport> {
    if fs.kind(dir)? != PathKind::Directory {
        let message = format!("{} is not a directory", dir.display());
        return Err(Error::new(ErrorKind::NotFound, message));
    }
    let _guard = fs.lock(&FileName::Lock.path(dir), LockKind::Shared)?;
    let mut salvage = Salvage::find(fs, dir, pace)?;
    let log = salvage.read_log()?;
    let tables = salvage.open_tables()?;
    salvage.merge(log, tables, emit)?;
    Ok(salvage.report)
}

/// What is known of the files.
struct Salvage<'a> {
    fs: &'a dyn FileSystem,
    dir: &'a Path,
    hash_seed: u64,
    db_id: Option<u64>,
    /// With the sequence number that those in the file are relative to, where that is known.
    tables: Vec<(FileNumber, Option<TableMeta>)>,
    segments: BTreeMap<SegmentId, SegmentMeta>,
    last_seqno: SeqNo,
    values: HashMap<SegmentId, Source>,
    total: u64,
    report: DamageReport,
    pace: Pace<'a>,
}

/// What values are read from: a segment as it should be, and one as it is.
struct Source {
    sound: Option<Arc<Segment>>,
    wreck: Option<SegmentWreck>,
}

/// Where the newest version of a key in the log has its value.
#[derive(Clone, Copy)]
struct InLog {
    seqno: SeqNo,
    kind: Kind,
    segment: SegmentId,
    place: u64,
    len: u32,
}

/// A table on its way through the merge. Tables of which no edit knows come last: their sequence
/// numbers are not known.
struct TableSource {
    wreck: Wreck,
    base: Option<SeqNo>,
    largest: Vec<u8>,
}

impl<'a> Salvage<'a> {
    fn find(fs: &'a dyn FileSystem, dir: &'a Path, pace: Pace<'a>) -> Result<Salvage<'a>> {
        let mut salvage = Salvage {
            fs,
            dir,
            hash_seed: 0,
            db_id: None,
            tables: Vec::new(),
            segments: BTreeMap::new(),
            last_seqno: 0,
            values: HashMap::new(),
            total: 0,
            report: DamageReport::default(),
            pace,
        };
        match version::load(fs, dir) {
            Ok(None) => {
                let message = format!("{} holds no database", dir.display());
                return Err(Error::new(ErrorKind::NotFound, message));
            }
            Ok(Some(loaded)) => {
                let state = loaded.state;
                (salvage.hash_seed, salvage.db_id) = (state.hash_seed, Some(state.db_id));
                salvage.last_seqno = state.last_seqno;
                let tables = state.tables();
                salvage.tables = tables.map(|meta| (meta.number, Some((**meta).clone()))).collect();
                salvage.segments = state.segments;
            }
            Err(error) if error.kind() == ErrorKind::UnsupportedFormat => return Err(error),
            Err(error) => {
                salvage.lose(error, dir)?;
                salvage.find_without_manifest()?;
            }
        }
        let tables = salvage.tables.iter().filter_map(|(_, meta)| meta.as_ref());
        salvage.total = tables.fold(0, |sum: u64, meta| sum.saturating_add(meta.size_bytes));
        Ok(salvage)
    }

    /// What edits name that can still be read, and tables of which none knows.
    fn find_without_manifest(&mut self) -> Result<()> {
        let wreck = version::load_wreck(self.fs, self.dir)?;
        for error in wreck.lost {
            self.lose(error, self.dir)?;
        }
        self.hash_seed = wreck.hash_seed.unwrap_or(0);
        self.segments = wreck.segments;
        self.tables = wreck.tables.into_iter().map(|(number, meta)| (number, Some(meta))).collect();
        for entry in self.fs.list_dir(self.dir)? {
            if let Some(FileName::Table(number)) = FileName::parse(&entry.name)
                && !self.tables.iter().any(|(own, _)| *own == number)
            {
                self.tables.push((number, None));
            }
        }
        Ok(())
    }

    fn lose(&mut self, error: Error, path: &Path) -> Result<()> {
        self.report.add(Finding::of(error, path)?);
        Ok(())
    }

    /// The newest version of every key in the log.
    fn read_log(&mut self) -> Result<BTreeMap<Vec<u8>, InLog>> {
        let registered = |meta: &&SegmentMeta| meta.state == SegmentState::Registered;
        let metas: Vec<_> = self.segments.values().filter(registered).cloned().collect();
        let opened: Vec<_> = metas.iter().map(|meta| self.open_sound(meta)).collect();
        if let Ok(segments) = opened.into_iter().collect::<Result<Vec<_>>>() {
            let mut found = BTreeMap::new();
            let replayed = replay(&segments, self.last_seqno, |record| {
                let segment = segments[record.segment_index].id();
                let (len, place) = (record.value.len() as u32, record.offset);
                let at = InLog { seqno: record.seqno, kind: record.kind, segment, place, len };
                found.insert(record.key.to_vec(), at);
                Ok(())
            });
            match replayed {
                Ok(_) => {
                    self.report.files += segments.len() as u64;
                    for segment in segments {
                        let source = Source { sound: Some(Arc::clone(&segment)), wreck: None };
                        self.values.insert(segment.id(), source);
                    }
                    return Ok(found);
                }
                Err(error) => self.lose(error, self.dir)?,
            }
        }
        let mut log = BTreeMap::new();
        for meta in &metas {
            self.read_broken_log(meta, &mut log)?;
        }
        Ok(log)
    }

    /// What can be read of a segment of a log that cannot be replayed.
    fn read_broken_log(
        &mut self,
        meta: &SegmentMeta,
        log: &mut BTreeMap<Vec<u8>, InLog>,
    ) -> Result<()> {
        let path = FileName::Segment(meta.file).path(self.dir);
        self.report.files += 1;
        if let Err(error) = self.open_sound(meta) {
            self.lose(error, &path)?;
        }
        let wreck = match self.open_wreck(meta) {
            Ok(wreck) => wreck,
            Err(error) => return self.lose_file(error, &path),
        };
        let mut lost = Vec::new();
        let visit = &mut |seqno, kind, key: &[u8], place| {
            let len = 0;
            let at = InLog { seqno, kind, segment: meta.id, place, len };
            let newest = log.entry(key.to_vec()).or_insert(at);
            if newest.seqno < seqno {
                *newest = at;
            }
        };
        wreck.for_each_record(visit, &mut |error| lost.push(error));
        for error in lost {
            self.lose(error, &path)?;
        }
        self.values.insert(meta.id, Source { sound: None, wreck: Some(wreck) });
        Ok(())
    }

    /// Notes that a file cannot even be opened.
    fn lose_file(&mut self, error: Error, path: &Path) -> Result<()> {
        let missing = self.fs.kind(path)? != PathKind::File;
        let error = match missing {
            true => Error::corruption(path, 0, "this file is missing"),
            false => error,
        };
        self.lose(error, path)
    }

    fn open_sound(&self, meta: &SegmentMeta) -> Result<Arc<Segment>> {
        let SegmentMeta { id, file, salt, size_bytes, .. } = *meta;
        let path = FileName::Segment(file).path(self.dir);
        let unknown = || Error::corruption(&path, 0, "the database that it is of is not known");
        let db_id = self.db_id.ok_or_else(unknown)?;
        let access = FileAccess::new(0, false);
        if file == id {
            let identity = SegmentIdentity { id, salt, db_id, size_bytes };
            return Segment::open(self.fs, &path, identity, OpenFor::Values, &access).map(Arc::new);
        }
        let identity = RewrittenIdentity { file, salt, db_id, size_bytes };
        let found = Segment::open_rewritten(self.fs, &path, identity, &access)?;
        let found = found.into_iter().find(|segment| segment.id() == id).map(Arc::new);
        found.ok_or_else(|| Error::corruption(&path, 0, "a rewritten segment is not in its file"))
    }

    fn open_wreck(&self, meta: &SegmentMeta) -> Result<SegmentWreck> {
        let path = FileName::Segment(meta.file).path(self.dir);
        SegmentWreck::open(self.fs, &path, meta.id, meta.salt)
    }

    fn open_tables(&mut self) -> Result<Vec<TableSource>> {
        let mut open = Vec::new();
        for (number, meta) in std::mem::take(&mut self.tables) {
            let path = FileName::Table(number).path(self.dir);
            self.report.files += 1;
            match Wreck::open(self.fs, &path, number, self.hash_seed) {
                Ok(wreck) => {
                    let base = meta.as_ref().map(|meta| meta.seqno_base);
                    let largest = meta.map(|meta| meta.largest).unwrap_or_default();
                    if base.is_none() {
                        let what = "no edit names this table: what it has may be outdated";
                        self.lose(Error::corruption(&path, 0, what), &path)?;
                    }
                    open.push(TableSource { wreck, base, largest });
                }
                Err(error) => {
                    self.lose_file(error, &path)?;
                    if let (Some(meta), Some(last)) = (meta, self.report.findings.last_mut()) {
                        let finding = last.clone().within(&meta.smallest, &meta.largest);
                        *last = Finding { records: Some(meta.entries), ..finding };
                    }
                }
            }
        }
        Ok(open)
    }

    /// Hands out the newest version of every key.
    fn merge(
        &mut self,
        log: BTreeMap<Vec<u8>, InLog>,
        mut tables: Vec<TableSource>,
        emit: Emit<'_>,
    ) -> Result<()> {
        let mut log = log.into_iter().peekable();
        let mut heads = BinaryHeap::new();
        for index in 0..tables.len() {
            self.pull(&mut tables, index, &mut heads)?;
        }
        loop {
            let from_tables = heads.peek().map(|Reverse(Head { key, .. })| key.clone());
            let from_log = log.peek().map(|(key, _)| key.clone());
            let Some(key) = from_tables.into_iter().chain(from_log).min() else { return Ok(()) };
            let mut newest: Option<(Option<SeqNo>, Version)> = None;
            let mut offer = |seqno: Option<SeqNo>, version: Version| {
                let deletes = matches!(
                    version,
                    Version::Table(Kind::Delete, _)
                        | Version::Log(InLog { kind: Kind::Delete, .. })
                );
                if deletes && planted("salvage: deletes ignored") {
                    return;
                }
                let newer = newest.as_ref().is_none_or(|(own, _)| *own < seqno);
                if newer || planted("salvage: the oldest wins") {
                    newest = Some((seqno, version));
                }
            };
            while let Some((_, at)) = log.next_if(|(own, _)| *own == key) {
                offer(Some(at.seqno), Version::Log(at));
            }
            while heads.peek().is_some_and(|Reverse(head)| head.key == key) {
                let Some(Reverse(head)) = heads.pop() else { break };
                offer(head.seqno, Version::Table(head.kind, head.value));
                self.pull(&mut tables, head.table, &mut heads)?;
            }
            if let Some((_, version)) = newest {
                self.hand_out(&key, version, emit)?;
            }
        }
    }

    /// Puts the next entry of a table among the heads, and reports the damage met on the way.
    fn pull(
        &mut self,
        tables: &mut [TableSource],
        index: usize,
        heads: &mut BinaryHeap<Reverse<Head>>,
    ) -> Result<()> {
        let Some(source) = tables.get_mut(index) else { return Ok(()) };
        let next = source.wreck.next();
        let upto = next.as_ref().map_or(&source.largest, |entry| &entry.key).clone();
        for (error, after) in source.wreck.take_lost() {
            if planted("salvage: lost blocks not told") {
                continue;
            }
            let first = if after.is_empty() { vec![0] } else { after };
            self.report.add(Finding::of(error, self.dir)?.within(&first, &upto));
        }
        let Some(WreckEntry { key, delta, kind, value }) = next else { return Ok(()) };
        self.report.bytes += (key.len() + value.len()) as u64;
        let seqno = source.base.map(|base| base.saturating_add(delta));
        heads.push(Reverse(Head { key, seqno, table: index, kind, value }));
        Ok(())
    }

    fn hand_out(&mut self, key: &[u8], version: Version, emit: Emit<'_>) -> Result<()> {
        let Some((_, user_key)) = key::split(key) else { return Ok(()) };
        (self.pace)(self.report.bytes, self.total.max(self.report.bytes))?;
        let found = match version {
            Version::Log(InLog { kind: Kind::Delete, .. }) => return Ok(()),
            Version::Table(Kind::Delete, _) => return Ok(()),
            Version::Table(Kind::Pointer, pointer) => {
                let Some(pointer) = ValuePointer::decode(&pointer) else { return Ok(()) };
                self.open_source(pointer.segment)?;
                match self.values.get(&pointer.segment) {
                    Some(source) => source.pointed(&pointer, key, user_key, emit),
                    None => {
                        let path = FileName::Segment(pointer.segment).path(self.dir);
                        Err(Loss::Damage(Error::corruption(&path, 0, "this segment is not known")))
                    }
                }
            }
            Version::Table(_, value) => emit(user_key, &value).map_err(Loss::Target),
            Version::Log(at) => match self.values.get(&at.segment) {
                Some(source) => source.logged(&at, key, user_key, emit),
                None => Ok(()),
            },
        };
        match found {
            Ok(()) => self.report.records += 1,
            Err(Loss::Target(error)) => return Err(error),
            Err(Loss::Damage(_)) if planted("salvage: lost values not told") => {}
            Err(Loss::Damage(error)) => {
                let finding = Finding::of(error, self.dir)?.within(key, key);
                self.report.add(Finding { records: Some(1), ..finding });
            }
        }
        Ok(())
    }

    /// Opens a segment that pointers lead to, if it was not.
    fn open_source(&mut self, id: SegmentId) -> Result<()> {
        if self.values.contains_key(&id) {
            return Ok(());
        }
        let Some(meta) = self.segments.get(&id).cloned() else { return Ok(()) };
        let path = FileName::Segment(meta.file).path(self.dir);
        self.report.files += 1;
        let sound = match self.open_sound(&meta) {
            Ok(segment) => Some(segment),
            Err(error) => {
                self.lose_file(error, &path)?;
                None
            }
        };
        let wreck = self.open_wreck(&meta).ok();
        self.values.insert(id, Source { sound, wreck });
        Ok(())
    }
}

/// A version of a key on its way out.
enum Version {
    Log(InLog),
    Table(Kind, Vec<u8>),
}

/// Why a value was not handed out.
enum Loss {
    Damage(Error),
    Target(Error),
}

/// The next entry of a table; ordered by key, then newest first.
#[derive(PartialEq, Eq)]
struct Head {
    key: Vec<u8>,
    seqno: Option<SeqNo>,
    table: usize,
    kind: Kind,
    value: Vec<u8>,
}

impl Ord for Head {
    fn cmp(&self, other: &Head) -> std::cmp::Ordering {
        let newest_first = other.seqno.cmp(&self.seqno);
        self.key.cmp(&other.key).then(newest_first).then(self.table.cmp(&other.table))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Head) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Source {
    /// Hands out the value behind a pointer.
    fn pointed(
        &self,
        pointer: &ValuePointer,
        key: &[u8],
        user_key: &[u8],
        emit: Emit<'_>,
    ) -> Result<(), Loss> {
        let (offset, len) = (pointer.offset, pointer.len);
        let sound =
            self.sound.as_ref().map(|segment| segment.pointed_value(offset, key, len, false));
        let value = match (sound, &self.wreck) {
            (Some(Ok(value)), _) => Ok(value),
            (_, Some(wreck)) => wreck.pointed_value(offset, key, len),
            (Some(Err(error)), None) => Err(error),
            (None, None) => Err(Error::new(ErrorKind::Corruption, "the segment is gone")),
        };
        emit(user_key, &value.map_err(Loss::Damage)?).map_err(Loss::Target)
    }

    /// Hands out the value of a record of the log.
    fn logged(&self, at: &InLog, key: &[u8], user_key: &[u8], emit: Emit<'_>) -> Result<(), Loss> {
        let value = match (&self.sound, &self.wreck) {
            (Some(segment), _) => match segment.value(at.place, key.len(), at.len) {
                Ok(stored) if at.kind == Kind::Packed => segment.unpack(at.place, stored),
                stored => stored.map(Bytes::Mapped),
            },
            (None, Some(wreck)) => wreck.value(at.place),
            (None, None) => Err(Error::new(ErrorKind::Corruption, "the segment is gone")),
        };
        emit(user_key, &value.map_err(Loss::Damage)?).map_err(Loss::Target)
    }
}
