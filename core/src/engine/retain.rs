//! Which versions of a key flush and compaction keep (layer L5).
//!
//! Invariant SNAP: a version stays as long as it is the newest, or the newest that some registered
//! snapshot sees. Invariant NOZOMBIE: a tombstone goes only together with everything older that it
//! hides, and only where the caller has proved that nothing older lies elsewhere.

use crate::planted::planted;
use crate::types::{Kind, MAX_SEQNO, SeqNo};

/// Decides over the versions of one key after the other, newest first.
pub(crate) struct Retain {
    /// Registered snapshots, ascending.
    snapshots: Vec<SeqNo>,
    /// Nothing older than the inputs exists for any of their keys.
    bottom: bool,
    /// Sequence number of the next newer version of this key; `None` for the newest.
    newer: Option<SeqNo>,
    /// A tombstone of this key was dropped, and so is all that is older.
    hidden: bool,
}

impl Retain {
    /// `snapshots` in ascending order; `bottom` is the proof that tombstones may go.
    pub(crate) fn new(snapshots: Vec<SeqNo>, bottom: bool) -> Retain {
        debug_assert!(snapshots.is_sorted());
        let snapshots = if planted("snapshots: none counts") { Vec::new() } else { snapshots };
        Retain { snapshots, bottom, newer: None, hidden: false }
    }

    /// The versions that follow belong to another key.
    #[inline]
    pub(crate) fn start_key(&mut self) {
        self.newer = None;
        self.hidden = false;
    }

    /// Whether the next older version of the key stays.
    #[inline]
    pub(crate) fn keep(&mut self, seqno: SeqNo, kind: Kind) -> bool {
        let newest = match self.newer.replace(seqno) {
            None => true,
            Some(newer) => self.any_snapshot_in(seqno, newer),
        };
        if !newest || self.hidden {
            return false;
        }
        if kind == Kind::Delete && self.bottom && self.visible_to_all(seqno) {
            self.hidden = true;
            return false;
        }
        true
    }

    /// Whether every reader, present and future, sees a version with this number.
    #[inline]
    pub(crate) fn visible_to_all(&self, seqno: SeqNo) -> bool {
        seqno <= self.snapshots.first().copied().unwrap_or(MAX_SEQNO)
    }

    /// Whether a snapshot sees the version `seqno` but not the version `newer`.
    fn any_snapshot_in(&self, seqno: SeqNo, newer: SeqNo) -> bool {
        let index = self.snapshots.partition_point(|snapshot| *snapshot < seqno);
        self.snapshots.get(index).is_some_and(|snapshot| *snapshot < newer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reader at `at` sees of versions given newest first.
    fn read(versions: &[(SeqNo, Kind)], at: SeqNo) -> Option<SeqNo> {
        let found = versions.iter().find(|(seqno, _)| *seqno <= at)?;
        (found.1 != Kind::Delete).then_some(found.0)
    }

    #[test]
    fn no_reader_sees_a_difference_and_nothing_superfluous_stays() {
        for pattern in 0..32u32 {
            let kind = |bit: u32| if pattern >> bit & 1 == 1 { Kind::Delete } else { Kind::Put };
            let versions: Vec<_> =
                (0..5).rev().map(|i| (SeqNo::from(i) * 2 + 2, kind(i))).collect();
            for set in 0..(1u32 << 11) {
                let snapshots: Vec<SeqNo> =
                    (1u32..12).filter(|bit| set >> (bit - 1) & 1 == 1).map(SeqNo::from).collect();
                for bottom in [false, true] {
                    let mut retain = Retain::new(snapshots.clone(), bottom);
                    retain.start_key();
                    let kept: Vec<_> =
                        versions.iter().copied().filter(|(s, k)| retain.keep(*s, *k)).collect();
                    for at in snapshots.iter().copied().chain([100]) {
                        assert_eq!(read(&kept, at), read(&versions, at), "{versions:?} {set} {at}");
                    }
                    assert!(kept.len() <= snapshots.len() + 1);
                    if !bottom {
                        assert_eq!(kept.first(), versions.first());
                    } else if snapshots.is_empty() && versions[0].1 == Kind::Delete {
                        assert!(kept.is_empty());
                    }
                }
            }
        }
    }
}
