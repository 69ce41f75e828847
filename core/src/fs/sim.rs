//! A disk in memory that loses what real disks may lose (layer L1): for crash and fault tests.
//!
//! Every file has bytes that processes see and bytes that are durable; every name likewise. A
//! store into a mapped window is seen at once and durable after a sync of the file, or earlier,
//! page by page, when the disk pleases ([`SimDisk::set_write_back`]). [`SimDisk::crash_image`]
//! makes the disk that is found after power loss; [`SimDisk::fail`] makes operations fail;
//! [`SimDisk::crash_at`] cuts the power.
//!
//! Invariants:
//! - equal programs with equal seeds leave equal disks, as long as one thread runs;
//! - what was synced is never lost, and a rename is never half done;
//! - every state drawn by a policy is one that a real disk could be in.

mod buffer;
mod crash;
mod fault;
mod file;
mod names;
mod ops;
mod random;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use crash::{CrashPolicy, Filler, Keep, Sizes, Unit};
pub use fault::{Effect, Fault, OpKind, Operation, Times};

use crate::checksum::checksum64;
use crate::error::{Error, Result};
use crate::fs::FileSystem;
use file::FileNode;
use names::Change;
use random::Random;
use state::{Frozen, Node, State};

/// A simulated disk. Clones are the same disk; any number of threads may use it.
///
/// It begins empty but for the root directory. Relative paths begin at the root.
///
/// Methods that look at or change files here are no operations: they are not counted, cannot fail
/// by a rule, and work when the power is off. What they change is durable at once.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    asked: Arc<Asked>,
}

/// Places in mapped files that were asked for ahead.
type Asked = Mutex<BTreeSet<(PathBuf, usize)>>;

impl Default for SimDisk {
    fn default() -> SimDisk {
        SimDisk::new()
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimDisk")
    }
}

/// A disk as it was at one moment: what can be found after power loss then.
#[derive(Clone)]
pub struct Moment {
    mark: u64,
    remains: Frozen,
}

impl Moment {
    /// The number that [`SimDisk::set_mark`] had set.
    pub fn mark(&self) -> u64 {
        self.mark
    }

    /// As [`SimDisk::crash_image`], with the power off at this moment.
    pub fn crash_image(&self, policy: &CrashPolicy, seed: u64) -> SimDisk {
        SimDisk::with(crash::image(&self.remains, policy, seed))
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Moment({})", self.mark)
    }
}

impl SimDisk {
    /// An empty disk without limits or faults.
    pub fn new() -> SimDisk {
        SimDisk::seeded(crate::fs::OsFileSystem.random_word())
    }

    /// An empty disk on which what is random is the same for equal seeds.
    pub fn seeded(seed: u64) -> SimDisk {
        let mut state = State::new();
        state.seed = seed;
        SimDisk::with(state)
    }

    fn with(state: State) -> SimDisk {
        SimDisk { state: Arc::new(Mutex::new(state)), asked: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many operations began so far: the index of the next one.
    pub fn operation_count(&self) -> u64 {
        self.state().operations
    }

    /// The places in mapped files from which bytes were asked for ahead since the last call. That
    /// is no operation.
    pub fn take_asked(&self) -> BTreeSet<(PathBuf, usize)> {
        std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many operations began so far that change the disk; see [`OpKind::changes`].
    pub fn change_count(&self) -> u64 {
        self.state().changes
    }

    /// Adds a rule. The first rule that fits an operation decides.
    pub fn fail(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Fails the operation with this index, or all from there on, with an error number.
    pub fn fail_at(&self, index: u64, errno: i32, times: Times) {
        self.fail(Fault::at(index).errno(errno).times(times));
    }

    /// Removes all rules.
    pub fn clear_faults(&self) {
        self.state().faults.clear();
    }

    /// How many operations failed by a rule.
    pub fn faults_struck(&self) -> u64 {
        self.state().faults_struck
    }

    /// Cuts the power before the operation with this index: it and every later one fail.
    pub fn crash_at(&self, index: u64) {
        self.state().crash_at = Some(index);
    }

    /// Cuts the power before the change with this index, counted by [`SimDisk::change_count`].
    pub fn crash_at_change(&self, index: u64) {
        self.state().crash_at_change = Some(index);
    }

    /// Cuts the power now.
    pub fn power_off(&self) {
        self.state().power_off();
    }

    /// Whether the power is off.
    pub fn is_off(&self) -> bool {
        self.state().is_off()
    }

    /// A new disk as it is found after power loss: when the power went off, or now if it is on.
    ///
    /// This disk stays as it is, so that one crash can be looked at in many ways. The new one has
    /// the same capacity, and no rules, locks, pending changes or write-back. Cost: a comparison
    /// of what is loaded into memory with what is durable; pages are shared.
    pub fn crash_image(&self, policy: &CrashPolicy, seed: u64) -> SimDisk {
        let remains = self.state().remains();
        SimDisk::with(crash::image(&remains, policy, seed))
    }

    /// From now on keeps what is there before every change, for [`SimDisk::take_moments`].
    pub fn record_moments(&self) {
        self.state().moments.get_or_insert_default();
    }

    /// Marks the moments that come with a number of the caller's.
    pub fn set_mark(&self, mark: u64) {
        self.state().mark = mark;
    }

    /// Keeps what is there now, if moments are recorded and the power is on.
    pub fn note_moment(&self) {
        self.state().note_moment();
    }

    /// The moments recorded so far, in order; no more are recorded.
    pub fn take_moments(&self) -> Vec<Moment> {
        let moments = self.state().moments.take().unwrap_or_default();
        moments.into_iter().map(|(mark, remains)| Moment { mark, remains }).collect()
    }

    /// A hash of the names of all files and of the bytes that processes see in them.
    pub fn fingerprint(&self) -> u64 {
        let mut state = self.state();
        let mut hash = 0;
        for (path, id) in state.paths() {
            let name = path.as_os_str().as_encoded_bytes();
            hash = checksum64(name, hash);
            hash = state.file(id).map_or(hash, |file| file.fingerprint(hash));
        }
        hash
    }

    /// A new disk as the next process finds it after this one died while the power stayed on: all
    /// bytes and names are seen, and what was not synced can still be lost. When the power went
    /// off, the process counts as having died then.
    ///
    /// The new disk has the same capacity, and no rules, locks or write-back.
    pub fn process_image(&self) -> SimDisk {
        let remains = self.state().remains();
        SimDisk::with(State::revive(&remains).expect("its files fitted before"))
    }

    /// From now on opening a file for direct I/O is refused, as some file systems do.
    pub fn refuse_direct(&self) {
        self.state().refuses_direct = true;
    }

    /// From now on the disk makes some pages, sizes and the oldest names durable by itself, before
    /// this many operations in a hundred. 0 ends it.
    pub fn set_write_back(&self, percent: u8, seed: u64) {
        self.state().write_back = (percent > 0).then(|| (percent, Random::new(seed)));
    }

    /// How many bytes of blocks the disk has; `None` for no end. Files already there stay.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Bytes of blocks of all files that have a name, are open or are mapped.
    pub fn total_bytes(&self) -> u64 {
        self.state().allocated()
    }

    /// Begins or ends recording operations; ending forgets them.
    pub fn record_trace(&self, yes: bool) {
        let mut state = self.state();
        state.trace = yes.then(|| state.trace.take().unwrap_or_default());
    }

    /// The operations recorded so far, with their results.
    pub fn trace(&self) -> Vec<String> {
        self.state().trace.clone().unwrap_or_default()
    }

    /// Every file with its size, in the order of paths.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let mut state = self.state();
        let paths = state.paths();
        let sized = |(path, id)| (path, state.file(id).map_or(0, |file| file.size()));
        paths.into_iter().map(sized).collect()
    }

    fn with_file<T>(
        &self,
        path: &Path,
        action: &str,
        body: impl FnOnce(&mut FileNode) -> std::io::Result<T>,
    ) -> Result<T> {
        let mut state = self.state();
        let found = state.need(path).and_then(|id| body(state.file(id)?));
        found.map_err(|error| Error::io(action, path, &error))
    }

    /// The bytes of a file as processes see them.
    pub fn read_file(&self, path: impl AsRef<Path>) -> Result<Vec<u8>> {
        self.with_file(path.as_ref(), "read", |file| {
            let mut bytes = vec![0; file.size() as usize];
            file.read(0, &mut bytes);
            Ok(bytes)
        })
    }

    /// Creates a file, or replaces its bytes; its directory must exist.
    pub fn write_file(&self, path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
        let path = path.as_ref();
        let fail = |error: std::io::Error| Error::io("write", path, &error);
        let mut state = self.state();
        let mut node = FileNode::new(Vec::new(), 0);
        node.resize(bytes.len() as u64).and_then(|()| node.damage(0, bytes)).map_err(fail)?;
        let to = state.place(path).map_err(fail)?;
        let node = state.add(Node::File(node));
        state.names.change(Change { node, from: None, to: Some(to) });
        state.names.commit_all();
        state.forget();
        Ok(())
    }

    /// Replaces bytes of a file that exist.
    pub fn overwrite(&self, path: impl AsRef<Path>, offset: u64, bytes: &[u8]) -> Result<()> {
        self.with_file(path.as_ref(), "overwrite", |file| {
            let end = offset.checked_add(bytes.len() as u64);
            if end.is_none_or(|end| end > file.size()) {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            file.damage(offset, bytes)
        })
    }

    /// Cuts a file, or makes it longer with zeros.
    pub fn truncate(&self, path: impl AsRef<Path>, size: u64) -> Result<()> {
        self.with_file(path.as_ref(), "truncate", |file| file.resize(size))
    }

    /// Removes a file.
    pub fn remove(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let mut state = self.state();
        let removed = state.need(path).and_then(|id| state.file(id).map(drop));
        removed
            .and_then(|()| state.unlink(path))
            .map_err(|error| Error::io("remove", path, &error))?;
        state.names.commit_all();
        state.forget();
        Ok(())
    }

    /// Makes everything durable.
    pub fn sync_all(&self) {
        let mut state = self.state();
        state.names.commit_all();
        for file in state.nodes.values_mut().filter_map(Node::file) {
            file.settle();
        }
        state.forget();
    }
}
