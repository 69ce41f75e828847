//! The state of a version (layer L4): every live table and segment, as plain data.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::dead::DeadSet;
use super::edit::VersionEdit;
use super::meta::{RunId, SegmentMeta, SegmentState, TableMeta, Values};
use super::run::RunMeta;
use crate::error::{Error, ErrorKind, Result};
use crate::types::{FileNumber, KeyspaceId, SegmentId, SeqNo};

/// Which files are live, and what is recorded of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VersionState {
    /// The database's random identity; it never changes.
    pub(crate) db_id: u64,
    /// The seed of the hashes of keys in this database; it never changes.
    pub(crate) hash_seed: u64,
    /// Sorted runs, newest first.
    pub(crate) runs: Vec<RunMeta>,
    /// Segments of the value log by the number that addresses use.
    pub(crate) segments: BTreeMap<SegmentId, SegmentMeta>,
    /// Keys of each keyspace that are in tables.
    pub(crate) counts: BTreeMap<KeyspaceId, u64>,
    /// Every file number in use is below this one.
    pub(crate) next_file: FileNumber,
    /// No entry of a table has a larger sequence number; the log may go on behind it.
    pub(crate) last_seqno: SeqNo,
    /// Every run number ever used is below this one.
    pub(crate) next_run: RunId,
}

impl VersionState {
    /// An empty database.
    pub(crate) fn new(db_id: u64, hash_seed: u64) -> VersionState {
        VersionState {
            db_id,
            hash_seed,
            runs: Vec::new(),
            segments: BTreeMap::new(),
            counts: BTreeMap::new(),
            next_file: 1,
            last_seqno: 0,
            next_run: 1,
        }
    }

    /// The state after `edit`, its invariants checked. An edit that does not fit is refused and
    /// means that the caller computed it from another state.
    pub(crate) fn with(&self, edit: &VersionEdit) -> Result<VersionState> {
        let mut state = self.clone();
        let outcome = state.apply(edit).and_then(|()| state.check_invariants());
        match outcome {
            Ok(()) => Ok(state),
            Err(what) => Err(Error::new(
                ErrorKind::Corruption,
                format!("a version edit does not fit the version: {what}"),
            )),
        }
    }

    /// The edit that makes this state from an empty one.
    pub(super) fn to_edit(&self) -> VersionEdit {
        let mut edit = VersionEdit::new();
        for run in &self.runs {
            for table in &run.tables {
                edit.add_table(run.id, TableMeta::clone(table));
            }
        }
        for segment in self.segments.values() {
            edit.add_dead(segment.id, segment.dead.clone());
            let dead = DeadSet::default();
            edit.added_segments.push(SegmentMeta { dead, ..segment.clone() });
        }
        edit.counts = self.counts.iter().map(|(&keyspace, &keys)| (keyspace, keys)).collect();
        edit.next_file = Some(self.next_file);
        edit.last_seqno = Some(self.last_seqno);
        edit.next_run = Some(self.next_run);
        edit
    }

    /// Every live table, newest run first.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Arc<TableMeta>> {
        self.runs.iter().flat_map(|run| &run.tables)
    }

    /// The run with this number.
    #[cfg(test)]
    pub(crate) fn run(&self, id: RunId) -> Option<&RunMeta> {
        self.runs.get(self.run_index(id).ok()?)
    }

    /// Applies an edit. When it is refused, the state is half changed and of no use any more.
    pub(super) fn apply(&mut self, edit: &VersionEdit) -> Result<(), String> {
        self.next_file = self.next_file.max(edit.next_file.unwrap_or(0));
        self.last_seqno = self.last_seqno.max(edit.last_seqno.unwrap_or(0));
        self.next_run = self.next_run.max(edit.next_run.unwrap_or(0));
        self.remove_tables(&edit.removed_tables)?;
        for (run, table) in &edit.added_tables {
            self.add_table(*run, table)?;
        }
        for id in &edit.removed_segments {
            let removed = self.segments.remove(id);
            removed.ok_or_else(|| format!("segment {id} is removed and was not there"))?;
        }
        for segment in &edit.added_segments {
            if self.segments.insert(segment.id, segment.clone()).is_some() {
                return Err(format!("segment {} is added and was there", segment.id));
            }
        }
        for &(id, values) in &edit.flushed_segments {
            self.set_flushed(id, values)?;
        }
        for (id, dead) in &edit.dead_values {
            self.add_dead(*id, dead)?;
        }
        self.counts.extend(edit.counts.iter().copied());
        Ok(())
    }

    fn remove_tables(&mut self, numbers: &[FileNumber]) -> Result<(), String> {
        if numbers.is_empty() {
            return Ok(());
        }
        let mut removed: HashSet<FileNumber> = numbers.iter().copied().collect();
        if removed.len() != numbers.len() {
            return Err("a table is removed twice".into());
        }
        for run in &mut self.runs {
            run.tables.retain(|table| !removed.remove(&table.number));
        }
        self.runs.retain(|run| !run.tables.is_empty());
        match removed.iter().min() {
            Some(number) => Err(format!("table {number} is removed and was not there")),
            None => Ok(()),
        }
    }

    fn add_table(&mut self, id: RunId, table: &TableMeta) -> Result<(), String> {
        let table = Arc::new(table.clone());
        let index = match self.run_index(id) {
            Ok(index) => index,
            Err(index) => {
                self.runs.insert(index, RunMeta { id, tables: Vec::new() });
                index
            }
        };
        let tables = &mut self.runs[index].tables;
        let place = tables.partition_point(|other| other.smallest < table.smallest);
        if tables.iter().any(|other| other.number == table.number) {
            return Err(format!("table {} is added and was there", table.number));
        }
        tables.insert(place, table);
        Ok(())
    }

    fn set_flushed(&mut self, id: SegmentId, values: Values) -> Result<(), String> {
        let segment = self.segments.get_mut(&id);
        let segment = segment.ok_or_else(|| format!("segment {id} is flushed and not there"))?;
        if segment.state == SegmentState::Flushed {
            return Err(format!("segment {id} is flushed twice"));
        }
        segment.state = SegmentState::Flushed;
        segment.values = values;
        Ok(())
    }

    fn add_dead(&mut self, id: SegmentId, dead: &DeadSet) -> Result<(), String> {
        let segment = self.segments.get_mut(&id);
        let segment = segment.ok_or_else(|| format!("values of segment {id} die, it is gone"))?;
        let union = segment.dead.union(dead);
        segment.dead = union.ok_or_else(|| format!("a value of segment {id} dies twice"))?;
        Ok(())
    }

    /// Where the run with this number is, or where it belongs.
    fn run_index(&self, id: RunId) -> Result<usize, usize> {
        self.runs.binary_search_by(|run| id.cmp(&run.id))
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, table};
    use super::*;

    #[test]
    fn an_edit_changes_what_it_names() {
        let state = samples::state();
        let mut edit = VersionEdit::new();
        edit.remove_table(10);
        edit.remove_table(11);
        edit.add_table(3, table(20, "a", "z", 30, 60));
        edit.remove_segment(4);
        edit.add_segment(SegmentMeta::registered(21, 5, 4096));
        let values = Values { least_len: 10, end: 6000, count: 5, bytes: 1000 };
        edit.set_segment_flushed(6, values);
        edit.add_dead(6, DeadSet::new(vec![600, 700], 400));
        edit.set_count(0, 41);
        let next = state.with(&edit).unwrap();
        let runs: Vec<(u64, Vec<u64>)> = next
            .runs
            .iter()
            .map(|run| (run.id, run.tables.iter().map(|table| table.number).collect()))
            .collect();
        assert_eq!(runs, [(3, vec![20]), (1, vec![8, 9])]);
        assert_eq!(next.segments.keys().copied().collect::<Vec<_>>(), [6, 7, 21]);
        assert_eq!(next.segments[&6].state, SegmentState::Flushed);
        assert_eq!(next.segments[&6].values, values);
        assert_eq!((next.segments[&6].live_bytes(), next.segments[&6].live_count()), (600, 3));
        assert_eq!(next.counts, BTreeMap::from([(0, 41), (3, 7)]));
        assert_eq!((next.next_file, next.next_run, next.last_seqno), (22, 4, 60));
        assert_eq!(next.run(3).map(|run| run.tables.len()), Some(1));
        assert_eq!(next.run(2), None);
        assert_eq!(next.tables().map(|table| table.number).collect::<Vec<_>>(), [20, 8, 9]);
    }

    #[test]
    fn counters_never_fall() {
        let state = samples::state();
        let edit = VersionEdit {
            next_file: Some(1),
            last_seqno: Some(1),
            next_run: Some(1),
            ..VersionEdit::new()
        };
        assert_eq!(state.with(&edit).unwrap(), state);
    }

    #[test]
    fn a_table_may_move_between_runs_in_one_edit() {
        let mut edit = VersionEdit::new();
        edit.remove_table(11);
        edit.add_table(2, table(11, "n", "o", 30, 45));
        let next = samples::state().with(&edit).unwrap();
        assert_eq!(next.runs.iter().map(|run| run.id).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(next.runs[0].tables.len(), 2);
    }

    #[test]
    fn edits_that_do_not_fit_are_refused_and_change_nothing() {
        let state = samples::state();
        type Case = (&'static str, fn(&mut VersionEdit));
        let cases: [Case; 11] = [
            ("table 99 is removed and was not there", |edit| edit.remove_table(99)),
            ("a table is removed twice", |edit| edit.removed_tables = vec![8, 8]),
            ("table 8 is added and was there", |edit| {
                edit.add_table(1, table(8, "x", "y", 1, 2));
            }),
            ("segment 5 is removed and was not there", |edit| edit.remove_segment(5)),
            ("segment 6 is added and was there", |edit| {
                edit.add_segment(SegmentMeta::registered(6, 1, 4096));
            }),
            ("segment 5 is flushed and not there", |edit| {
                edit.set_segment_flushed(5, Values::default());
            }),
            ("segment 4 is flushed twice", |edit| {
                edit.set_segment_flushed(4, Values::default());
            }),
            ("values of segment 5 die, it is gone", |edit| {
                edit.add_dead(5, DeadSet::new(vec![512], 16));
            }),
            ("a value of segment 4 dies twice", |edit| {
                edit.add_dead(4, DeadSet::new(vec![513, 600], 32));
            }),
            ("segment 4 has no live value", |edit| {
                edit.add_dead(4, DeadSet::new(vec![514, 515], 69_800));
            }),
            ("tables 9 and 40 of run 1 overlap", |edit| {
                edit.add_table(1, table(40, "f", "g", 5, 6));
            }),
        ];
        for (message, change) in cases {
            let mut edit = VersionEdit::new();
            change(&mut edit);
            let error = state.with(&edit).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption);
            assert!(error.message().ends_with(message), "{error}: {message}");
        }
        assert_eq!(state, samples::state());
    }

    #[test]
    fn a_state_is_made_again_by_its_edit() {
        for state in [samples::state(), VersionState::new(1, 2)] {
            let mut again = VersionState::new(state.db_id, state.hash_seed);
            again.apply(&state.to_edit()).unwrap();
            assert_eq!(again, state);
        }
    }
}
