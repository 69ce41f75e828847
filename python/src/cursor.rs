//! Ordered reads: the range arguments, and the cursor that walks.

use std::ops::Bound as Edge;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::{PyBytes, PyList};
use toykv::{Entry, Error, ErrorKind, Scan, ScanOptions};

use crate::call::quick;
use crate::db::Handle;
use crate::error;
use crate::fork::Owned;
use crate::input::{Input, output};

/// What a cursor yields.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    Keys,
    Values,
    Items,
}

/// The arguments of `keys`, `values` and `items`.
pub(crate) struct Range<'py> {
    pub(crate) start: Option<Input<'py>>,
    pub(crate) stop: Option<Input<'py>>,
    pub(crate) prefix: Option<Input<'py>>,
    pub(crate) reverse: bool,
    pub(crate) include_start: bool,
    pub(crate) include_stop: bool,
    pub(crate) limit: Option<i64>,
}

impl Range<'_> {
    /// Everything.
    pub(crate) fn all(reverse: bool) -> Self {
        Range {
            start: None,
            stop: None,
            prefix: None,
            reverse,
            include_start: true,
            include_stop: false,
            limit: None,
        }
    }

    /// The engine's form.
    pub(crate) fn scan_options(&self, py: Python<'_>) -> PyResult<ScanOptions> {
        let mut options = ScanOptions::new()
            .lower(edge(self.start.as_deref(), self.include_start))
            .upper(edge(self.stop.as_deref(), self.include_stop))
            .reverse(self.reverse);
        if let Some(prefix) = &self.prefix {
            options = options.prefix(prefix);
        }
        if let Some(limit) = self.limit {
            let limit = u64::try_from(limit).map_err(|_| {
                error::of_kind(py, ErrorKind::InvalidArgument, "limit must not be negative")
            })?;
            options = options.limit(limit);
        }
        Ok(options)
    }
}

fn edge(key: Option<&[u8]>, included: bool) -> Edge<&[u8]> {
    match key {
        None => Edge::Unbounded,
        Some(key) if included => Edge::Included(key),
        Some(key) => Edge::Excluded(key),
    }
}

/// A position in the keys, values or pairs of a range, in one state of the database: what was
/// written after the cursor was made does not show. An iterator; also a context manager that
/// closes it. Usable from any thread, one call at a time.
///
/// The position is between rows: next() steps over a row forwards, `prev` steps back over it.
///
/// >>> db.update({b"a": b"1", b"b": b"2", b"c": b"3"})
/// >>> cursor = db.items()
/// >>> next(cursor), next(cursor), cursor.prev()
/// ((b'a', b'1'), (b'b', b'2'), (b'b', b'2'))
/// >>> cursor.seek(b"c")
/// >>> list(cursor)
/// [(b'c', b'3')]
#[pyclass(frozen, generic, module = "toykv")]
pub(crate) struct Cursor {
    rows: Rows,
    /// `None` once closed. Dropped before the handle, whose drop may close the database.
    scan: Owned<Mutex<Option<Scan>>>,
    _handle: Arc<Handle>,
}

/// One row, its objects made but not yet joined: making a tuple may run Python code (the garbage
/// collector), which must not happen under the cursor's lock.
enum Row<'py> {
    Single(Bound<'py, PyBytes>),
    Pair(Bound<'py, PyBytes>, Bound<'py, PyBytes>),
}

impl<'py> Row<'py> {
    fn new(py: Python<'py>, rows: Rows, entry: Entry<'_>) -> PyResult<Row<'py>> {
        Ok(match rows {
            Rows::Keys => Row::Single(output(py, entry.key)?),
            Rows::Values => Row::Single(output(py, entry.value)?),
            Rows::Items => Row::Pair(output(py, entry.key)?, output(py, entry.value)?),
        })
    }

    fn into_object(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Row::Single(bytes) => Ok(bytes.into_any()),
            Row::Pair(key, value) => Ok((key, value).into_pyobject(py)?.into_any()),
        }
    }
}

impl Cursor {
    /// A cursor over a scan of `handle`'s database.
    pub(crate) fn new(rows: Rows, scan: Scan, handle: Arc<Handle>) -> Cursor {
        Cursor { rows, scan: Owned::new(Mutex::new(Some(scan))), _handle: handle }
    }

    /// Runs `f`, which must not run Python code, on the scan.
    fn with<T>(
        &self,
        py: Python<'_>,
        f: impl FnOnce(&mut Scan) -> toykv::Result<T>,
    ) -> PyResult<T> {
        quick(py, || {
            let lock = self.scan.get()?;
            let mut guard = lock.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner);
            f(guard.as_mut().ok_or_else(closed)?)
        })
    }

    /// The row that a move of the scan came to.
    fn step<'py>(
        &self,
        py: Python<'py>,
        step: impl FnOnce(&mut Scan) -> toykv::Result<Option<Entry<'_>>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let row =
            self.with(py, |scan| Ok(step(scan)?.map(|entry| Row::new(py, self.rows, entry))))?;
        row.map(|row| row?.into_object(py)).transpose()
    }
}

#[cold]
fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the cursor is closed")
}

#[pymethods]
impl Cursor {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.step(py, Scan::next_entry)
    }

    /// Steps back over a row and returns it; StopIteration at the beginning.
    fn prev<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.step(py, Scan::prev_entry)?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    /// The next `n` rows as a list; fewer, or none, at the end.
    ///
    /// >>> db.update({b"a": b"1", b"b": b"2", b"c": b"3"})
    /// >>> cursor = db.keys()
    /// >>> cursor.next_batch(2), cursor.next_batch(2), cursor.next_batch(2)
    /// ([b'a', b'b'], [b'c'], [])
    #[pyo3(signature = (n=1024, /))]
    fn next_batch<'py>(&self, py: Python<'py>, n: usize) -> PyResult<Bound<'py, PyList>> {
        let rows = self.with(py, |scan| {
            let mut rows = Vec::with_capacity(n.min(1024));
            while rows.len() < n {
                let Some(entry) = scan.next_entry()? else { break };
                match Row::new(py, self.rows, entry) {
                    Ok(row) => rows.push(row),
                    Err(error) => return Ok(Err(error)),
                }
            }
            Ok(Ok(rows))
        })??;
        let rows: PyResult<Vec<_>> = rows.into_iter().map(|row| row.into_object(py)).collect();
        PyList::new(py, rows?)
    }

    /// Moves so that next() returns the first row at or after `key` in the cursor's direction.
    /// The bounds still hold, and a limit counts anew.
    #[pyo3(signature = (key, /))]
    fn seek(&self, py: Python<'_>, key: Input<'_>) -> PyResult<()> {
        self.with(py, |scan| scan.seek(&key))
    }

    /// Moves before the first row of the cursor's direction, where it began.
    fn seek_to_first(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, Scan::seek_to_start)
    }

    /// Moves behind the last row of the cursor's direction, so that `prev` returns that row.
    fn seek_to_last(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, Scan::seek_to_end)
    }

    /// Lets go of the state of the database. Any further use is a ClosedError.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let scan = quick(py, || Ok(self.scan.get()?.lock_py_attached(py)))?;
        let _released = scan.unwrap_or_else(PoisonError::into_inner).take();
        Ok(())
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) -> PyResult<()> {
        self.close(py)
    }
}
