//! Numbers and samples of segments for the test that compares them with FORMAT.md.

use crate::checksum::{checksum32, checksum64, mix64};
use crate::types::Kind;
use crate::vlog::format::{
    FORMAT_VERSION, FRAME_HEADER_LEN, MAGIC, MAP_PAGE_ENTRIES, MAX_SEGMENT_SIZE, PAGE,
    RECORD_HEADER_LEN, SEGMENT_HEADER_LEN, SegmentIdentity, fold,
};
use crate::vlog::frame::{FrameSize, Place, fill_frame};

/// The version that every such file carries.
pub(crate) const VERSION: u32 = FORMAT_VERSION;

/// A heading, an example of what it describes, and the fields of that in order.
type Sample = (&'static str, Vec<u8>, Vec<u64>);

/// The numbers that the document states.
pub(crate) fn numbers() -> Vec<(&'static str, u64)> {
    vec![
        ("SEGMENT_HEADER_LEN", SEGMENT_HEADER_LEN as u64),
        ("SEGMENT_PAGE", PAGE),
        ("MAX_SEGMENT_SIZE", MAX_SEGMENT_SIZE),
        ("FRAME_HEADER_LEN", FRAME_HEADER_LEN as u64),
        ("RECORD_HEADER_LEN", RECORD_HEADER_LEN as u64),
        ("MAP_PAGE_ENTRIES", MAP_PAGE_ENTRIES as u64),
    ]
}

/// One of everything that has a layout.
pub(crate) fn samples() -> Vec<Sample> {
    let (id, salt, db_id, size_bytes) = (12, 0x1122_3344_5566_7788, 0xD00D, 1 << 20);
    let header = SegmentIdentity { id, salt, db_id, size_bytes }.encode();
    let sum = checksum64(&header[..4088], 0);
    let version = u64::from(FORMAT_VERSION);
    let magic = u64::from_le_bytes(MAGIC);
    let fields = vec![magic, version, 0, id, salt, db_id, size_bytes, 0, sum];

    let entries = [(Kind::Put, &b"\0key"[..], &b"value"[..]), (Kind::Delete, b"\0gone", b"")];
    let size = FrameSize::of(entries.into_iter()).unwrap();
    let mut frame = vec![0xEE; size.bytes() as usize];
    let place = Place { segment: id, salt, offset: 8192 };
    let mut offsets = Vec::new();
    fill_frame(&mut frame, place, size.header(500, 400, 77), entries.into_iter(), |record| {
        offsets.push(record.offset);
    });
    assert_eq!(offsets, [8192 + 56, 8192 + 56 + 24]);
    let first = checksum32(&frame[60..77], mix64(id, offsets[0]));
    let second = checksum32(&frame[84..97], mix64(id, offsets[1]));
    let folded = u64::from(fold(fold(0, first), second));
    let frame_sum = checksum64(&frame[16..56], mix64(salt, 8192));
    let frame_fields = vec![salt, frame_sum, 48, 500, 400, 77, 2, folded];
    let record = frame[56..80].to_vec();
    vec![
        ("Segment header", header, fields),
        ("Frame", frame, frame_fields),
        ("Record", record, vec![u64::from(first), 5, 4, 1]),
    ]
}
