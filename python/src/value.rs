//! The buffer protocol, given and taken: a value that was read without copying is a buffer over the
//! engine's pinned bytes, and a caller's buffer is filled with a value. The only unsafe code of
//! the crate.

use std::ffi::c_int;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::PyBytes;
use toykv::ErrorKind;

use crate::error;
use crate::fork::Owned;
use crate::input::{Input, output};

/// A value read without copying it: bytes of the database's own memory, read-only.
///
/// `memoryview(value)` and everything else that takes a buffer reads it in place; `bytes(value)`
/// copies. It stays valid, and keeps the file it lies in, until it is released or collected,
/// even after the database was closed.
///
/// >>> db[b"key"] = b"some bytes"
/// >>> value = db.get_value(b"key")
/// >>> with memoryview(value) as view:
/// ...     view.nbytes, view.tobytes()
/// (10, b'some bytes')
#[pyclass(frozen, module = "toykv")]
pub(crate) struct Value {
    state: Mutex<State>,
}

struct State {
    /// `None` once released.
    value: Option<Owned<toykv::Value>>,
    /// Views that Python holds; while there are any, `value` stays.
    exports: usize,
}

impl Value {
    /// Wraps a value that was just read.
    pub(crate) fn new(value: toykv::Value) -> Value {
        Value { state: Mutex::new(State { value: Some(Owned::new(value)), exports: 0 }) }
    }

    fn lock(&self, py: Python<'_>) -> MutexGuard<'_, State> {
        self.state.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `f`, which must not run Python code, on the bytes.
    fn with<R>(&self, py: Python<'_>, f: impl FnOnce(&[u8]) -> R) -> PyResult<R> {
        let outcome = self.lock(py).bytes().map(f);
        outcome.ok_or_else(|| released(py))
    }
}

impl State {
    /// The bytes, also in a forked child: it has the memory, only the engine must not run there.
    fn bytes(&self) -> Option<&[u8]> {
        self.value.as_ref().and_then(Owned::peek).map(|value| &value[..])
    }
}

#[cold]
fn released(py: Python<'_>) -> PyErr {
    error::of_kind(py, ErrorKind::Closed, "the value was released")
}

#[pymethods]
impl Value {
    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.with(py, <[u8]>::len)
    }

    fn __bytes__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.with(py, |bytes| output(py, bytes))?
    }

    fn __eq__(&self, py: Python<'_>, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let Ok(other) = other.extract::<Input<'_>>() else {
            return Ok(py.NotImplemented());
        };
        let equal = self.with(py, |bytes| *bytes == *other)?;
        Ok(equal.into_pyobject(py)?.to_owned().into_any().unbind())
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        match self.with(py, <[u8]>::len) {
            Ok(len) => format!("<toykv.Value of {len} bytes>"),
            Err(_) => "<toykv.Value, released>".to_owned(),
        }
    }

    /// Lets go of the memory now instead of when the object is collected. BufferError while a
    /// memoryview of it exists. Using the value afterwards is a ClosedError.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        let mut state = self.lock(py);
        if state.exports > 0 {
            return Err(PyBufferError::new_err("memoryviews of the value exist"));
        }
        state.value = None;
        Ok(())
    }

    /// # Safety
    ///
    /// Python calls this with a view that it owns.
    unsafe fn __getbuffer__(
        slf: &Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let py = slf.py();
        let mut state = slf.get().lock(py);
        let Some(bytes) = state.bytes() else {
            drop(state);
            return Err(released(py));
        };
        let len = isize::try_from(bytes.len())?;
        // SAFETY: Python passes a view to fill. The bytes outlive it: the view holds a reference
        // to `slf`, `exports` keeps `release` from dropping the value, nothing else drops or
        // moves it, and the engine never changes bytes it has handed out. The view is read-only.
        let status = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                slf.as_ptr(),
                bytes.as_ptr().cast_mut().cast(),
                len,
                1,
                flags,
            )
        };
        if status != 0 {
            return Err(PyErr::fetch(py));
        }
        state.exports += 1;
        Ok(())
    }

    /// # Safety
    ///
    /// Python calls this once for each view that `__getbuffer__` filled.
    unsafe fn __releasebuffer__(&self, py: Python<'_>, _view: *mut ffi::Py_buffer) {
        let mut state = self.lock(py);
        state.exports -= 1;
    }
}

/// A writable buffer of the caller's.
pub(crate) struct Target {
    buffer: PyUntypedBuffer,
}

impl Target {
    /// The buffer of an object; BufferError unless it is writable and in one piece.
    pub(crate) fn new(object: &Bound<'_, PyAny>) -> PyResult<Target> {
        let buffer = PyUntypedBuffer::get(object)?;
        if buffer.readonly() || !buffer.is_c_contiguous() {
            return Err(PyBufferError::new_err("out must be writable and contiguous"));
        }
        Ok(Target { buffer })
    }

    /// Copies `bytes` to the start and answers their number; BufferError when they do not fit.
    pub(crate) fn fill(&self, bytes: &[u8]) -> PyResult<usize> {
        let room = self.buffer.len_bytes();
        if bytes.len() > room {
            let message = format!("a value of {} bytes does not fit in {room}", bytes.len());
            return Err(PyBufferError::new_err(message));
        }
        // SAFETY: the buffer is writable, in one piece and at least as long as `bytes`, and stays
        // so while `self.buffer` holds it. The two may overlap under `copy`, and no reference to
        // the buffer's bytes is made, which other code may hold pointers to as well.
        unsafe { ptr::copy(bytes.as_ptr(), self.buffer.buf_ptr().cast::<u8>(), bytes.len()) };
        Ok(bytes.len())
    }
}
