//! Finding places in a table by key (layer L3): through the index, then within a block.

use std::cmp::Ordering;

use crate::error::Result;
use crate::table::block::{Block, prefix8};
use crate::table::reader::{Table, TableEntry};
use crate::types::SeqNo;

/// A place in a table: a block's number and an entry's index in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(super) block: usize,
    pub(super) entry: usize,
}

impl Place {
    /// Before everything but the first entry.
    pub(crate) const START: Place = Place { block: 0, entry: 0 };
    /// In no block.
    pub(crate) const NOWHERE: Place = Place { block: usize::MAX, entry: 0 };
}

/// What the numbers in a table's index say about a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sought {
    /// So many blocks start with a lower number.
    below: usize,
    /// The key's number, unless the prefix that all keys of the table share decides.
    number: Option<u64>,
}

impl Table {
    /// As get, through the index instead of the locator.
    pub(super) fn search(&self, key: &[u8], max_seqno: SeqNo) -> Result<Option<TableEntry<'_>>> {
        let Some(delta) = max_seqno.checked_sub(self.seqno_base) else { return Ok(None) };
        let place = self.lower_bound(&self.sought(key)?, key, delta)?;
        if place.block >= self.index.blocks() {
            return Ok(None);
        }
        let cell = self.cell_of(place.block)?;
        let loaded = self.parts.load(cell, true)?;
        let block = loaded.block();
        let entry = block.entry(place.entry).ok_or_else(|| self.parts.damaged(cell))?;
        let seqno = self.seqno_base.wrapping_add(entry.delta);
        let found = || TableEntry { seqno, kind: entry.kind, value: loaded.value(&entry) };
        Ok(block.has_key(&entry, key).then(found))
    }

    /// The place of the first entry at or after (key, base + `delta`). The entry is below its
    /// block's count; the block may be the one after the last.
    pub(super) fn lower_bound(&self, sought: &Sought, key: &[u8], delta: SeqNo) -> Result<Place> {
        let before = self.blocks_before(sought, key, delta)?;
        if before == 0 {
            return Ok(Place { block: 0, entry: 0 });
        }
        let cell = self.cell_of(before - 1)?;
        self.parts.prefetch_block(cell);
        let find = |block: Block<'_>| Some((block.lower_bound(key, delta)?, block.count()));
        let (entry, count) = self.parts.with_block(cell, find)?;
        if entry < count {
            Ok(Place { block: before - 1, entry })
        } else {
            Ok(Place { block: before, entry: 0 })
        }
    }

    /// Asks for the first lines that a seek reads.
    pub(super) fn prefetch_sought(&self, sought: &Sought) {
        if let Some(block) = sought.below.checked_sub(1) {
            self.prefetch_block(block);
        }
        if self.has_number(sought) {
            self.prefetch_block(sought.below);
        }
    }

    /// Whether blocks start with a key that has the same number.
    fn has_number(&self, sought: &Sought) -> bool {
        let stored = |bytes| self.index.number(bytes, sought.below);
        sought.number.is_some()
            && sought.below < self.index.blocks()
            && self.parts.index_bytes().ok().and_then(stored) == sought.number
    }

    /// Starts to load header, hints and slots of a block.
    pub(super) fn prefetch_block(&self, block: usize) {
        if let Ok(cell) = self.cell_of(block) {
            self.parts.prefetch_block(cell);
        }
    }

    /// How many blocks start before (key, base + `delta`).
    fn blocks_before(&self, sought: &Sought, key: &[u8], delta: SeqNo) -> Result<usize> {
        let below = sought.below;
        let Some(target) = sought.number.filter(|_| self.has_number(sought)) else {
            return Ok(below);
        };
        // Several first keys have the same eight bytes: look at the keys themselves.
        let upto = match target.checked_add(1) {
            Some(next) => self.count_below(self.parts.index_bytes()?, next)?,
            None => self.index.blocks(),
        };
        if upto.saturating_sub(below) <= 2 {
            // One of them, or the one before, is what the key is in.
            (below.saturating_sub(1)..upto).for_each(|block| self.prefetch_block(block));
        }
        let (mut low, mut high) = (below, upto);
        while low < high {
            let middle = low + (high - low) / 2;
            let cell = self.cell_of(middle)?;
            let order = self.parts.with_block(cell, |block| block.compare_first(key, delta))?;
            if order.is_lt() {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// What the index says about a key.
    pub(super) fn sought(&self, key: &[u8]) -> Result<Sought> {
        let common = self.parts.shared_prefix();
        let (head, rest) = key.split_at(common.len().min(key.len()));
        let (below, number) = match head.cmp(&common[..head.len()]) {
            Ordering::Less => (0, None),
            Ordering::Greater => (self.index.blocks(), None),
            Ordering::Equal if head.len() < common.len() => (0, None),
            Ordering::Equal => {
                let number = prefix8(rest);
                (self.count_below(self.parts.index_bytes()?, number)?, Some(number))
            }
        };
        Ok(Sought { below, number })
    }

    fn count_below(&self, bytes: &[u8], target: u64) -> Result<usize> {
        let below = self.index.count_below(bytes, target);
        below.ok_or_else(|| self.parts.corrupt(self.parts.layout().locator_end, "index is damaged"))
    }

    /// Blocks.
    #[inline]
    pub(super) fn blocks(&self) -> usize {
        self.index.blocks()
    }

    /// The cell in which a block starts.
    #[inline]
    pub(super) fn cell_of(&self, block: usize) -> Result<usize> {
        let bytes = self.parts.index_bytes()?;
        let cell = self.index.cell(bytes, block);
        cell.ok_or_else(|| self.parts.corrupt(self.parts.layout().locator_end, "index is damaged"))
    }
}
