//! The memtable's cursor (part of layer L3's memtable).
//!
//! A cursor stands on a key and holds the nodes above it. A node never changes its depth or its
//! place in the order of keys, and one that was replaced keeps what it had, so they stay valid
//! while the writer goes on. A leaf is seen as its permutation was when the cursor came to it.
//!
//! Where to go on in a node is always found by the current key, not by the slot that led to it: a
//! leaf may serve several slots, and a split meanwhile may have given them others. A leaf that is
//! met from the side is searched for the current key for the same reason: it may be an older or a
//! newer shape of the one that the cursor comes from.

use super::index::Memtable;
use super::moves::{AHEAD, Bound, Found, MemIter};
use super::record::{MemEntry, Record};
use crate::types::SeqNo;
use std::sync::Arc;

impl Memtable {
    /// A cursor, standing on no key yet. It shows every entry that was inserted before it was last
    /// sought (as far as the thread knows of it); of later ones it may show some.
    pub(crate) fn iter(self: &Arc<Self>) -> MemIter {
        MemIter::new(Arc::clone(self))
    }
}

impl MemIter {
    /// True when the cursor stands on a key.
    #[inline]
    pub(crate) fn valid(&self) -> bool {
        self.record != 0
    }

    /// The current key, encoded. Panics when the cursor is not valid.
    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        self.current().key()
    }

    /// The newest version of the current key with a sequence number of at most `max_seqno`.
    #[inline]
    pub(crate) fn entry(&self, max_seqno: SeqNo) -> Option<MemEntry> {
        self.current().visible(max_seqno)
    }

    /// All versions of the current key, newest first.
    pub(crate) fn versions(&self) -> impl Iterator<Item = MemEntry> + '_ {
        let newest = Some(self.current().newest());
        std::iter::successors(newest, |version| version.older()).map(|version| version.entry())
    }

    #[inline]
    fn current(&self) -> Record<'_> {
        assert!(self.valid(), "the cursor stands on no key");
        // SAFETY: `record` was loaded from this memtable's tree with Acquire.
        unsafe { self.memtable.tree.record(self.record) }
    }

    /// The current key, for as long as the memtable lives.
    ///
    /// # Safety
    /// - The answer must not be used after the cursor is gone.
    unsafe fn lasting_key<'a>(&self) -> &'a [u8] {
        // SAFETY: the bytes lie in the memtable, which the cursor holds as long as it lives, and
        // never move or change.
        unsafe { &*std::ptr::from_ref(self.key()) }
    }

    /// Goes to the first key.
    pub(crate) fn seek_to_first(&mut self) {
        self.reset();
        let root = self.memtable.tree.root.load();
        if !self.first_below(root, 0) {
            self.stop();
        }
    }

    /// Goes to the last key.
    #[cfg(test)]
    pub(crate) fn seek_to_last(&mut self) {
        self.reset();
        let root = self.memtable.tree.root.load();
        if !self.last_below(root, 0) {
            self.stop();
        }
    }

    /// Goes to the first key that is not below `key`.
    pub(crate) fn seek(&mut self, key: &[u8]) {
        let found = match self.descend(key) {
            Found::Leaf(leaf, depth) => {
                self.prefetch_after(key);
                // SAFETY: the memtable holds its nodes as long as the cursor holds it.
                self.first_in_leaf(unsafe { leaf.as_ref() }, depth, key, Bound::AtOrAfter)
            }
            Found::Before(child, depth) => self.first_below(child, depth),
            Found::End(head) => {
                // SAFETY: the memtable holds its nodes as long as the cursor holds it.
                self.stand_on_end(unsafe { head.as_ref() })
            }
            Found::After(..) | Found::Empty => false,
        };
        if !found {
            self.advance(key, Bound::AtOrAfter);
        }
    }

    /// Goes to the last key below `key`.
    pub(crate) fn seek_before(&mut self, key: &[u8]) {
        let found = match self.descend(key) {
            Found::Leaf(leaf, depth) => {
                // SAFETY: the memtable holds its nodes as long as the cursor holds it.
                self.last_in_leaf(unsafe { leaf.as_ref() }, depth, key)
            }
            Found::After(child, depth) => self.last_below(child, depth),
            Found::End(_) => {
                self.above.pop();
                false
            }
            Found::Before(..) | Found::Empty => false,
        };
        if !found {
            self.retreat(key);
        }
    }

    /// Goes to the next key. Panics when the cursor is not valid.
    #[inline]
    pub(crate) fn next(&mut self) {
        assert!(self.valid(), "the cursor stands on no key");
        match &mut self.leaf {
            Some(at) if at.rank + 1 < at.permutation.len() => {
                at.rank += 1;
                self.record = at.record();
                at.prefetch(at.rank + AHEAD, &self.memtable.tree.records);
            }
            _ => {
                // SAFETY: used in this call only.
                let key = unsafe { self.lasting_key() };
                self.advance(key, Bound::After);
            }
        }
    }

    /// Goes to the key before. Panics when the cursor is not valid.
    #[inline]
    pub(crate) fn prev(&mut self) {
        assert!(self.valid(), "the cursor stands on no key");
        match &mut self.leaf {
            Some(at) if at.rank > 0 => {
                at.rank -= 1;
                self.record = at.record();
                at.prefetch(at.rank.wrapping_sub(AHEAD), &self.memtable.tree.records);
                return;
            }
            Some(_) => {}
            // The key ends at the head on top: what comes before is not below that head.
            None => drop(self.above.pop()),
        }
        // SAFETY: used in this call only.
        let key = unsafe { self.lasting_key() };
        self.retreat(key);
    }
}
