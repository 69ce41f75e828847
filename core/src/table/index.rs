//! The index of a table (layer L3): eight bytes of every block's first key, taken after the prefix
//! that the whole table shares, as an implicit tree of nodes of sixteen; then the cell in which
//! each block starts, unless every block fills one cell.
//!
//! Levels are stored top first; each is filled up to whole nodes with the largest number.

use crate::coding::Decoder;
use crate::table::block::{common_prefix, prefix8};

/// Numbers in a node.
const NODE: u64 = 16;
/// More levels than 2^32 blocks need.
const MAX_LEVELS: usize = 8;

/// Bytes of the index of so many blocks in so many cells.
pub(super) fn size_bytes(blocks: u64, cells: u64) -> u64 {
    // Asked for every entry of a new table, so it allocates nothing.
    let level = |len: u64| (len > NODE).then(|| len.div_ceil(NODE));
    let lens = std::iter::successors((blocks > 0).then_some(blocks), |len| level(*len));
    let numbers: u64 = lens.map(|len| len.next_multiple_of(NODE)).sum();
    numbers * 8 + if blocks == cells { 0 } else { blocks * 4 }
}

/// Where each level starts, top first, and how many numbers all have together.
fn levels(blocks: u64) -> (Vec<u64>, u64) {
    let mut lens = Vec::with_capacity(MAX_LEVELS);
    let mut len = blocks;
    while len > 0 {
        lens.push(len.next_multiple_of(NODE));
        len = if len <= NODE { 0 } else { len.div_ceil(NODE) };
    }
    let mut total = 0;
    let starts = lens.iter().rev().map(|len| {
        total += len;
        total - len
    });
    (starts.collect(), total)
}

/// Collects the first keys of the blocks.
///
/// The prefix that the table shares only shrinks while it is built, so of each first key eight
/// bytes after the part that it shares with the smallest key are enough.
#[derive(Default)]
pub(super) struct IndexBuilder {
    smallest: Vec<u8>,
    firsts: Vec<First>,
    cells: u64,
}

struct First {
    shared: u32,
    after: u64,
    cell: u32,
}

impl IndexBuilder {
    /// Notes a block by its first key and the cells that it fills; false when there are too many.
    pub(super) fn add(&mut self, first_key: &[u8], cells: u64) -> bool {
        if self.firsts.is_empty() {
            self.smallest = first_key.to_vec();
        }
        let (Ok(cell), Some(end)) = (u32::try_from(self.cells), self.cells.checked_add(cells))
        else {
            return false;
        };
        let shared = common_prefix(&self.smallest, first_key);
        let after = prefix8(&first_key[shared..]);
        self.firsts.push(First { shared: shared as u32, after, cell });
        self.cells = end;
        end <= u64::from(u32::MAX)
    }

    /// Blocks so far.
    pub(super) fn blocks(&self) -> u64 {
        self.firsts.len() as u64
    }

    /// Cells so far.
    pub(super) fn cells(&self) -> u64 {
        self.cells
    }

    /// The smallest key.
    pub(super) fn smallest(&self) -> &[u8] {
        &self.smallest
    }

    /// The stored index of a table whose keys share a prefix of `shared` bytes.
    pub(super) fn finish(&self, shared: usize) -> Vec<u8> {
        let (starts, total) = levels(self.blocks());
        let mut numbers = vec![u64::MAX; total as usize];
        let mut step = 1;
        for &start in starts.iter().rev() {
            for (index, first) in self.firsts.iter().step_by(step).enumerate() {
                numbers[start as usize + index] = self.number(first, shared);
            }
            step *= NODE as usize;
        }
        let mut out: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        if self.blocks() != self.cells {
            out.extend(self.firsts.iter().flat_map(|first| first.cell.to_le_bytes()));
        }
        out
    }

    /// Eight bytes of a first key after the table's shared prefix.
    fn number(&self, first: &First, shared: usize) -> u64 {
        let mut bytes = [0; 16];
        let known = &self.smallest[shared..first.shared as usize];
        let known = &known[..known.len().min(8)];
        bytes[..known.len()].copy_from_slice(known);
        bytes[known.len()..known.len() + 8].copy_from_slice(&first.after.to_be_bytes());
        prefix8(&bytes)
    }
}

/// How to read an index.
#[derive(Debug)]
pub(super) struct Index {
    starts: Vec<u64>,
    numbers: u64,
    blocks: usize,
    one_cell_each: bool,
}

impl Index {
    /// The shape of the index of so many blocks in so many cells.
    pub(super) fn new(blocks: u64, cells: u64) -> Index {
        let (starts, numbers) = levels(blocks);
        Index { starts, numbers, blocks: blocks as usize, one_cell_each: blocks == cells }
    }

    /// Blocks.
    #[inline]
    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }

    /// How many blocks' first keys have a number below `target`.
    #[inline]
    pub(super) fn count_below(&self, bytes: &[u8], target: u64) -> Option<usize> {
        let mut position = 0usize;
        let mut below = 0;
        for &start in &self.starts {
            let node = start as usize + position * NODE as usize;
            let node = bytes.get(node * 8..)?.first_chunk::<{ NODE as usize * 8 }>()?;
            let (numbers, _) = node.as_chunks::<8>();
            let less = numbers.partition_point(|number| u64::from_le_bytes(*number) < target);
            below = position * NODE as usize + less;
            position = below.saturating_sub(1);
        }
        Some(below.min(self.blocks))
    }

    /// The number of a block's first key.
    #[inline]
    pub(super) fn number(&self, bytes: &[u8], block: usize) -> Option<u64> {
        let leaf = *self.starts.last()? as usize + block;
        Decoder::new(bytes.get(leaf * 8..)?).u64()
    }

    /// The cell in which a block starts.
    #[inline]
    pub(super) fn cell(&self, bytes: &[u8], block: usize) -> Option<usize> {
        if block >= self.blocks {
            return None;
        }
        if self.one_cell_each {
            return Some(block);
        }
        let at = self.numbers as usize * 8 + block * 4;
        Decoder::new(bytes.get(at..)?).u32().map(|cell| cell as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(keys: &[Vec<u8>], shared: usize) -> (Index, Vec<u8>) {
        let mut builder = IndexBuilder::default();
        for key in keys {
            assert!(builder.add(key, 1));
        }
        let bytes = builder.finish(shared);
        let blocks = builder.blocks();
        assert_eq!(bytes.len() as u64, size_bytes(blocks, builder.cells()));
        (Index::new(blocks, blocks), bytes)
    }

    #[test]
    fn counts_below_agree_with_a_linear_count_in_every_shape_of_tree() {
        for blocks in [0usize, 1, 2, 15, 16, 17, 255, 256, 257, 300, 4096, 4097, 5000] {
            let number = |i: usize| 3 * (i as u64) + 5;
            let keys: Vec<_> =
                (0..blocks).map(|i| [b"same", &number(i).to_be_bytes()[..]].concat()).collect();
            let (index, bytes) = built(&keys, 4);
            for target in (0..blocks as u64 * 3 + 12).chain([u64::MAX - 1, u64::MAX]) {
                let expected = (0..blocks).filter(|i| number(*i) < target).count();
                assert_eq!(index.count_below(&bytes, target), Some(expected), "{blocks} {target}");
            }
            for block in 0..blocks {
                assert_eq!(index.number(&bytes, block), Some(number(block)));
                assert_eq!(index.cell(&bytes, block), Some(block));
            }
            assert_eq!(index.cell(&bytes, blocks), None);
        }
    }

    #[test]
    fn numbers_are_the_bytes_after_the_shared_prefix_even_when_it_shrinks_late() {
        let keys: Vec<Vec<u8>> = [
            &b"k"[..],
            b"k\0",
            b"kabcdefgh",
            b"kabcdefghijklmnop",
            b"kabcdefghijklmnopqr",
            b"kb",
            b"l",
        ]
        .map(<[u8]>::to_vec)
        .to_vec();
        let (index, bytes) = built(&keys, 0);
        for (block, key) in keys.iter().enumerate() {
            assert_eq!(index.number(&bytes, block), Some(prefix8(key)), "{key:?}");
        }
        let (index, bytes) = built(&keys[..6], 1);
        for (block, key) in keys[..6].iter().enumerate() {
            assert_eq!(index.number(&bytes, block), Some(prefix8(&key[1..])), "{key:?}");
        }
    }

    #[test]
    fn blocks_of_several_cells_are_found_and_short_bytes_are_refused() {
        let mut builder = IndexBuilder::default();
        for (key, cells) in [(b"a", 1), (b"b", 7), (b"c", 1)] {
            assert!(builder.add(key, cells));
        }
        let bytes = builder.finish(0);
        let index = Index::new(3, builder.cells());
        let cells: Vec<_> = (0..4).map(|block| index.cell(&bytes, block)).collect();
        assert_eq!(cells, [Some(0), Some(1), Some(8), None]);
        for len in 0..bytes.len() {
            assert_eq!(index.cell(&bytes[..len], 2), None);
            if len < 128 {
                assert_eq!(index.count_below(&bytes[..len], 7), None);
            }
        }
        assert!(!builder.add(b"d", u64::from(u32::MAX)));
    }
}
