//! Several writes that happen together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::{PyBytes, PyType};
use toykv::ErrorKind;

use crate::call::quick;
use crate::db::Handle;
use crate::error;
use crate::input::{Input, output};

/// Several puts and deletes that become visible, and survive a crash, together; in order, so a
/// later one for a key wins.
///
/// `db.batch()` makes one that belongs to a database. Leaving its `with` block writes it;
/// leaving by an exception discards it. `WriteBatch()` makes a free one, to be appended to
/// another or sent elsewhere as bytes.
///
/// >>> with db.batch() as batch:
/// ...     batch.put(b"apple", b"red")
/// ...     batch.delete(b"pear")
/// ...     len(batch)
/// 2
/// >>> db[b"apple"]
/// b'red'
#[pyclass(frozen, module = "toykv")]
pub(crate) struct WriteBatch {
    batch: Mutex<toykv::WriteBatch>,
    target: Option<Target>,
}

/// Where a batch is written to.
struct Target {
    handle: Arc<Handle>,
    sync: Option<bool>,
}

impl WriteBatch {
    /// An empty batch for a database.
    pub(crate) fn for_database(handle: Arc<Handle>, sync: Option<bool>) -> WriteBatch {
        WriteBatch { batch: Mutex::default(), target: Some(Target { handle, sync }) }
    }

    fn lock(&self, py: Python<'_>) -> MutexGuard<'_, toykv::WriteBatch> {
        self.batch.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy, so that two batches are never locked at once.
    fn copy(&self, py: Python<'_>) -> toykv::WriteBatch {
        self.lock(py).clone()
    }
}

#[pymethods]
impl WriteBatch {
    #[new]
    fn new() -> WriteBatch {
        WriteBatch { batch: Mutex::default(), target: None }
    }

    /// Adds a put.
    #[pyo3(signature = (key, value, /))]
    fn put(&self, py: Python<'_>, key: Input<'_>, value: Input<'_>) -> PyResult<()> {
        quick(py, || self.lock(py).put(&key, &value))
    }

    /// Adds a delete. Deleting an absent key is not an error.
    #[pyo3(signature = (key, /))]
    fn delete(&self, py: Python<'_>, key: Input<'_>) -> PyResult<()> {
        quick(py, || self.lock(py).delete(&key))
    }

    /// Adds all of another batch's writes behind its own.
    #[pyo3(signature = (other, /))]
    fn append(&self, py: Python<'_>, other: &Bound<'_, WriteBatch>) -> PyResult<()> {
        let other = other.get().copy(py);
        quick(py, || self.lock(py).append(&other))
    }

    /// Forgets all writes added so far.
    fn clear(&self, py: Python<'_>) {
        self.lock(py).clear();
    }

    /// Writes it to its database and empties it; when that fails it stays as it is. MisuseError
    /// for a batch that belongs to no database.
    #[pyo3(signature = (*, sync=None))]
    fn write(&self, py: Python<'_>, sync: Option<bool>) -> PyResult<()> {
        let Some(target) = &self.target else {
            let advice = "this batch belongs to no database: db.batch() makes one that does";
            return Err(error::of_kind(py, ErrorKind::Misuse, advice));
        };
        let sync = sync.or(target.sync);
        let mut batch = std::mem::take(&mut *self.lock(py));
        let outcome = target.handle.write_batch(py, &batch, sync);
        if outcome.is_err() {
            let mut now = self.lock(py);
            quick(py, || batch.append(&now))?;
            *now = batch;
        }
        outcome
    }

    /// The batch as bytes that `from_bytes`, here and in the C library, reads.
    fn __bytes__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = self.lock(py).to_bytes();
        output(py, &bytes)
    }

    /// A free batch from what `bytes(batch)` returned; InvalidArgumentError for other bytes.
    ///
    /// >>> batch = toykv.WriteBatch()
    /// >>> batch.put(b"apple", b"red")
    /// >>> len(toykv.WriteBatch.from_bytes(bytes(batch)))
    /// 1
    #[classmethod]
    #[pyo3(signature = (data, /))]
    fn from_bytes(
        _class: &Bound<'_, PyType>,
        py: Python<'_>,
        data: Input<'_>,
    ) -> PyResult<WriteBatch> {
        let batch = quick(py, || toykv::WriteBatch::from_bytes(&data))?;
        Ok(WriteBatch { batch: Mutex::new(batch), target: None })
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        self.lock(py).len()
    }

    /// Bytes of memory that the writes take.
    #[getter]
    fn size_bytes(&self, py: Python<'_>) -> usize {
        self.lock(py).size_bytes()
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (exc_type=None, exc=None, traceback=None, /))]
    fn __exit__(
        &self,
        py: Python<'_>,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = (exc, traceback);
        if exc_type.is_some() {
            self.clear(py);
            return Ok(());
        }
        self.write(py, None)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!("<toykv.WriteBatch of {} writes>", self.lock(py).len())
    }
}
