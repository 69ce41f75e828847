//! Parts of long values in tables whose blocks are not read in place (layer L3): nothing but the
//! part is read, and so nothing of it is verified.

use std::ops::Range;

use crate::buffer::Bytes;
use crate::error::Result;
use crate::table::block::{Block, EntryHead, HEADER_LEN};
use crate::table::format::MAX_GRID_SHIFT;
use crate::table::locator;
use crate::table::parts::Parts;
use crate::table::reader::{Table, TableEntry};
use crate::types::{Compression, Kind, SeqNo};

impl Table {
    /// The newest version of `key` with its value cut to `range`, if it has a block of its own that
    /// is longer than any with several entries, is not compressed and not in the cache, and
    /// `max_seqno` sees it. Whatever else there is is for others to find.
    pub(super) fn find_long(
        &self,
        key: &[u8],
        hash: u64,
        max_seqno: SeqNo,
        range: &Range<usize>,
    ) -> Result<Option<TableEntry<'_>>> {
        let home = locator::home(hash, self.lines);
        let line = self.parts.line_anywhere(home)?;
        let displaced = locator::may_be_displaced(&line, hash);
        let reach = if displaced { locator::reach(&line) } else { 0 };
        for step in 0..=reach {
            let line = self.parts.line_anywhere(home + step)?;
            let mut bits = locator::matches(&line, hash);
            while bits != 0 {
                let position = locator::position(&line, bits.trailing_zeros() as usize);
                bits &= bits - 1;
                let cell = position >> self.parts.grid_shift();
                let cells = self.cells_of_block_in(cell)?;
                if position == 0 || cells << self.parts.grid_shift() <= 1 << MAX_GRID_SHIFT {
                    continue;
                }
                let offset = position - (cell << self.parts.grid_shift());
                let Some((delta, value)) = self.parts.long_part(cell, cells, offset, key, range)?
                else {
                    continue;
                };
                let seqno = self.seqno_base.wrapping_add(delta);
                let entry = TableEntry { seqno, kind: Kind::Put, value };
                return Ok(Some(entry).filter(|_| seqno <= max_seqno));
            }
        }
        Ok(None)
    }

    /// How many cells the block fills that starts in a cell; 1 where none starts.
    fn cells_of_block_in(&self, cell: usize) -> Result<usize> {
        let cells = self.parts.footer().cells as usize;
        let blocks = self.index.blocks();
        if blocks == cells {
            return Ok(1);
        }
        let (mut low, mut high) = (0, blocks);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.cell_of(middle)? <= cell { low = middle + 1 } else { high = middle }
        }
        let end = if low < blocks { self.cell_of(low)? } else { cells };
        let start = if low > 0 { self.cell_of(low - 1)? } else { 0 };
        Ok(if start == cell { end.saturating_sub(start) } else { 1 })
    }
}

impl Parts {
    /// The sequence number over the base and a part of the value of the entry at `offset` of the
    /// block in a cell, which fills so many cells and has no other entry; `None` if it is not of
    /// `key` or is better read whole.
    fn long_part(
        &self,
        cell: usize,
        cells: usize,
        offset: usize,
        key: &[u8],
        range: &Range<usize>,
    ) -> Result<Option<(SeqNo, Bytes<'_>)>> {
        if self.elsewhere().is_none_or(|from| from.has(cell)) {
            return Ok(None);
        }
        let (start, len) = match self.is_packed() {
            false => (cell << self.grid_shift(), cells << self.grid_shift()),
            true => {
                let place = self.place(cell)?;
                if place.compression != Compression::None {
                    return Ok(None);
                }
                (place.offset, place.len)
            }
        };
        let damaged = || self.damaged(cell);
        if len > self.layout().data_end.saturating_sub(start) {
            return Err(damaged());
        }
        let before = offset.saturating_add(EntryHead::MOST_LEN + key.len()).max(HEADER_LEN);
        let before = self.stored(start..start + before.min(len))?;
        let prefix = Block::lone_prefix(&before, cells).ok_or_else(damaged)?;
        let head = EntryHead::decode(&before, offset).ok_or_else(damaged)?;
        let suffix_end = head.start + head.suffix_len;
        let suffix = before.get(head.start..suffix_end);
        let named = key.len() == prefix.len() + head.suffix_len && key.starts_with(prefix);
        if !head.is_put() || !named || !suffix.is_some_and(|suffix| key.ends_with(suffix)) {
            return Ok(None);
        }
        if suffix_end.checked_add(head.value_len).is_none_or(|end| end > len) {
            return Err(damaged());
        }
        let end = range.end.min(head.value_len);
        let first = range.start.min(end);
        let value_start = start + suffix_end;
        let part = self.stored(value_start + first..value_start + end)?;
        Ok(Some((head.delta, part)))
    }
}
