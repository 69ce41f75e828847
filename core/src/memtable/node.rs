//! Nodes of the memtable's tree and the tagged pointers between them (part of layer L3's memtable).
//!
//! The tree branches on the nibbles of keys. A *link* at depth `d` leads to keys that share their
//! first `d` nibbles. It is empty, or leads to
//! - a [`Leaf`]: up to 15 keys, in no order, and a permutation word that gives the order;
//! - an [`Inner`] node: 16 links of depth `d + 1`; neighbouring links may share one leaf, whose keys
//!   then share `d` nibbles only;
//! - a *step*: an inner node one nibble deeper, the nibble being in the pointer's tag;
//! - a [`Head`]: any number of shared nibbles, and perhaps the key that ends after them.
//!
//! Invariants: every non-empty link has at least one key below it; a leaf's slots below its count
//! never change; a node that was replaced stays as it was until the memtable drops.

use super::arena::{NODE_SIZE, Nodes, Records};
use super::record::Record;
use std::cmp::Ordering as Cmp;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// Keys in a full leaf.
pub(super) const LEAF_LEN: usize = 15;

const TAG_MASK: usize = NODE_SIZE - 1;
const TAG_LEAF: usize = 1;
const TAG_INNER: usize = 2;
const TAG_HEAD: usize = 3;
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

    /// The child of the first slot that is not empty.
    pub(super) fn first(&self) -> Child {
        self.slots
            .iter()
            .map(Link::load)
            .find(|&child| child != Child::EMPTY)
            .unwrap_or(Child::EMPTY)
    }

    /// The child of the last slot that is not empty.
    pub(super) fn last(&self) -> Child {
        self.slots
            .iter()
            .rev()
            .map(Link::load)
            .find(|&child| child != Child::EMPTY)
            .unwrap_or(Child::EMPTY)
    }

    /// Publishes `child` in the slots `low..high`.
    pub(super) fn publish(&self, low: usize, high: usize, child: Child) {
        for slot in &self.slots[low..high] {
            slot.publish(child);
        }
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
}

/// Up to 15 keys. Seen as 32-bit lanes, two in a word: lanes 0..15 hold the four key bytes from
/// the leaf's depth on (big endian, short keys padded with zeros), lanes 15..30 the key records;
/// the last word is the permutation.
#[repr(C, align(128))]
pub(super) struct Leaf {
    words: [AtomicU64; 16],
}

const PERMUTATION: usize = 15;

/// The order of a leaf's slots: the count in the low four bits, then slots in key order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Permutation(u64);

impl Permutation {
    /// The slots 0, 1, 2 ... in this order.
    pub(super) fn identity(len: usize) -> Permutation {
        debug_assert!(len <= LEAF_LEN);
        Permutation(0xEDCB_A987_6543_2100 | len as u64)
    }

    #[inline(always)]
    pub(super) fn len(self) -> usize {
        (self.0 & 15) as usize
    }

    /// The slot of the key with this rank.
    #[inline(always)]
    pub(super) fn slot(self, rank: usize) -> usize {
        (self.0 >> (4 * rank + 4)) as usize & 15
    }

    /// Adds the slot `len()` at `rank`.
    #[inline(always)]
    pub(super) fn with(self, rank: usize) -> Permutation {
        debug_assert!(rank <= self.len() && self.len() < LEAF_LEN);
        let shift = 4 * rank + 4;
        let below = self.0 & ((1 << shift) - 1);
        let above = (self.0 ^ below) << 4;
        Permutation((above | (self.0 & 15) << shift | below) + 1)
    }
}

/// A key of a leaf as splits move it: its lane of key bytes and its record.
#[derive(Clone, Copy, Default)]
pub(super) struct Slot {
    pub(super) window: u32,
    pub(super) record: u32,
}

/// Where a key is, or would be, in a leaf.
#[derive(Clone, Copy)]
pub(super) struct Rank {
    /// Number of smaller keys.
    pub(super) rank: usize,
    /// The key's record, if it is here.
    pub(super) record: Option<u32>,
}

impl Leaf {
    /// A leaf of these keys, in order.
    pub(super) fn new(slots: &[Slot]) -> Leaf {
        let leaf = Leaf { words: [const { AtomicU64::new(0) }; 16] };
        for (index, slot) in slots.iter().enumerate() {
            leaf.fill(index, *slot);
        }
        leaf.publish(Permutation::identity(slots.len()));
        leaf
    }

    /// Writes a slot that no published permutation has. Only the writer calls this.
    #[inline(always)]
    pub(super) fn fill(&self, index: usize, slot: Slot) {
        self.set_lane(index, slot.window);
        self.set_lane(LEAF_LEN + index, slot.record);
    }

    #[inline(always)]
    fn set_lane(&self, lane: usize, value: u32) {
        let (word, shift) = (&self.words[lane / 2], lane % 2 * 32);
        // Relaxed, and not one step: nobody else stores, and no reader uses the lane before the
        // permutation with its slot is published. The neighbour keeps its value.
        let kept = word.load(Ordering::Relaxed) & !(u64::from(u32::MAX) << shift);
        word.store(kept | u64::from(value) << shift, Ordering::Relaxed);
    }

    #[inline(always)]
    fn lane(&self, lane: usize) -> u32 {
        (self.words[lane / 2].load(Ordering::Relaxed) >> (lane % 2 * 32)) as u32
    }

    /// The order of the keys: the slots in it may be read.
    #[inline(always)]
    pub(super) fn permutation(&self) -> Permutation {
        Permutation(self.words[PERMUTATION].load(Ordering::Acquire))
    }

    /// Makes the slots of `permutation` visible.
    #[inline(always)]
    pub(super) fn publish(&self, permutation: Permutation) {
        self.words[PERMUTATION].store(permutation.0, Ordering::Release);
    }

    /// The key record of a slot.
    #[inline(always)]
    pub(super) fn record(&self, slot: usize) -> u32 {
        self.lane(LEAF_LEN + slot)
    }

    /// The slot as splits move it.
    pub(super) fn slot(&self, slot: usize) -> Slot {
        Slot { window: self.lane(slot), record: self.record(slot) }
    }

    /// Bit `i` of the first word: the window of slot `i` is below `window`; of the second: equal.
    /// Bits at and above `len` are zero.
    #[inline(always)]
    fn compare(&self, window: u32, len: usize) -> (u32, u32) {
        let used = (1 << len) - 1;
        let (below, equal) = compare_lanes(&self.words, window);
        (below & used, equal & used)
    }

    /// The record of `key` among the slots of `permutation`. Keys of the leaf share the bytes
    /// before `from`, and `key` shares them too.
    #[inline(always)]
    pub(super) fn find(&self, key: &[u8], from: usize, records: &Records) -> Option<u32> {
        let (_, mut equal) = self.compare(window(key, from), self.permutation().len());
        while equal != 0 {
            let record = self.record(equal.trailing_zeros() as usize);
            // SAFETY: the slot is in a permutation that was loaded with Acquire.
            let found = unsafe { Record::at(records, record) }.key();
            // Bytes before `from` are equal, so this compares no more than needed.
            if found.len() == key.len() && found.get(from..) == key.get(from..) {
                return Some(record);
            }
            equal &= equal - 1;
        }
        None
    }

    /// The place of `key` among the slots of `permutation`; conditions as for [`Leaf::find`].
    #[inline(always)]
    pub(super) fn rank(
        &self,
        key: &[u8],
        from: usize,
        permutation: Permutation,
        records: &Records,
    ) -> Rank {
        let (below, equal) = self.compare(window(key, from), permutation.len());
        let low = below.count_ones() as usize;
        if equal == 0 {
            return Rank { rank: low, record: None };
        }
        let high = low + equal.count_ones() as usize;
        self.rank_of_tie(key, from, permutation, records, (low, high))
    }

    /// Binary search among the ranks `low..high`, whose windows equal that of `key`.
    fn rank_of_tie(
        &self,
        key: &[u8],
        from: usize,
        permutation: Permutation,
        records: &Records,
        (mut low, mut high): (usize, usize),
    ) -> Rank {
        let rest = key.get(from..).unwrap_or_default();
        while low < high {
            let middle = low.midpoint(high);
            let record = self.record(permutation.slot(middle));
            // SAFETY: the slot is in a permutation that was loaded with Acquire.
            let found = unsafe { Record::at(records, record) }.key();
            match found.get(from..).unwrap_or_default().cmp(rest) {
                Cmp::Less => low = middle + 1,
                Cmp::Greater => high = middle,
                Cmp::Equal => return Rank { rank: middle, record: Some(record) },
            }
        }
        Rank { rank: low, record: None }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn compare_lanes(words: &[AtomicU64; 16], window: u32) -> (u32, u32) {
    use std::arch::x86_64::*;
    // SAFETY: SSE2 is part of every x86_64; the intrinsics work on registers only.
    unsafe {
        let sign = _mm_set1_epi32(i32::MIN);
        let key = _mm_set1_epi32(window as i32);
        let signed_key = _mm_xor_si128(key, sign);
        let mut below = [_mm_setzero_si128(); 4];
        let mut equal = below;
        for quarter in 0..4 {
            let low = words[2 * quarter].load(Ordering::Relaxed);
            let high = words[2 * quarter + 1].load(Ordering::Relaxed);
            let lanes = _mm_set_epi64x(high as i64, low as i64);
            below[quarter] = _mm_cmpgt_epi32(signed_key, _mm_xor_si128(lanes, sign));
            equal[quarter] = _mm_cmpeq_epi32(lanes, key);
        }
        (lane_bits(below), lane_bits(equal))
    }
}

/// One bit for each of the 16 lanes, which are all ones or all zeros.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn lane_bits(masks: [std::arch::x86_64::__m128i; 4]) -> u32 {
    use std::arch::x86_64::*;
    // SAFETY: SSE2 is part of every x86_64; the intrinsics work on registers only.
    unsafe {
        let low = _mm_packs_epi32(masks[0], masks[1]);
        let high = _mm_packs_epi32(masks[2], masks[3]);
        _mm_movemask_epi8(_mm_packs_epi16(low, high)) as u32
    }
}

/// The same without vectors: for other processors, and to test the one above.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn compare_lanes_portable(words: &[AtomicU64; 16], window: u32) -> (u32, u32) {
    let (mut below, mut equal) = (0, 0);
    for lane in 0..16 {
        let value = (words[lane / 2].load(Ordering::Relaxed) >> (lane % 2 * 32)) as u32;
        below |= u32::from(value < window) << lane;
        equal |= u32::from(value == window) << lane;
    }
    (below, equal)
}

#[cfg(not(target_arch = "x86_64"))]
use compare_lanes_portable as compare_lanes;

/// The four bytes of `key` from `from` on, big endian, zeros behind the end.
#[inline(always)]
pub(super) fn window(key: &[u8], from: usize) -> u32 {
    let rest = key.get(from..).unwrap_or_default();
    if let Some(bytes) = rest.first_chunk::<4>() {
        return u32::from_be_bytes(*bytes);
    }
    let mut bytes = [0; 4];
    bytes[..rest.len()].copy_from_slice(rest);
    u32::from_be_bytes(bytes)
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
