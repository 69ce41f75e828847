//! The append path (layer L3): one writer copies frames into the newest segment through a moving
//! window of it.
//!
//! Invariants: nothing of the writer's own state changes unless the whole frame is in the map; the
//! frame header is stored after its records; a frame never spans segments; every segment but the
//! newest has at least one frame; after a failed map the writer refuses everything.

use std::sync::Arc;
use std::sync::atomic::{Ordering, compiler_fence};

use super::format::{
    FIRST_FRAME, FRAME_HEADER_LEN, FrameHeader, PAGE, encode_record_header, fold, record_checksum,
    record_len,
};
use super::segment::Segment;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{File, Window};
use crate::key::MAX_ENCODED_KEY_LEN;
use crate::types::{Kind, MAX_SEQNO, SegmentId, SeqNo};

/// Length of the writer's window; longer for a frame that is longer.
pub(super) const WINDOW_LEN: u64 = 1 << 20;

const FRAME_HEADER: u64 = FRAME_HEADER_LEN as u64;

/// What a batch takes in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameSize {
    payload_len: u64,
    count: u32,
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

/// One record that has just been written; the key is the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written<'a> {
    /// Its number in the batch, from 0.
    pub(crate) index: u32,
    /// Put or Delete.
    pub(crate) kind: Kind,
    /// The encoded key.
    pub(crate) key: &'a [u8],
    /// Its sequence number.
    pub(crate) seqno: SeqNo,
    /// Offset of the record in the segment, a multiple of 8.
    pub(crate) offset: u64,
    /// Length of its value.
    pub(crate) value_len: u32,
}

/// The one writer of the log.
#[derive(Debug)]
pub(crate) struct LogWriter {
    segment: Arc<Segment>,
    file: Arc<dyn File>,
    window: Option<Window>,
    window_start: u64,
    window_end: u64,
    offset: u64,
    chain: u64,
    last_seqno: SeqNo,
    failure: Option<Error>,
}

impl FrameSize {
    /// Measures a batch; TooLarge when a part of it is beyond the limits of the format.
    #[inline]
    pub(crate) fn of<'a>(
        entries: impl Iterator<Item = (Kind, &'a [u8], &'a [u8])>,
    ) -> Result<FrameSize> {
        let mut size = FrameSize { payload_len: 0, count: 0 };
        for (_, key, value) in entries {
            let value_len = u32::try_from(value.len()).map_err(|_| too_large("value"))?;
            if key.len() > MAX_ENCODED_KEY_LEN {
                return Err(too_large("key"));
            }
            size.payload_len += record_len(key.len(), value_len);
            size.count = size.count.checked_add(1).ok_or_else(|| too_large("number of entries"))?;
        }
        Ok(size)
    }

    /// Bytes of the frame, its header included.
    #[inline]
    pub(crate) fn bytes(&self) -> u64 {
        self.payload_len + FRAME_HEADER
    }

    /// Number of records.
    #[inline]
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// The size of the smallest segment that takes this frame.
    pub(crate) fn least_segment_size(&self) -> u64 {
        (FIRST_FRAME + self.bytes() + FRAME_HEADER).next_multiple_of(PAGE)
    }
}

impl LogWriter {
    /// Starts in a segment fresh from [`Segment::create`]. `chain` is what the first frame chains
    /// to and `last_seqno` the last number given out before it; all up to there must be durable.
    pub(crate) fn new(segment: Arc<Segment>, chain: u64, last_seqno: SeqNo) -> Result<LogWriter> {
        let file = segment.writable_file()?;
        let mut writer = LogWriter {
            segment,
            file,
            window: None,
            window_start: 0,
            window_end: 0,
            offset: FIRST_FRAME,
            chain,
            last_seqno,
            failure: None,
        };
        writer.adopt_window();
        Ok(writer)
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
    pub(crate) fn chain(&self) -> u64 {
        self.chain
    }

    /// Sequence number of the last record in the log. Take it before a sync of the segments: when
    /// that succeeded it is the `synced_seqno` of later appends. No other number may be: one of a
    /// batch that was built as tables would claim frames that did not exist.
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
        let used = self.offset + FRAME_HEADER;
        self.segment.identity().size_bytes.saturating_sub(used)
    }

    /// Appends one batch as one frame; `size` is [`FrameSize::of`] the same entries. Calls
    /// `on_record` for every record once that is written, in order.
    ///
    /// TooLarge when the segment has no room and Misuse for a number that is not above all before:
    /// nothing has changed then. After any other error (a window could not be mapped, and no
    /// record was written) the log is in doubt and this writer answers Poisoned from then on.
    #[inline]
    pub(crate) fn append<'a>(
        &mut self,
        size: FrameSize,
        first_seqno: SeqNo,
        synced_seqno: SeqNo,
        entries: impl Iterator<Item = (Kind, &'a [u8], &'a [u8])>,
        on_record: impl FnMut(Written<'a>),
    ) -> Result<Appended> {
        let last_seqno = first_seqno.wrapping_add(u64::from(size.count)).wrapping_sub(1);
        let ascends =
            first_seqno > self.last_seqno && (first_seqno..=MAX_SEQNO).contains(&last_seqno);
        if !ascends || synced_seqno > self.last_seqno {
            return Err(self.bad_numbers(first_seqno, synced_seqno));
        }
        if !self.has_room(size) {
            return Err(self.no_room(size));
        }
        let end = self.reserve(size)?;
        let fold = self.write_records(first_seqno, end, entries, on_record)?;
        Ok(self.commit(size, fold, first_seqno, synced_seqno, last_seqno))
    }

    /// Appends a frame without records that carries how far the log is synced. `None` when the
    /// segment has no room for even that.
    pub(crate) fn append_empty(&mut self, synced_seqno: SeqNo) -> Result<Option<Appended>> {
        let size = FrameSize { payload_len: 0, count: 0 };
        if self.offset + size.bytes() > self.segment.identity().size_bytes {
            return Ok(None);
        }
        if synced_seqno > self.last_seqno {
            return Err(self.bad_numbers(self.last_seqno, synced_seqno));
        }
        self.reserve(size)?;
        let last = self.last_seqno;
        Ok(Some(self.commit(size, 0, last, synced_seqno, last)))
    }

    /// Goes on in a segment fresh from [`Segment::create`] and answers the one before, sealed. That
    /// gets an empty frame if it has none, so that replay finds the way through it. After an error
    /// nothing has changed.
    pub(crate) fn rotate(&mut self, segment: Arc<Segment>) -> Result<Arc<Segment>> {
        let file = segment.writable_file()?;
        if self.offset == FIRST_FRAME {
            self.append_empty(0)?;
        }
        self.file = file;
        self.offset = FIRST_FRAME;
        let before = std::mem::replace(&mut self.segment, segment);
        self.adopt_window();
        before.seal();
        Ok(before)
    }

    fn adopt_window(&mut self) {
        self.window = self.segment.take_window();
        self.window_start = 0;
        self.window_end = self.window.as_ref().map_or(0, |window| window.len() as u64);
    }

    /// Makes the window cover the next `size.bytes()` bytes and answers their end.
    #[inline]
    fn reserve(&mut self, size: FrameSize) -> Result<u64> {
        let end = self.offset + size.bytes();
        if end > self.window_end || self.failure.is_some() {
            self.move_window(end)?;
        }
        Ok(end)
    }

    #[cold]
    fn move_window(&mut self, end: u64) -> Result<()> {
        if let Some(failure) = &self.failure {
            return Err(failure.with_kind(ErrorKind::Poisoned));
        }
        let start = self.offset / PAGE * PAGE;
        let end = end.max(start + WINDOW_LEN).next_multiple_of(PAGE);
        let end = end.min(self.segment.identity().size_bytes);
        self.window = None;
        match self.file.map_window(start, (end - start) as usize) {
            Ok(window) => {
                self.window = Some(window);
                self.window_start = start;
                self.window_end = end;
                Ok(())
            }
            Err(error) => {
                self.window_end = 0;
                self.failure = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Copies the records behind the place of the frame header; answers their fold.
    #[inline]
    fn write_records<'a>(
        &mut self,
        first_seqno: SeqNo,
        end: u64,
        entries: impl Iterator<Item = (Kind, &'a [u8], &'a [u8])>,
        mut on_record: impl FnMut(Written<'a>),
    ) -> Result<u32> {
        let id = self.segment.id();
        let Some(window) = &mut self.window else { return Err(unmeasured()) };
        let mut offset = self.offset + FRAME_HEADER;
        let mut folded = 0;
        let mut index = 0;
        for (kind, key, value) in entries {
            let value_len = value.len() as u32;
            let next = offset + record_len(key.len(), value_len);
            if next > end {
                break;
            }
            let checksum = write_record(window, self.window_start, id, offset, (kind, key, value));
            folded = fold(folded, checksum);
            let seqno = first_seqno + u64::from(index);
            on_record(Written { index, kind, key, seqno, offset, value_len });
            offset = next;
            index += 1;
        }
        if offset != end {
            self.failure = Some(unmeasured());
            return Err(unmeasured());
        }
        Ok(folded)
    }

    /// Stores the frame header, which makes the frame one, and moves on.
    #[inline]
    fn commit(
        &mut self,
        size: FrameSize,
        fold: u32,
        first_seqno: SeqNo,
        synced_seqno: SeqNo,
        last_seqno: SeqNo,
    ) -> Appended {
        let FrameSize { payload_len, count } = size;
        let previous = self.chain;
        let header = FrameHeader { payload_len, first_seqno, synced_seqno, previous, count, fold };
        let (bytes, checksum) = header.encode(self.segment.identity().salt, self.offset);
        // A process that dies between two stores must not leave the header without the records.
        compiler_fence(Ordering::SeqCst);
        if let Some(window) = &mut self.window {
            window.write((self.offset - self.window_start) as usize, &bytes);
        }
        let offset = self.offset;
        self.offset += size.bytes();
        self.chain = checksum;
        self.last_seqno = last_seqno;
        Appended { segment: self.segment.id(), offset, end: self.offset, last_seqno }
    }

    #[cold]
    fn bad_numbers(&self, first: SeqNo, synced: SeqNo) -> Error {
        let text = format!(
            "frame of sequence number {first}, synced up to {synced}, after {}",
            self.last_seqno
        );
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

/// Writes the record for `offset` of the segment into its window; answers its checksum, which is
/// taken of the copy: what the caller changes meanwhile cannot make a record that does not verify.
#[inline]
fn write_record(
    window: &mut Window,
    window_start: u64,
    segment: SegmentId,
    offset: u64,
    (kind, key, value): (Kind, &[u8], &[u8]),
) -> u32 {
    let at = (offset - window_start) as usize;
    let header = encode_record_header(kind, key.len(), value.len() as u32);
    window.write(at, &header);
    window.write(at + header.len(), key);
    window.write(at + header.len() + key.len(), value);
    let covered = window.read(at + 4, header.len() - 4 + key.len() + value.len());
    let checksum = record_checksum(covered, segment, offset);
    window.write(at, &checksum.to_le_bytes());
    checksum
}

#[cold]
fn too_large(what: &str) -> Error {
    Error::new(ErrorKind::TooLarge, format!("{what} is beyond the limits of the log"))
}

#[cold]
fn unmeasured() -> Error {
    Error::new(ErrorKind::Misuse, "a batch changed while it was written to the log")
}
