//! What the manifest says of tables and values, counted again (layer L5).
//!
//! Invariant: every value that is not recorded dead has exactly one entry that points to it. What
//! tables point to and what segments hold are compared by sums, of addresses as well, so that no
//! memory is taken for each value.

use std::collections::HashMap;
use std::path::Path;

use crate::checksum::mix64;
use crate::error::{Error, Result};
use crate::filename::FileName;
use crate::planted::planted;
use crate::table::Table;
use crate::types::{Kind, SegmentId, ValuePointer};
use crate::version::{SegmentMeta, TableMeta};
use crate::vlog::record_len;

/// Values: how many, what their records take, and the sum of what their addresses hash to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    count: u64,
    bytes: u64,
    addresses: u64,
}

impl Sum {
    /// One value more, at an address in units of 8 bytes.
    pub(super) fn add(&mut self, unit: u64, record_len: u64) {
        self.count += 1;
        self.bytes = self.bytes.wrapping_add(record_len);
        self.addresses = self.addresses.wrapping_add(mix64(unit, record_len));
    }
}

/// A count under way.
#[derive(Default)]
pub(super) struct Recount {
    /// What tables point to.
    pointed: HashMap<SegmentId, Sum>,
    /// Some table could not be read as a whole, so what it points to is not known.
    partial: bool,
    /// The table that is being read is such a one.
    missed_some: bool,
    /// Of the table that is being read: its last key, and what its entries take that are not the
    /// newest of their key.
    key: Vec<u8>,
    old_bytes: u64,
}

impl Recount {
    /// Another table begins.
    pub(super) fn begin_table(&mut self) {
        self.missed_some = false;
        self.key.clear();
        self.old_bytes = 0;
    }

    /// Some of the table is not read.
    pub(super) fn miss(&mut self) {
        self.missed_some = true;
        self.partial = true;
    }

    /// The next entry of the table.
    pub(super) fn entry(&mut self, key: &[u8], kind: Kind, value: &[u8]) {
        let pointer = ValuePointer::decode(value).filter(|_| kind == Kind::Pointer);
        if let Some(ValuePointer { segment, offset, len }) = pointer {
            let record_len = record_len(key.len(), len);
            self.pointed.entry(segment).or_default().add(offset / 8, record_len);
        }
        if self.key == key {
            let value_len = pointer.map_or(value.len() as u64, |pointer| u64::from(pointer.len));
            self.old_bytes += key.len() as u64 + value_len;
        } else {
            self.key.clear();
            self.key.extend_from_slice(key);
        }
    }

    /// Whether the manifest says of the table that was read what is in it.
    pub(super) fn check_table(&self, table: &Table, meta: &TableMeta) -> Result<()> {
        let TableMeta { entries, tombstones, value_bytes, min_seqno, max_seqno, .. } = *meta;
        let right = table.counts() == [entries, tombstones, value_bytes, min_seqno, max_seqno]
            && self.old_bytes == meta.old_bytes
            && table.smallest() == meta.smallest
            && table.largest() == meta.largest;
        if right || self.missed_some || planted("verify: tables not beside the manifest") {
            return Ok(());
        }
        let what = "the manifest says other keys or numbers of this table than it has";
        Err(Error::corruption(table.path(), 0, what))
    }

    /// Whether manifest and tables say of a flushed segment what is in it: `live`, the sum of what
    /// is not recorded dead.
    pub(super) fn check_segment(&self, dir: &Path, meta: &SegmentMeta, live: Sum) -> Result<()> {
        let wrong = |what| Err(Error::corruption(&FileName::Segment(meta.file).path(dir), 0, what));
        let (id, Sum { count, bytes, .. }) = (meta.id, live);
        let said = (meta.live_count(), meta.live_bytes());
        if (count, bytes) != said && !planted("verify: values not beside the manifest") {
            return wrong(format!(
                "segment {id} has {count} live values in {bytes} bytes, the manifest says {} in {}",
                said.0, said.1
            ));
        }
        let pointed = self.pointed.get(&id).copied().unwrap_or_default();
        if pointed == live || self.partial || planted("verify: dead values not counted again") {
            return Ok(());
        }
        let others = if pointed.count == count { " others" } else { "" };
        wrong(format!(
            "segment {id} has {count} values not recorded dead, tables point to {}{others}",
            pointed.count
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::FileAccess;
    use crate::db::Db;
    use crate::fs::FileSystem;
    use crate::fs::sim::SimDisk;
    use crate::options::Options;
    use crate::report::{DamageReport, Finding};
    use crate::scan::ScanOptions;
    use crate::table::{IterMode, TableIter};
    use crate::version::{self, DeadSet, Manifest, SegmentState, VersionState};
    use std::ops::{Bound, ControlFlow};
    use std::sync::Arc;

    const PATH: &str = "/db";
    /// Values that are separated, records of equal lengths.
    const KEYS: u32 = 40;

    fn key(number: u32) -> Vec<u8> {
        format!("key{number:03}").into_bytes()
    }

    /// A closed database with a segment that has live and dead values, old versions and tombstones.
    fn sample() -> SimDisk {
        let disk = SimDisk::new();
        let options = Options::new().memtable_size_bytes(1 << 20).space_amplification_percent(900);
        let db = disk.open_db(PATH, &options).unwrap();
        for number in 0..KEYS {
            db.put(&key(number), &vec![number as u8; 2000]).unwrap();
            db.put(&[b"small", &key(number)[..]].concat(), b"value").unwrap();
        }
        db.flush().unwrap();
        for number in 0..10 {
            db.put(&key(number), &vec![0xee; 2000]).unwrap();
        }
        db.flush().unwrap();
        db.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
        let snapshot = db.snapshot().unwrap();
        for number in 5..15 {
            db.put(&key(number), &vec![0xdd; 2000]).unwrap();
            db.delete(&[b"small", &key(number)[..]].concat()).unwrap();
        }
        db.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
        db.close().unwrap();
        drop(snapshot);
        disk
    }

    fn state_of(disk: &SimDisk) -> VersionState {
        version::load(disk, Path::new(PATH)).unwrap().unwrap().state
    }

    fn verify(disk: &SimDisk) -> DamageReport {
        disk.verify_db(PATH, &mut |_| ControlFlow::Continue(())).unwrap()
    }

    /// What verify finds in the sample, all of whose files are right, when the manifest says
    /// something else; and whether reads notice.
    fn with_manifest(change: impl FnOnce(&SimDisk, &mut VersionState)) -> (DamageReport, bool) {
        with_manifest_of(&sample(), change)
    }

    fn with_manifest_of(
        disk: &SimDisk,
        change: impl FnOnce(&SimDisk, &mut VersionState),
    ) -> (DamageReport, bool) {
        let mut state = state_of(disk);
        change(disk, &mut state);
        let number = state.next_file;
        state.next_file += 1;
        Manifest::create(disk, Path::new(PATH), number, &state).unwrap();
        let read = |db: &Db| {
            let scan = db.scan(&ScanOptions::new())?;
            scan.collect::<Result<Vec<_>>>().map(|rows| rows.len())
        };
        let opened = disk.open_db(PATH, &Options::new().read_only(true));
        let works = opened.and_then(|db| read(&db)).is_ok();
        (verify(disk), works)
    }

    /// The one finding.
    #[track_caller]
    fn only(report: &DamageReport) -> &Finding {
        let [finding] = &report.findings[..] else { panic!("{:?}", report.findings) };
        finding
    }

    /// A flushed segment of the sample with dead values.
    fn worn(state: &mut VersionState) -> &mut SegmentMeta {
        let worn = |meta: &&mut SegmentMeta| {
            meta.state == SegmentState::Flushed && meta.dead.count() > 1 && meta.live_count() > 1
        };
        state.segments.values_mut().find(worn).unwrap()
    }

    fn record_bytes() -> u64 {
        record_len(key(0).len() + 1, 2000)
    }

    /// The addresses in a segment that tables point to, in units of 8 bytes.
    fn live_units(disk: &SimDisk, id: SegmentId) -> Vec<u32> {
        let state = state_of(disk);
        let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
        let access = FileAccess::new(1 << 20, false);
        let mut units = Vec::new();
        for meta in state.tables() {
            let path = FileName::Table(meta.number).path(Path::new(PATH));
            let (size, seed, base) = (meta.size_bytes, state.hash_seed, meta.seqno_base);
            let table = Table::open(&fs, &path, meta.number, size, seed, base, &access).unwrap();
            let mut iter = TableIter::new(Arc::new(table), IterMode::Mapped).unwrap();
            iter.seek_to_first().unwrap();
            while iter.valid() {
                let pointer = ValuePointer::decode(iter.value()).filter(|own| own.segment == id);
                let pointer = pointer.filter(|_| iter.kind() == Kind::Pointer);
                units.extend(pointer.map(|pointer| (pointer.offset / 8) as u32));
                iter.next().unwrap();
            }
        }
        units
    }

    #[test]
    fn what_the_manifest_says_is_counted_and_right() {
        let (report, works) = with_manifest(|_, state| {
            worn(state);
            assert!(state.tables().any(|table| table.old_bytes > 0 && table.tombstones > 0));
        });
        assert!(works && report.is_clean(), "{:?}", report.findings);
    }

    #[test]
    fn a_dead_value_that_is_not_recorded_is_found() {
        let (report, works) = with_manifest(|_, state| {
            let meta = worn(state);
            let units: Vec<u32> = meta.dead.units().skip(1).collect();
            meta.dead = DeadSet::new(units, meta.dead.bytes() - record_bytes());
        });
        assert!(works, "reads cannot notice");
        let finding = only(&report);
        assert!(finding.what.contains("not recorded dead, tables point to"), "{finding:?}");
        assert!(finding.path.to_str().unwrap().ends_with(".vlog"), "{finding:?}");
    }

    #[test]
    fn a_live_value_that_is_recorded_dead_is_found() {
        let (report, works) = with_manifest(|disk, state| {
            let meta = worn(state);
            let live = live_units(disk, meta.id)[0];
            let units = meta.dead.units().chain([live]).collect();
            meta.dead = DeadSet::new(units, meta.dead.bytes() + record_bytes());
        });
        assert!(works, "reads cannot notice");
        assert!(only(&report).what.contains("not recorded dead, tables point to"), "{report:?}");
    }

    #[test]
    fn a_live_value_in_the_place_of_a_dead_one_is_found_by_its_address() {
        let (report, works) = with_manifest(|disk, state| {
            let meta = worn(state);
            let live = live_units(disk, meta.id)[0];
            let units = meta.dead.units().skip(1).chain([live]).collect();
            meta.dead = DeadSet::new(units, meta.dead.bytes());
        });
        assert!(works, "reads cannot notice");
        assert!(only(&report).what.ends_with(" others"), "{report:?}");
    }

    #[test]
    fn other_numbers_of_values_are_found() {
        let changes: [fn(&mut SegmentMeta); 2] =
            [|meta| meta.values.count += 1, |meta| meta.values.bytes += 16];
        for change in changes {
            let (report, works) = with_manifest(|_, state| change(worn(state)));
            assert!(works, "reads cannot notice");
            assert!(only(&report).what.contains("the manifest says"), "{report:?}");
        }
    }

    #[test]
    fn other_numbers_of_tables_are_found() {
        let changes: [fn(&mut TableMeta); 6] = [
            |meta| meta.entries += 1,
            |meta| meta.tombstones -= 1,
            |meta| meta.value_bytes += 1,
            |meta| meta.old_bytes += 1,
            |meta| meta.max_seqno -= 1,
            |meta| meta.largest.push(b'x'),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let (report, works) = with_manifest(|_, state| {
                let last = state.runs.last_mut().unwrap();
                change(Arc::make_mut(last.tables.last_mut().unwrap()));
            });
            assert!(works, "{index}: reads cannot notice");
            let finding = only(&report);
            assert!(finding.what.contains("the manifest says other"), "{index}: {finding:?}");
            assert!(finding.path.to_str().unwrap().ends_with(".table"), "{index}: {finding:?}");
        }
    }

    #[test]
    fn another_number_of_keys_is_found() {
        let (report, works) =
            with_manifest(|_, state| state.counts.values_mut().for_each(|keys| *keys += 1));
        assert!(works, "reads cannot notice");
        assert!(only(&report).what.contains("are counted"), "{report:?}");
    }

    #[test]
    fn a_segment_that_tables_point_to_and_the_manifest_does_not_name_is_found() {
        let mut gone = 0;
        let (report, works) = with_manifest(|_, state| {
            gone = worn(state).id;
            state.segments.remove(&gone);
        });
        assert!(!works, "its values cannot be read");
        let what = format!("points into segment {gone}, which is not live");
        let finding = report.findings.iter().find(|finding| finding.what.contains(&what)).unwrap();
        assert_eq!(finding.records, Some(1), "{finding:?}");
        assert!(finding.first_key.is_some() && finding.path.ends_with("CURRENT"), "{finding:?}");
    }

    #[test]
    fn a_rewritten_segment_that_is_not_in_its_file_is_found() {
        let disk = sample();
        let db = disk.open_db(PATH, &Options::new()).unwrap();
        db.gc().unwrap();
        db.close().unwrap();
        let (report, works) = with_manifest_of(&disk, |_, state| {
            let rewritten = state.segments.values().find(|meta| meta.file != meta.id).unwrap().id;
            let own = state.segments.remove(&rewritten).unwrap();
            let free = |id: &SegmentId| {
                !state.segments.contains_key(id) && state.tables().all(|table| table.number != *id)
            };
            let id = (1..).find(free).unwrap();
            state.segments.insert(id, SegmentMeta { id, ..own });
        });
        assert!(!works, "the database is not opened");
        let what = "a rewritten segment is not in its file";
        let finding = report.findings.iter().find(|finding| finding.what.contains(what)).unwrap();
        assert!(finding.path.to_str().unwrap().ends_with(".vlog"), "{finding:?}");
    }

    #[test]
    fn what_a_damaged_table_points_to_is_not_counted() {
        let disk = sample();
        let state = state_of(&disk);
        let number = state.tables().next().unwrap().number;
        let path = FileName::Table(number).path(Path::new(PATH));
        let byte = disk.read_file(&path).unwrap()[100];
        disk.overwrite(&path, 100, &[byte ^ 1]).unwrap();
        assert_eq!(only(&verify(&disk)).path, path);
    }
}
