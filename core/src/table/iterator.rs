//! A cursor over a table (layer L3): keys ascending, versions of a key newest first, both ways.
//!
//! The key is assembled in a buffer that is used again: the block's shared prefix once per block,
//! then each entry's suffix.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fs::File;
use crate::table::block::{Block, Shape};
use crate::table::reader::Table;
use crate::table::search::Place;
use crate::types::{Kind, SeqNo};

/// Bytes read at once in buffered mode, unless told otherwise: at most, and at least.
const READ_AHEAD: usize = 512 << 10;
const LEAST_READ_AHEAD: usize = 128 << 10;

/// How a cursor reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IterMode {
    /// Through the map; every block is checked when it is touched first.
    Mapped,
    /// With large reads into a buffer of its own; every block is checked whenever it is read, so
    /// that damage is not copied into a new table.
    Buffered,
}

/// Where the current block's bytes are.
enum Source {
    Mapped,
    Buffered(Buffer),
}

struct Buffer {
    file: Arc<dyn File>,
    bytes: Vec<u8>,
    /// Offset in the file of the first byte.
    start: usize,
    read_ahead: usize,
    /// The current block is larger than the buffer and read through the map.
    bypass: bool,
}

/// Keys up to this length need no second allocation.
const KEY_CAPACITY: usize = 64;

/// A cursor. Before the first seek, after an error, and beyond either end it is not valid; then
/// `next` and `prev` do nothing.
pub(crate) struct TableIter {
    table: Arc<Table>,
    source: Source,
    place: Place,
    shape: Shape,
    block_start: usize,
    valid: bool,
    key: Vec<u8>,
    seqno: SeqNo,
    kind: Kind,
    older: bool,
    value_start: usize,
    value_len: usize,
}

impl TableIter {
    /// A cursor that keeps the table alive.
    pub(crate) fn new(table: Arc<Table>, mode: IterMode) -> Result<TableIter> {
        let source = match mode {
            IterMode::Mapped => Source::Mapped,
            IterMode::Buffered => Source::Buffered(Buffer {
                file: table.open_file()?,
                bytes: Vec::new(),
                start: 0,
                read_ahead: READ_AHEAD,
                bypass: false,
            }),
        };
        Ok(TableIter {
            table,
            source,
            place: Place { block: usize::MAX, entry: 0 },
            shape: Shape::default(),
            block_start: 0,
            valid: false,
            key: Vec::with_capacity(KEY_CAPACITY),
            seqno: 0,
            kind: Kind::Put,
            older: false,
            value_start: 0,
            value_len: 0,
        })
    }

    /// True on an entry.
    #[inline]
    pub(crate) fn valid(&self) -> bool {
        self.valid
    }

    /// The entry's encoded key.
    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// The entry's sequence number.
    #[inline]
    pub(crate) fn seqno(&self) -> SeqNo {
        self.seqno
    }

    /// What the entry says about its key.
    #[inline]
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// True when the entry before this one is a newer version of the same key.
    #[inline]
    pub(crate) fn is_older_version(&self) -> bool {
        self.older
    }

    /// The entry's value, or encoded pointer, or nothing.
    #[inline]
    pub(crate) fn value(&self) -> &[u8] {
        let start = self.block_start + self.value_start;
        match &self.source {
            Source::Buffered(buffer) if !buffer.bypass => {
                let start = start.wrapping_sub(buffer.start);
                let end = start.wrapping_add(self.value_len);
                buffer.bytes.get(start..end).unwrap_or(&[])
            }
            _ => self.table.parts.slice(start, self.value_len),
        }
    }

    /// Moves to the first entry.
    pub(crate) fn seek_to_first(&mut self) -> Result<()> {
        self.go(Place { block: 0, entry: 0 })
    }

    /// Moves to the last entry, the oldest version of the largest key.
    pub(crate) fn seek_to_last(&mut self) -> Result<()> {
        self.go_before(Place { block: self.table.blocks(), entry: 0 })
    }

    /// Moves to the newest version of the first key at or after `key`.
    pub(crate) fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.valid = false;
        let place = self.table.lower_bound(key, SeqNo::MAX)?;
        self.go(place)
    }

    /// Moves to the newest version of the last key before `key`.
    pub(crate) fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        self.valid = false;
        let place = self.table.lower_bound(key, SeqNo::MAX)?;
        self.go_before(place)?;
        if self.valid && self.older {
            let key = self.key.clone();
            return self.seek(&key);
        }
        Ok(())
    }

    /// Moves to the next entry.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<()> {
        if !self.valid {
            return Ok(());
        }
        if self.place.entry + 1 < self.shape.count {
            self.place.entry += 1;
            return self.load_entry();
        }
        self.go(Place { block: self.place.block + 1, entry: 0 })
    }

    /// Moves to the entry before.
    #[inline]
    pub(crate) fn prev(&mut self) -> Result<()> {
        if !self.valid {
            return Ok(());
        }
        self.go_before(self.place)
    }

    /// Moves to a place; beyond the last block there is no entry.
    fn go(&mut self, place: Place) -> Result<()> {
        self.valid = false;
        if place.block >= self.table.blocks() {
            return Ok(());
        }
        self.load_block(place.block)?;
        self.place.entry = place.entry;
        self.load_entry()
    }

    /// Moves to the entry before a place.
    fn go_before(&mut self, place: Place) -> Result<()> {
        self.valid = false;
        if place.entry > 0 {
            self.load_block(place.block)?;
            self.place.entry = place.entry - 1;
            return self.load_entry();
        }
        if place.block == 0 || place.block > self.table.blocks() {
            return Ok(());
        }
        self.load_block(place.block - 1)?;
        self.place.entry = self.shape.count - 1;
        self.load_entry()
    }

    /// Makes a block the current one, unless it is already.
    fn load_block(&mut self, number: usize) -> Result<()> {
        if self.place.block == number {
            return Ok(());
        }
        self.place.block = usize::MAX;
        let cell = self.table.cell_of(number)?;
        let start = cell << self.table.parts.grid_shift();
        let block = match &mut self.source {
            Source::Mapped => self.table.parts.block_in_cell(cell)?,
            Source::Buffered(buffer) => buffer.block(&self.table, cell)?,
        };
        self.key.clear();
        self.key.extend_from_slice(block.prefix());
        self.shape = block.shape();
        self.block_start = start;
        self.place.block = number;
        Ok(())
    }

    /// Takes the current entry apart.
    #[inline]
    fn load_entry(&mut self) -> Result<()> {
        let bytes = match &self.source {
            Source::Buffered(buffer) if !buffer.bypass => {
                buffer.at(self.block_start, self.shape.len)
            }
            _ => self.table.parts.slice(self.block_start, self.shape.len),
        };
        let Some(entry) = self.shape.entry(bytes, self.place.entry) else {
            return Err(self.damaged());
        };
        // Ten steps after a seek take 380 instead of 530 ns (cargo bench --bench table 2000000).
        self.table.parts.prefetch(self.block_start + entry.end + 256);
        self.table.parts.prefetch(self.block_start + entry.end + 320);
        self.key.truncate(self.shape.prefix_len);
        self.key.extend_from_slice(entry.suffix);
        self.seqno = self.table.seqno_base.wrapping_add(entry.delta);
        self.kind = entry.kind;
        self.older = entry.older;
        self.value_len = entry.value.len();
        self.value_start = entry.end - entry.value.len();
        self.valid = true;
        Ok(())
    }

    /// The error of an entry that contradicts another part of its table.
    #[cfg(test)]
    #[cold]
    pub(super) fn wrong(&self, what: &str) -> Error {
        self.table.parts.corrupt(self.block_start, what)
    }

    #[cold]
    fn damaged(&mut self) -> Error {
        self.valid = false;
        self.place.block = usize::MAX;
        self.table.parts.damaged(self.block_start >> self.table.parts.grid_shift())
    }
}

impl TableIter {
    /// Reads so many bytes at once in buffered mode; some blocks of the largest grid at least.
    pub(crate) fn set_read_ahead(&mut self, bytes: usize) {
        if let Source::Buffered(buffer) = &mut self.source {
            buffer.read_ahead = bytes.clamp(LEAST_READ_AHEAD, READ_AHEAD);
        }
    }
}

impl Buffer {
    fn at(&self, start: usize, len: usize) -> &[u8] {
        let from = start.wrapping_sub(self.start);
        self.bytes.get(from..from.wrapping_add(len)).unwrap_or(&[])
    }

    /// The block in a cell, read and checked.
    fn block<'a>(&'a mut self, table: &'a Table, cell: usize) -> Result<Block<'a>> {
        let shift = table.parts.grid_shift();
        let (start, grid) = (cell << shift, 1 << shift);
        self.bypass = false;
        if self.at(start, grid).is_empty() {
            // Going backwards, the block is the last of what is read.
            let back = start < self.start;
            let from = if back { (start + grid).saturating_sub(self.read_ahead) } else { start };
            self.fill(table, from)?;
        }
        if Block::parse(self.rest(start), shift).is_none() && start != self.start {
            self.fill(table, start)?;
        }
        if Block::parse(self.rest(start), shift).is_none() {
            self.bypass = true;
            return table.parts.block_in_cell(cell);
        }
        Block::parse(self.rest(start), shift)
            .filter(|block| block.verify(shift, table.parts.block_seed(cell)))
            .ok_or_else(|| table.parts.damaged(cell))
    }

    fn rest(&self, start: usize) -> &[u8] {
        self.bytes.get(start.wrapping_sub(self.start)..).unwrap_or(&[])
    }

    /// Reads ahead from an offset.
    fn fill(&mut self, table: &Table, from: usize) -> Result<()> {
        let len = table.parts.layout().data_end.saturating_sub(from).min(self.read_ahead);
        self.bytes.resize(len, 0);
        self.start = from;
        self.file.read_at(&mut self.bytes, from as u64).inspect_err(|_| self.bytes.clear())
    }
}
