//! The rows that every engine takes part in. [`Runner`] measures any [`Engine`]; [`Subject`] is the
//! same without the type, so that rounds can alternate between engines.
//!
//! Nothing inside a clock is dispatched dynamically, and whatever a row reads is checked while the
//! clock runs, with the same code for each engine.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Result;
use crate::data;
use crate::engine::{Config, Engine, Reader};
use crate::engines::{self, Visit};

/// A row that reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadRow {
    /// Keys that are stored, at random.
    GetPresent,
    /// Keys that are not.
    GetAbsent,
    /// From a key that is not stored, ten entries.
    Seek10,
    /// Everything once, in order.
    ScanForward,
}

/// What to read: the same for every engine of a round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    /// Entries in the database.
    pub(crate) entries: u64,
    /// Gets or seeks to make.
    pub(crate) operations: u64,
    /// Seeds the choice of keys.
    pub(crate) round: u64,
}

/// How long a row took, and the sum of what it saw.
pub(crate) struct Outcome {
    /// Time on the clock.
    pub(crate) elapsed: Duration,
    /// What was done, in the row's unit.
    pub(crate) done: u64,
    /// Equal for engines that answered the same.
    pub(crate) fingerprint: u64,
}

/// How long a load took.
pub(crate) struct Load {
    /// From the first put to the last.
    pub(crate) put: Duration,
    /// From the last put until no background work was left.
    pub(crate) settle: Duration,
}

/// An engine under measurement.
pub(crate) trait Subject {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Replaces its database by a new one of so many entries.
    fn load(&mut self, entries: u64) -> Result<Load>;

    /// Measures one row of the loaded database.
    fn read(&mut self, row: ReadRow, work: Work) -> Result<Outcome>;

    /// Closes and removes its database.
    fn remove(&mut self) -> Result<()>;
}

/// Measures an [`Engine`] in a directory of its own.
pub(crate) struct Runner<E> {
    dir: PathBuf,
    engine: Option<E>,
}

impl<E: Engine> Runner<E> {
    /// Prepares a runner whose database will lie below `parent`.
    pub(crate) fn new(parent: &Path) -> Runner<E> {
        Runner { dir: parent.join(E::NAME), engine: None }
    }
}

/// Makes runners by an engine's name.
struct Maker<'a>(&'a Path);

impl Visit for Maker<'_> {
    type Output = Box<dyn Subject>;

    fn visit<E: Engine + 'static>(self) -> Result<Box<dyn Subject>> {
        Ok(Box::new(Runner::<E>::new(self.0)))
    }
}

/// The engines that `wanted` agrees to, toykv first; their databases will lie below `dir`.
pub(crate) fn subjects(dir: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<Box<dyn Subject>>> {
    let names = engines::names().into_iter().filter(|name| wanted(name));
    names.map(|name| engines::visit(name, Maker(dir))).collect()
}

impl<E: Engine> Subject for Runner<E> {
    fn name(&self) -> &'static str {
        E::NAME
    }

    fn load(&mut self, entries: u64) -> Result<Load> {
        self.remove()?;
        std::fs::create_dir_all(&self.dir)?;
        let engine = self.engine.insert(E::open(&self.dir, &Config::default())?);
        let start = Instant::now();
        for number in 0..entries {
            engine.put(&data::key(number), &data::value(number))?;
        }
        let put = start.elapsed();
        engine.settle()?;
        Ok(Load { put, settle: start.elapsed() - put })
    }

    fn read(&mut self, row: ReadRow, work: Work) -> Result<Outcome> {
        let engine = self.engine.as_ref().ok_or("read before load")?;
        let mut reader = engine.reader()?;
        let start = Instant::now();
        let (done, fingerprint) = match row {
            ReadRow::GetPresent => get_present(&mut reader, work)?,
            ReadRow::GetAbsent => get_absent(&mut reader, work)?,
            ReadRow::Seek10 => seek_10(&mut reader, work)?,
            ReadRow::ScanForward => scan_forward(&mut reader, work)?,
        };
        Ok(Outcome { elapsed: start.elapsed(), done, fingerprint: black_box(fingerprint) })
    }

    fn remove(&mut self) -> Result<()> {
        if let Some(engine) = self.engine.take() {
            engine.close()?;
        }
        if self.dir.exists() {
            std::fs::remove_dir_all(&self.dir)?;
        }
        Ok(())
    }
}

fn get_present(reader: &mut impl Reader, work: Work) -> Result<(u64, u64)> {
    let mut right = 0;
    for index in 0..work.operations {
        let number = data::choose(work.round, index, work.entries);
        let expected = data::value(number);
        reader.get(&data::key(number), |value| right += u64::from(value == expected))?;
    }
    if right != work.operations {
        return Err(format!("{} of {} gets were wrong", work.operations - right, right).into());
    }
    Ok((work.operations, right))
}

fn get_absent(reader: &mut impl Reader, work: Work) -> Result<(u64, u64)> {
    for index in 0..work.operations {
        let number = work.entries + data::choose(work.round, index, work.entries);
        if reader.get(&data::key(number), |_| ())? {
            return Err(format!("entry {number} was never stored and yet found").into());
        }
    }
    Ok((work.operations, 0))
}

fn seek_10(reader: &mut impl Reader, work: Work) -> Result<(u64, u64)> {
    let mut sum = 0u64;
    for index in 0..work.operations {
        let number = work.entries + data::choose(work.round, index, work.entries);
        reader.scan(&data::key(number), 10, |key, value| {
            sum = sum.wrapping_add(data::fingerprint(key, value));
            true
        })?;
    }
    Ok((work.operations, sum))
}

fn scan_forward(reader: &mut impl Reader, work: Work) -> Result<(u64, u64)> {
    let mut sum = 0u64;
    let mut previous = data::Key::default();
    let mut sorted = true;
    let count = reader.scan(&[0], u64::MAX, |key, value| {
        sum = sum.wrapping_add(data::fingerprint(key, value));
        sorted &= previous[..] < *key;
        if let Some(key) = key.first_chunk() {
            previous = *key;
        }
        true
    })?;
    if count != work.entries || !sorted {
        let order = if sorted { "in order" } else { "out of order" };
        return Err(format!("the scan saw {count} of {} entries, {order}", work.entries).into());
    }
    Ok((count, sum))
}
