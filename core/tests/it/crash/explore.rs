//! The explorer: plays a script once in each variant, cuts the power at its moments, draws disks
//! by the policies of loss, and asks the oracle about every disk that differs from those before.

use std::collections::HashMap;

use toykv::sim::{CrashPolicy, Fault, SimDisk};
use toykv::{Durability, WriteOptions};

use super::script::{Played, Script, play};
use crate::oracle::{Dice, History, check_db, key_of, open_rest, read_all};

/// How much is tried.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    /// Ways to run a script: other options, and another eagerness of the disk to write.
    pub(crate) variants: u64,
    /// So many different disks of a script, drawn at random; none: every moment with every policy.
    pub(crate) sample: Option<u64>,
    /// Policies drawn at random, for every moment, beside the standard ones.
    pub(crate) random: u64,
}

/// What was tried.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) scripts: u64,
    /// At which the power went off.
    pub(crate) moments: u64,
    /// Disks drawn.
    pub(crate) images: u64,
    /// Different disks, each opened and compared.
    pub(crate) states: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Tally) {
        self.scripts += other.scripts;
        self.moments += other.moments;
        self.images += other.images;
        self.states += other.states;
    }
}

/// Disks that were looked at, by their fingerprints, with the number of commits found, and whether
/// the rest of a destroyed database was allowed.
#[derive(Default)]
pub(crate) struct Seen(HashMap<u64, (usize, bool)>);

/// One way to lose power.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    /// Index of the moment.
    pub(crate) moment: usize,
    pub(crate) policy: CrashPolicy,
    pub(crate) seed: u64,
}

impl Cut {
    /// Any.
    pub(crate) fn draw(moments: usize, dice: &mut Dice) -> Cut {
        let standard = CrashPolicy::standard();
        let which = dice.below(standard.len() as u64 + 4) as usize;
        let random = CrashPolicy::random(dice.word());
        let policy = standard.get(which).map_or(random, |(_, policy)| *policy);
        Cut { moment: dice.below(moments as u64) as usize, policy, seed: dice.word() }
    }
}

impl Played {
    /// The disk that a cut leaves, and what must be on it at least.
    pub(crate) fn cut(&mut self, cut: &Cut) -> (SimDisk, usize) {
        let moment = &self.moments[cut.moment];
        let mark = self.marks[moment.mark() as usize];
        let history = &mut self.run.history;
        history.go_to(mark);
        let least = if cut.policy == CrashPolicy::KEEP_ALL { mark.kept } else { history.durable };
        (moment.crash_image(&cut.policy, cut.seed), least)
    }

    /// Cuts the power once; whether the disk is one that was not seen before.
    pub(crate) fn check(&mut self, cut: &Cut, seen: &mut Seen) -> Result<bool, String> {
        let (image, least) = self.cut(cut);
        let print = image.fingerprint();
        let (options, history) = (&self.run.options, &self.run.history);
        let known = seen.0.get(&print).copied();
        // What was seen is looked at again when it was another number of commits that fitted then:
        // nothing is there before the first and after a destroy.
        let fits = |(count, lenient): (usize, bool)| {
            (least..=history.tried).contains(&count) && (history.may_be_gone || !lenient)
        };
        if known.is_some_and(fits) {
            return Ok(false);
        }
        let count = check_and_go_on(&image, options, history, least, print)?;
        seen.0.insert(print, (count, history.may_be_gone));
        Ok(known.is_none())
    }

    /// Says in which way a cut was wrong.
    pub(crate) fn describe(&self, cut: &Cut, what: &str) -> String {
        let Cut { moment, policy, seed } = cut;
        format!("moment {moment} of {}, {policy:?}, seed {seed}: {what}", self.moments.len())
    }
}

/// Opens what a crash left and compares it. Of every eighth disk the recovered database is written
/// to as well, and the power cut again: what was recovered, and the write, must stay.
fn check_and_go_on(
    image: &SimDisk,
    options: &toykv::Options,
    history: &History,
    least: usize,
    print: u64,
) -> Result<usize, String> {
    let db = open_rest(image, options, history).map_err(|error| format!("open: {error}"))?;
    let count = check_db(&db, history, least)?;
    if !print.is_multiple_of(8) {
        db.close().map_err(|error| format!("close: {error}"))?;
        return Ok(count);
    }
    let mut expected = history.state(count);
    let (key, before) = (key_of(99_999), db.stats().seqno);
    let seqno = db.put_with(&key, b"new", &WriteOptions::new().durability(Durability::Sync));
    let seqno = seqno.map_err(|error| format!("a write after recovery: {error}"))?;
    if seqno <= before {
        return Err(format!("the number {seqno} after recovery is not above {before}"));
    }
    expected.insert(key, b"new".to_vec());
    image.power_off();
    drop(db);
    let policy =
        if print.is_multiple_of(16) { CrashPolicy::DROP_ALL } else { CrashPolicy::random(print) };
    let again = image.crash_image(&policy, print);
    let db =
        open_rest(&again, options, history).map_err(|error| format!("second open: {error}"))?;
    if read_all(&db)? != expected {
        return Err(format!("what was recovered, {count} commits, and a write did not stay"));
    }
    Ok(count)
}

/// Explores one script.
pub(crate) fn explore(script: &Script, effort: &Effort) -> Result<Tally, String> {
    explore_with(script, effort, || None)
}

/// Explores one script on a disk with a fault.
pub(crate) fn explore_with(
    script: &Script,
    effort: &Effort,
    plant: impl Fn() -> Option<Fault>,
) -> Result<Tally, String> {
    let mut seen = Seen::default();
    let mut tally = Tally { scripts: 1, ..Tally::default() };
    for variant in 0..effort.variants {
        let mut played = play(script, variant, plant())?;
        tally.moments += played.moments.len() as u64;
        let wanted = effort.sample.map(|sample| sample / effort.variants);
        let (images, states) =
            cut_everywhere(&mut played, &mut seen, wanted, (variant, effort.random))
                .map_err(|what| format!("{}, variant {variant}: {what}", script.name))?;
        tally.images += images;
        tally.states += states;
    }
    Ok(tally)
}

/// Disks drawn, and different ones.
fn cut_everywhere(
    played: &mut Played,
    seen: &mut Seen,
    wanted: Option<u64>,
    (seed, random): (u64, u64),
) -> Result<(u64, u64), String> {
    let mut dice = Dice::new(seed);
    let moments = played.moments.len();
    let (mut images, mut states) = (0, 0);
    let mut one = |played: &mut Played, cut: Cut| {
        let new = played.check(&cut, seen).map_err(|what| played.describe(&cut, &what))?;
        images += 1;
        states += u64::from(new);
        Ok::<_, String>(states)
    };
    if let Some(wanted) = wanted {
        // Some scripts do not have that many.
        for _ in 0..3 * wanted {
            if one(played, Cut::draw(moments, &mut dice))? == wanted {
                break;
            }
        }
        return Ok((images, states));
    }
    for moment in 0..moments {
        for (_, policy) in CrashPolicy::standard() {
            one(played, Cut { moment, policy, seed: dice.word() })?;
        }
        for _ in 0..random {
            let policy = CrashPolicy::random(dice.word());
            one(played, Cut { moment, policy, seed: dice.word() })?;
        }
    }
    Ok((images, states))
}
