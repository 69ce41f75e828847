//! The footer of a table and the layout that follows from it (layer L3).
//!
//! Only sizes and counts are stored; every offset is derived from them, so that they cannot
//! contradict each other, and their sum must be the file's size.

use crate::checksum::{checksum64, hash_key, mix64};
use crate::coding::Decoder;
use crate::error::{Error, ErrorKind, Result};
use crate::planted::planted;
use crate::table::{index, locator, packed};
use crate::types::{Compression, FileNumber, SeqNo};
use std::path::Path;

/// The last bytes of the footer and of the file.
pub(super) const MAGIC: [u8; 8] = *b"toykvTBL";
/// The format that this version writes and reads.
pub(super) const FORMAT_VERSION: u32 = 1;
/// Bytes of the footer.
pub(super) const FOOTER_LEN: usize = 160;
/// Log2 of the distance of two block starts that a builder begins with: 8 KiB. Seeks are slower
/// with 4 and 16 KiB, point reads alike; 4 KiB costs 4 bytes an entry of 100 bytes more.
pub(super) const GRID_SHIFT: u32 = 13;
/// The largest that there is: offsets in a block have 16 bits.
pub(super) const MAX_GRID_SHIFT: u32 = 16;
/// Bytes of locator under one checksum.
pub(super) const PAGE: usize = 4096;
/// What the index's and the tail's checksums are seeded with, beside the salt.
pub(super) const INDEX_SEED: u64 = 1;
/// As [`INDEX_SEED`]. File offsets seed the rest and are multiples of 4096.
pub(super) const TAIL_SEED: u64 = 2;
const FOOTER_SEED: u64 = 3;
/// The footer's end, alike in every version: checksum, format version, footer length, magic.
const TRAILER_LEN: usize = 24;
/// No version's footer is longer.
const MAX_FOOTER_LEN: usize = 4096;
/// So many bytes from the end of a file hold the footer of every version.
pub(super) const FOOTER_SPACE: usize = MAX_FOOTER_LEN + TRAILER_LEN;

/// What the footer says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Footer {
    /// Log2 of the grid.
    pub(super) grid_shift: u32,
    /// What its blocks were to be compressed with; None: they lie on the grid of the file.
    pub(super) compression: Compression,
    /// Bytes that the blocks take in the file.
    pub(super) data_len: u64,
    /// The file's number when it was built.
    pub(super) number: FileNumber,
    /// Seeds the checksums of this file.
    pub(super) salt: u64,
    /// Grid cells that the blocks fill.
    pub(super) cells: u64,
    /// Blocks.
    pub(super) blocks: u64,
    /// Home lines of the locator.
    pub(super) lines: u64,
    /// Entries of all versions.
    pub(super) entries: u64,
    /// Different keys.
    pub(super) keys: u64,
    /// Entries that are tombstones.
    pub(super) tombstones: u64,
    /// Sum of the lengths of separated values.
    pub(super) value_bytes: u64,
    /// Smallest sequence number, over the base.
    pub(super) min_delta: SeqNo,
    /// Largest sequence number, over the base.
    pub(super) max_delta: SeqNo,
    /// Length of the smallest key.
    pub(super) smallest_len: u32,
    /// Length of the largest key.
    pub(super) largest_len: u32,
    /// Checksum of the index.
    pub(super) index_checksum: u64,
    /// Checksum of the tail: locator checksums and bounds.
    pub(super) tail_checksum: u64,
}

/// Where the parts of a table lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// End of the cells, as addresses count.
    pub(super) cells_end: usize,
    /// End of the blocks in the file and start of the locator.
    pub(super) data_end: usize,
    /// End of the locator and start of the index.
    pub(super) locator_end: usize,
    /// End of the index and start of the tail.
    pub(super) index_end: usize,
    /// End of the locator's checksums and start of the smallest key.
    pub(super) checksums_end: usize,
    /// Start of the footer.
    pub(super) footer: usize,
}

impl Footer {
    /// The stored form for a database with this hash seed.
    pub(super) fn encode(&self, hash_seed: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(FOOTER_LEN);
        for word in [
            self.number,
            self.salt,
            hash_key(&MAGIC, hash_seed),
            self.cells,
            self.blocks,
            self.lines,
            self.entries,
            self.keys,
            self.tombstones,
            self.value_bytes,
            self.min_delta,
            self.max_delta,
            self.index_checksum,
            self.tail_checksum,
            self.data_len,
        ] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        let compression = self.compression as u32;
        for word in [self.smallest_len, self.largest_len, self.grid_shift, compression] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        let checksum = checksum64(&out, footer_seed(FORMAT_VERSION, FOOTER_LEN as u32));
        out.extend_from_slice(&checksum.to_le_bytes());
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&(FOOTER_LEN as u32).to_le_bytes());
        out.extend_from_slice(&MAGIC);
        out
    }

    /// Reads and checks the stored form at the end of a file of `size` bytes: `end` are its last
    /// bytes, at least [`FOOTER_SPACE`] if it has so many.
    pub(super) fn read(
        end: &[u8],
        size: usize,
        path: &Path,
        hash_seed: u64,
    ) -> Result<(Footer, Layout)> {
        let corrupt =
            |what: &str| Error::corruption(path, size.saturating_sub(TRAILER_LEN) as u64, what);
        let (version, body) = Self::body(end).ok_or_else(|| corrupt("footer is damaged"))?;
        if version != FORMAT_VERSION {
            let path = path.display();
            let what = format!("{path}: table format {version}; this version reads format 1");
            return Err(Error::new(ErrorKind::UnsupportedFormat, what));
        }
        let (check, footer) = Self::decode(body).ok_or_else(|| corrupt("footer is damaged"))?;
        if check != hash_key(&MAGIC, hash_seed) {
            return Err(corrupt("table belongs to another database"));
        }
        let layout =
            footer.layout().filter(|layout| layout.footer.checked_add(FOOTER_LEN) == Some(size));
        let layout = layout.ok_or_else(|| corrupt("footer does not fit the file's size"))?;
        Ok((footer, layout))
    }

    /// The format version and the footer's body, for every version: the trailer says how long the
    /// footer is and has its checksum. `None` when damaged.
    pub(super) fn body(end: &[u8]) -> Option<(u32, &[u8])> {
        let (rest, trailer) = end.split_at_checked(end.len().checked_sub(TRAILER_LEN)?)?;
        let mut trailer = Decoder::new(trailer);
        let (checksum, version, len) = (trailer.u64()?, trailer.u32()?, trailer.u32()?);
        let body_len = (len as usize).checked_sub(TRAILER_LEN)?;
        if trailer.rest() != MAGIC || body_len > MAX_FOOTER_LEN {
            return None;
        }
        let body = rest.get(rest.len().checked_sub(body_len)?..)?;
        let right = checksum64(body, footer_seed(version, len)) == checksum;
        (right || planted("table: footer unchecked")).then_some((version, body))
    }

    /// The check word of the hash seed, and what the body says.
    pub(super) fn decode(body: &[u8]) -> Option<(u64, Footer)> {
        let mut d = Decoder::new(body);
        let (number, salt, check) = (d.u64()?, d.u64()?, d.u64()?);
        let mut footer = Footer {
            compression: Compression::None,
            number,
            salt,
            cells: d.u64()?,
            blocks: d.u64()?,
            lines: d.u64()?,
            entries: d.u64()?,
            keys: d.u64()?,
            tombstones: d.u64()?,
            value_bytes: d.u64()?,
            min_delta: d.u64()?,
            max_delta: d.u64()?,
            index_checksum: d.u64()?,
            tail_checksum: d.u64()?,
            data_len: d.u64()?,
            smallest_len: d.u32()?,
            largest_len: d.u32()?,
            grid_shift: d.u32()?,
        };
        footer.compression = Compression::from_u8(u8::try_from(d.u32()?).ok()?)?;
        d.is_empty().then_some((check, footer))
    }

    /// The offsets that follow from the sizes; `None` where they make no sense.
    pub(super) fn layout(&self) -> Option<Layout> {
        let sane = (12..=MAX_GRID_SHIFT).contains(&self.grid_shift)
            && self.blocks <= self.cells
            && (self.blocks == 0) == (self.cells == 0)
            && self.cells <= u64::from(u32::MAX)
            && (1..=u64::from(u32::MAX)).contains(&self.lines);
        if !sane {
            return None;
        }
        let cells_end = self.cells.checked_mul(1 << self.grid_shift)?;
        let (packed_len, right) = match self.compression {
            Compression::None => (0, self.data_len == cells_end),
            Compression::Lz4 | Compression::Zstd => {
                (packed::size_bytes(self.cells), self.data_len.is_multiple_of(PAGE as u64))
            }
        };
        if !right {
            return None;
        }
        let locator_len = locator::size_bytes(self.lines);
        let locator_end = self.data_len.checked_add(locator_len)?;
        let index_len = index::size_bytes(self.blocks, self.cells) + packed_len;
        let index_end = locator_end.checked_add(index_len)?;
        let checksums_end = index_end.checked_add(locator_len.div_ceil(PAGE as u64) * 8)?;
        let bounds = u64::from(self.smallest_len) + u64::from(self.largest_len);
        let footer = checksums_end.checked_add(bounds)?;
        Some(Layout {
            cells_end: usize::try_from(cells_end).ok()?,
            data_end: usize::try_from(self.data_len).ok()?,
            locator_end: usize::try_from(locator_end).ok()?,
            index_end: usize::try_from(index_end).ok()?,
            checksums_end: usize::try_from(checksums_end).ok()?,
            footer: usize::try_from(footer).ok()?,
        })
    }

    /// The salt of a new table.
    pub(super) fn new_salt(hash_seed: u64, number: FileNumber) -> u64 {
        mix64(hash_seed, number)
    }
}

/// The checksum of a block or a page of the locator that starts at `offset`.
pub(super) fn page_seed(salt: u64, offset: usize) -> u64 {
    mix64(salt, offset as u64)
}

/// What the footer's checksum is seeded with, so that it covers the trailer too.
fn footer_seed(version: u32, len: u32) -> u64 {
    mix64(FOOTER_SEED, u64::from(version) << 32 | u64::from(len))
}
