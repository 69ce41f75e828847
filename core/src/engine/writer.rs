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
}

impl Writer {
    /// A writer that continues after `last_seqno` in an empty segment.
    pub(crate) fn new(log: LogWriter, part: Arc<MemPart>, last_seqno: SeqNo) -> Writer {
        let next_seqno = last_seqno + 1;
        let (low, high) = (None, None);
        Writer { log, part, next_seqno, closed: false, asked_for_segment: false, low, high }
    }

    /// Keeps the cursors of `pop_first` and `pop_last` true when `key` is put.
    #[inline]
    pub(crate) fn note_put(&mut self, key: &[u8]) {
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
