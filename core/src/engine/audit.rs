//! For tests (layer L5): what is recorded of dead values, beside what the files say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::state::{Engine, Files};
use crate::error::{Error, ErrorKind, Result};
use crate::table::{IterMode, TableIter};
use crate::types::{Kind, SegmentId, ValuePointer};
use crate::version::{SegmentState, Values};
use crate::vlog::{Source, for_each_value, record_len};

/// Addresses of records, and what they take.
type Addresses = BTreeMap<SegmentId, BTreeSet<(u32, u64)>>;

impl Engine {
    /// Looks at every table and segment: what tables point to is exactly what is not recorded
    /// dead, and the recorded sums are those of the records. Answers the live bytes. Nothing is
    /// committed meanwhile.
    pub(crate) fn audit(&self) -> Result<u64> {
        let files = self.files()?;
        let mut pointed = pointed_to(&files)?;
        let mut live = 0;
        let flushed = files.state.segments.values();
        for meta in flushed.filter(|meta| meta.state == SegmentState::Flushed) {
            let id = meta.id;
            let segment = &files.segments[&id];
            let Values { least_len, end, .. } = meta.values;
            let dead: BTreeSet<u32> = meta.dead.units().collect();
            let source = Source { segment, least_len, end, dead: std::iter::empty() };
            let (mut alive, mut sums) = (BTreeSet::new(), [0; 4]);
            for_each_value(&*self.env.fs, source, &mut |unit, record| {
                let len = record.len() as u64;
                let is_dead = dead.contains(&unit);
                sums = [sums[0] + 1, sums[1] + len, sums[2], sums[3]];
                if is_dead {
                    sums = [sums[0], sums[1], sums[2] + 1, sums[3] + len];
                } else {
                    alive.insert((unit, len));
                }
                Ok(())
            })?;
            let recorded =
                [meta.values.count, meta.values.bytes, meta.dead.count(), meta.dead.bytes()];
            differ(&format!("segment {id}: values and dead ones"), &sums, &recorded)?;
            let pointed = pointed.remove(&id).unwrap_or_default();
            differ(&format!("segment {id}: live values"), &alive, &pointed)?;
            live += sums[1] - sums[3];
        }
        differ("segments that are gone and pointed to", &pointed, &Addresses::new())?;
        Ok(live)
    }
}

fn pointed_to(files: &Files) -> Result<Addresses> {
    let mut pointed = Addresses::new();
    for table in files.state.tables().map(|meta| &files.tables[&meta.number]) {
        let mut iter = TableIter::new(Arc::clone(table), IterMode::Buffered)?;
        iter.seek_to_first()?;
        while iter.valid() {
            if iter.kind() == Kind::Pointer {
                let pointer = ValuePointer::decode(iter.value()).unwrap();
                let address =
                    ((pointer.offset / 8) as u32, record_len(iter.key().len(), pointer.len));
                let fresh = pointed.entry(pointer.segment).or_default().insert(address);
                differ("entries of one address", &fresh, &true)?;
            }
            iter.next()?;
        }
    }
    Ok(pointed)
}

fn differ<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, recorded: &T) -> Result<()> {
    if found == recorded {
        return Ok(());
    }
    let what = format!("{what}: {found:?} in the files, {recorded:?} recorded");
    Err(Error::new(ErrorKind::Corruption, what))
}
