//! Checking a whole table (layer L3): every checksum again, and then every promise that the parts
//! of a table make about each other.

use std::sync::Arc;

use crate::checksum::hash_key;
use crate::error::{Error, ErrorKind, Result};
use crate::planted::planted;
use crate::table::block::{Block, prefix8};
use crate::table::iterator::{IterMode, TableIter};
use crate::table::locator::{self, SLOTS};
use crate::table::reader::Table;
use crate::types::{Kind, SeqNo, ValuePointer};

/// Who wants to hear what a check of a table meets.
pub(crate) trait Watch {
    /// So many bytes were read; an error ends the check.
    fn read(&mut self, bytes: u64) -> Result<()>;
    /// An intact entry: key, kind, and value or encoded pointer.
    fn entry(&mut self, key: &[u8], kind: Kind, value: &[u8]) -> Result<()>;
    /// Damage that concerns the keys from `first` to `last`, and so many entries if that is known.
    fn damage(
        &mut self,
        error: Error,
        first: &[u8],
        last: &[u8],
        entries: Option<u64>,
    ) -> Result<()>;
}

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

/// A damaged block.
struct Broken {
    error: Error,
    /// The last key before it.
    after: Vec<u8>,
    /// The first key behind it.
    before: Vec<u8>,
    claimed: Option<u64>,
}

impl Table {
    /// Reads and checks all of the table: every checksum; where those are right, order, index,
    /// locator and counts. Answers the number of intact entries. Damage goes to `watch`; an error
    /// is what it answered, or something else than damage.
    pub(crate) fn inspect(self: &Arc<Table>, watch: &mut dyn Watch) -> Result<u64> {
        let (first, last) = (self.smallest(), self.largest());
        let mut damaged = false;
        for page in 0..self.parts.page_count() {
            if let Err(error) = self.parts.recheck_page(page) {
                damaged = true;
                if !planted("verify: locators not told") {
                    watch.damage(refused(error)?, first, last, None)?;
                }
            }
        }
        if let Err(error) = self.parts.recheck_index() {
            if planted("verify: indexes not told") {
                return Ok(0);
            }
            watch.damage(refused(error)?, first, last, Some(self.entries()))?;
            return Ok(0);
        }
        let (mut broken, mut intact) = (Vec::new(), 0);
        self.check_blocks(watch, &mut broken, &mut intact)?;
        let lost = self.entries().saturating_sub(intact);
        let alone = broken.len() == 1;
        damaged |= !broken.is_empty();
        for Broken { error, after, before, claimed } in broken {
            if planted("verify: blocks not told") {
                continue;
            }
            let entries = if alone { Some(lost) } else { claimed.filter(|own| *own <= lost) };
            watch.damage(error, &after, &before, entries)?;
        }
        if damaged {
            return Ok(intact);
        }
        match self.verify_sense(watch) {
            Ok(()) => Ok(intact),
            Err(error) => {
                watch.damage(refused(error)?, first, last, None)?;
                Ok(0)
            }
        }
    }

    /// Entries, tombstones, bytes of separated values, smallest and largest sequence number, as the
    /// footer says.
    pub(crate) fn counts(&self) -> [u64; 5] {
        let footer = self.parts.footer();
        let seqno = |delta: SeqNo| self.seqno_base.wrapping_add(delta);
        let (min, max) = (seqno(footer.min_delta), seqno(footer.max_delta));
        [footer.entries, footer.tombstones, footer.value_bytes, min, max]
    }

    /// Checks every block, and shows its entries when it is intact.
    fn check_blocks(
        &self,
        watch: &mut dyn Watch,
        broken: &mut Vec<Broken>,
        intact: &mut u64,
    ) -> Result<()> {
        let mut last = self.smallest().to_vec();
        let mut open = 0;
        for number in 0..self.blocks() {
            let checked = self.check_block(number, watch, &mut last, |first| {
                broken.iter_mut().skip(open).for_each(|own: &mut Broken| own.before = first.into());
                open = broken.len();
            });
            match checked {
                Ok(entries) => *intact += entries,
                Err(Stop::Damage(error)) => broken.push(Broken {
                    error: refused(error)?,
                    after: last.clone(),
                    before: self.largest().to_vec(),
                    claimed: self.claimed(number),
                }),
                Err(Stop::Watch(error)) => return Err(error),
            }
        }
        Ok(())
    }

    fn check_block(
        &self,
        number: usize,
        watch: &mut dyn Watch,
        last: &mut Vec<u8>,
        mut begins: impl FnMut(&[u8]),
    ) -> Result<u64, Stop> {
        let cell = self.cell_of(number).map_err(Stop::Damage)?;
        self.parts.reload(cell).map_err(Stop::Damage)?;
        let loaded = self.parts.load(cell, false).map_err(Stop::Damage)?;
        let block = loaded.block();
        watch.read(block.bytes().len() as u64).map_err(Stop::Watch)?;
        let damaged = || Stop::Damage(self.parts.damaged(cell));
        // All of it before any of it is shown.
        let whole = (0..block.count()).all(|index| block.entry(index).is_some());
        let first = block.entry(0).filter(|_| whole).ok_or_else(damaged)?;
        begins(&[block.prefix(), first.suffix].concat());
        show(&block, watch, last).map_err(Stop::Watch)?;
        Ok(block.count() as u64)
    }

    /// How many entries a damaged block says that it has.
    fn claimed(&self, number: usize) -> Option<u64> {
        let in_place = self.parts.elsewhere().is_none();
        let cell = self.cell_of(number).ok().filter(|_| in_place)?;
        let bytes = self.parts.slice(cell << self.parts.grid_shift(), 14);
        let count = bytes.get(12..).and_then(<[u8]>::first_chunk)?;
        Some(u64::from(u16::from_le_bytes(*count))).filter(|count| *count > 0)
    }

    /// Checks what the parts say of each other. Corruption names the first thing that is wrong.
    fn verify_sense(self: &Arc<Table>, watch: &mut dyn Watch) -> Result<()> {
        self.verify_index()?;
        self.verify_locator()?;
        let mut tally = Tally::default();
        let mut iter = TableIter::new(Arc::clone(self), IterMode::Mapped)?;
        iter.seek_to_first()?;
        while iter.valid() {
            self.verify_entry(&iter, &mut tally)?;
            if tally.entries.is_multiple_of(1024) {
                watch.read(0)?;
            }
            iter.next()?;
        }
        self.verify_counts(&tally)
    }

    /// The blocks fill the cells one behind the other, and the index has their first keys.
    fn verify_index(&self) -> Result<()> {
        if planted("verify: indexes not beside blocks") {
            return Ok(());
        }
        let bytes = self.parts.index_bytes()?;
        let shared = self.parts.shared_prefix();
        let mut cell = 0;
        let mut first = Vec::new();
        for number in 0..self.blocks() {
            let wrong = || self.parts.corrupt(self.parts.layout().locator_end, "index is wrong");
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

    /// Every slot of the locator that is not empty leads to an entry.
    fn verify_locator(&self) -> Result<()> {
        for number in 0..locator::line_count(self.parts.footer().lines) {
            let line = self.parts.line_anywhere(number)?;
            for slot in 0..SLOTS {
                let position = locator::position(&line, slot);
                if position == 0 {
                    continue;
                }
                let cell = position >> self.parts.grid_shift();
                let loaded = self.parts.load(cell, true)?;
                let offset = position - (cell << self.parts.grid_shift());
                loaded.block().entry_at(offset).ok_or_else(|| self.parts.damaged(cell))?;
            }
        }
        Ok(())
    }

    /// The entry follows the one before it and is found by its key, both ways.
    fn verify_entry(&self, iter: &TableIter, tally: &mut Tally) -> Result<()> {
        let same_key = tally.entries > 0 && tally.key == iter.key();
        let in_order = if same_key { iter.seqno() < tally.seqno } else { *iter.key() > *tally.key };
        if !(in_order || tally.entries == 0) || same_key != iter.is_older_version() {
            return Err(iter.wrong("entries are out of order"));
        }
        let by_hash = self.get(iter.key(), hash_key(iter.key(), self.hash_seed), iter.seqno())?;
        let by_order = self.search(iter.key(), iter.seqno())?;
        for found in [by_hash, by_order] {
            if planted("verify: entries not looked up") {
                continue;
            }
            let right = |value: &[u8]| value == iter.value();
            if found.is_none_or(|e| {
                e.seqno != iter.seqno() || e.kind != iter.kind() || !right(&e.value)
            }) {
                return Err(iter.wrong("an entry is not found by its key"));
            }
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
        if right || planted("verify: footers not beside blocks") {
            return Ok(());
        }
        Err(self.parts.corrupt(self.parts.layout().footer, "footer is not what the blocks hold"))
    }
}

/// Why a block's check ended.
enum Stop {
    Damage(Error),
    Watch(Error),
}

/// Shows the entries of an intact block; `last` is the key of the last one afterwards.
fn show(block: &Block<'_>, watch: &mut dyn Watch, last: &mut Vec<u8>) -> Result<()> {
    for entry in (0..block.count()).filter_map(|index| block.entry(index)) {
        last.clear();
        last.extend_from_slice(block.prefix());
        last.extend_from_slice(entry.suffix);
        watch.entry(last, entry.kind, entry.value)?;
    }
    Ok(())
}

/// The error if it tells of damage.
fn refused(error: Error) -> Result<Error> {
    match error.kind() {
        ErrorKind::Corruption | ErrorKind::Io => Ok(error),
        _ => Err(error),
    }
}
