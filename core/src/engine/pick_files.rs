//! Which files of segments to collect (layer L5): a pure function of the state.
//!
//! Space that holds no live value is *spent*. A share of what is live may be; beyond it the files
//! with most to gain are rewritten, so each byte copied frees as much as possible. A file that has
//! nothing to gain is never rewritten, except that many small ones are joined.

use std::collections::BTreeMap;

use super::pick::hidden_bytes;
use crate::types::FileNumber;
use crate::version::{SegmentMeta, SegmentState, VersionState};

/// What one page of a rewritten file takes.
const PAGE: u64 = 4096;
/// Entries of an offset map in a page.
const MAP_PAGE_ENTRIES: u64 = 511;
/// So many small files are joined.
pub(crate) const JOIN_FILES: u64 = 8;
/// A small file is at most this part of a full one.
const SMALL_PART: u64 = 8;

/// What collection is to reach.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    /// Bytes that may be spent for every 100 that are live.
    pub(crate) spare_percent: u64,
    /// The size that files shall have.
    pub(crate) file_bytes: u64,
    /// Only files with smaller numbers are collected.
    pub(crate) before: FileNumber,
    /// So many small files are joined.
    pub(crate) join_files: u64,
    /// No more is copied at once: there is no room.
    pub(crate) most_live: u64,
}

/// One file with live values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileUse {
    /// Its size.
    pub(crate) size_bytes: u64,
    /// What its live values take.
    pub(crate) live_bytes: u64,
    /// What those take that are recorded dead.
    pub(crate) dead_bytes: u64,
    /// The size of a file with those alone.
    pub(crate) least_bytes: u64,
}

impl FileUse {
    /// What a rewrite frees.
    pub(crate) fn gain(&self) -> u64 {
        self.size_bytes.saturating_sub(self.least_bytes)
    }

    /// Whether a rewrite frees more than it is worth: at least a twentieth, and four pages.
    pub(crate) fn pays(&self) -> bool {
        self.gain() >= (self.size_bytes / 20).max(4 * PAGE)
    }
}

/// The files of flushed segments.
pub(crate) fn file_uses(state: &VersionState) -> BTreeMap<FileNumber, FileUse> {
    let mut files: BTreeMap<FileNumber, FileUse> = BTreeMap::new();
    let flushed = |segment: &&SegmentMeta| segment.state == SegmentState::Flushed;
    for segment in state.segments.values().filter(flushed) {
        let file = files.entry(segment.file).or_insert_with(|| FileUse {
            size_bytes: segment.size_bytes,
            live_bytes: 0,
            dead_bytes: 0,
            least_bytes: 3 * PAGE,
        });
        file.live_bytes += segment.live_bytes();
        file.dead_bytes += segment.dead.bytes();
        let map = segment.live_count().div_ceil(MAP_PAGE_ENTRIES) * PAGE;
        file.least_bytes += segment.live_bytes() + map + 16;
    }
    files
}

/// Nanoseconds that writers owe per KiB because collection lags behind: nothing until what is spent
/// beyond the share that may be, and a collection would free, is half of what is live and
/// `lag_bytes`, then more and more, up to 16 us at twice as much.
pub(crate) fn pressure_of(
    files: &BTreeMap<FileNumber, FileUse>,
    spared: &[FileNumber],
    spare_percent: u64,
    lag_bytes: u64,
) -> u64 {
    let live: u64 = files.values().map(|file| file.live_bytes).sum();
    let sizes: u64 = files.values().map(|file| file.size_bytes).sum();
    let over = sizes.saturating_sub(live + live / 100 * spare_percent);
    let paying = files.iter().filter(|(number, file)| file.pays() && !spared.contains(number));
    let over = over.min(paying.map(|(_, file)| file.gain()).sum());
    let step = live / 2 + lag_bytes;
    let beyond = u128::from(over.saturating_sub(step).min(step));
    (beyond * 16_000 / u128::from(step.max(1))) as u64
}

/// The files to rewrite into one, or `None` when enough is free. Files in `spared` are left alone.
pub(crate) fn pick_files(
    state: &VersionState,
    goal: &Goal,
    spared: &[FileNumber],
) -> Option<Vec<FileNumber>> {
    let mut files: Vec<(FileNumber, FileUse)> = file_uses(state).into_iter().collect();
    let spent = spent(state, goal, &files);
    files.retain(|(number, file)| {
        let fits = file.live_bytes <= goal.most_live;
        fits && *number < goal.before && !spared.contains(number)
    });
    choose(files, spent.0, spent.1, goal)
}

/// Bytes that are spent, and bytes that may be.
fn spent(state: &VersionState, goal: &Goal, files: &[(FileNumber, FileUse)]) -> (u64, u64) {
    let live: u64 = files.iter().map(|(_, file)| file.live_bytes).sum();
    let sizes: u64 = files.iter().map(|(_, file)| file.size_bytes).sum();
    let allowed = live / 100 * goal.spare_percent;
    let log = state.segments.values().filter(|own| own.state == SegmentState::Registered);
    let log: u64 = log.map(|segment| segment.size_bytes).sum();
    // The log's own segments, and values that newer ones hide, count as far as they can be made
    // up for.
    let hidden = hidden_bytes(&state.runs).min(allowed / 4);
    (sizes.saturating_sub(live) + log.min(allowed / 4) + hidden, allowed)
}

fn choose(
    mut files: Vec<(FileNumber, FileUse)>,
    spent: u64,
    allowed: u64,
    goal: &Goal,
) -> Option<Vec<FileNumber>> {
    // Compared without division: live bytes copied for each byte freed.
    files.sort_by(|(_, a), (_, b)| {
        let product = |x: &FileUse, y: &FileUse| u128::from(x.live_bytes) * u128::from(y.gain());
        product(a, b).cmp(&product(b, a))
    });
    let mut left = spent;
    let wanted = files.iter().filter(|(_, file)| file.pays()).filter(|(_, file)| {
        let wanted = left > allowed;
        left = left.saturating_sub(file.gain());
        wanted
    });
    let most = goal.file_bytes.min(goal.most_live);
    let taken = fill(wanted, most);
    if !taken.is_empty() {
        return Some(taken);
    }
    let small = |file: &FileUse| file.size_bytes <= goal.file_bytes / SMALL_PART;
    let taken = fill(files.iter().filter(|(_, file)| small(file)), most);
    (taken.len() as u64 >= goal.join_files).then_some(taken)
}

/// The first of `files`, and more as long as all fit into one of `file_bytes`.
fn fill<'a>(
    files: impl Iterator<Item = &'a (FileNumber, FileUse)>,
    file_bytes: u64,
) -> Vec<FileNumber> {
    let mut sum = 0;
    let mut fits = |live: u64| {
        sum += live;
        sum == live || sum <= file_bytes
    };
    files.take_while(|(_, file)| fits(file.live_bytes)).map(|(number, _)| *number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const GOAL: Goal = Goal {
        spare_percent: 50,
        file_bytes: 64 * MIB,
        before: FileNumber::MAX,
        join_files: JOIN_FILES,
        most_live: u64::MAX,
    };

    fn file(size: u64, live: u64) -> FileUse {
        FileUse {
            size_bytes: size * MIB,
            live_bytes: live * MIB,
            dead_bytes: 0,
            least_bytes: live * MIB + 8 * PAGE,
        }
    }

    fn pick_of(files: &[(u64, u64)], allowed: u64) -> Option<Vec<u64>> {
        let files: Vec<_> =
            (1..).zip(files.iter().map(|(size, live)| file(*size, *live))).collect();
        let spent = files.iter().map(|(_, file)| file.size_bytes - file.live_bytes).sum();
        choose(files, spent, allowed * MIB, &GOAL)
    }

    #[test]
    fn nothing_is_rewritten_while_what_is_spent_is_allowed() {
        assert_eq!(pick_of(&[(64, 60), (64, 20)], 48), None);
        assert_eq!(pick_of(&[(64, 60), (64, 20)], 47), Some(vec![2]));
        assert_eq!(pick_of(&[], 0), None);
    }

    #[test]
    fn the_cheapest_files_are_taken_as_far_as_needed_and_as_they_fill_one() {
        let files = [(64, 40), (64, 10), (64, 50), (64, 20)];
        assert_eq!(pick_of(&files, 120), Some(vec![2]));
        assert_eq!(pick_of(&files, 80), Some(vec![2, 4]));
        assert_eq!(pick_of(&files, 0), Some(vec![2, 4]), "70 MiB would be more than one file");
    }

    #[test]
    fn full_files_are_never_rewritten() {
        assert_eq!(pick_of(&[(64, 62), (64, 63)], 0), None);
        let tiny = FileUse {
            size_bytes: 5 * PAGE,
            live_bytes: 100,
            dead_bytes: 0,
            least_bytes: 4 * PAGE + 116,
        };
        assert_eq!(choose(vec![(1, tiny)], 5 * PAGE, 0, &GOAL), None);
    }

    #[test]
    fn writers_are_slowed_when_collection_lags_far_behind() {
        // 100 live, 50 may be spent, 50 + 28 more are no trouble.
        let pressure = |dead: u64| {
            let files = [(1, file(100 + dead, 100)), (2, file(0, 0))].into_iter().collect();
            pressure_of(&files, &[], 50, 28 * MIB)
        };
        assert_eq!([0, 50, 128].map(pressure), [0, 0, 0]);
        assert_eq!([129, 167, 206, 1000].map(pressure).map(|ns| ns / 1000), [0, 8, 16, 16]);
        assert!(pressure(129) > 0);
        assert_eq!(pressure_of(&BTreeMap::new(), &[], 50, 0), 0);
        // What no collection will free slows nobody.
        let files = [(1, file(1000, 100)), (2, file(160, 100))].into_iter().collect();
        assert_eq!(pressure_of(&files, &[1], 50, 28 * MIB), 0);
        assert!(pressure_of(&files, &[2], 50, 28 * MIB) > 0);
    }

    #[test]
    fn many_small_files_are_joined() {
        let small = |count: usize| vec![(8, 8); count];
        assert_eq!(pick_of(&small(7), 1000), None);
        assert_eq!(pick_of(&small(8), 1000), Some((1..=8).collect()));
        assert_eq!(pick_of(&small(20), 1000), Some((1..=8).collect()));
    }

    #[test]
    fn collection_ends_and_keeps_what_it_promises() {
        // Random overwrites of 1000 values in files of 64; the state is what the choice sees.
        let mut owner = vec![0usize; 1000];
        let mut files: Vec<(u64, u64)> = vec![(0, 0)];
        let (mut random, mut copied) = (1u64, 0);
        let uses = |files: &[(u64, u64)]| -> Vec<(u64, FileUse)> {
            let used = files.iter().enumerate().filter(|(_, (size, live))| size + live > 0);
            used.map(|(i, (size, live))| (i as u64, file(*size, *live))).collect()
        };
        for step in 0..20_000usize {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = if step < 1000 { step } else { (random >> 33) as usize % 1000 };
            files[owner[key]].1 = files[owner[key]].1.saturating_sub(u64::from(step >= 1000));
            let last = files.len() - 1;
            files[last] = (files[last].0 + 1, files[last].1 + 1);
            owner[key] = last;
            if files[last].0 < 64 {
                continue;
            }
            files.push((0, 0));
            loop {
                let sealed = uses(&files[..=last]);
                let live: u64 = sealed.iter().map(|(_, file)| file.live_bytes).sum();
                let size: u64 = sealed.iter().map(|(_, file)| file.size_bytes).sum();
                let Some(taken) = choose(sealed, size - live, live / 2, &GOAL) else {
                    assert!(2 * size <= 3 * live + 2 * MIB, "{size} {live}");
                    break;
                };
                let live: u64 = taken.iter().map(|number| files[*number as usize].1).sum();
                let place = taken[0] as usize;
                taken.iter().for_each(|number| files[*number as usize] = (0, 0));
                files[place] = (live, live);
                owner
                    .iter_mut()
                    .filter(|own| taken.contains(&(**own as u64)))
                    .for_each(|own| *own = place);
                copied += live;
            }
        }
        assert!(copied < 20_000, "{copied} copied for 20000 written");
    }
}
