//! Power loss within the recovery from power loss, two and three deep: however often recovery is
//! cut short, what it reaches is the same state, and the directory does not grow.
//!
//! Checks RECOV and SPACE.

use std::collections::HashSet;

use toykv::SeqNo;
use toykv::sim::{CrashPolicy, Moment, SimDisk};

use super::explore::Cut;
use super::named;
use super::script::{Played, Script, play};
use crate::oracle::{Dice, Map, check_db, open_rest, read_all};

/// How much is tried of a script.
pub(crate) struct Depth {
    /// Crashes of the script.
    pub(crate) images: u64,
    /// Crashes of the recovery from each.
    pub(crate) doubles: u64,
    /// Crashes of the recovery from each of those.
    pub(crate) triples: u64,
}

/// What every recovery from one crash must reach.
struct Same<'a> {
    played: &'a Played,
    expected: (Map, SeqNo),
}

impl Same<'_> {
    /// Opens a disk, compares, and answers the moments of that recovery.
    fn recover(&self, disk: &SimDisk) -> Result<Vec<Moment>, String> {
        let run = &self.played.run;
        disk.record_moments();
        let db = open_rest(disk, &run.options, &run.history).map_err(|e| format!("open: {e}"))?;
        let moments = disk.take_moments();
        if (read_all(&db)?, db.stats().seqno) != self.expected {
            return Err("another state than without a crash in recovery".into());
        }
        disk.power_off();
        Ok(moments)
    }

    /// Recovers from a crash of a recovery, `depth` deep; counts the different disks at each depth.
    fn crash_again(
        &self,
        moments: &[Moment],
        dice: &mut Dice,
        (widths, counts): (&[u64], &mut [u64]),
    ) -> Result<(), String> {
        let (Some((width, widths)), Some((count, counts))) =
            (widths.split_first(), counts.split_first_mut())
        else {
            return Ok(());
        };
        let mut seen = HashSet::new();
        for _ in 0..*width {
            let cut = Cut::draw(moments.len(), dice);
            let disk = moments[cut.moment].crash_image(&cut.policy, cut.seed);
            if !seen.insert(disk.fingerprint()) {
                continue;
            }
            *count += 1;
            let deeper = self
                .recover(&disk)
                .and_then(|moments| self.crash_again(&moments, dice, (widths, &mut *counts)));
            deeper.map_err(|what| {
                format!("recovery cut at {} of {}, {cut:?}: {what}", cut.moment, moments.len())
            })?;
        }
        Ok(())
    }
}

/// Crashes recoveries from crashes of a script; answers how many double and triple crashes.
pub(crate) fn crash_in_recovery(script: &Script, depth: &Depth) -> Result<(u64, u64), String> {
    let mut counts = [0, 0];
    for variant in 0..2 {
        let mut played = play(script, variant, None)?;
        let mut dice = Dice::new(variant ^ 0x7777);
        for _ in 0..depth.images {
            let cut = Cut::draw(played.moments.len(), &mut dice);
            let fail =
                |what: String| format!("{}, variant {variant}, {cut:?}: {what}", script.name);
            let (disk, least) = played.cut(&cut);
            let run = &played.run;
            disk.record_moments();
            let opened = open_rest(&disk, &run.options, &run.history);
            let db = opened.map_err(|error| fail(format!("open: {error}")))?;
            let moments = disk.take_moments();
            check_db(&db, &run.history, least).map_err(fail)?;
            let expected = (read_all(&db)?, db.stats().seqno);
            disk.power_off();
            drop(db);
            let same = Same { played: &played, expected };
            let widths = [depth.doubles, depth.triples];
            same.crash_again(&moments, &mut dice, (&widths, &mut counts)).map_err(fail)?;
        }
    }
    Ok((counts[0], counts[1]))
}

/// How many files a directory has, and bytes in them.
type Size = (usize, u64);

fn size_of(disk: &SimDisk) -> Size {
    let files = disk.files();
    (files.len(), files.iter().map(|(_, bytes)| bytes).sum())
}

fn largest(sizes: &[Size]) -> Size {
    sizes.iter().fold((0, 0), |most, size| (most.0.max(size.0), most.1.max(size.1)))
}

/// Opens a disk again and again, and crashes every time; answers what each round left.
fn crash_loop(
    mut disk: SimDisk,
    played: &Played,
    rounds: u64,
    mut stop: impl FnMut(u64) -> (u64, CrashPolicy),
) -> Result<Vec<Size>, String> {
    let mut sizes = Vec::new();
    for round in 0..rounds {
        let (at, policy) = stop(round);
        disk.crash_at_change(at);
        let opened = open_rest(&disk, &played.run.options, &played.run.history);
        if let Err(error) = &opened
            && !disk.is_off()
        {
            return Err(format!("round {round}, {policy:?}: {error}"));
        }
        disk.power_off();
        drop(opened);
        disk = disk.crash_image(&policy, round);
        sizes.push(size_of(&disk));
    }
    let db = open_rest(&disk, &played.run.options, &played.run.history);
    let db = db.map_err(|error| format!("at last: {error}"))?;
    check_db(&db, &played.run.history, played.run.history.durable)?;
    Ok(sizes)
}

/// Files that an open makes before it has committed, and those that it takes the place of.
const SPARE_FILES: usize = 12;

#[test]
fn a_directory_does_not_grow_however_often_opening_it_is_cut_short() {
    for name in ["creation", "reopens_of_several_segments", "values_that_move_at_the_flush"] {
        let mut played = play(named(name), 0, None).unwrap();
        let keep = CrashPolicy::KEEP_ALL;
        // After a write: the log has something to recover.
        for moment in [3, played.moments.len() / 2, played.moments.len() - 1] {
            let cut = Cut { moment, policy: keep, seed: 1 };
            let before = played.cut(&cut).0.files().len();
            for at in 0..60 {
                let image = played.cut(&cut).0;
                let sizes = crash_loop(image, &played, 20, |_| (at, keep)).unwrap();
                let grown = largest(&sizes).0.saturating_sub(before);
                assert!(grown <= SPARE_FILES, "{name}: {grown} more files, stopped at {at}");
            }
        }
    }
}

#[test]
fn a_thousand_rounds_of_crash_and_open_leave_no_more_files() {
    let mut played = play(named("compactions"), 0, None).unwrap();
    let moment = played.moments.len() / 2;
    let (image, _) = played.cut(&Cut { moment, policy: CrashPolicy::KEEP_ALL, seed: 1 });
    let before = size_of(&image);
    let mut dice = Dice::new(1);
    let sizes = crash_loop(image, &played, 1000, |round| {
        let policy = CrashPolicy::random(dice.word());
        (dice.below(60), if round % 2 == 0 { CrashPolicy::KEEP_ALL } else { policy })
    });
    let sizes = sizes.unwrap();
    let (early, late) = (largest(&sizes[..500]), largest(&sizes[500..]));
    println!(
        "1000 rounds: {before:?} files and bytes before, at most {early:?} in the first half, \
         {late:?} in the second"
    );
    let grown = early.0.saturating_sub(before.0);
    assert!(grown <= SPARE_FILES, "{grown} more files than the {before:?} before");
    // By chance a round is stopped where a little more is under way than in any before.
    let level = late.0 <= early.0 + 1 && late.1 <= early.1 + early.1 / 2;
    assert!(level, "{early:?} in the first 500 rounds, {late:?} in those after");
}
