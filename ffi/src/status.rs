//! Status numbers and `toykv_error` (mechanism): the one table that maps error kinds to numbers,
//! texts and flags.
//!
//! Invariant: a number, once released, keeps its meaning for ever.

use engine::{Error, ErrorKind};
use std::ffi::{CStr, c_char};
use std::path::Path;

/// Version of the ABI that this header describes; compare with toykv_abi_version().
pub const TOYKV_ABI_VERSION: u32 = 0;

/// Done.
pub const TOYKV_OK: i32 = 0;
/// There is no such key.
pub const TOYKV_NOT_FOUND: i32 = 1;
/// The iterator, or the list, is at its end.
pub const TOYKV_DONE: i32 = 2;
/// Kept for conditional writes.
pub const TOYKV_CONDITION_FAILED: i32 = 3;
/// The value does not fit; its length is reported and nothing was copied.
pub const TOYKV_SHORT_BUFFER: i32 = 4;
/// Kept for calls with a time limit.
pub const TOYKV_TIMEOUT: i32 = 5;
/// The write would have waited for background work and was told not to; nothing was written.
pub const TOYKV_WOULD_STALL: i32 = 6;
/// An argument is not acceptable: correct the call.
pub const TOYKV_ERR_INVALID: i32 = -1;
/// A handle is NULL, freed, of another kind or of another database, or a call is out of order.
pub const TOYKV_ERR_MISUSE: i32 = -2;
/// The database was closed.
pub const TOYKV_ERR_CLOSED: i32 = -3;
/// The handle was made before a fork: open the database in this process.
pub const TOYKV_ERR_FORKED: i32 = -4;
/// Another opener holds the directory.
pub const TOYKV_ERR_LOCKED: i32 = -5;
/// The database was opened for reading, or its directory cannot be written.
pub const TOYKV_ERR_READ_ONLY: i32 = -6;
/// error_if_exists was set and a database is there.
pub const TOYKV_ERR_EXISTS: i32 = -7;
/// No database at the path, and create_if_missing was not set.
pub const TOYKV_ERR_NO_SUCH: i32 = -8;
/// A key, value, batch or list is above its limit: correct the call.
pub const TOYKV_ERR_TOO_LARGE: i32 = -9;
/// Memory or handles could not be had.
pub const TOYKV_ERR_NO_MEMORY: i32 = -10;
/// The operating system reported a failure; os_errno has its number.
pub const TOYKV_ERR_IO: i32 = -11;
/// The disk is full: make room; writes go on once there is some.
pub const TOYKV_ERR_DISK_FULL: i32 = -12;
/// Stored bytes are not what was written; file_number and file_offset say where.
pub const TOYKV_ERR_CORRUPTION: i32 = -13;
/// The files have a format that this version cannot read.
pub const TOYKV_ERR_FORMAT: i32 = -14;
/// Kept for transactions: another one touched the same keys.
pub const TOYKV_ERR_CONFLICT: i32 = -15;
/// An earlier append or sync failed: writes are refused until the database is opened again.
pub const TOYKV_ERR_POISONED: i32 = -16;
/// A callback asked to stop.
pub const TOYKV_ERR_CANCELLED: i32 = -17;
/// The system or this build cannot do what was asked for.
pub const TOYKV_ERR_UNSUPPORTED: i32 = -18;
/// A fault in the library was caught; close the database and report it.
pub const TOYKV_ERR_PANIC: i32 = -19;
/// The snapshot is older than the option snapshot_max_age_ms: make a new one.
pub const TOYKV_ERR_SNAPSHOT_EXPIRED: i32 = -20;

/// The same call may succeed later.
pub const TOYKV_EF_RETRYABLE: u32 = 1;
/// The database has to be opened again before it takes writes.
pub const TOYKV_EF_FATAL: u32 = 2;
/// Stored data is damaged.
pub const TOYKV_EF_DATA_LOSS: u32 = 4;
/// The program around the library has to be corrected.
pub const TOYKV_EF_CALLER_BUG: u32 = 8;

/// Bytes of toykv_error.message, the closing NUL among them.
pub const TOYKV_MESSAGE_SIZE: usize = 216;

/// What an error was about. The caller owns it, and sets struct_size to sizeof(toykv_error); every
/// call takes NULL instead. Filled in when a call answers a negative status or TOYKV_WOULD_STALL,
/// left as it is otherwise.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ToykvError {
    /// sizeof(toykv_error), set by the caller.
    pub struct_size: u32,
    /// The status that the call answered.
    pub code: i32,
    /// The operating system's error number; 0 when there is none.
    pub os_errno: i32,
    /// TOYKV_EF_...
    pub flags: u32,
    /// The number in the name of the file at fault; UINT64_MAX when there is none.
    pub file_number: u64,
    /// The byte offset in that file; UINT64_MAX when there is none.
    pub file_offset: u64,
    /// What was at fault, with its file, in UTF-8, NUL-terminated, cut to the size.
    pub message: [c_char; TOYKV_MESSAGE_SIZE],
}

const _: () = assert!(size_of::<ToykvError>() == 248);

struct Row {
    status: i32,
    kind: Option<ErrorKind>,
    flags: u32,
    text: &'static CStr,
}

const fn row(status: i32, kind: Option<ErrorKind>, flags: u32, text: &'static CStr) -> Row {
    Row { status, kind, flags, text }
}

const RETRYABLE: u32 = TOYKV_EF_RETRYABLE;
const CALLER_BUG: u32 = TOYKV_EF_CALLER_BUG;

/// Every status, and the error kind that it stands for.
const TABLE: &[Row] = &[
    row(TOYKV_OK, None, 0, c"done"),
    row(TOYKV_NOT_FOUND, None, 0, c"there is no such key"),
    row(TOYKV_DONE, None, 0, c"at the end"),
    row(TOYKV_CONDITION_FAILED, None, 0, c"the condition does not hold"),
    row(TOYKV_SHORT_BUFFER, None, 0, c"the value is longer than the buffer"),
    row(TOYKV_TIMEOUT, None, RETRYABLE, c"time is up"),
    row(
        TOYKV_WOULD_STALL,
        Some(ErrorKind::WouldStall),
        RETRYABLE,
        c"the write would have to wait for background work",
    ),
    row(
        TOYKV_ERR_INVALID,
        Some(ErrorKind::InvalidArgument),
        CALLER_BUG,
        c"an argument is not acceptable",
    ),
    row(
        TOYKV_ERR_MISUSE,
        Some(ErrorKind::Misuse),
        CALLER_BUG,
        c"a handle is freed, of another kind or NULL, or the call is out of order",
    ),
    row(TOYKV_ERR_CLOSED, Some(ErrorKind::Closed), 0, c"the database was closed"),
    row(TOYKV_ERR_FORKED, Some(ErrorKind::Forked), CALLER_BUG, c"the handle is from before a fork"),
    row(TOYKV_ERR_LOCKED, Some(ErrorKind::Locked), RETRYABLE, c"another opener holds the database"),
    row(TOYKV_ERR_READ_ONLY, Some(ErrorKind::ReadOnly), 0, c"the database cannot be written"),
    row(TOYKV_ERR_EXISTS, Some(ErrorKind::Exists), 0, c"there is a database already"),
    row(TOYKV_ERR_NO_SUCH, Some(ErrorKind::NotFound), 0, c"there is no database"),
    row(
        TOYKV_ERR_TOO_LARGE,
        Some(ErrorKind::TooLarge),
        CALLER_BUG,
        c"a key, value, batch or list is above its limit",
    ),
    row(
        TOYKV_ERR_NO_MEMORY,
        Some(ErrorKind::NoMemory),
        RETRYABLE,
        c"memory or handles could not be had",
    ),
    row(TOYKV_ERR_IO, Some(ErrorKind::Io), 0, c"the operating system reported a failure"),
    row(TOYKV_ERR_DISK_FULL, Some(ErrorKind::DiskFull), RETRYABLE, c"the disk is full"),
    row(
        TOYKV_ERR_CORRUPTION,
        Some(ErrorKind::Corruption),
        TOYKV_EF_DATA_LOSS,
        c"stored data is damaged",
    ),
    row(
        TOYKV_ERR_FORMAT,
        Some(ErrorKind::UnsupportedFormat),
        0,
        c"the files have a format that this version cannot read",
    ),
    row(
        TOYKV_ERR_CONFLICT,
        Some(ErrorKind::Conflict),
        RETRYABLE,
        c"another transaction touched the same keys",
    ),
    row(
        TOYKV_ERR_POISONED,
        Some(ErrorKind::Poisoned),
        TOYKV_EF_FATAL,
        c"writes are refused until the database is opened again",
    ),
    row(
        TOYKV_ERR_SNAPSHOT_EXPIRED,
        Some(ErrorKind::SnapshotExpired),
        0,
        c"the snapshot is too old to be read",
    ),
    row(TOYKV_ERR_CANCELLED, Some(ErrorKind::Cancelled), 0, c"a callback asked to stop"),
    row(
        TOYKV_ERR_UNSUPPORTED,
        Some(ErrorKind::Unsupported),
        0,
        c"the system or this build cannot do it",
    ),
    row(TOYKV_ERR_PANIC, None, TOYKV_EF_FATAL, c"a fault in the library was caught"),
];

/// The row of a kind. A kind that the table lacks, which a test rules out, is a fault in the
/// library and says so.
fn row_of(kind: ErrorKind) -> &'static Row {
    let found = TABLE.iter().find(|row| row.kind == Some(kind));
    found.unwrap_or(&TABLE[TABLE.len() - 1])
}

/// Describes `error` to the caller and answers its status.
///
/// # Safety
/// `err` is NULL or points to a `toykv_error`'s worth of memory that this thread may write.
#[cold]
pub(crate) unsafe fn report(err: *mut ToykvError, error: &Error) -> i32 {
    let row = row_of(error.kind());
    let mut filled = ToykvError::blank();
    filled.code = row.status;
    filled.os_errno = error.os_error().unwrap_or(0);
    filled.flags = row.flags;
    filled.file_number = error.path().and_then(file_number).unwrap_or(u64::MAX);
    filled.file_offset = error.offset().unwrap_or(u64::MAX);
    filled.set_message(&describe(error));
    // SAFETY: the caller's promise.
    unsafe { store(err, filled) };
    row.status
}

/// Describes a panic to the caller and answers its status.
///
/// # Safety
/// As [`report`].
#[cold]
pub(crate) unsafe fn report_panic(err: *mut ToykvError, message: &str) -> i32 {
    let mut filled = ToykvError::blank();
    filled.code = TOYKV_ERR_PANIC;
    filled.flags = TOYKV_EF_FATAL;
    filled.set_message(&format!("panic: {message}"));
    // SAFETY: the caller's promise.
    unsafe { store(err, filled) };
    TOYKV_ERR_PANIC
}

/// Writes all but `struct_size`, which is the caller's. Every version's struct has at least these
/// bytes, so nothing is read of memory that the caller may not have set.
///
/// # Safety
/// As [`report`].
unsafe fn store(err: *mut ToykvError, filled: ToykvError) {
    if err.is_null() {
        return;
    }
    const SKIPPED: usize = size_of::<u32>();
    let source = (&raw const filled).cast::<u8>();
    // SAFETY: the caller's promise; bytes have no alignment, and `filled` is on our stack.
    unsafe {
        let (from, to) = (source.add(SKIPPED), err.cast::<u8>().add(SKIPPED));
        std::ptr::copy_nonoverlapping(from, to, size_of::<ToykvError>() - SKIPPED);
    }
}

impl ToykvError {
    /// No error.
    pub(crate) fn blank() -> ToykvError {
        ToykvError {
            struct_size: size_of::<ToykvError>() as u32,
            code: TOYKV_OK,
            os_errno: 0,
            flags: 0,
            file_number: u64::MAX,
            file_offset: u64::MAX,
            message: [0; TOYKV_MESSAGE_SIZE],
        }
    }

    /// Sets the message, cut at a character that fits.
    fn set_message(&mut self, text: &str) {
        let text = &text[..text.floor_char_boundary(TOYKV_MESSAGE_SIZE - 1)];
        for (place, byte) in self.message.iter_mut().zip(text.bytes()) {
            *place = if byte == 0 { b'?' } else { byte } as c_char;
        }
    }

    /// The message.
    #[cfg(test)]
    pub(crate) fn text(&self) -> String {
        let bytes: Vec<u8> = self.message.iter().map(|byte| *byte as u8).collect();
        CStr::from_bytes_until_nul(&bytes).unwrap().to_str().unwrap().to_string()
    }
}

/// The message with file and offset; the directory is left out where all would not fit.
fn describe(error: &Error) -> String {
    let whole = error.to_string();
    if whole.len() < TOYKV_MESSAGE_SIZE {
        return whole;
    }
    let name = error.path().and_then(Path::file_name).map(|name| name.to_string_lossy());
    match (name, error.offset()) {
        (Some(name), Some(offset)) => format!("{name} at offset {offset}: {}", error.message()),
        (Some(name), None) => format!("{name}: {}", error.message()),
        (None, _) => error.message().to_string(),
    }
}

/// The number in a file's name: `000012.vlog`, `000032.table`, `MANIFEST-000007`.
fn file_number(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let digits = match name.strip_prefix("MANIFEST-") {
        Some(digits) => digits,
        None => name.strip_suffix(".vlog").or_else(|| name.strip_suffix(".table"))?,
    };
    let number = digits.bytes().all(|byte| byte.is_ascii_digit());
    if number { digits.parse().ok() } else { None }
}

/// Version of the ABI of this library: TOYKV_ABI_VERSION of the header that it was built with.
/// Ownership: none.
/// Threads: any, at any time, also in a forked child.
/// Errors: none.
#[unsafe(no_mangle)]
pub extern "C" fn toykv_abi_version() -> u32 {
    TOYKV_ABI_VERSION
}

/// Version of the library as text, such as "0.1.0".
/// Ownership: the text is the library's and stays for ever.
/// Threads: any, at any time, also in a forked child.
/// Errors: none.
#[unsafe(no_mangle)]
pub extern "C" fn toykv_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// A status in words; for a number that is no status, a text that says so. Never NULL.
/// Ownership: the text is the library's and stays for ever.
/// Threads: any, at any time, also in a forked child.
/// Errors: none.
#[unsafe(no_mangle)]
pub extern "C" fn toykv_strerror(code: i32) -> *const c_char {
    let found = TABLE.iter().find(|row| row.status == code);
    found.map_or(c"not a status of this version", |row| row.text).as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// The variants as core's source lists them.
    fn kinds() -> Vec<String> {
        let source = include_str!("../../core/src/error.rs");
        let (_, body) = source.split_once("pub enum ErrorKind {").unwrap();
        let (body, _) = body.split_once("\n}").unwrap();
        let lines = body.lines().map(str::trim).filter(|line| !line.starts_with("//"));
        lines.filter_map(|line| line.strip_suffix(',')).map(str::to_string).collect()
    }

    #[test]
    fn every_kind_has_exactly_one_status_and_no_status_two_meanings() {
        let kinds = kinds();
        assert!(kinds.len() >= 19 && kinds.contains(&"Poisoned".to_string()), "{kinds:?}");
        let named: Vec<String> =
            TABLE.iter().filter_map(|row| row.kind).map(|kind| format!("{kind:?}")).collect();
        let mut sorted = (kinds.clone(), named.clone());
        sorted.0.sort();
        sorted.1.sort();
        assert_eq!(sorted.0, sorted.1, "kinds of the engine, kinds in the table");
        let numbers: HashSet<i32> = TABLE.iter().map(|row| row.status).collect();
        assert_eq!(numbers.len(), TABLE.len());
        assert_eq!((numbers.iter().min(), numbers.iter().max()), (Some(&-20), Some(&6)));
        assert_eq!(numbers.len(), 27, "no gaps from -20 to 6");
    }

    #[test]
    fn errors_are_described_with_what_is_known_of_them() {
        let mut filled = ToykvError::blank();
        filled.struct_size = 7;
        let error = Error::new(ErrorKind::Locked, "held by process 12\0");
        // SAFETY: `filled` is ours.
        let status = unsafe { report(&raw mut filled, &error) };
        assert_eq!((status, filled.code), (TOYKV_ERR_LOCKED, TOYKV_ERR_LOCKED));
        assert_eq!((filled.flags, filled.os_errno, filled.struct_size), (RETRYABLE, 0, 7));
        assert_eq!((filled.file_number, filled.file_offset), (u64::MAX, u64::MAX));
        assert_eq!(filled.text(), "held by process 12?");
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let mut filled = ToykvError::blank();
        filled.set_message(&format!("{}ä", "x".repeat(214)));
        assert_eq!(filled.text(), "x".repeat(214));
        filled.set_message(&"x".repeat(10_000));
        assert_eq!(filled.text().len(), TOYKV_MESSAGE_SIZE - 1);
    }

    #[test]
    fn numbers_of_files() {
        let number = |name: &str| file_number(Path::new(name));
        assert_eq!(number("/a/000012.vlog"), Some(12));
        assert_eq!(number("000032.table"), Some(32));
        assert_eq!(number("/db/MANIFEST-000007"), Some(7));
        assert_eq!(number("/db/MANIFEST-"), None);
        assert_eq!(number("/db/+12.table"), None);
        assert_eq!(number("/db/LOCK"), None);
        assert_eq!(number("/db/12"), None);
        assert_eq!(number("/"), None);
    }
}
