//! Scripts as data: what is done to a database, step by step, and the player that does it.

use std::collections::BTreeMap;
use std::ops::Bound;

use toykv::sim::{Fault, Intervention, Moment, SimDisk};
use toykv::{Compression, Durability, IoMode, Options, Result, ScanOptions, Snapshot};

use crate::oracle::{Commit, Map, Mark, Run, key_of, read_all, value_of};

/// A program that the power may cut anywhere.
pub(crate) struct Script {
    pub(crate) name: &'static str,
    pub(crate) setup: Setup,
    pub(crate) steps: &'static [Step],
}

/// The options that a script is about.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) durability: Durability,
    pub(crate) memtable_bytes: u64,
    pub(crate) threshold_bytes: u64,
    pub(crate) space_percent: u64,
    /// None: another one in every variant.
    pub(crate) compression: Option<Compression>,
    /// None: another one in every variant.
    pub(crate) io: Option<IoMode>,
    /// Limits of the engine that are made small, by name; see [`Intervention::limit`].
    pub(crate) limits: &'static [(&'static str, u64)],
}

impl Setup {
    pub(crate) const BASE: Setup = Setup {
        durability: Durability::Process,
        memtable_bytes: 64 << 10,
        threshold_bytes: 1024,
        space_percent: 150,
        compression: None,
        io: None,
        limits: &[],
    };

    fn options(&self, variant: u64) -> Options {
        let turn = (variant % 3) as usize;
        let compression = [Compression::None, Compression::Lz4, Compression::Zstd][turn];
        let io = if variant % 2 == 1 { IoMode::Direct } else { IoMode::Mapped };
        Options::new()
            .durability(self.durability)
            .sync_interval_ms(1)
            .memtable_size_bytes(self.memtable_bytes)
            .backlog_limit_bytes(8 * self.memtable_bytes)
            .value_threshold_bytes(self.threshold_bytes)
            .space_amplification_percent(self.space_percent)
            .compression(self.compression.unwrap_or(compression))
            .io(self.io.unwrap_or(io))
    }
}

/// What a write asks for.
#[derive(Clone, Copy)]
pub(crate) enum How {
    Process,
    Interval,
    Sync,
    /// In turn, mostly without a sync.
    Mixed,
}

impl How {
    fn durability(self, tag: u64) -> Durability {
        use Durability::{Interval, Process, Sync};
        match self {
            How::Process => Process,
            How::Interval => Interval,
            How::Sync => Sync,
            How::Mixed => {
                [Process, Interval, Process, Process, Sync, Interval, Process][tag as usize % 7]
            }
        }
    }
}

/// The lengths that values have in turn.
pub(crate) type Lens = &'static [usize];

/// Tags tell writes apart: each round of a repetition has tags of its own.
pub(crate) enum Step {
    /// A put for every tag between two, over so many keys.
    Put(u64, u64, u64, Lens, How),
    /// A delete for every tag between two, over so many keys.
    Delete(u64, u64, u64, How),
    /// Puts and deletes by turns: a tag, entries.
    Batch(u64, u64, Lens, How),
    /// A batch that no memtable takes, durable whatever was asked.
    Oversized(u64, u64, Lens),
    PopFirst(u64),
    PopLast(u64),
    Sync,
    Flush,
    Compact,
    /// Between two keys.
    CompactRange(u64, u64),
    Gc,
    Reopen,
    /// With other options from now on.
    ReopenAs(Setup),
    Close,
    Open,
    Destroy,
    /// Takes one, which is looked at by every later [`Step::Look`] until [`Step::Release`].
    Snapshot,
    Look,
    Release,
    /// So many rounds of the steps.
    Rounds(u64, &'static [Step]),
}

/// A script under way.
struct Player {
    run: Run,
    variant: u64,
    /// Added to tags.
    shift: u64,
    snapshots: Vec<(Snapshot, Map)>,
}

/// What a script left behind.
pub(crate) struct Played {
    pub(crate) run: Run,
    /// The disk before every change and every write.
    pub(crate) moments: Vec<Moment>,
    /// What was known at a moment, by its mark.
    pub(crate) marks: Vec<Mark>,
    /// The limits hold for whoever opens the same path.
    _limits: Vec<Intervention>,
}

/// Where a script's database lies: limits belong to a path.
fn path_of(script: &Script) -> &'static str {
    let limited = !script.setup.limits.is_empty();
    if limited { script.name } else { crate::oracle::PATH }
}

/// Runs a script with the power on, and keeps every moment at which it may go off.
pub(crate) fn play(script: &Script, variant: u64, plant: Option<Fault>) -> Result<Played, String> {
    let path = path_of(script);
    let limit = |(name, value): &(&'static str, u64)| Intervention::limit(path, name, *value);
    let limits = script.setup.limits.iter().map(limit).collect();
    let disk = SimDisk::seeded(variant);
    disk.set_write_back([0, 20, 5, 60][variant as usize % 4], variant);
    if let Some(fault) = plant {
        disk.fail(fault);
    }
    disk.record_moments();
    let mut run = Run::new(disk, script.setup.options(variant));
    run.history.path = path;
    let mut player = Player { run, variant, shift: 0, snapshots: Vec::new() };
    let played = player.run.open().and_then(|()| player.steps(script.steps));
    let mut run = player.run;
    played.map_err(|error| format!("{}, variant {variant}: {error}", script.name))?;
    run.disk.note_moment();
    if let Some(db) = run.open_db() {
        let same = read_all(db)? == run.history.newest();
        same.then_some(()).ok_or_else(|| format!("{}: not the newest state", script.name))?;
    }
    run.disk.power_off();
    drop(player.snapshots);
    run.drop_db();
    let moments = run.disk.take_moments();
    let marks = std::mem::take(&mut run.marks);
    Ok(Played { run, moments, marks, _limits: limits })
}

impl Player {
    fn steps(&mut self, steps: &[Step]) -> Result<()> {
        steps.iter().try_for_each(|step| self.step(step))
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match *step {
            Step::Put(from, to, keys, lens, how) => (from..to).try_for_each(|tag| {
                let tag = tag + self.shift;
                self.run.put(tag * 7 % keys, value(tag, lens), how.durability(tag))
            }),
            Step::Delete(from, to, keys, how) => (from..to).try_for_each(|tag| {
                let tag = tag + self.shift;
                self.run.delete(tag * 7 % keys, how.durability(tag))
            }),
            Step::Batch(tag, entries, lens, how) => {
                let tag = tag + self.shift;
                self.run.write(batch(tag, entries, lens), how.durability(tag))
            }
            Step::Oversized(tag, entries, lens) => {
                self.run.write_oversized(batch(tag + self.shift, entries, lens))
            }
            Step::PopFirst(count) => (0..count).try_for_each(|_| self.run.pop(true)),
            Step::PopLast(count) => (0..count).try_for_each(|_| self.run.pop(false)),
            Step::Sync => self.run.sync(),
            Step::Flush => self.run.db().flush(),
            Step::Compact => self.run.compact(),
            Step::CompactRange(from, to) => {
                let (from, to) = (key_of(from), key_of(to));
                self.run.db().compact(Bound::Included(&from), Bound::Excluded(&to))
            }
            Step::Gc => self.run.gc(),
            Step::Reopen => self.run.reopen(),
            Step::ReopenAs(setup) => {
                self.run.close()?;
                self.run.options = setup.options(self.variant);
                self.run.open()
            }
            Step::Close => self.run.close(),
            Step::Open => self.run.open(),
            Step::Destroy => self.run.destroy(),
            Step::Snapshot => {
                self.snapshots.push((self.run.db().snapshot()?, self.run.history.newest()));
                Ok(())
            }
            Step::Look => self.snapshots.iter().try_for_each(|(snapshot, frozen)| {
                let scan = snapshot.scan(&ScanOptions::new())?;
                let seen = scan.collect::<Result<BTreeMap<_, _>>>()?;
                assert!(seen == *frozen, "a snapshot has changed");
                Ok(())
            }),
            Step::Release => {
                self.snapshots.clear();
                Ok(())
            }
            Step::Rounds(count, steps) => (0..count).try_for_each(|_| {
                let done = self.steps(steps);
                self.shift += 37;
                done
            }),
        }
    }
}

fn value(tag: u64, lens: Lens) -> Vec<u8> {
    value_of(tag, lens[tag as usize % lens.len()])
}

/// Entries over 53 keys, every sixth a delete; some keys may be there twice.
fn batch(tag: u64, entries: u64, lens: Lens) -> Commit {
    let entry = |i: u64| {
        let deleted = (tag + i).is_multiple_of(6);
        (key_of((tag * 3 + i * 5) % 53), (!deleted).then(|| value(tag * 1000 + i, lens)))
    };
    (0..entries).map(entry).collect()
}
