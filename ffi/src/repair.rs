//! `toykv` (C noun), continued: damage, finding it and saving what it has left.

use crate::buffer::{Out, ToykvSlice, invalid, path};
use crate::db::{Toykv, db_of};
use crate::options::{ToykvOptions, options_of};
use crate::panic::guard;
use crate::status::{TOYKV_OK, ToykvError};
use engine::{DamageReport, Db, Finding, Progress, Result};
use std::ffi::{CString, c_char, c_void};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::ptr;

/// One place of damage.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ToykvFinding {
    /// The file, NUL-terminated.
    pub path: *const c_char,
    /// What is wrong, in words, NUL-terminated.
    pub what: *const c_char,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// No key before this one is concerned; data NULL when that is not known.
    pub first_key: ToykvSlice,
    /// No key behind this one is; data NULL when that is not known.
    pub last_key: ToykvSlice,
    /// How many records are concerned, old versions and deletes counted; UINT64_MAX when that is
    /// not known.
    pub records: u64,
}

/// What a search for damage, or a salvage, has done.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ToykvReport {
    /// Places of damage; 0 when nothing is wrong.
    pub findings: u64,
    /// How many of those were only counted: at most 10 000 are told one by one.
    pub omitted_findings: u64,
    /// Files that were looked at.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Of verify and scrub: intact records, old versions and deletes counted. Of salvage: keys
    /// that the new database has.
    pub records: u64,
}

/// Told of damage, one place a call, with the caller's `arg`, on the thread of the caller, when the
/// search is over. The finding and all that it points to stay until it returns. It may use
/// the database, and must not throw or jump out.
pub type ToykvOnFinding =
    Option<unsafe extern "C" fn(arg: *mut c_void, finding: *const ToykvFinding)>;

/// Told now and then how many bytes are done, and how many there are, estimated, with the caller's
/// `arg`, on the thread of the caller and without any lock. Another answer than 0 cancels the
/// call. It may use the database, but not close it, and must not throw or jump out.
pub type ToykvOnProgress =
    Option<unsafe extern "C" fn(arg: *mut c_void, done_bytes: u64, total_bytes: u64) -> i32>;

/// Searches the closed database in the directory `source` for damage: reads all of it, compares
/// every checksum, and what files say of each other. Changes nothing. What any read would refuse
/// is found, and where the manifest is damaged, that only. The answer is OK, damage or not:
/// *report counts it, `on_finding` is told of it. NULL for what is not wanted. Cost: all bytes are
/// read once, every key is looked up three times; some MiB of memory.
/// Ownership: the finding is the library's; nothing is kept.
/// Threads: any.
/// Errors: INVALID, NO_SUCH, LOCKED while it is open for writing, CANCELLED, IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_verify(
    source: *const c_char,
    on_finding: ToykvOnFinding,
    on_progress: ToykvOnProgress,
    arg: *mut c_void,
    report: *mut ToykvReport,
    err: *mut ToykvError,
) -> i32 {
    // SAFETY: pointers are NULL or point to what their names say, by contract.
    unsafe {
        guard(err, || {
            search(on_finding, arg, report, || {
                Db::verify(path(source)?, &mut told(on_progress, arg))
            })
        })
    }
}

/// Searches an open database for damage while others use it, as toykv_verify does, but for the
/// count of its keys. Reads at most `bytes_per_second`, 0 for no limit, on the caller's thread.
/// Ownership: the finding is the library's; nothing is kept.
/// Threads: any.
/// Errors: INVALID, MISUSE, CLOSED, also when it is closed meanwhile, CANCELLED, IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_scrub(
    db: *mut Toykv,
    bytes_per_second: u64,
    on_finding: ToykvOnFinding,
    on_progress: ToykvOnProgress,
    arg: *mut c_void,
    report: *mut ToykvReport,
    err: *mut ToykvError,
) -> i32 {
    // SAFETY: pointers are NULL or point to what their names say, by contract.
    unsafe {
        guard(err, || {
            search(on_finding, arg, report, || {
                let db = db_of(db, ptr::null())?;
                db.scrub(bytes_per_second, &mut told(on_progress, arg))
            })
        })
    }
}

/// Writes what can be read of the damaged database in `source`, which is only read, into a new one
/// in the directory `target`, opened with `options` (NULL for the defaults) and closed again. Of
/// every key the newest version that can be read is saved. What was lost is told as by
/// toykv_verify: where a finding names keys, those may be missing or have older values. Cost: as
/// storing all keys; what was not flushed is held in memory.
/// Ownership: the finding is the library's; nothing is kept.
/// Threads: any.
/// Errors: INVALID, NO_SUCH, LOCKED, EXISTS, FORMAT, and, when the new database has a part of what
/// can be read, CANCELLED, IO, DISK_FULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_salvage(
    source: *const c_char,
    target: *const c_char,
    options: *const ToykvOptions,
    on_finding: ToykvOnFinding,
    on_progress: ToykvOnProgress,
    arg: *mut c_void,
    report: *mut ToykvReport,
    err: *mut ToykvError,
) -> i32 {
    // SAFETY: pointers are NULL or point to what their names say, by contract.
    unsafe {
        guard(err, || {
            search(on_finding, arg, report, || {
                let (source, target) = (path(source)?, path(target)?);
                let options = options_of(options)?;
                Db::salvage(source, target, &options, &mut told(on_progress, arg))
            })
        })
    }
}

/// Runs `call` and tells the caller what it has found.
///
/// # Safety
/// `report` is NULL or a place for a report; `on_finding` takes `arg`.
unsafe fn search(
    on_finding: ToykvOnFinding,
    arg: *mut c_void,
    report: *mut ToykvReport,
    call: impl FnOnce() -> Result<DamageReport>,
) -> Result<i32> {
    // SAFETY: the caller's promise.
    let out = unsafe { Out::optional(report, "report")? };
    out.set(ToykvReport { findings: 0, omitted_findings: 0, files: 0, bytes: 0, records: 0 });
    let found = call()?;
    if let Some(on_finding) = on_finding {
        for finding in &found.findings {
            // SAFETY: the caller's promise.
            with_finding(finding, |finding| unsafe { on_finding(arg, finding) })?;
        }
    }
    let DamageReport { omitted_findings, files, bytes, records, .. } = found;
    let findings = found.findings.len() as u64 + omitted_findings;
    out.set(ToykvReport { findings, omitted_findings, files, bytes, records });
    Ok(TOYKV_OK)
}

/// Shows a finding as C has it.
fn with_finding(finding: &Finding, show: impl FnOnce(&ToykvFinding)) -> Result<()> {
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| invalid("a text with a NUL in it"));
    let path = text(finding.path.as_os_str().as_bytes())?;
    let what = text(finding.what.replace('\0', "?").as_bytes())?;
    let key = |key: &Option<Vec<u8>>| key.as_deref().map_or(ToykvSlice::EMPTY, ToykvSlice::of);
    show(&ToykvFinding {
        path: path.as_ptr(),
        what: what.as_ptr(),
        offset: finding.offset,
        first_key: key(&finding.first_key),
        last_key: key(&finding.last_key),
        records: finding.records.unwrap_or(u64::MAX),
    });
    Ok(())
}

/// A callback of the caller as the engine calls it.
fn told(on_progress: ToykvOnProgress, arg: *mut c_void) -> impl FnMut(Progress) -> ControlFlow<()> {
    move |now| {
        let Some(on_progress) = on_progress else { return ControlFlow::Continue(()) };
        // SAFETY: the caller promised a function of this type that takes this argument.
        match unsafe { on_progress(arg, now.done_bytes, now.total_bytes) } {
            0 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    }
}
