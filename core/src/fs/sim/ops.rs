//! The simulated disk as a file system.

use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use super::buffer::{Buffer, PAGE};
use super::fault::{Effect, OpKind, Operation};
use super::file::FileNode;
use super::names::{Change, NodeId};
use super::state::{Begun, Node, State, errno};
use super::{Asked, SimDisk};
use crate::checksum::mix64;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{
    Access, DirEntry, File, FileSystem, Hint, LockGuard, LockKind, PathKind, Region, Window,
};

/// What an operation works on.
struct Target<'a> {
    kind: OpKind,
    path: &'a Path,
    to: Option<&'a Path>,
    offset: u64,
    len: u64,
}

impl<'a> Target<'a> {
    fn new(kind: OpKind, path: &'a Path) -> Target<'a> {
        Target { kind, path, to: None, offset: 0, len: 0 }
    }

    fn range(self, offset: u64, len: usize) -> Target<'a> {
        Target { offset, len: len as u64, ..self }
    }
}

impl SimDisk {
    /// Runs one operation. `body` does it; when it shall fail, `body` is told how much to do.
    fn operate<T>(
        &self,
        target: Target<'_>,
        body: impl FnOnce(&mut State, Option<Effect>) -> io::Result<T>,
    ) -> Result<T> {
        let Target { kind, path, to, offset, len } = target;
        let mut operation = Operation { index: 0, kind, path, to, offset, len };
        let mut state = self.state();
        let result = match state.begin(&mut operation) {
            Ok(Begun::Whole) => body(&mut state, None),
            Ok(Begun::Failing(_, Effect::Lie)) => body(&mut state, Some(Effect::Lie)),
            Ok(Begun::Failing(number, effect)) => {
                // Whatever the body answers, the caller hears of the fault.
                drop(body(&mut state, Some(effect)));
                Err(errno(number))
            }
            Err(error) => Err(error),
        };
        state.end(&operation, result.as_ref().map(drop).map_err(|error| error.to_string()));
        result.map_err(|error| Error::io(kind.verb(), path, &error))
    }

    /// Runs an operation that happens wholly or not at all.
    fn whole<T>(
        &self,
        target: Target<'_>,
        body: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> Result<T> {
        self.operate(target, |state, effect| match effect {
            None | Some(Effect::Done) => body(state),
            Some(Effect::Nothing | Effect::Half | Effect::Reverted | Effect::Lie) => {
                Err(errno(libc::EIO))
            }
        })
    }

    fn handle(&self, state: &mut State, node: NodeId, path: &Path, writable: bool) -> SimFile {
        let user = state.file(node).map(|file| file.users.clone()).unwrap_or_default();
        SimFile {
            disk: self.clone(),
            node,
            path: path.to_path_buf(),
            writable,
            direct: false,
            user,
        }
    }

    /// Unsupported on a disk that refuses direct I/O.
    fn direct(&self, path: &Path) -> Result<()> {
        if !self.state().refuses_direct {
            return Ok(());
        }
        let what = format!("{}: this disk has no direct I/O", path.display());
        Err(Error::new(ErrorKind::Unsupported, what))
    }
}

impl FileSystem for SimDisk {
    fn kind(&self, path: &Path) -> Result<PathKind> {
        self.whole(Target::new(OpKind::Inspect, path), |state| {
            let node = state.find(path)?;
            Ok(node.map_or(PathKind::Absent, |node| path_kind(state, node).0))
        })
    }

    fn create_dir(&self, dir: &Path) -> Result<()> {
        self.whole(Target::new(OpKind::CreateDir, dir), |state| {
            state.link_new(dir, Node::Directory).map(drop)
        })
    }

    fn list_dir(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        self.whole(Target::new(OpKind::ListDir, dir), |state| {
            let node = state.need(dir)?;
            state.expect_directory(node)?;
            let entries = state.names.live.list(node).map(|(name, node)| {
                let (kind, size) = path_kind(state, node);
                DirEntry { name: name.to_string_lossy().into_owned(), kind, size }
            });
            Ok(entries.collect())
        })
    }

    fn create(&self, path: &Path) -> Result<Arc<dyn File>> {
        self.whole(Target::new(OpKind::Create, path), |state| {
            let node = state.link_new(path, Node::File(FileNode::new(Vec::new(), 0)))?;
            Ok(Arc::new(self.handle(state, node, path, true)) as Arc<dyn File>)
        })
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn File>> {
        self.whole(Target::new(OpKind::Open, path), |state| {
            let node = state.need(path)?;
            state.file(node).map_err(|_| io::Error::other("not a regular file"))?;
            Ok(Arc::new(self.handle(state, node, path, false)) as Arc<dyn File>)
        })
    }

    fn create_direct(&self, path: &Path) -> Result<Arc<dyn File>> {
        self.direct(path)?;
        self.whole(Target::new(OpKind::Create, path), |state| {
            let node = state.link_new(path, Node::File(FileNode::new(Vec::new(), 0)))?;
            let file = self.handle(state, node, path, true);
            Ok(Arc::new(SimFile { direct: true, ..file }) as Arc<dyn File>)
        })
    }

    fn open_direct(&self, path: &Path) -> Result<Arc<dyn File>> {
        self.direct(path)?;
        self.whole(Target::new(OpKind::Open, path), |state| {
            let node = state.need(path)?;
            state.file(node).map_err(|_| io::Error::other("not a regular file"))?;
            let file = self.handle(state, node, path, false);
            Ok(Arc::new(SimFile { direct: true, ..file }) as Arc<dyn File>)
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let target = Target { to: Some(to), ..Target::new(OpKind::Rename, from) };
        self.whole(target, |state| {
            let (from_dir, _) = state.place(from)?;
            let (dir, name) = state.place(to)?;
            let node = state.need(from)?;
            state.file(node)?;
            match state.names.live.get(dir, &name) {
                Some(target) if target == node => return Ok(()),
                Some(target) => state.file(target).map(drop)?,
                None => {}
            }
            state.names.change(Change { node, from: Some(from_dir), to: Some((dir, name)) });
            state.forget();
            Ok(())
        })
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        self.whole(Target::new(OpKind::RemoveFile, path), |state| {
            let node = state.need(path)?;
            state.file(node)?;
            state.unlink(path)
        })
    }

    fn remove_dir(&self, dir: &Path) -> Result<()> {
        self.whole(Target::new(OpKind::RemoveDir, dir), |state| {
            let node = state.need(dir)?;
            state.expect_directory(node)?;
            if state.names.live.list(node).next().is_some() {
                return Err(errno(libc::ENOTEMPTY));
            }
            state.unlink(dir)
        })
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.operate(Target::new(OpKind::SyncDir, dir), |state, effect| {
            match effect {
                None | Some(Effect::Done) => {}
                Some(Effect::Lie) => return Ok(()),
                Some(Effect::Nothing | Effect::Half | Effect::Reverted) => {
                    return Err(errno(libc::EIO));
                }
            }
            let node = state.need(dir)?;
            state.expect_directory(node)?;
            state.names.sync(node);
            state.forget();
            Ok(())
        })
    }

    fn lock(&self, path: &Path, kind: LockKind) -> Result<Box<dyn LockGuard>> {
        let held = self.operate(Target::new(OpKind::Lock, path), |state, effect| match effect {
            None => take_lock(state, path, kind),
            Some(Effect::Lie) => Err(errno(libc::EIO)),
            // A lock that is taken while its taker hears of a failure would stay for ever.
            Some(_) => Ok(None),
        });
        self.state().lives += 1;
        match held {
            Ok(held) => Ok(Box::new(SimLock { disk: self.clone(), held })),
            Err(error) if error.os_error() == Some(libc::EWOULDBLOCK) => {
                let message = "locked by process 1 (since 1 clock ticks after boot)";
                Err(Error::io("lock", path, &io::Error::other(message))
                    .with_kind(ErrorKind::Locked))
            }
            Err(error) => Err(error),
        }
    }

    /// The same words in equal programs on equal disks: they change when a lock is taken, which is
    /// when a process begins, and not with the order in which threads ask.
    fn random_word(&self) -> u64 {
        let state = self.state();
        mix64(state.seed, state.lives)
    }
}

/// Every process on a simulated disk is the same, so that equal runs leave equal bytes.
const HOLDER: &[u8] = b"pid 1 start 1                                                  \n";

/// The node that is locked now; none when a reader finds no file.
fn take_lock(
    state: &mut State,
    path: &Path,
    kind: LockKind,
) -> io::Result<Option<(NodeId, LockKind)>> {
    let (dir, name) = state.place(path)?;
    let node = match (state.names.live.get(dir, &name), kind) {
        (Some(node), _) => node,
        (None, LockKind::Shared) => return Ok(None),
        (None, LockKind::Exclusive) => {
            state.link_new(path, Node::File(FileNode::new(Vec::new(), 0)))?
        }
    };
    if !try_lock(state.file(node)?, kind) {
        return Err(errno(libc::EWOULDBLOCK));
    }
    if kind == LockKind::Exclusive && state.room(0) > 0 {
        state.file(node)?.write(0, HOLDER)?;
    }
    Ok(Some((node, kind)))
}

fn try_lock(file: &mut FileNode, kind: LockKind) -> bool {
    match kind {
        LockKind::Exclusive if !file.locked_by_writer && file.locked_by_readers == 0 => {
            file.locked_by_writer = true;
            true
        }
        LockKind::Shared if !file.locked_by_writer => {
            file.locked_by_readers += 1;
            true
        }
        LockKind::Exclusive | LockKind::Shared => false,
    }
}

fn path_kind(state: &State, node: NodeId) -> (PathKind, u64) {
    match state.nodes.get(&node) {
        Some(Node::File(file)) => (PathKind::File, file.size()),
        Some(Node::Directory) => (PathKind::Directory, 0),
        None => (PathKind::Absent, 0),
    }
}

/// A lock on a simulated file. Letting go is no operation: the death of a process does it too.
#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    held: Option<(NodeId, LockKind)>,
}

impl LockGuard for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let Some((node, kind)) = self.held else { return };
        let mut state = self.disk.state();
        if let Ok(file) = state.file(node) {
            match kind {
                LockKind::Exclusive => file.locked_by_writer = false,
                LockKind::Shared => file.locked_by_readers -= 1,
            }
        }
    }
}

/// An open file of a simulated disk.
#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    node: NodeId,
    path: PathBuf,
    writable: bool,
    /// Past the page cache: never mapped.
    direct: bool,
    user: Arc<()>,
}

/// Keeps a map's memory, and the file's blocks, alive.
struct MapOwner {
    _memory: Arc<Buffer>,
    _user: Arc<()>,
    path: PathBuf,
    asked: Arc<Asked>,
}

/// Notes what is asked for ahead.
fn hint(owner: &(dyn Any + Send + Sync), hint: Hint) {
    if let (Some(owner), Hint::WillNeed { offset, .. }) = (owner.downcast_ref::<MapOwner>(), hint) {
        let mut asked = owner.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.insert((owner.path.clone(), offset));
    }
}

impl SimFile {
    fn target(&self, kind: OpKind) -> Target<'_> {
        Target::new(kind, &self.path)
    }

    fn expect_writable(&self, number: i32) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(errno(number)) }
    }

    /// The memory of the file when `len` bytes from `offset` exist.
    fn memory(&self, state: &mut State, offset: u64, len: usize) -> io::Result<Arc<Buffer>> {
        let file = state.file(self.node)?;
        check_range(file, offset, len)?;
        file.mapped()
    }

    fn owner(&self, memory: Arc<Buffer>) -> Arc<MapOwner> {
        let asked = Arc::clone(&self.disk.asked);
        let (path, _user) = (self.path.clone(), self.user.clone());
        Arc::new(MapOwner { _memory: memory, _user, path, asked })
    }
}

fn check_range(file: &FileNode, offset: u64, len: usize) -> io::Result<()> {
    let size = file.size();
    if offset.checked_add(len as u64).is_none_or(|end| end > size) {
        let message = format!("{len} bytes at offset {offset} of {size}");
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
    }
    Ok(())
}

impl File for SimFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> Result<u64> {
        self.disk.whole(self.target(OpKind::Size), |state| Ok(state.file(self.node)?.size()))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.disk.whole(self.target(OpKind::Read).range(offset, buf.len()), |state| {
            let file = state.file(self.node)?;
            if buf.is_empty() {
                return Ok(());
            }
            check_range(file, offset, buf.len())?;
            file.read(offset, buf);
            Ok(())
        })
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<()> {
        self.disk.operate(self.target(OpKind::Write).range(offset, data.len()), |state, effect| {
            if data.is_empty() {
                return Ok(());
            }
            self.expect_writable(libc::EBADF)?;
            let data = match effect {
                None | Some(Effect::Done) => data,
                Some(Effect::Half) => &data[..data.len() / 2],
                Some(Effect::Nothing | Effect::Reverted | Effect::Lie) => &[],
            };
            if offset.checked_add(data.len() as u64).is_none() {
                return Err(errno(libc::EFBIG));
            }
            let size = state.file(self.node)?.size();
            let fits = state.room(size).saturating_sub(offset).min(data.len() as u64) as usize;
            // As much as there is room for is written before the disk is found to be full.
            state.file(self.node)?.write(offset, &data[..fits])?;
            if fits == data.len() { Ok(()) } else { Err(errno(libc::ENOSPC)) }
        })
    }

    fn allocate(&self, size: u64) -> Result<()> {
        self.disk.whole(self.target(OpKind::Allocate).range(size, 0), |state| {
            if size == 0 {
                return Ok(());
            }
            self.expect_writable(libc::EBADF)?;
            let now = state.file(self.node)?.size();
            if state.room(now) < size {
                return Err(errno(libc::ENOSPC));
            }
            state.file(self.node)?.grow(size)
        })
    }

    fn sync_data(&self) -> Result<()> {
        self.disk
            .operate(self.target(OpKind::Sync), |state, effect| state.file(self.node)?.sync(effect))
    }

    fn map(&self, len: usize, _access: Access) -> Result<Region> {
        if self.direct {
            return Err(Error::new(
                ErrorKind::Misuse,
                "a file that is read directly is not mapped",
            ));
        }
        let target = self.target(OpKind::Map).range(0, len);
        let memory = self.disk.whole(target, |state| self.memory(state, 0, len))?;
        let start = memory.address(0);
        // SAFETY: the memory holds `len` bytes and stays where it is as long as its owner lives.
        let region = unsafe { Region::new(start, len, self.owner(memory)) };
        Ok(region.that_hints_by(hint))
    }

    fn map_window(&self, offset: u64, len: usize) -> Result<Window> {
        if len == 0 || !offset.is_multiple_of(PAGE as u64) || !len.is_multiple_of(PAGE) {
            let message = format!("a window of {len} bytes at offset {offset} is not aligned");
            return Err(Error::new(ErrorKind::Misuse, message));
        }
        let target = self.target(OpKind::MapWindow).range(offset, len);
        let memory = self.disk.whole(target, |state| {
            check_range(state.file(self.node)?, offset, len)?;
            self.expect_writable(libc::EACCES)?;
            self.memory(state, offset, len)
        })?;
        let start = memory.address(offset as usize);
        // SAFETY: the memory holds these bytes and stays where it is as long as its owner lives;
        // the log writer, who asks for windows, is the only one that writes to the file.
        Ok(unsafe { Window::new(start, len, self.owner(memory)) })
    }
}
