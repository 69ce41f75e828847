//! Numbers and samples of manifests for the test that compares them with FORMAT.md.

use crate::checksum::{checksum64, mix64};
use crate::types::FileNumber;
use crate::version::layout::{
    CURRENT_SEED, FORMAT_VERSION, GROW_LEN, HEADER_LEN, HEADER_SEED, Header, MAX_CURRENT_LEN,
    RECORD_HEADER_LEN, Record, RecordKind, encode_current,
};
use crate::version::manifest::STEP;
use crate::version::{DeadSet, SegmentMeta, Values, VersionEdit, samples};

/// The version that every such file carries.
pub(crate) const VERSION: u32 = FORMAT_VERSION;

/// A heading, an example of what it describes, and the fields of that in order.
type Sample = (&'static str, Vec<u8>, Vec<u64>);

/// The numbers that the document states.
pub(crate) fn numbers() -> Vec<(&'static str, u64)> {
    vec![
        ("MANIFEST_HEADER_LEN", HEADER_LEN as u64),
        ("MANIFEST_RECORD_HEADER_LEN", RECORD_HEADER_LEN as u64),
        ("MANIFEST_GROW_LEN", GROW_LEN),
        ("MANIFEST_STEP", STEP),
        ("MANIFEST_SEED", HEADER_SEED),
        ("CURRENT_SEED", CURRENT_SEED),
        ("MAX_CURRENT_LEN", MAX_CURRENT_LEN),
    ]
}

/// One of everything that has a layout.
pub(crate) fn samples() -> Vec<Sample> {
    let (db_id, hash_seed, number, size_bytes) = (0xD00D, 0x5EED, 7, STEP);
    let header = Header { db_id, hash_seed, number, size_bytes }.encode();
    let salt = checksum64(&header[..48], HEADER_SEED);
    let version = u64::from(FORMAT_VERSION);
    let len = HEADER_LEN as u64;
    let magic = u64::from_le_bytes(*b"toykvMAN");
    let fields = vec![magic, version, len, db_id, hash_seed, number, size_bytes, salt];

    let mut record = Vec::new();
    let edit = (RecordKind::Edit, &b"12345"[..]);
    Record::put(&mut record, salt, 56, 99, edit).unwrap();
    assert_eq!(record.len(), 32);
    let sum = checksum64(&record[8..], mix64(salt, 56));
    let kind = (salt & 0xFFFF_FFFF) ^ 1;
    let kinds = [RecordKind::Edit, RecordKind::Grow, RecordKind::Confirm];
    assert_eq!(kinds.map(|kind| kind as u32), [1, 2, 3]);
    vec![("Manifest header", header, fields), ("Manifest record", record, vec![sum, 99, 5, kind])]
}

/// The tags of version edits and their names, each taken from an edit that has that field only.
pub(crate) fn tags() -> Vec<(usize, &'static str)> {
    let empty = VersionEdit::new;
    let segment = SegmentMeta::registered(4, 5, 4096);
    let table = samples::table(8, "a", "b", 1, 2);
    let dead = DeadSet::new(vec![512], 16);
    let edits = [
        ("next file", VersionEdit { next_file: Some(1), ..empty() }),
        ("last sequence number", VersionEdit { last_seqno: Some(1), ..empty() }),
        ("next run", VersionEdit { next_run: Some(1), ..empty() }),
        ("add segment", VersionEdit { added_segments: vec![segment], ..empty() }),
        (
            "segment flushed",
            VersionEdit { flushed_segments: vec![(4, Values::default())], ..empty() },
        ),
        ("remove segment", VersionEdit { removed_segments: vec![4], ..empty() }),
        ("add table", VersionEdit { added_tables: vec![(1, table)], ..empty() }),
        ("remove table", VersionEdit { removed_tables: vec![8], ..empty() }),
        ("count", VersionEdit { counts: vec![(0, 1)], ..empty() }),
        ("dead values", VersionEdit { dead_values: vec![(4, dead)], ..empty() }),
    ];
    edits.map(|(name, edit)| (usize::from(edit.encode()[0]), name)).to_vec()
}

/// The bytes of CURRENT.
pub(crate) fn current(number: FileNumber) -> String {
    encode_current(number)
}
