//! A frozen state of a database.

use std::sync::{Arc, PoisonError, RwLock};

use pyo3::prelude::*;
use toykv::{Error, ErrorKind};

use crate::call::quick;
use crate::db::Handle;
use crate::fork::Owned;
use crate::reader::{Reader, Source};

/// A snapshot and the database that must live as long as it.
pub(crate) struct Frozen {
    /// `None` once closed. Dropped before `handle`, whose drop may close the database.
    snapshot: Owned<RwLock<Option<toykv::Snapshot>>>,
    pub(crate) handle: Arc<Handle>,
}

impl Frozen {
    /// Runs `f` on the snapshot; Closed after `close`.
    pub(crate) fn read<T>(
        &self,
        f: impl FnOnce(&toykv::Snapshot) -> toykv::Result<T>,
    ) -> toykv::Result<T> {
        let guard = self.snapshot.get()?.read().unwrap_or_else(PoisonError::into_inner);
        f(guard.as_ref().ok_or_else(closed)?)
    }

    fn close(&self) -> toykv::Result<()> {
        let lock = self.snapshot.get()?;
        let _released = lock.write().unwrap_or_else(PoisonError::into_inner).take();
        Ok(())
    }
}

#[cold]
fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the snapshot is closed")
}

/// The database as it was when `db.snapshot()` was called, with all of its reads. It holds on to
/// the disk space of what was deleted since: close it, best by `with`.
///
/// >>> db[b"apple"] = b"red"
/// >>> with db.snapshot() as snapshot:
/// ...     db[b"apple"] = b"green"
/// ...     snapshot[b"apple"], db[b"apple"]
/// (b'red', b'green')
#[pyclass(frozen, extends = Reader, module = "toykv")]
pub(crate) struct Snapshot {
    frozen: Arc<Frozen>,
    /// Number of the newest write that the snapshot sees.
    #[pyo3(get)]
    sequence: u64,
}

impl Snapshot {
    /// The present state of a database.
    pub(crate) fn create(py: Python<'_>, handle: &Arc<Handle>) -> PyResult<Py<Snapshot>> {
        let snapshot = quick(py, || handle.db()?.snapshot())?;
        let sequence = snapshot.seqno();
        let snapshot = Owned::new(RwLock::new(Some(snapshot)));
        let frozen = Arc::new(Frozen { snapshot, handle: Arc::clone(handle) });
        let base = Reader::new(Source::Snapshot(Arc::clone(&frozen)));
        Py::new(py, PyClassInitializer::from(base).add_subclass(Snapshot { frozen, sequence }))
    }
}

#[pymethods]
impl Snapshot {
    /// Lets go of the state. Reads are a ClosedError from then on; cursors made before go on.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        crate::call::waiting(py, || self.frozen.close())
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self) -> String {
        format!("<toykv.Snapshot at {}>", self.sequence)
    }
}
