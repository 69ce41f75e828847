//! The lock of a database directory (layer L1): `flock` on the LOCK file.
//!
//! Invariants:
//! - the lock belongs to one descriptor, so a second opener in the same process is refused too;
//! - only the process that took it lets it go by `LOCK_UN`: a forked child that drops its copy of
//!   the guard does not take the lock from the parent, and one that has not begun its own program
//!   yet does not keep it;
//! - what the file says about its holder is for the message only and decides nothing.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use super::{check_size_limit, open_regular};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{LockGuard, LockKind};

/// The holder's words have a fixed size, so that rewriting them never needs a new block.
const WORDS_LEN: usize = 64;

/// How often a LOCK file that is replaced while being locked is tried again.
const MAX_TRIES: usize = 100;

/// Holds the lock while it exists; a lock file that is not there needs no holding.
#[derive(Debug)]
struct OsLock {
    file: Option<fs::File>,
    pid: u32,
}

impl OsLock {
    fn new(file: Option<fs::File>) -> OsLock {
        OsLock { file, pid: std::process::id() }
    }
}

impl Drop for OsLock {
    fn drop(&mut self) {
        if let Some(file) = &self.file
            && self.pid == std::process::id()
        {
            // SAFETY: no memory is passed; the descriptor is open while `file` lives.
            unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_UN) };
        }
    }
}

impl LockGuard for OsLock {}

/// See [`FileSystem::lock`](crate::fs::FileSystem::lock).
pub(super) fn lock(path: &Path, kind: LockKind) -> Result<Box<dyn LockGuard>> {
    refuse_network(path)?;
    for _ in 0..MAX_TRIES {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        if kind == LockKind::Exclusive {
            options.write(true).create(true).truncate(false);
        }
        let file = match open_regular(path, &options, "lock") {
            Ok(file) => file,
            Err(error) if kind == LockKind::Shared && error.os_error() == Some(libc::ENOENT) => {
                return Ok(Box::new(OsLock::new(None)));
            }
            Err(error) => return Err(error),
        };
        take(&file, path, kind)?;
        if still_named(&file, path).map_err(|error| Error::io("lock", path, &error))? {
            if kind == LockKind::Exclusive {
                // On a full disk the message of the next opener is poorer; the lock still holds.
                write_words(&file).ok();
            }
            return Ok(Box::new(OsLock::new(Some(file))));
        }
    }
    Err(Error::io("lock", path, &io::Error::other("the file is replaced again and again")))
}

fn take(file: &fs::File, path: &Path, kind: LockKind) -> Result<()> {
    let operation = match kind {
        LockKind::Exclusive => libc::LOCK_EX,
        LockKind::Shared => libc::LOCK_SH,
    };
    loop {
        // SAFETY: no memory is passed; the descriptor is open while `file` lives.
        if unsafe { libc::flock(file.as_raw_fd(), operation | libc::LOCK_NB) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::EWOULDBLOCK) => {
                let message = format!("locked by {}", holder(file));
                return Err(Error::io("lock", path, &io::Error::other(message))
                    .with_kind(ErrorKind::Locked));
            }
            _ => return Err(Error::io("lock", path, &error)),
        }
    }
}

/// Whether the path still names the file that was locked: another opener may have removed it.
fn still_named(file: &fs::File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::metadata(path) {
        Ok(named) => Ok(ours.dev() == named.dev() && ours.ino() == named.ino()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Who a LOCK file says its holder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holder {
    pid: u32,
    /// When the process started, in clock ticks since boot: tells it from a later one with its pid.
    started: u64,
}

impl Holder {
    /// This process, as far as the system tells.
    fn current() -> io::Result<Holder> {
        let pid = std::process::id();
        Ok(Holder { pid, started: start_of(pid)? })
    }

    fn words(self) -> String {
        let words = format!("pid {} start {}", self.pid, self.started);
        format!("{words:width$}\n", width = WORDS_LEN - 1)
    }

    fn parse(words: &str) -> Option<Holder> {
        let mut parts = words.trim_end().split(' ');
        let mut number = |label| (parts.next()? == label).then(|| parts.next())?;
        let pid = number("pid")?.parse().ok()?;
        let started = number("start")?.parse().ok()?;
        parts.next().is_none().then_some(Holder { pid, started })
    }
}

fn write_words(file: &fs::File) -> io::Result<()> {
    let words = Holder::current()?.words();
    check_size_limit(Some(words.len() as u64))?;
    file.write_all_at(words.as_bytes(), 0)?;
    if file.metadata()?.len() > words.len() as u64 {
        file.set_len(words.len() as u64)?;
    }
    Ok(())
}

/// Words for the holder of a lock that we could not get. Readers leave no name, and then the file
/// still has that of the last writer: so it is named as the holder only while it lives.
fn holder(file: &fs::File) -> String {
    let mut buf = [0; WORDS_LEN];
    let read = file.read_exact_at(&mut buf, 0);
    let named = read.ok().and_then(|()| Holder::parse(std::str::from_utf8(&buf).ok()?));
    match named {
        Some(named) if start_of(named.pid).is_ok_and(|started| started == named.started) => {
            let Holder { pid, started } = named;
            let which = if pid == std::process::id() { ", which is this one" } else { "" };
            format!("process {pid} (since {started} clock ticks after boot){which}")
        }
        Some(Holder { pid, started }) => format!(
            "a process that reads it, or by process {pid} (since {started} clock ticks after \
             boot) that cannot be seen from here"
        ),
        None => "a process that has not said which".to_owned(),
    }
}

/// When a process started, in clock ticks since boot.
#[expect(clippy::disallowed_methods, reason = "this is the door to files")]
fn start_of(pid: u32) -> io::Result<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat"))?;
    parse_start(&stat).ok_or_else(|| io::Error::other("no start time in /proc"))
}

/// Field 22; the second is the program's name in brackets and may itself hold anything.
fn parse_start(stat: &[u8]) -> Option<u64> {
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(stat.get(name_end + 1..)?).ok()?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Locks and maps of one file on two machines agree only on a local disk.
fn refuse_network(path: &Path) -> Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let magic = file_system_magic(parent).map_err(|error| Error::io("lock", parent, &error))?;
    match network_name(magic) {
        Some(name) => Err(Error::io(
            "lock",
            parent,
            &io::Error::other(format!("{name} is a network file system")),
        )
        .with_kind(ErrorKind::Unsupported)),
        None => Ok(()),
    }
}

/// The name of a network file system that locks or maps of other machines cannot be trusted on.
fn network_name(magic: u32) -> Option<&'static str> {
    match magic {
        0x6969 => Some("NFS"),
        0x517b | 0xfe53_4d42 => Some("SMB"),
        0xff53_4d42 => Some("CIFS"),
        _ => None,
    }
}

/// The type of the file system that a directory lies on: 32 bits, however wide the field is.
fn file_system_magic(dir: &Path) -> io::Result<u32> {
    let mut options = fs::OpenOptions::new();
    options.read(true);
    let dir = super::open_descriptor(dir, &options)?;
    let mut stat = MaybeUninit::<libc::statfs>::uninit();
    loop {
        // SAFETY: the pointer is to room for one `statfs`, which the call fills.
        if unsafe { libc::fstatfs(dir.as_raw_fd(), stat.as_mut_ptr()) } == 0 {
            // SAFETY: filled, for the call succeeded.
            return Ok(unsafe { stat.assume_init() }.f_type as u32);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINTR) {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::FileSystem;

    #[test]
    fn words_come_back() {
        let holder = Holder { pid: 1234, started: 567_890 };
        let words = holder.words();
        assert_eq!(words.len(), WORDS_LEN);
        assert!(words.starts_with("pid 1234 start 567890 ") && words.ends_with('\n'));
        assert_eq!(Holder::parse(&words), Some(holder));
        let longest = Holder { pid: u32::MAX, started: u64::MAX };
        assert_eq!(longest.words().len(), WORDS_LEN);
        assert_eq!(Holder::parse(&longest.words()), Some(longest));
        for strange in ["", "\n", "pid", "pid x start 1", "pid 1 start", "pid 1 start 2 3", "1 2"] {
            assert_eq!(Holder::parse(strange), None, "{strange:?}");
        }
    }

    #[test]
    fn the_start_is_the_22nd_field() {
        let stat = b"7 (a) b) c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
        assert_eq!(parse_start(stat), Some(4711));
        assert_eq!(parse_start(b"7 (a) S 1 2"), None);
        assert_eq!(parse_start(b""), None);
        assert_eq!(parse_start(b"7 (a)"), None);
        let holder = Holder::current().unwrap();
        assert_eq!(holder.pid, std::process::id());
        assert_eq!(start_of(holder.pid).unwrap(), holder.started);
    }

    #[test]
    fn a_file_that_lost_its_name_is_not_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = open_regular(&path, &options, "lock").unwrap();
        assert!(still_named(&file, &path).unwrap());
        crate::fs::OsFileSystem.remove_file(&path).unwrap();
        assert!(!still_named(&file, &path).unwrap());
        let other = open_regular(&path, &options, "lock").unwrap();
        assert!(!still_named(&file, &path).unwrap());
        assert!(still_named(&other, &path).unwrap());
    }

    #[test]
    fn network_file_systems_are_known() {
        assert_eq!(network_name(0x6969), Some("NFS"));
        assert_eq!(network_name(0xff53_4d42), Some("CIFS"));
        assert_eq!(network_name(0xfe53_4d42), Some("SMB"));
        assert_eq!(network_name(0xef53), None);
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(network_name(file_system_magic(dir.path()).unwrap()), None);
        assert_ne!(file_system_magic(dir.path()).unwrap(), 0);
    }
}
