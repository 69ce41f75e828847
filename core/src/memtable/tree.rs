//! The tree of the memtable: finding and inserting (part of layer L3's memtable).
//!
//! One thread inserts while any number read. A reader meets only whole nodes, because each change
//! is one Release store: a permutation word, a link, or the end of a head. A leaf that is full is
//! replaced by new ones; a reader inside the old one keeps a view that lacks newer keys only.

use super::arena::{Nodes, Records, RecordsEnd};
use super::leaf::{LEAF_LEN, Leaf, Slot, window};
use super::node::{Child, Head, Inner, Link, Node, nibble};
use super::record::{NewRecord, Record};
use std::sync::atomic::{AtomicU32, Ordering};

/// What only the writer has.
pub(super) struct Writer {
    pub(super) end: RecordsEnd,
    pub(super) nodes: Nodes,
}

/// The root link and the records that it leads to.
pub(super) struct Tree {
    pub(super) root: Link,
    pub(super) records: Records,
    /// A key record that a reader found below too many levels, or 0; the writer sees to it.
    pub(super) deep: AtomicU32,
}

/// Nodes on the way to a key. Longer ways are cut to half of it and a fence. Only keys that share
/// each a little more with a long key make them: a million random keys have six.
pub(super) const MOST_LEVELS: usize = if cfg!(miri) { 10 } else { 96 };

/// A link that the writer may replace.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) link: &'a Link,
    /// The keys below the link share this many nibbles.
    pub(super) depth: usize,
    /// The inner node whose slot the link is: its neighbours may lead to the same leaf.
    pub(super) inner: Option<(&'a Inner, usize)>,
}

impl Place<'_> {
    /// The first byte of keys that a leaf in this place looks at. Keys of a leaf in an inner node
    /// share the node's depth only, one nibble less.
    #[inline(always)]
    pub(super) fn leaf_from(&self) -> usize {
        leaf_from(self.depth)
    }

    /// Puts `child` here; neighbours that led to the same leaf become empty.
    pub(super) fn replace(&self, child: Child) {
        if let Some((inner, slot)) = self.inner {
            let (low, high) = inner.range(slot);
            inner.publish(low, slot, Child::EMPTY);
            inner.publish(slot + 1, high, Child::EMPTY);
        }
        self.link.publish(child);
    }
}

/// The first byte that a leaf looks at which was met at a link of this depth.
#[inline(always)]
pub(super) fn leaf_from(link_depth: usize) -> usize {
    link_depth.saturating_sub(1) / 2
}

impl Tree {
    pub(super) fn new(records: Records) -> Tree {
        Tree { root: Link::new(Child::EMPTY), records, deep: AtomicU32::new(0) }
    }

    /// The place of the root.
    #[inline(always)]
    pub(super) fn root_place(&self) -> Place<'_> {
        Place { link: &self.root, depth: 0, inner: None }
    }

    /// A record that a link, a leaf or a head of this tree named.
    ///
    /// # Safety
    /// - `offset` was loaded from this tree with Acquire, or by the writer, and is not 0.
    #[inline(always)]
    pub(super) unsafe fn record(&self, offset: u32) -> Record<'_> {
        // SAFETY: offsets in the tree are those of whole key records, stored with Release.
        unsafe { Record::at(&self.records, offset) }
    }

    /// The key record of `key`.
    #[inline]
    pub(super) fn find(&self, key: &[u8]) -> Option<Record<'_>> {
        let (mut child, mut depth) = (self.root.load(), 0);
        let mut levels = 0;
        loop {
            // SAFETY: loaded with Acquire from this tree, whose nodes live as long as it does.
            let inner = match unsafe { child.node() } {
                Node::Inner(inner) => inner,
                Node::Leaf(leaf) => {
                    let found = leaf.find(key, leaf_from(depth), &self.records)?;
                    // SAFETY: from a slot of a permutation loaded with Acquire.
                    let found = unsafe { self.record(found) };
                    return Some(self.report_if_deep(found, levels));
                }
                Node::Step(step, inner) => {
                    if nibble(key, depth) != Some(step) {
                        return None;
                    }
                    depth += 1;
                    inner
                }
                Node::Head(head) => {
                    if !head.is_shared_by(key, depth, &self.records) {
                        return None;
                    }
                    depth += head.skip as usize;
                    if depth == 2 * key.len() {
                        return Some(self.report_if_deep(self.end_of(head)?, levels));
                    }
                    child = head.child.load();
                    levels += 1;
                    continue;
                }
                Node::Fence(fence) => {
                    child = fence.child_for(key, leaf_from(depth), &self.records);
                    continue;
                }
                Node::Empty => return None,
            };
            child = inner.slots[nibble(key, depth)?].load();
            depth += 1;
            levels += 1;
        }
    }

    #[inline(always)]
    fn report_if_deep<'a>(&self, found: Record<'a>, levels: usize) -> Record<'a> {
        if levels > MOST_LEVELS {
            self.deep.store(found.offset(), Ordering::Relaxed);
        }
        found
    }

    /// Fetches the leaf where `key` belongs into the cache. Shared nibbles are not compared: a key
    /// that does not share them is led to a wrong leaf, which does no harm.
    #[inline]
    pub(super) fn prefetch(&self, key: &[u8]) {
        let (mut child, mut depth) = (self.root.load(), 0);
        loop {
            // SAFETY: loaded with Acquire from this tree, whose nodes live as long as it does.
            let inner = match unsafe { child.node() } {
                Node::Inner(inner) => inner,
                Node::Step(_, inner) => {
                    depth += 1;
                    inner
                }
                Node::Head(head) => {
                    depth += head.skip as usize;
                    child = head.child.load();
                    continue;
                }
                Node::Leaf(leaf) => return leaf.prefetch(),
                Node::Fence(_) | Node::Empty => return,
            };
            let Some(slot) = nibble(key, depth) else { return };
            child = inner.slots[slot].load();
            depth += 1;
        }
    }

    /// The key that ends at `head`.
    #[inline]
    pub(super) fn end_of(&self, head: &Head) -> Option<Record<'_>> {
        match head.end.load(Ordering::Acquire) {
            0 => None,
            // SAFETY: loaded with Acquire.
            end => Some(unsafe { self.record(end) }),
        }
    }

    /// True when `key`, which came to `head` at `depth` and does not share its nibbles, is greater
    /// than all keys below.
    pub(super) fn is_after(&self, head: &Head, key: &[u8], depth: usize) -> bool {
        let shared = head.shared_with(key, depth, &self.records);
        nibble(key, shared).is_some_and(|slot| slot > self.nibble_of(head.witness, shared))
    }

    /// Adds a version of a key. True when the key is new.
    ///
    /// # Safety
    /// - `writer` is this tree's own, so that no other thread inserts at the same time.
    #[inline]
    pub(super) unsafe fn insert(&self, new: &NewRecord<'_>, writer: &mut Writer) -> bool {
        let key = new.key;
        if self.deep.load(Ordering::Relaxed) != 0 {
            self.cut_reported(writer);
        }
        let mut place = self.root_place();
        let mut levels = 0;
        loop {
            if levels > MOST_LEVELS {
                self.cut(key, writer);
                (place, levels) = (self.root_place(), 0);
            }
            levels += 1;
            let child = place.link.load();
            let mut depth = place.depth;
            // SAFETY: the writer loaded it from its tree.
            let inner = match unsafe { child.node() } {
                Node::Inner(inner) => inner,
                Node::Leaf(leaf) => return self.insert_in_leaf(leaf, place, new, writer),
                Node::Step(step, inner) => {
                    if nibble(key, depth) != Some(step) {
                        return self.fork_step(child, step, place, new, writer);
                    }
                    depth += 1;
                    inner
                }
                Node::Head(head) => {
                    if !head.is_shared_by(key, depth, &self.records) {
                        return self.fork_head(head, place, new, writer);
                    }
                    depth += head.skip as usize;
                    if depth == 2 * key.len() {
                        return self.insert_at_end(head, new, writer);
                    }
                    place = Place { link: &head.child, depth, inner: None };
                    continue;
                }
                Node::Fence(_) => return self.insert_in_fence(place, new, writer),
                Node::Empty => return self.insert_in_empty(place, new, writer),
            };
            let Some(slot) = nibble(key, depth) else {
                return self.insert_above(depth, place, new, writer);
            };
            place =
                Place { link: &inner.slots[slot], depth: depth + 1, inner: Some((inner, slot)) };
        }
    }

    #[inline(always)]
    fn insert_in_leaf(
        &self,
        leaf: &Leaf,
        place: Place<'_>,
        new: &NewRecord<'_>,
        writer: &mut Writer,
    ) -> bool {
        let from = place.leaf_from();
        let permutation = leaf.permutation();
        let found = leaf.rank(new.key, from, permutation, &self.records);
        if let Some(record) = found.record {
            // SAFETY: the writer found it in its tree.
            new.push_version(unsafe { self.record(record) }, &mut writer.end);
            return false;
        }
        let slot = self.push_key(new, from, writer);
        let len = permutation.len();
        if len < LEAF_LEN {
            leaf.fill(len, slot);
            leaf.publish(permutation.with(found.rank, len));
        } else {
            self.split(leaf, found.rank, slot, place, writer);
        }
        true
    }

    /// Adds the key's record for a leaf that looks at keys from byte `from` on.
    #[inline(always)]
    pub(super) fn push_key(&self, new: &NewRecord<'_>, from: usize, writer: &mut Writer) -> Slot {
        let record = new.push_key(&self.records, &mut writer.end);
        Slot { window: window(new.key, from), record }
    }

    #[cold]
    fn insert_in_empty(&self, place: Place<'_>, new: &NewRecord<'_>, writer: &mut Writer) -> bool {
        let slot = self.push_key(new, place.leaf_from(), writer);
        let leaf = Child::leaf(Leaf::new(&[slot]), &mut writer.nodes);
        match place.inner {
            Some((inner, slot)) => {
                let (low, high) = inner.range(slot);
                inner.publish(low, high, leaf);
            }
            None => place.link.publish(leaf),
        }
        true
    }

    /// The key ends exactly where `head` ends.
    #[cold]
    fn insert_at_end(&self, head: &Head, new: &NewRecord<'_>, writer: &mut Writer) -> bool {
        if let Some(record) = self.end_of(head) {
            new.push_version(record, &mut writer.end);
            return false;
        }
        let record = new.push_key(&self.records, &mut writer.end);
        head.end.store(record, Ordering::Release);
        true
    }
}
