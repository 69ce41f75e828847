//! What a database and a snapshot have in common: every read.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use toykv::{Scan, ScanOptions};

use crate::call::{quick, waiting};
use crate::cursor::{Cursor, Range, Rows};
use crate::db::Handle;
use crate::error;
use crate::input::{Input, output};
use crate::snapshot::Frozen;
use crate::value::{Target, Value};

/// So many reads are over before another thread could have been woken.
const FEW_KEYS: usize = 128;

/// Entries counted between two looks at whether the user pressed Ctrl-C.
const COUNT_STEP: u64 = 1 << 16;

/// The reads that databases and snapshots share.
#[pyclass(frozen, subclass, module = "toykv", name = "_Readable")]
pub(crate) struct Reader {
    source: Source,
}

/// What is read.
pub(crate) enum Source {
    /// The newest state at the time of each call.
    Db(Arc<Handle>),
    /// One state for ever.
    Snapshot(Arc<Frozen>),
}

impl Source {
    fn get(&self, key: &[u8]) -> toykv::Result<Option<toykv::Value>> {
        match self {
            Source::Db(handle) => handle.db()?.get(key),
            Source::Snapshot(frozen) => frozen.read(|snapshot| snapshot.get(key)),
        }
    }

    fn get_range(
        &self,
        key: &[u8],
        offset: u64,
        len: usize,
    ) -> toykv::Result<Option<toykv::Value>> {
        match self {
            Source::Db(handle) => handle.db()?.get_range(key, offset, len),
            Source::Snapshot(frozen) => frozen.read(|s| s.get_range(key, offset, len)),
        }
    }

    fn contains(&self, key: &[u8]) -> toykv::Result<bool> {
        match self {
            Source::Db(handle) => handle.db()?.contains(key),
            Source::Snapshot(frozen) => frozen.read(|snapshot| snapshot.contains(key)),
        }
    }

    fn multi_get(&self, keys: &[&[u8]]) -> toykv::Result<Vec<Option<toykv::Value>>> {
        match self {
            Source::Db(handle) => handle.db()?.multi_get(keys),
            Source::Snapshot(frozen) => frozen.read(|snapshot| snapshot.multi_get(keys)),
        }
    }

    fn scan(&self, options: &ScanOptions) -> toykv::Result<Scan> {
        match self {
            Source::Db(handle) => handle.db()?.scan(options),
            Source::Snapshot(frozen) => frozen.read(|snapshot| snapshot.scan(options)),
        }
    }

    fn handle(&self) -> &Arc<Handle> {
        match self {
            Source::Db(handle) => handle,
            Source::Snapshot(frozen) => &frozen.handle,
        }
    }
}

impl Reader {
    /// The reads of `source`.
    pub(crate) fn new(source: Source) -> Reader {
        Reader { source }
    }

    fn cursor(&self, py: Python<'_>, rows: Rows, range: &Range<'_>) -> PyResult<Cursor> {
        let options = range.scan_options(py)?.keys_only(rows == Rows::Keys);
        let scan = quick(py, || self.source.scan(&options))?;
        Ok(Cursor::new(rows, scan, Arc::clone(self.source.handle())))
    }

    /// Counts in steps, so that Ctrl-C is heard.
    fn count_scan(&self, py: Python<'_>, options: &ScanOptions) -> PyResult<u64> {
        let mut scan = waiting(py, || self.source.scan(options))?;
        let mut total = 0;
        loop {
            let step = waiting(py, || count_step(&mut scan))?;
            total += step;
            if step < COUNT_STEP {
                return Ok(total);
            }
            py.check_signals()?;
        }
    }
}

/// Counts up to [`COUNT_STEP`] entries; fewer means the end.
fn count_step(scan: &mut Scan) -> toykv::Result<u64> {
    for count in 0..COUNT_STEP {
        if scan.next_entry()?.is_none() {
            return Ok(count);
        }
    }
    Ok(COUNT_STEP)
}

#[pymethods]
impl Reader {
    /// The value of a key as bytes, or `default` when the key is absent.
    ///
    /// >>> db[b"apple"] = b"red"
    /// >>> db.get(b"apple"), db.get(b"pear"), db.get(b"pear", b"?")
    /// (b'red', None, b'?')
    #[pyo3(signature = (key, default=None, /))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        key: Input<'py>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        match quick(py, || self.source.get(&key))? {
            Some(value) => Ok(Some(output(py, &value)?.into_any())),
            None => Ok(default),
        }
    }

    /// The value of a key without copying it, or None.
    ///
    /// >>> db[b"image"] = bytes(10_000)
    /// >>> memoryview(db.get_value(b"image")).nbytes
    /// 10000
    #[pyo3(signature = (key, /))]
    fn get_value(&self, py: Python<'_>, key: Input<'_>) -> PyResult<Option<Value>> {
        Ok(quick(py, || self.source.get(&key))?.map(Value::new))
    }

    /// `length` bytes of the value of a key from `offset`, without copying them, or None when the
    /// key is absent. Cut at the value's end. Nothing else of a large value is read.
    ///
    /// >>> db[b"image"] = bytes(10_000)
    /// >>> memoryview(db.get_range(b"image", 9_990, 100)).nbytes
    /// 10
    #[pyo3(signature = (key, offset, length, /))]
    fn get_range(
        &self,
        py: Python<'_>,
        key: Input<'_>,
        offset: u64,
        length: usize,
    ) -> PyResult<Option<Value>> {
        Ok(quick(py, || self.source.get_range(&key, offset, length))?.map(Value::new))
    }

    /// Copies the value of a key to the start of a writable buffer and returns its length, or
    /// None when the key is absent. BufferError, with nothing copied, when it does not fit.
    ///
    /// >>> db[b"apple"] = b"red"
    /// >>> room = bytearray(5)
    /// >>> db.get_into(b"apple", room), bytes(room)
    /// (3, b'red\x00\x00')
    #[pyo3(signature = (key, out, /))]
    fn get_into(
        &self,
        py: Python<'_>,
        key: Input<'_>,
        out: &Bound<'_, PyAny>,
    ) -> PyResult<Option<usize>> {
        let target = Target::new(out)?;
        match quick(py, || self.source.get(&key))? {
            Some(value) => target.fill(&value).map(Some),
            None => Ok(None),
        }
    }

    /// The values of many keys, of one state of the database, in the order of the keys; None for
    /// each that is absent.
    ///
    /// >>> db[b"apple"] = b"red"
    /// >>> db.get_many([b"pear", b"apple"])
    /// [None, b'red']
    #[pyo3(signature = (keys, /))]
    fn get_many<'py>(
        &self,
        py: Python<'py>,
        keys: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyList>> {
        let keys: Vec<Input<'py>> =
            keys.try_iter()?.map(|key| key?.extract()).collect::<PyResult<_>>()?;
        let slices: Vec<&[u8]> = keys.iter().map(|key| &**key).collect();
        let values = match slices.len() <= FEW_KEYS {
            true => quick(py, || self.source.multi_get(&slices))?,
            false => waiting(py, || self.source.multi_get(&slices))?,
        };
        let rows = values.iter().map(|value| value.as_ref().map(|v| output(py, v)).transpose());
        PyList::new(py, rows.collect::<PyResult<Vec<Option<Bound<'py, PyBytes>>>>>()?)
    }

    /// Whether a key is there. Unlike `in`, refuses what cannot be a key.
    #[pyo3(signature = (key, /))]
    fn has(&self, py: Python<'_>, key: Input<'_>) -> PyResult<bool> {
        quick(py, || self.source.contains(&key))
    }

    fn __getitem__<'py>(&self, py: Python<'py>, key: Input<'py>) -> PyResult<Bound<'py, PyBytes>> {
        match quick(py, || self.source.get(&key))? {
            Some(value) => output(py, &value),
            None => Err(error::no_such_key(py, key.as_object())),
        }
    }

    fn __contains__(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        match key.extract::<Input<'_>>() {
            Ok(key) => quick(py, || self.source.contains(&key)),
            Err(_) => Ok(false),
        }
    }

    fn __iter__(&self, py: Python<'_>) -> PyResult<Cursor> {
        self.cursor(py, Rows::Keys, &Range::all(false))
    }

    fn __reversed__(&self, py: Python<'_>) -> PyResult<Cursor> {
        self.cursor(py, Rows::Keys, &Range::all(true))
    }

    /// The keys from `start` to `stop`, in order, of the state at the time of the call. Arguments
    /// as those of `items`.
    ///
    /// >>> db.update({b"a": b"1", b"b": b"2", b"c": b"3"})
    /// >>> list(db.keys(b"b"))
    /// [b'b', b'c']
    #[pyo3(signature = (start=None, stop=None, *, prefix=None, reverse=false, include_start=true,
                        include_stop=false, limit=None))]
    #[expect(clippy::too_many_arguments, reason = "the arguments of the Python method")]
    fn keys<'py>(
        &self,
        py: Python<'py>,
        start: Option<Input<'py>>,
        stop: Option<Input<'py>>,
        prefix: Option<Input<'py>>,
        reverse: bool,
        include_start: bool,
        include_stop: bool,
        limit: Option<i64>,
    ) -> PyResult<Cursor> {
        let range = Range { start, stop, prefix, reverse, include_start, include_stop, limit };
        self.cursor(py, Rows::Keys, &range)
    }

    /// The values from `start` to `stop`, in the order of their keys, of the state at the time of
    /// the call. Arguments as those of `items`.
    ///
    /// >>> db.update({b"a": b"1", b"b": b"2", b"c": b"3"})
    /// >>> list(db.values(reverse=True))
    /// [b'3', b'2', b'1']
    #[pyo3(signature = (start=None, stop=None, *, prefix=None, reverse=false, include_start=true,
                        include_stop=false, limit=None))]
    #[expect(clippy::too_many_arguments, reason = "the arguments of the Python method")]
    fn values<'py>(
        &self,
        py: Python<'py>,
        start: Option<Input<'py>>,
        stop: Option<Input<'py>>,
        prefix: Option<Input<'py>>,
        reverse: bool,
        include_start: bool,
        include_stop: bool,
        limit: Option<i64>,
    ) -> PyResult<Cursor> {
        let range = Range { start, stop, prefix, reverse, include_start, include_stop, limit };
        self.cursor(py, Rows::Values, &range)
    }

    /// (key, value) pairs from `start` to `stop`, in the order of the keys, of the state at the
    /// time of the call.
    ///
    /// `start` is the lower and `stop` the upper bound, also when `reverse`; `start` belongs to
    /// the range unless `include_start=False`, `stop` only if `include_stop=True`. `prefix`
    /// narrows the range to keys that begin with it, `limit` to that many pairs.
    ///
    /// >>> db.update({b"a:1": b"x", b"a:2": b"y", b"b:1": b"z"})
    /// >>> list(db.items(prefix=b"a:"))
    /// [(b'a:1', b'x'), (b'a:2', b'y')]
    /// >>> list(db.items(b"a:2", b"b:1", include_stop=True, reverse=True, limit=1))
    /// [(b'b:1', b'z')]
    #[pyo3(signature = (start=None, stop=None, *, prefix=None, reverse=false, include_start=true,
                        include_stop=false, limit=None))]
    #[expect(clippy::too_many_arguments, reason = "the arguments of the Python method")]
    fn items<'py>(
        &self,
        py: Python<'py>,
        start: Option<Input<'py>>,
        stop: Option<Input<'py>>,
        prefix: Option<Input<'py>>,
        reverse: bool,
        include_start: bool,
        include_stop: bool,
        limit: Option<i64>,
    ) -> PyResult<Cursor> {
        let range = Range { start, stop, prefix, reverse, include_start, include_stop, limit };
        self.cursor(py, Rows::Items, &range)
    }

    /// How many keys there are, exactly. Without arguments a database knows it; a range, and any
    /// count of a snapshot, is a scan of the keys.
    ///
    /// >>> db.update({b"a:1": b"x", b"a:2": b"y", b"b:1": b"z"})
    /// >>> db.count(), db.count(prefix=b"a:"), db.count(b"a:2")
    /// (3, 2, 2)
    #[pyo3(signature = (start=None, stop=None, *, prefix=None))]
    fn count<'py>(
        &self,
        py: Python<'py>,
        start: Option<Input<'py>>,
        stop: Option<Input<'py>>,
        prefix: Option<Input<'py>>,
    ) -> PyResult<u64> {
        if let (Source::Db(handle), None, None, None) = (&self.source, &start, &stop, &prefix) {
            return waiting(py, || handle.db()?.len());
        }
        let range = Range { start, stop, prefix, ..Range::all(false) };
        self.count_scan(py, &range.scan_options(py)?.keys_only(true))
    }
}
