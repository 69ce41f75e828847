//! `toykv_snapshot` (C noun): a frozen state of a database.

use crate::buffer::Out;
use crate::db::{Toykv, db_of};
use crate::handle::{Kind, Shared, SharedGuard};
use crate::panic::{guard, guard_value};
use crate::status::{TOYKV_OK, ToykvError};
use engine::{Error, ErrorKind, Result, Snapshot};
use std::ptr;

/// A frozen state of a database. Any thread may use it.
pub struct ToykvSnapshot(());

/// A snapshot and the handle of its database.
pub(crate) struct Frozen {
    pub(crate) snapshot: Snapshot,
    db: usize,
}

/// All snapshots.
static SNAPSHOTS: Shared<Frozen> = Shared::new(Kind::Snapshot);

/// The snapshot behind a handle; Misuse unless it is of this database.
pub(crate) fn frozen_of(
    snapshot: *const ToykvSnapshot,
    db: *const Toykv,
) -> Result<SharedGuard<'static, Frozen>> {
    let frozen = SNAPSHOTS.get(snapshot.addr())?;
    if frozen.db != db.addr() {
        return Err(Error::new(ErrorKind::Misuse, "the snapshot is of another database"));
    }
    Ok(frozen)
}

/// Freezes the newest state for reads that name the snapshot; later writes do not show in it.
/// Ownership: the caller frees *out with toykv_snapshot_free; it keeps disk space from being freed.
/// Threads: any.
/// Errors: INVALID, MISUSE, CLOSED, FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_snapshot_new(
    db: *mut Toykv,
    out: *mut *mut ToykvSnapshot,
    err: *mut ToykvError,
) -> i32 {
    // SAFETY: `out` is a place for a pointer and `err` a toykv_error or NULL, by contract.
    unsafe {
        guard(err, || {
            let out = Out::new(out, "out")?;
            out.set(ptr::null_mut());
            let snapshot = db_of(db, ptr::null())?.snapshot()?;
            let handle = SNAPSHOTS.insert(Frozen { snapshot, db: db.addr() })?;
            out.set(ptr::without_provenance_mut(handle));
            Ok(TOYKV_OK)
        })
    }
}

/// Frees a snapshot; nothing for NULL, for a freed one and in a forked child.
/// Ownership: the handle is gone; iterators over it stay and see what they saw.
/// Threads: any, also while others read through it.
/// Errors: none.
#[unsafe(no_mangle)]
pub extern "C" fn toykv_snapshot_free(snapshot: *mut ToykvSnapshot) {
    guard_value((), || SNAPSHOTS.remove(snapshot.addr()));
}
