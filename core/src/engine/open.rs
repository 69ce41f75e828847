//! Opening, recovering, closing and destroying a database (layer L5).
//!
//! Invariant RECOV: recovery writes what it replayed into new files and commits once, by making a
//! new manifest the live one; until then nothing of the old is touched, and afterwards orphans are
//! deleted last. An old segment is never appended to. A failed open changes nothing that was there.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::background;
use super::counters::Counters;
use super::directory::{
    create_dir, exists_error, find, holds_files, not_found, refuse_foreign, sync_existing,
};
use super::flush;
use super::hooks;
use super::locks::{ArcSwap, AtomicBool, AtomicU64, Condvar, Mutex};
use super::obsolete;
use super::run_writer::open_table;
use super::state::{Change, Engine, Env, Files, NextSegment, Shared, SyncQueue, lock};
use super::view::{MemPart, Version, View, key_count};
use super::wake;
use super::writer::Writer;
use crate::cache::{Cache, FileAccess};
use crate::checksum::hash_key;
use crate::error::{Error, ErrorKind, Result};
use crate::filename::FileName;
use crate::fs::{DirEntry, FileSystem, LockGuard, LockKind, memory_bytes};
use crate::memtable::MemEntry;
use crate::options::{IoMode, Options};
use crate::planted::planted;
use crate::table::Table;
use crate::types::{DEFAULT_KEYSPACE, SegmentId, SeqNo};
use crate::version::{
    self, Manifest, SegmentMeta, SegmentState, TableMeta, VersionEdit, VersionState,
};
use crate::vlog::{LogWriter, OpenFor, RewrittenIdentity, Segment, SegmentIdentity, replay};

/// The first segment of an empty database.
const FIRST_SEGMENT_BYTES: u64 = 1 << 20;

/// Opens, and where asked for creates, the database in `dir`.
pub(crate) fn open(fs: Arc<dyn FileSystem>, dir: &Path, options: &Options) -> Result<Arc<Engine>> {
    options.check()?;
    let exists = find(&*fs, dir, options)?;
    let kind = if options.read_only { LockKind::Shared } else { LockKind::Exclusive };
    if !exists {
        create_dir(&*fs, dir)?;
    }
    let guard = fs.lock(&FileName::Lock.path(dir), kind)?;
    // Whoever had the lock before may have created or destroyed the database.
    let loaded = version::load(&*fs, dir)?;
    let listing = fs.list_dir(dir)?;
    let live = loaded.as_ref().map(|loaded| (loaded.number, loaded.is_fresh));
    let (mut state, new_database) = match loaded {
        Some(_) if options.error_if_exists => return Err(exists_error(dir)),
        Some(loaded) => (loaded.state, false),
        None if options.read_only || !options.create_if_missing => return Err(not_found(dir)),
        None => {
            refuse_foreign(dir, &listing)?;
            if exists {
                sync_existing(&*fs, dir)?;
            }
            (VersionState::new(fs.random_word(), fs.random_word()), true)
        }
    };
    let highest = listing.iter().filter_map(|entry| FileName::parse(&entry.name)?.number()).max();
    let highest = if planted("open: numbers of files begin anew") { None } else { highest };
    let next_file = state.next_file.max(highest.unwrap_or(0) + 1);
    let plan = options.plan(memory_bytes());
    // What an option says it keeps, the plan's share gives way to what readers and files take.
    let cache_bytes = options.cache_size_bytes.unwrap_or(plan.cache_bytes);
    let files_bytes = hooks::limit(dir, "heap of files", plan.files_bytes);
    let cache = Cache::new(cache_bytes, files_bytes, options.cache_size_bytes.is_some());
    let env = Env {
        fs,
        dir: dir.to_path_buf(),
        options: options.clone(),
        plan,
        database_id: state.db_id,
        hash_seed: state.hash_seed,
        next_file: AtomicU64::new(next_file),
        counters: Counters::default(),
        access: FileAccess { cache: Arc::new(cache), direct: options.io == IoMode::Direct },
    };
    if env.access.direct {
        let name = if new_database { FileName::Lock } else { FileName::Current };
        check_direct(&*env.fs, &name.path(&env.dir))?;
    }
    if new_database && !planted("open: no first commit") {
        obsolete::delete_unborn(&*env.fs, dir, &listing)?;
        commit_empty(&env, &mut state)?;
    }
    let recovered = recover(&env, state, &listing)?;
    if let Some(live) = live
        && !options.read_only
    {
        delete_leftovers(&env, &recovered.state, live, &listing)?;
    }
    if options.read_only {
        return Ok(assemble(env, guard, recovered.last_seqno, recovered.view()?, None));
    }
    start(env, guard, recovered)
}

/// Unsupported, naming the file, where files cannot be read past the page cache.
fn check_direct(fs: &dyn FileSystem, path: &Path) -> Result<()> {
    let file = fs.open_direct(path)?;
    // The words in LOCK are missing where the system does not tell when processes began.
    if file.size()? == 0 { Ok(()) } else { file.read_at(&mut [0], 0) }
}

/// Makes the empty state of a new database the live one before it has any segment or table: when
/// those are there without CURRENT, they are what is left of a database, not of its creation.
fn commit_empty(env: &Env, state: &mut VersionState) -> Result<()> {
    let number = env.new_file_number();
    let mut edit = VersionEdit::new();
    edit.next_file = Some(env.next_file.load(Ordering::Relaxed));
    *state = state.with(&edit)?;
    Manifest::create(&*env.fs, &env.dir, number, state).map(drop)
}

/// What the files say: the state, its files open, and the log in memtables, newest first.
struct Recovered {
    state: VersionState,
    tables: HashMap<u64, Arc<Table>>,
    segments: HashMap<SegmentId, Arc<Segment>>,
    parts: Vec<Arc<MemPart>>,
    last_seqno: SeqNo,
}

impl Recovered {
    fn view(&self) -> Result<View> {
        let version = Version::build(&self.state, &self.tables, &self.segments)?;
        Ok(View { parts: self.parts.clone(), version: Arc::new(version) })
    }
}

/// Opens what the state names and replays the log. Writes nothing.
fn recover(env: &Env, state: VersionState, listing: &[DirEntry]) -> Result<Recovered> {
    let sizes: HashMap<FileName, u64> = listing
        .iter()
        .filter_map(|entry| Some((FileName::parse(&entry.name)?, entry.size)))
        .collect();
    let mut tables = HashMap::new();
    for meta in state.tables() {
        check_table_size(env, meta, &sizes)?;
        tables.insert(meta.number, Arc::new(open_table(env, meta)?));
    }
    let mut segments = HashMap::new();
    let mut log = Vec::new();
    for (id, meta) in &state.segments {
        if meta.file != meta.id {
            if !segments.contains_key(id) {
                segments.extend(open_rewritten(env, meta, &state)?);
            }
            continue;
        }
        let segment = Arc::new(open_segment(env, meta)?);
        if meta.state != SegmentState::Flushed {
            log.push(Arc::clone(&segment));
        }
        segments.insert(*id, segment);
    }
    let (parts, last_seqno) = replay_log(env, &log, state.last_seqno)?;
    Ok(Recovered { state, tables, segments, parts, last_seqno })
}

fn check_table_size(env: &Env, meta: &TableMeta, sizes: &HashMap<FileName, u64>) -> Result<()> {
    let name = FileName::Table(meta.number);
    let path = name.path(&env.dir);
    match sizes.get(&name) {
        Some(size) if *size == meta.size_bytes => Ok(()),
        Some(size) => {
            let message = format!("table has {size} bytes, not {}", meta.size_bytes);
            Err(Error::corruption(&path, (*size).min(meta.size_bytes), message))
        }
        None => Err(Error::corruption(&path, 0, "this table is missing")),
    }
}

fn open_segment(env: &Env, meta: &SegmentMeta) -> Result<Segment> {
    let identity = SegmentIdentity {
        id: meta.id,
        salt: meta.salt,
        db_id: env.database_id,
        size_bytes: meta.size_bytes,
    };
    let purpose =
        if meta.state == SegmentState::Flushed { OpenFor::Values } else { OpenFor::Replay };
    let path = FileName::Segment(meta.file).path(&env.dir);
    Segment::open(&*env.fs, &path, identity, purpose, &env.access)
}

/// Opens the file of a rewritten segment: all segments of the state that are in it.
fn open_rewritten(
    env: &Env,
    meta: &SegmentMeta,
    state: &VersionState,
) -> Result<HashMap<SegmentId, Arc<Segment>>> {
    let SegmentMeta { file, salt, size_bytes, .. } = *meta;
    let identity = RewrittenIdentity { file, salt, db_id: env.database_id, size_bytes };
    let path = FileName::Segment(file).path(&env.dir);
    let found = Segment::open_rewritten(&*env.fs, &path, identity, &env.access)?;
    let here = |id| state.segments.get(&id).is_some_and(|own| own.file == file);
    let found = found.into_iter().filter(|segment| here(segment.id()));
    let found: HashMap<_, _> = found.map(|segment| (segment.id(), Arc::new(segment))).collect();
    let expected = state.segments.values().filter(|own| own.file == file).count();
    if found.len() != expected {
        return Err(Error::corruption(&path, 0, "a rewritten segment is not in its file"));
    }
    Ok(found)
}

/// Puts the log into memtables, one for each segment that has records, newest first.
fn replay_log(
    env: &Env,
    log: &[Arc<Segment>],
    flushed_seqno: SeqNo,
) -> Result<(Vec<Arc<MemPart>>, SeqNo)> {
    let mut parts: Vec<Arc<MemPart>> = Vec::new();
    let mut newest = SegmentId::MAX;
    let mut last_seqno = flushed_seqno;
    // All of it at once: after a hole nothing may be replayed.
    let wrong = hooks::planted(&env.dir, "replay beyond a hole");
    for log in log.chunks(if wrong { 1 } else { log.len().max(1) }) {
        let replayed = replay(log, last_seqno, |record| {
            let segment = &log[record.segment_index];
            if newest != segment.id() {
                newest = segment.id();
                parts.insert(0, Arc::new(MemPart::new(Arc::clone(segment))));
            }
            let hash = hash_key(record.key, env.hash_seed);
            let entry = MemEntry {
                seqno: record.seqno,
                kind: record.kind,
                offset: record.offset,
                value_len: record.value.len() as u32,
            };
            // SAFETY: nobody else knows this memtable yet.
            unsafe { parts[0].memtable.insert(record.key, hash, entry) };
            Ok(())
        })?;
        last_seqno = replayed.last_seqno;
    }
    Ok((parts, last_seqno))
}

/// Turns what was recovered into a database that may write: flushes the memtables into new tables,
/// starts a new segment, and commits both as a new manifest.
fn start(env: Env, guard: Box<dyn LockGuard>, mut found: Recovered) -> Result<Arc<Engine>> {
    let mut made = Vec::new();
    if planted("open: the log goes before it is replaced") {
        let flushed = |id: &SegmentId| found.state.segments[id].state == SegmentState::Flushed;
        for id in found.segments.keys().filter(|id| !flushed(id)) {
            obsolete::discard_segment(&env, *id);
        }
    }
    if planted("open: sequence numbers begin anew") {
        found.last_seqno = found.state.last_seqno;
    }
    let committed = flush_recovered(&env, &mut found, &mut made).and_then(|()| {
        let (segment, meta) = env.create_segment(first_segment_size(&env, &found.state))?;
        made.push(FileName::Segment(segment.id()));
        let mut edit = VersionEdit::new();
        edit.add_segment(meta);
        edit.last_seqno = Some(found.last_seqno.max(found.state.last_seqno));
        let number = env.new_file_number();
        edit.next_file = Some(env.next_file.load(Ordering::Relaxed));
        found.state = found.state.with(&edit)?;
        let manifest = Manifest::create(&*env.fs, &env.dir, number, &found.state)?;
        Ok((manifest, segment))
    });
    let (manifest, segment) = match committed {
        Ok(done) => done,
        Err(error) => {
            // Poisoned: nobody knows which manifest is live, so what both name has to stay.
            if error.kind() != ErrorKind::Poisoned {
                obsolete::discard_made(&env, &made);
            }
            return Err(error);
        }
    };
    let segment = Arc::new(segment);
    let state = &found.state;
    found.segments.retain(|id, _| state.segments.contains_key(id));
    found.segments.insert(segment.id(), Arc::clone(&segment));
    let active = Arc::new(MemPart::new(Arc::clone(&segment)));
    found.parts = vec![Arc::clone(&active)];
    let view = found.view()?;
    let log = LogWriter::new(segment, 0, found.last_seqno)?;
    let writer = Writer::new(log, active, found.last_seqno);
    let is_live = live_names(&found.state, manifest.number());
    let Recovered { state, tables, segments, last_seqno, .. } = found;
    let files = Files { manifest, state, tables, segments };
    // The database is open already; what cannot be deleted now is an orphan of the next open.
    // A segment among them never holds data of its own, whole frames or not: nothing is appended
    // to one before the edit that registers it is durable, and a rewritten one is a copy.
    let _ = obsolete::delete_orphans(&*env.fs, &env.dir, is_live);
    let engine = assemble(env, guard, last_seqno, view, Some((writer, files)));
    wake::wake_compaction(&engine);
    wake::wake_collection(&engine);
    Ok(engine)
}

/// Deletes what earlier opens left behind that were cut short: the directory does not grow however
/// often that happens. What the live manifest names stays, and so does whatever an older one may
/// name, unless this one is known to be all there is.
fn delete_leftovers(
    env: &Env,
    state: &VersionState,
    (manifest, is_fresh): (u64, bool),
    listing: &[DirEntry],
) -> Result<()> {
    let (fs, dir) = (&*env.fs, &env.dir);
    // No manifest that was ever live names a number that this one has not counted.
    let uncounted = |name: FileName| match name {
        FileName::CurrentTemp(_) => true,
        name => name.number().is_some_and(|number| number >= state.next_file),
    };
    let _ = obsolete::delete_orphans(fs, dir, |name| !uncounted(name));
    let is_live = live_names(state, manifest);
    let mut names = listing.iter().filter_map(|entry| FileName::parse(&entry.name));
    if is_fresh && names.any(|name| !uncounted(name) && !is_live(name)) {
        // The rename that made it the live one may not be durable, and a sync of the directory
        // that failed once proves nothing when it succeeds: hence the rename again.
        version::make_current(fs, dir, manifest)?;
        let _ = obsolete::delete_orphans(fs, dir, is_live);
    }
    Ok(())
}

/// Flushes the recovered memtables, oldest first, into runs of the state. Afterwards no segment of
/// the state is part of the log.
fn flush_recovered(env: &Env, found: &mut Recovered, made: &mut Vec<FileName>) -> Result<()> {
    while let Some(part) = found.parts.pop() {
        let version = Version::build(&found.state, &found.tables, &found.segments)?;
        let version = Arc::new(version);
        let flushed = flush::build(env, &part, &version, Vec::new())?;
        made.extend(flushed.files());
        let mut change = Change::default();
        flush::describe(&part, &flushed, found.state.next_run, &mut change);
        let Change { mut edit, tables, segments, .. } = change;
        found.tables.extend(tables);
        found.segments.extend(segments.into_iter().map(|segment| (segment.id(), segment)));
        let count = key_count(&found.state) as i64 + flushed.delta;
        edit.set_count(DEFAULT_KEYSPACE, count.max(0) as u64);
        edit.last_seqno = Some(part.memtable.last_seqno());
        edit.next_file = Some(env.next_file.load(Ordering::Relaxed));
        found.state = found.state.with(&edit)?;
    }
    // What is left of the log holds no whole frame: an empty segment, or one behind a torn tail.
    let mut edit = VersionEdit::new();
    for (id, meta) in &found.state.segments {
        if meta.state != SegmentState::Flushed {
            edit.remove_segment(*id);
        }
    }
    found.state = found.state.with(&edit)?;
    Ok(())
}

fn first_segment_size(env: &Env, state: &VersionState) -> u64 {
    let tables: u64 = state.tables().map(|meta| meta.size_bytes + meta.value_bytes).sum();
    let size = (tables / 16).max(FIRST_SEGMENT_BYTES).next_power_of_two();
    size.min(env.plan.memtable_size_bytes)
}

fn live_names(state: &VersionState, manifest: u64) -> impl Fn(FileName) -> bool + use<> {
    let tables: Vec<u64> = state.tables().map(|meta| meta.number).collect();
    let segments: Vec<u64> = state.segments.values().map(|meta| meta.file).collect();
    move |name| match name {
        FileName::Lock | FileName::Current => true,
        FileName::CurrentTemp(_) => false,
        FileName::Manifest(number) => number == manifest,
        FileName::Segment(number) => segments.contains(&number),
        FileName::Table(number) => tables.contains(&number),
    }
}

fn assemble(
    env: Env,
    guard: Box<dyn LockGuard>,
    last_seqno: SeqNo,
    view: View,
    write_side: Option<(Writer, Files)>,
) -> Arc<Engine> {
    let (writer, files) = write_side.unzip();
    Arc::new_cyclic(|me| Engine {
        me: me.clone(),
        run_thread: background::run,
        env,
        view: ArcSwap::from_pointee(view),
        visible: AtomicU64::new(last_seqno),
        closed: AtomicBool::new(false),
        poisoned: Mutex::new(None),
        is_poisoned: AtomicBool::new(false),
        flushing: Mutex::new(()),
        writer: writer.map(Mutex::new),
        files: files.map(Mutex::new),
        shared: Mutex::new(Shared { next_segment: NextSegment::None, ..Shared::default() }),
        work: Condvar::new(),
        done: Condvar::new(),
        sync_queue: SyncQueue::new(last_seqno),
        dirty: AtomicBool::new(false),
        pressure: AtomicU64::new(0),
        pressed_by: AtomicU64::new(0),
        opened_at: Instant::now(),
        paid_until_ns: AtomicU64::new(0),
        writer_waits: AtomicBool::new(false),
        has_obsolete: AtomicBool::new(false),
        lock: Mutex::new(Some(guard)),
    })
}

impl Engine {
    /// Freezes and flushes everything that has been written so far.
    pub(crate) fn flush(&self) -> Result<()> {
        self.check_open()?;
        let _job = self.begin_job()?;
        self.freeze()?;
        let newest = self.view.load().parts.get(1).map(|part| part.segment.id());
        let waiting = |newest: SegmentId| {
            let view = self.view.load();
            view.parts.iter().skip(1).any(|part| part.segment.id() <= newest)
        };
        while let Some(newest) = newest
            && waiting(newest)
        {
            self.flush_oldest()?;
        }
        wake::wake_compaction(self);
        wake::wake_collection(self);
        Ok(())
    }

    /// Makes the active memtable immutable unless it is empty.
    fn freeze(&self) -> Result<()> {
        let mut writer = lock(self.writer()?);
        if writer.closed {
            return Err(super::state::closed_error());
        }
        self.check_poisoned()?;
        if !writer.part.memtable.is_empty() {
            self.rotate(&mut writer, 0)?;
        }
        Ok(())
    }
}

/// Deletes the database in `dir`: its own files, and the directory if that leaves it empty.
pub(crate) fn destroy(fs: &dyn FileSystem, dir: &Path) -> Result<()> {
    if dir.as_os_str().is_empty() {
        return Err(Error::new(ErrorKind::InvalidArgument, "the path of the database is empty"));
    }
    if !holds_files(fs, dir)? {
        return Err(not_found(dir));
    }
    let guard = fs.lock(&FileName::Lock.path(dir), LockKind::Exclusive)?;
    obsolete::delete_all(fs, dir)?;
    drop(guard);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::sim::SimDisk;

    #[test]
    fn a_lock_file_without_words_is_no_reason_to_refuse_direct_reads() {
        let (disk, path) = (SimDisk::new(), Path::new("LOCK"));
        for words in [&b""[..], b"pid 1"] {
            disk.write_file(path, words).unwrap();
            check_direct(&disk, path).unwrap();
        }
        disk.refuse_direct();
        let refused = check_direct(&disk, path).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
    }
}
