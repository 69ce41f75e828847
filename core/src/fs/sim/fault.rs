//! Operations of the simulated disk, and the rules that make them fail.

use std::fmt;
use std::path::Path;

/// The calls that a disk serves, each counted as one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OpKind {
    /// Asks what a path names.
    Inspect,
    /// Creates a directory.
    CreateDir,
    /// Lists a directory.
    ListDir,
    /// Creates a file.
    Create,
    /// Opens a file.
    Open,
    /// Renames a file.
    Rename,
    /// Removes a file.
    RemoveFile,
    /// Removes a directory.
    RemoveDir,
    /// Makes the names in a directory durable.
    SyncDir,
    /// Takes a lock.
    Lock,
    /// Asks for a file's size.
    Size,
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Allocates blocks.
    Allocate,
    /// Makes a file's bytes and size durable.
    Sync,
    /// Maps a file for reading.
    Map,
    /// Maps a part of a file for writing.
    MapWindow,
}

impl OpKind {
    /// Whether the operation can change what is on the disk after power loss.
    pub fn changes(self) -> bool {
        match self {
            OpKind::Inspect
            | OpKind::ListDir
            | OpKind::Open
            | OpKind::Size
            | OpKind::Read
            | OpKind::Map
            | OpKind::MapWindow => false,
            OpKind::CreateDir
            | OpKind::Create
            | OpKind::Rename
            | OpKind::RemoveFile
            | OpKind::RemoveDir
            | OpKind::SyncDir
            | OpKind::Lock
            | OpKind::Write
            | OpKind::Allocate
            | OpKind::Sync => true,
        }
    }

    /// The verb in messages, the same as for real files.
    pub(super) fn verb(self) -> &'static str {
        match self {
            OpKind::Inspect | OpKind::Size => "inspect",
            OpKind::CreateDir => "create the directory",
            OpKind::ListDir => "list",
            OpKind::Create => "create",
            OpKind::Open => "open",
            OpKind::Rename => "rename",
            OpKind::RemoveFile => "remove",
            OpKind::RemoveDir => "remove the directory",
            OpKind::SyncDir => "sync the directory",
            OpKind::Lock => "lock",
            OpKind::Read => "read",
            OpKind::Write => "write",
            OpKind::Allocate => "allocate",
            OpKind::Sync => "sync",
            OpKind::Map => "map",
            OpKind::MapWindow => "map for writing",
        }
    }
}

/// One operation, as rules and the trace see it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Operation<'a> {
    /// How many operations were before it.
    pub index: u64,
    /// What it is.
    pub kind: OpKind,
    /// The path it works on; of a rename, the old name.
    pub path: &'a Path,
    /// The new name, of a rename.
    pub to: Option<&'a Path>,
    /// Where in the file it begins, for those that have a place.
    pub offset: u64,
    /// How many bytes it concerns, for those that have a length.
    pub len: u64,
}

impl fmt::Display for Operation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {}", self.index, self.kind, self.path.display())?;
        if let Some(to) = self.to {
            write!(f, " to {}", to.display())?;
        }
        if self.len > 0 { write!(f, " {}+{}", self.offset, self.len) } else { Ok(()) }
    }
}

/// How much of a failing operation happens all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Effect {
    /// Nothing. After a failed sync the pages that it did not write count as clean: they can be
    /// read, but no later sync writes them unless they change again. Linux does so.
    #[default]
    Nothing,
    /// Half: of a write its first half, of a sync every other page; the rest of a sync is as with
    /// [`Effect::Nothing`]. Other operations: nothing.
    Half,
    /// All of it: only the report is wrong. A lock is not taken.
    Done,
    /// A sync puts the durable bytes back in place of what it could not write; other operations:
    /// nothing.
    Reverted,
    /// Nothing, and of a write or a sync, also of a directory, the caller hears that all is well:
    /// a planted bug, for tests that must notice it. Other operations fail.
    Lie,
}

/// How often a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Times {
    /// The first operation that it fits.
    Once,
    /// Every operation that it fits.
    Forever,
}

/// A rule that makes operations fail.
pub struct Fault {
    from: u64,
    kind: Option<OpKind>,
    predicate: Predicate,
    errno: i32,
    effect: Effect,
    times: Times,
    spent: bool,
}

type Predicate = Box<dyn FnMut(&Operation<'_>) -> bool + Send>;

impl Fault {
    /// Fails the operation with this index, once, with EIO and without effect. With
    /// [`Fault::forever`] it fails every operation from there on.
    pub fn at(index: u64) -> Fault {
        Fault { from: index, ..Fault::when(|_| true) }
    }

    /// Fails the first operation that fits, with EIO and without effect. The predicate must not
    /// use the disk.
    pub fn when(predicate: impl FnMut(&Operation<'_>) -> bool + Send + 'static) -> Fault {
        Fault {
            from: 0,
            kind: None,
            predicate: Box::new(predicate),
            errno: libc::EIO,
            effect: Effect::Nothing,
            times: Times::Once,
            spent: false,
        }
    }

    /// Only operations of this kind.
    pub fn on(mut self, kind: OpKind) -> Fault {
        self.kind = Some(kind);
        self
    }

    /// The operating system's error number to answer.
    pub fn errno(mut self, errno: i32) -> Fault {
        self.errno = errno;
        self
    }

    /// What happens in spite of the error.
    pub fn effect(mut self, effect: Effect) -> Fault {
        self.effect = effect;
        self
    }

    /// Every operation that fits, not only the first.
    pub fn forever(self) -> Fault {
        self.times(Times::Forever)
    }

    /// How often.
    pub fn times(mut self, times: Times) -> Fault {
        self.times = times;
        self
    }

    /// The error number and effect for this operation when the rule fits it.
    pub(super) fn strike(&mut self, operation: &Operation<'_>) -> Option<(i32, Effect)> {
        let fits = !self.spent
            && operation.index >= self.from
            && self.kind.is_none_or(|kind| kind == operation.kind)
            && (self.predicate)(operation);
        self.spent |= fits && self.times == Times::Once;
        fits.then_some((self.errno, self.effect))
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault")
            .field("from", &self.from)
            .field("kind", &self.kind)
            .field("errno", &self.errno)
            .field("effect", &self.effect)
            .field("times", &self.times)
            .field("spent", &self.spent)
            .finish_non_exhaustive()
    }
}
