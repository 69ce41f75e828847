//! The two ways into the engine: with and without the interpreter's lock (the GIL).
//!
//! The rule: a call that is over in some microseconds keeps the lock: reads of one key or few,
//! steps of a cursor, short writes as long as they have to wait for nothing. What waits for the
//! device or for background work, or whose length the caller chooses, lets go of it.
//!
//! Measured (3.11, keys of 24 bytes and values of 150 in memory), lock kept / let go: alone, `get`
//! 113 / 145 ns, `put` 155 / 180 ns; beside a thread that computes, where the lock comes back only
//! after the switch interval (5 ms) once another thread has it, on average `put` 0.25-0.3 / 0.7-2.5
//! us, `get_many` of ten 3 / 3-60 us. Rows of a cursor take 112 ns one at a time, 104 ns in lists
//! of 256 made under one lock: nothing is fetched ahead behind the scenes.

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
