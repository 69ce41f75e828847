//! What the verbs share (layer L5): the engine, its locks and conditions, and the one way to change
//! the file set.
//!
//! Invariant COMMIT: an edit is durable in the manifest before any reader sees its effect.
//! Invariant PIN: a reader loads the view first and the published sequence number afterwards.

use std::any::Any;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::counters::Counters;
use super::hooks;
use super::locks::thread::{JoinHandle, ThreadId};
use super::locks::{ArcSwap, AtomicBool, AtomicU64, Condvar, Mutex, MutexGuard};
use super::view::{MemPart, Version, View};
use super::writer::Writer;
use crate::budget::MemoryPlan;
use crate::cache::FileAccess;
use crate::error::{Error, ErrorKind, Result};
use crate::filename::FileName;
use crate::fs::{FileSystem, LockGuard};
use crate::options::Options;
use crate::planted::planted;
use crate::table::Table;
use crate::types::{FileNumber, SegmentId, SeqNo};
use crate::version::{Manifest, VersionEdit, VersionState};
use crate::vlog::Segment;

/// A manifest that has grown beyond this, and beyond twice its first edit, is replaced by one edit
/// that says the same.
const MANIFEST_LIMIT_BYTES: u64 = 4 << 20;

/// What every file of the database is made with.
#[derive(Debug)]
pub(crate) struct Env {
    pub(crate) fs: Arc<dyn FileSystem>,
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    /// How much memory goes where.
    pub(crate) plan: MemoryPlan,
    pub(crate) database_id: u64,
    pub(crate) hash_seed: u64,
    /// The next number for a file's name.
    pub(crate) next_file: AtomicU64,
    pub(crate) counters: Counters,
    /// How tables and segments are read.
    pub(crate) access: FileAccess,
}

impl Env {
    /// A number that no file has had.
    pub(crate) fn new_file_number(&self) -> FileNumber {
        self.next_file.fetch_add(1, Ordering::Relaxed)
    }
}

/// The live files: the manifest, what it says, and the open files it names.
pub(crate) struct Files {
    pub(crate) manifest: Manifest,
    pub(crate) state: VersionState,
    pub(crate) tables: HashMap<FileNumber, Arc<Table>>,
    pub(crate) segments: HashMap<SegmentId, Arc<Segment>>,
}

/// An edit together with the files it brings and the memtables it replaces.
#[derive(Default)]
pub(crate) struct Change {
    pub(crate) edit: VersionEdit,
    pub(crate) tables: Vec<(FileNumber, Arc<Table>)>,
    /// Segments that are new, or in a new file.
    pub(crate) segments: Vec<Arc<Segment>>,
    /// Segments whose memtables leave the view.
    pub(crate) retired_parts: Vec<SegmentId>,
    /// A memtable that takes the place of the active one, which is empty.
    pub(crate) new_active: Option<Arc<MemPart>>,
    /// The number up to which the edit's own tables make writes visible.
    pub(crate) publish: Option<SeqNo>,
}

/// What the next segment of the log is doing.
#[derive(Default)]
pub(crate) enum NextSegment {
    /// Nobody needs one yet.
    #[default]
    None,
    /// The log thread shall prepare one of this size.
    Wanted(u64),
    /// It is being prepared.
    Preparing,
    /// Registered in the manifest and ready.
    Ready(Arc<Segment>),
    /// It could not be prepared; the writer that needs it tries itself.
    Failed,
}

/// A file that left the state.
pub(crate) struct Obsolete {
    pub(crate) path: PathBuf,
    /// Readers hold clones of it.
    pub(crate) pin: Arc<dyn Any + Send + Sync>,
    /// Since when nobody but readers needs it.
    pub(crate) since: Instant,
}

impl Obsolete {
    fn new(path: PathBuf, pin: Arc<dyn Any + Send + Sync>) -> Obsolete {
        Obsolete { path, pin, since: Instant::now() }
    }
}

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Flushes memtables.
    Flush,
    /// Merges runs.
    Compaction,
    /// Merges new runs while the first merges large old ones.
    SecondCompaction,
    /// Rewrites segments.
    Collection,
    /// Prepares segments, syncs the log.
    Log,
    /// Prepares windows, which a writer needs in a few milliseconds and so cannot wait for a sync.
    Window,
}

/// The threads that run.
#[derive(Default)]
pub(crate) struct Threads {
    pub(crate) running: Vec<(Role, JoinHandle<()>)>,
}

/// Who flushes, and how far the log is durable.
#[derive(Default)]
pub(crate) struct SyncQueue {
    pub(crate) state: Mutex<SyncState>,
    pub(crate) finished: Condvar,
    /// How far the log is durable, for the writer, who takes no lock to learn it.
    synced: AtomicU64,
}

/// What the lock of the queue protects.
#[derive(Default)]
pub(crate) struct SyncState {
    /// Somebody is flushing.
    pub(crate) syncing: bool,
    /// Why it never will be any further.
    pub(crate) error: Option<Error>,
}

impl SyncQueue {
    /// A queue for a log that is durable up to `synced`.
    pub(crate) fn new(synced: SeqNo) -> SyncQueue {
        SyncQueue { synced: AtomicU64::new(synced), ..SyncQueue::default() }
    }

    /// How far the log is known to be durable.
    pub(crate) fn synced(&self) -> SeqNo {
        self.synced.load(Ordering::Acquire)
    }

    /// Notes that it is durable up to `target`. Who waits hears of it when the sync is over.
    pub(crate) fn note_synced(&self, target: SeqNo) {
        self.synced.fetch_max(target, Ordering::Release);
    }
}

/// Snapshots of one sequence number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registered {
    /// How many hold it.
    pub(crate) count: usize,
    /// When the first and the last were made.
    pub(crate) first: Instant,
    pub(crate) last: Instant,
}

/// What foreground and background tell each other.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) next_segment: NextSegment,
    /// The segment whose next window the window thread shall map.
    pub(crate) window_wanted: Option<Arc<Segment>>,
    /// Registered snapshots by their sequence numbers.
    pub(crate) snapshots: BTreeMap<SeqNo, Registered>,
    /// Files that left the state, each with what keeps it alive for readers.
    pub(crate) obsolete: Vec<Obsolete>,
    /// Numbers of the deletions of such files that are under way.
    pub(crate) deletions: Vec<u64>,
    /// Number of the next deletion.
    pub(crate) next_deletion: u64,
    /// Ids of runs that a compaction is reading.
    pub(crate) busy_runs: Vec<u64>,
    /// The thread that collects.
    pub(crate) collector: Option<ThreadId>,
    /// Files of segments whose collection has met damage.
    pub(crate) spared_files: Vec<FileNumber>,
    /// The threads that call `compact`; the background starts no compaction meanwhile.
    pub(crate) manual_compactions: Vec<ThreadId>,
    /// What failed in the background, newest last, until the same succeeds; and how many failures
    /// there have been.
    pub(crate) background_errors: Vec<(Role, Error)>,
    pub(crate) background_failures: u64,
    /// An unsynced interval write waits for the log thread.
    pub(crate) dirty: bool,
    /// Calls under way that may create files; close waits for them.
    pub(crate) jobs: usize,
    /// Number of commits so far: what a thread that found no work waits to see changed.
    pub(crate) commits: u64,
    /// Background threads end.
    pub(crate) stop: bool,
    /// Background threads that run.
    pub(crate) threads: Threads,
}

/// An open database.
pub(crate) struct Engine {
    /// Itself, for the threads that it starts.
    pub(crate) me: Weak<Engine>,
    /// The body of those threads.
    pub(crate) run_thread: fn(&Engine, Role),
    pub(crate) env: Env,
    /// What readers pin.
    pub(crate) view: ArcSwap<View>,
    /// The newest published sequence number.
    pub(crate) visible: AtomicU64,
    pub(crate) closed: AtomicBool,
    pub(crate) poisoned: Mutex<Option<Error>>,
    /// True once `poisoned` says why.
    pub(crate) is_poisoned: AtomicBool,
    /// One flush at a time.
    pub(crate) flushing: Mutex<()>,
    /// `None` in a database opened for reading.
    pub(crate) writer: Option<Mutex<Writer>>,
    /// `None` in a database opened for reading.
    pub(crate) files: Option<Mutex<Files>>,
    pub(crate) shared: Mutex<Shared>,
    /// Background threads wait here for work.
    pub(crate) work: Condvar,
    /// Callers wait here for background work to be done.
    pub(crate) done: Condvar,
    pub(crate) sync_queue: SyncQueue,
    /// True while some interval write has not been handed to the log thread.
    pub(crate) dirty: AtomicBool,
    /// Nanoseconds that writers owe per KiB; 0 without backlog.
    pub(crate) pressure: AtomicU64,
    /// For which [`Stall`] that is.
    pub(crate) pressed_by: AtomicU64,
    /// What the counting of `paid_until_ns` starts from.
    pub(crate) opened_at: Instant,
    /// When, in nanoseconds, the writers will have paid for all that was written.
    pub(crate) paid_until_ns: AtomicU64,
    /// The holder of the writer's lock waits for something else than the processor.
    pub(crate) writer_waits: AtomicBool,
    /// True while the list of obsolete files is not empty.
    pub(crate) has_obsolete: AtomicBool,
    /// Held from open to close.
    pub(crate) lock: Mutex<Option<Box<dyn LockGuard>>>,
}

/// Moves the open files that the state no longer names to the list of obsolete ones. `replaced`
/// are segments that are in other files now.
fn retire(engine: &Engine, files: &mut Files, shared: &mut Shared, replaced: Vec<Arc<Segment>>) {
    let dir = &engine.env.dir;
    let live = files.state.tables().map(|meta| meta.number).collect::<HashSet<_>>();
    for (number, table) in files.tables.extract_if(|number, _| !live.contains(number)) {
        shared.obsolete.push(Obsolete::new(FileName::Table(number).path(dir), table));
    }
    let segments = &files.state.segments;
    let mut gone = replaced;
    gone.extend(files.segments.extract_if(|id, _| !segments.contains_key(id)).map(|(_, own)| own));
    gone.sort_by(|a, b| a.path().cmp(b.path()));
    gone.dedup_by(|a, b| a.path() == b.path());
    // A file goes with the last of its segments.
    gone.retain(|gone| !files.segments.values().any(|own| own.path() == gone.path()));
    for segment in gone {
        let path = segment.path().to_path_buf();
        shared.obsolete.push(Obsolete::new(path, segment.file_pin()));
    }
    engine.has_obsolete.store(!shared.obsolete.is_empty(), Ordering::Relaxed);
}

/// Deletes a manifest that CURRENT no longer names.
fn retire_manifest(engine: &Engine, manifest: &Manifest) {
    let path = FileName::Manifest(manifest.number()).path(&engine.env.dir);
    lock(&engine.shared).obsolete.push(Obsolete::new(path, Arc::new(())));
    engine.has_obsolete.store(true, Ordering::Relaxed);
}

/// A call that close waits for; see [`Engine::begin_job`].
pub(crate) struct JobGuard<'a> {
    engine: &'a Engine,
}

impl Drop for JobGuard<'_> {
    fn drop(&mut self) {
        lock(&self.engine.shared).jobs -= 1;
        self.engine.done.notify_all();
    }
}

/// Locks a mutex. A panic elsewhere has been reported where it happened; the data behind the locks
/// is changed only after whatever can fail.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits on a condition; see [`lock`].
pub(crate) fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condition.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    /// Refuses work on a closed database.
    #[inline]
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(closed_error());
        }
        Ok(())
    }

    /// The writer's lock; ReadOnly in a database opened for reading.
    #[inline]
    pub(crate) fn writer(&self) -> Result<&Mutex<Writer>> {
        self.writer.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::ReadOnly, "the database is opened for reading only")
        })
    }

    /// The live files; ReadOnly in a database opened for reading.
    pub(crate) fn files(&self) -> Result<MutexGuard<'_, Files>> {
        let files = self.files.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::ReadOnly, "the database is opened for reading only")
        })?;
        Ok(lock(files))
    }

    /// Refuses writes from now on because of `error`, and answers what writers hear.
    /// Not with `shared` or the sync queue locked.
    #[cold]
    pub(crate) fn poison(&self, error: &Error) -> Error {
        let mut poisoned = lock(&self.poisoned);
        let answer = poisoned_error(poisoned.get_or_insert_with(|| error.clone()));
        self.is_poisoned.store(true, Ordering::Relaxed);
        drop(poisoned);
        // Under the lock under which writers that wait look at the flag: none may miss it.
        let shared = lock(&self.shared);
        self.done.notify_all();
        drop(shared);
        answer
    }

    /// Refuses work after an earlier failed append or sync.
    pub(crate) fn check_poisoned(&self) -> Result<()> {
        match &*lock(&self.poisoned) {
            Some(error) if !planted("poison: ignored") => Err(poisoned_error(error)),
            _ => Ok(()),
        }
    }

    /// Announces a call that may create files; Closed when the database is being closed.
    pub(crate) fn begin_job(&self) -> Result<JobGuard<'_>> {
        let mut shared = lock(&self.shared);
        if shared.stop {
            return Err(closed_error());
        }
        shared.jobs += 1;
        Ok(JobGuard { engine: self })
    }

    /// Registered snapshots in ascending order, without those that are too old to be read.
    pub(crate) fn snapshots(&self) -> Vec<SeqNo> {
        let shared = lock(&self.shared);
        let alive = shared.snapshots.iter().filter(|(_, own)| !self.is_expired(own.last));
        alive.map(|(seqno, _)| *seqno).collect()
    }

    /// Whether a snapshot made then may not be read any more.
    pub(crate) fn is_expired(&self, made: Instant) -> bool {
        let most = self.env.options.snapshot_max_age_ms;
        most != 0 && made.elapsed() > Duration::from_millis(most)
    }

    /// Makes a change of the file set durable, then visible, then deletes what became obsolete.
    ///
    /// On an error nothing has changed for readers. A manifest whose end is in doubt is never
    /// written again: the next change starts a new one from the state that readers see.
    pub(crate) fn commit(&self, mut change: Change) -> Result<()> {
        let mut files = self.files()?;
        self.stamp(&mut change.edit);
        self.commit_locked(&mut files, change)
    }

    /// Records the counter of files in an edit.
    pub(crate) fn stamp(&self, edit: &mut VersionEdit) {
        edit.next_file = Some(self.env.next_file.load(Ordering::Relaxed));
    }

    /// The part of [`Engine::commit`] under the lock, with the numbers in the edit.
    pub(crate) fn commit_locked(&self, files: &mut Files, change: Change) -> Result<()> {
        let state = files.state.with(&change.edit)?;
        self.write_edit(files, &change.edit, &state)?;
        files.state = state;
        files.tables.extend(change.tables);
        let insert = |segment: Arc<Segment>| files.segments.insert(segment.id(), segment);
        let replaced = change.segments.into_iter().filter_map(insert).collect();
        let built = Version::build(&files.state, &files.tables, &files.segments);
        let version = Arc::new(built.map_err(|error| self.poison(&error))?);
        let mut shared = lock(&self.shared);
        let parts: Vec<Arc<MemPart>> = self.view.load().parts.to_vec();
        let keep = |part: &Arc<MemPart>| !change.retired_parts.contains(&part.segment.id());
        let mut parts: Vec<Arc<MemPart>> = parts.into_iter().filter(keep).collect();
        if let (Some(active), Some(first)) = (change.new_active, parts.first_mut()) {
            *first = active;
        }
        if let Some(seqno) = change.publish {
            // Number first: whoever pins the new view sees all of it. Under the lock of the list
            // of snapshots: none may have the number and then find the old view.
            self.visible.store(seqno, Ordering::Release);
        }
        self.view.store(Arc::new(View { parts, version }));
        retire(self, files, &mut shared, replaced);
        shared.commits += 1;
        self.update_pressure(&shared);
        drop(shared);
        self.work.notify_all();
        self.done.notify_all();
        Ok(())
    }

    /// After a commit that failed: whether its edit is certainly not durable, so that the files
    /// that it brought may go.
    pub(crate) fn is_undone(&self) -> bool {
        !self.is_poisoned.load(Ordering::Relaxed)
    }

    /// Appends an edit, or starts a new manifest when the old one has become long. A failure after
    /// which nobody knows whether the edit is durable poisons the database: the files that the edit
    /// names stay, and whoever opens the database next sees either state.
    fn write_edit(&self, files: &mut Files, edit: &VersionEdit, next: &VersionState) -> Result<()> {
        let limit = hooks::limit(&self.env.dir, "manifest size", MANIFEST_LIMIT_BYTES);
        let limit = limit.max(2 * files.manifest.base_bytes());
        if files.manifest.size_bytes() < limit {
            let appended = files.manifest.append(edit);
            let clean = !files.manifest.is_in_doubt();
            return appended.map_err(|error| match error.kind() {
                ErrorKind::DiskFull | ErrorKind::Corruption if clean => error,
                _ => self.poison(&error),
            });
        }
        let number = self.env.new_file_number();
        let mut next = next.clone();
        next.next_file = next.next_file.max(number + 1);
        let manifest =
            Manifest::create(&*self.env.fs, &self.env.dir, number, &next).map_err(|error| {
                match error.kind() {
                    ErrorKind::Poisoned => self.poison(&error),
                    _ => error,
                }
            })?;
        let old = std::mem::replace(&mut files.manifest, manifest);
        retire_manifest(self, &old);
        Ok(())
    }
}

#[cold]
pub(crate) fn closed_error() -> Error {
    Error::new(ErrorKind::Closed, "the database is closed")
}

#[cold]
fn poisoned_error(error: &Error) -> Error {
    Error::new(
        ErrorKind::Poisoned,
        format!("writes are refused until the database is opened again, because of: {error}"),
    )
}
