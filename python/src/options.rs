//! Options by name: the names, types and checks are the engine's own table.

use std::hash::{DefaultHasher, Hash, Hasher};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyInt, PyString, PyTuple, PyType};
use toykv::Durability;

use crate::call::quick;

/// How a database is opened; immutable. `Options.describe()` lists the names, their types,
/// defaults and what they do. A size may be a number of bytes or text such as "256MiB".
///
/// >>> options = toykv.Options(durability="sync", memtable_size_bytes="8MiB")
/// >>> options
/// Options(durability='sync', memtable_size_bytes='8MiB')
/// >>> options == toykv.Options(durability="sync", memtable_size_bytes=8 << 20)
/// True
/// >>> toykv.Options(memtable_size="8MiB")
/// Traceback (most recent call last):
///     ...
/// toykv.InvalidArgumentError: no option is called "memtable_size"
#[pyclass(frozen, module = "toykv")]
pub(crate) struct Options {
    /// As given, for `to_dict`: the engine's options have setters only.
    given: Py<PyDict>,
    options: toykv::Options,
}

impl Options {
    /// The options of `base`, if any, with those of `more` over them.
    pub(crate) fn merge(
        py: Python<'_>,
        base: Option<&Options>,
        more: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Options> {
        let (given, mut options) = match base {
            Some(base) => (base.given.bind(py).copy()?, base.options.clone()),
            None => (PyDict::new(py), toykv::Options::new()),
        };
        for (name, value) in more.into_iter().flatten() {
            let name = name.cast_into::<PyString>()?;
            let text = option_text(&name, &value)?;
            let known = name.to_cow()?;
            quick(py, || options.set(&known, &text))?;
            given.set_item(&name, value)?;
        }
        Ok(Options { given: given.unbind(), options })
    }

    /// The engine's form.
    pub(crate) fn engine(&self) -> &toykv::Options {
        &self.options
    }

    /// True if writes are durable before they return unless they say otherwise.
    pub(crate) fn is_sync(&self) -> bool {
        self.options.clone().durability(Durability::Sync) == self.options
    }
}

/// The text that the engine's table takes.
fn option_text(name: &Bound<'_, PyString>, value: &Bound<'_, PyAny>) -> PyResult<String> {
    if let Ok(yes) = value.cast::<PyBool>() {
        return Ok(yes.is_true().to_string());
    }
    if value.is_instance_of::<PyInt>() || value.is_instance_of::<PyString>() {
        return Ok(value.str()?.to_cow()?.into_owned());
    }
    let found = value.get_type().name()?;
    let message = format!("option {name}: bool, int or str is required, not '{found}'");
    Err(PyTypeError::new_err(message))
}

#[pymethods]
impl Options {
    #[new]
    #[pyo3(signature = (**options))]
    fn new(py: Python<'_>, options: Option<&Bound<'_, PyDict>>) -> PyResult<Options> {
        Options::merge(py, None, options)
    }

    /// Options from a mapping of names to values, such as a section of a configuration file.
    #[classmethod]
    #[pyo3(signature = (mapping, /))]
    fn from_mapping(_class: &Bound<'_, PyType>, mapping: &Bound<'_, PyAny>) -> PyResult<Options> {
        let py = mapping.py();
        let options = PyDict::new(py);
        options.update(mapping.cast()?)?;
        Options::merge(py, None, Some(&options))
    }

    /// The options that were given, as a new dict.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.given.bind(py).copy()
    }

    /// The value of an option as text, "auto" for what the engine chooses.
    ///
    /// >>> toykv.Options(memtable_size_bytes=8 << 20).get("memtable_size_bytes")
    /// '8MiB'
    #[pyo3(signature = (name, /))]
    fn get(&self, py: Python<'_>, name: &str) -> PyResult<String> {
        quick(py, || self.options.get(name))
    }

    /// All options there are: a dict of name to (type, default as text, what it does).
    #[staticmethod]
    fn describe(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
        let all = PyDict::new(py);
        for info in toykv::Options::describe() {
            all.set_item(info.name, (info.value_type, info.default_value, info.doc))?;
        }
        Ok(all)
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Options>().is_ok_and(|other| other.get().options == self.options)
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        format!("{:?}", self.options).hash(&mut hasher);
        hasher.finish()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let mut parts = Vec::new();
        for (name, value) in self.given.bind(py) {
            parts.push(format!("{name}={}", value.repr()?));
        }
        Ok(format!("Options({})", parts.join(", ")))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let py = slf.py();
        let rebuild = py.get_type::<Options>().getattr("from_mapping")?;
        (rebuild, (slf.get().to_dict(py)?,)).into_pyobject(py)
    }
}
