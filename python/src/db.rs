//! The database: writes, maintenance and its life; its reads are in `reader`.

use std::ffi::OsStr;
use std::ops::Bound as Edge;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};
use toykv::{Durability, Error, ErrorKind, Progress, WriteOptions};

use crate::batch::WriteBatch;
use crate::call::{quick, waiting};
use crate::error;
use crate::fork::Owned;
use crate::input::{Input, Location, output};
use crate::options::Options;
use crate::reader::{Reader, Source};
use crate::repair::searching;
use crate::snapshot::Snapshot;

/// Up to this size a write is over before another thread could have been woken.
const SHORT_WRITE_BYTES: usize = 32 << 10;

/// How often a long call looks whether the user pressed Ctrl-C.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(100);

/// An open database as all objects that belong to it share it. Dropped with the last of them.
pub(crate) struct Handle {
    db: Owned<toykv::Db>,
    closed: AtomicBool,
    path: PathBuf,
    /// Writes are durable before they return unless they say otherwise.
    is_sync: bool,
}

impl Handle {
    fn open(py: Python<'_>, path: PathBuf, options: &Options) -> PyResult<Handle> {
        let db = waiting(py, || toykv::Db::open(&path, options.engine()))?;
        Ok(Handle {
            db: Owned::new(db),
            closed: AtomicBool::new(false),
            path,
            is_sync: options.is_sync(),
        })
    }

    /// The engine's database; Forked in a child. Once closed, its calls answer Closed themselves.
    #[inline]
    pub(crate) fn db(&self) -> toykv::Result<&toykv::Db> {
        self.db.get()
    }

    /// The engine's database for what still answers when it is closed: Closed then.
    fn open_db(&self) -> toykv::Result<&toykv::Db> {
        let db = self.db.get()?;
        match self.closed.load(Ordering::Acquire) {
            false => Ok(db),
            true => Err(Error::new(ErrorKind::Closed, "the database is closed")),
        }
    }

    /// Makes a write of about `size` bytes. A short one that has to wait for nothing keeps the
    /// interpreter's lock.
    pub(crate) fn write<T: Send>(
        &self,
        py: Python<'_>,
        size: usize,
        sync: Option<bool>,
        write: impl Fn(&toykv::Db, &WriteOptions) -> toykv::Result<T> + Send + Sync,
    ) -> PyResult<T> {
        let options = self.write_options(sync);
        if size <= SHORT_WRITE_BYTES && !sync.unwrap_or(self.is_sync) {
            let impatient = options.no_wait(true);
            let written = quick(py, || match write(self.db()?, &impatient) {
                Err(error) if error.kind() == ErrorKind::WouldStall => Ok(None),
                outcome => outcome.map(Some),
            })?;
            if let Some(answer) = written {
                return Ok(answer);
            }
        }
        waiting(py, || write(self.db()?, &options))
    }

    /// Writes a batch.
    pub(crate) fn write_batch(
        &self,
        py: Python<'_>,
        batch: &toykv::WriteBatch,
        sync: Option<bool>,
    ) -> PyResult<()> {
        let size = batch.size_bytes();
        self.write(py, size, sync, |db, options| db.write_with(batch, options).map(drop))
    }

    /// `sync=False` in a database whose writes are durable by default means: within the interval.
    fn write_options(&self, sync: Option<bool>) -> WriteOptions {
        match sync {
            Some(true) => WriteOptions::new().durability(Durability::Sync),
            Some(false) if self.is_sync => WriteOptions::new().durability(Durability::Interval),
            _ => WriteOptions::new(),
        }
    }
}

impl Drop for Handle {
    /// Closing may wait for background work: other threads of the interpreter run meanwhile.
    fn drop(&mut self) {
        let mut db = self.db.take();
        Python::try_attach(|py| py.detach(|| db = None));
    }
}

/// An open database: an ordered map of bytes to bytes in a directory.
///
/// `toykv.open` makes one. Keys and values are anything with the buffer protocol (bytes,
/// bytearray, memoryview, numpy arrays, ...), results are bytes. All methods may be called from
/// any thread. Use it as a context manager, or close it: what was written is safe either way.
///
/// >>> with toykv.open(path) as fruit:
/// ...     fruit[b"apple"] = b"red"
/// ...     fruit[b"apple"], b"pear" in fruit, list(fruit)
/// (b'red', False, [b'apple'])
#[pyclass(frozen, extends = Reader, subclass, weakref, module = "toykv", name = "DB")]
pub(crate) struct Db {
    handle: Arc<Handle>,
}

/// Removes the database at `path`: its own files, nothing else, and the directory if it is empty
/// then. LockedError while it is open anywhere, NoDatabaseError (a FileNotFoundError) when there
/// is none.
///
/// >>> toykv.open(path).close()
/// >>> toykv.destroy(path)
#[pyfunction]
#[pyo3(signature = (path, /))]
pub(crate) fn destroy(py: Python<'_>, path: Location) -> PyResult<()> {
    waiting(py, || toykv::Db::destroy(&path.0))
}

#[pymethods]
impl Db {
    #[new]
    #[pyo3(signature = (path, options=None, /, **more))]
    fn new(
        py: Python<'_>,
        path: Location,
        options: Option<&Bound<'_, Options>>,
        more: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyClassInitializer<Db>> {
        let options = Options::merge(py, options.map(Bound::get), more)?;
        let handle = Arc::new(Handle::open(py, path.0, &options)?);
        let base = Reader::new(Source::Db(Arc::clone(&handle)));
        Ok(PyClassInitializer::from(base).add_subclass(Db { handle }))
    }

    /// Stores a value under a key. With `sync=True` it is on the device when the call returns,
    /// with `sync=False` the call does not wait for that; None is as the database was opened.
    ///
    /// >>> db.put(b"apple", b"red")
    /// >>> db.put(b"pear", bytearray(b"green"), sync=True)
    #[pyo3(signature = (key, value, /, *, sync=None))]
    fn put(
        &self,
        py: Python<'_>,
        key: Input<'_>,
        value: Input<'_>,
        sync: Option<bool>,
    ) -> PyResult<()> {
        let (key, value) = (&*key, &*value);
        self.handle
            .write(py, value.len(), sync, |db, options| db.put_with(key, value, options).map(drop))
    }

    /// Removes a key, whether it is there or not. `del db[key]` is the form that complains.
    #[pyo3(signature = (key, /, *, sync=None))]
    fn delete(&self, py: Python<'_>, key: Input<'_>, sync: Option<bool>) -> PyResult<()> {
        let key = &*key;
        self.handle.write(py, 0, sync, |db, options| db.delete_with(key, options).map(drop))
    }

    fn __setitem__(&self, py: Python<'_>, key: Input<'_>, value: Input<'_>) -> PyResult<()> {
        self.put(py, key, value, None)
    }

    fn __delitem__(&self, py: Python<'_>, key: Input<'_>) -> PyResult<()> {
        if !quick(py, || self.handle.db()?.contains(&key))? {
            return Err(error::no_such_key(py, key.as_object()));
        }
        self.delete(py, key, None)
    }

    /// Stores all pairs of a mapping, or of an iterable of (key, value), together as one batch.
    ///
    /// >>> db.update({b"apple": b"red", b"pear": b"green"})
    /// >>> db.update((b"%03d" % n, b"") for n in range(100))
    /// >>> db.count()
    /// 102
    #[pyo3(signature = (items, /, *, sync=None))]
    fn update(&self, py: Python<'_>, items: &Bound<'_, PyAny>, sync: Option<bool>) -> PyResult<()> {
        let pairs = match items.getattr_opt("items")? {
            Some(method) => method.call0()?.try_iter()?,
            None => items.try_iter()?,
        };
        let mut batch = toykv::WriteBatch::new();
        for pair in pairs {
            let (key, value): (Input<'_>, Input<'_>) = pair?.extract()?;
            quick(py, || batch.put(&key, &value))?;
        }
        self.handle.write_batch(py, &batch, sync)
    }

    /// A new batch of writes for this database; see WriteBatch.
    #[pyo3(signature = (*, sync=None))]
    fn batch(&self, sync: Option<bool>) -> WriteBatch {
        WriteBatch::for_database(Arc::clone(&self.handle), sync)
    }

    /// The present state, for any number of reads of that one state; see Snapshot.
    fn snapshot(&self, py: Python<'_>) -> PyResult<Py<Snapshot>> {
        Snapshot::create(py, &self.handle)
    }

    /// Removes the first pair and returns it, atomically; None when the database is empty.
    ///
    /// >>> db.update({b"a": b"1", b"b": b"2"})
    /// >>> db.pop_first(), db.pop_last(), db.pop_first()
    /// ((b'a', b'1'), (b'b', b'2'), None)
    #[pyo3(signature = (*, sync=None))]
    fn pop_first<'py>(&self, py: Python<'py>, sync: Option<bool>) -> PyResult<Popped<'py>> {
        popped(py, self.handle.write(py, 0, sync, toykv::Db::pop_first_with)?)
    }

    /// Removes the last pair and returns it, atomically; None when the database is empty.
    #[pyo3(signature = (*, sync=None))]
    fn pop_last<'py>(&self, py: Python<'py>, sync: Option<bool>) -> PyResult<Popped<'py>> {
        popped(py, self.handle.write(py, 0, sync, toykv::Db::pop_last_with)?)
    }

    /// Waits until everything written so far is on the device.
    fn sync(&self, py: Python<'_>) -> PyResult<()> {
        waiting(py, || self.handle.db()?.sync())
    }

    /// Moves what is in memory into sorted tables and waits for that. Never needed for safety.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        waiting(py, || self.handle.db()?.flush())
    }

    /// Merges the tables from `start` to `stop` (all of them by default) and frees the space of
    /// what was overwritten and deleted. Waits; Ctrl-C stops it, which loses nothing.
    #[pyo3(signature = (start=None, stop=None, /))]
    fn compact<'py>(
        &self,
        py: Python<'py>,
        start: Option<Input<'py>>,
        stop: Option<Input<'py>>,
    ) -> PyResult<()> {
        let lower = start.as_deref().map_or(Edge::Unbounded, Edge::Included);
        let upper = stop.as_deref().map_or(Edge::Unbounded, Edge::Excluded);
        let mut interrupt = Interrupt::new();
        let outcome = waiting(py, || {
            let mut progress = |_: Progress| interrupt.look();
            self.handle.db()?.compact_with(lower, upper, &mut progress)
        });
        interrupt.error.map_or(outcome, Err)
    }

    /// Frees all space that can be freed now: merges all tables and rewrites the files that hold
    /// dead values. Never needed: the option `space_amplification` is kept without it. Waits;
    /// Ctrl-C stops it, which loses nothing.
    fn gc(&self, py: Python<'_>) -> PyResult<()> {
        let mut interrupt = Interrupt::new();
        let outcome = waiting(py, || {
            let mut progress = |_: Progress| interrupt.look();
            self.handle.db()?.gc_with(&mut progress)
        });
        interrupt.error.map_or(outcome, Err)
    }

    /// Searches this database for damage while others use it, and reports as `toykv.verify` does
    /// for a closed one. Reads at most `bytes_per_second`, 0 for no limit. `progress` may use the
    /// database but not close it; ClosedError when another thread does.
    ///
    /// >>> db.scrub()["findings"]
    /// []
    #[pyo3(signature = (*, bytes_per_second=0, progress=None))]
    fn scrub<'py>(
        &self,
        py: Python<'py>,
        bytes_per_second: u64,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        searching(py, progress, |tell| self.handle.db()?.scrub(bytes_per_second, tell))
    }

    /// What the space of the directory is needed for, in bytes, as a dict. All numbers but
    /// `hidden_value_bytes`, which is part of `live_value_bytes` and estimates what newer entries
    /// hide until a compaction finds it dead, add up to `total_bytes`; `snapshots` lists the
    /// snapshots, the oldest first, with their age and what they hold; `held_files` the files that
    /// are of no use any more but for cursors and values, and how long they have waited for these.
    ///
    /// >>> db.explain_space()["dead_value_bytes"]
    /// 0
    fn explain_space<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let space = waiting(py, || self.handle.open_db()?.explain_space())?;
        let dict = PyDict::new(py);
        for (name, number) in space.numbers() {
            dict.set_item(name, number)?;
        }
        let snapshots = PyList::empty(py);
        for own in &space.snapshots {
            let snapshot = PyDict::new(py);
            snapshot.set_item("sequence", own.seqno)?;
            snapshot.set_item("count", own.count)?;
            snapshot.set_item("age_ms", own.age_ms)?;
            snapshot.set_item("held_bytes", own.held_bytes)?;
            snapshots.append(snapshot)?;
        }
        dict.set_item("snapshots", snapshots)?;
        let held = PyList::empty(py);
        for own in &space.held_files {
            let file = PyDict::new(py);
            file.set_item("name", &own.name)?;
            file.set_item("bytes", own.bytes)?;
            file.set_item("age_ms", own.age_ms)?;
            held.append(file)?;
        }
        dict.set_item("held_files", held)?;
        Ok(dict)
    }

    /// Counts and sizes, as a dict.
    ///
    /// >>> db.stats()["snapshots"]
    /// 0
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = quick(py, || Ok(self.handle.open_db()?.stats()))?;
        let dict = PyDict::new(py);
        for number in stats.numbers() {
            dict.set_item(number.name, number.value)?;
        }
        Ok(dict)
    }

    /// The sorted runs, which a read looks at one after the other, the newest first, as a list of
    /// dicts: `tables`, `entries`, `bytes`.
    ///
    /// >>> db.runs()
    /// []
    fn runs<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let runs = quick(py, || Ok(self.handle.open_db()?.runs()))?;
        let as_dict = |run: &toykv::RunSize| {
            let dict = PyDict::new(py);
            dict.set_item("tables", run.tables)?;
            dict.set_item("entries", run.entries)?;
            dict.set_item("bytes", run.bytes)?;
            Ok(dict)
        };
        runs.iter().map(as_dict).collect()
    }

    /// What stands in the way of writes, as a dict: `poisoned`, the error for which writes are
    /// refused until the database is opened again, or None; `background_error`, the newest
    /// failure of work that will be tried again, or None; `stalled_us`, how long writers waited.
    ///
    /// >>> db.health()["poisoned"] is None
    /// True
    fn health<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let health = quick(py, || Ok(self.handle.open_db()?.health()))?;
        let object = |error: Option<Error>| error.map(|e| error::exception(py, &e)).transpose();
        let dict = PyDict::new(py);
        dict.set_item("poisoned", object(health.poisoned)?)?;
        dict.set_item("background_error", object(health.background_error)?)?;
        dict.set_item("stalled_us", health.stalled_us)?;
        Ok(dict)
    }

    /// Closes the database; may be called again, and from any thread. Its cursors, snapshots and
    /// batches answer ClosedError from then on; values that were read stay valid.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        waiting(py, || {
            let outcome = self.handle.db()?.close();
            self.handle.closed.store(true, Ordering::Release);
            outcome
        })
    }

    /// True once `close` was called, and in a forked child.
    #[getter]
    fn closed(&self) -> bool {
        self.handle.db().is_err() || self.handle.closed.load(Ordering::Acquire)
    }

    /// The directory, as it was given.
    #[getter]
    fn path(&self) -> &OsStr {
        self.handle.path.as_os_str()
    }

    /// True if it was opened with read_only.
    #[getter]
    fn read_only(&self) -> bool {
        self.handle.db.peek().is_some_and(toykv::Db::is_read_only)
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self) -> String {
        let state = if self.closed() { "closed" } else { "open" };
        format!("<toykv.DB at {:?}, {state}>", self.handle.path)
    }
}

type Popped<'py> = Option<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)>;

fn popped<'py>(py: Python<'py>, pair: Option<(Vec<u8>, toykv::Value)>) -> PyResult<Popped<'py>> {
    pair.map(|(key, value)| Ok((output(py, &key)?, output(py, &value)?))).transpose()
}

/// Looks now and then whether the user pressed Ctrl-C.
pub(crate) struct Interrupt {
    looked: Instant,
    pub(crate) error: Option<PyErr>,
}

impl Interrupt {
    pub(crate) fn new() -> Interrupt {
        Interrupt { looked: Instant::now(), error: None }
    }

    /// Tells a callback of the caller; what it raises ends the call.
    pub(crate) fn tell(&mut self, progress: &Py<PyAny>, now: Progress) {
        let numbers = (now.done_bytes, now.total_bytes);
        let told = Python::attach(|py| progress.call1(py, numbers).map(drop));
        self.error = self.error.take().or(told.err());
    }

    pub(crate) fn look(&mut self) -> ControlFlow<()> {
        if self.error.is_none() && self.looked.elapsed() >= SIGNAL_INTERVAL {
            self.looked = Instant::now();
            self.error = Python::attach(|py| py.check_signals()).err();
        }
        match self.error {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        }
    }
}
