//! How the memtable's cursor moves through the tree (part of layer L3's memtable).
//!
//! Depths here are those of links: the number of nibbles that the keys below a link share.

use super::arena::Records;
use super::index::Memtable;
use super::leaf::{Leaf, Permutation};
use super::node::{Child, Fence, Head, Inner, Node, nibble};
use super::tree::leaf_from;
use crate::prefetch::prefetch;
use std::ptr::NonNull;
use std::sync::Arc;

/// Records of a leaf that are fetched into the cache before the cursor stands on them: a scan of a
/// million keys takes 37 ns a key with it, 65 ns without (`benches/memtable.rs`).
pub(super) const AHEAD: usize = 8;

/// An ordered cursor over the keys of a memtable. It keeps the memtable alive. See
/// [`Memtable::iter`].
pub(crate) struct MemIter {
    /// Nodes above the current key, and their depths. They point into `memtable`.
    pub(super) above: Vec<(Above, usize)>,
    /// The leaf with the current key; `None` when the key ends at the last of `above`.
    pub(super) leaf: Option<InLeaf>,
    /// Key record of the current key; 0 when the cursor is not valid.
    pub(super) record: u32,
    pub(super) memtable: Arc<Memtable>,
}

/// A node on the way to the current key.
#[derive(Clone, Copy)]
pub(super) enum Above {
    Inner(NonNull<Inner>),
    Head(NonNull<Head>),
    Fence(NonNull<Fence>),
}

/// A place in a leaf, whose order is as it was when the cursor came.
#[derive(Clone, Copy)]
pub(super) struct InLeaf {
    pub(super) leaf: NonNull<Leaf>,
    pub(super) permutation: Permutation,
    pub(super) rank: usize,
}

/// Where a descent for a key ended.
pub(super) enum Found {
    /// At a leaf that was first met at a link of this depth.
    Leaf(NonNull<Leaf>, usize),
    /// All keys below this child (at this depth) are greater.
    Before(Child, usize),
    /// All keys below this child (at this depth) are smaller.
    After(Child, usize),
    /// At this head's end.
    End(NonNull<Head>),
    /// At an empty link.
    Empty,
}

/// Which keys a move forward may stop at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    AtOrAfter,
    After,
}

// SAFETY: the pointers lead into the memtable that the cursor owns a share of, which is Sync.
unsafe impl Send for MemIter {}

impl MemIter {
    /// A cursor that stands on no key.
    pub(super) fn new(memtable: Arc<Memtable>) -> MemIter {
        MemIter { above: Vec::new(), leaf: None, record: 0, memtable }
    }

    pub(super) fn reset(&mut self) {
        self.above.clear();
        self.stop();
    }

    /// Leaves all keys.
    pub(super) fn stop(&mut self) {
        self.leaf = None;
        self.record = 0;
    }

    /// Goes from the root as far as `key` leads, and remembers the way.
    pub(super) fn descend(&mut self, key: &[u8]) -> Found {
        self.reset();
        let (mut child, mut depth) = (self.memtable.tree.root.load(), 0);
        loop {
            // SAFETY: loaded with Acquire from the tree of the memtable that the cursor holds.
            let inner = match unsafe { child.node() } {
                Node::Inner(inner) => inner,
                Node::Leaf(leaf) => return Found::Leaf(leaf.into(), depth),
                Node::Step(step, inner) => {
                    match nibble(key, depth) {
                        Some(slot) if slot > step => return Found::After(child, depth),
                        Some(slot) if slot == step => {}
                        _ => return Found::Before(child, depth),
                    }
                    child = child.without_step();
                    depth += 1;
                    inner
                }
                Node::Head(head) => {
                    if !head.is_shared_by(key, depth, &self.memtable.tree.records) {
                        let is_after = self.memtable.tree.is_after(head, key, depth);
                        let found = if is_after { Found::After } else { Found::Before };
                        return found(child, depth);
                    }
                    depth += head.skip as usize;
                    self.above.push((Above::Head(head.into()), depth));
                    if depth == 2 * key.len() {
                        return Found::End(head.into());
                    }
                    child = head.child.load();
                    continue;
                }
                Node::Fence(fence) => {
                    self.above.push((Above::Fence(fence.into()), depth));
                    child = fence.child_for(key, leaf_from(depth), &self.memtable.tree.records);
                    continue;
                }
                Node::Empty => return Found::Empty,
            };
            let Some(slot) = nibble(key, depth) else { return Found::Before(child, depth) };
            self.above.push((Above::Inner(inner.into()), depth));
            child = inner.slots[slot].load();
            depth += 1;
        }
    }

    /// Fetches the leaf that is probably the next after the one that `key` led to.
    pub(super) fn prefetch_after(&self, key: &[u8]) {
        if let Some(&(Above::Inner(inner), depth)) = self.above.last()
            && let Some(slot) = nibble(key, depth)
        {
            // SAFETY: the memtable holds its nodes as long as the cursor holds it.
            unsafe { inner.as_ref() }.prefetch_after(slot);
        }
    }

    /// Goes to the first key after all that is below the way that `key` takes through the nodes
    /// above; with a leaf beside that way, to its first key within `bound`.
    pub(super) fn advance(&mut self, key: &[u8], bound: Bound) {
        while let Some(&(above, depth)) = self.above.last() {
            let found = match above {
                Above::Inner(inner) => {
                    // SAFETY: the memtable holds its nodes as long as the cursor holds it.
                    self.after_slot(unsafe { inner.as_ref() }, depth, key, bound)
                }
                Above::Head(head) if 2 * key.len() == depth => {
                    // SAFETY: as above.
                    let child = unsafe { head.as_ref() }.child.load();
                    self.first_below(child, depth)
                }
                Above::Head(_) => false,
                Above::Fence(fence) => {
                    // SAFETY: as above.
                    self.after_child(unsafe { fence.as_ref() }, depth, key, bound)
                }
            };
            if found {
                return;
            }
            self.above.pop();
        }
        self.stop();
    }

    fn after_slot(&mut self, inner: &Inner, depth: usize, key: &[u8], bound: Bound) -> bool {
        let start = nibble(key, depth).map_or(0, |slot| slot + 1);
        (start..16).any(|slot| {
            let child = inner.slots[slot].load();
            // SAFETY: loaded with Acquire from the tree of the memtable that the cursor holds.
            let found = match unsafe { child.node() } {
                Node::Leaf(leaf) => self.first_in_leaf(leaf, depth + 1, key, bound),
                _ => self.first_below(child, depth + 1),
            };
            if found {
                inner.prefetch_after(slot);
            }
            found
        })
    }

    fn after_child(&mut self, fence: &Fence, depth: usize, key: &[u8], bound: Bound) -> bool {
        let (_, next) = fence.beside(key, leaf_from(depth), &self.memtable.tree.records);
        // SAFETY: loaded with Acquire from the tree of the memtable that the cursor holds.
        match unsafe { next.node() } {
            Node::Leaf(leaf) => self.first_in_leaf(leaf, depth, key, bound),
            _ => self.first_below(next, depth),
        }
    }

    /// The mirror image of `advance`: to the last key before all that is below the way of `key`.
    pub(super) fn retreat(&mut self, key: &[u8]) {
        while let Some(&(above, depth)) = self.above.last() {
            let found = match above {
                // SAFETY: the memtable holds its nodes as long as the cursor holds it.
                Above::Inner(inner) => self.before_slot(unsafe { inner.as_ref() }, depth, key),
                // SAFETY: as above.
                Above::Head(head) => self.stand_on_end(unsafe { head.as_ref() }),
                Above::Fence(fence) => {
                    // SAFETY: as above.
                    self.before_child(unsafe { fence.as_ref() }, depth, key)
                }
            };
            if found {
                return;
            }
            self.above.pop();
        }
        self.stop();
    }

    fn before_slot(&mut self, inner: &Inner, depth: usize, key: &[u8]) -> bool {
        let end = nibble(key, depth).unwrap_or(0);
        (0..end).rev().any(|slot| {
            let child = inner.slots[slot].load();
            // SAFETY: loaded with Acquire from the tree of the memtable that the cursor holds.
            let found = match unsafe { child.node() } {
                Node::Leaf(leaf) => self.last_in_leaf(leaf, depth + 1, key),
                _ => self.last_below(child, depth + 1),
            };
            if found {
                inner.prefetch_before(slot);
            }
            found
        })
    }

    fn before_child(&mut self, fence: &Fence, depth: usize, key: &[u8]) -> bool {
        let (before, _) = fence.beside(key, leaf_from(depth), &self.memtable.tree.records);
        // SAFETY: loaded with Acquire from the tree of the memtable that the cursor holds.
        match unsafe { before.node() } {
            Node::Leaf(leaf) => self.last_in_leaf(leaf, depth, key),
            _ => self.last_below(before, depth),
        }
    }

    /// Goes to the first key below `child`, which was met at a link of this depth. False when the
    /// child is empty.
    pub(super) fn first_below(&mut self, mut child: Child, mut depth: usize) -> bool {
        loop {
            // SAFETY: loaded with Acquire from the tree of the memtable that the cursor holds.
            let inner = match unsafe { child.node() } {
                Node::Inner(inner) => inner,
                Node::Step(_, inner) => {
                    depth += 1;
                    inner
                }
                Node::Leaf(leaf) => return self.enter_forwards(leaf, leaf.permutation(), 0),
                Node::Head(head) => {
                    depth += head.skip as usize;
                    self.above.push((Above::Head(head.into()), depth));
                    if self.stand_on_end(head) {
                        return true;
                    }
                    child = head.child.load();
                    continue;
                }
                Node::Fence(fence) => {
                    self.above.push((Above::Fence(fence.into()), depth));
                    child = fence.first();
                    continue;
                }
                Node::Empty => return false,
            };
            self.above.push((Above::Inner(inner.into()), depth));
            child = inner.first();
            depth += 1;
        }
    }

    /// Goes to the last key below `child`, which was met at a link of this depth. False when the
    /// child is empty.
    pub(super) fn last_below(&mut self, mut child: Child, mut depth: usize) -> bool {
        loop {
            // SAFETY: loaded with Acquire from the tree of the memtable that the cursor holds.
            let inner = match unsafe { child.node() } {
                Node::Inner(inner) => inner,
                Node::Step(_, inner) => {
                    depth += 1;
                    inner
                }
                Node::Leaf(leaf) => {
                    let permutation = leaf.permutation();
                    return self.enter_backwards(leaf, permutation, permutation.len() - 1);
                }
                Node::Head(head) => {
                    depth += head.skip as usize;
                    self.above.push((Above::Head(head.into()), depth));
                    child = head.child.load();
                    continue;
                }
                Node::Fence(fence) => {
                    self.above.push((Above::Fence(fence.into()), depth));
                    child = fence.last();
                    continue;
                }
                Node::Empty => return false,
            };
            self.above.push((Above::Inner(inner.into()), depth));
            child = inner.last();
            depth += 1;
        }
    }

    /// Stands on the first key of `leaf` within `bound` of `key`, if there is one.
    pub(super) fn first_in_leaf(
        &mut self,
        leaf: &Leaf,
        depth: usize,
        key: &[u8],
        bound: Bound,
    ) -> bool {
        let permutation = leaf.permutation();
        let at = leaf.rank(key, leaf_from(depth), permutation, &self.memtable.tree.records);
        let skip = usize::from(at.record.is_some() && bound == Bound::After);
        self.enter_forwards(leaf, permutation, at.rank + skip)
    }

    /// Stands on the last key of `leaf` below `key`, if there is one.
    pub(super) fn last_in_leaf(&mut self, leaf: &Leaf, depth: usize, key: &[u8]) -> bool {
        let permutation = leaf.permutation();
        let at = leaf.rank(key, leaf_from(depth), permutation, &self.memtable.tree.records);
        at.rank > 0 && self.enter_backwards(leaf, permutation, at.rank - 1)
    }

    /// Stands on a rank of a leaf, if the leaf has it, to go on forwards.
    fn enter_forwards(&mut self, leaf: &Leaf, permutation: Permutation, rank: usize) -> bool {
        let at = InLeaf { leaf: leaf.into(), permutation, rank };
        (1..=AHEAD).for_each(|ahead| at.prefetch(rank + ahead, &self.memtable.tree.records));
        self.enter(at)
    }

    /// Stands on a rank of a leaf, to go on backwards.
    fn enter_backwards(&mut self, leaf: &Leaf, permutation: Permutation, rank: usize) -> bool {
        let at = InLeaf { leaf: leaf.into(), permutation, rank };
        let records = &self.memtable.tree.records;
        (rank.saturating_sub(AHEAD)..rank).rev().for_each(|rank| at.prefetch(rank, records));
        self.enter(at)
    }

    #[inline]
    fn enter(&mut self, at: InLeaf) -> bool {
        if at.rank >= at.permutation.len() {
            return false;
        }
        self.record = at.record();
        self.leaf = Some(at);
        true
    }

    pub(super) fn stand_on_end(&mut self, head: &Head) -> bool {
        let Some(end) = self.memtable.tree.end_of(head) else { return false };
        self.record = end.offset();
        self.leaf = None;
        true
    }
}

impl InLeaf {
    /// The key record.
    #[inline]
    pub(super) fn record(&self) -> u32 {
        // SAFETY: the leaf belongs to the memtable that the cursor holds.
        unsafe { self.leaf.as_ref() }.record(self.permutation.slot(self.rank))
    }

    /// Fetches the record of `rank`, if there is one, into the cache.
    #[inline]
    pub(super) fn prefetch(&self, rank: usize, records: &Records) {
        if rank < self.permutation.len() {
            let record = InLeaf { rank, ..*self }.record();
            // SAFETY: from a slot of a permutation that was loaded with Acquire.
            let start = unsafe { records.address(record) };
            // Records of short keys often lie across two lines.
            prefetch(start);
            prefetch(start.wrapping_add(40));
        }
    }
}
