//! Blocks that do not lie on the grid of the file (layer L3): in a table with compression they lie
//! one behind the other, and an array of one word for each cell says where.
//!
//! A word is `offset << 2 | scheme`: where the block that starts in this cell lies in the file, and
//! its compression. In a cell where no block starts it is the word of the next block with scheme 0;
//! one more word has the end of the last block. So a block's stored length is the difference of two
//! words. A plain block is stored as it is in a table without compression; of a compressed one the
//! stored form is a checksum, then the compressed block without the first eight bytes.
//!
//! Invariant DETECT: the checksum is compared before anything is decompressed. What is allocated
//! follows from the number of cells that a block fills, never from its bytes.

use crate::checksum::checksum64;
use crate::coding::Decoder;
use crate::compress::{self, Codec, MAX_COMPRESSED_LEN};
use crate::types::Compression;

/// Bytes of a compressed block before its compressed bytes: their checksum.
pub(super) const PREFIX_LEN: usize = 8;

/// Bytes of the array for so many cells.
pub(super) fn size_bytes(cells: u64) -> u64 {
    (cells + 1) * 8
}

/// Where a block lies in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) offset: usize,
    /// Stored bytes.
    pub(super) len: usize,
    /// Bytes that it has when it is decompressed: whole cells.
    pub(super) raw_len: usize,
    pub(super) compression: Compression,
}

/// Collects the words of a table under construction.
#[derive(Default)]
pub(super) struct PackedBuilder {
    words: Vec<u64>,
    /// Cells of the last block that have no word yet.
    open: u64,
}

impl PackedBuilder {
    /// Notes the next block: where it lies and how many cells it fills.
    pub(super) fn add(&mut self, offset: u64, cells: u64, compression: Compression) {
        self.close(offset);
        self.words.push(offset << 2 | compression as u64);
        self.open = cells - 1;
    }

    fn close(&mut self, end: u64) {
        let len = self.words.len() + self.open as usize;
        self.words.resize(len, end << 2);
        self.open = 0;
    }

    /// The stored array of a table whose last block ends at `end`.
    pub(super) fn finish(&mut self, end: u64) -> Vec<u8> {
        self.close(end);
        self.words.push(end << 2);
        self.words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}

/// Where the block lies that starts in a cell, from the array; `None` where none starts or the
/// array makes no sense.
pub(super) fn place(words: &[u8], cell: usize, grid_shift: u32) -> Option<Place> {
    let word = |cell: usize| Decoder::new(words.get(cell.checked_mul(8)?..)?).u64();
    let (start, next) = (word(cell)?, word(cell + 1)?);
    let (offset, end) = (start >> 2, next >> 2);
    let len = usize::try_from(end.checked_sub(offset)?).ok().filter(|len| *len > 0)?;
    let compression = Compression::from_u8((start & 3) as u8)?;
    let raw_len = match compression {
        Compression::None => len,
        Compression::Lz4 | Compression::Zstd => {
            let most = MAX_COMPRESSED_LEN >> grid_shift;
            let same = |ahead: &usize| word(cell + ahead).is_some_and(|word| word >> 2 == end);
            // The word after the last cell of a block is that of the next block, which has the same
            // offset; only a block that fills no cell could have it too.
            let last = word(cell + 1 + most).is_some_and(|word| word >> 2 == end);
            if last {
                return None;
            }
            (1..=most).take_while(same).count().max(1) << grid_shift
        }
    };
    let offset = usize::try_from(offset).ok()?;
    Some(Place { offset, len, raw_len, compression })
}

/// Where the last block ends, from the end of the array.
pub(super) fn end(words: &[u8]) -> Option<usize> {
    usize::try_from(u64::from_le_bytes(*words.last_chunk()?) >> 2).ok()
}

/// Appends the compressed form of a whole block to `out`, its checksum seeded with `seed`; false
/// when it does not shrink.
pub(super) fn store(codec: Codec, block: &[u8], seed: u64, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_LEN]);
    if !compress::compress(codec, block.get(8..).unwrap_or(&[]), out) {
        out.truncate(start);
        return false;
    }
    let checksum = checksum64(&out[start + PREFIX_LEN..], seed);
    out[start..start + PREFIX_LEN].copy_from_slice(&checksum.to_le_bytes());
    true
}

/// Fills `block`, all zeros and as long as the block is, from its compressed form; false when the
/// checksum is wrong or it is the form of something else.
pub(super) fn restore(
    compression: Compression,
    stored: &[u8],
    seed: u64,
    block: &mut [u8],
) -> bool {
    let Some((checksum, packed)) = stored.split_first_chunk::<PREFIX_LEN>() else { return false };
    if u64::from_le_bytes(*checksum) != checksum64(packed, seed) {
        return false;
    }
    let Some(target) = block.get_mut(8..) else { return false };
    compress::decompress(compression, packed, target)
}
