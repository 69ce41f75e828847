//! `toykv_batch` (C noun): several writes that become visible, and survive a crash, together.

use crate::buffer::{Out, key, value};
use crate::db::{Toykv, ToykvKeyspace, db_of};
use crate::handle::{Exclusive, ExclusiveGuard, Kind};
use crate::options::{ToykvWriteOpts, write_options};
use crate::panic::{guard, guard_value};
use crate::status::{TOYKV_OK, ToykvError};
use engine::{Error, ErrorKind, Result, WriteBatch};
use std::ffi::c_void;
use std::ptr;

/// A list of puts and deletes. One thread at a time may use it.
pub struct ToykvBatch(());

/// All batches.
static BATCHES: Exclusive<WriteBatch> = Exclusive::new(Kind::Batch);

fn batch_of(
    batch: *const ToykvBatch,
    keyspace: *const ToykvKeyspace,
) -> Result<ExclusiveGuard<'static, WriteBatch>> {
    let batch = BATCHES.get(batch.addr())?;
    if !keyspace.is_null() {
        return Err(Error::new(ErrorKind::Misuse, "keyspace is not NULL: there is only one"));
    }
    Ok(batch)
}

/// A new, empty batch; NULL when no handle could be had.
/// Ownership: the caller frees it with toykv_batch_free.
/// Threads: any.
/// Errors: none but NULL.
#[unsafe(no_mangle)]
pub extern "C" fn toykv_batch_new() -> *mut ToykvBatch {
    guard_value(ptr::null_mut(), || {
        Ok(ptr::without_provenance_mut(BATCHES.insert(WriteBatch::new())?))
    })
}

/// Frees a batch; nothing for NULL, for a freed one and in a forked child.
/// Ownership: the handle is gone.
/// Threads: any.
/// Errors: none.
#[unsafe(no_mangle)]
pub extern "C" fn toykv_batch_free(batch: *mut ToykvBatch) {
    guard_value((), || BATCHES.remove(batch.addr()));
}

/// Removes all entries and keeps the memory.
/// Ownership: none.
/// Threads: one at a time.
/// Errors: none; nothing happens where another call would answer MISUSE.
#[unsafe(no_mangle)]
pub extern "C" fn toykv_batch_clear(batch: *mut ToykvBatch) {
    guard_value((), || {
        batch_of(batch, ptr::null())?.clear();
        Ok(())
    });
}

/// Number of entries; 0 where another call would answer MISUSE.
/// Ownership: none.
/// Threads: one at a time.
/// Errors: none.
#[unsafe(no_mangle)]
pub extern "C" fn toykv_batch_count(batch: *const ToykvBatch) -> usize {
    guard_value(0, || Ok(batch_of(batch, ptr::null())?.len()))
}

/// Adds a put. The batch stays as it was on failure.
/// Ownership: key and value are copied.
/// Threads: one at a time.
/// Errors: INVALID, TOO_LARGE, MISUSE, FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_batch_put(
    batch: *mut ToykvBatch,
    keyspace: *mut ToykvKeyspace,
    key: *const c_void,
    key_len: usize,
    value: *const c_void,
    value_len: usize,
    err: *mut ToykvError,
) -> i32 {
    // SAFETY: pointers are NULL or point to what their names and lengths say, by contract.
    unsafe {
        guard(err, || {
            let mut batch = batch_of(batch, keyspace)?;
            batch.put(self::key(key, key_len)?, self::value(value, value_len)?)?;
            Ok(TOYKV_OK)
        })
    }
}

/// Adds a delete. The batch stays as it was on failure.
/// Ownership: the key is copied.
/// Threads: one at a time.
/// Errors: INVALID, TOO_LARGE, MISUSE, FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_batch_delete(
    batch: *mut ToykvBatch,
    keyspace: *mut ToykvKeyspace,
    key: *const c_void,
    key_len: usize,
    err: *mut ToykvError,
) -> i32 {
    // SAFETY: pointers are NULL or point to what their names and lengths say, by contract.
    unsafe {
        guard(err, || {
            let mut batch = batch_of(batch, keyspace)?;
            batch.delete(self::key(key, key_len)?)?;
            Ok(TOYKV_OK)
        })
    }
}

/// Applies a batch in one step: all of it or nothing, also after a crash. *seqno, if not NULL,
/// becomes the place of its last entry in the order of all writes.
/// Ownership: the batch stays the caller's, with its entries.
/// Threads: any for the database, one at a time for the batch.
/// Errors: INVALID, TOO_LARGE, MISUSE, CLOSED, READ_ONLY, DISK_FULL, IO, POISONED; WOULD_STALL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_write(
    db: *mut Toykv,
    batch: *mut ToykvBatch,
    opts: *const ToykvWriteOpts,
    seqno: *mut u64,
    err: *mut ToykvError,
) -> i32 {
    // SAFETY: pointers are NULL or point to what their names say, by contract.
    unsafe {
        guard(err, || {
            let seqno = Out::optional(seqno, "seqno")?;
            seqno.set(0);
            let db = db_of(db, ptr::null())?;
            let batch = batch_of(batch, ptr::null())?;
            seqno.set(db.write_with(&batch, &write_options(opts)?)?);
            Ok(TOYKV_OK)
        })
    }
}
