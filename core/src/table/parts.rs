//! The mapped parts of a table (layer L3), each checked against its checksum when it is touched for
//! the first time after open: one bit each says that it was.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::checksum::{checksum64, mix64};
use crate::coding::Decoder;
use crate::error::{Error, Result};
use crate::fs::Region;
use crate::table::block::{Block, common_prefix, prefetch};
use crate::table::format::{Footer, INDEX_SEED, Layout, PAGE, TAIL_SEED, page_seed};
use crate::table::locator::{LINE_LEN, Line};

/// One bit for every part that was checked. The bytes never change, so order does not matter.
struct Bits(Box<[AtomicU64]>);

impl Bits {
    fn new(len: usize) -> Bits {
        Bits((0..len.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    #[inline]
    fn get(&self, index: usize) -> bool {
        self.0
            .get(index / 64)
            .is_some_and(|word| word.load(Ordering::Relaxed) >> (index % 64) & 1 == 1)
    }

    fn set(&self, index: usize) {
        if let Some(word) = self.0.get(index / 64) {
            word.fetch_or(1 << (index % 64), Ordering::Relaxed);
        }
    }
}

/// A mapped table.
pub(super) struct Parts {
    region: Region,
    grid_shift: u32,
    layout: Layout,
    blocks: Bits,
    pages: Bits,
    index: Bits,
    shared: usize,
    footer: Footer,
    path: PathBuf,
}

impl Parts {
    /// Reads footer and tail of a mapped file.
    pub(super) fn open(region: Region, path: &Path, hash_seed: u64) -> Result<Parts> {
        let (footer, layout) = Footer::read(&region, path, hash_seed)?;
        let mut parts = Parts {
            region,
            grid_shift: footer.grid_shift,
            blocks: Bits::new(layout.data_end >> footer.grid_shift),
            pages: Bits::new((layout.locator_end - layout.data_end).div_ceil(PAGE)),
            index: Bits::new(1),
            layout,
            shared: 0,
            footer,
            path: path.to_path_buf(),
        };
        parts.check_tail()?;
        parts.shared = common_prefix(parts.smallest(), parts.largest());
        Ok(parts)
    }

    fn check_tail(&self) -> Result<()> {
        let (start, end) = (self.layout.index_end, self.layout.footer);
        let tail = self.bytes(start..end)?;
        if checksum64(tail, mix64(self.footer.salt, TAIL_SEED)) != self.footer.tail_checksum {
            return Err(self.corrupt(start, "tail is damaged"));
        }
        Ok(())
    }

    /// What the footer says.
    pub(super) fn footer(&self) -> &Footer {
        &self.footer
    }

    /// Where the parts lie.
    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The smallest encoded key.
    pub(super) fn smallest(&self) -> &[u8] {
        let start = self.layout.checksums_end;
        self.region.get(start, self.footer.smallest_len as usize).unwrap_or(&[])
    }

    /// The largest encoded key.
    pub(super) fn largest(&self) -> &[u8] {
        let len = self.footer.largest_len as usize;
        self.region.get(self.layout.footer.saturating_sub(len), len).unwrap_or(&[])
    }

    /// The prefix that all keys of the table share.
    #[inline]
    pub(super) fn shared_prefix(&self) -> &[u8] {
        self.smallest().get(..self.shared).unwrap_or(&[])
    }

    /// Log2 of the grid.
    #[inline]
    pub(super) fn grid_shift(&self) -> u32 {
        self.grid_shift
    }

    /// The block that starts in a cell, checked.
    #[inline(always)]
    pub(super) fn block_in_cell(&self, cell: usize) -> Result<Block<'_>> {
        if !self.blocks.get(cell) {
            self.verify_block(cell)?;
        }
        self.parse_block(cell).ok_or_else(|| self.damaged(cell))
    }

    #[inline(always)]
    fn parse_block(&self, cell: usize) -> Option<Block<'_>> {
        let start = cell.checked_mul(1 << self.grid_shift)?;
        let len = self.layout.data_end.checked_sub(start)?;
        Block::parse(self.region.get(start, len)?, self.grid_shift)
    }

    #[cold]
    fn verify_block(&self, cell: usize) -> Result<()> {
        let block = self
            .parse_block(cell)
            .filter(|block| block.verify(self.grid_shift, self.block_seed(cell)));
        if block.is_none() {
            return Err(self.damaged(cell));
        }
        self.blocks.set(cell);
        Ok(())
    }

    /// What the checksum of the block in a cell is seeded with.
    pub(super) fn block_seed(&self, cell: usize) -> u64 {
        page_seed(self.footer.salt, cell << self.grid_shift)
    }

    /// A line of the locator, checked.
    #[inline(always)]
    pub(super) fn line(&self, number: usize) -> Result<&Line> {
        let offset = number * LINE_LEN;
        if !self.pages.get(offset / PAGE) {
            self.verify_page(offset / PAGE)?;
        }
        let start = self.layout.data_end + offset;
        let line = self.region.get(start, LINE_LEN).and_then(|line| line.first_chunk());
        line.ok_or_else(|| self.corrupt(start, "locator is damaged"))
    }

    #[cold]
    fn verify_page(&self, page: usize) -> Result<()> {
        let start = self.layout.data_end + page * PAGE;
        let bytes = self.bytes(start..self.layout.locator_end.min(start + PAGE))?;
        let stored = self.layout.index_end + page * 8;
        let stored = self.bytes(stored..self.layout.checksums_end)?;
        if Decoder::new(stored).u64() != Some(checksum64(bytes, page_seed(self.footer.salt, start)))
        {
            return Err(self.corrupt(start, "locator is damaged"));
        }
        self.pages.set(page);
        Ok(())
    }

    /// The index, checked.
    #[inline]
    pub(super) fn index_bytes(&self) -> Result<&[u8]> {
        let bytes = self.bytes(self.layout.locator_end..self.layout.index_end)?;
        if !self.index.get(0) {
            self.verify_index(bytes)?;
        }
        Ok(bytes)
    }

    #[cold]
    fn verify_index(&self, bytes: &[u8]) -> Result<()> {
        let seed = mix64(self.footer.salt, INDEX_SEED);
        if checksum64(bytes, seed) != self.footer.index_checksum {
            return Err(self.corrupt(self.layout.locator_end, "index is damaged"));
        }
        self.index.set(0);
        Ok(())
    }

    /// `len` bytes of the blocks, for values found before.
    #[inline]
    pub(super) fn slice(&self, start: usize, len: usize) -> &[u8] {
        self.region.get(start, len).unwrap_or(&[])
    }

    #[inline]
    fn bytes(&self, range: Range<usize>) -> Result<&[u8]> {
        let bytes = self.region.get(range.start, range.end.saturating_sub(range.start));
        bytes.ok_or_else(|| self.corrupt(range.start, "table is too short"))
    }

    /// Checks every checksum, whether it was checked before or not.
    #[cfg(test)]
    pub(super) fn recheck(&self) -> Result<()> {
        let mut cell = 0;
        while cell << self.grid_shift < self.layout.data_end {
            self.verify_block(cell)?;
            cell += self.block_in_cell(cell)?.shape().len >> self.grid_shift;
        }
        for page in 0..(self.layout.locator_end - self.layout.data_end).div_ceil(PAGE) {
            self.verify_page(page)?;
        }
        let index = self.layout.locator_end..self.layout.index_end;
        self.verify_index(self.bytes(index)?)?;
        self.check_tail()
    }

    /// Starts to load the line of the locator with this number.
    #[inline(always)]
    pub(super) fn prefetch_line(&self, number: usize) {
        self.prefetch(self.layout.data_end + number * LINE_LEN);
    }

    /// Starts to load header, hints and slots of the block in a cell.
    #[inline(always)]
    pub(super) fn prefetch_block(&self, cell: usize) {
        for line in 0..4 {
            self.prefetch((cell << self.grid_shift) + 64 * line);
        }
    }

    /// Starts to load the cache line at an offset of the file.
    #[inline(always)]
    pub(super) fn prefetch(&self, offset: usize) {
        prefetch(self.region.address(offset));
    }

    /// The error of a part that is not what was written.
    #[cold]
    pub(super) fn corrupt(&self, offset: usize, what: &str) -> Error {
        Error::corruption(&self.path, offset as u64, what)
    }

    /// The error of a block that is not what was written.
    #[cold]
    pub(super) fn damaged(&self, cell: usize) -> Error {
        self.corrupt(cell << self.grid_shift, "block is damaged")
    }
}
