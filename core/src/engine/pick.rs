//! Which runs to merge (layer L5): a pure function of the state.
//!
//! Runs are merged whole, and only neighbours, so age order holds by construction. Small runs are
//! merged with others of their size; when what lies above the bottom run has grown to half of it,
//! everything is merged: each byte is rewritten about log4(size) times, a read meets few runs, and
//! what is obsolete stays under half of the bottom. Sizes are bytes of tables. Everything is also
//! merged when newer entries may hide more separated values than the promise about space leaves
//! room for, which is cheap where values are large: pointers are copied.

use crate::types::{FileNumber, SeqNo};
use crate::version::{KeyRange, RunId, RunMeta, VersionState};

/// Runs of similar size that are merged at once.
const FAN_IN: usize = 4;
/// From so many runs on, the newest are merged whatever their sizes.
const MOST_RUNS: usize = 12;
/// The part of the space that may be spent which values that nobody has met yet may take.
const HIDDEN_PART: u64 = 5;
/// A run whose tables are all this large is put beside its neighbour without a rewrite.
pub(crate) const JOIN_TABLE_BYTES: u64 = 8 << 20;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// Merge the runs at these places (newest first) into one.
    Merge {
        /// Index of the newest run in the state.
        first: usize,
        /// Number of runs.
        count: usize,
        /// Nothing older overlaps the inputs: tombstones that everybody sees may be dropped.
        bottom: bool,
    },
    /// The tables of run `newer` overlap nothing of the next older run: they join it by an edit.
    Join {
        /// Index of the newer run in the state.
        newer: usize,
    },
}

/// What a choice goes by, beside the state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'a> {
    /// Runs that are left alone.
    pub(crate) busy: &'a [RunId],
    /// Tables of this size are large.
    pub(crate) join_bytes: u64,
    /// Of what is live, so much may be spent.
    pub(crate) spare_percent: u64,
    /// Snapshots, ascending.
    pub(crate) snapshots: &'a [SeqNo],
}

/// The next job, or `None` when the shape is good.
pub(crate) fn pick(state: &VersionState, terms: &Terms<'_>) -> Option<Job> {
    let runs = &state.runs;
    let Terms { busy, join_bytes, .. } = *terms;
    let free = |index: usize| !busy.contains(&runs[index].id);
    let joinable = |newer: &usize| {
        free(*newer)
            && free(newer + 1)
            && large(&runs[*newer], join_bytes)
            && disjoint(&runs[*newer], &runs[newer + 1])
    };
    if let Some(newer) = (0..runs.len().saturating_sub(1)).find(joinable) {
        return Some(Job::Join { newer });
    }
    // The free stretch of newest runs; older ones wait for the job that holds them.
    let start = (0..runs.len()).find(|index| free(*index))?;
    let end = (start..runs.len()).find(|index| !free(*index)).unwrap_or(runs.len());
    let sizes: Vec<u64> = runs[start..end].iter().map(RunMeta::size_bytes).collect();
    let all = end - start == runs.len() && hides_too_much(runs, terms);
    let count = if all { Some(end) } else { window(&sizes, end == runs.len()) };
    Some(merge_of(state, start, count?))
}

/// Whether newer entries may hide more values than may wait to be found dead, those included that
/// were kept for snapshots which are gone.
fn hides_too_much(runs: &[RunMeta], terms: &Terms<'_>) -> bool {
    let total: u64 = runs.iter().map(|run| run.size_bytes() + run.value_bytes()).sum();
    let needless = needless_bytes(runs, terms.snapshots);
    hidden_bytes(runs) + needless > total / 100 * terms.spare_percent / HIDDEN_PART
}

/// Bytes of older versions that no snapshot can see.
pub(crate) fn needless_bytes(runs: &[RunMeta], snapshots: &[SeqNo]) -> u64 {
    let newest = snapshots.last().copied().unwrap_or(0);
    let tables = runs.iter().flat_map(|run| &run.tables);
    tables.filter(|table| newest < table.min_seqno).map(|table| table.old_bytes).sum()
}

/// So many bytes of values, about, may be hidden by newer entries: each hides at most one of an
/// older run, which is as long as they are on average, or as the newer value where only large ones
/// are written anew.
pub(crate) fn hidden_bytes(runs: &[RunMeta]) -> u64 {
    let hidden_in = |older: usize| {
        let (newer, older) = runs.split_at(older);
        let entries = |runs: &[RunMeta]| runs.iter().map(RunMeta::entries).sum::<u64>();
        let values = |runs: &[RunMeta]| runs.iter().map(RunMeta::value_bytes).sum::<u64>();
        let (hiding, hideable) = (values(newer), values(older));
        let (newer, older) = (entries(newer), entries(older).max(1));
        let average = u128::from(hideable) * u128::from(newer.min(older)) / u128::from(older);
        (average as u64).max(hiding.min(hideable))
    };
    (1..runs.len()).map(hidden_in).max().unwrap_or(0)
}

/// The merge of `count` runs from `first`, with the proof about tombstones.
pub(crate) fn merge_of(state: &VersionState, first: usize, count: usize) -> Job {
    let (inputs, older) = state.runs[first..].split_at(count);
    let overlapped = |run: &RunMeta| run.key_range().is_some_and(|range| overlaps(older, range));
    let bottom = !inputs.iter().any(overlapped);
    Job::Merge { first, count, bottom }
}

/// How many of the newest runs with these sizes (newest first) to merge.
fn window(sizes: &[u64], has_bottom: bool) -> Option<usize> {
    let count = sizes.len();
    if has_bottom && count > FAN_IN {
        let above: u64 = sizes[..count - 1].iter().sum();
        if above >= sizes[count - 1] / 2 {
            return Some(count);
        }
    }
    let mut sum = *sizes.first()?;
    let mut taken = 1;
    while taken < count && sizes[taken] <= sum + sum / 2 {
        sum += sizes[taken];
        taken += 1;
    }
    if taken >= FAN_IN {
        return Some(taken);
    }
    (count > MOST_RUNS).then_some(count.min(MOST_RUNS / 2).max(taken))
}

fn large(run: &RunMeta, join_bytes: u64) -> bool {
    run.tables.iter().all(|table| table.size_bytes >= join_bytes)
}

fn disjoint(newer: &RunMeta, older: &RunMeta) -> bool {
    let clear = |table: &std::sync::Arc<crate::version::TableMeta>| {
        !older.overlaps(KeyRange::inclusive(&table.smallest, &table.largest))
    };
    newer.tables.iter().all(clear)
}

fn overlaps(older: &[RunMeta], range: KeyRange<'_>) -> bool {
    older.iter().any(|run| run.overlaps(range))
}

/// The window of neighbouring runs that have a key in `range`, for a compaction by hand: first
/// index and count. `None` when there is nothing to gain: no such run, or one without tombstones
/// and old versions.
pub(crate) fn pick_range(state: &VersionState, range: KeyRange<'_>) -> Option<Job> {
    let runs = &state.runs;
    let first = runs.iter().position(|run| run.overlaps(range))?;
    let last = runs.iter().rposition(|run| run.overlaps(range))?;
    let count = last - first + 1;
    if count == 1 && runs[first].tombstones() == 0 {
        return None;
    }
    Some(merge_of(state, first, count))
}

/// Numbers of the tables of a job's inputs.
pub(crate) fn input_numbers(runs: &[RunMeta]) -> Vec<FileNumber> {
    runs.iter().flat_map(|run| run.tables.iter().map(|table| table.number)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::TableMeta;

    #[test]
    fn runs_of_one_size_wait_until_there_are_four() {
        assert_eq!(window(&[10], true), None);
        assert_eq!(window(&[10, 10, 10], true), None);
        assert_eq!(window(&[10, 10, 10, 10], true), Some(4));
    }

    #[test]
    fn a_large_bottom_run_is_spared_until_half_its_size_lies_above() {
        assert_eq!(window(&[10, 10, 10, 10, 1000], true), Some(4));
        assert_eq!(window(&[40, 1000], true), None);
        assert_eq!(window(&[10, 40, 160, 320, 1000], true), Some(5));
    }

    const TERMS: Terms<'static> =
        Terms { busy: &[], join_bytes: JOIN_TABLE_BYTES, spare_percent: 50, snapshots: &[] };

    /// A run of tables with so many entries, with so many bytes of values each.
    fn run(id: u64, entries: u64, value_len: u64) -> RunMeta {
        let table = TableMeta {
            number: id,
            size_bytes: entries * 50,
            smallest: b"\0a".to_vec(),
            largest: b"\0z".to_vec(),
            min_seqno: id,
            max_seqno: id,
            seqno_base: id,
            entries,
            tombstones: 0,
            value_bytes: entries * value_len,
            old_bytes: 0,
        };
        RunMeta { id, tables: vec![std::sync::Arc::new(table)] }
    }

    #[test]
    fn values_wait_to_be_found_dead_only_as_far_as_space_allows() {
        let runs = |newer: u64, len| [run(2, newer, len), run(1, 10_000, 4096)];
        assert_eq!(hidden_bytes(&runs(500, 4096)), 500 * 4096);
        assert_eq!(hidden_bytes(&runs(500, 0)), 500 * 4096, "tombstones hide as much");
        assert_eq!(hidden_bytes(&runs(20_000, 10)), 10_000 * 4096, "all of it and no more");
        let too_much = |runs: &[RunMeta], spare_percent| {
            hides_too_much(runs, &Terms { spare_percent, ..TERMS })
        };
        assert!(!too_much(&runs(900, 4096), 50));
        assert!(too_much(&runs(1200, 4096), 50));
        assert!(!too_much(&runs(1200, 4096), 100));
        // Where small values outweigh what is hidden, sizes alone decide.
        assert!(!too_much(&[run(2, 5000, 0), run(1, 10_000, 8)], 50));
        assert_eq!(hidden_bytes(&[run(1, 100, 4096)]), 0);
        // Among many small values only some large ones are written anew.
        let mixed = [run(2, 5000, 65_536), run(1, 1_000_000, 655)];
        assert_eq!(hidden_bytes(&mixed), 5000 * 65_536);
    }

    #[test]
    fn what_was_kept_for_a_snapshot_goes_when_it_is_gone() {
        let mut kept = run(7, 1000, 4096);
        std::sync::Arc::make_mut(&mut kept.tables[0]).old_bytes = 3_000_000;
        let state = VersionState { runs: vec![kept], ..VersionState::new(1, 2) };
        let job = |snapshots| pick(&state, &Terms { snapshots, ..TERMS });
        assert_eq!(job(&[7]), None, "it may see them");
        let all = Job::Merge { first: 0, count: 1, bottom: true };
        assert_eq!(job(&[6]), Some(all.clone()));
        assert_eq!(job(&[]), Some(all));
    }

    #[test]
    fn a_stable_shape_is_reached_whatever_arrives() {
        for size_of in [
            |_| 10u64,
            |i: u64| 1 + i * 37 % 50,
            |i: u64| if i.is_multiple_of(9) { 500 } else { 5 },
        ] {
            let mut sizes: Vec<u64> = Vec::new();
            let mut written = 0u64;
            let mut arrived = 0u64;
            for i in 0..400 {
                sizes.insert(0, size_of(i));
                arrived += size_of(i);
                while let Some(count) = window(&sizes, true) {
                    assert!(count > 1);
                    let merged: u64 = sizes.drain(..count).sum();
                    written += merged;
                    sizes.insert(0, merged);
                }
                assert!(sizes.len() <= MOST_RUNS);
            }
            assert!(written < 8 * arrived, "{written} {arrived}");
        }
    }
}
