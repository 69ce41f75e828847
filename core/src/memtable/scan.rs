//! A scan of the memtable at one sequence number (part of layer L3's memtable).
//!
//! Values lie in the log in the order of writing, so those of a scan are in lines and pages that no
//! processor guesses. A scan therefore finds keys some steps before it shows them, and says where
//! their values are.

use super::index::Memtable;
use super::moves::MemIter;
use super::record::{MemEntry, Record};
use crate::types::{Kind, SeqNo};
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

/// Keys that are found before the one that is shown is left. The first scan of 900 000 entries
/// after a load at random, half of them in memtables, takes 111 ns an entry with it and 160
/// without, in reverse 94 and 149 (medians of seven, alternated).
const AHEAD: usize = 16;

/// Values that a scan shows before it looks ahead: a short one, or one for keys only, pays nothing
/// for what it never shows.
const SHORT: u32 = 16;

/// A key, and its version for the reader.
#[derive(Clone, Copy)]
struct Place {
    /// The key's record; 0 when there is no key.
    record: u32,
    entry: MemEntry,
}

const NOWHERE: Place =
    Place { record: 0, entry: MemEntry { seqno: 0, kind: Kind::Delete, offset: 0, value_len: 0 } };

/// A position over the keys of a memtable that have a version for its reader.
pub(crate) struct MemScan {
    /// On the last key that was found.
    iter: MemIter,
    max_seqno: SeqNo,
    /// The current key.
    shown: Place,
    /// The keys that were found and not yet shown; at most [`AHEAD`], allocated once needed.
    found: VecDeque<Place>,
    /// Values shown since the last seek, up to [`SHORT`].
    values: Cell<u32>,
}

impl MemScan {
    /// A scan of what is visible at `max_seqno`; on no key until a seek.
    pub(crate) fn new(memtable: &Arc<Memtable>, max_seqno: SeqNo) -> MemScan {
        let (iter, found) = (memtable.iter(), VecDeque::new());
        MemScan { iter, max_seqno, shown: NOWHERE, found, values: Cell::new(0) }
    }

    /// Whether the scan is on a key.
    #[inline]
    pub(crate) fn valid(&self) -> bool {
        self.shown.record != 0
    }

    /// The current key, encoded. Panics when there is none.
    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        self.current().key()
    }

    /// What the current key's version for this reader is.
    #[inline]
    pub(crate) fn kind(&self) -> Kind {
        self.shown.entry.kind
    }

    /// The current key's version for this reader, whose value will be shown.
    #[inline]
    pub(crate) fn entry(&self) -> &MemEntry {
        self.values.set(SHORT.min(self.values.get() + 1));
        &self.shown.entry
    }

    #[inline]
    fn current(&self) -> Record<'_> {
        assert!(self.valid(), "the scan is on no key");
        // SAFETY: `record` was loaded from the tree of the memtable that `iter` holds with Acquire.
        unsafe { self.iter.memtable.tree.record(self.shown.record) }
    }

    /// To the first key that is not below `key`.
    pub(crate) fn seek(&mut self, key: &[u8]) {
        self.iter.seek(key);
        self.sought(MemIter::next);
    }

    /// To the last key below `key`.
    pub(crate) fn seek_before(&mut self, key: &[u8]) {
        self.iter.seek_before(key);
        self.sought(MemIter::prev);
    }

    fn sought(&mut self, step: fn(&mut MemIter)) {
        self.found.clear();
        self.values.set(0);
        self.shown = self.settle(step);
    }

    /// To the next key; `ask` hears the offsets of records whose values will be shown soon. Only
    /// after `seek`, on a key.
    #[inline(always)]
    pub(crate) fn next(&mut self, ask: impl FnMut(u64)) {
        self.step(MemIter::next, ask);
    }

    /// To the key before; the same after `seek_before`.
    #[inline(always)]
    pub(crate) fn prev(&mut self, ask: impl FnMut(u64)) {
        self.step(MemIter::prev, ask);
    }

    #[inline(always)]
    fn step(&mut self, step: fn(&mut MemIter), ask: impl FnMut(u64)) {
        if let Some(place) = self.found.pop_front() {
            self.shown = place;
        } else {
            if self.iter.valid() {
                step(&mut self.iter);
            }
            self.shown = self.settle(step);
        }
        if self.values.get() == SHORT {
            self.look_ahead(step, ask);
        }
    }

    /// Finds two more keys, until there are [`AHEAD`]. A key without a version for this reader
    /// counts too, so that no step passes over more of them than its own way has.
    #[inline(always)]
    fn look_ahead(&mut self, step: fn(&mut MemIter), mut ask: impl FnMut(u64)) {
        for _ in 0..2 {
            if self.found.len() == AHEAD || !self.iter.valid() {
                return;
            }
            step(&mut self.iter);
            let Some(place) = self.here() else { continue };
            if place.entry.kind != Kind::Delete {
                ask(place.entry.offset);
            }
            if self.found.capacity() == 0 {
                self.found.reserve_exact(AHEAD);
            }
            self.found.push_back(place);
        }
    }

    /// Moves `iter` on until its key has a version for this reader.
    #[inline]
    fn settle(&mut self, step: fn(&mut MemIter)) -> Place {
        while self.iter.valid() {
            if let Some(place) = self.here() {
                return place;
            }
            step(&mut self.iter);
        }
        NOWHERE
    }

    /// What the reader sees of the key that `iter` is on.
    #[inline]
    fn here(&self) -> Option<Place> {
        let entry = self.iter.valid().then(|| self.iter.entry(self.max_seqno))??;
        Some(Place { record: self.iter.record, entry })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::{hash_key, mix64};
    use crate::types::MAX_SEQNO;
    use std::collections::BTreeMap;

    type Versions = BTreeMap<Vec<u8>, Vec<MemEntry>>;

    /// 600 keys in random order, a third of them written twice, some deleted.
    fn sample() -> (Arc<Memtable>, Versions) {
        let memtable = Arc::new(Memtable::new(1 << 20));
        let mut versions = Versions::new();
        for seqno in 1..=800 {
            let key = mix64(if seqno > 600 { 3 * (seqno - 600) } else { seqno }, 5).to_be_bytes();
            let kind = if seqno % 7 == 0 { Kind::Delete } else { Kind::Put };
            let entry = MemEntry { seqno, kind, offset: 8 * seqno, value_len: 5 };
            // SAFETY: nobody else inserts.
            unsafe { memtable.insert(&key, hash_key(&key, 9), entry) };
            versions.entry(key.to_vec()).or_default().push(entry);
        }
        (memtable, versions)
    }

    type Entries = Vec<(Vec<u8>, MemEntry)>;

    fn visible(versions: &Versions, max_seqno: SeqNo) -> Entries {
        let seen = |all: &Vec<MemEntry>| all.iter().rfind(|one| one.seqno <= max_seqno).copied();
        versions.iter().filter_map(|(key, all)| Some((key.clone(), seen(all)?))).collect()
    }

    /// What a scan shows, and what was asked for before each step.
    fn walk(scan: &mut MemScan, forward: bool) -> (Entries, Vec<Vec<u64>>) {
        let (mut shown, mut asked) = (Vec::new(), Vec::new());
        while scan.valid() {
            shown.push((scan.key().to_vec(), *scan.entry()));
            let mut now = Vec::new();
            let ask = |offset| now.push(offset);
            if forward {
                scan.next(ask)
            } else {
                scan.prev(ask)
            }
            asked.push(now);
        }
        (shown, asked)
    }

    #[test]
    fn a_scan_shows_what_its_reader_may_see_in_both_directions() {
        let (memtable, versions) = sample();
        for max_seqno in [0, 1, 17, 18, 300, 650, MAX_SEQNO] {
            let all = visible(&versions, max_seqno);
            let mut scan = MemScan::new(&memtable, max_seqno);
            assert!(!scan.valid());
            for start in [0, 1, all.len() / 2, all.len().saturating_sub(3), all.len()] {
                let start = start.min(all.len());
                let key = all.get(start).map_or(vec![0xff; 9], |(key, _)| key.clone());
                scan.seek(&key);
                assert_eq!(walk(&mut scan, true).0, all[start..]);
                scan.seek_before(&key);
                let back: Vec<_> = all[..start].iter().rev().cloned().collect();
                assert_eq!(walk(&mut scan, false).0, back);
            }
        }
    }

    #[test]
    fn a_long_scan_asks_for_each_value_once_before_it_shows_it() {
        let (memtable, _) = sample();
        let mut scan = MemScan::new(&memtable, MAX_SEQNO);
        for forward in [true, false] {
            if forward {
                scan.seek(b"")
            } else {
                scan.seek_before(&[0xff; 9])
            }
            let (shown, asked) = walk(&mut scan, forward);
            let is_put = |entry: &MemEntry| entry.kind != Kind::Delete;
            let (short, long) = shown.split_at(SHORT as usize + 1);
            assert!(asked[..short.len() - 2].iter().all(Vec::is_empty), "a short scan asked");
            let values = long.iter().map(|(_, entry)| entry).filter(|entry| is_put(entry));
            let values: Vec<u64> = values.map(|entry| entry.offset).collect();
            assert_eq!(asked.concat(), values);
            for (step, now) in asked.iter().enumerate() {
                for offset in now {
                    let place = shown.iter().position(|(_, entry)| entry.offset == *offset);
                    let distance = place.unwrap() - step;
                    assert!((2..=AHEAD + 1).contains(&distance), "{distance} steps ahead");
                    let far = step < SHORT as usize + AHEAD || distance == AHEAD + 1;
                    assert!(far, "{distance} steps ahead at step {step}");
                }
            }
        }
    }

    #[test]
    fn a_seek_forgets_what_was_found_ahead() {
        let (memtable, versions) = sample();
        let all = visible(&versions, MAX_SEQNO);
        let mut scan = MemScan::new(&memtable, MAX_SEQNO);
        scan.seek(b"");
        (0..100).for_each(|_| scan.next(|_| ()));
        scan.seek(&all[40].0);
        assert_eq!(scan.key(), all[40].0);
        scan.next(|_| panic!("asked at the first step after a seek"));
        assert_eq!((scan.key(), *scan.entry()), (&all[41].0[..], all[41].1));
    }

    #[test]
    fn a_scan_for_keys_asks_for_no_value() {
        let (memtable, versions) = sample();
        let mut scan = MemScan::new(&memtable, MAX_SEQNO);
        scan.seek(b"");
        for (key, entry) in visible(&versions, MAX_SEQNO) {
            assert_eq!((scan.key(), scan.kind()), (&key[..], entry.kind));
            scan.next(|_| panic!("asked for a value that nobody sees"));
        }
        assert!(!scan.valid());
    }

    /// Keys that nobody may see lie between those of the reader, and more come while it scans.
    #[test]
    fn a_scan_looks_no_further_than_two_keys_a_step_among_newer_ones() {
        let memtable = Arc::new(Memtable::new(1 << 20));
        let mut seqno = 0;
        let mut put = |key: &[u8]| {
            seqno += 1;
            let entry = MemEntry { seqno, kind: Kind::Put, offset: 8 * seqno, value_len: 5 };
            // SAFETY: nobody else inserts.
            unsafe { memtable.insert(key, hash_key(key, 9), entry) };
        };
        let name = |number: u32| format!("{number:04}").into_bytes();
        (0..100).for_each(|number| put(&name(number)));
        // Keys that end where others go on, and a long gap behind each of the reader's.
        (0..100).for_each(|number| {
            (0..50).for_each(|more| put(&[&name(number)[..], &[more]].concat()))
        });
        let mut scan = MemScan::new(&memtable, 100);
        scan.seek(b"");
        for number in 0..100 {
            assert_eq!(
                (scan.key(), scan.entry().seqno),
                (&name(number)[..], 1 + u64::from(number))
            );
            let before = scan.iter.valid().then(|| scan.iter.key().to_vec());
            put(&[&name(number)[..], b"later"].concat());
            scan.next(|_| ());
            let after = scan.iter.valid().then(|| scan.iter.key().to_vec());
            let next = name(number + 1);
            let beyond = after.is_some_and(|after| after > [&next[..], &[2]].concat());
            assert!(!beyond, "{before:?} at {number}");
        }
        assert!(!scan.valid());
    }
}
