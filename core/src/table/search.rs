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

impl Table {
    /// As get, through the index instead of the locator.
    pub(super) fn search(&self, key: &[u8], max_seqno: SeqNo) -> Result<Option<TableEntry<'_>>> {
        let Some(delta) = max_seqno.checked_sub(self.seqno_base) else { return Ok(None) };
        let place = self.lower_bound(key, delta)?;
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
    pub(super) fn lower_bound(&self, key: &[u8], delta: SeqNo) -> Result<Place> {
        let before = self.blocks_before(key, delta)?;
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

    /// How many blocks start before (key, base + `delta`).
    fn blocks_before(&self, key: &[u8], delta: SeqNo) -> Result<usize> {
        let blocks = self.index.blocks();
        let common = self.parts.shared_prefix();
        let (head, rest) = key.split_at(common.len().min(key.len()));
        match head.cmp(&common[..head.len()]) {
            Ordering::Less => return Ok(0),
            Ordering::Greater => return Ok(blocks),
            Ordering::Equal if head.len() < common.len() => return Ok(0),
            Ordering::Equal => {}
        }
        let (bytes, target) = (self.parts.index_bytes()?, prefix8(rest));
        let index_error =
            || self.parts.corrupt(self.parts.layout().locator_end, "index is damaged");
        let below = self.index.count_below(bytes, target).ok_or_else(index_error)?;
        if below >= blocks || self.index.number(bytes, below) != Some(target) {
            return Ok(below);
        }
        // Several first keys have the same eight bytes: look at the keys themselves.
        let upto = match target.checked_add(1) {
            Some(next) => self.index.count_below(bytes, next).ok_or_else(index_error)?,
            None => blocks,
        };
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
