//! The only door to files (layer L1): one trait for a file system, one for a file, and the mapped
//! regions that both hand out. `os` is the operating system, `sim` a disk in memory for tests.
//!
//! Every method answers an [`Error`](crate::error::Error) that names the path. Nothing here knows
//! what is in a file.

mod aligned;
#[cfg(test)]
mod conformance;
mod os;
#[cfg(any(test, feature = "sim"))]
pub(crate) mod sim;

#[cfg(test)]
pub(crate) use os::past_cache;

pub(crate) use aligned::{ALIGNMENT, AlignedBytes};
pub(crate) use os::{OsFileSystem, memory_bytes, step_back};

use std::any::Any;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::error::Result;
use crate::prefetch::{prefetch, prefetch_to_write};

/// A file system. Names are durable after `sync_dir` of their directory, bytes and sizes after
/// `sync_data` of their file, nothing sooner.
pub(crate) trait FileSystem: Send + Sync + fmt::Debug {
    /// What a path names.
    fn kind(&self, path: &Path) -> Result<PathKind>;
    /// Creates one directory; its parent must exist.
    fn create_dir(&self, dir: &Path) -> Result<()>;
    /// Every entry of a directory, in no order.
    fn list_dir(&self, dir: &Path) -> Result<Vec<DirEntry>>;
    /// Creates a file for reading and writing that must not exist.
    fn create(&self, path: &Path) -> Result<Arc<dyn File>>;
    /// Opens a file that must exist, for reading only.
    fn open(&self, path: &Path) -> Result<Arc<dyn File>>;
    /// As create; what is written in whole aligned pieces goes past the page cache. Unsupported,
    /// naming the path, where the file system cannot; then the file may be there.
    fn create_direct(&self, path: &Path) -> Result<Arc<dyn File>>;
    /// As open, for reads past the page cache at any place and of any length; it cannot be mapped.
    /// What the page cache has of it and nobody maps is let go.
    /// Unsupported, naming the path, where the file system cannot.
    fn open_direct(&self, path: &Path) -> Result<Arc<dyn File>>;
    /// Gives a file another name, replacing what had it.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// Removes a file's name; maps of it stay valid.
    fn remove_file(&self, path: &Path) -> Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, dir: &Path) -> Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> Result<()>;
    /// Takes the lock file at `path` until the guard is dropped; Locked when somebody else, in this
    /// process or another, has it, with the holder's own words from the file in the message. An
    /// exclusive lock creates the file and writes pid and start time into it.
    fn lock(&self, path: &Path, kind: LockKind) -> Result<Box<dyn LockGuard>>;
    /// A word that nobody can foresee, to tell files apart that have one name in two lives.
    fn random_word(&self) -> u64;
}

/// An open file.
pub(crate) trait File: Send + Sync + fmt::Debug {
    /// The path it was opened by.
    fn path(&self) -> &Path;
    /// Its size in bytes now.
    fn size(&self) -> Result<u64>;
    /// Fills `buf` from `offset`; an end of file before that is an Io error.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()>;
    /// Writes all of `data` at `offset`, growing the file as needed.
    fn write_at(&self, data: &[u8], offset: u64) -> Result<()>;
    /// Allocates blocks up to `size` and makes that the file's size; DiskFull when there are none,
    /// and then the file is as before. Never truncates.
    fn allocate(&self, size: u64) -> Result<()>;
    /// Lets the device begin with these bytes, so that [`File::sync_data`] waits less. A hint:
    /// nothing is durable by it, and what fails shows in the sync.
    fn start_write_back(&self, _offset: u64, _len: usize) {}
    /// Makes bytes and size durable (fdatasync). After a failure nothing may be assumed.
    fn sync_data(&self) -> Result<()>;
    /// Maps the first `len` bytes for reading; they must exist. The map outlives the file's name
    /// and this handle.
    fn map(&self, len: usize, access: Access) -> Result<Region>;
    /// Maps `len` bytes from `offset` (both multiples of 4096; they must exist) for writing, shared
    /// with readers of the file, and touches every page, so that a store into it cannot fail.
    fn map_window(&self, offset: u64, len: usize) -> Result<Window>;
}

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathKind {
    /// Nothing.
    Absent,
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else.
    Other,
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DirEntry {
    /// The name, lossily as UTF-8: the database's own names are ASCII.
    pub(crate) name: String,
    /// What it is.
    pub(crate) kind: PathKind,
    /// Size in bytes, of a regular file.
    pub(crate) size: u64,
}

/// How a map will be read, for the system's read-ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anywhere.
    Random,
    /// In order.
    Sequential,
}

/// Who may hold a lock beside us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockKind {
    /// Nobody.
    Exclusive,
    /// Other readers. A missing lock file is no error: the guard then guards nothing.
    Shared,
}

/// Holds a lock until dropped.
pub(crate) trait LockGuard: Send + Sync + fmt::Debug {}

/// Mapped bytes for reading.
///
/// The bytes of a table never change. Those of a segment change only where nothing has been
/// published yet; whoever asks for bytes of a segment asks only for published ones.
#[derive(Clone)]
pub(crate) struct Region {
    ptr: *const u8,
    len: usize,
    owner: Arc<Owner>,
    hint: fn(&Owner, Hint),
}

/// What keeps memory where it is.
type Owner = dyn Any + Send + Sync;

/// What the system is told about mapped bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hint {
    /// Nobody needs them now.
    LetGo,
    /// All of these will be read at once.
    WillNeed { offset: usize, len: usize },
}

// SAFETY: the memory is owned by `owner`, stays mapped as long as that lives, and is only read.
unsafe impl Send for Region {}
// SAFETY: as for Send; shared reading of published bytes needs no synchronisation.
unsafe impl Sync for Region {}

impl Region {
    /// A region over memory that `owner` keeps readable.
    ///
    /// # Safety
    /// - `ptr` is valid for reads of `len` bytes as long as `owner` lives.
    pub(crate) unsafe fn new(
        ptr: *const u8,
        len: usize,
        owner: Arc<dyn Any + Send + Sync>,
    ) -> Region {
        Region { ptr, len, owner, hint: |_, _| () }
    }

    /// With what hints are to do.
    pub(crate) fn that_hints_by(self, hint: fn(&Owner, Hint)) -> Region {
        Region { hint, ..self }
    }

    /// Bytes in memory, as a region.
    pub(crate) fn of(bytes: AlignedBytes) -> Region {
        let (ptr, len) = (bytes.as_ptr(), bytes.len());
        // SAFETY: the bytes are on the heap, stay where they are and live as long as their owner.
        unsafe { Region::new(ptr, len, Arc::new(bytes)) }
    }

    /// A region without bytes.
    pub(crate) fn empty() -> Region {
        Region::of(AlignedBytes::zeroed(0, ALIGNMENT))
    }

    /// Takes its pages out of this process's memory, as far as they are those of a file; who reads
    /// them again finds them again. A hint, so that the page cache may let go of them.
    pub(crate) fn let_go(&self) {
        (self.hint)(&*self.owner, Hint::LetGo);
    }

    /// Starts to read these bytes of a file, as far as they are not in memory, all at once: touched
    /// one after the other they would come page by page. A system call.
    #[cold]
    pub(crate) fn will_need(&self, offset: usize, len: usize) {
        let offset = offset.min(self.len);
        let len = len.min(self.len - offset);
        (self.hint)(&*self.owner, Hint::WillNeed { offset, len });
    }

    /// Length in bytes.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// `len` bytes from `offset`; `None` beyond the end.
    #[inline]
    pub(crate) fn get(&self, offset: usize, len: usize) -> Option<&[u8]> {
        if offset > self.len || len > self.len - offset {
            return None;
        }
        // SAFETY: the range was checked against the region, which is readable while `self` lives.
        Some(unsafe { std::slice::from_raw_parts(self.ptr.add(offset), len) })
    }

    /// Asks the processor to fetch the line of the byte at `offset`, wherever that is.
    #[inline(always)]
    pub(crate) fn prefetch(&self, offset: usize) {
        prefetch(self.ptr.wrapping_add(offset));
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region({} bytes)", self.len)
    }
}

/// Mapped bytes for writing: the log writer's moving window.
pub(crate) struct Window {
    ptr: *mut u8,
    len: usize,
    _owner: Arc<dyn Any + Send + Sync>,
}

// SAFETY: the memory is owned by `_owner`; the one writer may move between threads.
unsafe impl Send for Window {}

impl Window {
    /// A window over memory that `owner` keeps writable.
    ///
    /// # Safety
    /// - `ptr` is valid for writes of `len` bytes as long as `owner` lives.
    /// - Nobody else writes these bytes.
    pub(crate) unsafe fn new(
        ptr: *mut u8,
        len: usize,
        owner: Arc<dyn Any + Send + Sync>,
    ) -> Window {
        Window { ptr, len, _owner: owner }
    }

    /// Length in bytes.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The `len` bytes at `offset`, for writing.
    ///
    /// # Panics
    /// Beyond the end of the window.
    #[inline]
    pub(crate) fn bytes_mut(&mut self, offset: usize, len: usize) -> &mut [u8] {
        assert!(offset <= self.len && len <= self.len - offset);
        // SAFETY: the range lies in the window (checked above), which only its one owner writes,
        // and readers read only what he has published.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(offset), len) }
    }

    /// Asks the processor for the line of the byte at `offset`, wherever that is, to write it.
    #[inline(always)]
    pub(crate) fn prefetch(&self, offset: usize) {
        prefetch_to_write(self.ptr.wrapping_add(offset));
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Panics
    /// Beyond the end of the window.
    #[cfg(test)]
    #[inline]
    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        assert!(offset <= self.len && bytes.len() <= self.len - offset);
        // SAFETY: the range lies in the window (checked above), which only its one owner writes.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.ptr.add(offset), bytes.len());
        }
    }

    /// The `len` bytes at `offset` as this writer wrote them.
    ///
    /// # Panics
    /// Beyond the end of the window.
    #[cfg(test)]
    #[inline]
    pub(crate) fn read(&self, offset: usize, len: usize) -> &[u8] {
        assert!(offset <= self.len && len <= self.len - offset);
        // SAFETY: the range lies in the window (checked above); the writer is the caller.
        unsafe { std::slice::from_raw_parts(self.ptr.add(offset), len) }
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Window({} bytes)", self.len)
    }
}
