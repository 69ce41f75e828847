//! The operating system's file system (layer L1), Linux: `pread`, `pwrite`, `posix_fallocate`,
//! `fdatasync`, `flock` and shared maps.
//!
//! Invariants:
//! - nothing here raises a signal: lengths are compared with `RLIMIT_FSIZE` before a file grows
//!   (SIGXFSZ), with the file's size before it is mapped (SIGBUS), and a file never grows by
//!   `ftruncate` (holes);
//! - no descriptor is inherited over `exec` or is one of 0 to 2, where a host's stray `printf`
//!   would write into it;
//! - only regular files are opened, so that nothing waits for the other end of a pipe.

mod direct;
mod lock;
mod map;
#[cfg(test)]
mod tests;

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(test)]
pub(crate) use tests::past_cache;

use super::{Access, DirEntry, File, FileSystem, LockGuard, LockKind, PathKind, Region, Window};
use crate::error::{Error, ErrorKind, Result};

/// The operating system's file system.
#[derive(Debug)]
pub(crate) struct OsFileSystem;

/// Memory that this process may use, in bytes: the machine's, or what its control group allows; 4
/// GiB when the system does not say.
pub(crate) fn memory_bytes() -> u64 {
    let number = |text: &str| text.split_whitespace().next()?.parse::<u64>().ok();
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = info.lines().find_map(|line| number(line.strip_prefix("MemTotal:")?));
    let total = total.map_or(4 << 30, |kib| kib << 10);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let mut limits = Path::new(own).ancestors().filter_map(|group| {
        let group = group.strip_prefix("/").ok()?;
        number(
            &fs::read_to_string(Path::new("/sys/fs/cgroup").join(group).join("memory.max")).ok()?,
        )
    });
    limits.by_ref().fold(total, u64::min)
}

/// Raises the niceness of the calling thread, and of no other, to `least`, unless it is higher.
/// New threads inherit it, so it is not added to what there is.
pub(crate) fn step_back(least: i32) {
    // SAFETY: system calls about numbers. On Linux they are about the calling thread alone.
    unsafe {
        if libc::getpriority(libc::PRIO_PROCESS, 0) < least {
            libc::setpriority(libc::PRIO_PROCESS, 0, least);
        }
    }
}

impl FileSystem for OsFileSystem {
    fn kind(&self, path: &Path) -> Result<PathKind> {
        look(path).map(|(kind, _)| kind).map_err(|error| Error::io("inspect", path, &error))
    }

    fn create_dir(&self, dir: &Path) -> Result<()> {
        fs::create_dir(dir).map_err(|error| Error::io("create the directory", dir, &error))
    }

    fn list_dir(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        let fail = |error: io::Error| Error::io("list", dir, &error);
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let found = look(&entry.path());
            let (kind, size) = found.map_err(|e| Error::io("inspect", &entry.path(), &e))?;
            if kind != PathKind::Absent {
                let name = entry.file_name().to_string_lossy().into_owned();
                entries.push(DirEntry { name, kind, size });
            }
        }
        Ok(entries)
    }

    fn create(&self, path: &Path) -> Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create_new(true);
        Ok(Arc::new(OsFile::open(path, &options, "create")?))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        Ok(Arc::new(OsFile::open(path, &options, "open")?))
    }

    fn create_direct(&self, path: &Path) -> Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create_new(true);
        direct::DirectFile::created(OsFile::open(path, &options, "create")?)
    }

    fn open_direct(&self, path: &Path) -> Result<Arc<dyn File>> {
        direct::DirectFile::open(path)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the door to files")]
    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let action = || format!("rename to {}", to.display());
        fs::rename(from, to).map_err(|error| Error::io(&action(), from, &error))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the door to files")]
    fn remove_file(&self, path: &Path) -> Result<()> {
        fs::remove_file(path).map_err(|error| Error::io("remove", path, &error))
    }

    fn remove_dir(&self, dir: &Path) -> Result<()> {
        fs::remove_dir(dir).map_err(|error| Error::io("remove the directory", dir, &error))
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        let mut options = fs::OpenOptions::new();
        options.read(true).custom_flags(libc::O_DIRECTORY);
        open_descriptor(dir, &options)
            .and_then(|file| file.sync_all())
            .map_err(|error| Error::io("sync the directory", dir, &error))
    }

    fn lock(&self, path: &Path, kind: LockKind) -> Result<Box<dyn LockGuard>> {
        lock::lock(path, kind)
    }

    /// From the standard library's source of hash keys, which the system seeds.
    fn random_word(&self) -> u64 {
        RandomState::new().hash_one(0u64)
    }
}

/// What a path names, and its size if that is a file.
fn look(path: &Path) -> io::Result<(PathKind, u64)> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() => Ok((PathKind::File, found.len())),
        Ok(found) if found.is_dir() => Ok((PathKind::Directory, 0)),
        Ok(_) => Ok((PathKind::Other, 0)),
        // A link that leads nowhere is not nothing: nothing can be created in its place.
        Err(_) if fs::symlink_metadata(path).is_ok_and(|link| link.is_symlink()) => {
            Ok((PathKind::Other, 0))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((PathKind::Absent, 0)),
        Err(error) => Err(error),
    }
}

/// Opens with a descriptor above 2; std adds `O_CLOEXEC` and repeats after EINTR.
#[expect(clippy::disallowed_methods, reason = "this is the door to files")]
fn open_descriptor(path: &Path, options: &fs::OpenOptions) -> io::Result<fs::File> {
    let file = options.open(path)?;
    // A duplicate always gets a number of at least 3.
    if file.as_raw_fd() > 2 { Ok(file) } else { file.try_clone() }
}

/// Opens a regular file; anything else, such as a pipe, is refused without waiting for it.
fn open_regular(path: &Path, options: &fs::OpenOptions, action: &str) -> Result<fs::File> {
    open_regular_with(path, options, 0).map_err(|error| Error::io(action, path, &error))
}

/// As [`open_regular`], with more flags.
fn open_regular_with(path: &Path, options: &fs::OpenOptions, flags: i32) -> io::Result<fs::File> {
    let mut options = options.clone();
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | flags);
    let file = open_descriptor(path, &options)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    Ok(file)
}

/// Fails as the system would, but without SIGXFSZ, when a file may not reach `end` bytes.
fn check_size_limit(end: Option<u64>) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live `rlimit` that the call fills.
    if unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // RLIM_INFINITY is the largest number there is; offsets are signed.
    let most = limit.rlim_cur.min(i64::MAX as u64);
    match end {
        Some(end) if end <= most => Ok(()),
        _ => Err(io::Error::from_raw_os_error(libc::EFBIG)),
    }
}

/// An open regular file.
#[derive(Debug)]
struct OsFile {
    file: fs::File,
    path: PathBuf,
}

impl OsFile {
    fn open(path: &Path, options: &fs::OpenOptions, action: &str) -> Result<OsFile> {
        Ok(OsFile { file: open_regular(path, options, action)?, path: path.to_path_buf() })
    }

    #[cold]
    fn fail(&self, action: &str, error: &io::Error) -> Error {
        Error::io(action, &self.path, error)
    }

    /// Whether `len` bytes from `offset` exist, as an error naming `action` when not.
    fn check_range(&self, action: &str, offset: u64, len: usize) -> Result<()> {
        let size = self.size()?;
        if offset.checked_add(len as u64).is_none_or(|end| end > size) {
            let what = format!("{len} bytes at offset {offset} of {size}");
            return Err(self.fail(action, &io::Error::new(io::ErrorKind::UnexpectedEof, what)));
        }
        Ok(())
    }

    /// One `posix_fallocate` from the start, repeated after EINTR.
    fn fallocate(&self, size: u64) -> io::Result<()> {
        let size = libc::off_t::try_from(size).map_err(io::Error::other)?;
        loop {
            // SAFETY: no memory is passed; the descriptor is open while `self` lives.
            match unsafe { libc::posix_fallocate(self.file.as_raw_fd(), 0, size) } {
                0 => return Ok(()),
                libc::EINTR => {}
                errno => return Err(io::Error::from_raw_os_error(errno)),
            }
        }
    }

    /// For file systems without `fallocate`, where libc does not do the same: writes zeros from
    /// `from` on.
    fn write_zeros(&self, from: u64, size: u64) -> io::Result<()> {
        static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
        let mut at = from;
        while at < size {
            let len = (size - at).min(ZEROS.len() as u64);
            self.file.write_all_at(&ZEROS[..len as usize], at)?;
            at += len;
        }
        Ok(())
    }

    fn allocate_from(&self, before: u64, size: u64) -> io::Result<()> {
        check_size_limit(Some(size))?;
        let result = match self.fallocate(size) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) => {
                self.write_zeros(before, size)
            }
            result => result,
        };
        if result.is_err() && self.file.metadata().is_ok_and(|now| now.len() > before) {
            // A full disk is noticed halfway: gives back what was had. When that fails too, the
            // first failure is still the one to report.
            self.file.set_len(before).ok();
        }
        result
    }
}

impl AsRawFd for OsFile {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl File for OsFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> Result<u64> {
        match self.file.metadata() {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) => Err(self.fail("inspect", &error)),
        }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_exact_at(buf, offset).map_err(|error| {
            self.fail(&format!("read {} bytes at offset {offset}", buf.len()), &error)
        })
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<()> {
        check_size_limit(offset.checked_add(data.len() as u64))
            .and_then(|()| self.file.write_all_at(data, offset))
            .map_err(|error| {
                self.fail(&format!("write {} bytes at offset {offset}", data.len()), &error)
            })
    }

    fn allocate(&self, size: u64) -> Result<()> {
        if size == 0 {
            return Ok(());
        }
        self.allocate_from(self.size()?, size)
            .map_err(|error| self.fail(&format!("allocate {size} bytes"), &error))
    }

    fn start_write_back(&self, offset: u64, len: usize) {
        let (fd, flags) = (self.as_raw_fd(), libc::SYNC_FILE_RANGE_WRITE);
        // SAFETY: a call without pointers, on a descriptor that `self` keeps open. It does not
        // take note of errors for the descriptor, so a sync still reports them.
        unsafe { libc::sync_file_range(fd, offset as i64, len as i64, flags) };
    }

    fn sync_data(&self) -> Result<()> {
        self.file.sync_data().map_err(|error| self.fail("sync", &error))
    }

    fn map(&self, len: usize, access: Access) -> Result<Region> {
        self.check_range("map", 0, len)?;
        map::region(self, len, access).map_err(|error| self.fail("map", &error))
    }

    fn map_window(&self, offset: u64, len: usize) -> Result<Window> {
        if len == 0 || !offset.is_multiple_of(4096) || !len.is_multiple_of(4096) {
            let message = format!("a window of {len} bytes at offset {offset} is not aligned");
            return Err(Error::new(ErrorKind::Misuse, message));
        }
        self.check_range("map for writing", offset, len)?;
        map::window(self, offset, len).map_err(|error| self.fail("map for writing", &error))
    }
}
