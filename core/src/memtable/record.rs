//! Records of the memtable's arena (part of layer L3's memtable): keys and versions.
//!
//! A key's record holds its bytes and its *first* version; each overwrite adds a version record
//! that links to the one before, newest first. Records lie in the arena in the order of insertion.
//!
//! Bytes of a record (in memory only, native byte order): 0 link u32 | 4 tag u32 | 8 seqno << 8 |
//! kind u64 | 16 offset in the segment / 8 u32 | 20 value length u32 | 24 key bytes, or in a
//! version record 24 leap u32 | 28 age u32.
//! - In a key record `link` is the newest version (0: the one inside) and the only field that ever
//!   changes; `tag` is the key's length.
//! - In a version record `link` is the next older version, `tag` is [`VERSION`] | key record. `age`
//!   counts the older versions; `leap` is a version further back, so that an old one among `n` is
//!   found in at most `3 log n` steps (Myers 1983, "An applicative random-access stack").
//! - A gap at the end of a chunk of at least 8 bytes has the tag [`GAP`].

use super::arena::{FIRST_OFFSET, Records, RecordsEnd, UNIT};
use crate::types::{Kind, MAX_SEQNO, SeqNo};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes before the key.
const HEADER_LEN: usize = 24;

/// Size of a version record in bytes.
pub(super) const VERSION_LEN: usize = 32;

const LINK: usize = 0;
const TAG: usize = 4;
const SEQNO_KIND: usize = 8;
const OFFSET: usize = 16;
const VALUE_LEN: usize = 20;
const LEAP: usize = 24;
const AGE: usize = 28;

/// Tag bit of a version record.
const VERSION: u32 = 1 << 31;

/// Tag of the unused end of a chunk.
const GAP: u32 = u32::MAX;

/// What the memtable knows of one version of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemEntry {
    /// Its place in the order of writes.
    pub(crate) seqno: SeqNo,
    /// Put, Packed or Delete.
    pub(crate) kind: Kind,
    /// Byte offset of its record in the segment, a multiple of 8.
    pub(crate) offset: u64,
    /// Length of the value in bytes, as it is stored.
    pub(crate) value_len: u32,
}

/// A record that the calling thread may read.
#[derive(Clone, Copy)]
pub(super) struct Record<'a> {
    records: &'a Records,
    offset: u32,
    start: NonNull<u8>,
}

impl<'a> Record<'a> {
    /// The record at `offset`.
    ///
    /// # Safety
    /// - `offset` is that of a whole record of `records`, and the calling thread learnt it from the
    ///   writer by a Release store and an Acquire load, or is the writer.
    #[inline(always)]
    pub(super) unsafe fn at(records: &'a Records, offset: u32) -> Record<'a> {
        // SAFETY: the caller promises what `address` asks for; addresses in chunks are not null.
        let start = unsafe { NonNull::new_unchecked(records.address(offset)) };
        Record { records, offset, start }
    }

    #[inline(always)]
    fn word(&self, at: usize) -> u32 {
        // SAFETY: every record has HEADER_LEN bytes aligned to four; these words were written
        // before the record was published and never change (LINK is read by `link` only).
        unsafe { self.start.add(at).cast::<u32>().read() }
    }

    #[inline(always)]
    fn link(&self) -> &'a AtomicU32 {
        // SAFETY: aligned, inside the record, initialised, and accessed as an atomic only from its
        // publication on; it lives as long as the arena.
        unsafe { self.start.add(LINK).cast::<AtomicU32>().as_ref() }
    }

    /// The record's offset.
    #[inline]
    pub(super) fn offset(&self) -> u32 {
        self.offset
    }

    #[inline(always)]
    fn seqno_kind(&self) -> u64 {
        // SAFETY: as in `word`; eight bytes aligned to four only.
        unsafe { self.start.add(SEQNO_KIND).cast::<u64>().read_unaligned() }
    }

    /// The sequence number of this version.
    #[inline(always)]
    pub(super) fn seqno(&self) -> SeqNo {
        self.seqno_kind() >> 8
    }

    #[inline(always)]
    fn kind(&self) -> Kind {
        const DELETE: u8 = Kind::Delete as u8;
        const PACKED: u8 = Kind::Packed as u8;
        match self.seqno_kind() as u8 {
            DELETE => Kind::Delete,
            PACKED => Kind::Packed,
            _ => Kind::Put,
        }
    }

    /// What this version says.
    #[inline(always)]
    pub(super) fn entry(&self) -> MemEntry {
        MemEntry {
            seqno: self.seqno(),
            kind: self.kind(),
            offset: u64::from(self.word(OFFSET)) * 8,
            value_len: self.word(VALUE_LEN),
        }
    }

    #[inline(always)]
    fn is_version(&self) -> bool {
        self.word(TAG) & VERSION != 0
    }

    /// The key of a key record.
    #[inline(always)]
    pub(super) fn key(&self) -> &'a [u8] {
        debug_assert!(!self.is_version());
        let len = self.word(TAG) as usize;
        // SAFETY: a key record has `tag` bytes after its header, written before it was published
        // and never changed; they live as long as the arena.
        unsafe { std::slice::from_raw_parts(self.start.add(HEADER_LEN).as_ptr(), len) }
    }

    /// The newest version of a key record.
    #[inline(always)]
    pub(super) fn newest(self) -> Record<'a> {
        match self.link().load(Ordering::Acquire) {
            0 => self,
            // SAFETY: `push_version` stored a whole version record's offset with Release.
            newest => unsafe { Record::at(self.records, newest) },
        }
    }

    /// The next older version.
    #[inline(always)]
    pub(super) fn older(self) -> Option<Record<'a>> {
        if !self.is_version() {
            return None;
        }
        // The link of a version record never changes.
        let older = self.link().load(Ordering::Relaxed);
        // SAFETY: the writer knew `older` before it published this record.
        Some(unsafe { Record::at(self.records, older) })
    }

    /// The number of older versions.
    fn age(&self) -> u32 {
        if self.is_version() { self.word(AGE) } else { 0 }
    }

    /// A version some way back; of the oldest version itself.
    fn leap(self) -> Record<'a> {
        if !self.is_version() {
            return self;
        }
        // SAFETY: the writer knew `leap` before it published this record.
        unsafe { Record::at(self.records, self.word(LEAP)) }
    }

    /// An older version on the way to the newest one with a sequence number of at most
    /// `max_seqno`, which this one exceeds.
    fn towards(self, max_seqno: SeqNo) -> Option<Record<'a>> {
        let older = self.older()?;
        let leap = self.leap();
        Some(if leap.seqno() > max_seqno { leap } else { older })
    }

    /// The newest version of a key record with a sequence number of at most `max_seqno`.
    #[inline(always)]
    pub(super) fn visible(self, max_seqno: SeqNo) -> Option<MemEntry> {
        let mut version = self.newest();
        while version.seqno() > max_seqno {
            version = version.towards(max_seqno)?;
        }
        Some(version.entry())
    }
}

/// The writer's way to add records.
pub(super) struct NewRecord<'a> {
    pub(super) key: &'a [u8],
    pub(super) entry: MemEntry,
}

impl NewRecord<'_> {
    /// Adds a key record and answers its offset. It is published by whoever stores the offset.
    #[inline]
    pub(super) fn push_key(&self, records: &Records, end: &mut RecordsEnd) -> u32 {
        let (offset, start) = place(records, end, HEADER_LEN + self.key.len());
        self.write_header(start, 0, self.key.len() as u32);
        // SAFETY: the piece has room for the header and the key, and nobody else knows it yet.
        unsafe {
            let to = start.add(HEADER_LEN).as_ptr();
            to.copy_from_nonoverlapping(self.key.as_ptr(), self.key.len());
        }
        offset
    }

    /// Adds a version to `key_record` and publishes it.
    #[inline]
    pub(super) fn push_version(&self, key_record: Record<'_>, end: &mut RecordsEnd) {
        let older = key_record.newest();
        let leap = older.leap();
        let far = leap.leap();
        let is_even = older.age() - leap.age() == leap.age() - far.age();
        let leap = if is_even { far.offset } else { older.offset };
        let (offset, start) = place(key_record.records, end, VERSION_LEN);
        self.write_header(start, older.offset, VERSION | key_record.offset);
        // SAFETY: the piece has VERSION_LEN bytes, aligned to four, and nobody else knows it yet.
        unsafe {
            start.add(LEAP).cast::<u32>().write(leap);
            start.add(AGE).cast::<u32>().write(older.age() + 1);
        }
        key_record.link().store(offset, Ordering::Release);
    }

    #[inline(always)]
    fn write_header(&self, start: NonNull<u8>, link: u32, tag: u32) {
        debug_assert!(self.entry.seqno <= MAX_SEQNO);
        let seqno_kind = self.entry.seqno << 8 | self.entry.kind as u64;
        let offset = (self.entry.offset / 8) as u32;
        // SAFETY: the piece has at least HEADER_LEN bytes, aligned to four, and nobody else knows
        // it yet.
        unsafe {
            start.add(LINK).cast::<u32>().write(link);
            start.add(TAG).cast::<u32>().write(tag);
            start.add(SEQNO_KIND).cast::<u64>().write_unaligned(seqno_kind);
            start.add(OFFSET).cast::<u32>().write(offset);
            start.add(VALUE_LEN).cast::<u32>().write(self.entry.value_len);
        }
    }
}

#[inline]
fn place(records: &Records, end: &mut RecordsEnd, size_bytes: usize) -> (u32, NonNull<u8>) {
    let piece = records.allocate(end, size_bytes);
    if let Some((gap, units)) = piece.gap
        && units as usize * UNIT >= HEADER_LEN
    {
        // SAFETY: the gap has more than eight bytes, aligned to four, and nobody reads it before
        // a later record is published.
        unsafe { gap.add(TAG).cast::<u32>().write(GAP) };
    }
    (piece.offset, piece.start)
}

/// One step of [`walk`]: a version in the order of insertion.
pub(super) struct Inserted<'a> {
    pub(super) key: &'a [u8],
    pub(super) version: Record<'a>,
    pub(super) older: Option<Kind>,
}

/// The place in the order of insertion before the first record.
pub(super) const WALK_START: u32 = FIRST_OFFSET;

/// The first version at or after the place `at` and before `end`, and the place behind it.
///
/// # Safety
/// - `at` is [`WALK_START`] or a place that an earlier call answered for the same arena; `end` is
///   a [`RecordsEnd::next`] that the writer stored with Release after the last record before it was
///   whole, and that the calling thread loaded with Acquire.
pub(super) unsafe fn walk(records: &Records, at: u32, end: u32) -> Option<(Inserted<'_>, u32)> {
    let mut at = at;
    while at < end {
        let chunk_end = 2 << at.ilog2();
        if ((chunk_end - at) as usize) * UNIT < HEADER_LEN {
            at = chunk_end;
            continue;
        }
        // SAFETY: records are contiguous up to a gap, gaps of a header or more carry a tag, and
        // shorter ones were skipped above; so there is a record or a tagged gap at `at`.
        let version = unsafe { Record::at(records, at) };
        let tag = version.word(TAG);
        if tag == GAP {
            at = chunk_end;
            continue;
        }
        let is_version = tag & VERSION != 0;
        let key_record = if is_version {
            // SAFETY: the writer knew the key record before it wrote this version.
            unsafe { Record::at(records, tag & !VERSION) }
        } else {
            version
        };
        let size_bytes = if is_version { VERSION_LEN } else { HEADER_LEN + tag as usize };
        let older = version.older().map(|older| older.kind());
        let next = at + size_bytes.div_ceil(UNIT) as u32;
        return Some((Inserted { key: key_record.key(), version, older }, next));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_version_among_many_is_near() {
        let (records, mut end) = Records::new();
        let new = |seqno| {
            let entry = MemEntry { seqno, kind: Kind::Put, offset: 8 * seqno, value_len: 1 };
            NewRecord { key: b"key", entry }
        };
        let offset = new(1).push_key(&records, &mut end);
        // SAFETY: this thread is the writer and has just made it.
        let key_record = unsafe { Record::at(&records, offset) };
        (2..=100_000).for_each(|seqno| new(seqno).push_version(key_record, &mut end));
        for max_seqno in (0..1000).chain((1000..100_000).step_by(97)) {
            let (mut version, mut steps) = (Some(key_record.newest()), 0);
            while version.is_some_and(|version| version.seqno() > max_seqno) {
                version = version.and_then(|version| version.towards(max_seqno));
                steps += 1;
            }
            assert_eq!(version.map_or(0, |version| version.seqno()), max_seqno);
            // 3 log2 100 000, less 1.
            assert!(steps <= 49, "{steps} steps to {max_seqno}");
        }
    }
}
