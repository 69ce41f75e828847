//! What ends a verb early: a message for people and an exit code for programs.
//!
//! Invariant CODES: the codes are those of the table in README.md; a test compares them.

use std::fmt;
use std::io;

use toykv::ErrorKind;

/// The result of everything here.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// How the program ends; the numbers are promised in README.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// A key that was asked for is not there.
    Absent = 1,
    /// The call has to be corrected.
    Usage = 2,
    /// Another process holds the database.
    Locked = 3,
    /// Stored bytes, or those of a dump, are not what was written.
    Corruption = 4,
    /// There is no database.
    NoDatabase = 5,
    /// The database or its directory cannot be written.
    ReadOnly = 6,
    /// The operating system reported a failure.
    Io = 7,
    /// The disk is full.
    DiskFull = 8,
    /// Writes are refused after a failed write or sync.
    Poisoned = 9,
    /// This store or this version cannot do it.
    Unsupported = 10,
    /// Busy: the same call may succeed later.
    Busy = 11,
    /// Something is there that must not be.
    Exists = 12,
    /// The server cannot be reached, or went away.
    Unreachable = 13,
    /// The server wants another password or token.
    Refused = 14,
    /// A fault of the program itself.
    Internal = 70,
    /// Interrupted by Ctrl-C.
    Cancelled = 130,
    /// Whoever read the output has left; never an exit code.
    Unread = 141,
}

/// An early end.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
}

impl Failure {
    /// An early end of a kind, with a message that names the thing at fault.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into() }
    }

    /// A call that has to be corrected.
    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, message)
    }

    /// A failure of a file that this program reads or writes.
    pub(crate) fn file(path: &std::path::Path, error: &io::Error) -> Failure {
        let failure = Failure::from(error);
        Failure::new(failure.exit, format!("{}: {error}", path.display()))
    }

    /// The same with more words in front.
    pub(crate) fn within(self, context: impl fmt::Display) -> Failure {
        Failure { message: format!("{context}: {}", self.message), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Exit {
    /// The exit of an engine's error, wherever the engine is.
    fn of(kind: ErrorKind) -> Exit {
        match kind {
            ErrorKind::InvalidArgument | ErrorKind::TooLarge | ErrorKind::Misuse => Exit::Usage,
            ErrorKind::Locked => Exit::Locked,
            ErrorKind::Corruption => Exit::Corruption,
            ErrorKind::NotFound => Exit::NoDatabase,
            ErrorKind::ReadOnly => Exit::ReadOnly,
            ErrorKind::Io => Exit::Io,
            ErrorKind::DiskFull => Exit::DiskFull,
            ErrorKind::Poisoned => Exit::Poisoned,
            ErrorKind::Unsupported | ErrorKind::UnsupportedFormat => Exit::Unsupported,
            ErrorKind::WouldStall
            | ErrorKind::Conflict
            | ErrorKind::NoMemory
            | ErrorKind::SnapshotExpired => Exit::Busy,
            ErrorKind::Exists => Exit::Exists,
            ErrorKind::Cancelled => Exit::Cancelled,
            // The server ends.
            ErrorKind::Closed => Exit::Unreachable,
            _ => Exit::Internal,
        }
    }

    /// The same from the name of the kind, as servers send it.
    pub(crate) fn of_kind_named(name: &str) -> Option<Exit> {
        SENT.iter().find(|kind| format!("{kind:?}") == name).map(|kind| Exit::of(*kind))
    }
}

/// Kinds that calls of a server may answer.
const SENT: [ErrorKind; 15] = [
    ErrorKind::InvalidArgument,
    ErrorKind::TooLarge,
    ErrorKind::Misuse,
    ErrorKind::Closed,
    ErrorKind::ReadOnly,
    ErrorKind::Io,
    ErrorKind::DiskFull,
    ErrorKind::Corruption,
    ErrorKind::Poisoned,
    ErrorKind::Cancelled,
    ErrorKind::Unsupported,
    ErrorKind::WouldStall,
    ErrorKind::Conflict,
    ErrorKind::NoMemory,
    ErrorKind::SnapshotExpired,
];

impl From<toykv::Error> for Failure {
    fn from(error: toykv::Error) -> Failure {
        Failure::new(Exit::of(error.kind()), error.to_string())
    }
}

impl From<&io::Error> for Failure {
    fn from(error: &io::Error) -> Failure {
        let exit = match error.kind() {
            io::ErrorKind::BrokenPipe => Exit::Unread,
            io::ErrorKind::NotFound | io::ErrorKind::IsADirectory => Exit::Usage,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Exit::DiskFull,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Exit::ReadOnly,
            io::ErrorKind::AlreadyExists => Exit::Exists,
            _ => Exit::Io,
        };
        Failure::new(exit, error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::from(&error)
    }
}
