//! One segment of the value log as its readers see it (layer L3).
//!
//! Invariants: a segment's identity was checked before anybody reads from it; the descriptor stays
//! open until a sync has succeeded after the last append, and no longer; after a failed sync every
//! later one fails too.

use std::any::Any;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::ahead::{Ahead, PlacedWindow};
use super::format::{
    FrameHeader, RECORD_HEADER_LEN, RawRecord, RewrittenIdentity, SEGMENT_HEADER_LEN,
    SegmentIdentity,
};
use super::identify::{check_identity, check_rewritten, map_len, open_file};
use super::map::{MapFile, OffsetMap, decode_directory};
use super::packed::unpack;
use crate::cache::{Bytes, SharedBytes};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{Access, File, FileSystem, Region};
use crate::planted::planted;
use crate::types::{Kind, SegmentId};

/// Shorter records may share a KiB with others, so no bit is theirs alone; of longer ones at most
/// one starts in any KiB.
const SHARED_KIB: u64 = 1024;

/// Records from this length on are not verified when only a part of their value is wanted.
const LONG: u64 = 64 << 10;

/// Cache lines of a record that are asked for ahead.
const PREFETCHED_LINES: usize = 3;

/// What a segment is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenFor {
    /// Replay: read in order, and synced once before a table may point into it, so the descriptor
    /// stays open until then.
    Replay,
    /// Values that tables point to: read anywhere, already durable.
    Values,
}

/// How much of a new segment is written with zeros before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefill {
    /// The first window; the rest just before it is reached.
    Window,
    /// All of it, durably: a sync of fresh blocks costs half as much again. For databases that sync
    /// every write.
    All,
}

/// A segment: a file of the log with its read-only map. Shared by the writer, readers and syncers.
pub(crate) struct Segment {
    identity: SegmentIdentity,
    /// Shared by the segments of one file, and so held as long as anybody reads it.
    path: Arc<PathBuf>,
    region: Region,
    /// Where the values are once the segment has been rewritten.
    map: Option<OffsetMap>,
    sealed: AtomicBool,
    /// A sync has failed: the system may have put older bytes back, so every read is verified.
    suspect: AtomicBool,
    handle: Mutex<Handle>,
    /// One bit per KiB: the large record that starts there has been found intact.
    verified: OnceLock<Box<[AtomicU64]>>,
    /// What is ready for the writer; none in a segment that is not written any more.
    ahead: Mutex<Option<Ahead>>,
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
    /// Makes a segment ready for its first append: blocks allocated, identity written, file and
    /// directory durable, pages touched. Slow; meant for a background thread. After a
    /// failure a part of the file may be there.
    pub(crate) fn create(
        fs: &dyn FileSystem,
        path: &Path,
        identity: SegmentIdentity,
        prefill: Prefill,
    ) -> Result<Segment> {
        identity.check_size()?;
        let size = identity.size_bytes;
        let file = fs.create(path)?;
        file.allocate(size)?;
        file.write_at(&identity.encode(), 0)?;
        let mut ahead = Ahead::new(Arc::clone(&file), size, SEGMENT_HEADER_LEN as u64);
        if prefill == Prefill::All {
            ahead.prefill(size)?;
        }
        if !planted("segment: not synced when new") {
            file.sync_data()?;
        }
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        if !planted("segment: name not synced") {
            fs.sync_dir(dir.unwrap_or(Path::new(".")))?;
        }
        let region = file.map(map_len(&identity)?, Access::Random)?;
        if prefill == Prefill::Window {
            ahead.prepare()?;
        }
        Ok(Segment {
            identity,
            path: Arc::new(path.to_path_buf()),
            region,
            map: None,
            sealed: AtomicBool::new(false),
            suspect: AtomicBool::new(false),
            handle: Mutex::new(Handle { file: Some(file), failure: None }),
            verified: OnceLock::new(),
            ahead: Mutex::new(Some(ahead)),
        })
    }

    /// Opens a segment that the version knows. Corruption when the file is missing or is another
    /// segment; UnsupportedFormat when another version wrote it. Changes nothing.
    pub(crate) fn open(
        fs: &dyn FileSystem,
        path: &Path,
        identity: SegmentIdentity,
        purpose: OpenFor,
    ) -> Result<Segment> {
        identity.check_size()?;
        let file = open_file(fs, path, identity.size_bytes)?;
        let access = match purpose {
            OpenFor::Replay => Access::Sequential,
            OpenFor::Values => Access::Random,
        };
        let region = file.map(map_len(&identity)?, access)?;
        check_identity(path, &region, &identity)?;
        let file = (purpose == OpenFor::Replay).then_some(file);
        Ok(Segment::sealed(identity, Arc::new(path.to_path_buf()), region, file))
    }

    /// Opens a file of rewritten segments that the version knows; errors as for `open`.
    pub(crate) fn open_rewritten(
        fs: &dyn FileSystem,
        path: &Path,
        expected: RewrittenIdentity,
    ) -> Result<Vec<Segment>> {
        let size_bytes = expected.size_bytes;
        let file = open_file(fs, path, size_bytes)?;
        let RewrittenIdentity { salt, db_id, .. } = expected;
        let identity = SegmentIdentity { id: 0, salt, db_id, size_bytes };
        let region = file.map(map_len(&identity)?, Access::Random)?;
        let header = check_rewritten(path, &region, &expected)?;
        let path = Arc::new(path.to_path_buf());
        let file = MapFile { region: region.clone(), path: Arc::clone(&path), salt };
        let maps = decode_directory(&file, &header)?;
        let open = |(id, map)| {
            let identity = SegmentIdentity { id, ..identity };
            let segment = Segment::sealed(identity, Arc::clone(&path), region.clone(), None);
            Segment { map: Some(map), ..segment }
        };
        Ok(maps.into_iter().map(open).collect())
    }

    /// Opens a file as segment `id` whatever its header says and however long it is.
    pub(super) fn open_unchecked(
        fs: &dyn FileSystem,
        path: &Path,
        id: SegmentId,
        salt: u64,
    ) -> Result<Segment> {
        let file = fs.open(path)?;
        let identity = SegmentIdentity { id, salt, db_id: 0, size_bytes: file.size()? };
        let region = file.map(map_len(&identity)?, Access::Random)?;
        Ok(Segment::sealed(identity, Arc::new(path.to_path_buf()), region, None))
    }

    fn sealed(
        identity: SegmentIdentity,
        path: Arc<PathBuf>,
        region: Region,
        file: Option<Arc<dyn File>>,
    ) -> Segment {
        Segment {
            identity,
            path,
            region,
            map: None,
            sealed: AtomicBool::new(true),
            suspect: AtomicBool::new(false),
            handle: Mutex::new(Handle { file, failure: None }),
            verified: OnceLock::new(),
            ahead: Mutex::new(None),
        }
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
        &self.path
    }

    /// What has one holder when nobody reads the file any more, be it through this segment or
    /// through another one that shares the file.
    pub(crate) fn file_pin(&self) -> Arc<dyn Any + Send + Sync> {
        Arc::clone(&self.path) as Arc<dyn Any + Send + Sync>
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
    /// every time).
    #[inline]
    pub(crate) fn pointed_value(
        &self,
        offset: u64,
        key: &[u8],
        value_len: u32,
    ) -> Result<Bytes<'_>> {
        let place = self.place_of(offset)?;
        let record = self.raw_record(place)?;
        if record.len() < SHARED_KIB || !self.is_verified(place) {
            self.verify(offset, place, &record)?;
        }
        self.check_pointed(offset, &record, key, value_len)
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
        self.check_pointed(offset, &record, key, len)
    }

    /// As pointed_value, for who wants a part of the value only: a long record is not verified,
    /// since that would read all of it. Its key and lengths are compared all the same.
    pub(crate) fn pointed_part(
        &self,
        offset: u64,
        key: &[u8],
        value_len: u32,
    ) -> Result<Bytes<'_>> {
        let record = self.raw_record(self.place_of(offset)?)?;
        if record.len() < LONG || record.kind == Kind::Packed as u8 {
            return self.pointed_value(offset, key, value_len);
        }
        self.check_pointed(offset, &record, key, value_len)
    }

    /// Where the record of an address lies by now.
    #[inline]
    fn place_of(&self, offset: u64) -> Result<u64> {
        match &self.map {
            None => Ok(offset),
            Some(map) => map.find(offset),
        }
    }

    #[inline]
    fn check_pointed<'a>(
        &self,
        offset: u64,
        record: &RawRecord<'a>,
        key: &[u8],
        value_len: u32,
    ) -> Result<Bytes<'a>> {
        let named = record.key == key && record.value.len() == value_len as usize;
        match Kind::from_u8(record.kind).filter(|_| named) {
            Some(Kind::Put) => Ok(Bytes::Mapped(record.value)),
            Some(Kind::Packed) => self.unpack(offset, record.value),
            _ => Err(self.corrupt(offset, "record is not the one that a table points to")),
        }
    }

    /// The value of the record of address `offset` whose stored form is compressed.
    #[cold]
    pub(crate) fn unpack<'a>(&self, offset: u64, stored: &[u8]) -> Result<Bytes<'a>> {
        let value = unpack(stored)
            .ok_or_else(|| self.corrupt(offset, "a compressed value cannot be decompressed"))?;
        let len = value.len();
        Ok(Bytes::Shared(SharedBytes::new(value, 0..len)))
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
        Error::corruption(&self.path, offset, what)
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

    #[inline]
    fn is_verified(&self, offset: u64) -> bool {
        let Some(bits) = self.verified.get() else { return false };
        let kib = (offset >> 10) as usize;
        let word = bits.get(kib / 64).map_or(0, |word| word.load(Ordering::Relaxed));
        word >> (kib % 64) & 1 == 1
    }

    #[cold]
    fn verify(&self, offset: u64, place: u64, record: &RawRecord<'_>) -> Result<()> {
        if !record.is_intact(self.identity.id, offset) && !planted("value: checksum unchecked") {
            return Err(self.corrupt(place, "checksum of a record does not match"));
        }
        if record.len() >= SHARED_KIB {
            let words = self.identity.size_bytes.div_ceil(64 << 10) as usize;
            let bits =
                self.verified.get_or_init(|| (0..words).map(|_| AtomicU64::new(0)).collect());
            let kib = (place >> 10) as usize;
            if let Some(word) = bits.get(kib / 64) {
                word.fetch_or(1 << (kib % 64), Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Segment({} {:?})", self.path.display(), self.identity)
    }
}

#[cold]
fn not_new() -> Error {
    Error::new(ErrorKind::Misuse, "an old segment is never appended to")
}
