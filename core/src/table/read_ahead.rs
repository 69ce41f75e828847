//! Reading blocks in large pieces (layer L3), for whoever reads all of a table: neither the blocks
//! in the map nor those in the cache are touched, and every block is checked whenever it is read.

use std::sync::Arc;

use crate::buffer::Charge;
use crate::error::Result;
use crate::fs::File;
use crate::table::block::{Block, Shape};
use crate::table::packed::Place;
use crate::table::parts::Parts;
use crate::types::Compression;

/// Bytes read at once, unless told otherwise, and at most; of a longer block its own.
const READ_AHEAD: usize = 512 << 10;

/// A piece of the file, and the current block.
pub(super) struct ReadAhead {
    file: Arc<dyn File>,
    /// Bytes read at once.
    most: usize,
    bytes: Vec<u8>,
    /// Offset in the file of the first byte.
    start: usize,
    current: Current,
    /// A decompressed block.
    restored: Vec<u8>,
    /// Counts both, where a reader holds them.
    charge: Option<Charge>,
}

/// Where the current block is.
enum Current {
    /// In the piece, from this offset of the file.
    Piece(usize),
    /// In `restored`.
    Restored,
}

impl ReadAhead {
    /// Reads from `file`, in which the blocks of a table are; what it holds is charged, if to
    /// anybody.
    pub(super) fn new(file: Arc<dyn File>, charge: Option<Charge>) -> ReadAhead {
        ReadAhead {
            file,
            most: READ_AHEAD,
            bytes: Vec::new(),
            start: 0,
            current: Current::Restored,
            restored: Vec::new(),
            charge,
        }
    }

    fn count(&mut self) {
        if let Some(charge) = &mut self.charge {
            charge.set((self.bytes.capacity() + self.restored.capacity()) as u64);
        }
    }

    /// Reads so many bytes at once; a cell of the grid at least.
    pub(super) fn set_most(&mut self, parts: &Parts, bytes: usize) {
        self.most = bytes.clamp(1 << parts.grid_shift(), READ_AHEAD);
    }

    /// Bytes that it holds.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.capacity() + self.restored.capacity()
    }

    /// The current block's bytes, `len` of them.
    #[inline]
    pub(super) fn block(&self, len: usize) -> &[u8] {
        match &self.current {
            Current::Piece(offset) => self.at(*offset, len),
            Current::Restored => &self.restored,
        }
    }

    /// Makes the block in a cell the current one.
    pub(super) fn load<'a>(&'a mut self, parts: &'a Parts, cell: usize) -> Result<Block<'a>> {
        if parts.is_packed() { self.load_packed(parts, cell) } else { self.load_plain(parts, cell) }
    }

    fn load_plain<'a>(&'a mut self, parts: &'a Parts, cell: usize) -> Result<Block<'a>> {
        let shift = parts.grid_shift();
        let (start, grid) = (cell << shift, 1 << shift);
        self.reach(parts, start, grid)?;
        // Not checked yet.
        let left = parts.layout().data_end.saturating_sub(start);
        let shape = Shape::of_header(self.at(start, grid), shift);
        let shape = shape.filter(|shape| shape.len <= left);
        let len = shape.ok_or_else(|| parts.damaged(cell))?.len;
        self.reach(parts, start, len)?;
        self.current = Current::Piece(start);
        self.check(parts, cell, start, len)
    }

    fn load_packed<'a>(&'a mut self, parts: &'a Parts, cell: usize) -> Result<Block<'a>> {
        let place = parts.place(cell)?;
        let Place { offset, len, raw_len, compression } = place;
        self.reach(parts, offset, len)?;
        if compression == Compression::None {
            self.current = Current::Piece(offset);
            return self.check(parts, cell, offset, len);
        }
        self.current = Current::Restored;
        let mut restored = std::mem::take(&mut self.restored);
        restored.clear();
        fit(&mut restored, raw_len, self.most);
        parts.restore_into(self.at(offset, len), cell, &place, &mut restored)?;
        self.restored = restored;
        self.count();
        let block = Block::parse(&self.restored, parts.grid_shift());
        let block = block.filter(|block| block.bytes().len() == raw_len);
        block.ok_or_else(|| parts.damaged(cell))
    }

    /// Checks the block in the piece at `offset`.
    fn check<'a>(
        &'a self,
        parts: &'a Parts,
        cell: usize,
        offset: usize,
        len: usize,
    ) -> Result<Block<'a>> {
        let (shift, seed) = (parts.grid_shift(), parts.block_seed(offset));
        let block = Block::parse(self.at(offset, len), shift);
        let right = |block: &Block<'_>| block.bytes().len() == len && block.verify(shift, seed);
        block.filter(right).ok_or_else(|| parts.damaged(cell))
    }

    /// Reads ahead unless `len` bytes from `start` are there.
    fn reach(&mut self, parts: &Parts, start: usize, len: usize) -> Result<()> {
        if self.at(start, len).is_empty() {
            // Going backwards, the block is the last of what is read.
            let back = start < self.start;
            let from = if back { (start + len).saturating_sub(self.most) } else { start };
            self.fill(parts, from.min(start), len)?;
        }
        Ok(())
    }

    fn at(&self, start: usize, len: usize) -> &[u8] {
        let from = start.wrapping_sub(self.start);
        self.bytes.get(from..from.wrapping_add(len)).unwrap_or(&[])
    }

    /// Reads ahead from an offset, `least` bytes if there are so many.
    fn fill(&mut self, parts: &Parts, from: usize, least: usize) -> Result<()> {
        let len = parts.layout().data_end.saturating_sub(from).min(self.most.max(least));
        fit(&mut self.bytes, len, self.most);
        self.start = from;
        self.count();
        self.file.read_at(&mut self.bytes, from as u64).inspect_err(|_| self.bytes.clear())
    }
}

/// Makes a buffer so long; it keeps no room of an earlier block for more than `most`.
fn fit(bytes: &mut Vec<u8>, len: usize, most: usize) {
    if bytes.capacity() > len.max(most) {
        *bytes = Vec::new();
    }
    bytes.reserve_exact(len.saturating_sub(bytes.len()));
    bytes.resize(len, 0);
}
