//! The one error type (layer L0): a coarse kind that says what to do, and a message that says what
//! was at fault.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The result of every fallible call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in the words that decide what a caller does next.
///
/// The C ABI's status numbers and the Python exceptions map one to one onto these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument is not acceptable: correct the call.
    InvalidArgument,
    /// A key, value or batch exceeds a limit: correct the call.
    TooLarge,
    /// A call in the wrong order or from the wrong place: correct the program.
    Misuse,
    /// The database was closed: open it again.
    Closed,
    /// The handle was made before a fork: open the database in this process.
    Forked,
    /// Another opener holds the directory: wait for it or stop it.
    Locked,
    /// A write to a database, or a directory, that is opened for reading or cannot be written.
    ReadOnly,
    /// `error_if_exists` was set and a database is there.
    Exists,
    /// No database at the path and `create_if_missing` was not set.
    NotFound,
    /// The operating system reported a failure; [`Error::os_error`] has its number.
    Io,
    /// The disk is full: make room; writes go on once there is some.
    DiskFull,
    /// Stored bytes are not what was written; [`Error::path`] and [`Error::offset`] say where.
    Corruption,
    /// The files have a format that this version cannot read: use a newer version.
    UnsupportedFormat,
    /// An earlier append or sync failed: writes are refused until the database is opened again.
    Poisoned,
    /// A callback asked to stop.
    Cancelled,
    /// The system or this build cannot do what was asked for.
    Unsupported,
    /// The call would have waited for background work and was told not to.
    WouldStall,
    /// Two transactions touched the same keys: try again.
    Conflict,
    /// Memory could not be had.
    NoMemory,
    /// The snapshot is older than `snapshot_max_age_ms`: make a new one.
    SnapshotExpired,
}

/// An error: a kind, a message that names the thing at fault, and, where they are known, the file,
/// the offset in it and the operating system's error number.
///
/// Cheap to clone: every member of a failed commit group receives the same one.
#[derive(Clone)]
pub struct Error {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    path: Option<PathBuf>,
    offset: Option<u64>,
    os_error: Option<i32>,
}

impl Error {
    /// A new error of a kind with a message that names the thing at fault.
    #[cold]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        let inner =
            Inner { kind, message: message.into(), path: None, offset: None, os_error: None };
        Error { inner: Arc::new(inner) }
    }

    /// Damage found in a file at a byte offset.
    #[cold]
    pub(crate) fn corruption(path: &Path, offset: u64, what: impl Into<String>) -> Error {
        Error {
            inner: Arc::new(Inner {
                kind: ErrorKind::Corruption,
                message: what.into(),
                path: Some(path.to_path_buf()),
                offset: Some(offset),
                os_error: None,
            }),
        }
    }

    /// A failed system call: `action` is a verb in the infinitive such as "open".
    #[cold]
    pub(crate) fn io(action: &str, path: &Path, error: &io::Error) -> Error {
        let os_error = error.raw_os_error();
        let kind = match os_error {
            Some(libc::ENOSPC | libc::EDQUOT) => ErrorKind::DiskFull,
            Some(libc::EROFS | libc::EACCES | libc::EPERM) => ErrorKind::ReadOnly,
            Some(libc::ENOMEM) => ErrorKind::NoMemory,
            _ => ErrorKind::Io,
        };
        Error {
            inner: Arc::new(Inner {
                kind,
                message: format!("cannot {action}: {error}"),
                path: Some(path.to_path_buf()),
                offset: None,
                os_error,
            }),
        }
    }

    /// The same error with the file at fault and the offset in it, unless it names a file.
    #[cold]
    pub(crate) fn in_file(self, path: &Path, offset: u64) -> Error {
        if self.inner.path.is_some() {
            return self;
        }
        let (path, offset) = (Some(path.to_path_buf()), Some(offset));
        Error { inner: Arc::new(Inner { path, offset, ..(*self.inner).clone() }) }
    }

    /// The same error as another kind, where the caller knows better what the failure means.
    #[cold]
    pub(crate) fn with_kind(&self, kind: ErrorKind) -> Error {
        Error { inner: Arc::new(Inner { kind, ..(*self.inner).clone() }) }
    }

    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// The message alone, without file and offset.
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// The file or directory at fault, where one is known.
    pub fn path(&self) -> Option<&Path> {
        self.inner.path.as_deref()
    }

    /// The byte offset in [`Error::path`], where one is known.
    pub fn offset(&self) -> Option<u64> {
        self.inner.offset
    }

    /// The operating system's error number, where a system call failed.
    pub fn os_error(&self) -> Option<i32> {
        self.inner.os_error
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.inner;
        if let Some(path) = &inner.path {
            write!(f, "{}", path.display())?;
            if let Some(offset) = inner.offset {
                write!(f, " at offset {offset}")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&inner.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.inner.kind)
    }
}

impl std::error::Error for Error {}
