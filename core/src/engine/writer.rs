//! What the writer's lock protects (layer L5).

use std::sync::Arc;

use super::view::MemPart;
use crate::types::SeqNo;
use crate::vlog::LogWriter;

/// What the writer's lock protects.
pub(crate) struct Writer {
    pub(crate) log: LogWriter,
    /// The active memtable: the first of the view.
    pub(crate) part: Arc<MemPart>,
    pub(crate) next_seqno: SeqNo,
    /// Set by close: no write after it.
    pub(crate) closed: bool,
    /// The log thread has been asked for the next segment.
    pub(crate) asked_for_segment: bool,
    /// Nothing live lies below this key: where `pop_first` starts.
    pub(crate) low: Option<Vec<u8>>,
    /// Nothing live lies at or above this key: where `pop_last` starts.
    pub(crate) high: Option<Vec<u8>>,
    /// What the next pops take from either end: of `pop_first`, then of `pop_last`.
    pub(crate) upcoming: [Upcoming; 2],
}

/// The keys that live next to one end: every key from there to the last of these was put before
/// they were looked up, and none has been put since; some may have been deleted.
#[derive(Default)]
pub(crate) struct Upcoming {
    /// The keys, encoded, one after the other.
    bytes: Vec<u8>,
    /// Where each key ends in `bytes`, and its hash; in the order in which they are popped.
    keys: Vec<(u32, u64)>,
    /// How many of them have been popped.
    taken: usize,
    /// How many are looked up next time: more and more while they are used up.
    pub(crate) wanted: usize,
}

impl Upcoming {
    /// Forgets the keys and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.keys.clear();
        self.taken = 0;
    }

    /// Adds a key behind the others.
    pub(crate) fn push(&mut self, key: &[u8], hash: u64) {
        self.bytes.extend_from_slice(key);
        self.keys.push((self.bytes.len() as u32, hash));
    }

    /// Number of keys, those that were taken included.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Takes the next key; its index and its hash.
    pub(crate) fn take(&mut self) -> Option<(usize, u64)> {
        let index = self.taken;
        let (_, hash) = *self.keys.get(index)?;
        self.taken += 1;
        Some((index, hash))
    }

    /// The key with this index.
    pub(crate) fn key(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.keys[index - 1].0 };
        &self.bytes[start as usize..self.keys[index].0 as usize]
    }

    /// A put between the end and the last of the keys makes them incomplete.
    #[inline]
    fn note_put(&mut self, key: &[u8], first: bool) {
        if self.taken == self.keys.len() {
            return;
        }
        let last = self.key(self.keys.len() - 1);
        let beyond = if first { key > last } else { key < last };
        if !beyond {
            self.clear();
            self.wanted = 0;
        }
    }
}

impl Writer {
    /// A writer that continues after `last_seqno` in an empty segment.
    pub(crate) fn new(log: LogWriter, part: Arc<MemPart>, last_seqno: SeqNo) -> Writer {
        let next_seqno = last_seqno + 1;
        Writer {
            log,
            part,
            next_seqno,
            closed: false,
            asked_for_segment: false,
            low: None,
            high: None,
            upcoming: Default::default(),
        }
    }

    /// Forgets what is known of the ends.
    pub(crate) fn forget_ends(&mut self) {
        (self.low, self.high) = (None, None);
        self.upcoming = Default::default();
    }

    /// Keeps true what `pop_first` and `pop_last` know when `key` is put.
    #[inline]
    pub(crate) fn note_put(&mut self, key: &[u8]) {
        self.upcoming[0].note_put(key, true);
        self.upcoming[1].note_put(key, false);
        if let Some(low) = &mut self.low
            && key < low.as_slice()
        {
            low.clear();
            low.extend_from_slice(key);
        }
        if let Some(high) = &mut self.high
            && key >= high.as_slice()
        {
            high.clear();
            high.extend_from_slice(key);
            high.push(0);
        }
    }
}
