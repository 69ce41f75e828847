//! Damage: finding it, and saving what it has left.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use toykv::{DamageReport, Progress};

use crate::call::waiting;
use crate::db::Interrupt;
use crate::input::Location;
use crate::options::Options;

/// Searches the closed database at `path` for damage: reads all of it, compares every checksum and
/// what files say of each other, and changes nothing. Damage is in the report, not an exception.
///
/// The report is a dict: `clean`, whether nothing is wrong; `files`, `bytes` and intact `records`
/// that were read; `findings`, a list of at most 10 000 dicts, and `omitted_findings`, how many
/// there were beyond those. A finding has `path`, `offset` in bytes and `what`; the keys that are
/// concerned lie between `first_key` and `last_key`, both included, and are of `records` records;
/// these three are None where they are not known.
///
/// `progress` is called on this thread with the bytes done and, estimated, all there are; what it
/// raises ends the call, as Ctrl-C does. Other threads run meanwhile. Reads all bytes once and
/// looks every key up three times. NoDatabaseError; LockedError while it is open for writing.
///
/// >>> toykv.open(path).close()
/// >>> toykv.verify(path)["clean"]
/// True
#[pyfunction]
#[pyo3(signature = (path, /, *, progress=None))]
pub(crate) fn verify<'py>(
    py: Python<'py>,
    path: Location,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    searching(py, progress, |tell| toykv::Db::verify(&path.0, tell))
}

/// Writes what can be read of the damaged database at `source`, which is only read, into a new one
/// at `target`, opened with the options and closed again. Of every key the newest version that can
/// be read is saved. The report is as that of `verify`: where a finding names keys, those may be
/// missing or have older values; its `records` is the number of keys that were saved.
///
/// ExistsError when `target` has a database. After another error, or when `progress` raises, it has
/// a part of what can be read.
///
/// >>> toykv.open(path).close()
/// >>> toykv.salvage(path, path + ".saved")["records"]
/// 0
#[pyfunction]
#[pyo3(signature = (source, target, options=None, /, *, progress=None, **more))]
pub(crate) fn salvage<'py>(
    py: Python<'py>,
    source: Location,
    target: Location,
    options: Option<&Bound<'py, Options>>,
    progress: Option<Py<PyAny>>,
    more: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyDict>> {
    let options = Options::merge(py, options.map(Bound::get), more)?;
    let options = options.engine();
    searching(py, progress, |tell| toykv::Db::salvage(&source.0, &target.0, options, tell))
}

/// Runs a search and makes a dict of what it reports.
pub(crate) fn searching<'py>(
    py: Python<'py>,
    progress: Option<Py<PyAny>>,
    search: impl FnOnce(
        &mut dyn FnMut(Progress) -> std::ops::ControlFlow<()>,
    ) -> toykv::Result<DamageReport>
    + Send,
) -> PyResult<Bound<'py, PyDict>> {
    let mut interrupt = Interrupt::new();
    let outcome = waiting(py, || {
        search(&mut |now: Progress| {
            if let Some(progress) = &progress {
                interrupt.tell(progress, now);
            }
            interrupt.look()
        })
    });
    if let Some(error) = interrupt.error {
        return Err(error);
    }
    dict_of(py, &outcome?)
}

fn dict_of<'py>(py: Python<'py>, report: &DamageReport) -> PyResult<Bound<'py, PyDict>> {
    let key = |key: &Option<Vec<u8>>| key.as_ref().map(|key| PyBytes::new(py, key));
    let findings = PyList::empty(py);
    for own in &report.findings {
        let finding = PyDict::new(py);
        finding.set_item("path", own.path.as_os_str())?;
        finding.set_item("offset", own.offset)?;
        finding.set_item("what", &own.what)?;
        finding.set_item("first_key", key(&own.first_key))?;
        finding.set_item("last_key", key(&own.last_key))?;
        finding.set_item("records", own.records)?;
        findings.append(finding)?;
    }
    let dict = PyDict::new(py);
    dict.set_item("clean", report.is_clean())?;
    dict.set_item("files", report.files)?;
    dict.set_item("bytes", report.bytes)?;
    dict.set_item("records", report.records)?;
    dict.set_item("omitted_findings", report.omitted_findings)?;
    dict.set_item("findings", findings)?;
    Ok(dict)
}
