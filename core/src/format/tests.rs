//! What FORMAT.md says, compared with the code: every number that it states, every layout with
//! offsets and sizes, and every tag.

use std::collections::BTreeMap;

use crate::types::{
    FileNumber, Kind, MAX_KEY_LEN, MAX_SEQNO, MAX_VALUE_LEN, SegmentId, ValuePointer,
};
use crate::{key, table, version, vlog};

const TEXT: &str = include_str!("../../FORMAT.md");

/// A row of a table of fields.
struct Row {
    offset: usize,
    /// `None` where the document says `n`.
    size: Option<usize>,
}

/// The lines from a heading to the next one.
fn section(heading: &str) -> impl Iterator<Item = &'static str> {
    let mut lines = TEXT.lines();
    let found = lines.find(|line| line.trim_start_matches('#') == format!(" {heading}"));
    assert!(found.is_some(), "no heading {heading:?}");
    lines.take_while(|line| !line.starts_with('#'))
}

/// The first two cells of the rows of a section's tables that begin with a number.
fn cells(heading: &str) -> Vec<(usize, &'static str)> {
    let row = |line: &'static str| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        Some((cells.next()?.parse().ok()?, cells.next()?))
    };
    section(heading).filter_map(row).collect()
}

/// The fields of a section; fails where they overlap or leave a gap.
fn layout(heading: &str) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for (offset, size) in cells(heading) {
        let end = rows.last().map_or(Some(0), |row| Some(row.offset + row.size?));
        assert_eq!(end, Some(offset), "{heading}: a gap or an overlap at {offset}");
        let size = (size != "n").then(|| size.parse().unwrap());
        rows.push(Row { offset, size });
    }
    assert!(!rows.is_empty(), "{heading}: no fields");
    rows
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Every line of the form `NAME = number`.
fn stated() -> BTreeMap<&'static str, u64> {
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let mut stated = BTreeMap::new();
    for line in TEXT.lines() {
        if let Some((name, value)) = line.split_once(" = ").filter(|(name, _)| is_name(name)) {
            let value = number(value).unwrap_or_else(|| panic!("no number: {line}"));
            assert_eq!(stated.insert(name, value), None, "{name} is stated twice");
        }
    }
    stated
}

#[test]
fn every_number_is_that_of_the_code() {
    let mut known = BTreeMap::from([
        ("MAX_SEQNO", MAX_SEQNO),
        ("MAX_KEY_LEN", MAX_KEY_LEN as u64),
        ("MAX_ENCODED_KEY_LEN", key::MAX_ENCODED_KEY_LEN as u64),
        ("MAX_VALUE_LEN", MAX_VALUE_LEN),
        ("VALUE_POINTER_LEN", ValuePointer::ENCODED_LEN as u64),
    ]);
    for list in [table::documented::numbers(), vlog::documented::numbers()] {
        known.extend(list);
    }
    known.extend(version::documented::numbers());
    let one_version =
        [table::documented::VERSION, vlog::documented::VERSION, version::documented::VERSION];
    assert!(one_version.iter().all(|version| *version == one_version[0]));
    known.insert("FORMAT_VERSION", u64::from(one_version[0]));
    assert_eq!(stated(), known);
}

#[test]
fn every_layout_is_that_of_the_code() {
    let (segment, offset, len): (SegmentId, u64, u32) = (0x0102_0304_0506_0708, 80, 90);
    let pointer = ValuePointer { segment, offset, len }.encode().to_vec();
    let mut samples = vec![("Value pointer", pointer, vec![segment, offset / 8, u64::from(len)])];
    samples.extend(table::documented::samples());
    samples.extend(vlog::documented::samples());
    samples.extend(version::documented::samples());
    for (heading, bytes, expected) in samples {
        let rows = layout(heading);
        let fixed: Vec<_> = rows.iter().filter_map(|row| Some((row.offset, row.size?))).collect();
        assert_eq!(fixed.len(), expected.len(), "{heading}: number of fields");
        for ((offset, size), expected) in fixed.into_iter().zip(expected) {
            let field = &bytes[offset..offset + size];
            let (low, high) = field.split_at(size.min(8));
            let value = low.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
            assert_eq!(value, expected, "{heading}: the field at {offset}");
            assert!(high.iter().all(|byte| *byte == 0) || heading == "Locator line");
        }
        let end = rows.last().and_then(|row| Some(row.offset + row.size?));
        assert!(end.is_none_or(|end| end == bytes.len()), "{heading}: length");
    }
}

#[test]
fn every_tag_and_kind_is_that_of_the_code() {
    assert_eq!(cells("Version edit"), version::documented::tags());
    for (kind, name) in cells("Kinds") {
        let known = Kind::from_u8(kind as u8).map(|kind| format!("{kind:?}").to_lowercase());
        assert!(known.is_some_and(|known| name.starts_with(&known)), "{kind} {name}");
    }
    assert_eq!(Kind::from_u8(4).or(Kind::from_u8(5)), None);
}

#[test]
fn current_is_that_of_the_code() {
    let number: FileNumber = 100;
    let line = version::documented::current(number);
    assert!(section("CURRENT").any(|own| own == line.trim_end()), "{line}");
}

#[test]
fn a_gap_between_fields_and_a_changed_number_would_be_seen() {
    assert_eq!(number("0x10"), Some(16));
    assert_eq!(number("4 096"), None);
    let footer = layout("Footer");
    assert_eq!((footer[1].offset, footer[1].size), (8, Some(8)));
    assert!(layout("Block").last().is_some_and(|row| row.size.is_none()));
}
