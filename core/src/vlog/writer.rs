//! The append path (layer L3): one writer copies frames into the newest segment through a moving
//! window of it.
//!
//! Invariants: nothing of the writer's own state changes unless the whole frame is in the file; a
//! frame never spans segments; every segment but the newest has at least one frame; after a failure
//! that leaves the file in doubt the writer refuses everything.

use std::sync::Arc;

use super::ahead::{PlacedWindow, WINDOW_LEN};
use super::format::{FIRST_FRAME, FRAME_HEADER_LEN, PAGE, record_len};
use super::frame::{FrameSize, Place, Written, fill_frame};
use super::segment::Segment;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{File, Window};
use crate::planted::planted;
use crate::types::{Kind, MAX_SEQNO, SegmentId, SeqNo};

/// Room for a frame that closes the log, at the end of every segment.
const RESERVE: u64 = FRAME_HEADER_LEN as u64;

/// Longest frame that is made in memory and then written.
const SCRATCH_LEN: u64 = 256 << 10;

/// Cache lines behind a frame that are asked for while it is written.
const NEXT_LINES: usize = 4;

/// What the caller says about a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Sequence number of the first record.
    pub(crate) first_seqno: SeqNo,
    /// Up to where the log is known to be durable: a [`LogWriter::last_seqno`] from before a sync
    /// that succeeded. No other number will do: one of a batch that was built as tables would claim
    /// frames that never were.
    pub(crate) synced_seqno: SeqNo,
    /// How the frame goes into the file.
    pub(crate) store: Store,
}

/// How a frame goes into the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    /// By stores into mapped memory: the cheapest, unless a sync follows.
    Map,
    /// By one write, which leaves less for a sync to write. Long frames are mapped all the same.
    Write,
}

/// Where a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    /// The segment.
    pub(crate) segment: SegmentId,
    /// Offset of the frame in it.
    pub(crate) offset: u64,
    /// Offset of its end: where the next frame starts.
    pub(crate) end: u64,
    /// Sequence number of its last record; for an empty frame that of the last record before it.
    pub(crate) last_seqno: SeqNo,
}

/// The one writer of the log.
#[derive(Debug)]
pub(crate) struct LogWriter {
    segment: Arc<Segment>,
    file: Arc<dyn File>,
    window: Option<Window>,
    window_start: u64,
    window_end: u64,
    /// Where the caller is told once that the next window is wanted.
    ask_at: u64,
    /// Up to here frames may be written without asking the segment.
    prefilled: u64,
    scratch: Vec<u8>,
    offset: u64,
    chain: u64,
    last_seqno: SeqNo,
    failure: Option<Error>,
}

impl FrameSize {
    /// The size of the smallest segment that takes this frame.
    pub(crate) fn least_segment_size(&self) -> u64 {
        (FIRST_FRAME + self.bytes() + RESERVE).next_multiple_of(PAGE)
    }
}

impl LogWriter {
    /// Starts in a segment fresh from [`Segment::create`]. `chain` is what the first frame chains
    /// to and `last_seqno` the last number given out before it; all up to there must be durable.
    pub(crate) fn new(segment: Arc<Segment>, chain: u64, last_seqno: SeqNo) -> Result<LogWriter> {
        let file = segment.writable_file()?;
        Ok(LogWriter {
            segment,
            file,
            window: None,
            window_start: 0,
            window_end: 0,
            ask_at: u64::MAX,
            prefilled: 0,
            scratch: Vec::new(),
            offset: FIRST_FRAME,
            chain,
            last_seqno,
            failure: None,
        })
    }

    /// The segment that is written now.
    #[inline]
    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Where the next frame will start.
    #[inline]
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Checksum of the last frame.
    #[cfg(test)]
    pub(crate) fn chain(&self) -> u64 {
        self.chain
    }

    /// Sequence number of the last record in the log: after a sync that began later, the
    /// `synced_seqno` of what follows.
    #[inline]
    pub(crate) fn last_seqno(&self) -> SeqNo {
        self.last_seqno
    }

    /// True when the segment takes a frame of this size. One empty frame fits always besides.
    #[inline]
    pub(crate) fn has_room(&self, size: FrameSize) -> bool {
        size.bytes() <= self.free_bytes()
    }

    /// Longest frame, header included, that the segment still takes.
    #[inline]
    pub(crate) fn free_bytes(&self) -> u64 {
        self.segment.identity().size_bytes.saturating_sub(self.offset + RESERVE)
    }

    /// True once in every window, when an eighth of it is used: the time to call
    /// [`Segment::prepare_window`] in another thread, so that this one need not.
    #[inline]
    pub(crate) fn wants_window(&mut self) -> bool {
        if self.offset < self.ask_at {
            return false;
        }
        self.ask_at = u64::MAX;
        true
    }

    /// Appends one batch as one frame; `size` is [`FrameSize::of`] the same entries. Calls
    /// `on_record` for every record in order; nothing fails after its first call.
    ///
    /// TooLarge when the segment has no room, Misuse for a number that is not above all before, and
    /// DiskFull change nothing. After any other error the log is in doubt and this writer answers
    /// Poisoned from then on.
    #[inline]
    pub(crate) fn append<'a>(
        &mut self,
        size: FrameSize,
        stamp: Stamp,
        entries: impl Iterator<Item = (Kind, &'a [u8], &'a [u8])> + Clone,
        on_record: impl FnMut(Written<'a>),
    ) -> Result<Appended> {
        let first = stamp.first_seqno;
        let last = first.wrapping_add(u64::from(size.count())).wrapping_sub(1);
        let ascends = first > self.last_seqno && first <= last && last <= MAX_SEQNO;
        if !ascends || stamp.synced_seqno > self.last_seqno {
            return Err(self.bad_numbers(stamp));
        }
        if !self.has_room(size) {
            return Err(self.no_room(size));
        }
        let checksum = self.store(size, stamp, entries, on_record)?;
        Ok(self.advance(size, checksum, last))
    }

    /// Appends a frame without records that carries how far the log is synced. `None` when the
    /// segment has no room for even that. Errors as for [`LogWriter::append`].
    pub(crate) fn append_empty(
        &mut self,
        synced_seqno: SeqNo,
        store: Store,
    ) -> Result<Option<Appended>> {
        let size = FrameSize::EMPTY;
        let last = self.last_seqno;
        let stamp = Stamp { first_seqno: last, synced_seqno, store };
        if synced_seqno > last {
            return Err(self.bad_numbers(stamp));
        }
        if self.offset + size.bytes() > self.segment.identity().size_bytes {
            return Ok(None);
        }
        let checksum = self.store(size, stamp, std::iter::empty(), |_| {})?;
        Ok(Some(self.advance(size, checksum, last)))
    }

    /// Goes on in a segment fresh from [`Segment::create`] and answers the one before, sealed. That
    /// gets an empty frame if it has none, so that replay finds the way through it. After an error
    /// the writer is still in the old one.
    pub(crate) fn rotate(&mut self, segment: Arc<Segment>) -> Result<Arc<Segment>> {
        let file = segment.writable_file()?;
        if self.offset == FIRST_FRAME && !planted("rotation: an empty segment stays empty") {
            self.append_empty(0, Store::Map)?;
        }
        self.file = file;
        self.offset = FIRST_FRAME;
        self.prefilled = 0;
        self.drop_window();
        let before = std::mem::replace(&mut self.segment, segment);
        before.seal();
        Ok(before)
    }

    /// Whether something failed in the middle of an append, so that nobody knows what is stored.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.failure.is_some()
    }

    #[inline]
    fn advance(&mut self, size: FrameSize, checksum: u64, last_seqno: SeqNo) -> Appended {
        let offset = self.offset;
        self.offset += size.bytes();
        self.chain = checksum;
        self.last_seqno = last_seqno;
        Appended { segment: self.segment.id(), offset, end: self.offset, last_seqno }
    }

    /// Makes the frame at `self.offset`; answers its checksum.
    #[inline]
    fn store<'a>(
        &mut self,
        size: FrameSize,
        stamp: Stamp,
        entries: impl Iterator<Item = (Kind, &'a [u8], &'a [u8])> + Clone,
        on_record: impl FnMut(Written<'a>),
    ) -> Result<u64> {
        let mapped = stamp.store == Store::Map && self.window_covers(size);
        if !mapped && self.reserve(size, stamp.store)? {
            return self.store_by_write(size, stamp, entries, on_record);
        }
        let header = size.header(stamp.first_seqno, stamp.synced_seqno, self.chain);
        let place = self.place();
        let at = (self.offset - self.window_start) as usize;
        let Some(window) = &mut self.window else { return Err(self.poison(unmeasured())) };
        let end = at + size.bytes() as usize;
        // For the next frame: another thread wrote the zeros that are there now, so the lines are
        // in the other core's cache.
        (0..NEXT_LINES).for_each(|line| window.prefetch(end + 64 * line));
        let frame = window.bytes_mut(at, size.bytes() as usize);
        fill_frame(frame, place, header, entries, on_record)
            .ok_or_else(|| self.poison(unmeasured()))
    }

    /// Never after a failure: there is no window then.
    #[inline]
    fn window_covers(&self, size: FrameSize) -> bool {
        self.window_start <= self.offset && self.offset + size.bytes() <= self.window_end
    }

    /// Makes the frame in memory and writes it.
    #[cold]
    fn store_by_write<'a>(
        &mut self,
        size: FrameSize,
        stamp: Stamp,
        entries: impl Iterator<Item = (Kind, &'a [u8], &'a [u8])> + Clone,
        mut on_record: impl FnMut(Written<'a>),
    ) -> Result<u64> {
        let header = size.header(stamp.first_seqno, stamp.synced_seqno, self.chain);
        let place = self.place();
        self.scratch.resize(size.bytes() as usize, 0);
        let filled = fill_frame(&mut self.scratch, place, header, entries.clone(), |_| {});
        let Some(checksum) = filled else { return Err(self.poison(unmeasured())) };
        if let Err(error) = self.file.write_at(&self.scratch, self.offset) {
            return Err(self.poison(error));
        }
        let mut offset = self.offset + FRAME_HEADER_LEN as u64;
        for (index, (kind, key, value)) in (0u32..).zip(entries) {
            let value_len = value.len() as u32;
            let seqno = stamp.first_seqno + u64::from(index);
            on_record(Written { index, kind, key, seqno, offset, value_len });
            offset += record_len(key.len(), value_len);
        }
        Ok(checksum)
    }

    fn place(&self) -> Place {
        let identity = self.segment.identity();
        Place { segment: identity.id, salt: identity.salt, offset: self.offset }
    }

    /// Makes room for a frame: false when the window covers it now, true when it is to be written.
    /// A short frame across the end of a window is written, so that windows need not overlap.
    #[cold]
    fn reserve(&mut self, size: FrameSize, store: Store) -> Result<bool> {
        if let Some(failure) = &self.failure {
            return Err(failure.with_kind(ErrorKind::Poisoned));
        }
        let end = self.offset + size.bytes();
        let short = size.bytes() <= SCRATCH_LEN;
        if store == Store::Write && short {
            if end > self.prefilled {
                self.prefilled =
                    self.segment.prefill(end).map_err(|e| self.poison_unless_full(e))?;
            }
            return Ok(true);
        }
        if self.window_covers(size) {
            return Ok(false);
        }
        let last = (end - 1) / WINDOW_LEN * WINDOW_LEN;
        let start = if short { last } else { last.min(self.offset / WINDOW_LEN * WINDOW_LEN) };
        self.drop_window();
        let placed =
            self.segment.take_window(start, end).map_err(|e| self.poison_unless_full(e))?;
        let window_end = placed.end();
        let PlacedWindow { start, window } = placed;
        self.window = Some(window);
        self.window_start = start;
        self.window_end = window_end;
        self.prefilled = self.prefilled.max(window_end);
        let more = window_end < self.segment.identity().size_bytes;
        self.ask_at = if more { window_end - WINDOW_LEN / 8 * 7 } else { u64::MAX };
        Ok(self.offset < start)
    }

    fn drop_window(&mut self) {
        self.window = None;
        self.window_end = 0;
        self.ask_at = u64::MAX;
    }

    /// A full disk shows before anything is stored, so the writer may go on when there is room.
    #[cold]
    fn poison_unless_full(&mut self, error: Error) -> Error {
        if error.kind() == ErrorKind::DiskFull { error } else { self.poison(error) }
    }

    #[cold]
    fn poison(&mut self, error: Error) -> Error {
        self.drop_window();
        self.failure = Some(error.clone());
        error
    }

    #[cold]
    fn bad_numbers(&self, stamp: Stamp) -> Error {
        let text = format!("{stamp:?} does not follow sequence number {}", self.last_seqno);
        Error::new(ErrorKind::Misuse, text)
    }

    #[cold]
    fn no_room(&self, size: FrameSize) -> Error {
        let text = format!(
            "frame of {} bytes does not fit in the {} bytes left of segment {}",
            size.bytes(),
            self.free_bytes(),
            self.segment.id()
        );
        Error::new(ErrorKind::TooLarge, text)
    }
}

#[cold]
fn unmeasured() -> Error {
    Error::new(ErrorKind::Misuse, "a batch changed while it was written to the log")
}
