//! The merge of sorted sources (layer L2).
//!
//! Invariant ORDER: entries come by ascending key going forward and descending going back; of
//! equal keys the one of the source with the lower index comes first going forward (sources are
//! given newest first, so newer entries come first).

use std::cmp::Ordering;

use super::Cursor;
use crate::error::Result;

/// Several cursors as one.
///
/// The heap holds the valid children, the current one on top. Sixteen bytes of each child's key
/// are kept beside it, so most comparisons touch no key.
pub(crate) struct Merge<C> {
    children: Vec<C>,
    heap: Vec<Head>,
    forward: bool,
}

/// A valid child and the first sixteen bytes of its key.
#[derive(Clone, Copy)]
struct Head {
    head: u128,
    child: u32,
}

/// The first eight bytes of a key, big-endian, padded with zeros: keys order as their heads do
/// unless the heads are equal.
#[inline]
pub(crate) fn head_of(key: &[u8]) -> u64 {
    match key.first_chunk::<8>() {
        Some(head) => u64::from_be_bytes(*head),
        None => {
            let mut head = [0; 8];
            head[..key.len()].copy_from_slice(key);
            u64::from_be_bytes(head)
        }
    }
}

/// As head_of, the first sixteen bytes.
#[inline]
pub(crate) fn wide_head_of(key: &[u8]) -> u128 {
    if let Some(head) = key.first_chunk::<16>() {
        return u128::from_be_bytes(*head);
    }
    let front = u128::from(head_of(key)) << 64;
    // From eight bytes on, the last eight: those of them that are in front as well say the same.
    key.last_chunk().map_or(front, |last| {
        front | u128::from(u64::from_be_bytes(*last)) << (8 * (16 - key.len()))
    })
}

impl<C: Cursor> Merge<C> {
    /// A merge of `children`, newest first; invalid until a seek.
    pub(crate) fn new(children: Vec<C>) -> Merge<C> {
        let heap = Vec::with_capacity(children.len());
        Merge { children, heap, forward: true }
    }

    /// The child that has the current entry.
    ///
    /// # Panics
    /// When there is none.
    #[inline]
    pub(crate) fn current(&self) -> &C {
        &self.children[self.heap[0].child as usize]
    }

    /// The first sixteen bytes of the current key; see [`wide_head_of`].
    #[inline]
    pub(crate) fn head(&self) -> u128 {
        self.heap[0].head
    }

    /// Whether there is a current entry.
    #[inline]
    pub(crate) fn valid(&self) -> bool {
        !self.heap.is_empty()
    }

    /// False when no other child is on the current key. Only where there is a current entry.
    ///
    /// Heads on the way from the top of the heap down to an equal one are all equal, so the two
    /// below the top decide.
    #[inline]
    pub(crate) fn may_repeat(&self) -> bool {
        let alike =
            |index: usize| self.heap.get(index).is_some_and(|other| other.head == self.head());
        alike(1) || alike(2)
    }

    /// The key of the current entry.
    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        self.current().key()
    }

    /// To the first entry whose key is at least `key`.
    pub(crate) fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.forward = true;
        self.begin_seek(key);
        for child in &mut self.children {
            child.seek(key)?;
        }
        self.build();
        Ok(())
    }

    /// To the last key below `key`; from here on the merge goes back.
    pub(crate) fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        self.forward = false;
        self.begin_seek(key);
        for child in &mut self.children {
            child.seek_before(key)?;
        }
        self.build();
        Ok(())
    }

    /// Forgets where it was. What several children read first in a seek comes at the same time.
    fn begin_seek(&mut self, key: &[u8]) {
        self.heap.clear();
        if self.children.len() > 1 {
            for child in &mut self.children {
                child.prepare(key, self.forward);
            }
        }
    }

    /// One entry onward in the direction of the last seek.
    #[inline(always)]
    pub(crate) fn advance(&mut self) -> Result<()> {
        let top = self.heap[0].child as usize;
        let child = &mut self.children[top];
        let moved = if self.forward { child.next() } else { child.prev() };
        if let Err(error) = moved {
            self.heap.clear();
            return Err(error);
        }
        if child.valid() {
            self.heap[0].head = wide_head_of(child.key());
        } else {
            self.heap.swap_remove(0);
        }
        if self.heap.len() > 1 {
            self.sift_down(0);
        }
        Ok(())
    }

    fn build(&mut self) {
        for (index, child) in self.children.iter().enumerate() {
            if child.valid() {
                self.heap.push(Head { head: wide_head_of(child.key()), child: index as u32 });
            }
        }
        for position in (0..self.heap.len() / 2).rev() {
            self.sift_down(position);
        }
    }

    /// Whether child `a` comes before child `b` in the direction of the merge.
    #[inline(always)]
    fn before(&self, a: Head, b: Head) -> bool {
        if a.head != b.head { (a.head < b.head) == self.forward } else { self.before_alike(a, b) }
    }

    /// As before, where the first sixteen bytes do not tell.
    #[inline(never)]
    fn before_alike(&self, a: Head, b: Head) -> bool {
        let key = |head: Head| self.children[head.child as usize].key();
        match key(a).cmp(key(b)) {
            Ordering::Equal => a.child < b.child,
            Ordering::Less => self.forward,
            Ordering::Greater => !self.forward,
        }
    }

    fn sift_down(&mut self, mut position: usize) {
        let Some(&moving) = self.heap.get(position) else { return };
        loop {
            let mut below = 2 * position + 1;
            let Some(&(mut child)) = self.heap.get(below) else { break };
            if let Some(&other) = self.heap.get(below + 1)
                && self.before(other, child)
            {
                (below, child) = (below + 1, other);
            }
            if !self.before(child, moving) {
                break;
            }
            self.heap[position] = child;
            position = below;
        }
        self.heap[position] = moving;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source over a sorted list, with a position from -1 to its length.
    struct List {
        keys: Vec<Vec<u8>>,
        position: isize,
    }

    impl Cursor for List {
        fn seek(&mut self, key: &[u8]) -> Result<()> {
            self.position = self.keys.partition_point(|own| own.as_slice() < key) as isize;
            Ok(())
        }
        fn seek_before(&mut self, key: &[u8]) -> Result<()> {
            self.seek(key)?;
            self.position -= 1;
            Ok(())
        }
        fn next(&mut self) -> Result<()> {
            self.position += 1;
            Ok(())
        }
        fn prev(&mut self) -> Result<()> {
            self.position -= 1;
            Ok(())
        }
        fn valid(&self) -> bool {
            self.position >= 0 && (self.position as usize) < self.keys.len()
        }
        fn key(&self) -> &[u8] {
            &self.keys[self.position as usize]
        }
    }

    fn sources() -> (Vec<List>, Vec<Vec<u8>>) {
        let mut seed = 1u64;
        let mut all = Vec::new();
        let mut lists = Vec::new();
        for index in 0..7 {
            let mut keys = Vec::new();
            for _ in 0..index * 20 {
                seed = crate::checksum::mix64(seed, 7);
                let len = (seed % 24) as usize;
                keys.push(seed.to_be_bytes().repeat(3)[..len].to_vec());
                keys.last_mut().unwrap().iter_mut().for_each(|byte| *byte %= 3);
            }
            keys.sort();
            keys.dedup();
            all.extend(keys.iter().cloned());
            lists.push(List { keys, position: -1 });
        }
        all.sort();
        (lists, all)
    }

    fn collect(merge: &mut Merge<List>) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        while merge.valid() {
            out.push(merge.key().to_vec());
            merge.advance().unwrap();
        }
        out
    }

    #[test]
    fn both_directions_give_every_entry_in_order() {
        let (lists, all) = sources();
        let mut merge = Merge::new(lists);
        merge.seek(b"").unwrap();
        assert_eq!(collect(&mut merge), all);
        merge.seek_before(&[9]).unwrap();
        let backward: Vec<_> = all.iter().rev().cloned().collect();
        assert_eq!(collect(&mut merge), backward);
        for probe in &all {
            merge.seek(probe).unwrap();
            assert_eq!(merge.key(), probe.as_slice());
            merge.seek_before(probe).unwrap();
            let expected = all.iter().rfind(|key| *key < probe);
            assert_eq!(merge.valid().then(|| merge.key()), expected.map(Vec::as_slice));
        }
    }

    #[test]
    fn heads_are_the_first_bytes_and_order_as_keys_do() {
        let (_, mut keys) = sources();
        keys.extend((0..40).map(|len| vec![0; len]));
        keys.extend((0..40).map(|len| vec![255; len]));
        for key in &keys {
            let mut padded = key.clone();
            padded.resize(key.len().max(16), 0);
            assert_eq!(wide_head_of(key).to_be_bytes(), padded[..16], "{key:?}");
            for other in &keys {
                let order = wide_head_of(key).cmp(&wide_head_of(other));
                assert!(order.is_eq() || order == key.cmp(other), "{key:?} {other:?}");
            }
        }
    }

    #[test]
    fn of_equal_keys_the_newer_source_comes_first() {
        let list = || List { keys: vec![vec![1], vec![2]], position: -1 };
        let mut merge = Merge::new(vec![list(), list(), list()]);
        merge.seek(b"").unwrap();
        let mut indices = Vec::new();
        while merge.valid() {
            indices.push(merge.heap[0].child);
            merge.advance().unwrap();
        }
        assert_eq!(indices, [0, 1, 2, 0, 1, 2]);
    }
}
