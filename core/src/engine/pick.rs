//! Which runs to merge (layer L5): a pure function of the state.
//!
//! Runs are merged whole, and only neighbours, so age order holds by construction. Small runs are
//! merged with others of their size; when what lies above the bottom run has grown to half of it,
//! everything is merged: each byte is rewritten about log4(size) times, a read meets few runs, and
//! what is obsolete stays under half of the bottom. Bytes are table bytes plus the bytes of the
//! values that they point to where those may be waiting to be discovered as dead.

use crate::types::FileNumber;
use crate::version::{KeyRange, RunId, RunMeta, VersionState};

/// Runs of similar size that are merged at once.
const FAN_IN: usize = 4;
/// From so many runs on, the newest are merged whatever their sizes.
const MOST_RUNS: usize = 12;
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

/// The next job, or `None` when the shape is good. Runs in `busy` are left alone; tables of
/// `join_bytes` are large.
pub(crate) fn pick(state: &VersionState, busy: &[RunId], join_bytes: u64) -> Option<Job> {
    let runs = &state.runs;
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
    let count = window(&sizes, end == runs.len())?;
    Some(merge_of(state, start, count))
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
