//! The bytes of a segment (layer L3): its header, the frames behind it and the records in them.
//!
//! Invariants: a frame header is valid only at the offset and in the segment that it was written
//! for, a record only at its offset and under its segment's id. Decoding answers `None` for
//! everything else; it never panics and allocates nothing.

use crate::checksum::{checksum32, checksum64, mix64};
use crate::coding::Decoder;
use crate::error::{Error, ErrorKind, Result};
use crate::key::MAX_ENCODED_KEY_LEN;
use crate::planted::planted;
use crate::types::{FileNumber, SegmentId, SeqNo};

/// First bytes of a segment.
pub(crate) const MAGIC: [u8; 8] = *b"toykvlog";

/// The format of segments that this version writes, and the only one that it reads.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// Length of the segment header; the first frame follows it.
pub(crate) const SEGMENT_HEADER_LEN: usize = 4096;

/// Where the first frame of every segment starts.
pub(crate) const FIRST_FRAME: u64 = SEGMENT_HEADER_LEN as u64;

/// Length of a frame header.
pub(crate) const FRAME_HEADER_LEN: usize = 56;

/// Length of what precedes a record's key.
pub(crate) const RECORD_HEADER_LEN: usize = 12;

/// Sizes of segments are multiples of this.
pub(crate) const PAGE: u64 = 4096;

/// Largest segment: the offset of a value pointer counts 8 bytes in 32 bits.
pub(crate) const MAX_SEGMENT_SIZE: u64 = 8 << 32;

/// First bytes of the file of rewritten segments.
pub(crate) const REWRITTEN_MAGIC: [u8; 8] = *b"toykvval";

/// Entries in a page of an offset map, behind its checksum.
pub(crate) const MAP_PAGE_ENTRIES: usize = (PAGE as usize - 8) / 8;

/// What makes a segment this segment and no other. The version knows it, the header repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentIdentity {
    /// Its number when it was first written.
    pub(crate) id: SegmentId,
    /// Random; every frame begins with it.
    pub(crate) salt: u64,
    /// The database that it belongs to.
    pub(crate) db_id: u64,
    /// Size of the file.
    pub(crate) size_bytes: u64,
}

/// What makes a file of rewritten segments this one and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RewrittenIdentity {
    /// The number in its name.
    pub(crate) file: FileNumber,
    /// Random; seeds the checksums of maps and directory.
    pub(crate) salt: u64,
    /// The database that it belongs to.
    pub(crate) db_id: u64,
    /// Size of the file; 0 while it is written.
    pub(crate) size_bytes: u64,
}

/// Why bytes are not the header of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// Written by another version: this is the number found.
    Version(u32),
    /// Damaged: what is wrong.
    Damage(String),
}

impl SegmentIdentity {
    /// The segment header.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEADER_LEN);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for word in [self.id, self.salt, self.db_id, self.size_bytes] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        seal_header(out)
    }

    /// Reads the segment header. Every version keeps magic, version and checksum in these places.
    pub(crate) fn decode(header: &[u8]) -> Result<SegmentIdentity, HeaderFault> {
        let mut decoder = open_header(header, &MAGIC)?;
        let identity = decode_identity(&mut decoder);
        identity.ok_or_else(|| HeaderFault::Damage("segment header cut short".into()))
    }

    /// Refuses sizes that no segment can have.
    pub(crate) fn check_size(&self) -> Result<()> {
        let size = self.size_bytes;
        if size.is_multiple_of(PAGE) && (2 * PAGE..=MAX_SEGMENT_SIZE).contains(&size) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("a segment cannot have {size} bytes: 8192 to {MAX_SEGMENT_SIZE}, whole pages"),
        ))
    }
}

/// Fills a header up and puts its checksum behind it.
fn seal_header(mut out: Vec<u8>) -> Vec<u8> {
    out.resize(SEGMENT_HEADER_LEN - 8, 0);
    let sum = checksum64(&out, 0);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

/// What follows magic and version of an intact header.
fn open_header<'a>(header: &'a [u8], magic: &[u8; 8]) -> Result<Decoder<'a>, HeaderFault> {
    let damage = |what: &str| HeaderFault::Damage(what.into());
    let covered = header.get(..SEGMENT_HEADER_LEN - 8);
    let stored = header.get(SEGMENT_HEADER_LEN - 8..).and_then(|rest| Decoder::new(rest).u64());
    let (Some(covered), Some(stored)) = (covered, stored) else {
        return Err(damage("segment header cut short"));
    };
    let mut decoder = Decoder::new(covered);
    if decoder.take(8) != Some(&magic[..]) {
        return Err(damage("not a segment of a value log"));
    }
    if checksum64(covered, 0) != stored {
        return Err(damage("checksum of the segment header does not match"));
    }
    match decoder.u32() {
        Some(FORMAT_VERSION) => Ok(decoder),
        found => Err(HeaderFault::Version(found.unwrap_or(0))),
    }
}

fn decode_identity(decoder: &mut Decoder<'_>) -> Option<SegmentIdentity> {
    decoder.u32()?;
    Some(SegmentIdentity {
        id: decoder.u64()?,
        salt: decoder.u64()?,
        db_id: decoder.u64()?,
        size_bytes: decoder.u64()?,
    })
}

/// The header of a file of rewritten segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RewrittenHeader {
    /// What it is.
    pub(crate) identity: RewrittenIdentity,
    /// Where its directory is.
    pub(crate) directory_at: u64,
    /// Length of that.
    pub(crate) directory_len: u64,
    /// Checksum of that, seeded with the salt.
    pub(crate) directory_sum: u64,
}

impl RewrittenHeader {
    /// The header of a file with this directory.
    pub(crate) fn new(identity: &RewrittenIdentity, at: u64, directory: &[u8]) -> RewrittenHeader {
        RewrittenHeader {
            identity: *identity,
            directory_at: at,
            directory_len: directory.len() as u64,
            directory_sum: checksum64(directory, identity.salt),
        }
    }

    /// The stored form.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let RewrittenIdentity { file, salt, db_id, size_bytes } = self.identity;
        let mut out = REWRITTEN_MAGIC.to_vec();
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        let directory = [self.directory_at, self.directory_len, self.directory_sum];
        for word in [file, salt, db_id, size_bytes].into_iter().chain(directory) {
            out.extend_from_slice(&word.to_le_bytes());
        }
        seal_header(out)
    }

    /// Reads the stored form. Magic, version and checksum are where a segment has them.
    pub(crate) fn decode(header: &[u8]) -> Result<RewrittenHeader, HeaderFault> {
        let mut from = open_header(header, &REWRITTEN_MAGIC)?;
        let fields = (|| {
            from.u32()?;
            let (file, salt, db_id) = (from.u64()?, from.u64()?, from.u64()?);
            let size_bytes = from.u64()?;
            Some(RewrittenHeader {
                identity: RewrittenIdentity { file, salt, db_id, size_bytes },
                directory_at: from.u64()?,
                directory_len: from.u64()?,
                directory_sum: from.u64()?,
            })
        })();
        fields.ok_or_else(|| HeaderFault::Damage("segment header cut short".into()))
    }
}

/// What a frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Length of the records, a multiple of 8.
    pub(crate) payload_len: u64,
    /// Sequence number of the first record; the others follow without gaps.
    pub(crate) first_seqno: SeqNo,
    /// Last sequence number of a frame that was known to be durable when this one was written.
    pub(crate) synced_seqno: SeqNo,
    /// Checksum of the frame before this one.
    pub(crate) previous: u64,
    /// Number of records.
    pub(crate) count: u32,
    /// The records' checksums, folded.
    pub(crate) fold: u32,
}

impl FrameHeader {
    /// The stored form at `offset`, and the frame's checksum, to which the next frame chains.
    #[inline]
    pub(crate) fn encode(&self, salt: u64, offset: u64) -> ([u8; FRAME_HEADER_LEN], u64) {
        let mut out = [0; FRAME_HEADER_LEN];
        out[..8].copy_from_slice(&salt.to_le_bytes());
        out[16..24].copy_from_slice(&self.payload_len.to_le_bytes());
        out[24..32].copy_from_slice(&self.first_seqno.to_le_bytes());
        out[32..40].copy_from_slice(&self.synced_seqno.to_le_bytes());
        out[40..48].copy_from_slice(&self.previous.to_le_bytes());
        out[48..52].copy_from_slice(&self.count.to_le_bytes());
        out[52..56].copy_from_slice(&self.fold.to_le_bytes());
        let sum = checksum64(&out[16..], mix64(salt, offset));
        out[8..16].copy_from_slice(&sum.to_le_bytes());
        (out, sum)
    }

    /// Reads the stored form and its checksum; `None` unless it was written for this place.
    #[inline]
    pub(crate) fn decode(bytes: &[u8], salt: u64, offset: u64) -> Option<(FrameHeader, u64)> {
        let mut decoder = Decoder::new(bytes);
        let found = decoder.u64()?;
        if found != salt && !planted("frame: any salt") {
            return None;
        }
        let sum = decoder.u64()?;
        let covered = decoder.take(FRAME_HEADER_LEN - 16)?;
        let right = |salt| checksum64(covered, mix64(salt, offset)) == sum;
        let any_salt = planted("frame: any salt") && right(found);
        if !right(salt) && !any_salt && !planted("frame: header unchecked") {
            return None;
        }
        let mut decoder = Decoder::new(covered);
        let header = FrameHeader {
            payload_len: decoder.u64()?,
            first_seqno: decoder.u64()?,
            synced_seqno: decoder.u64()?,
            previous: decoder.u64()?,
            count: decoder.u32()?,
            fold: decoder.u32()?,
        };
        Some((header, sum))
    }
}

/// Folds one more record's checksum into a frame's `fold`, which starts at 0. Order counts.
#[inline]
pub(crate) fn fold(before: u32, record_checksum: u32) -> u32 {
    (before.rotate_left(5) ^ record_checksum).wrapping_mul(0x9E37_79B1)
}

/// Bytes that a record takes, its padding included.
#[inline]
pub(crate) fn record_len(key_len: usize, value_len: u32) -> u64 {
    (RECORD_HEADER_LEN as u64 + key_len as u64 + u64::from(value_len)).next_multiple_of(8)
}

/// The checksum of a record: `covered` is all of it but its first four bytes and its padding.
#[inline]
pub(crate) fn record_checksum(covered: &[u8], segment: SegmentId, offset: u64) -> u32 {
    checksum32(covered, mix64(segment, offset))
}

/// A record as it lies in a segment; its parts borrow from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawRecord<'a> {
    /// The checksum as stored.
    pub(crate) checksum: u32,
    /// The number of a kind, known or not.
    pub(crate) kind: u8,
    /// The encoded key.
    pub(crate) key: &'a [u8],
    /// The value.
    pub(crate) value: &'a [u8],
    covered: &'a [u8],
}

impl<'a> RawRecord<'a> {
    /// Reads the record at the start of `bytes`; `None` when they do not hold what it claims. Says
    /// nothing about its checksum.
    #[inline]
    pub(crate) fn decode(bytes: &'a [u8]) -> Option<RawRecord<'a>> {
        let mut decoder = Decoder::new(bytes);
        let checksum = decoder.u32()?;
        let value_len = decoder.u32()?;
        let key_and_kind = decoder.u32()?;
        let key_len = (key_and_kind & 0x00FF_FFFF) as usize;
        if key_len > MAX_ENCODED_KEY_LEN {
            return None;
        }
        let key = decoder.take(key_len)?;
        let value = decoder.take(value_len as usize)?;
        let covered = bytes.get(4..RECORD_HEADER_LEN + key_len + value.len())?;
        Some(RawRecord { checksum, kind: (key_and_kind >> 24) as u8, key, value, covered })
    }

    /// Fills `head` with what precedes this record's value, which is `value_len` bytes long there;
    /// the checksum is left open.
    pub(super) fn put_head(&self, value_len: u32, head: &mut [u8]) {
        let key_and_kind = self.key.len() as u32 | u32::from(self.kind) << 24;
        let words = [0, value_len, key_and_kind].into_iter().flat_map(u32::to_le_bytes);
        let bytes = words.chain(self.key.iter().copied());
        head.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    }

    /// What the first bytes of a record say: kind, length of the value, bytes that it takes.
    pub(crate) fn lengths(header: &[u8]) -> Option<(u8, u64, u64)> {
        let mut decoder = Decoder::new(header);
        let (_, value_len, key_and_kind) = (decoder.u32()?, decoder.u32()?, decoder.u32()?);
        let key_len = (key_and_kind & 0x00FF_FFFF) as usize;
        let len = record_len(key_len, value_len);
        Some(((key_and_kind >> 24) as u8, u64::from(value_len), len))
    }

    /// True when the record was written for this place.
    #[inline]
    pub(crate) fn is_intact(&self, segment: SegmentId, offset: u64) -> bool {
        record_checksum(self.covered, segment, offset) == self.checksum
    }

    /// Bytes that it takes in the segment, its padding included.
    #[inline]
    pub(crate) fn len(&self) -> u64 {
        (self.covered.len() as u64 + 4).next_multiple_of(8)
    }
}
