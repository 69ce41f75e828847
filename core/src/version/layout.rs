//! The bytes of a manifest and of `CURRENT` (layer L4).
//!
//! A manifest is a header and records at multiples of 8. A record's checksum depends on its offset
//! and, through the header's checksum, on the database and the manifest's number, and each record
//! names the checksum of the one before it. So bytes of another file or place are never a record
//! here, and a record that lost its predecessor is recognised.

use std::path::Path;

use super::edit::EditError;
use crate::checksum::{checksum64, mix64};
use crate::coding::Decoder;
use crate::error::{Error, ErrorKind, Result};
use crate::filename::FileName;
use crate::types::FileNumber;

/// The version of this layout that is written, and the only one that is read.
pub(super) const FORMAT_VERSION: u32 = 1;

/// First bytes of a manifest.
const MAGIC: [u8; 8] = *b"toykvMAN";

/// Size of the header; the first record follows.
pub(super) const HEADER_LEN: usize = 56;

/// Size of a record without its payload.
pub(super) const RECORD_HEADER_LEN: usize = 24;

/// Size of a record of kind [`RecordKind::Grow`].
pub(super) const GROW_LEN: u64 = RECORD_HEADER_LEN as u64 + 8;

/// Seed of the header's checksum: "manifest" in ASCII.
pub(super) const HEADER_SEED: u64 = 0x6d61_6e69_6665_7374;

/// Seed of the checksum in `CURRENT`: "current" in ASCII.
pub(super) const CURRENT_SEED: u64 = 0x0063_7572_7265_6e74;

/// Longest `CURRENT`.
pub(super) const MAX_CURRENT_LEN: u64 = 64;

/// What the header of a manifest says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) db_id: u64,
    pub(super) hash_seed: u64,
    pub(super) number: FileNumber,
    /// The file is at least this large, from before its name was made known.
    pub(super) size_bytes: u64,
}

impl Header {
    /// The stored form.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&(HEADER_LEN as u32).to_le_bytes());
        for word in [self.db_id, self.hash_seed, self.number, self.size_bytes] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        let checksum = checksum64(&out, HEADER_SEED);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Reads the header of the file `path`, and the salt of its records. Every version of the
    /// format keeps the magic, the version and the checksum where they are.
    pub(super) fn decode(path: &Path, file: &[u8]) -> Result<(Header, u64)> {
        let bad = |offset, what: &str| Error::corruption(path, offset, what);
        let bytes = file.get(..HEADER_LEN);
        let bytes = bytes.ok_or_else(|| bad(file.len() as u64, "a manifest cut in its header"))?;
        let (covered, checksum) = bytes.split_at(HEADER_LEN - 8);
        let fields = (|| {
            let mut from = Decoder::new(covered);
            let magic = from.take(MAGIC.len())?;
            let numbers = (from.u32()?, from.u32()?);
            let header = Header {
                db_id: from.u64()?,
                hash_seed: from.u64()?,
                number: from.u64()?,
                size_bytes: from.u64()?,
            };
            Some((magic, numbers, header, Decoder::new(checksum).u64()?))
        })();
        let (magic, (version, len), header, checksum) =
            fields.ok_or_else(|| bad(0, "no manifest's header"))?;
        if magic != MAGIC {
            return Err(bad(0, "not a manifest"));
        }
        if checksum != checksum64(covered, HEADER_SEED) {
            return Err(bad(HEADER_LEN as u64 - 8, "the manifest's header has a wrong checksum"));
        }
        if version != FORMAT_VERSION {
            let what = format!(
                "manifest of format version {version}; this program supports {FORMAT_VERSION}"
            );
            return Err(unsupported(path, MAGIC.len() as u64, what));
        }
        if len as usize != HEADER_LEN {
            return Err(bad(12, "the manifest's header has a wrong length"));
        }
        Ok((header, checksum))
    }
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum RecordKind {
    /// A version edit; the first one makes the whole state.
    Edit = 1,
    /// The size that the file has grown to.
    Grow = 2,
    /// The record before it is durable. The next record is written over it.
    Confirm = 3,
}

/// A record of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) checksum: u64,
    /// Checksum of the record before; the header's for the first.
    pub(super) previous: u64,
    /// Kind by number, which may be one of a later format.
    pub(super) kind: u32,
    pub(super) payload: &'a [u8],
    /// Bytes up to the next record.
    pub(super) len: usize,
}

impl<'a> Record<'a> {
    /// Appends the stored form of a record that will begin at `offset`, and answers its checksum.
    pub(super) fn put(
        out: &mut Vec<u8>,
        salt: u64,
        offset: u64,
        previous: u64,
        (kind, payload): (RecordKind, &[u8]),
    ) -> Result<u64> {
        let payload_len = u32::try_from(payload.len());
        let payload_len = payload_len
            .map_err(|_| Error::new(ErrorKind::TooLarge, "a version edit of 4 GiB or more"))?;
        let mut covered = Vec::with_capacity(record_len(payload.len()));
        covered.extend_from_slice(&previous.to_le_bytes());
        covered.extend_from_slice(&payload_len.to_le_bytes());
        covered.extend_from_slice(&(kind as u32 ^ salt as u32).to_le_bytes());
        covered.extend_from_slice(payload);
        covered.resize(record_len(payload.len()) - 8, 0);
        let checksum = checksum64(&covered, mix64(salt, offset));
        out.extend_from_slice(&checksum.to_le_bytes());
        out.extend_from_slice(&covered);
        Ok(checksum)
    }

    /// What claims to be a record at `offset`, its checksum not verified yet; `None` when the
    /// claimed length goes beyond the file. The kind is stored mixed with the salt, so that neither
    /// zeroes nor the keys of tables look like records.
    pub(super) fn claimed(file: &'a [u8], offset: usize, salt: u64) -> Option<Record<'a>> {
        let bytes = file.get(offset..)?;
        let mut from = Decoder::new(bytes);
        let (checksum, previous) = (from.u64()?, from.u64()?);
        let payload_len = usize::try_from(from.u32()?).ok()?;
        let kind = from.u32()? ^ salt as u32;
        let payload = from.take(payload_len)?;
        let len = record_len(payload_len);
        (len <= bytes.len()).then_some(Record { checksum, previous, kind, payload, len })
    }

    /// True when the record, which is at `offset` of `file`, has the checksum of its bytes.
    pub(super) fn is_whole(&self, file: &[u8], offset: usize, salt: u64) -> bool {
        let covered = file.get(offset + 8..offset + self.len);
        covered.is_some_and(|bytes| checksum64(bytes, mix64(salt, offset as u64)) == self.checksum)
    }
}

/// Size of a record with a payload of this size.
pub(super) fn record_len(payload_len: usize) -> usize {
    (RECORD_HEADER_LEN + payload_len).next_multiple_of(8)
}

/// The kind with this number.
pub(super) fn record_kind(number: u32) -> Option<RecordKind> {
    [RecordKind::Edit, RecordKind::Grow, RecordKind::Confirm]
        .into_iter()
        .find(|&kind| kind as u32 == number)
}

/// The bytes of `CURRENT` when this manifest is the live one.
pub(super) fn encode_current(number: FileNumber) -> String {
    let name = FileName::Manifest(number).to_string();
    let checksum = checksum64(name.as_bytes(), CURRENT_SEED);
    format!("{name} {checksum:016x}\n")
}

/// The manifest that `CURRENT` names; `None` for anything but exactly what is written.
pub(super) fn decode_current(bytes: &[u8]) -> Option<FileNumber> {
    let (name, _) = std::str::from_utf8(bytes).ok()?.split_once(' ')?;
    let Some(FileName::Manifest(number)) = FileName::parse(name) else { return None };
    (encode_current(number).as_bytes() == bytes).then_some(number)
}

/// A file, or a part of it, that a later version wrote.
pub(super) fn unsupported(path: &Path, offset: u64, what: String) -> Error {
    Error::corruption(path, offset, what).with_kind(ErrorKind::UnsupportedFormat)
}

/// The error for an edit whose bytes are whole, its payload at `start` of the file `path`, and
/// still no edit.
pub(super) fn edit_error(path: &Path, start: u64, error: &EditError) -> Error {
    match *error {
        EditError::UnknownTag { tag, offset } => {
            let what = format!(
                "version edit with the unknown field {tag}, written by a newer program; \
                 this one supports format version {FORMAT_VERSION}"
            );
            unsupported(path, start + offset as u64, what)
        }
        EditError::Malformed { what, offset } => {
            Error::corruption(path, start + offset as u64, format!("version edit with {what}"))
        }
    }
}
