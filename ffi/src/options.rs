//! `toykv_options` (C noun), and the option structs of reads and writes.

use crate::buffer::{Out, ReservedBuf, ToykvBuf, ToykvSlice, invalid, sized_struct, text};
use crate::handle::{Kind, Shared};
use crate::panic::{guard, guard_value};
use crate::snapshot::ToykvSnapshot;
use crate::status::{TOYKV_DONE, TOYKV_OK, ToykvError};
use engine::{Durability, Options, Result, WriteOptions};
use std::ffi::{CString, c_char};
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, Ordering};

/// How a database is opened. Any thread may use it.
pub struct ToykvOptions(());

/// As the options of the database say.
pub const TOYKV_DURABILITY_DEFAULT: u32 = 0;
/// Acknowledged writes survive the death of the process.
pub const TOYKV_DURABILITY_PROCESS: u32 = 1;
/// That, and power loss after at most sync_interval_ms.
pub const TOYKV_DURABILITY_INTERVAL: u32 = 2;
/// Power loss, before the call returns.
pub const TOYKV_DURABILITY_SYNC: u32 = 3;

/// Answer TOYKV_WOULD_STALL instead of waiting for background work.
pub const TOYKV_WF_NO_WAIT: u32 = 1;

/// How one write is made; NULL in its place means all zero.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ToykvWriteOpts {
    /// sizeof(toykv_write_opts).
    pub struct_size: u32,
    /// TOYKV_DURABILITY_...
    pub durability: u32,
    /// TOYKV_WF_...
    pub flags: u32,
    /// Kept; must be 0.
    pub stall_timeout_ms: u32,
}

/// How one read is made; NULL in its place means all zero.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ToykvReadOpts {
    /// sizeof(toykv_read_opts).
    pub struct_size: u32,
    /// Kept; must be 0.
    pub flags: u32,
    /// Read this state; NULL for the newest.
    pub snapshot: *const ToykvSnapshot,
}

/// From large to small.
pub const TOYKV_RF_REVERSE: u32 = 1;
/// Values come back empty and are not read.
pub const TOYKV_RF_KEYS_ONLY: u32 = 2;
/// The lower bound itself is left out.
pub const TOYKV_RF_LOWER_EXCLUSIVE: u32 = 4;
/// The upper bound itself is part of the scan.
pub const TOYKV_RF_UPPER_INCLUSIVE: u32 = 8;

/// What an iterator covers; NULL in its place means all zero: everything, from small to large.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ToykvIterOpts {
    /// sizeof(toykv_iter_opts).
    pub struct_size: u32,
    /// TOYKV_RF_...
    pub flags: u32,
    /// Read this state; NULL for the newest.
    pub snapshot: *const ToykvSnapshot,
    /// The smallest key; data NULL for no bound.
    pub lower: ToykvSlice,
    /// The key behind the largest; data NULL for no bound.
    pub upper: ToykvSlice,
    /// What all keys begin with; data NULL for any.
    pub prefix: ToykvSlice,
    /// Most rows of toykv_iter_next; 0 for no limit. A seek begins a new count.
    pub limit: u64,
}

/// All option handles. A mutex each: any thread may use them, and nobody sets options often.
static OPTIONS: Shared<Mutex<Options>> = Shared::new(Kind::Options);

/// The options behind a handle; the defaults for NULL.
pub(crate) fn options_of(handle: *const ToykvOptions) -> Result<Options> {
    if handle.is_null() {
        return Ok(Options::new());
    }
    let options = OPTIONS.get(handle.addr())?;
    let options = options.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    Ok(options.clone())
}

/// How a write is made.
///
/// # Safety
/// `opts` is NULL or points to a struct that begins with its own size.
#[inline]
pub(crate) unsafe fn write_options(opts: *const ToykvWriteOpts) -> Result<WriteOptions> {
    if opts.is_null() {
        return Ok(WriteOptions::new());
    }
    // SAFETY: the caller's promise.
    let Some(opts) = (unsafe { sized_struct("write options", opts) })? else {
        return Ok(WriteOptions::new());
    };
    if opts.flags & !TOYKV_WF_NO_WAIT != 0 {
        return Err(invalid(format!("write options: unknown flags {:#x}", opts.flags)));
    }
    if opts.stall_timeout_ms != 0 {
        return Err(invalid("write options: stall_timeout_ms is not 0"));
    }
    let write = WriteOptions::new().no_wait(opts.flags & TOYKV_WF_NO_WAIT != 0);
    Ok(match opts.durability {
        TOYKV_DURABILITY_DEFAULT => write,
        TOYKV_DURABILITY_PROCESS => write.durability(Durability::Process),
        TOYKV_DURABILITY_INTERVAL => write.durability(Durability::Interval),
        TOYKV_DURABILITY_SYNC => write.durability(Durability::Sync),
        other => return Err(invalid(format!("write options: unknown durability {other}"))),
    })
}

/// The snapshot handle that a read names; NULL for none.
///
/// # Safety
/// As [`write_options`].
#[inline]
pub(crate) unsafe fn read_snapshot(opts: *const ToykvReadOpts) -> Result<*const ToykvSnapshot> {
    if opts.is_null() {
        return Ok(ptr::null());
    }
    // SAFETY: the caller's promise.
    let Some(opts) = (unsafe { sized_struct("read options", opts) })? else {
        return Ok(ptr::null());
    };
    if opts.flags != 0 {
        return Err(invalid(format!("read options: unknown flags {:#x}", opts.flags)));
    }
    Ok(opts.snapshot)
}

/// One row of toykv_options_describe.
struct Described {
    name: CString,
    value_type: CString,
    default_value: CString,
    doc: CString,
}

/// Made once and never freed: callers keep pointers into it. No lock, so that a fork in the middle
/// cannot leave it locked; of two threads that make it at once, one drops its own.
static DESCRIBED: AtomicPtr<Vec<Described>> = AtomicPtr::new(ptr::null_mut());

fn described() -> &'static [Described] {
    let c_text = |text: &str| CString::new(text).unwrap_or_default();
    let mut list = DESCRIBED.load(Ordering::Acquire);
    if list.is_null() {
        let rows = Options::describe().iter().map(|info| Described {
            name: c_text(info.name),
            value_type: c_text(info.value_type),
            default_value: c_text(info.default_value),
            doc: c_text(info.doc),
        });
        let new = Box::into_raw(Box::new(rows.collect::<Vec<_>>()));
        let null = ptr::null_mut();
        match DESCRIBED.compare_exchange(null, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => list = new,
            Err(other) => {
                // SAFETY: made above and seen by nobody else.
                drop(unsafe { Box::from_raw(new) });
                list = other;
            }
        }
    }
    // SAFETY: not NULL, made by Box, and never freed nor changed from here on.
    unsafe { &*list }
}

/// New options, all at their defaults; NULL when no handle could be had.
/// Ownership: the caller frees them with toykv_options_free; toykv_open copies them.
/// Threads: any.
/// Errors: none but NULL.
#[unsafe(no_mangle)]
pub extern "C" fn toykv_options_new() -> *mut ToykvOptions {
    guard_value(ptr::null_mut(), || {
        Ok(ptr::without_provenance_mut(OPTIONS.insert(Mutex::new(Options::new()))?))
    })
}

/// Frees options; nothing for NULL, for freed ones and in a forked child.
/// Ownership: the handle is gone; databases opened with it keep their copy.
/// Threads: any.
/// Errors: none.
#[unsafe(no_mangle)]
pub extern "C" fn toykv_options_free(options: *mut ToykvOptions) {
    guard_value((), || OPTIONS.remove(options.addr()));
}

/// Sets the option `name` from text: "true" or "false", a number, or bytes such as "256MiB".
/// Ownership: both texts are copied.
/// Threads: any.
/// Errors: INVALID (names the option and what it accepts), MISUSE, FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_options_set(
    options: *mut ToykvOptions,
    name: *const c_char,
    value: *const c_char,
    err: *mut ToykvError,
) -> i32 {
    // SAFETY: the texts are NULL or NUL-terminated and `err` is NULL or a toykv_error, by contract.
    unsafe {
        guard(err, || {
            let options = OPTIONS.get(options.addr())?;
            let (name, value) = (text("name", name)?, text("value", value)?);
            let mut options = options.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            options.set(name, value)?;
            Ok(TOYKV_OK)
        })
    }
}

/// The value of the option `name` as NUL-terminated text that toykv_options_set takes; "auto" for
/// what the engine chooses. NULL options: the default.
/// Ownership: the caller frees *out with toykv_buf_free; out->len leaves out the NUL.
/// Threads: any.
/// Errors: INVALID, MISUSE, FORKED, NO_MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_options_get(
    options: *const ToykvOptions,
    name: *const c_char,
    out: *mut ToykvBuf,
    err: *mut ToykvError,
) -> i32 {
    // SAFETY: the text is NULL or NUL-terminated, `out` is a place for a buffer, and `err` is NULL
    // or a toykv_error, by contract.
    unsafe {
        guard(err, || {
            let out = Out::new(out, "out")?;
            out.set(ToykvBuf::NONE);
            let value = options_of(options)?.get(text("name", name)?)?;
            out.set(ReservedBuf::new()?.fill_text(value));
            Ok(TOYKV_OK)
        })
    }
}

/// Describes the option with this number, counted from 0; DONE behind the last. NULL: not wanted.
/// Ownership: the texts are the library's and stay for ever.
/// Threads: any, at any time, also in a forked child.
/// Errors: INVALID for pointers that are not aligned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_options_describe(
    index: usize,
    name: *mut *const c_char,
    value_type: *mut *const c_char,
    default_value: *mut *const c_char,
    doc: *mut *const c_char,
) -> i32 {
    // SAFETY: each pointer is NULL or a place for a pointer, by contract.
    unsafe {
        guard(ptr::null_mut(), || {
            let outs = [
                Out::optional(name, "name")?,
                Out::optional(value_type, "value_type")?,
                Out::optional(default_value, "default_value")?,
                Out::optional(doc, "doc")?,
            ];
            let Some(row) = described().get(index) else {
                outs.iter().for_each(|out| out.set(ptr::null()));
                return Ok(TOYKV_DONE);
            };
            let texts = [&row.name, &row.value_type, &row.default_value, &row.doc];
            outs.iter().zip(texts).for_each(|(out, text)| out.set(text.as_ptr()));
            Ok(TOYKV_OK)
        })
    }
}
