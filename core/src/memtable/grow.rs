//! The rare changes of the memtable's tree: splits and forks (part of layer L3's memtable).
//!
//! New nodes are made whole, then published by a store to a link that is already in the tree.

use super::leaf::{LEAF_LEN, Leaf, Slot, window};
use super::node::{Child, Head, Inner, nibble, shared_nibbles};
use super::record::NewRecord;
use super::tree::{Place, Tree, Writer};
use std::sync::atomic::Ordering;

/// The slots of a full leaf and the new one, in key order.
pub(super) type Slots = [Slot; LEAF_LEN + 1];

/// The slots of a full leaf with `new` at its rank.
pub(super) fn with_new(leaf: &Leaf, rank: usize, new: Slot) -> Slots {
    let order = leaf.permutation();
    std::array::from_fn(|at| match at {
        _ if at < rank => leaf.slot(order.slot(at)),
        _ if at == rank => new,
        _ => leaf.slot(order.slot(at - 1)),
    })
}

/// Nibbles shared above an inner node, as [`Tree::path`] makes them a child.
struct Path {
    /// Depth of the link that will lead here.
    from: usize,
    /// Depth below the shared nibbles.
    to: usize,
    /// Key record of the key that ends at `to`, or 0.
    end: u32,
    /// A key record with the shared nibbles.
    witness: u32,
    /// What lies below: an inner node, perhaps with a step.
    child: Child,
}

impl Tree {
    /// Splits a full leaf whose key of rank `rank` would be `new`.
    #[cold]
    pub(super) fn split(
        &self,
        leaf: &Leaf,
        rank: usize,
        new: Slot,
        place: Place<'_>,
        writer: &mut Writer,
    ) {
        let slots = with_new(leaf, rank, new);
        match place.inner {
            Some((inner, slot)) if differ(&slots, place.depth - 1) => {
                spread(inner, inner.range(slot), &slots, place.depth - 1, writer);
            }
            _ => self.burst(&slots, place, writer),
        }
    }

    /// Replaces a leaf whose keys share their nibble, or the root's, by a deeper inner node.
    fn burst(&self, slots: &Slots, place: Place<'_>, writer: &mut Writer) {
        // SAFETY: the writer read the records from a leaf, or has just made them.
        let key = |slot: &Slot| unsafe { self.record(slot.record) }.key();
        let (first, last) = (key(&slots[0]), key(&slots[LEAF_LEN]));
        let depth = shared_nibbles(first, last, place.depth / 2);
        let ends = 2 * first.len() == depth;
        let deeper = slots.map(|slot| Slot { window: window(key(&slot), depth / 2), ..slot });
        let inner = Inner::empty();
        spread(&inner, (0, 16), &deeper[usize::from(ends)..], depth, writer);
        let child = Child::inner(inner, &mut writer.nodes);
        let witness = slots[0].record;
        let end = if ends { witness } else { 0 };
        let path = Path { from: place.depth, to: depth, end, witness, child };
        place.replace(self.path(path, writer));
    }

    /// The least child that says what `path` says.
    fn path(&self, path: Path, writer: &mut Writer) -> Child {
        let Path { from, to, end, witness, child } = path;
        if end == 0 && to == from {
            return child;
        }
        if end == 0 && to == from + 1 && child.is_inner() {
            return child.with_step(self.nibble_of(witness, from));
        }
        // SAFETY: paths are made of records that the writer loaded from its tree, or has just made.
        let witness = unsafe { self.record(witness) };
        let head = Head::new(child, end, (from, to), witness);
        Child::head(head, &mut writer.nodes)
    }

    /// The nibble at `depth` of the key of a record that this thread loaded from the tree.
    pub(super) fn nibble_of(&self, record: u32, depth: usize) -> usize {
        // SAFETY: callers pass records that they may read.
        let key = unsafe { self.record(record) }.key();
        nibble(key, depth).expect("a witness is longer than the depth below it")
    }

    /// The key ends at `depth`, where the keys below an inner node (perhaps with a step, which the
    /// key shares) go on.
    #[cold]
    pub(super) fn insert_above(
        &self,
        depth: usize,
        place: Place<'_>,
        new: &NewRecord<'_>,
        writer: &mut Writer,
    ) -> bool {
        let present = place.link.load();
        let child = if present.is_inner() { present } else { present.without_step() };
        let record = new.push_key(&self.records, &mut writer.end);
        let path = Path { from: place.depth, to: depth, end: record, witness: record, child };
        place.link.publish(self.path(path, writer));
        true
    }

    /// The key leaves the path, or ends, where a step goes on with the nibble `step`.
    #[cold]
    pub(super) fn fork_step(
        &self,
        child: Child,
        step: usize,
        place: Place<'_>,
        new: &NewRecord<'_>,
        writer: &mut Writer,
    ) -> bool {
        let depth = place.depth;
        let Some(slot) = nibble(new.key, depth) else {
            let record = new.push_key(&self.records, &mut writer.end);
            let path = Path { from: depth, to: depth, end: record, witness: record, child };
            place.link.publish(self.path(path, writer));
            return true;
        };
        let inner = self.fork(new, depth, slot, step, child.without_step(), writer);
        place.link.publish(inner);
        true
    }

    /// The key leaves the path, or ends, inside the nibbles of `head`.
    #[cold]
    pub(super) fn fork_head(
        &self,
        head: &Head,
        place: Place<'_>,
        new: &NewRecord<'_>,
        writer: &mut Writer,
    ) -> bool {
        let (from, to) = (place.depth, place.depth + head.skip as usize);
        let shared = head.shared_with(new.key, from, &self.records);
        let (end, witness) = (head.end.load(Ordering::Relaxed), head.witness);
        let rest = |from| Path { from, to, end, witness, child: head.child.load() };
        let path = if let Some(slot) = nibble(new.key, shared) {
            let below = self.path(rest(shared + 1), writer);
            let step = self.nibble_of(witness, shared);
            let child = self.fork(new, shared, slot, step, below, writer);
            Path { from, to: shared, end: 0, witness, child }
        } else {
            let child = self.path(rest(shared), writer);
            let record = new.push_key(&self.records, &mut writer.end);
            Path { from, to: shared, end: record, witness, child }
        };
        place.link.publish(self.path(path, writer));
        true
    }

    /// An inner node at `depth` with `below` at the nibble `step` and a leaf of the new key at
    /// `slot` and its neighbours.
    fn fork(
        &self,
        new: &NewRecord<'_>,
        depth: usize,
        slot: usize,
        step: usize,
        below: Child,
        writer: &mut Writer,
    ) -> Child {
        debug_assert_ne!(slot, step);
        let key = self.push_key(new, depth / 2, writer);
        let leaf = Child::leaf(Leaf::new(&[key]), &mut writer.nodes);
        let inner = Inner::empty();
        let (low, high) = if slot < step { (0, step) } else { (step + 1, 16) };
        inner.publish(low, high, leaf);
        inner.publish(step, step + 1, below);
        Child::inner(inner, &mut writer.nodes)
    }
}

/// True when not all keys have the same nibble at `depth`.
fn differ(slots: &Slots, depth: usize) -> bool {
    first_nibble(&slots[0], depth) != first_nibble(&slots[LEAF_LEN], depth)
}

/// The nibble at `depth` of a key whose window begins with the byte of that nibble.
fn first_nibble(slot: &Slot, depth: usize) -> usize {
    let shift = if depth.is_multiple_of(2) { 28 } else { 24 };
    (slot.window >> shift) as usize & 15
}

/// Puts `slots` into leaves under the links `low..high` of `inner`, which is at `depth`. Not all
/// nibbles may be equal when there are more than one leaf holds.
fn spread(
    inner: &Inner,
    (low, high): (usize, usize),
    slots: &[Slot],
    depth: usize,
    writer: &mut Writer,
) {
    if slots.len() <= LEAF_LEN {
        let leaf = Child::leaf(Leaf::new(slots), &mut writer.nodes);
        inner.publish(low, high, leaf);
        return;
    }
    // The border between two different nibbles that is nearest to the middle.
    let middle = slots.len() / 2;
    let nibble_at = |at: usize| first_nibble(&slots[at], depth);
    let border = (1..slots.len())
        .filter(|&at| nibble_at(at - 1) != nibble_at(at))
        .min_by_key(|at| at.abs_diff(middle))
        .expect("the nibbles are not all equal");
    let left = Child::leaf(Leaf::new(&slots[..border]), &mut writer.nodes);
    let right = Child::leaf(Leaf::new(&slots[border..]), &mut writer.nodes);
    inner.publish(low, nibble_at(border), left);
    inner.publish(nibble_at(border), high, right);
}
