//! What belongs to the process that made it: engine objects must neither be used nor dropped in a
//! forked child, which has their memory but not their threads.
//!
//! Python calls the function of [`watch`] in every child of `os.fork` (so of `multiprocessing`).
//! A check then costs one load, where asking for the process id costs a system call.

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyCFunction};
use toykv::{Error, ErrorKind};

/// How many forks lie between the process that loaded the module and this one.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// An engine object and the generation of processes that made it.
pub(crate) struct Owned<T> {
    inner: Option<T>,
    generation: u32,
}

impl<T> Owned<T> {
    /// Takes an object that this process just made.
    pub(crate) fn new(inner: T) -> Owned<T> {
        Owned { inner: Some(inner), generation: GENERATION.load(Ordering::Relaxed) }
    }

    /// The object, or Forked in a child of the process that made it.
    #[inline]
    pub(crate) fn get(&self) -> toykv::Result<&T> {
        match &self.inner {
            Some(inner) if !self.is_foreign() => Ok(inner),
            _ => Err(forked()),
        }
    }

    /// The object even in a forked child, for what only reads its memory.
    pub(crate) fn peek(&self) -> Option<&T> {
        self.inner.as_ref()
    }

    /// True in a child of the process that made the object.
    #[inline]
    pub(crate) fn is_foreign(&self) -> bool {
        self.generation != GENERATION.load(Ordering::Relaxed)
    }

    /// The object, unless this is a child of the process that made it; nothing is left to drop.
    pub(crate) fn take(&mut self) -> Option<T> {
        let inner = self.inner.take();
        if self.is_foreign() {
            std::mem::forget(inner);
            return None;
        }
        inner
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

#[cold]
fn forked() -> Error {
    Error::new(
        ErrorKind::Forked,
        "this object was made before a fork: open the database in this process",
    )
}

/// Asks Python to tell each forked child that it is one.
pub(crate) fn watch(py: Python<'_>) -> PyResult<()> {
    let after_fork = PyCFunction::new_closure(py, None, None, |_args, _kwargs| {
        GENERATION.fetch_add(1, Ordering::Relaxed);
    })?;
    let arguments = [("after_in_child", after_fork)].into_py_dict(py)?;
    py.import("os")?.getattr("register_at_fork")?.call((), Some(&arguments))?;
    Ok(())
}
