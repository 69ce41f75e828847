//! Fenced parts: the part of the memtable's tree for keys that nibbles tell apart badly (part of
//! layer L3's memtable).
//!
//! Keys such as a, aa, aaa ... make a tree over nibbles as deep as they are long. When a way
//! through the tree gets too long, its lower half becomes a balanced tree: leaves as elsewhere, and
//! above them fences, whose children are told apart by the smallest key of each.

use super::grow::with_new;
use super::leaf::{LEAF_LEN, Leaf, Slot, window};
use super::node::{Child, Fence, Link, Node, Part, nibble};
use super::record::NewRecord;
use super::tree::{MOST_LEVELS, Place, Tree, Writer};
use std::sync::atomic::Ordering;

/// Keys of a leaf, and parts of a fence, that are made in a row.
const KEYS_IN_ROW: usize = 10;
const PARTS_IN_ROW: usize = 7;

impl Tree {
    /// Adds a version of a key below the fence that `place` leads to.
    #[cold]
    pub(super) fn insert_in_fence(
        &self,
        place: Place<'_>,
        new: &NewRecord<'_>,
        writer: &mut Writer,
    ) -> bool {
        let from = place.leaf_from();
        let (mut child, mut above) = (place.link.load(), None);
        loop {
            // SAFETY: the writer loaded it from its tree.
            match unsafe { child.node() } {
                Node::Fence(fence) if fence.has_room() => {
                    let rank = fence.rank(new.key, from, fence.order(), &self.records);
                    child = fence.children[fence.order().slot(rank)].load();
                    above = Some((fence, rank));
                }
                Node::Fence(fence) => {
                    renew(fence, above, place, writer);
                    (child, above) = (place.link.load(), None);
                }
                Node::Leaf(leaf) => {
                    return self.insert_in_fenced_leaf(leaf, above, from, new, writer);
                }
                _ => unreachable!("below a fence there are fences and leaves only"),
            }
        }
    }

    fn insert_in_fenced_leaf(
        &self,
        leaf: &Leaf,
        above: Option<(&Fence, usize)>,
        from: usize,
        new: &NewRecord<'_>,
        writer: &mut Writer,
    ) -> bool {
        let order = leaf.permutation();
        let found = leaf.rank(new.key, from, order, &self.records);
        if let Some(record) = found.record {
            // SAFETY: the writer found it in its tree.
            new.push_version(unsafe { self.record(record) }, &mut writer.end);
            return false;
        }
        let slot = self.push_key(new, from, writer);
        if order.len() < LEAF_LEN {
            leaf.fill(order.len(), slot);
            leaf.publish(order.with(found.rank, order.len()));
        } else {
            let slots = with_new(leaf, found.rank, slot);
            let (left, right) = slots.split_at(slots.len() / 2);
            let child = Child::leaf(Leaf::new(left), &mut writer.nodes);
            let right = leaf_part(right, writer);
            let (fence, rank) = above.expect("a leaf in a fenced part has a fence above it");
            fence.divide(rank, child, right);
        }
        true
    }

    /// Cuts the way to the key that a reader reported, if it is still too long.
    #[cold]
    pub(super) fn cut_reported(&self, writer: &mut Writer) {
        let record = self.deep.swap(0, Ordering::Relaxed);
        // SAFETY: readers store offsets of key records, all of which the writer knows.
        let key = unsafe { self.record(record) }.key();
        self.cut(key, writer);
    }

    /// If the way to `key` has more than [`MOST_LEVELS`] levels, puts a fence in the middle of it
    /// with all keys below.
    ///
    /// Between two moves of a key into a fence the way to it grew by half of [`MOST_LEVELS`], each
    /// level at another of its nibbles: a key of `n` bytes is moved `n / 24 + 1` times at most.
    #[cold]
    pub(super) fn cut(&self, key: &[u8], writer: &mut Writer) {
        let mut place = self.root_place();
        let mut middle = place;
        let mut levels = 0;
        loop {
            if levels == MOST_LEVELS / 2 {
                middle = place;
            }
            let mut depth = place.depth;
            // SAFETY: the writer loaded it from its tree.
            let inner = match unsafe { place.link.load().node() } {
                Node::Inner(inner) => inner,
                Node::Step(step, inner) if nibble(key, depth) == Some(step) => {
                    depth += 1;
                    inner
                }
                Node::Head(head) if head.is_shared_by(key, depth, &self.records) => {
                    depth += head.skip as usize;
                    place = Place { link: &head.child, depth, inner: None };
                    levels += 1;
                    continue;
                }
                _ => break,
            };
            let Some(slot) = nibble(key, depth) else { break };
            let link = &inner.slots[slot];
            place = Place { link, depth: depth + 1, inner: Some((inner, slot)) };
            levels += 1;
        }
        if levels > MOST_LEVELS {
            let fenced = self.fenced(&self.below(middle.link.load()), middle.leaf_from(), writer);
            middle.link.publish(fenced);
        }
    }

    /// The key records below `child`, in key order.
    fn below(&self, child: Child) -> Vec<u32> {
        let (mut records, mut rest) = (Vec::new(), vec![child]);
        while let Some(child) = rest.pop() {
            // SAFETY: the writer loaded it from its tree.
            match unsafe { child.node() } {
                Node::Empty => {}
                Node::Leaf(leaf) => {
                    let order = leaf.permutation();
                    records.extend((0..order.len()).map(|rank| leaf.record(order.slot(rank))));
                }
                Node::Inner(inner) | Node::Step(_, inner) => {
                    let first = rest.len();
                    rest.extend(inner.slots.iter().rev().map(Link::load));
                    // Neighbouring slots may share a leaf.
                    let mut kept = rest.split_off(first);
                    kept.dedup();
                    rest.append(&mut kept);
                }
                Node::Head(head) => {
                    records.extend(self.end_of(head).map(|end| end.offset()));
                    rest.push(head.child.load());
                }
                Node::Fence(fence) => {
                    let first = rest.len();
                    rest.extend(fence.parts().map(|part| part.child));
                    rest[first..].reverse();
                }
            }
        }
        records
    }

    /// A balanced tree of these keys, in order, which share the bytes before `from`.
    fn fenced(&self, records: &[u32], from: usize, writer: &mut Writer) -> Child {
        let slot = |&record: &u32| {
            // SAFETY: the writer read it from its tree.
            let key = unsafe { self.record(record) }.key();
            Slot { window: window(key, from), record }
        };
        let mut parts: Vec<Part> = (records.chunks(KEYS_IN_ROW))
            .map(|records| leaf_part(&records.iter().map(slot).collect::<Vec<_>>(), writer))
            .collect();
        loop {
            parts = parts.chunks(PARTS_IN_ROW).map(|parts| fence_part(parts, writer)).collect();
            if let [top] = parts[..] {
                return top.child;
            }
        }
    }
}

fn leaf_part(slots: &[Slot], writer: &mut Writer) -> Part {
    Part { separator: slots[0], child: Child::leaf(Leaf::new(slots), &mut writer.nodes) }
}

fn fence_part(parts: &[Part], writer: &mut Writer) -> Part {
    let child = Child::fence(Fence::new(parts), &mut writer.nodes);
    Part { separator: parts[0].separator, child }
}

/// Replaces a fence without room by a copy, or by two halves. `above` has room.
fn renew(fence: &Fence, above: Option<(&Fence, usize)>, place: Place<'_>, writer: &mut Writer) {
    let parts: Vec<Part> = fence.parts().collect();
    if parts.len() <= PARTS_IN_ROW {
        let copy = fence_part(&parts, writer).child;
        match above {
            Some((above, rank)) => above.children[above.order().slot(rank)].publish(copy),
            None => place.link.publish(copy),
        }
        return;
    }
    let (left, right) = parts.split_at(parts.len() / 2);
    let halves = [fence_part(left, writer), fence_part(right, writer)];
    match above {
        Some((above, rank)) => above.divide(rank, halves[0].child, halves[1]),
        None => place.link.publish(fence_part(&halves, writer).child),
    }
}
