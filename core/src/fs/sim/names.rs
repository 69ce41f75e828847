//! The names of the simulated disk: those that a process sees, those that are durable, and the
//! changes between the two.
//!
//! Invariants: a node has at most one name; a change is one step, so that a rename is never half
//! done; the durable names are the seen ones less the pending changes, applied in order.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// Identifies a file or directory of one disk.
pub(super) type NodeId = u64;

/// The root directory.
pub(super) const ROOT: NodeId = 0;

/// Names at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    entries: BTreeMap<(NodeId, OsString), NodeId>,
}

impl Names {
    /// What a name in a directory means.
    pub(super) fn get(&self, dir: NodeId, name: &OsStr) -> Option<NodeId> {
        self.entries.get(&(dir, name.to_owned())).copied()
    }

    /// The entries of a directory in the order of their names.
    pub(super) fn list(&self, dir: NodeId) -> impl Iterator<Item = (&OsStr, NodeId)> {
        let from = (dir, OsString::new());
        self.entries
            .range(from..)
            .take_while(move |((of, _), _)| *of == dir)
            .map(|((_, name), node)| (&**name, *node))
    }

    /// Every node that has a name.
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.entries.values().copied()
    }

    /// Applies one change.
    pub(super) fn apply(&mut self, change: &Change) {
        self.entries.retain(|_, node| *node != change.node);
        if let Some((dir, name)) = &change.to {
            self.entries.insert((*dir, name.clone()), change.node);
        }
    }
}

/// One step: a node gets a name, in place of the one it had and of the node that had it, or loses
/// its name.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) node: NodeId,
    /// The directory that the old name was in, if there was one.
    pub(super) from: Option<NodeId>,
    /// The new name, if there is one.
    pub(super) to: Option<(NodeId, OsString)>,
}

impl Change {
    /// Whether a sync of this directory makes the change durable.
    fn touches(&self, dir: NodeId) -> bool {
        self.from == Some(dir) || self.to.as_ref().is_some_and(|(to, _)| *to == dir)
    }
}

/// The names of a disk.
#[derive(Clone, Debug, Default)]
pub(super) struct NameSpace {
    pub(super) live: Names,
    pub(super) durable: Names,
    pub(super) pending: Vec<Change>,
}

impl NameSpace {
    /// A change that processes see at once and that power loss may undo.
    pub(super) fn change(&mut self, change: Change) {
        self.live.apply(&change);
        self.pending.push(change);
    }

    /// Makes the changes in a directory durable, and those that led to them.
    pub(super) fn sync(&mut self, dir: NodeId) {
        let touching = self.pending.iter().enumerate().filter(|(_, change)| change.touches(dir));
        let last: BTreeMap<NodeId, usize> = touching.map(|(i, change)| (change.node, i)).collect();
        let pending = std::mem::take(&mut self.pending);
        for (i, change) in pending.into_iter().enumerate() {
            if last.get(&change.node).is_some_and(|last| i <= *last) {
                self.durable.apply(&change);
            } else {
                self.pending.push(change);
            }
        }
    }

    /// Makes the first `count` changes durable.
    pub(super) fn commit(&mut self, count: usize) {
        for change in self.pending.drain(..count) {
            self.durable.apply(&change);
        }
    }

    /// Makes every change durable.
    pub(super) fn commit_all(&mut self) {
        self.commit(self.pending.len());
    }

    /// Every node that has, had or may get a name; some more than once.
    pub(super) fn nodes(&self) -> Vec<NodeId> {
        let pending = self.pending.iter().map(|change| change.node);
        self.live.nodes().chain(self.durable.nodes()).chain(pending).collect()
    }
}
