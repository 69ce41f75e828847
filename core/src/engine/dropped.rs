//! Separated values whose entries a job drops (layer L5), recorded in the edit of that job.
//!
//! Invariant DEAD: an address belongs to exactly one entry of a table. Whoever drops that entry
//! records the value dead in the same edit, so what is dead is known exactly, at all times.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind, Result};
use crate::planted::planted;
use crate::types::{SegmentId, ValuePointer};
use crate::version::{DeadSet, VersionEdit, VersionState};
use crate::vlog::record_len;

/// The values dropped so far, by their segments. Four bytes of memory each.
#[derive(Default)]
pub(crate) struct Dropped {
    segments: BTreeMap<SegmentId, (Vec<u32>, u64)>,
}

impl Dropped {
    /// The entry of `key` with this pointer, as a table stores it, goes.
    pub(crate) fn note(&mut self, key: &[u8], pointer: &[u8]) -> Result<()> {
        let pointer = ValuePointer::decode(pointer).ok_or_else(|| {
            Error::new(ErrorKind::Corruption, "a value pointer in a table is none")
        })?;
        let (units, bytes) = self.segments.entry(pointer.segment).or_default();
        units.push((pointer.offset / 8) as u32);
        *bytes += record_len(key.len(), pointer.len);
        Ok(())
    }

    /// Records the values as dead; a segment whose last live values they are is removed.
    pub(crate) fn describe(self, state: &VersionState, edit: &mut VersionEdit) {
        let forgets = planted("compaction: dead values not recorded");
        for (id, (units, bytes)) in self.segments.into_iter().filter(|_| !forgets) {
            match state.segments.get(&id) {
                Some(segment) if segment.live_bytes() <= bytes => edit.remove_segment(id),
                _ => edit.add_dead(id, DeadSet::new(units, bytes)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_pointer_is_refused_and_nothing_is_noted() {
        let right = ValuePointer { segment: 3, offset: 64, len: 100 }.encode();
        // No value is at the start of a segment.
        let nowhere = [&right[..8], &[0; 4], &right[12..]].concat();
        let mut dropped = Dropped::default();
        for wrong in [&nowhere[..], &right[..15], &[]] {
            let error = dropped.note(b"key", wrong).unwrap_err();
            let what = "a value pointer in a table is none";
            assert_eq!((error.kind(), error.message()), (ErrorKind::Corruption, what));
        }
        assert!(dropped.segments.is_empty());
        dropped.note(b"key", &right).unwrap();
        assert_eq!(dropped.segments[&3], (vec![8], record_len(3, 100)));
    }
}
