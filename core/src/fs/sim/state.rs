//! Everything that a simulated disk knows, under one lock, and the way that every operation goes:
//! count it, cut the power if it is time, write something back, look for a fault, do it, trace it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::buffer::PAGE;
use super::fault::{Effect, Fault, Operation};
use super::file::{FileNode, Remains, pages_of};
use super::names::{Change, NameSpace, NodeId, ROOT};
use super::random::Random;
use crate::checksum::mix64;

/// A file or a directory.
pub(super) enum Node {
    File(FileNode),
    Directory,
}

/// A disk.
pub(super) struct State {
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) names: NameSpace,
    next_node: NodeId,
    /// What random words come from, and how often a lock was taken.
    pub(super) seed: u64,
    pub(super) lives: u64,
    pub(super) operations: u64,
    pub(super) changes: u64,
    pub(super) crash_at: Option<u64>,
    pub(super) crash_at_change: Option<u64>,
    pub(super) faults: Vec<Fault>,
    pub(super) faults_struck: u64,
    pub(super) capacity: Option<u64>,
    pub(super) write_back: Option<(u8, Random)>,
    /// Files cannot be read or written past the page cache.
    pub(super) refuses_direct: bool,
    pub(super) trace: Option<Vec<String>>,
    /// The moments recorded so far, if they are.
    pub(super) moments: Option<Vec<(u64, Frozen)>>,
    /// What the next moments are marked with.
    pub(super) mark: u64,
    /// What was there when the power went off.
    frozen: Option<Frozen>,
}

/// The state that crash images are drawn from.
#[derive(Clone)]
pub(super) struct Frozen {
    pub(super) names: NameSpace,
    pub(super) files: Arc<BTreeMap<NodeId, Remains>>,
    pub(super) capacity: Option<u64>,
    pub(super) seed: u64,
}

/// An operation that was allowed to begin.
pub(super) enum Begun {
    /// It shall happen.
    Whole,
    /// It shall fail with an error number, and this much of it happens.
    Failing(i32, Effect),
}

impl State {
    /// An empty disk.
    pub(super) fn new() -> State {
        State {
            nodes: BTreeMap::from([(ROOT, Node::Directory)]),
            names: NameSpace::default(),
            next_node: ROOT + 1,
            seed: 0,
            lives: 0,
            operations: 0,
            changes: 0,
            crash_at: None,
            crash_at_change: None,
            faults: Vec::new(),
            faults_struck: 0,
            capacity: None,
            write_back: None,
            refuses_direct: false,
            trace: None,
            moments: None,
            mark: 0,
            frozen: None,
        }
    }

    /// Counts an operation and says what shall become of it.
    pub(super) fn begin(&mut self, operation: &mut Operation<'_>) -> io::Result<Begun> {
        operation.index = self.operations;
        let change = operation.kind.changes();
        let crash = self.crash_at.is_some_and(|at| self.operations >= at)
            || change && self.crash_at_change.is_some_and(|at| self.changes >= at);
        if crash {
            self.power_off();
        }
        if self.frozen.is_some() {
            return Err(io::Error::other("the power is off"));
        }
        if change {
            self.note_moment();
        }
        self.operations += 1;
        self.changes += u64::from(change);
        self.write_something_back();
        let strike = |fault: &mut Fault| fault.strike(operation);
        match self.faults.iter_mut().find_map(strike) {
            Some((errno, effect)) => {
                self.faults_struck += 1;
                Ok(Begun::Failing(errno, effect))
            }
            None => Ok(Begun::Whole),
        }
    }

    /// Notes an operation that has ended.
    pub(super) fn end(&mut self, operation: &Operation<'_>, result: Result<(), String>) {
        if let Some(trace) = &mut self.trace {
            let result = result.err().map_or("ok".to_owned(), |error| format!("failed: {error}"));
            trace.push(format!("{operation}: {result}"));
        }
    }

    /// Keeps what is there now for crash images and refuses every later operation.
    pub(super) fn power_off(&mut self) {
        if self.frozen.is_none() {
            self.frozen = Some(self.remains());
        }
    }

    pub(super) fn is_off(&self) -> bool {
        self.frozen.is_some()
    }

    /// What power loss now, or when it happened, chooses from.
    pub(super) fn remains(&self) -> Frozen {
        if let Some(frozen) = &self.frozen {
            return frozen.clone();
        }
        let remains = |(id, node): (&NodeId, &Node)| match node {
            Node::File(file) => Some((*id, file.remains())),
            Node::Directory => None,
        };
        Frozen {
            names: self.names.clone(),
            files: Arc::new(self.nodes.iter().filter_map(remains).collect()),
            capacity: self.capacity,
            seed: mix64(self.seed, self.lives),
        }
    }

    /// Keeps what is there now, if moments are recorded and the power is on.
    pub(super) fn note_moment(&mut self) {
        if self.moments.is_none() || self.frozen.is_some() {
            return;
        }
        let (mark, mut remains) = (self.mark, self.remains());
        let moments = self.moments.get_or_insert_default();
        if let (Some((_, before)), Some(files)) = (moments.last(), Arc::get_mut(&mut remains.files))
        {
            for (id, file) in files {
                if let Some(before) = before.files.get(id) {
                    file.share_pages(before);
                }
            }
        }
        moments.push((mark, remains));
    }

    /// The disk as the next process finds it when the power stays on.
    pub(super) fn revive(remains: &Frozen) -> io::Result<State> {
        let mut state = State::new();
        state.capacity = remains.capacity;
        state.seed = remains.seed;
        state.names = remains.names.clone();
        for node in state.names.nodes() {
            state.next_node = state.next_node.max(node + 1);
            state.nodes.insert(node, Node::Directory);
        }
        for (id, file) in remains.files.iter() {
            if let Some(node) = state.nodes.get_mut(id) {
                *node = Node::File(FileNode::revive(file)?);
            }
        }
        Ok(state)
    }

    /// The system writes back what it likes when it likes: some pages, a size, the oldest names.
    fn write_something_back(&mut self) {
        let Some((percent, random)) = &mut self.write_back else { return };
        if !random.chance(*percent) {
            return;
        }
        let count = self.names.pending.len() as u64;
        if random.chance(10) {
            self.names.commit(random.below(count + 1) as usize);
        }
        let mut files: Vec<_> = self.nodes.values_mut().filter_map(Node::file).collect();
        if files.is_empty() {
            return;
        }
        let index = random.below(files.len() as u64) as usize;
        let file = &mut files[index];
        if random.chance(25) {
            file.write_back_size();
        }
        for _ in 0..random.below(8) {
            let pages = pages_of(file.size()) as u64;
            if pages > 0 {
                file.write_back(random.below(pages) as usize);
            }
        }
    }

    /// Adds a node that has no name yet.
    pub(super) fn add(&mut self, node: Node) -> NodeId {
        let id = self.next_node;
        self.next_node += 1;
        self.nodes.insert(id, node);
        id
    }

    /// The directory that a path lies in, and its name there.
    pub(super) fn place(&self, path: &Path) -> io::Result<(NodeId, OsString)> {
        let mut parts = components(path);
        let name = parts.pop().ok_or_else(|| errno(libc::EEXIST))?;
        let mut dir = ROOT;
        for part in parts {
            dir = self.names.live.get(dir, &part).ok_or_else(|| errno(libc::ENOENT))?;
            self.expect_directory(dir)?;
        }
        Ok((dir, name))
    }

    /// What a path names.
    pub(super) fn find(&self, path: &Path) -> io::Result<Option<NodeId>> {
        if components(path).is_empty() {
            return Ok(Some(ROOT));
        }
        match self.place(path) {
            Ok((dir, name)) => Ok(self.names.live.get(dir, &name)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What a path names, which must be something.
    pub(super) fn need(&self, path: &Path) -> io::Result<NodeId> {
        self.find(path)?.ok_or_else(|| errno(libc::ENOENT))
    }

    pub(super) fn expect_directory(&self, id: NodeId) -> io::Result<()> {
        match self.nodes.get(&id) {
            Some(Node::Directory) => Ok(()),
            _ => Err(errno(libc::ENOTDIR)),
        }
    }

    /// A file by its node.
    pub(super) fn file(&mut self, id: NodeId) -> io::Result<&mut FileNode> {
        match self.nodes.get_mut(&id) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Directory) => Err(errno(libc::EISDIR)),
            None => Err(errno(libc::ENOENT)),
        }
    }

    /// Gives a node a name where there may be none.
    pub(super) fn link_new(&mut self, path: &Path, node: Node) -> io::Result<NodeId> {
        let (dir, name) = self.place(path)?;
        if self.names.live.get(dir, &name).is_some() {
            return Err(errno(libc::EEXIST));
        }
        let id = self.add(node);
        self.names.change(Change { node: id, from: None, to: Some((dir, name)) });
        Ok(id)
    }

    /// Takes a node's name away.
    pub(super) fn unlink(&mut self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.place(path)?;
        let node = self.names.live.get(dir, &name).ok_or_else(|| errno(libc::ENOENT))?;
        self.names.change(Change { node, from: Some(dir), to: None });
        self.forget();
        Ok(())
    }

    /// Drops nodes that nobody can reach any more, whatever a crash would bring back.
    pub(super) fn forget(&mut self) {
        let known: BTreeSet<NodeId> = self.names.nodes().into_iter().collect();
        self.nodes.retain(|id, node| *id == ROOT || node.is_used() || known.contains(id));
    }

    /// Bytes of blocks of files that have a name or are in use.
    pub(super) fn allocated(&self) -> u64 {
        let named: BTreeSet<NodeId> = self.names.live.nodes().collect();
        let allocated = |(id, node): (&NodeId, &Node)| match node {
            Node::File(file) if node.is_used() || named.contains(id) => file.allocated(),
            _ => 0,
        };
        self.nodes.iter().map(allocated).sum()
    }

    /// How large a file may become that is now `size` bytes.
    pub(super) fn room(&self, size: u64) -> u64 {
        let Some(capacity) = self.capacity else { return u64::MAX };
        let free = capacity.saturating_sub(self.allocated()) / PAGE as u64 * PAGE as u64;
        size.next_multiple_of(PAGE as u64) + free
    }

    /// Every file that has a name, in the order of paths.
    pub(super) fn paths(&self) -> Vec<(PathBuf, NodeId)> {
        let mut found = Vec::new();
        let mut dirs = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, dir)) = dirs.pop() {
            for (name, id) in self.names.live.list(dir) {
                match self.nodes.get(&id) {
                    Some(Node::File(_)) => found.push((path.join(name), id)),
                    Some(Node::Directory) => dirs.push((path.join(name), id)),
                    None => {}
                }
            }
        }
        found.sort();
        found
    }
}

impl Node {
    pub(super) fn file(&mut self) -> Option<&mut FileNode> {
        match self {
            Node::File(file) => Some(file),
            Node::Directory => None,
        }
    }

    /// Whether a handle or a map of it exists.
    fn is_used(&self) -> bool {
        match self {
            Node::File(file) => Arc::strong_count(&file.users) > 1,
            Node::Directory => false,
        }
    }
}

/// An error as the system would report it.
pub(super) fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

/// The names on the way to a path from the root, where relative paths begin too.
fn components(path: &Path) -> Vec<OsString> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => parts.push(name.to_owned()),
            Component::ParentDir => {
                parts.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    parts
}
