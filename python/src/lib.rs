//! The Python package's native module, `toykv._toykv`: classes over the public API of the `toykv`
//! crate and nothing of the engine itself.
//!
//! Invariants:
//! - every class is frozen; what changes inside is behind a lock that is never held while Python
//!   code can run, so no thread waits for the interpreter and a lock at once;
//! - every engine object sits in a `fork::Owned`: a forked child can neither use nor drop it;
//! - every call into the engine goes through `call`, which knows when to let other threads of
//!   the interpreter run, and turns errors and panics into the classes of `toykv/_errors.py`.

mod batch;
mod call;
mod cursor;
mod db;
mod error;
mod fork;
mod input;
mod options;
mod reader;
mod repair;
mod snapshot;
mod value;

/// The engine of toykv; import `toykv` instead.
#[pyo3::pymodule]
mod _toykv {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::batch::WriteBatch;
    #[pymodule_export]
    use crate::cursor::Cursor;
    #[pymodule_export]
    use crate::db::{Db, destroy};
    #[pymodule_export]
    use crate::options::Options;
    #[pymodule_export]
    use crate::reader::Reader;
    #[pymodule_export]
    use crate::repair::{salvage, verify};
    #[pymodule_export]
    use crate::snapshot::Snapshot;
    #[pymodule_export]
    use crate::value::Value;

    #[pymodule_export]
    const MAX_KEY_LEN: usize = toykv::MAX_KEY_LEN;
    #[pymodule_export]
    const MAX_VALUE_LEN: u64 = toykv::MAX_VALUE_LEN;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        crate::fork::watch(module.py())
    }
}
