//! Nodes of the memtable's tree and the tagged pointers between them (part of layer L3's memtable).
//!
//! The tree branches on the nibbles of keys. A *link* at depth `d` leads to keys that share their
//! first `d` nibbles. It is empty, or leads to
//! - a [`Leaf`]: up to 15 keys, in no order, and a permutation word that gives the order;
//! - an [`Inner`] node: 16 links of depth `d + 1`; neighbouring links may share a leaf, whose keys
//!   then share `d` nibbles only;
//! - a *step*: an inner node one nibble deeper, the nibble being in the pointer's tag;
//! - a [`Head`]: any number of shared nibbles, and perhaps the key that ends after them;
//! - a [`Fence`]: the same keys in a tree that is balanced by whole keys, not by nibbles.
//!
//! Invariants: every non-empty link has at least one key below it; a node that was replaced stays
//! as it was until the memtable drops, and has all keys that were below it by then.

use super::arena::{NODE_SIZE, Nodes, Records};
use super::leaf::{LEAF_LEN, Leaf, Permutation, Slot, window};
use super::record::Record;
use crate::prefetch::prefetch;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

const TAG_MASK: usize = NODE_SIZE - 1;
const TAG_LEAF: usize = 1;
const TAG_INNER: usize = 2;
const TAG_HEAD: usize = 3;
const TAG_FENCE: usize = 4;
/// 16 to 31: a step of nibble tag - 16.
const TAG_STEP: usize = 16;

/// What a link leads to: a node's address, its type in the low bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Child(*mut u8);

/// A [`Child`] taken apart.
pub(super) enum Node<'a> {
    Empty,
    Leaf(&'a Leaf),
    Inner(&'a Inner),
    Step(usize, &'a Inner),
    Head(&'a Head),
    Fence(&'a Fence),
}

impl Child {
    pub(super) const EMPTY: Child = Child(ptr::null_mut());

    fn tagged<T>(node: NonNull<T>, tag: usize) -> Child {
        Child(node.as_ptr().cast::<u8>().map_addr(|address| address | tag))
    }

    pub(super) fn leaf(leaf: Leaf, nodes: &mut Nodes) -> Child {
        Child::tagged(nodes.place(leaf), TAG_LEAF)
    }

    pub(super) fn inner(inner: Inner, nodes: &mut Nodes) -> Child {
        Child::tagged(nodes.place(inner), TAG_INNER)
    }

    pub(super) fn head(head: Head, nodes: &mut Nodes) -> Child {
        Child::tagged(nodes.place(head), TAG_HEAD)
    }

    pub(super) fn fence(fence: Fence, nodes: &mut Nodes) -> Child {
        Child::tagged(nodes.place(fence), TAG_FENCE)
    }

    #[inline(always)]
    fn tag(self) -> usize {
        self.0.addr() & TAG_MASK
    }

    /// The same inner node one nibble further down.
    pub(super) fn with_step(self, nibble: usize) -> Child {
        debug_assert!(self.is_inner() && nibble < 16);
        Child(self.0.map_addr(|address| (address & !TAG_MASK) | TAG_STEP | nibble))
    }

    /// The inner node of a step.
    pub(super) fn without_step(self) -> Child {
        debug_assert!(self.tag() & TAG_STEP != 0);
        Child(self.0.map_addr(|address| (address & !TAG_MASK) | TAG_INNER))
    }

    /// True for an inner node without a step.
    pub(super) fn is_inner(self) -> bool {
        self.tag() == TAG_INNER
    }

    /// The node.
    ///
    /// # Safety
    /// - The child was loaded from a link of a tree whose nodes live for `'a`, with Acquire, or by
    ///   the writer.
    #[inline(always)]
    pub(super) unsafe fn node<'a>(self) -> Node<'a> {
        let tag = self.tag();
        let address = self.0.map_addr(|address| address & !TAG_MASK);
        // SAFETY: a tag is only ever put on the address of a node of its type, which was whole
        // before it was published and changes through atomics only.
        unsafe {
            if tag == TAG_INNER {
                Node::Inner(&*address.cast())
            } else if tag == TAG_LEAF {
                Node::Leaf(&*address.cast())
            } else if tag & TAG_STEP != 0 {
                Node::Step(tag & 15, &*address.cast())
            } else if tag == TAG_HEAD {
                Node::Head(&*address.cast())
            } else if tag == TAG_FENCE {
                Node::Fence(&*address.cast())
            } else {
                Node::Empty
            }
        }
    }
}

/// A place that holds a [`Child`]; the writer stores, everybody loads.
#[repr(transparent)]
pub(super) struct Link(AtomicPtr<u8>);

impl Link {
    pub(super) const fn new(child: Child) -> Link {
        Link(AtomicPtr::new(child.0))
    }

    #[inline(always)]
    pub(super) fn load(&self) -> Child {
        Child(self.0.load(Ordering::Acquire))
    }

    #[inline]
    pub(super) fn publish(&self, child: Child) {
        self.0.store(child.0, Ordering::Release);
    }
}

/// Sixteen links, one for each nibble.
#[repr(C, align(128))]
pub(super) struct Inner {
    pub(super) slots: [Link; 16],
}

impl Inner {
    pub(super) fn empty() -> Inner {
        Inner { slots: [const { Link::new(Child::EMPTY) }; 16] }
    }

    /// The neighbouring slots around `slot` that lead to the same child.
    pub(super) fn range(&self, slot: usize) -> (usize, usize) {
        let child = self.slots[slot].load();
        let (mut low, mut high) = (slot, slot + 1);
        while low > 0 && self.slots[low - 1].load() == child {
            low -= 1;
        }
        while high < 16 && self.slots[high].load() == child {
            high += 1;
        }
        (low, high)
    }

    /// The first child, and the next one is fetched into the cache.
    pub(super) fn first(&self) -> Child {
        let mut children = self.slots.iter().map(Link::load);
        let first = children.find(|&child| child != Child::EMPTY).unwrap_or(Child::EMPTY);
        prefetch_other(first, children);
        first
    }

    /// The last child, and the one before is fetched into the cache.
    pub(super) fn last(&self) -> Child {
        let mut children = self.slots.iter().rev().map(Link::load);
        let last = children.find(|&child| child != Child::EMPTY).unwrap_or(Child::EMPTY);
        prefetch_other(last, children);
        last
    }

    /// Fetches the child after that of `slot` into the cache.
    pub(super) fn prefetch_after(&self, slot: usize) {
        let mut children = self.slots[slot..].iter().map(Link::load);
        children.next().inspect(|&child| prefetch_other(child, children));
    }

    /// Fetches the child before that of `slot` into the cache.
    pub(super) fn prefetch_before(&self, slot: usize) {
        let mut children = self.slots[..=slot].iter().rev().map(Link::load);
        children.next().inspect(|&child| prefetch_other(child, children));
    }

    /// Publishes `child` in the slots `low..high`.
    pub(super) fn publish(&self, low: usize, high: usize, child: Child) {
        for slot in &self.slots[low..high] {
            slot.publish(child);
        }
    }
}

/// Fetches the first of `children` that is not `child` into the cache.
#[inline(always)]
fn prefetch_other(child: Child, mut children: impl Iterator<Item = Child>) {
    if let Some(other) = children.find(|&other| other != child && other != Child::EMPTY) {
        let start = other.0.map_addr(|address| address & !TAG_MASK);
        prefetch(start);
        prefetch(start.wrapping_add(64));
    }
}

/// Shared nibbles above an inner node, and the key that ends after them.
#[repr(C, align(128))]
pub(super) struct Head {
    /// An inner node, perhaps with a step.
    pub(super) child: Link,
    /// Key record of the key that ends here; 0 for none.
    pub(super) end: AtomicU32,
    /// Number of shared nibbles; 0 in a head that is here for its end only.
    pub(super) skip: u32,
    /// A key record below this node: its nibbles are the shared ones.
    pub(super) witness: u32,
    /// The first eight bytes with shared nibbles, big endian, and which of their bits are shared.
    first: u64,
    first_mask: u64,
    /// The bytes of the witness with the shared nibbles, or the first of them: a chain of heads
    /// is followed without a look at records.
    shared: [u8; Head::SHARED_LEN],
}

impl Head {
    const SHARED_LEN: usize = NODE_SIZE - 40;

    /// A head whose keys share the nibbles `from..to` with `witness`.
    pub(super) fn new(
        child: Child,
        end: u32,
        (from, to): (usize, usize),
        witness: Record<'_>,
    ) -> Head {
        let bytes = &witness.key()[from / 2..to.div_ceil(2)];
        let len = bytes.len().min(Head::SHARED_LEN);
        let mut shared = [0; Head::SHARED_LEN];
        shared[..len].copy_from_slice(&bytes[..len]);
        let nibbles = to - from / 2 * 2;
        Head {
            child: Link::new(child),
            end: AtomicU32::new(end),
            skip: (to - from) as u32,
            witness: witness.offset(),
            first: shared.first_chunk().map_or(0, |first| u64::from_be_bytes(*first)),
            first_mask: !u64::MAX.checked_shr(4 * nibbles as u32).unwrap_or(0),
            shared,
        }
    }

    /// True when `key`, which came here at `depth`, shares all nibbles of the head.
    #[inline(always)]
    pub(super) fn is_shared_by(&self, key: &[u8], depth: usize, records: &Records) -> bool {
        let end = depth + self.skip as usize;
        if let Some(bytes) = key.get(depth / 2..).and_then(|rest| rest.first_chunk::<8>()) {
            if (u64::from_be_bytes(*bytes) ^ self.first) & self.first_mask != 0 {
                return false;
            }
            if end <= depth / 2 * 2 + 16 {
                return true;
            }
        }
        self.shared_with(key, depth, records) == end
    }

    /// How many nibbles `key`, which came here at `depth`, shares with the keys below, counted up
    /// to where the head ends.
    pub(super) fn shared_with(&self, key: &[u8], depth: usize, records: &Records) -> usize {
        let end = depth + self.skip as usize;
        let (from, to) = (depth / 2, end.div_ceil(2));
        let shared = if let Some(bytes) = self.shared.get(..to - from) {
            2 * from + shared_nibbles(key.get(from..).unwrap_or_default(), bytes, 0)
        } else {
            // SAFETY: a head's witness was a published key record when the head was made.
            let witness = unsafe { Record::at(records, self.witness) }.key();
            shared_nibbles(key, witness, from)
        };
        shared.min(end)
    }
}

/// Slots of a fence. Each split below takes two new ones for the one that it replaces.
const FENCE_LEN: usize = LEAF_LEN;

/// A child and the smallest key that was below it when it was made.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub(super) separator: Slot,
    pub(super) child: Child,
}

/// Up to 15 children in the order of their keys.
#[repr(C, align(128))]
pub(super) struct Fence {
    order: AtomicU64,
    /// Slots that are, or were, in the order. Only the writer looks at it.
    used: AtomicU32,
    windows: [AtomicU32; FENCE_LEN],
    records: [AtomicU32; FENCE_LEN],
    pub(super) children: [Link; FENCE_LEN],
}

impl Fence {
    pub(super) fn new(parts: &[Part]) -> Fence {
        let fence = Fence {
            order: AtomicU64::new(0),
            used: AtomicU32::new(0),
            windows: [const { AtomicU32::new(0) }; FENCE_LEN],
            records: [const { AtomicU32::new(0) }; FENCE_LEN],
            children: [const { Link::new(Child::EMPTY) }; FENCE_LEN],
        };
        parts.iter().for_each(|&part| _ = fence.fill(part));
        fence.order.store(Permutation::identity(parts.len()).to_word(), Ordering::Release);
        fence
    }

    /// Writes the next free slot, which no order has yet.
    fn fill(&self, part: Part) -> usize {
        let slot = self.used.load(Ordering::Relaxed) as usize;
        self.used.store(slot as u32 + 1, Ordering::Relaxed);
        self.windows[slot].store(part.separator.window, Ordering::Relaxed);
        self.records[slot].store(part.separator.record, Ordering::Relaxed);
        self.children[slot].publish(part.child);
        slot
    }

    pub(super) fn order(&self) -> Permutation {
        Permutation::from_word(self.order.load(Ordering::Acquire))
    }

    fn part(&self, slot: usize) -> Part {
        let window = self.windows[slot].load(Ordering::Relaxed);
        let record = self.records[slot].load(Ordering::Relaxed);
        Part { separator: Slot { window, record }, child: self.children[slot].load() }
    }

    /// The rank of the child where `key` belongs. Keys below share the bytes before `from`.
    pub(super) fn rank(
        &self,
        key: &[u8],
        from: usize,
        order: Permutation,
        records: &Records,
    ) -> usize {
        let sought = (window(key, from), key.get(from..).unwrap_or_default());
        let (mut low, mut high) = (1, order.len());
        while low < high {
            let middle = low.midpoint(high);
            let separator = self.part(order.slot(middle)).separator;
            // SAFETY: the slot is in an order that was loaded with Acquire.
            let found = || unsafe { Record::at(records, separator.record) }.key();
            let is_above = separator.window > sought.0
                || separator.window == sought.0 && found().get(from..) > Some(sought.1);
            if is_above {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low - 1
    }

    /// The child where `key` belongs. Keys below share the bytes before `from`.
    pub(super) fn child_for(&self, key: &[u8], from: usize, records: &Records) -> Child {
        let order = self.order();
        self.children[order.slot(self.rank(key, from, order, records))].load()
    }

    /// The children before and after the one where `key` belongs; empty where there is none.
    pub(super) fn beside(&self, key: &[u8], from: usize, records: &Records) -> (Child, Child) {
        let order = self.order();
        let rank = self.rank(key, from, order, records);
        let child = |rank| {
            let is_here = rank < order.len();
            if is_here { self.children[order.slot(rank)].load() } else { Child::EMPTY }
        };
        (rank.checked_sub(1).map_or(Child::EMPTY, child), child(rank + 1))
    }

    /// The first child.
    pub(super) fn first(&self) -> Child {
        self.children[self.order().slot(0)].load()
    }

    /// The last child.
    pub(super) fn last(&self) -> Child {
        let order = self.order();
        self.children[order.slot(order.len() - 1)].load()
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        let order = self.order();
        (0..order.len()).map(move |rank| self.part(order.slot(rank)))
    }

    /// True when one child can be replaced by two.
    pub(super) fn has_room(&self) -> bool {
        self.used.load(Ordering::Relaxed) as usize + 2 <= FENCE_LEN
    }

    /// Puts two children in the place of the one of rank `rank`, which has their keys.
    pub(super) fn divide(&self, rank: usize, left: Child, right: Part) {
        let order = self.order();
        let separator = self.part(order.slot(rank)).separator;
        let left = self.fill(Part { separator, child: left });
        let right = self.fill(right);
        let order = order.replaced(rank, left).with(rank + 1, right);
        self.order.store(order.to_word(), Ordering::Release);
    }
}

/// The nibble of `key` at `depth`; `None` when the key ends before it.
#[inline(always)]
pub(super) fn nibble(key: &[u8], depth: usize) -> Option<usize> {
    let byte = usize::from(*key.get(depth / 2)?);
    Some(if depth.is_multiple_of(2) { byte >> 4 } else { byte & 15 })
}

/// How many nibbles `a` and `b` share from their start, given that they share the bytes before
/// `from`. Twice the length of the shorter key when it is a prefix of the other.
pub(super) fn shared_nibbles(a: &[u8], b: &[u8], from: usize) -> usize {
    const STRIDE: usize = 64;
    let len = a.len().min(b.len());
    let mut at = from.min(len);
    while at + STRIDE <= len && a[at..at + STRIDE] == b[at..at + STRIDE] {
        at += STRIDE;
    }
    while at < len && a[at] == b[at] {
        at += 1;
    }
    2 * at + usize::from(at < len && a[at] >> 4 == b[at] >> 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nibbles_are_high_half_first() {
        let key = [0x12, 0xF0];
        let nibbles: Vec<_> = (0..5).map(|depth| nibble(&key, depth)).collect();
        assert_eq!(nibbles, [Some(1), Some(2), Some(15), Some(0), None]);
    }

    #[test]
    fn shared_nibbles_end_at_the_difference_or_the_shorter_key() {
        assert_eq!(shared_nibbles(b"", b"x", 0), 0);
        assert_eq!(shared_nibbles(b"ab", b"abc", 0), 4);
        assert_eq!(shared_nibbles(b"ab", b"ab", 1), 4);
        assert_eq!(shared_nibbles(b"a\x12", b"a\x13", 1), 3);
        assert_eq!(shared_nibbles(b"a\x12", b"a\x22", 0), 2);
        for len in [63, 64, 65, 127, 128, 129, 200] {
            let (long, mut other) = (vec![7; 200], vec![7; 200]);
            assert_eq!(shared_nibbles(&long, &other[..len], 5), 2 * len);
            other[len - 1] = 8;
            assert_eq!(shared_nibbles(&long, &other, 5), 2 * len - 1);
            other[len - 1] = 0x87;
            assert_eq!(shared_nibbles(&long, &other, 5), 2 * len - 2);
        }
    }
}
