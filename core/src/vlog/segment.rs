//! One segment of the value log as its readers see it (layer L3).
//!
//! Invariants: the descriptor stays open until a sync has succeeded after the last append, and no
//! longer; after a failed sync every later one fails too.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ahead::{Ahead, PlacedWindow};
use super::file::SegmentFile;
use super::format::{
    FrameHeader, RECORD_HEADER_LEN, RawRecord, SEGMENT_HEADER_LEN, SegmentIdentity,
};
use super::map::OffsetMap;
use super::packed::unpack;
use super::verified::{SHARED_KIB, Verified};
use crate::buffer::{Bytes, Charge};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{File, FileSystem, Region};
use crate::planted::planted;
use crate::prefetch::prefetch_bytes;
use crate::types::{Kind, SegmentId};

/// Records from this length on are not verified when only a part of their value is wanted.
pub(super) const LONG: u64 = 64 << 10;

/// From this length on the pages of a value that is read for the first time are asked for at once.
pub(crate) const ASKED_FROM: u32 = 4 << 10;

/// So much of a value that a scan has not come to yet is asked for.
const MOST_AHEAD: u32 = 128 << 10;

/// Cache lines of a record that are asked for ahead.
const PREFETCHED_LINES: usize = 3;

/// A segment: a file of the log with its read-only map. Shared by the writer, readers and syncers.
pub(crate) struct Segment {
    identity: SegmentIdentity,
    /// Shared by the segments of one file, and so held as long as anybody reads it.
    pub(super) file: Arc<SegmentFile>,
    /// Empty when values are read directly.
    region: Region,
    /// Where the values are once the segment has been rewritten.
    map: Option<OffsetMap>,
    sealed: AtomicBool,
    /// A sync has failed: the system may have put older bytes back, so every read is verified.
    suspect: AtomicBool,
    handle: Mutex<Handle>,
    verified: Verified,
    /// What is ready for the writer; none in a segment that is not written any more.
    ahead: Mutex<Option<Ahead>>,
    /// What it takes on the heap, but for `verified`.
    heap: Charge,
}

#[derive(Default)]
struct Handle {
    file: Option<Arc<dyn File>>,
    failure: Option<Error>,
}

/// A record whose checksum has been verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredRecord<'a> {
    /// Put, Packed or Delete.
    pub(crate) kind: Kind,
    /// The encoded key.
    pub(crate) key: &'a [u8],
    /// The value as it is stored.
    pub(crate) value: &'a [u8],
    /// Bytes that the record takes in the segment.
    pub(crate) len: u64,
}

impl Segment {
    /// The same segment for readers who read it directly; nothing will be appended any more, and
    /// what was is durable. The page cache may let go of it, but for what others read through the
    /// map.
    pub(crate) fn directly(&self, fs: &dyn FileSystem) -> Result<Segment> {
        self.region.let_go();
        self.file.open_directly(fs)?;
        Ok(Segment::new(self.identity, Arc::clone(&self.file), Region::empty(), None))
    }

    /// A sealed segment.
    pub(super) fn new(
        identity: SegmentIdentity,
        file: Arc<SegmentFile>,
        region: Region,
        handle: Option<Arc<dyn File>>,
    ) -> Segment {
        let heap = file.cache.charge_file(size_of::<Segment>() as u64);
        Segment {
            identity,
            file,
            region,
            map: None,
            sealed: AtomicBool::new(true),
            suspect: AtomicBool::new(false),
            handle: Mutex::new(Handle { file: handle, failure: None }),
            verified: Verified::default(),
            ahead: Mutex::new(None),
            heap,
        }
    }

    /// Makes it one that is written, over what is ready for the writer.
    pub(super) fn begin(&self, ahead: Ahead) {
        self.sealed.store(false, Ordering::Relaxed);
        *self.ahead() = Some(ahead);
    }

    /// Makes it a rewritten one.
    pub(super) fn with_map(mut self, map: OffsetMap) -> Segment {
        self.heap.set(self.heap.bytes() + map.heap_bytes());
        self.map = Some(map);
        self
    }

    /// Its number.
    #[inline]
    pub(crate) fn id(&self) -> SegmentId {
        self.identity.id
    }

    /// What it is.
    pub(crate) fn identity(&self) -> &SegmentIdentity {
        &self.identity
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// What has one holder when nobody reads the file any more, be it through this segment or
    /// through another one that shares the file.
    pub(crate) fn file_pin(&self) -> Arc<dyn Any + Send + Sync> {
        Arc::clone(&self.file) as Arc<dyn Any + Send + Sync>
    }

    /// The offset map of a rewritten segment.
    pub(super) fn map(&self) -> Option<&OffsetMap> {
        self.map.as_ref()
    }

    /// Asks the processor for the beginning of the record at `offset`; the rest it guesses.
    #[inline]
    pub(crate) fn prefetch(&self, offset: u64) {
        (0..PREFETCHED_LINES).for_each(|line| self.region.prefetch(offset as usize + 64 * line));
    }

    /// The value, as it is stored, of the record at `offset`, whose lengths the caller knows from a
    /// memtable. Costs a bounds check and verifies nothing, unless a sync has failed. Only for
    /// records that were published.
    #[inline]
    pub(crate) fn value(&self, offset: u64, key_len: usize, value_len: u32) -> Result<&[u8]> {
        if self.suspect.load(Ordering::Relaxed) {
            return self.suspect_value(offset, key_len, value_len);
        }
        let start = offset.saturating_add((RECORD_HEADER_LEN + key_len) as u64);
        match usize::try_from(start).ok().and_then(|at| self.region.get(at, value_len as usize)) {
            Some(value) => Ok(value),
            None => Err(self.corrupt(offset, "record reaches beyond the end of its segment")),
        }
    }

    #[cold]
    fn suspect_value(&self, offset: u64, key_len: usize, value_len: u32) -> Result<&[u8]> {
        let record = self.record(offset)?;
        if record.key.len() != key_len || record.value.len() != value_len as usize {
            return Err(self.corrupt(offset, "record is not the one that was written"));
        }
        Ok(record.value)
    }

    /// The value of the record of address `offset`, to which a table's pointer for `key` leads,
    /// wherever it lies by now. The record is verified the first time (one shorter than 1 KiB:
    /// every time). `kept`: what is not read in place is to be in the cache afterwards.
    #[inline]
    pub(crate) fn pointed_value(
        &self,
        offset: u64,
        key: &[u8],
        value_len: u32,
        kept: bool,
    ) -> Result<Bytes<'_>> {
        if self.is_direct() {
            return self.load_value(offset, key, value_len, kept);
        }
        let place = self.place_of(offset)?;
        self.prefetch_value(place, value_len);
        self.ask_unread(place, value_len, key.len() + value_len as usize);
        let record = self.raw_record(place)?;
        if record.len() < SHARED_KIB || !self.verified.has(place) {
            self.verify(offset, place, &record)?;
        }
        match self.check_pointed(offset, &record, key, value_len)? {
            Kind::Packed => self.restored_value(offset, place, &record, kept),
            _ => Ok(Bytes::Mapped(record.value)),
        }
    }

    /// Asks the processor for the first lines of the value of the record of address `offset`.
    pub(crate) fn ask_lines(&self, offset: u64, value_len: u32) {
        if !self.is_direct()
            && let Ok(place) = self.place_of(offset)
        {
            self.prefetch_value(place, value_len);
        }
    }

    /// Begins to read the record of address `offset`, up to [`MOST_AHEAD`] of it, if it is long and
    /// was never read.
    pub(crate) fn ask_pages(&self, offset: u64, value_len: u32) {
        if value_len >= ASKED_FROM
            && !self.is_direct()
            && let Ok(place) = self.place_of(offset)
        {
            self.ask_unread(place, value_len, value_len.min(MOST_AHEAD) as usize);
        }
    }

    #[inline(always)]
    fn prefetch_value(&self, place: u64, value_len: u32) {
        prefetch_bytes(self.region.get(place as usize, value_len as usize).unwrap_or(&[]), 0);
    }

    /// Asks for the pages of a long record that was never read, as far as `len` bytes behind its
    /// header.
    #[inline(always)]
    fn ask_unread(&self, place: u64, value_len: u32, len: usize) {
        if value_len >= ASKED_FROM && !self.verified.has(place) {
            self.region.will_need(place as usize, RECORD_HEADER_LEN + len);
        }
    }

    /// Whether values are read directly.
    #[inline]
    pub(super) fn is_direct(&self) -> bool {
        self.region.len() == 0
    }

    /// The value of the record of address `offset`, if that lies at `place`; verified.
    pub(super) fn value_at(
        &self,
        offset: u64,
        place: u64,
        key: &[u8],
        len: u32,
    ) -> Result<Bytes<'_>> {
        let record = self.raw_record(place)?;
        self.verify(offset, place, &record)?;
        match self.check_pointed(offset, &record, key, len)? {
            Kind::Packed => self.unpack(offset, record.value),
            _ => Ok(Bytes::Mapped(record.value)),
        }
    }

    /// As pointed_value, cut to `range`: a long record is not verified, since that would read all
    /// of it. Its key and lengths are compared all the same.
    pub(crate) fn pointed_part(
        &self,
        offset: u64,
        key: &[u8],
        value_len: u32,
        range: Range<usize>,
    ) -> Result<Bytes<'_>> {
        if self.is_direct() {
            return self.load_part(offset, key, value_len, range);
        }
        let record = self.raw_record(self.place_of(offset)?)?;
        let mut value = match record.len() < LONG || record.kind == Kind::Packed as u8 {
            true => self.pointed_value(offset, key, value_len, true)?,
            false => {
                self.check_pointed(offset, &record, key, value_len)?;
                Bytes::Mapped(record.value)
            }
        };
        value.cut(range);
        Ok(value)
    }

    /// Where the record of an address lies by now.
    #[inline]
    pub(super) fn place_of(&self, offset: u64) -> Result<u64> {
        match &self.map {
            None => Ok(offset),
            Some(map) => map.find(offset),
        }
    }

    /// Put or Packed, if a record is the one that a pointer means.
    #[inline]
    fn check_pointed(
        &self,
        offset: u64,
        record: &RawRecord<'_>,
        key: &[u8],
        value_len: u32,
    ) -> Result<Kind> {
        let named = record.key == key && record.value.len() == value_len as usize;
        match Kind::from_u8(record.kind).filter(|_| named) {
            Some(kind @ (Kind::Put | Kind::Packed)) => Ok(kind),
            _ => Err(self.not_pointed(offset)),
        }
    }

    #[cold]
    pub(super) fn not_pointed(&self, offset: u64) -> Error {
        self.corrupt(offset, "record is not the one that a table points to")
    }

    #[cold]
    pub(super) fn not_restored(&self, offset: u64) -> Error {
        self.corrupt(offset, "a compressed value cannot be decompressed")
    }

    /// The value of the record of address `offset` whose stored form is compressed.
    #[cold]
    pub(crate) fn unpack<'a>(&self, offset: u64, stored: &[u8]) -> Result<Bytes<'a>> {
        let value = unpack(stored).ok_or_else(|| self.not_restored(offset))?;
        let len = value.len();
        Ok(Bytes::Shared(self.file.cache.buffer(value).part(0..len)))
    }

    /// The record at `offset` of the log, verified on every call.
    pub(crate) fn record(&self, offset: u64) -> Result<StoredRecord<'_>> {
        let record = self.raw_record(offset)?;
        self.verify(offset, offset, &record)?;
        let kind = match Kind::from_u8(record.kind) {
            Some(kind @ (Kind::Put | Kind::Packed | Kind::Delete)) => kind,
            _ => return Err(self.corrupt(offset, "record of a kind that no log has")),
        };
        Ok(StoredRecord { kind, key: record.key, value: record.value, len: record.len() })
    }

    /// Makes every append that returned before this call durable. The first sync that succeeds
    /// after [`Segment::seal`] closes the descriptor. After a failure all later calls are Poisoned.
    pub(crate) fn sync(&self) -> Result<()> {
        let mut handle = self.handle();
        if let Some(failure) = &handle.failure {
            return Err(failure.with_kind(ErrorKind::Poisoned));
        }
        let sealed = self.sealed.load(Ordering::Acquire);
        let Some(file) = &handle.file else { return Ok(()) };
        match file.sync_data() {
            Ok(()) if sealed => handle.file = None,
            Ok(()) => {}
            Err(error) if planted("sync: tried again") => return Err(error),
            Err(error) => {
                self.suspect.store(true, Ordering::Release);
                handle.failure = Some(error.clone());
                return Err(error);
            }
        }
        Ok(())
    }

    /// Whether a sync has failed.
    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Acquire)
    }

    /// Says that nothing will be appended any more. Does not wait for a sync under way.
    pub(crate) fn seal(&self) {
        self.sealed.store(true, Ordering::Release);
        *self.ahead() = None;
    }

    /// Makes the window ready that the writer will want next, if there is one and it is not; see
    /// [`LogWriter::wants_window`](super::LogWriter::wants_window). An error may be ignored: the
    /// writer will meet it itself.
    pub(crate) fn prepare_window(&self) -> Result<()> {
        self.ahead().as_mut().map_or(Ok(()), Ahead::prepare)
    }

    /// True when everything in a sealed segment is durable and its descriptor closed.
    #[cfg(test)]
    pub(crate) fn is_settled(&self) -> bool {
        self.handle().file.is_none()
    }

    /// The file, for the writer; Misuse for a segment that is not new.
    pub(super) fn writable_file(&self) -> Result<Arc<dyn File>> {
        let file = self.ahead().as_ref().map(|ahead| Arc::clone(ahead.file()));
        file.ok_or_else(not_new)
    }

    /// The window from `start` that reaches to `end`, for the one writer.
    pub(super) fn take_window(&self, start: u64, end: u64) -> Result<PlacedWindow> {
        self.ahead().as_mut().ok_or_else(not_new)?.take(start, end)
    }

    /// Allows writes up to `end` at least; answers up to where.
    pub(super) fn prefill(&self, end: u64) -> Result<u64> {
        self.ahead().as_mut().ok_or_else(not_new)?.prefill_windows(end)
    }

    /// Bytes of the segment; `None` beyond its end.
    #[inline]
    pub(super) fn bytes(&self, offset: u64, len: u64) -> Option<&[u8]> {
        self.region.get(usize::try_from(offset).ok()?, usize::try_from(len).ok()?)
    }

    /// The frame header at `offset` and the frame's checksum; `None` when there is none.
    #[inline]
    pub(super) fn frame_header(&self, offset: u64) -> Option<(FrameHeader, u64)> {
        let bytes = self.bytes(offset, super::format::FRAME_HEADER_LEN as u64)?;
        FrameHeader::decode(bytes, self.identity.salt, offset)
    }

    /// Damage at `offset` of this segment.
    #[cold]
    pub(super) fn corrupt(&self, offset: u64, what: impl Into<String>) -> Error {
        Error::corruption(self.path(), offset, what)
    }

    fn ahead(&self) -> MutexGuard<'_, Option<Ahead>> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self) -> MutexGuard<'_, Handle> {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn raw_record(&self, offset: u64) -> Result<RawRecord<'_>> {
        let rest = self.identity.size_bytes.checked_sub(offset);
        let aligned = offset.is_multiple_of(8) && offset >= SEGMENT_HEADER_LEN as u64;
        let bytes = rest.filter(|_| aligned).and_then(|rest| self.bytes(offset, rest));
        let record = bytes.and_then(RawRecord::decode);
        record.ok_or_else(|| self.corrupt(offset, "no record of the log starts here"))
    }

    /// Refuses a record whose checksum is wrong.
    pub(super) fn check(&self, offset: u64, place: u64, record: &RawRecord<'_>) -> Result<()> {
        if !record.is_intact(self.identity.id, offset) && !planted("value: checksum unchecked") {
            return Err(self.corrupt(place, "checksum of a record does not match"));
        }
        Ok(())
    }

    #[cold]
    fn verify(&self, offset: u64, place: u64, record: &RawRecord<'_>) -> Result<()> {
        self.check(offset, place, record)?;
        if record.len() >= SHARED_KIB {
            self.verified.note(place, self.identity.size_bytes, &self.file.cache);
        }
        Ok(())
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Segment({} {:?})", self.path().display(), self.identity)
    }
}

#[cold]
fn not_new() -> Error {
    Error::new(ErrorKind::Misuse, "an old segment is never appended to")
}
