//! Tests of the memtable against a model, by shapes of keys, and with readers beside the writer.

use super::arena;
use super::filter::Filter;
use super::moves::MemIter;
use super::node::{Node, nibble};
use super::tree::{MOST_LEVELS, leaf_from};
use super::{Inserted, MemEntry, Memtable};
use crate::checksum::{hash_key, mix64};
use crate::key::MAX_ENCODED_KEY_LEN;
use crate::types::{Kind, SeqNo};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const SEED: u64 = 7;

/// Pseudo-random numbers, the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 += 1;
        mix64(self.0, 0x5EED)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

fn entry(seqno: SeqNo, kind: Kind) -> MemEntry {
    MemEntry { seqno, kind, offset: seqno * 8, value_len: seqno as u32 ^ 0xFFFF }
}

fn insert(memtable: &Memtable, key: &[u8], entry: MemEntry) {
    // SAFETY: every test has one thread that inserts.
    unsafe { memtable.insert(key, hash_key(key, SEED), entry) };
}

fn get(memtable: &Memtable, key: &[u8], max_seqno: SeqNo) -> Option<MemEntry> {
    memtable.get(key, hash_key(key, SEED), max_seqno)
}

/// The memtable's contents as they should be: versions oldest first.
#[derive(Default)]
struct Model {
    keys: BTreeMap<Vec<u8>, Vec<MemEntry>>,
    log: Vec<(Vec<u8>, MemEntry)>,
}

impl Model {
    fn fill(keys: impl IntoIterator<Item = Vec<u8>>) -> (Arc<Memtable>, Model) {
        let memtable = Arc::new(Memtable::new(1 << 20));
        let mut model = Model::default();
        for (index, key) in keys.into_iter().enumerate() {
            let kind = if index % 5 == 3 { Kind::Delete } else { Kind::Put };
            model.insert(&memtable, key, entry(10 + 2 * index as u64, kind));
        }
        (memtable, model)
    }

    fn insert(&mut self, memtable: &Memtable, key: Vec<u8>, entry: MemEntry) {
        insert(memtable, &key, entry);
        self.log.push((key.clone(), entry));
        self.keys.entry(key).or_default().push(entry);
    }

    fn visible(versions: &[MemEntry], max_seqno: SeqNo) -> Option<MemEntry> {
        versions.iter().rev().find(|entry| entry.seqno <= max_seqno).copied()
    }

    fn check_counts(&self, memtable: &Memtable) {
        assert_eq!(memtable.len(), self.log.len());
        assert_eq!(memtable.key_count(), self.keys.len());
        assert_eq!(memtable.first_seqno(), self.log.first().map_or(0, |(_, entry)| entry.seqno));
        assert_eq!(memtable.last_seqno(), self.log.last().map_or(0, |(_, entry)| entry.seqno));
    }

    fn check_order(&self, memtable: &Arc<Memtable>) {
        let mut cursor = memtable.iter();
        assert!(!cursor.valid());
        cursor.seek_to_first();
        for (key, versions) in &self.keys {
            assert_eq!(cursor.key(), key);
            let newest_first: Vec<MemEntry> = versions.iter().rev().copied().collect();
            assert_eq!(cursor.versions().collect::<Vec<_>>(), newest_first);
            cursor.next();
        }
        assert!(!cursor.valid());
        cursor.seek_to_last();
        for key in self.keys.keys().rev() {
            assert_eq!(cursor.key(), key);
            cursor.prev();
        }
        assert!(!cursor.valid());
    }

    fn check_walk(&self, memtable: &Memtable, pieces: u64) {
        let mut seen = Vec::new();
        let mut place = Inserted::NONE;
        for piece in 1..=pieces {
            let upto = memtable.last_seqno() * piece / pieces;
            place = memtable.for_each_since(place, upto, |key, kind, older| {
                seen.push((key.to_vec(), kind, older));
            });
            let count = self.log.iter().filter(|(_, entry)| entry.seqno <= upto).count();
            assert_eq!(seen.len(), count);
        }
        let mut newest = BTreeMap::new();
        let expected: Vec<_> = (self.log.iter())
            .map(|(key, entry)| (key.clone(), entry.kind, newest.insert(key, entry.kind)))
            .collect();
        assert!(seen == expected);
    }

    /// Gets and seeks for `key`, which may be here or not.
    fn check_key(&self, memtable: &Arc<Memtable>, cursor: &mut MemIter, key: &[u8]) {
        let versions = self.keys.get(key).map_or(&[][..], Vec::as_slice);
        for version in versions {
            for max_seqno in version.seqno - 1..=version.seqno + 1 {
                let expected = Self::visible(versions, max_seqno);
                assert_eq!(get(memtable, key, max_seqno), expected);
            }
        }
        assert_eq!(get(memtable, key, SeqNo::MAX), versions.last().copied());
        assert_eq!(memtable.tree.find(key).is_some(), !versions.is_empty());
        let mut after = self.keys.range::<[u8], _>((Bound::Included(key), Bound::Unbounded));
        let mut before = self.keys.range::<[u8], _>((Bound::Unbounded, Bound::Excluded(key)));
        cursor.seek(key);
        for _ in 0..3 {
            let Some((key, versions)) = after.next() else { break };
            assert_eq!(cursor.key(), key);
            assert_eq!(cursor.entry(SeqNo::MAX), versions.last().copied());
            cursor.next();
        }
        assert!(after.next().is_some() || !cursor.valid());
        cursor.seek_before(key);
        for _ in 0..3 {
            let Some((key, _)) = before.next_back() else { break };
            assert_eq!(cursor.key(), key);
            cursor.prev();
        }
        assert!(before.next_back().is_some() || !cursor.valid());
    }

    /// Everything about the keys that are here and about their nearest neighbours.
    fn check(&self, memtable: &Arc<Memtable>, most_keys: usize) {
        self.check_counts(memtable);
        self.check_order(memtable);
        self.check_walk(memtable, 1);
        self.check_walk(memtable, 7);
        let mut cursor = memtable.iter();
        let stride = self.keys.len().div_ceil(most_keys).max(1);
        for key in self.keys.keys().step_by(stride) {
            for neighbour in neighbours(key) {
                self.check_key(memtable, &mut cursor, &neighbour);
            }
        }
    }
}

/// A key, and keys that differ from it little.
fn neighbours(key: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![key.to_vec(), [key, b"\0"].concat(), [key, b"\xFF"].concat()];
    for at in [0, key.len() / 2, key.len().saturating_sub(1)] {
        all.push(key[..at].to_vec());
        for change in [1, 0x10, 0xF0, 0x0F] {
            let mut changed = key.to_vec();
            if let Some(byte) = changed.get_mut(at) {
                *byte ^= change;
            }
            all.push(changed.clone());
            changed.truncate(at + 1);
            all.push(changed);
        }
    }
    all
}

fn shuffled(mut keys: Vec<Vec<u8>>, random: &mut Random) -> Vec<Vec<u8>> {
    for index in (1..keys.len()).rev() {
        keys.swap(index, random.below(index + 1));
    }
    keys
}

#[test]
fn an_empty_memtable_has_nothing() {
    let (memtable, model) = Model::fill([]);
    model.check_counts(&memtable);
    model.check_order(&memtable);
    let mut cursor = memtable.iter();
    model.check_key(&memtable, &mut cursor, b"");
    model.check_key(&memtable, &mut cursor, b"a");
    assert!(memtable.is_empty());
}

#[test]
fn random_keys_of_many_shapes() {
    let mut random = Random(1);
    for round in 0..60 {
        let (alphabet, longest) = [(2, 12), (256, 4), (256, 17), (3, 40), (20, 8)][round % 5];
        let count = [3, 15, 16, 17, 100, 3000][round / 5 % 6];
        let keys: Vec<Vec<u8>> = (0..count)
            .map(|_| {
                let len = if round % 3 == 0 { longest } else { random.below(longest + 1) };
                let spread = 255 / (alphabet - 1).max(1);
                (0..len).map(|_| (random.below(alphabet) * spread) as u8).collect()
            })
            .collect();
        let (memtable, model) = Model::fill(keys);
        model.check(&memtable, 60);
    }
}

#[test]
fn numbers_in_order_and_in_disorder() {
    let mut random = Random(2);
    let decimal: Vec<Vec<u8>> =
        (0..5000).map(|n| format!("\0user{n:010}/x").into_bytes()).collect();
    let binary: Vec<Vec<u8>> =
        (0..5000u64).map(|n| [&[0], &n.to_be_bytes()[..]].concat()).collect();
    let little: Vec<Vec<u8>> =
        (0..5000u64).map(|n| [&[0], &n.to_le_bytes()[..]].concat()).collect();
    for keys in [decimal, binary, little] {
        let backwards = keys.iter().rev().cloned().collect();
        let mixed = shuffled(keys.clone(), &mut random);
        for keys in [keys, backwards, mixed] {
            let (memtable, model) = Model::fill(keys);
            model.check(&memtable, 40);
        }
    }
}

#[test]
fn keys_that_are_prefixes_of_others() {
    let mut random = Random(3);
    let chain: Vec<Vec<u8>> = (0..300).map(|len| vec![b'a'; len]).collect();
    let zeros: Vec<Vec<u8>> = (0..300).map(|len| vec![0; len]).collect();
    let branching: Vec<Vec<u8>> = (0..300)
        .flat_map(|len| {
            [b"".as_slice(), b"\0", b"b", b"\xFF\xFF"].map(|end| [&vec![b'a'; len], end].concat())
        })
        .collect();
    for keys in [chain, zeros, branching] {
        let backwards = keys.iter().rev().cloned().collect();
        let mixed = shuffled(keys.clone(), &mut random);
        for keys in [keys, backwards, mixed] {
            let (memtable, model) = Model::fill(keys);
            model.check(&memtable, 60);
        }
    }
}

/// Nodes on the way to a key.
fn levels(memtable: &Memtable, key: &[u8]) -> usize {
    let (mut child, mut depth) = (memtable.tree.root.load(), 0);
    for level in 0.. {
        // SAFETY: loaded from the tree of the memtable that the caller holds.
        child = match unsafe { child.node() } {
            Node::Inner(inner) => inner.slots[nibble(key, depth).unwrap()].load(),
            Node::Step(_, inner) => {
                depth += 1;
                inner.slots[nibble(key, depth).unwrap()].load()
            }
            Node::Head(head) => {
                depth += head.skip as usize;
                if depth == 2 * key.len() {
                    return level;
                }
                child = head.child.load();
                continue;
            }
            Node::Fence(fence) => {
                child = fence.child_for(key, leaf_from(depth), &memtable.tree.records);
                continue;
            }
            Node::Leaf(_) | Node::Empty => return level,
        };
        depth += 1;
    }
    unreachable!()
}

#[test]
fn the_way_to_a_long_key_stays_short() {
    let mut random = Random(6);
    let plain = |len: usize| vec![b'a'; len];
    let branching = |n: usize| [&vec![b'a'; n / 2][..], &[b'b'; 2][..n % 2 * 2]].concat();
    for key in [&plain as &dyn Fn(usize) -> Vec<u8>, &branching] {
        let keys: Vec<Vec<u8>> = (0..1500).map(key).collect();
        let mixed = shuffled(keys.clone(), &mut random);
        for keys in [keys, mixed] {
            let (memtable, model) = Model::fill(keys.clone());
            let deepest = keys.iter().map(|key| levels(&memtable, key)).max().unwrap();
            assert!(deepest < MOST_LEVELS + 12, "{deepest}");
            model.check(&memtable, 30);
        }
    }
}

#[test]
fn a_reader_on_a_long_way_has_it_cut() {
    // One is at a head's end, the other in a leaf.
    for len in [1000, 1499] {
        let (memtable, mut model) = Model::fill((0..1500).rev().map(|len| vec![b'a'; len]));
        let long = vec![b'a'; len];
        let before = levels(&memtable, &long);
        assert!(before > 400, "each shorter key was put above the others: {before}");
        assert!(get(&memtable, &long, SeqNo::MAX).is_some());
        assert_eq!(levels(&memtable, &long), before, "readers change nothing");
        model.insert(&memtable, b"b".to_vec(), entry(5000, Kind::Put));
        assert!(levels(&memtable, &long) < MOST_LEVELS + 12);
        model.check(&memtable, 30);
    }
}

#[test]
fn has_room_is_asked_in_bytes() {
    let memtable = Memtable::new(1 << 20);
    assert!(memtable.has_room(1, MAX_ENCODED_KEY_LEN));
    assert!(memtable.has_room(1 << 26, 1 << 30));
    assert!(!memtable.has_room(1, 8 << 30));
    assert!(!memtable.has_room(1 << 29, 0));
    assert!(!memtable.has_room(usize::MAX, usize::MAX));
    assert_eq!(arena::room_bytes(1 << 31), 0);
}

#[test]
fn the_filter_knows_what_was_added_and_little_else() {
    let filter = Filter::new(64 << 20);
    assert_eq!(filter.heap_bytes(), 1 << 20);
    let hashes = |from: u64| (from..from + 300_000).map(|number| mix64(number, 11));
    hashes(0).for_each(|hash| filter.add(hash));
    assert!(hashes(0).all(|hash| filter.may_contain(hash)));
    let wrong = hashes(1 << 30).filter(|&hash| filter.may_contain(hash)).count();
    assert!(wrong < 1500, "{wrong} of 300000, more than 0.5 %");
    assert_eq!(Filter::new(0).heap_bytes(), 4096);
    assert_eq!(Filter::new(u64::MAX).heap_bytes(), 64 << 20);
}

#[test]
fn keys_up_to_the_limit() {
    let lens = (0..40).map(|step| MAX_ENCODED_KEY_LEN - step * 1600).chain([1, 2, 3, 15, 16, 17]);
    let (memtable, model) = Model::fill(lens.map(|len| vec![b'a'; len]));
    model.check(&memtable, 50);
}

#[test]
fn keys_that_share_sixty_thousand_bytes() {
    let shared = vec![b'x'; 60_000];
    let keys = (0..400u32).map(|n| [&shared, mix64(n.into(), 1).to_string().as_bytes()].concat());
    let (memtable, mut model) = Model::fill(keys);
    model.insert(&memtable, shared[..59_999].to_vec(), entry(5000, Kind::Put));
    model.insert(&memtable, shared.clone(), entry(5001, Kind::Put));
    model.insert(&memtable, shared[..1].to_vec(), entry(5002, Kind::Put));
    model.insert(&memtable, b"xy".to_vec(), entry(5003, Kind::Put));
    model.check(&memtable, 20);
}

#[test]
fn versions_at_every_sequence_number() {
    let mut random = Random(4);
    let keys: Vec<Vec<u8>> = (0..40).map(|n| format!("key{}", n * n).into_bytes()).collect();
    let (memtable, model) = Model::fill((0..3000).map(|_| keys[random.below(40)].clone()));
    model.check(&memtable, 40);
    for (key, versions) in &model.keys {
        for max_seqno in (0..memtable.last_seqno() + 2).step_by(3) {
            assert_eq!(get(&memtable, key, max_seqno), Model::visible(versions, max_seqno));
        }
    }
}

/// What a writer inserts, known in advance: the key of every sequence number from 1 on.
struct Plan {
    keys: Vec<Vec<u8>>,
    /// For a sequence number: the next one with the same key.
    next_same: Vec<SeqNo>,
    /// For a sequence number: the count of different keys up to it.
    distinct: Vec<usize>,
}

impl Plan {
    fn new(keys: Vec<Vec<u8>>) -> Plan {
        let mut next_same = vec![SeqNo::MAX; keys.len() + 1];
        let mut distinct = vec![0; keys.len() + 1];
        let mut newest = BTreeMap::new();
        for (index, key) in keys.iter().enumerate() {
            if let Some(before) = newest.insert(key, index + 1) {
                next_same[before] = index as SeqNo + 1;
            }
            distinct[index + 1] = newest.len();
        }
        Plan { keys, next_same, distinct }
    }

    fn key(&self, seqno: SeqNo) -> &[u8] {
        &self.keys[seqno as usize - 1]
    }

    fn entry(&self, seqno: SeqNo) -> MemEntry {
        entry(seqno, if seqno.is_multiple_of(7) { Kind::Delete } else { Kind::Put })
    }

    /// Checks what a reader at `pinned` was shown.
    fn check_shown(&self, key: &[u8], shown: MemEntry, pinned: SeqNo) {
        assert!(shown.seqno <= pinned && pinned < self.next_same[shown.seqno as usize]);
        assert_eq!(shown, self.entry(shown.seqno));
        assert!(self.key(shown.seqno) == key);
    }

    /// All that a reader at `pinned` sees, in order.
    fn view(&self, memtable: &Arc<Memtable>, pinned: SeqNo) -> Vec<Vec<u8>> {
        let mut cursor = memtable.iter();
        cursor.seek_to_first();
        let mut keys: Vec<Vec<u8>> = Vec::new();
        while cursor.valid() {
            if let Some(shown) = cursor.entry(pinned) {
                self.check_shown(cursor.key(), shown, pinned);
                assert!(keys.last().is_none_or(|last| last.as_slice() < cursor.key()));
                keys.push(cursor.key().to_vec());
            }
            cursor.next();
        }
        assert_eq!(keys.len(), self.distinct[pinned as usize]);
        keys
    }

    /// Walks about in a view that was taken at `pinned`, forwards and backwards, while newer
    /// entries come in.
    fn check_view(&self, memtable: &Arc<Memtable>, pinned: SeqNo, view: &[Vec<u8>], at: usize) {
        let shown = |cursor: &MemIter| cursor.entry(pinned).is_some();
        let mut cursor = memtable.iter();
        cursor.seek(&view[at]);
        for expected in view[at..].iter().take(40) {
            while !shown(&cursor) {
                cursor.next();
            }
            assert!(cursor.key() == expected);
            cursor.next();
        }
        cursor.seek_before(&view[at]);
        for expected in view[..at].iter().rev().take(40) {
            while !shown(&cursor) {
                cursor.prev();
            }
            assert!(cursor.key() == expected);
            cursor.prev();
        }
        let back: usize = {
            cursor.seek_to_last();
            let mut count = 0;
            while cursor.valid() {
                count += usize::from(shown(&cursor));
                cursor.prev();
            }
            count
        };
        assert_eq!(back, view.len());
    }

    /// Reads until the writer is done and then once more.
    fn read(&self, memtable: &Arc<Memtable>, published: &AtomicU64, seed: u64) {
        let mut random = Random(seed);
        let (mut place, mut walked, mut before) = (Inserted::NONE, 0, Vec::new());
        loop {
            let pinned = published.load(Ordering::Acquire);
            for _ in 0..pinned.min(50) {
                let seqno = 1 + random.below(pinned as usize) as SeqNo;
                let key = self.key(seqno);
                assert_eq!(get(memtable, key, seqno), Some(self.entry(seqno)));
                self.check_shown(key, get(memtable, key, pinned).unwrap(), pinned);
            }
            place = memtable.for_each_since(place, pinned, |key, kind, _| {
                walked += 1;
                assert!(key == self.key(walked) && kind == self.entry(walked).kind);
            });
            assert_eq!(walked, pinned);
            let view = self.view(memtable, pinned);
            for _ in 0..view.len().min(3) {
                self.check_view(memtable, pinned, &view, random.below(view.len()));
            }
            if let Some((pinned, earlier)) = before.pop() {
                assert!(self.view(memtable, pinned) == earlier);
            }
            before.push((pinned, view));
            if pinned == self.keys.len() as SeqNo {
                return;
            }
        }
    }

    fn run(&self) {
        let memtable = Arc::new(Memtable::new(1 << 20));
        let published = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for seed in 0..3 {
                let (memtable, published) = (&memtable, &published);
                scope.spawn(move || self.read(memtable, published, seed << 32));
            }
            for seqno in 1..=self.keys.len() as SeqNo {
                insert(&memtable, self.key(seqno), self.entry(seqno));
                published.store(seqno, Ordering::Release);
            }
        });
    }
}

#[test]
fn readers_beside_the_writer_see_all_that_was_published() {
    let count = if cfg!(miri) { 60 } else { 20_000 };
    let mut random = Random(5);
    let mut pick = |key: fn(usize) -> Vec<u8>| {
        Plan::new((0..count).map(|_| key(random.below(count))).collect()).run();
    };
    pick(|n| mix64(n as u64, 9).to_be_bytes().to_vec());
    pick(|n| (n as u32).to_be_bytes().to_vec());
    pick(|n| format!("user/{:06}/name", n % 7000).into_bytes());
    pick(|n| [vec![b'a'; n % 307], (n as u32 / 307).to_le_bytes()[..n % 3].to_vec()].concat());
}
