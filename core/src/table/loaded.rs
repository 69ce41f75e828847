//! Blocks that are not read in place (layer L3): compressed ones, and those of files that are read
//! directly. They come from the cache, or from the file into it.
//!
//! Invariant: bytes in the cache were checked.

use std::borrow::Cow;

use crate::buffer::{Buffer, Bytes};
use crate::error::Result;
use crate::table::block::{Block, RawEntry, Shape};
use crate::table::elsewhere::Elsewhere;
use crate::table::packed::{Place, restore};
use crate::table::parts::Parts;
use crate::types::Compression;

/// A block with what keeps it in memory.
pub(super) struct Loaded<'a> {
    bytes: Bytes<'a>,
    shape: Shape,
}

impl<'a> Loaded<'a> {
    fn parse(bytes: Bytes<'a>, grid_shift: u32) -> Option<Loaded<'a>> {
        let block = Block::parse(&bytes, grid_shift)?;
        let whole = block.bytes().len() == bytes.len();
        let shape = block.shape();
        whole.then_some(Loaded { bytes, shape })
    }

    /// The block.
    #[inline]
    pub(super) fn block(&self) -> Block<'_> {
        Block::parsed(&self.bytes, self.shape)
    }

    /// The value of an entry of it, for longer than the block.
    pub(super) fn value(&self, entry: &RawEntry<'_>) -> Bytes<'a> {
        let range = entry.end - entry.value.len()..entry.end;
        match &self.bytes {
            Bytes::Mapped(bytes) => Bytes::Mapped(bytes.get(range).unwrap_or(&[])),
            Bytes::Shared(bytes) => Bytes::Shared(bytes.buffer().part(range)),
        }
    }
}

/// A block that is not read at its address.
pub(super) enum Held {
    Map { offset: usize },
    Buffer(Buffer),
}

impl Held {
    /// What is kept of the block in a cell.
    pub(super) fn of(loaded: Loaded<'_>, parts: &Parts, cell: usize) -> Result<Held> {
        match loaded.bytes {
            Bytes::Shared(bytes) => Ok(Held::Buffer(bytes.buffer().clone())),
            Bytes::Mapped(_) => Ok(Held::Map { offset: parts.offset_in_map(cell)? }),
        }
    }

    /// Its bytes, `len` of them.
    #[inline]
    pub(super) fn bytes<'a>(&'a self, parts: &'a Parts, len: usize) -> &'a [u8] {
        match self {
            Held::Map { offset } => parts.slice(*offset, len),
            Held::Buffer(buffer) => buffer,
        }
    }
}

impl Parts {
    /// The block that starts in a cell, checked, from wherever it is; if it was not in the cache
    /// it is put there when it is to be `kept`.
    #[inline]
    pub(super) fn load(&self, cell: usize, kept: bool) -> Result<Loaded<'_>> {
        match self.elsewhere() {
            None => {
                let block = self.block_in_cell(cell)?;
                Ok(Loaded { bytes: Bytes::Mapped(block.bytes()), shape: block.shape() })
            }
            Some(elsewhere) => self.load_elsewhere(elsewhere, cell, kept),
        }
    }

    /// Hands the block that starts in a cell, checked, from wherever it is, to `read`.
    #[inline(always)]
    pub(super) fn with_block<T>(
        &self,
        cell: usize,
        read: impl FnOnce(Block<'_>) -> Option<T>,
    ) -> Result<T> {
        let answer = match self.elsewhere() {
            None => read(self.block_in_cell(cell)?),
            Some(elsewhere) => read(self.load_elsewhere(elsewhere, cell, true)?.block()),
        };
        answer.ok_or_else(|| self.damaged(cell))
    }

    #[inline(never)]
    fn load_elsewhere(&self, from: &Elsewhere, cell: usize, kept: bool) -> Result<Loaded<'_>> {
        let plain = from.plain.get(cell);
        if !plain && let Some(buffer) = from.cached(cell) {
            let bytes = Bytes::Shared(buffer.part(0..buffer.len()));
            return Loaded::parse(bytes, self.grid_shift()).ok_or_else(|| self.damaged(cell));
        }
        let place = if self.is_packed() { self.place(cell)? } else { self.grid_place(cell)? };
        if place.compression == Compression::None && from.file().is_none() {
            let bytes = Bytes::Mapped(self.slice(place.offset, place.len));
            let loaded = Loaded::parse(bytes, self.grid_shift());
            let loaded = loaded.ok_or_else(|| self.damaged(cell))?;
            if !plain {
                self.check_plain(&loaded, cell, place.offset)?;
                from.plain.set(cell);
            }
            return Ok(loaded);
        }
        let buffer = self.restore(from, cell, &place)?;
        if kept {
            from.keep(cell, &buffer);
        }
        let bytes = Bytes::Shared(buffer.part(0..buffer.len()));
        Loaded::parse(bytes, self.grid_shift()).ok_or_else(|| self.damaged(cell))
    }

    /// Where the block in a cell is in the map.
    fn offset_in_map(&self, cell: usize) -> Result<usize> {
        match self.is_packed() {
            true => self.place(cell).map(|place| place.offset),
            false => Ok(cell << self.grid_shift()),
        }
    }

    /// Where a block lies that is on the grid: its header, which is not checked yet, says how long
    /// it is; it ends before the locator. Where every block fills one cell nothing is read for
    /// that.
    fn grid_place(&self, cell: usize) -> Result<Place> {
        let grid = 1 << self.grid_shift();
        let offset = cell << self.grid_shift();
        let left = self.layout().data_end.checked_sub(offset).filter(|left| *left >= grid);
        let left = left.ok_or_else(|| self.damaged(cell))?;
        if self.footer().blocks == self.footer().cells {
            let compression = Compression::None;
            return Ok(Place { offset, len: grid, raw_len: grid, compression });
        }
        let mut header = [0; 12];
        if let Some(file) = self.elsewhere().and_then(Elsewhere::file) {
            file.read_at(&mut header, offset as u64)?;
        }
        let [.., c0, c1, c2, c3] = header;
        let len = (u32::from_le_bytes([c0, c1, c2, c3]) as usize).checked_mul(grid);
        let len = len.filter(|len| (grid..=left).contains(len));
        let len = len.ok_or_else(|| self.damaged(cell))?;
        Ok(Place { offset, len, raw_len: len, compression: Compression::None })
    }

    /// A checked block in a buffer of its own.
    fn restore(&self, from: &Elsewhere, cell: usize, place: &Place) -> Result<Buffer> {
        let mut bytes = vec![0; place.raw_len].into_boxed_slice();
        if place.compression == Compression::None {
            match from.file() {
                Some(file) => file.read_at(&mut bytes, place.offset as u64)?,
                None => bytes.copy_from_slice(self.slice(place.offset, place.len)),
            }
            let block = Block::parse(&bytes, self.grid_shift());
            let seed = self.block_seed(place.offset);
            let right = block.is_some_and(|block| block.verify(self.grid_shift(), seed));
            return if right { Ok(from.buffer(bytes)) } else { Err(self.damaged(cell)) };
        }
        let stored = match from.file() {
            None => Cow::Borrowed(self.slice(place.offset, place.len)),
            Some(file) => {
                let mut stored = vec![0; place.len];
                file.read_at(&mut stored, place.offset as u64)?;
                Cow::Owned(stored)
            }
        };
        self.restore_into(&stored, cell, place, &mut bytes)?;
        Ok(from.buffer(bytes))
    }

    /// Fills `target`, zeros as many as the block is long, from the stored form.
    pub(super) fn restore_into(
        &self,
        stored: &[u8],
        cell: usize,
        place: &Place,
        target: &mut [u8],
    ) -> Result<()> {
        match restore(place.compression, stored, self.block_seed(place.offset), target) {
            true => Ok(()),
            false => Err(self.damaged(cell)),
        }
    }

    fn check_plain(&self, loaded: &Loaded<'_>, cell: usize, offset: usize) -> Result<()> {
        match loaded.block().verify(self.grid_shift(), self.block_seed(offset)) {
            true => Ok(()),
            false => Err(self.damaged(cell)),
        }
    }

    /// Checks the block in a cell again, whether it was checked before or not.
    pub(super) fn reload(&self, cell: usize) -> Result<()> {
        let Some(from) = self.elsewhere() else { return self.recheck_block(cell) };
        let place = if self.is_packed() { self.place(cell)? } else { self.grid_place(cell)? };
        self.restore(from, cell, &place).map(drop)
    }
}
