//! The parts of a table (layer L3): in a map of the file, or, when the file is read directly, all
//! but the blocks in memory; not even the locator where the memory budget has no room for it. Each
//! is checked against its checksum when it is touched for the first time after open: one bit each
//! says that it was.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::buffer::Bytes;
use crate::checksum::{checksum64, mix64};
use crate::coding::Decoder;
use crate::error::{Error, Result};
use crate::fs::Region;
use crate::planted::planted;
use crate::table::bits::Bits;
use crate::table::block::{Block, common_prefix};
use crate::table::elsewhere::Elsewhere;
use crate::table::format::{
    FOOTER_LEN, Footer, INDEX_SEED, Layout, MAX_GRID_SHIFT, PAGE, TAIL_SEED, page_seed,
};
use crate::table::locator::{LINE_LEN, Line};
use crate::table::packed::{self, Place};
use crate::types::Compression;

/// No region is so long.
const ELSEWHERE: usize = usize::MAX / 2;

/// An open table's bytes.
pub(super) struct Parts {
    region: Region,
    /// Offset in the file of the region's first byte; 0 when all of the file is mapped.
    region_start: usize,
    /// Offset of the locator in the region; beyond all offsets when it is not there.
    locator: usize,
    grid_shift: u32,
    layout: Layout,
    blocks: Bits,
    pages: Bits,
    index: Bits,
    shared: usize,
    /// Where blocks come from that are not read in place: then their addresses are not offsets in
    /// the map.
    elsewhere: Option<Elsewhere>,
    footer: Footer,
    path: PathBuf,
}

impl Parts {
    /// Checks the tail of a table. `region` has all of the file, or what follows the blocks, or
    /// what follows the locator; `elsewhere` is there unless all blocks are to be read in place.
    pub(super) fn open(
        region: Region,
        footer: Footer,
        layout: Layout,
        elsewhere: Option<Elsewhere>,
        path: &Path,
    ) -> Result<Parts> {
        let size = layout.footer + FOOTER_LEN;
        let region_start = size.saturating_sub(region.len());
        let mut parts = Parts {
            region,
            region_start,
            locator: layout.data_end.checked_sub(region_start).unwrap_or(ELSEWHERE),
            grid_shift: footer.grid_shift,
            blocks: Bits::new(layout.cells_end >> footer.grid_shift),
            pages: Bits::new((layout.locator_end - layout.data_end).div_ceil(PAGE)),
            index: Bits::new(1),
            layout,
            shared: 0,
            elsewhere,
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
        if checksum64(tail, mix64(self.footer.salt, TAIL_SEED)) != self.footer.tail_checksum
            && !planted("table: tail unchecked")
        {
            return Err(self.corrupt(start, "tail is damaged"));
        }
        Ok(())
    }

    /// What it takes on the heap.
    pub(super) fn heap_bytes(&self) -> u64 {
        let checked = self.blocks.heap_bytes() + self.pages.heap_bytes();
        let elsewhere = self.elsewhere.as_ref();
        let region = match elsewhere.and_then(Elsewhere::file) {
            Some(_) => self.region.len() as u64,
            None => 0,
        };
        checked + region + elsewhere.map_or(0, Elsewhere::heap_bytes)
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
        let start = self.layout.checksums_end - self.region_start;
        self.region.get(start, self.footer.smallest_len as usize).unwrap_or(&[])
    }

    /// The largest encoded key.
    pub(super) fn largest(&self) -> &[u8] {
        let len = self.footer.largest_len as usize;
        let end = self.layout.footer - self.region_start;
        self.region.get(end.saturating_sub(len), len).unwrap_or(&[])
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

    /// Where blocks come from that are not read in place; `None` where all are, and then an address
    /// is an offset in the map.
    #[inline(always)]
    pub(super) fn elsewhere(&self) -> Option<&Elsewhere> {
        self.elsewhere.as_ref()
    }

    /// The block that starts in a cell, checked. Only where blocks are read in place.
    #[inline(always)]
    pub(super) fn block_in_cell(&self, cell: usize) -> Result<Block<'_>> {
        if !self.blocks.get(cell) {
            self.verify_block(cell)?;
        }
        self.parse_block(cell).ok_or_else(|| self.damaged(cell))
    }

    /// As block_in_cell, but a long block of one entry is not checked.
    pub(super) fn part_in_cell(&self, cell: usize) -> Result<Block<'_>> {
        match self.parse_block(cell).filter(|block| block.bytes().len() > 1 << MAX_GRID_SHIFT) {
            Some(block) => Ok(block),
            None => self.block_in_cell(cell),
        }
    }

    #[inline(always)]
    fn parse_block(&self, cell: usize) -> Option<Block<'_>> {
        let start = cell.checked_mul(1 << self.grid_shift)?;
        let len = self.layout.data_end.checked_sub(start)?;
        Block::parse(self.region.get(start, len)?, self.grid_shift)
    }

    #[cold]
    fn verify_block(&self, cell: usize) -> Result<()> {
        self.region.will_need(cell << self.grid_shift, 1 << self.grid_shift);
        let block = self.parse_block(cell).filter(|block| {
            block.verify(self.grid_shift, self.block_seed(cell << self.grid_shift))
                || planted("table: block unchecked")
        });
        if block.is_none() {
            return Err(self.damaged(cell));
        }
        self.blocks.set(cell);
        Ok(())
    }

    /// What the checksum of the block at an offset of the file is seeded with.
    pub(super) fn block_seed(&self, offset: usize) -> u64 {
        page_seed(self.footer.salt, offset)
    }

    /// Where the block lies that starts in a cell of a table with compression.
    pub(super) fn place(&self, cell: usize) -> Result<Place> {
        let index = self.index_bytes()?;
        let words = index.len().saturating_sub(packed::size_bytes(self.footer.cells) as usize);
        let place = packed::place(index.get(words..).unwrap_or(&[]), cell, self.grid_shift);
        let fits = |place: &Place| {
            place.offset + place.len <= self.layout.data_end
                && place.raw_len <= self.layout.cells_end.saturating_sub(cell << self.grid_shift)
        };
        place.filter(fits).ok_or_else(|| self.corrupt(self.layout.locator_end, "index is damaged"))
    }

    /// Whether blocks lie off the grid.
    pub(super) fn is_packed(&self) -> bool {
        self.footer.compression != Compression::None
    }

    /// A line of the locator, checked.
    #[inline(always)]
    pub(super) fn line(&self, number: usize) -> Result<&Line> {
        let offset = number * LINE_LEN;
        if !self.pages.get(offset / PAGE) {
            self.verify_page(offset / PAGE)?;
        }
        let start = self.locator + offset;
        let line = self.region.get(start, LINE_LEN).and_then(|line| line.first_chunk());
        line.ok_or_else(|| self.corrupt(self.region_start + start, "locator is damaged"))
    }

    #[cold]
    fn verify_page(&self, page: usize) -> Result<()> {
        let start = self.layout.data_end + page * PAGE;
        let bytes = self.stored(start..self.layout.locator_end.min(start + PAGE))?;
        self.check_page(page, &bytes)?;
        self.pages.set(page);
        Ok(())
    }

    /// A line of the locator, checked, wherever that is.
    #[inline]
    pub(super) fn line_anywhere(&self, number: usize) -> Result<Line> {
        match self.elsewhere().filter(|_| self.locator == ELSEWHERE) {
            None => self.line(number).copied(),
            Some(from) => self.load_line(from, number),
        }
    }

    #[inline(never)]
    fn load_line(&self, from: &Elsewhere, number: usize) -> Result<Line> {
        let (page, offset) = (number * LINE_LEN / PAGE, number * LINE_LEN % PAGE);
        let bytes = match from.cached_page(page) {
            Some(bytes) => Bytes::Shared(bytes.part(0..bytes.len())),
            None => {
                let start = self.layout.data_end + page * PAGE;
                let bytes = self.stored(start..self.layout.locator_end.min(start + PAGE))?;
                self.check_page(page, &bytes)?;
                if let Bytes::Shared(bytes) = &bytes {
                    from.keep_page(page, bytes.buffer());
                }
                bytes
            }
        };
        let line = bytes.get(offset..).and_then(<[u8]>::first_chunk).copied();
        line.ok_or_else(|| self.corrupt(self.layout.data_end, "locator is damaged"))
    }

    fn check_page(&self, page: usize, bytes: &[u8]) -> Result<()> {
        let start = self.layout.data_end + page * PAGE;
        let stored = self.layout.index_end + page * 8;
        let stored = self.bytes(stored..self.layout.checksums_end)?;
        if Decoder::new(stored).u64() != Some(checksum64(bytes, page_seed(self.footer.salt, start)))
            && !planted("table: locator unchecked")
        {
            return Err(self.corrupt(start, "locator is damaged"));
        }
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
        if checksum64(bytes, seed) != self.footer.index_checksum
            && !planted("table: index unchecked")
        {
            return Err(self.corrupt(self.layout.locator_end, "index is damaged"));
        }
        self.verify_padding(bytes)?;
        self.index.set(0);
        Ok(())
    }

    /// Between compressed blocks and locator there are zeros, less than a page.
    fn verify_padding(&self, index: &[u8]) -> Result<()> {
        if !self.is_packed() {
            return Ok(());
        }
        let end = packed::end(index)
            .filter(|end| *end <= self.layout.data_end && self.layout.data_end - *end < PAGE);
        let end = end.ok_or_else(|| self.corrupt(self.layout.locator_end, "index is damaged"))?;
        if self.stored(end..self.layout.data_end)?.iter().any(|byte| *byte != 0) {
            return Err(self.corrupt(end, "there is something between blocks and locator"));
        }
        Ok(())
    }

    /// `len` bytes of the mapped file, for values found before.
    #[inline]
    pub(super) fn slice(&self, start: usize, len: usize) -> &[u8] {
        self.region.get(start, len).unwrap_or(&[])
    }

    /// Bytes of the file as they are stored: in the region, or read.
    pub(super) fn stored(&self, range: Range<usize>) -> Result<Bytes<'_>> {
        match self.elsewhere().and_then(|from| Some((from, from.file()?))) {
            Some((from, file)) if range.start < self.region_start => {
                let mut bytes = vec![0; range.len()].into_boxed_slice();
                file.read_at(&mut bytes, range.start as u64)?;
                Ok(Bytes::Shared(from.buffer(bytes).part(0..range.len())))
            }
            _ => self.bytes(range).map(Bytes::Mapped),
        }
    }

    #[inline]
    fn bytes(&self, range: Range<usize>) -> Result<&[u8]> {
        let start = range.start.wrapping_sub(self.region_start);
        let bytes = self.region.get(start, range.end.saturating_sub(range.start));
        bytes.ok_or_else(|| self.corrupt(range.start, "table is too short"))
    }

    /// Pages of the locator.
    pub(super) fn page_count(&self) -> usize {
        (self.layout.locator_end - self.layout.data_end).div_ceil(PAGE)
    }

    /// Checks a page of the locator, whether it was checked before or not.
    pub(super) fn recheck_page(&self, page: usize) -> Result<()> {
        self.verify_page(page)
    }

    /// Checks index and tail, whether they were checked before or not.
    pub(super) fn recheck_index(&self) -> Result<()> {
        let index = self.layout.locator_end..self.layout.index_end;
        self.verify_index(self.bytes(index)?)?;
        self.check_tail()
    }

    /// As block_in_cell, checking it again.
    pub(super) fn recheck_block(&self, cell: usize) -> Result<()> {
        self.verify_block(cell)
    }

    /// Starts to load the line of the locator with this number.
    #[inline(always)]
    pub(super) fn prefetch_line(&self, number: usize) {
        self.prefetch(self.locator + number * LINE_LEN);
    }

    /// Starts to load header, hints and slots of the block in a cell.
    #[inline(always)]
    pub(super) fn prefetch_block(&self, cell: usize) {
        for line in 0..4 {
            self.prefetch((cell << self.grid_shift) + 64 * line);
        }
    }

    /// Starts to load the cache line at an offset of the mapped file.
    #[inline(always)]
    pub(super) fn prefetch(&self, offset: usize) {
        self.region.prefetch(offset);
    }

    /// The error of a part that is not what was written.
    #[cold]
    pub(super) fn corrupt(&self, offset: usize, what: &str) -> Error {
        Error::corruption(&self.path, offset as u64, what)
    }

    /// The error of a block that is not what was written.
    #[cold]
    pub(super) fn damaged(&self, cell: usize) -> Error {
        let offset = match self.is_packed() {
            true => self.place(cell).map_or(self.layout.locator_end, |place| place.offset),
            false => cell << self.grid_shift,
        };
        self.corrupt(offset, "block is damaged")
    }
}
