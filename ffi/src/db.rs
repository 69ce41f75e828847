//! `toykv` (C noun): opening, closing and single keys.

use crate::buffer::{Out, Owner, ReservedBuf, ToykvBuf, ToykvSlice, check_list, key, list, path};
use crate::buffer::{TOYKV_MAX_VALUE_LEN, value};
use crate::handle::{Kind, Shared, SharedGuard};
use crate::options::{ToykvOptions, ToykvReadOpts, ToykvWriteOpts};
use crate::options::{options_of, read_snapshot, write_options};
use crate::panic::{guard, guard_value};
use crate::snapshot::{self, Frozen, ToykvSnapshot};
use crate::status::{TOYKV_NOT_FOUND, TOYKV_OK, TOYKV_SHORT_BUFFER, ToykvError};
use engine::{Db, Error, ErrorKind, Result, Scan, ScanOptions, Value};
use std::ffi::{c_char, c_void};
use std::ptr;

/// An open database. Any thread may use it.
pub struct Toykv(());

/// A separate range of keys. There is one so far: pass NULL.
pub struct ToykvKeyspace(());

/// What toykv_multi_get found for one key.
#[repr(C)]
pub struct ToykvResult {
    /// TOYKV_OK or TOYKV_NOT_FOUND.
    pub status: i32,
    /// 0.
    pub reserved: u32,
    /// The value; stays until the owner is freed.
    pub value: ToykvSlice,
}

/// All open databases.
static DBS: Shared<Db> = Shared::new(Kind::Db);

/// The database behind a handle.
#[inline]
pub(crate) fn db_of(
    db: *const Toykv,
    keyspace: *const ToykvKeyspace,
) -> Result<SharedGuard<'static, Db>> {
    let db = DBS.get(db.addr())?;
    if !keyspace.is_null() {
        return Err(Error::new(ErrorKind::Misuse, "keyspace is not NULL: there is only one"));
    }
    Ok(db)
}

/// What a read looks at: the newest state, or a snapshot of the same database.
pub(crate) enum View {
    Newest(SharedGuard<'static, Db>),
    Frozen(SharedGuard<'static, Frozen>),
}

impl View {
    /// Misuse when the snapshot is another database's.
    #[inline]
    pub(crate) fn new(
        db: *const Toykv,
        keyspace: *const ToykvKeyspace,
        snapshot: *const ToykvSnapshot,
    ) -> Result<View> {
        let guard = db_of(db, keyspace)?;
        if snapshot.is_null() {
            return Ok(View::Newest(guard));
        }
        Ok(View::Frozen(snapshot::frozen_of(snapshot, db)?))
    }

    #[inline]
    fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        match self {
            View::Newest(db) => db.get(key),
            View::Frozen(frozen) => frozen.snapshot.get(key),
        }
    }

    #[inline]
    fn get_into(&self, key: &[u8], buf: &mut [u8]) -> Result<Option<usize>> {
        match self {
            View::Newest(db) => db.get_into(key, buf),
            View::Frozen(frozen) => frozen.snapshot.get_into(key, buf),
        }
    }

    fn get_range(&self, key: &[u8], offset: u64, len: usize) -> Result<Option<Value>> {
        match self {
            View::Newest(db) => db.get_range(key, offset, len),
            View::Frozen(frozen) => frozen.snapshot.get_range(key, offset, len),
        }
    }

    fn contains(&self, key: &[u8]) -> Result<bool> {
        match self {
            View::Newest(db) => db.contains(key),
            View::Frozen(frozen) => frozen.snapshot.contains(key),
        }
    }

    fn multi_get(&self, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        match self {
            View::Newest(db) => db.multi_get(keys),
            View::Frozen(frozen) => frozen.snapshot.multi_get(keys),
        }
    }

    /// An ordered read.
    pub(crate) fn scan(&self, options: &ScanOptions) -> Result<Scan> {
        match self {
            View::Newest(db) => db.scan(options),
            View::Frozen(frozen) => frozen.snapshot.scan(options),
        }
    }
}

/// Opens the database in the directory `path`, with default options for NULL; *out becomes NULL on
/// failure. A failed open changes nothing but what the file LOCK says about its last opener.
/// Ownership: the caller closes *out with toykv_close and frees it with toykv_free.
/// Threads: any.
/// Errors: INVALID, LOCKED, NO_SUCH, EXISTS, READ_ONLY, FORMAT, CORRUPTION, IO, DISK_FULL, ...
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_open(
    path: *const c_char,
    options: *const ToykvOptions,
    out: *mut *mut Toykv,
    err: *mut ToykvError,
) -> i32 {
    // SAFETY: `path` is NULL or NUL-terminated, `out` a place for a pointer, `err` a toykv_error or
    // NULL, by contract.
    unsafe {
        guard(err, || {
            let out = Out::new(out, "out")?;
            out.set(ptr::null_mut());
            let db = Db::open(self::path(path)?, &options_of(options)?)?;
            out.set(ptr::without_provenance_mut(DBS.insert(db)?));
            Ok(TOYKV_OK)
        })
    }
}

/// Closes: waits for calls and background work, syncs, unlocks. Closing twice is fine. Snapshots
/// and iterators answer CLOSED from now on; buffers stay valid.
/// Ownership: the handle stays the caller's; free it with toykv_free.
/// Threads: any, also while others use the database.
/// Errors: IO, DISK_FULL: of the last sync; POISONED. The database is closed all the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_close(db: *mut Toykv, err: *mut ToykvError) -> i32 {
    // SAFETY: `err` is NULL or a toykv_error, by contract.
    unsafe {
        guard(err, || {
            db_of(db, ptr::null())?.close()?;
            Ok(TOYKV_OK)
        })
    }
}

/// Closes, if that was not done, and frees the handle; nothing for NULL, for freed handles and in a
/// forked child. Errors of an implied close are lost: call toykv_close first.
/// Ownership: the handle is gone; snapshots, iterators and buffers are freed on their own.
/// Threads: any, also while others use the database: they find CLOSED or MISUSE.
/// Errors: none.
#[unsafe(no_mangle)]
pub extern "C" fn toykv_free(db: *mut Toykv) {
    guard_value((), || db_of(db, ptr::null())?.close());
    guard_value((), || DBS.remove(db.addr()));
}

/// Removes the database at `path`: its own files, and the directory if that leaves it empty.
/// Ownership: none.
/// Threads: any.
/// Errors: INVALID, LOCKED while it is open, NO_SUCH, READ_ONLY, IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_destroy(path: *const c_char, err: *mut ToykvError) -> i32 {
    // SAFETY: `path` is NULL or NUL-terminated and `err` a toykv_error or NULL, by contract.
    unsafe {
        guard(err, || {
            Db::destroy(self::path(path)?)?;
            Ok(TOYKV_OK)
        })
    }
}

/// Sets the value of a key. NULL with a length of 0 is the empty key or value.
/// Ownership: key and value are copied.
/// Threads: any.
/// Errors: INVALID, TOO_LARGE, MISUSE, CLOSED, READ_ONLY, DISK_FULL, IO, POISONED; WOULD_STALL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_put(
    db: *mut Toykv,
    keyspace: *mut ToykvKeyspace,
    key: *const c_void,
    key_len: usize,
    value: *const c_void,
    value_len: usize,
    opts: *const ToykvWriteOpts,
    err: *mut ToykvError,
) -> i32 {
    // SAFETY: pointers are NULL or point to what their names and lengths say, by contract.
    unsafe {
        guard(err, || {
            let db = db_of(db, keyspace)?;
            let (key, value) = (self::key(key, key_len)?, self::value(value, value_len)?);
            db.put_with(key, value, &write_options(opts)?)?;
            Ok(TOYKV_OK)
        })
    }
}

/// Deletes a key; one that is not there is no error.
/// Ownership: the key is copied.
/// Threads: any.
/// Errors: INVALID, TOO_LARGE, MISUSE, CLOSED, READ_ONLY, DISK_FULL, IO, POISONED; WOULD_STALL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_delete(
    db: *mut Toykv,
    keyspace: *mut ToykvKeyspace,
    key: *const c_void,
    key_len: usize,
    opts: *const ToykvWriteOpts,
    err: *mut ToykvError,
) -> i32 {
    // SAFETY: pointers are NULL or point to what their names and lengths say, by contract.
    unsafe {
        guard(err, || {
            let db = db_of(db, keyspace)?;
            db.delete_with(self::key(key, key_len)?, &write_options(opts)?)?;
            Ok(TOYKV_OK)
        })
    }
}

/// Reads the value of a key without copying large values; NOT_FOUND and an empty *out without one.
/// Ownership: the caller frees *out with toykv_buf_free; it stays valid after close.
/// Threads: any.
/// Errors: INVALID, TOO_LARGE, MISUSE, CLOSED, CORRUPTION, IO, NO_MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_get(
    db: *mut Toykv,
    keyspace: *mut ToykvKeyspace,
    key: *const c_void,
    key_len: usize,
    opts: *const ToykvReadOpts,
    out: *mut ToykvBuf,
    err: *mut ToykvError,
) -> i32 {
    // SAFETY: pointers are NULL or point to what their names and lengths say, by contract.
    unsafe {
        guard(err, || {
            let out = Out::new(out, "out")?;
            out.set(ToykvBuf::NONE);
            let view = View::new(db, keyspace, read_snapshot(opts)?)?;
            let Some(value) = view.get(self::key(key, key_len)?)? else {
                return Ok(TOYKV_NOT_FOUND);
            };
            out.set(ReservedBuf::new()?.fill(Owner::Value(value)));
            Ok(TOYKV_OK)
        })
    }
}

/// Copies the value of a key to `buf` if it fits in `cap` bytes; SHORT_BUFFER and nothing copied
/// otherwise. *value_len becomes its length in both cases, 0 for NOT_FOUND.
/// Ownership: `buf` is the caller's; NULL with a cap of 0 asks for the length.
/// Threads: any.
/// Errors: INVALID, TOO_LARGE, MISUSE, CLOSED, CORRUPTION, IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_get_into(
    db: *mut Toykv,
    keyspace: *mut ToykvKeyspace,
    key: *const c_void,
    key_len: usize,
    opts: *const ToykvReadOpts,
    buf: *mut c_void,
    cap: usize,
    value_len: *mut usize,
    err: *mut ToykvError,
) -> i32 {
    // SAFETY: pointers are NULL or point to what their names and lengths say, by contract.
    unsafe {
        guard(err, || {
            let value_len = Out::new(value_len, "value_len")?;
            value_len.set(0);
            if buf.is_null() && cap != 0 {
                return Err(crate::buffer::invalid(format!("buf is NULL with a cap of {cap}")));
            }
            let view = View::new(db, keyspace, read_snapshot(opts)?)?;
            let key = self::key(key, key_len)?;
            // More than the longest value is never written, so it need not be there.
            let cap = cap.min(TOYKV_MAX_VALUE_LEN as usize);
            let buf = match cap {
                0 => &mut [],
                _ => std::slice::from_raw_parts_mut(buf.cast(), cap),
            };
            let Some(len) = view.get_into(key, buf)? else {
                return Ok(TOYKV_NOT_FOUND);
            };
            value_len.set(len);
            Ok(if len <= cap { TOYKV_OK } else { TOYKV_SHORT_BUFFER })
        })
    }
}

/// Reads `len` bytes of the value of a key from `offset`, cut at its end, without copying; the
/// rest of a large value is not read; NOT_FOUND and an empty *out without one. A value from
/// 64 KiB on is not verified by this call unless it has been read whole before.
/// Ownership: the caller frees *out with toykv_buf_free; it stays valid after close.
/// Threads: any.
/// Errors: INVALID, TOO_LARGE, MISUSE, CLOSED, CORRUPTION, IO, NO_MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_get_range(
    db: *mut Toykv,
    keyspace: *mut ToykvKeyspace,
    key: *const c_void,
    key_len: usize,
    offset: u64,
    len: usize,
    opts: *const ToykvReadOpts,
    out: *mut ToykvBuf,
    err: *mut ToykvError,
) -> i32 {
    // SAFETY: pointers are NULL or point to what their names and lengths say, by contract.
    unsafe {
        guard(err, || {
            let out = Out::new(out, "out")?;
            out.set(ToykvBuf::NONE);
            let view = View::new(db, keyspace, read_snapshot(opts)?)?;
            let Some(value) = view.get_range(self::key(key, key_len)?, offset, len)? else {
                return Ok(TOYKV_NOT_FOUND);
            };
            out.set(ReservedBuf::new()?.fill(Owner::Value(value)));
            Ok(TOYKV_OK)
        })
    }
}

/// OK when the key is there, NOT_FOUND when it is not. The value is not read.
/// Ownership: none.
/// Threads: any.
/// Errors: INVALID, TOO_LARGE, MISUSE, CLOSED, CORRUPTION, IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_contains(
    db: *mut Toykv,
    keyspace: *mut ToykvKeyspace,
    key: *const c_void,
    key_len: usize,
    opts: *const ToykvReadOpts,
    err: *mut ToykvError,
) -> i32 {
    // SAFETY: pointers are NULL or point to what their names and lengths say, by contract.
    unsafe {
        guard(err, || {
            let view = View::new(db, keyspace, read_snapshot(opts)?)?;
            let found = view.contains(self::key(key, key_len)?)?;
            Ok(if found { TOYKV_OK } else { TOYKV_NOT_FOUND })
        })
    }
}

/// Reads `count` keys of one state: results[i] is about keys[i]. All or nothing: a status that is
/// not OK leaves `results` as they were and *owner empty.
/// Ownership: the caller frees *owner with toykv_buf_free; until then the values stay.
/// Threads: any.
/// Errors: INVALID, TOO_LARGE (also above TOYKV_MAX_LIST_LEN keys), MISUSE, CLOSED, CORRUPTION, IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_multi_get(
    db: *mut Toykv,
    keyspace: *mut ToykvKeyspace,
    keys: *const ToykvSlice,
    count: usize,
    opts: *const ToykvReadOpts,
    results: *mut ToykvResult,
    owner: *mut ToykvBuf,
    err: *mut ToykvError,
) -> i32 {
    // SAFETY: pointers are NULL or point to what their names and counts say, by contract.
    unsafe {
        guard(err, || {
            let owner = Out::new(owner, "owner")?;
            owner.set(ToykvBuf::NONE);
            let view = View::new(db, keyspace, read_snapshot(opts)?)?;
            check_list("results", results, count)?;
            let keys = list("keys", keys, count)?.iter();
            let keys = keys.map(|slice| key(slice.data.cast(), slice.len));
            let values = view.multi_get(&keys.collect::<Result<Vec<_>>>()?)?;
            let place = ReservedBuf::new()?;
            owner.set(place.fill_with(Owner::Values(values), |owner| {
                let Owner::Values(values) = owner else { return };
                for (index, value) in values.iter().take(count).enumerate() {
                    results.add(index).write(result_of(value.as_ref()));
                }
            }));
            Ok(TOYKV_OK)
        })
    }
}

fn result_of(value: Option<&Value>) -> ToykvResult {
    let (status, value) = match value {
        Some(value) => (TOYKV_OK, ToykvSlice::of(value)),
        None => (TOYKV_NOT_FOUND, ToykvSlice::EMPTY),
    };
    ToykvResult { status, reserved: 0, value }
}

/// Counts the keys: *count becomes their exact number, cheaply.
/// Ownership: none.
/// Threads: any.
/// Errors: INVALID, MISUSE, CLOSED, CORRUPTION, IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_len(
    db: *mut Toykv,
    keyspace: *mut ToykvKeyspace,
    count: *mut u64,
    err: *mut ToykvError,
) -> i32 {
    // SAFETY: `count` is a place for a number and `err` a toykv_error or NULL, by contract.
    unsafe {
        guard(err, || {
            let count = Out::new(count, "count")?;
            count.set(0);
            count.set(db_of(db, keyspace)?.len()?);
            Ok(TOYKV_OK)
        })
    }
}

/// Removes the entry with the smallest key and answers it, in one step; NOT_FOUND without entries.
/// Ownership: the caller frees *key and *value with toykv_buf_free; NULL for what is not wanted.
/// Threads: any; of several, each gets an entry of its own.
/// Errors: INVALID, MISUSE, CLOSED, READ_ONLY, DISK_FULL, IO, POISONED, NO_MEMORY; WOULD_STALL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_pop_first(
    db: *mut Toykv,
    keyspace: *mut ToykvKeyspace,
    opts: *const ToykvWriteOpts,
    key: *mut ToykvBuf,
    value: *mut ToykvBuf,
    err: *mut ToykvError,
) -> i32 {
    // SAFETY: pointers are NULL or point to what their names say, by contract.
    unsafe {
        guard(err, || {
            let (key, value) = (Out::optional(key, "key")?, Out::optional(value, "value")?);
            let options = write_options(opts)?;
            pop(&key, &value, || db_of(db, keyspace)?.pop_first_with(&options))
        })
    }
}

/// Removes the entry with the largest key and answers it, in one step; NOT_FOUND without entries.
/// Ownership: the caller frees *key and *value with toykv_buf_free; NULL for what is not wanted.
/// Threads: any; of several, each gets an entry of its own.
/// Errors: INVALID, MISUSE, CLOSED, READ_ONLY, DISK_FULL, IO, POISONED, NO_MEMORY; WOULD_STALL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_pop_last(
    db: *mut Toykv,
    keyspace: *mut ToykvKeyspace,
    opts: *const ToykvWriteOpts,
    key: *mut ToykvBuf,
    value: *mut ToykvBuf,
    err: *mut ToykvError,
) -> i32 {
    // SAFETY: pointers are NULL or point to what their names say, by contract.
    unsafe {
        guard(err, || {
            let (key, value) = (Out::optional(key, "key")?, Out::optional(value, "value")?);
            let options = write_options(opts)?;
            pop(&key, &value, || db_of(db, keyspace)?.pop_last_with(&options))
        })
    }
}

/// The buffers are had before the entry is removed: what cannot be answered is not taken.
fn pop(
    key: &Out<ToykvBuf>,
    value: &Out<ToykvBuf>,
    take: impl FnOnce() -> Result<Option<(Vec<u8>, Value)>>,
) -> Result<i32> {
    key.set(ToykvBuf::NONE);
    value.set(ToykvBuf::NONE);
    let (key_place, value_place) = (ReservedBuf::new()?, ReservedBuf::new()?);
    let Some((found_key, found_value)) = take()? else {
        return Ok(TOYKV_NOT_FOUND);
    };
    if key.is_wanted() {
        key.set(key_place.fill(Owner::Bytes(found_key)));
    }
    if value.is_wanted() {
        value.set(value_place.fill(Owner::Value(found_value)));
    }
    Ok(TOYKV_OK)
}
