//! Engine errors as Python exceptions. The classes, and the one table that maps kinds to them, are
//! Python's (`toykv/_errors.py`); this file hands the facts over.

use std::any::Any;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use toykv::{Error, ErrorKind};

/// An exception of the class that belongs to the error's kind.
#[cold]
pub(crate) fn raise(py: Python<'_>, error: &Error) -> PyErr {
    match exception(py, error) {
        Ok(exception) => PyErr::from_value(exception),
        Err(failure) => failure,
    }
}

/// The same as an object that is not raised yet.
pub(crate) fn exception<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    static FROM_ENGINE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let from_engine = FROM_ENGINE.import(py, "toykv._errors", "from_engine")?;
    let kind = format!("{:?}", error.kind());
    let path = error.path().map(|path| path.as_os_str());
    from_engine.call1((kind, error.message(), error.os_error(), path, error.offset()))
}

/// A new error of a kind.
#[cold]
pub(crate) fn of_kind(py: Python<'_>, kind: ErrorKind, message: &str) -> PyErr {
    raise(py, &Error::new(kind, message))
}

/// The KeyError for a key that is not there.
#[cold]
pub(crate) fn no_such_key(py: Python<'_>, key: &Bound<'_, PyAny>) -> PyErr {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = CLASS.import(py, "toykv._errors", "NotFoundError");
    match class.and_then(|class| class.call1((key,))) {
        Ok(exception) => PyErr::from_value(exception),
        Err(failure) => failure,
    }
}

/// The exception for a panic of the engine, which is a defect of it.
#[cold]
pub(crate) fn raise_panic(py: Python<'_>, payload: &(dyn Any + Send)) -> PyErr {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
    let message = format!("the engine panicked, which is a defect in it: {text}");
    let class = CLASS.import(py, "toykv._errors", "PanicError");
    match class.and_then(|class| class.call1((message,))) {
        Ok(exception) => PyErr::from_value(exception),
        Err(failure) => failure,
    }
}
