//! Checking a whole table (layer L3): every checksum again, and every promise that the parts of a
//! table make about each other.

use std::sync::Arc;

use crate::checksum::hash_key;
use crate::error::Result;
use crate::table::block::prefix8;
use crate::table::iterator::{IterMode, TableIter};
use crate::table::reader::Table;
use crate::types::{Kind, SeqNo, ValuePointer};

/// What a walk over all entries finds, to be compared with the footer.
#[derive(Default)]
struct Tally {
    entries: u64,
    keys: u64,
    tombstones: u64,
    value_bytes: u64,
    min_seqno: Option<SeqNo>,
    max_seqno: SeqNo,
    key: Vec<u8>,
    seqno: SeqNo,
}

impl Table {
    /// Reads and checks all of the table: checksums, order, index, locator, counts. Corruption
    /// names the first thing that is wrong.
    pub(crate) fn verify(self: &Arc<Table>) -> Result<()> {
        self.parts.recheck()?;
        self.verify_index()?;
        let mut tally = Tally::default();
        let mut iter = TableIter::new(Arc::clone(self), IterMode::Mapped)?;
        iter.seek_to_first()?;
        while iter.valid() {
            self.verify_entry(&iter, &mut tally)?;
            iter.next()?;
        }
        self.verify_counts(&tally)
    }

    /// The blocks fill the cells one behind the other, and the index has their first keys.
    fn verify_index(&self) -> Result<()> {
        let bytes = self.parts.index_bytes()?;
        let shared = self.parts.shared_prefix();
        let mut cell = 0;
        let mut first = Vec::new();
        for number in 0..self.blocks() {
            let wrong = || self.parts.corrupt(self.parts.layout().locator_end, "index is wrong");
            self.parts.reload(cell)?;
            let loaded = self.parts.load(cell, false)?;
            let block = loaded.block();
            let entry = block.entry(0).ok_or_else(|| self.parts.damaged(cell))?;
            first.clear();
            first.extend_from_slice(block.prefix());
            first.extend_from_slice(entry.suffix);
            let target = first.strip_prefix(shared).map(prefix8);
            if self.cell_of(number)? != cell || self.index.number(bytes, number) != target {
                return Err(wrong());
            }
            if self.index.count_below(bytes, target.unwrap_or(0)).is_none_or(|n| n > number) {
                return Err(wrong());
            }
            cell += block.shape().len >> self.parts.grid_shift();
        }
        if cell << self.parts.grid_shift() != self.parts.layout().cells_end {
            return Err(self.parts.damaged(cell));
        }
        Ok(())
    }

    /// The entry follows the one before it and is found by its key.
    fn verify_entry(&self, iter: &TableIter, tally: &mut Tally) -> Result<()> {
        let same_key = tally.entries > 0 && tally.key == iter.key();
        let in_order = if same_key { iter.seqno() < tally.seqno } else { *iter.key() > *tally.key };
        if !(in_order || tally.entries == 0) || same_key != iter.is_older_version() {
            return Err(iter.wrong("entries are out of order"));
        }
        let found = self.get(iter.key(), hash_key(iter.key(), self.hash_seed), iter.seqno())?;
        let right = |value: &[u8]| value == iter.value();
        if found
            .is_none_or(|e| e.seqno != iter.seqno() || e.kind != iter.kind() || !right(&e.value))
        {
            return Err(iter.wrong("an entry is not found by its key"));
        }
        tally.entries += 1;
        tally.keys += u64::from(!same_key);
        tally.tombstones += u64::from(iter.kind() == Kind::Delete);
        if iter.kind() == Kind::Pointer {
            tally.value_bytes +=
                ValuePointer::decode(iter.value()).map_or(0, |pointer| u64::from(pointer.len));
        }
        tally.min_seqno = Some(tally.min_seqno.unwrap_or(SeqNo::MAX).min(iter.seqno()));
        tally.max_seqno = tally.max_seqno.max(iter.seqno());
        tally.seqno = iter.seqno();
        if !same_key {
            tally.key.clear();
            tally.key.extend_from_slice(iter.key());
        }
        Ok(())
    }

    fn verify_counts(&self, tally: &Tally) -> Result<()> {
        let footer = self.parts.footer();
        let seqno = |delta: SeqNo| {
            if tally.entries == 0 { 0 } else { self.seqno_base.wrapping_add(delta) }
        };
        let counted = [tally.entries, tally.keys, tally.tombstones, tally.value_bytes];
        let right = counted == [footer.entries, footer.keys, footer.tombstones, footer.value_bytes]
            && tally.key == self.largest()
            && tally.min_seqno.unwrap_or(0) == seqno(footer.min_delta)
            && tally.max_seqno == seqno(footer.max_delta);
        if right {
            return Ok(());
        }
        Err(self.parts.corrupt(self.parts.layout().footer, "footer is not what the blocks hold"))
    }
}
