//! What the writer's lock protects (layer L5).

use std::collections::VecDeque;
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
    /// What the next pops take.
    pub(crate) upcoming: Upcoming,
}

/// The keys that live next to one end: every key from there to the last of these was put before
/// they were looked up, and none has been put since; some may have been deleted.
#[derive(Default)]
pub(crate) struct Upcoming {
    /// Encoded, in the order in which they are popped; from the lower end if `first`.
    pub(crate) keys: VecDeque<Vec<u8>>,
    pub(crate) first: bool,
    /// How many are looked up next time: more and more while they are used up.
    pub(crate) wanted: usize,
}

impl Upcoming {
    /// A put between the end and the last of the keys makes them incomplete.
    #[inline]
    fn note_put(&mut self, key: &[u8]) {
        let Some(last) = self.keys.back() else { return };
        let beyond = if self.first { key > last.as_slice() } else { key < last.as_slice() };
        if !beyond {
            *self = Upcoming::default();
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
            upcoming: Upcoming::default(),
        }
    }

    /// Forgets what is known of the ends.
    pub(crate) fn forget_ends(&mut self) {
        (self.low, self.high) = (None, None);
        self.upcoming = Upcoming::default();
    }

    /// Keeps true what `pop_first` and `pop_last` know when `key` is put.
    #[inline]
    pub(crate) fn note_put(&mut self, key: &[u8]) {
        self.upcoming.note_put(key);
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
