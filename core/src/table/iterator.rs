//! A cursor over a table (layer L3): keys ascending, versions of a key newest first, both ways.
//!
//! The key is assembled in a buffer that is used again: the block's shared prefix once per block,
//! then each entry's suffix.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::table::block::Shape;
use crate::table::loaded::Held;
use crate::table::read_ahead::ReadAhead;
use crate::table::reader::Table;
use crate::table::search::{Place, Sought};
use crate::types::{Kind, SeqNo};

/// How a cursor reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IterMode {
    /// Through the map, or the cache where blocks are not read in place; every block is checked
    /// when it is touched first.
    Mapped,
    /// With large reads into a buffer of its own; every block is checked whenever it is read, so
    /// that damage is not copied into a new table.
    Buffered,
}

/// Where the current block's bytes are.
enum Source {
    /// In the map, at their address.
    Mapped,
    /// In the map, or in a buffer of their own.
    Loaded(Held),
    Buffered(Box<ReadAhead>),
}

impl Source {
    /// The current block, which has `start` as its address and `len` bytes.
    #[inline(always)]
    fn block<'a>(&'a self, table: &'a Table, start: usize, len: usize) -> &'a [u8] {
        match self {
            Source::Mapped => table.parts.slice(start, len),
            other => other.elsewhere(table, len),
        }
    }

    #[inline(never)]
    fn elsewhere<'a>(&'a self, table: &'a Table, len: usize) -> &'a [u8] {
        match self {
            Source::Mapped => &[],
            Source::Loaded(held) => held.bytes(&table.parts, len),
            Source::Buffered(ahead) => ahead.block(len),
        }
    }
}

/// So many blocks after a seek are put into the cache: short scans find them again, and long ones
/// do not push everything else out.
const KEPT_BLOCKS: u32 = 4;

/// Keys up to this length need no second allocation.
const KEY_CAPACITY: usize = 64;

/// A cursor. Before the first seek, after an error, and beyond either end it is not valid; then
/// `next` and `prev` do nothing.
pub(crate) struct TableIter {
    table: Arc<Table>,
    mode: IterMode,
    source: Source,
    place: Place,
    shape: Shape,
    block_start: usize,
    valid: bool,
    /// Where the next seek goes, if that is known.
    sought: Option<Sought>,
    /// Blocks since the last seek.
    blocks: u32,
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
            IterMode::Mapped if table.parts.elsewhere().is_none() => Source::Mapped,
            IterMode::Mapped => Source::Loaded(Held::Map { offset: 0 }),
            IterMode::Buffered => {
                Source::Buffered(Box::new(ReadAhead::new(table.open_file()?, None)))
            }
        };
        Ok(TableIter {
            table,
            mode,
            source,
            place: Place::NOWHERE,
            shape: Shape::default(),
            block_start: 0,
            valid: false,
            sought: None,
            blocks: 0,
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

    /// An error about the entry's value, with the place of the value.
    #[cold]
    pub(crate) fn blame(&self, error: Error) -> Error {
        self.table.blame(error, self.value())
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
        if let Source::Mapped = &self.source {
            return self.table.parts.slice(self.block_start + self.value_start, self.value_len);
        }
        let end = self.value_start + self.value_len;
        let block = self.source.block(&self.table, self.block_start, self.shape.len);
        block.get(self.value_start..end).unwrap_or(&[])
    }

    /// Shows the encoded pointers of the next `count` entries in a direction, as far as they are in
    /// the current block and of newest versions, but for those before `shown`, which is where the
    /// last call ended; where that was elsewhere, the current one, too. Only on an entry.
    pub(crate) fn pointers_ahead(
        &self,
        forward: bool,
        count: usize,
        shown: &mut Place,
        mut show: impl FnMut(&[u8]),
    ) {
        let Place { block, entry: at } = self.place;
        let last = self.shape.count.saturating_sub(1);
        let to = if forward { (at + count).min(last) } else { at.saturating_sub(count) };
        let within = shown.block == block && (at.min(to)..=at.max(to)).contains(&shown.entry);
        let entries = match (forward, within) {
            (true, false) => at..to + 1,
            (true, true) => shown.entry + 1..to + 1,
            (false, false) => to..at + 1,
            (false, true) => to..shown.entry,
        };
        *shown = Place { block, entry: to };
        let bytes = self.source.block(&self.table, self.block_start, self.shape.len);
        for entry in entries.filter_map(|entry| self.shape.entry(bytes, entry)) {
            if entry.kind == Kind::Pointer && !entry.older {
                show(entry.value);
            }
        }
    }

    /// How many entries lie between the current one and `from`, itself included, in one block.
    pub(crate) fn steps_from(&self, from: Place) -> Option<usize> {
        (from.block == self.place.block).then(|| from.entry.abs_diff(self.place.entry))
    }

    /// Moves to the first entry.
    pub(crate) fn seek_to_first(&mut self) -> Result<()> {
        self.blocks = 0;
        self.go(Place { block: 0, entry: 0 })
    }

    /// Moves to the last entry, the oldest version of the largest key.
    pub(crate) fn seek_to_last(&mut self) -> Result<()> {
        self.blocks = 0;
        self.go_before(Place { block: self.table.blocks(), entry: 0 })
    }

    /// Asks for the first lines that a seek to `key`, or before it, reads; it has to come next.
    pub(crate) fn prepare(&mut self, key: &[u8]) {
        self.sought = self.table.sought(key).ok();
        if let Some(sought) = &self.sought {
            self.table.prefetch_sought(sought);
        }
    }

    fn lower_bound(&mut self, key: &[u8]) -> Result<Place> {
        let sought = match self.sought.take() {
            Some(sought) => sought,
            None => self.table.sought(key)?,
        };
        debug_assert_eq!(self.table.sought(key).ok().as_ref(), Some(&sought), "another key");
        self.table.lower_bound(&sought, key, SeqNo::MAX)
    }

    /// Moves to the newest version of the first key at or after `key`.
    pub(crate) fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.valid = false;
        self.blocks = 0;
        let place = self.lower_bound(key)?;
        self.go(place)
    }

    /// Moves to the newest version of the last key before `key`.
    pub(crate) fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        self.valid = false;
        self.blocks = 0;
        let place = self.lower_bound(key)?;
        self.go_before(place)?;
        if self.valid && self.older {
            let key = self.key.clone();
            return self.seek_newest(&key);
        }
        Ok(())
    }

    /// Where the cursor is.
    #[inline]
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// From the oldest version of `key` to its newest. Corruption where that lies behind it, so
    /// that whoever goes back ends, whatever the table says.
    pub(crate) fn seek_newest(&mut self, key: &[u8]) -> Result<()> {
        let from = self.place;
        self.seek(key)?;
        self.check_back(!self.valid || from < self.place)
    }

    /// As seek_before, from the newest version of `key` at `from`. Corruption where what is before
    /// it in order is not before it in place.
    pub(crate) fn seek_back(&mut self, key: &[u8], from: Place) -> Result<()> {
        self.seek_before(key)?;
        self.check_back(self.valid && from <= self.place)
    }

    fn check_back(&mut self, wrong: bool) -> Result<()> {
        if wrong {
            self.valid = false;
            return Err(self.wrong("keys are out of order"));
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
            return self.load_entry(true);
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
        self.load_entry(true)
    }

    /// Moves to the entry before a place.
    fn go_before(&mut self, place: Place) -> Result<()> {
        self.valid = false;
        if place.entry > 0 {
            self.load_block(place.block)?;
            self.place.entry = place.entry - 1;
            return self.load_entry(false);
        }
        if place.block == 0 || place.block > self.table.blocks() {
            return Ok(());
        }
        self.load_block(place.block - 1)?;
        if let Some(before) = self.place.block.checked_sub(1) {
            self.table.prefetch_block(before);
        }
        self.place.entry = self.shape.count - 1;
        self.load_entry(false)
    }

    /// Makes a block the current one, unless it is already.
    fn load_block(&mut self, number: usize) -> Result<()> {
        if self.place.block == number {
            return Ok(());
        }
        self.place.block = usize::MAX;
        self.choose_source()?;
        let cell = self.table.cell_of(number)?;
        let parts = &self.table.parts;
        self.key.clear();
        match &mut self.source {
            Source::Mapped => {
                let block = parts.block_in_cell(cell)?;
                self.key.extend_from_slice(block.prefix());
                self.shape = block.shape();
            }
            Source::Loaded(held) => {
                let loaded = parts.load(cell, self.blocks < KEPT_BLOCKS)?;
                self.key.extend_from_slice(loaded.block().prefix());
                self.shape = loaded.block().shape();
                *held = Held::of(loaded, parts, cell)?;
            }
            Source::Buffered(ahead) => {
                let block = ahead.load(parts, cell)?;
                self.key.extend_from_slice(block.prefix());
                self.shape = block.shape();
            }
        }
        self.block_start = cell << parts.grid_shift();
        self.place.block = number;
        self.blocks += 1;
        Ok(())
    }

    /// Where blocks are read one by one from a device, a cursor that goes on and on reads ahead.
    #[inline]
    fn choose_source(&mut self) -> Result<()> {
        if self.mode == IterMode::Mapped && !matches!(self.source, Source::Mapped) {
            let far = self.blocks >= KEPT_BLOCKS && self.table.direct_file().is_some();
            if far != matches!(self.source, Source::Buffered(_)) {
                self.source = match self.table.parts.elsewhere().filter(|_| far) {
                    Some(elsewhere) => {
                        let charge = Some(elsewhere.cache().charge_reader(0));
                        Source::Buffered(Box::new(ReadAhead::new(self.table.open_file()?, charge)))
                    }
                    None => Source::Loaded(Held::Map { offset: 0 }),
                };
            }
        }
        Ok(())
    }

    /// Takes the current entry apart and asks for lines farther on in a direction.
    #[inline]
    fn load_entry(&mut self, forward: bool) -> Result<()> {
        let bytes = self.source.block(&self.table, self.block_start, self.shape.len);
        let Some(entry) = self.shape.entry(bytes, self.place.entry) else {
            return Err(self.damaged());
        };
        // Ten steps on after a seek take 380 instead of 530 ns (cargo bench --bench table 2000000).
        let here = self.block_start + entry.end;
        let ahead = if forward { here + 256 } else { here.wrapping_sub(320 + entry.value.len()) };
        self.table.parts.prefetch(ahead);
        self.table.parts.prefetch(ahead.wrapping_add(64));
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
    #[cold]
    pub(crate) fn wrong(&self, what: &str) -> Error {
        self.table.parts.corrupt(self.block_start.min(self.table.parts.layout().data_end), what)
    }

    #[cold]
    fn damaged(&mut self) -> Error {
        self.valid = false;
        self.place.block = usize::MAX;
        self.table.parts.damaged(self.block_start >> self.table.parts.grid_shift())
    }

    /// Reads so many bytes at once in buffered mode.
    pub(crate) fn set_read_ahead(&mut self, bytes: usize) {
        if let Source::Buffered(ahead) = &mut self.source {
            ahead.set_most(&self.table.parts, bytes);
        }
    }

    /// Bytes that are read ahead.
    #[cfg(test)]
    pub(crate) fn held_bytes(&self) -> usize {
        match &self.source {
            Source::Buffered(ahead) => ahead.held_bytes(),
            _ => 0,
        }
    }
}
