//! What holds of every version (layer L4), checked when one is loaded and when one is made.
//!
//! - FILES: a number names one file, and is below `next_file`; segments that were rewritten
//!   together share theirs, and say the same of it.
//! - TABLE: keys in order; sequence numbers in order, from 1, at most `last_seqno`.
//! - RUN: never empty, tables sorted by key and disjoint; numbers fall and are below `next_run`.
//! - AGE: every entry of a newer run is newer than every entry of an older one.
//! - LOG: registered segments are newer than flushed ones and have their first file.
//! - VALUES: a flushed segment has a live value, and no more values than its file can hold; dead
//!   ones are in the file; a registered segment has no values yet.
//! - SUMS: sizes and counts of all tables and segments add up to less than 2^56, so whoever
//!   reckons with them need not look. No number of keys, file or run is larger.

use std::collections::{BTreeMap, HashSet};

use super::dead::LEAST_RECORD_LEN;
use super::meta::{SegmentMeta, SegmentState, TableMeta, Values};
use super::run::RunMeta;
use super::state::VersionState;
use crate::types::{FileNumber, MAX_FILE_NUMBER, MAX_LOG_SEGMENT_SIZE, MAX_SEQNO};
use crate::vlog::MAX_SEGMENT_SIZE;

/// Sizes and counts of all files add up to less.
const SUM_LIMIT: u64 = 1 << 56;

impl VersionState {
    /// Says which invariant does not hold, and where.
    pub(super) fn check_invariants(&self) -> Result<(), String> {
        if self.last_seqno > MAX_SEQNO {
            return Err(format!("last sequence number {} is too large", self.last_seqno));
        }
        for (what, number) in [("file number", self.next_file), ("run number", self.next_run)] {
            if number > MAX_FILE_NUMBER {
                return Err(format!("next {what} {number} is too large"));
            }
        }
        if let Some(keys) = self.counts.values().find(|keys| **keys > MAX_SEQNO) {
            return Err(format!("a number of keys, {keys}, is too large"));
        }
        self.check_sums()?;
        self.check_files()?;
        for run in &self.runs {
            self.check_run(run)?;
        }
        for pair in self.runs.windows(2) {
            if let [newer, older] = pair {
                check_age(newer, older)?;
            }
        }
        self.check_log()?;
        self.segments.values().try_for_each(check_values)
    }

    fn check_sums(&self) -> Result<(), String> {
        let mut sum = 0u64;
        let mut add = |numbers: &[u64]| {
            numbers.iter().try_for_each(|number| {
                sum = sum.checked_add(*number).filter(|sum| *sum < SUM_LIMIT)?;
                Some(())
            })
        };
        for table in self.tables() {
            let sizes = [table.size_bytes, table.value_bytes, table.old_bytes, table.entries];
            add(&sizes).ok_or_else(|| format!("table {} has an impossible size", table.number))?;
        }
        for segment in self.segments.values() {
            let sizes = [segment.size_bytes, segment.values.bytes, segment.values.count];
            let whole = segment.size_bytes
                <= match segment.state {
                    SegmentState::Registered => MAX_LOG_SEGMENT_SIZE,
                    SegmentState::Flushed => MAX_SEGMENT_SIZE,
                };
            add(&sizes)
                .filter(|()| whole)
                .ok_or_else(|| format!("segment {} has an impossible size", segment.id))?;
        }
        Ok(())
    }

    fn check_files(&self) -> Result<(), String> {
        let mut seen: HashSet<FileNumber> = HashSet::new();
        let tables = self.tables().map(|table| table.number);
        let segments = self.segments.keys().copied();
        let rewritten = self.rewritten_files()?;
        for number in tables.chain(segments).chain(rewritten) {
            if number == 0 || number >= self.next_file {
                let next = self.next_file;
                return Err(format!("file number {number} is not between 1 and {next}"));
            }
            if !seen.insert(number) {
                return Err(format!("file number {number} is in use twice"));
            }
        }
        Ok(())
    }

    /// The files of rewritten segments.
    fn rewritten_files(&self) -> Result<Vec<FileNumber>, String> {
        let mut files: BTreeMap<FileNumber, (&SegmentMeta, u64)> = BTreeMap::new();
        for segment in self.segments.values().filter(|segment| segment.file != segment.id) {
            let (first, bytes) = files.entry(segment.file).or_insert((segment, 0));
            *bytes += segment.values.bytes;
            if (first.salt, first.size_bytes) != (segment.salt, segment.size_bytes) {
                let (one, other, file) = (first.id, segment.id, segment.file);
                return Err(format!("segments {one} and {other} disagree on file {file}"));
            }
            if *bytes > segment.size_bytes {
                return Err(format!("file {} holds more values than bytes", segment.file));
            }
        }
        Ok(files.into_keys().collect())
    }

    fn check_run(&self, run: &RunMeta) -> Result<(), String> {
        let id = run.id;
        if id >= self.next_run {
            return Err(format!("run {id} is not below {}", self.next_run));
        }
        if run.tables.is_empty() {
            return Err(format!("run {id} has no tables"));
        }
        for table in &run.tables {
            self.check_table(table)?;
        }
        for pair in run.tables.windows(2) {
            if let [left, right] = pair
                && left.largest >= right.smallest
            {
                return Err(format!(
                    "tables {} and {} of run {id} overlap",
                    left.number, right.number
                ));
            }
        }
        Ok(())
    }

    fn check_table(&self, table: &TableMeta) -> Result<(), String> {
        let seqnos = [table.seqno_base, table.min_seqno, table.max_seqno, self.last_seqno];
        let what = if table.smallest > table.largest {
            "has its keys in the wrong order"
        } else if table.min_seqno == 0 || !seqnos.is_sorted() {
            "has impossible sequence numbers"
        } else if table.entries == 0 || table.tombstones > table.entries {
            "has impossible counts"
        } else {
            return Ok(());
        };
        Err(format!("table {} {what}", table.number))
    }

    fn check_log(&self) -> Result<(), String> {
        let mut log_began = None;
        for segment in self.segments.values() {
            match segment.state {
                SegmentState::Registered if segment.file != segment.id => {
                    return Err(format!("segment {} is rewritten before its flush", segment.id));
                }
                SegmentState::Registered => log_began = log_began.or(Some(segment.id)),
                SegmentState::Flushed => {
                    if let Some(older) = log_began {
                        return Err(format!("segment {} is flushed before {older}", segment.id));
                    }
                }
            }
        }
        Ok(())
    }
}

fn check_values(segment: &SegmentMeta) -> Result<(), String> {
    let SegmentMeta { id, values, dead, .. } = segment;
    let what = if segment.state == SegmentState::Registered {
        let none = *values == Values::default() && dead.is_empty();
        if none { None } else { Some("has values before its flush") }
    } else if values.end > segment.size_bytes || values.bytes > segment.size_bytes {
        Some("has values beyond its end")
    } else if values.bytes / LEAST_RECORD_LEN < values.count {
        Some("has values that are too short")
    } else if dead.bytes() >= values.bytes || dead.count() >= values.count {
        Some("has no live value")
    } else if segment.file == *id && !dead.is_empty() && u64::from(dead.last()) * 8 >= values.end {
        Some("has dead values behind its log")
    } else {
        None
    };
    what.map_or(Ok(()), |what| Err(format!("segment {id} {what}")))
}

fn check_age(newer: &RunMeta, older: &RunMeta) -> Result<(), String> {
    let (id, other) = (newer.id, older.id);
    if id <= other {
        return Err(format!("run {id} comes before run {other}"));
    }
    if newer.min_seqno() <= older.max_seqno() {
        return Err(format!("run {id} is not newer than run {other}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, table};
    use super::*;
    use std::sync::Arc;

    type Break = fn(&mut VersionState);

    fn edit_table(state: &mut VersionState, change: impl FnOnce(&mut TableMeta)) {
        change(Arc::make_mut(&mut state.runs[0].tables[0]));
    }

    fn segment(state: &mut VersionState) -> &mut SegmentMeta {
        state.segments.get_mut(&4).unwrap()
    }

    fn put_table(state: &mut VersionState, run: usize, table: TableMeta) {
        state.runs[run].tables.push(Arc::new(table));
    }

    #[test]
    fn the_sample_and_the_empty_state_are_sound() {
        assert_eq!(samples::state().check_invariants(), Ok(()));
        assert_eq!(VersionState::new(1, 2).check_invariants(), Ok(()));
    }

    #[test]
    fn every_broken_invariant_is_named() {
        let cases: [(&str, Break); 25] = [
            ("last sequence number 72057594037927936 is too large", |s| s.last_seqno = 1 << 56),
            ("file number 11 is not between 1 and 11", |s| s.next_file = 11),
            ("file number 0 is not between 1 and 12", |s| edit_table(s, |t| t.number = 0)),
            ("file number 8 is in use twice", |s| edit_table(s, |t| t.number = 8)),
            ("file number 7 is in use twice", |s| edit_table(s, |t| t.number = 7)),
            ("file number 5 is in use twice", |s| edit_table(s, |t| t.number = 5)),
            ("run 3 is not below 3", |s| s.next_run = 3),
            ("run 3 has no tables", |s| s.runs[0].tables.clear()),
            ("tables 8 and 9 of run 1 overlap", |s| {
                Arc::make_mut(&mut s.runs[2].tables[0]).largest = b"\0e".to_vec();
            }),
            ("table 11 has its keys in the wrong order", |s| {
                edit_table(s, |t| t.smallest = b"\0p".to_vec());
            }),
            ("table 11 has impossible sequence numbers", |s| edit_table(s, |t| t.min_seqno = 46)),
            ("table 11 has impossible sequence numbers", |s| edit_table(s, |t| t.max_seqno = 61)),
            ("table 11 has impossible sequence numbers", |s| edit_table(s, |t| t.seqno_base = 41)),
            ("table 11 has impossible counts", |s| edit_table(s, |t| t.entries = 0)),
            ("table 11 has impossible counts", |s| edit_table(s, |t| t.tombstones = 11)),
            ("run 3 is not newer than run 2", |s| {
                edit_table(s, |t| (t.min_seqno, t.seqno_base) = (35, 35));
            }),
            ("segment 6 is rewritten before its flush", |s| {
                s.segments.get_mut(&6).unwrap().file = 3;
            }),
            ("segment 7 is flushed before 6", |s| {
                s.segments.get_mut(&7).unwrap().state = SegmentState::Flushed;
            }),
            ("segments 3 and 4 disagree on file 5", |s| {
                let other = SegmentMeta { id: 3, salt: 1, ..s.segments[&4].clone() };
                s.segments.insert(3, other);
            }),
            ("file 5 holds more values than bytes", |s| {
                segment(s).values.bytes = 1 << 19;
                let other = SegmentMeta { id: 3, ..s.segments[&4].clone() };
                s.segments.insert(3, other);
                segment(s).values.bytes += 1;
            }),
            ("segment 6 has values before its flush", |s| {
                s.segments.get_mut(&6).unwrap().values.bytes = 16;
            }),
            ("segment 6 has values before its flush", |s| {
                s.segments.get_mut(&6).unwrap().values.least_len = 1;
            }),
            ("segment 4 has values beyond its end", |s| segment(s).values.end = (1 << 20) + 1),
            ("segment 4 has no live value", |s| segment(s).values.bytes = 200),
            ("segment 4 has dead values behind its log", |s| {
                (segment(s).file, segment(s).values.end) = (4, 8000);
            }),
        ];
        refused_each(cases);
    }

    #[test]
    fn numbers_that_are_too_large_are_named() {
        let cases: [(&str, Break); 13] = [
            ("next file number 72057594037927937 is too large", |s| s.next_file = (1 << 56) + 1),
            ("next run number 72057594037927937 is too large", |s| s.next_run = (1 << 56) + 1),
            ("a number of keys, 72057594037927936, is too large", |s| {
                s.counts.insert(0, 1 << 56);
            }),
            ("table 11 has an impossible size", |s| {
                edit_table(s, |t| t.size_bytes = u64::MAX - 500)
            }),
            ("table 10 has an impossible size", |s| {
                edit_table(s, |t| t.size_bytes = (1 << 56) - 4096)
            }),
            ("table 11 has an impossible size", |s| {
                edit_table(s, |t| (t.size_bytes, t.value_bytes) = (1, u64::MAX));
            }),
            ("table 11 has an impossible size", |s| {
                edit_table(s, |t| (t.old_bytes, t.entries) = (1 << 63, 1 << 63));
            }),
            ("segment 4 has an impossible size", |s| segment(s).size_bytes = u64::MAX),
            ("segment 4 has an impossible size", |s| segment(s).values.bytes = u64::MAX),
            ("segment 4 has an impossible size", |s| segment(s).values.count = 1 << 56),
            ("segment 4 has an impossible size", |s| segment(s).size_bytes = (8 << 32) + 4096),
            ("segment 6 has an impossible size", |s| {
                s.segments.get_mut(&6).unwrap().size_bytes = (1 << 30) + 4096;
            }),
            ("segment 4 has values that are too short", |s| {
                segment(s).values.count = segment(s).values.bytes / 16 + 1;
            }),
        ];
        refused_each(cases);
    }

    fn refused_each<const N: usize>(cases: [(&str, Break); N]) {
        for (message, change) in cases {
            let mut state = samples::state();
            change(&mut state);
            assert_eq!(state.check_invariants(), Err(message.into()));
        }
    }

    #[test]
    fn runs_in_the_wrong_order_are_named() {
        let mut state = samples::state();
        state.runs.swap(0, 1);
        assert_eq!(state.check_invariants(), Err("run 2 comes before run 3".into()));
        let mut state = samples::state();
        put_table(&mut state, 2, table(3, "x", "y", 30, 31));
        assert_eq!(state.check_invariants(), Err("run 2 is not newer than run 1".into()));
    }
}
