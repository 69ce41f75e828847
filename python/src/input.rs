//! What Python hands in, and bytes handed back: buffers, paths and the `sync` argument.

use std::ffi::OsString;
use std::ops::Deref;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyMemoryView, PyString};

/// From this size on, allocating a result is checked for failure at the price of clearing it.
const LARGE_BYTES: usize = 16 << 20;

/// The bytes of a key or value: `bytes` as they are, any other buffer as a copy, because its
/// owner may change it while the engine reads.
pub(crate) struct Input<'py> {
    bytes: Bound<'py, PyBytes>,
}

impl<'a, 'py> FromPyObject<'a, 'py> for Input<'py> {
    type Error = PyErr;

    #[inline]
    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Input<'py>> {
        match object.cast::<PyBytes>() {
            Ok(bytes) => Ok(Input { bytes: bytes.to_owned() }),
            Err(_) => copy_buffer(&object),
        }
    }
}

impl Deref for Input<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.bytes.as_bytes()
    }
}

impl AsRef<[u8]> for Input<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Input<'_> {
    /// The bytes as a Python object.
    pub(crate) fn as_object(&self) -> &Bound<'_, PyAny> {
        self.bytes.as_any()
    }
}

#[cold]
fn copy_buffer<'py>(object: &Bound<'py, PyAny>) -> PyResult<Input<'py>> {
    if object.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err("a bytes-like object is required, not 'str': encode it"));
    }
    let Ok(view) = PyMemoryView::from(object) else {
        let name = object.get_type().name()?;
        let message = format!("a bytes-like object is required, not '{name}'");
        return Err(PyTypeError::new_err(message));
    };
    let bytes = view.call_method0("tobytes")?.cast_into::<PyBytes>()?;
    Ok(Input { bytes })
}

/// Bytes of the engine as `bytes`.
#[inline]
pub(crate) fn output<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    if bytes.len() < LARGE_BYTES {
        return Ok(PyBytes::new(py, bytes));
    }
    PyBytes::new_with(py, bytes.len(), |target| {
        target.copy_from_slice(bytes);
        Ok(())
    })
}

/// A path as `str`, `bytes` or `os.PathLike`.
pub(crate) struct Location(pub(crate) PathBuf);

impl<'a, 'py> FromPyObject<'a, 'py> for Location {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Location> {
        static FSENCODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let fsencode = FSENCODE.import(object.py(), "os", "fsencode")?;
        let bytes: Vec<u8> = fsencode.call1((object,))?.extract()?;
        Ok(Location(PathBuf::from(OsString::from_vec(bytes))))
    }
}
