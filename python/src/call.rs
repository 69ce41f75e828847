//! The two ways into the engine: with and without the interpreter's lock (the GIL).
//!
//! The rule: a call that answers from memory keeps the lock; a call that may wait for the device
//! or for background work, or whose length the caller chooses, lets go of it. Letting go costs
//! little alone, but with a busy thread beside it each return waits up to the switch interval.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::prelude::*;

use crate::error;

/// Calls the engine and keeps the interpreter's lock.
#[inline]
pub(crate) fn quick<T>(py: Python<'_>, f: impl FnOnce() -> toykv::Result<T>) -> PyResult<T> {
    finish(py, catch_unwind(AssertUnwindSafe(f)))
}

/// Calls the engine while other threads of the interpreter run.
pub(crate) fn waiting<T: Send>(
    py: Python<'_>,
    f: impl FnOnce() -> toykv::Result<T> + Send,
) -> PyResult<T> {
    let outcome = py.detach(|| catch_unwind(AssertUnwindSafe(f)));
    finish(py, outcome)
}

#[inline]
fn finish<T>(py: Python<'_>, outcome: std::thread::Result<toykv::Result<T>>) -> PyResult<T> {
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error::raise(py, &error)),
        Err(payload) => Err(error::raise_panic(py, payload.as_ref())),
    }
}
