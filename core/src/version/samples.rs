//! Made-up versions for the tests of this layer (layer L4).

use super::dead::DeadSet;
use super::edit::VersionEdit;
use super::meta::{SegmentMeta, SegmentState, TableMeta, Values};
use super::state::VersionState;

/// A table from `smallest` to `largest` in keyspace 0.
pub(super) fn table(
    number: u64,
    smallest: &str,
    largest: &str,
    min_seqno: u64,
    max_seqno: u64,
) -> TableMeta {
    TableMeta {
        number,
        size_bytes: 4096,
        smallest: [b"\0", smallest.as_bytes()].concat(),
        largest: [b"\0", largest.as_bytes()].concat(),
        min_seqno,
        max_seqno,
        seqno_base: min_seqno,
        entries: 10,
        tombstones: 1,
        value_bytes: 77,
        old_bytes: 5,
    }
}

/// Three runs of four tables, a rewritten segment and two segments of log.
pub(super) fn state() -> VersionState {
    let mut state = VersionState::new(0x1122_3344_5566_7788, 0x99aa_bbcc_ddee_ff00);
    let mut edit = VersionEdit::new();
    edit.add_table(1, table(8, "b", "d", 1, 20));
    edit.add_table(1, table(9, "e", "h", 2, 25));
    edit.add_table(2, table(10, "a", "k", 30, 35));
    edit.add_table(3, table(11, "n", "o", 40, 45));
    let flushed = SegmentState::Flushed;
    edit.add_segment(SegmentMeta {
        id: 4,
        file: 5,
        salt: 0xabcd,
        size_bytes: 1 << 20,
        state: flushed,
        values: Values { least_len: 0, end: 0, count: 9, bytes: 70_000 },
        dead: DeadSet::default(),
    });
    edit.add_dead(4, DeadSet::new(vec![600, 1000], 200));
    edit.add_segment(SegmentMeta::registered(6, 0xef01, 2 << 20));
    edit.add_segment(SegmentMeta::registered(7, 0x2345, 4 << 20));
    edit.counts = vec![(0, 38), (3, 7)];
    edit.last_seqno = Some(60);
    state.apply(&edit).unwrap();
    state
}

/// An edit with every kind of field, twelve in all.
pub(super) fn full_edit() -> VersionEdit {
    let mut edit = VersionEdit::new();
    edit.remove_segment(4);
    edit.add_segment(SegmentMeta::registered(12, 0x6789, 8 << 20));
    edit.set_segment_flushed(6, Values { least_len: 64, end: 1 << 20, count: 7, bytes: 1 << 16 });
    edit.add_dead(6, DeadSet::new(vec![512, 4096, 5000], 1 << 10));
    edit.remove_table(10);
    edit.remove_table(11);
    edit.add_table(3, table(13, "a", "o", 30, 45));
    edit.set_count(0, 39);
    edit.set_count(1 << 20, 5);
    edit.last_seqno = Some(61);
    edit
}
