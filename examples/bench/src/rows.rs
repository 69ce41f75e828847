//! The plan of a run: which rows, in which order, and whose turn it is.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};

use crate::Result;
use crate::own;
use crate::report::{Figure, Report};
use crate::subject::{self, ReadRow, Subject, Work};

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Row {
    /// Puts of all entries, one call each, in random key order
    PutProcess,
    /// The same up to the end of all background work (toykv compacts everything into one run)
    PutSettled,
    /// Gets of stored keys in random order
    GetPresent,
    /// Gets of keys that are not stored
    GetAbsent,
    /// A seek to a random place and ten entries
    #[value(name = "seek_10")]
    Seek10,
    /// All entries in order
    ScanForward,
    /// Allocations per get_into
    Allocations,
    /// Resident memory beyond the page cache of a process that loads the entries
    Memory,
    /// Opening after a clean close
    ReopenClean,
    /// Opening after SIGKILL with a full memtable
    ReopenKilled,
}

/// What is to be measured.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Sizes of the databases.
    pub(crate) entries: Vec<u64>,
    /// Measurements per row and engine.
    pub(crate) rounds: u64,
    /// Gets of one measurement.
    pub(crate) operations: u64,
    /// Size of the memtable that is full when its process is killed.
    pub(crate) memtable_bytes: u64,
    /// Which rows; none means all.
    pub(crate) rows: Vec<Row>,
    /// Which engines, by name; none means all.
    pub(crate) engines: Vec<String>,
    /// Where the databases lie.
    pub(crate) dir: PathBuf,
}

impl Plan {
    fn wants_row(&self, row: Row) -> bool {
        self.rows.is_empty() || self.rows.contains(&row)
    }

    fn wants_engine(&self, name: &str) -> bool {
        self.engines.is_empty() || self.engines.iter().any(|engine| engine == name)
    }
}

const READ_ROWS: [(Row, ReadRow, &str, &str); 4] = [
    (Row::GetPresent, ReadRow::GetPresent, "get_present", "ops/s"),
    (Row::GetAbsent, ReadRow::GetAbsent, "get_absent", "ops/s"),
    (Row::Seek10, ReadRow::Seek10, "seek_10", "ops/s"),
    (Row::ScanForward, ReadRow::ScanForward, "scan_forward", "entries/s"),
];

/// Samples of every engine for one row.
struct Columns {
    row: &'static str,
    unit: &'static str,
    samples: Vec<Vec<f64>>,
}

impl Columns {
    fn new(row: &'static str, unit: &'static str, engines: usize) -> Columns {
        Columns { row, unit, samples: vec![Vec::new(); engines] }
    }

    fn add_to(self, report: &mut Report, subjects: &[Box<dyn Subject>], entries: u64) {
        for (subject, samples) in subjects.iter().zip(self.samples) {
            report.add(figure(self.row, subject.name(), entries, self.unit, samples));
        }
    }
}

struct Session<'a> {
    plan: &'a Plan,
    entries: u64,
    report: &'a mut Report,
    progress: &'a ProgressBar,
}

/// Measures everything in the plan.
pub(crate) fn run(plan: &Plan) -> Result<Report> {
    let mut report = Report::default();
    // Hidden unless stderr is a terminal; redrawn only between measurements.
    let progress = ProgressBar::new(0)
        .with_style(ProgressStyle::with_template("{elapsed_precise} {bar:30} {pos}/{len} {msg}")?);
    std::fs::create_dir_all(&plan.dir)?;
    for &entries in &plan.entries {
        let mut session = Session { plan, entries, report: &mut report, progress: &progress };
        session.compare()?;
        if plan.wants_engine("toykv") {
            session.own_rows()?;
        }
    }
    progress.finish_and_clear();
    Ok(report)
}

impl Session<'_> {
    fn wants(&self, row: Row) -> bool {
        self.plan.wants_row(row)
    }

    fn step(&self, what: &str) {
        self.progress.inc_length(1);
        self.progress.set_message(format!("{} entries: {what}", self.entries));
        self.progress.tick();
    }

    /// The rows of all engines.
    fn compare(&mut self) -> Result<()> {
        let writes = self.wants(Row::PutProcess) || self.wants(Row::PutSettled);
        let reads = READ_ROWS.iter().any(|(row, ..)| self.wants(*row));
        if !writes && !reads {
            return Ok(());
        }
        let mut subjects = subject::subjects(&self.plan.dir, |name| self.plan.wants_engine(name))?;
        self.load_rows(&mut subjects, if writes { self.plan.rounds } else { 1 })?;
        for (row, read_row, name, unit) in READ_ROWS {
            if self.wants(row) {
                let columns = Columns::new(name, unit, subjects.len());
                self.read_row(&mut subjects, read_row, columns)?;
            }
        }
        subjects.iter_mut().try_for_each(|subject| subject.remove())
    }

    fn load_rows(&mut self, subjects: &mut [Box<dyn Subject>], rounds: u64) -> Result<()> {
        let mut put = Columns::new("put_process", "ops/s", subjects.len());
        let mut settled = Columns::new("put_settled", "ops/s", subjects.len());
        for round in 0..rounds {
            for index in turns(subjects.len(), round) {
                self.step(&format!("loading {}", subjects[index].name()));
                let load = subjects[index].load(self.entries)?;
                put.samples[index].push(rate(self.entries, load.put));
                settled.samples[index].push(rate(self.entries, load.put + load.settle));
                self.progress.inc(1);
            }
        }
        for (row, columns) in [(Row::PutProcess, put), (Row::PutSettled, settled)] {
            if self.wants(row) {
                columns.add_to(self.report, subjects, self.entries);
            }
        }
        Ok(())
    }

    fn read_row(
        &mut self,
        subjects: &mut [Box<dyn Subject>],
        row: ReadRow,
        mut columns: Columns,
    ) -> Result<()> {
        let operations = match row {
            ReadRow::Seek10 => self.plan.operations / 5,
            _ => self.plan.operations,
        };
        // Round 0 warms memory and is not counted.
        for round in 0..=self.plan.rounds {
            let mut fingerprint = None;
            for index in turns(subjects.len(), round) {
                self.step(&format!("{} {}", columns.row, subjects[index].name()));
                let work = Work { entries: self.entries, operations, round };
                let outcome = subjects[index].read(row, work)?;
                if *fingerprint.get_or_insert(outcome.fingerprint) != outcome.fingerprint {
                    return Err(format!("{}: the engines' answers differ", columns.row).into());
                }
                if round > 0 {
                    columns.samples[index].push(rate(outcome.done, outcome.elapsed));
                }
                self.progress.inc(1);
            }
        }
        columns.add_to(self.report, subjects, self.entries);
        Ok(())
    }

    /// The rows of toykv alone.
    fn own_rows(&mut self) -> Result<()> {
        if self.wants(Row::Allocations) {
            self.step("counting allocations");
            let calls = self.entries.min(100_000);
            let (memtable, tables) = own::allocations_per_get(&self.plan.dir, calls)?;
            self.own("allocations_memtable", "per call", vec![memtable]);
            self.own("allocations_tables", "per call", vec![tables]);
            self.progress.inc(1);
        }
        let rows = [Row::Memory, Row::ReopenClean, Row::ReopenKilled];
        if !rows.iter().any(|row| self.wants(*row)) {
            return Ok(());
        }
        let mut memory = Vec::new();
        let loads = if self.wants(Row::Memory) { self.plan.rounds } else { 1 };
        for _ in 0..loads {
            self.step("loading in a child");
            let dir = own::fresh(&self.plan.dir, "own")?;
            memory.push(own::load_in_child(&dir, self.entries)?);
            self.progress.inc(1);
        }
        if self.wants(Row::Memory) {
            let bytes = |of: fn(&own::Memory) -> u64| memory.iter().map(|m| of(m) as f64).collect();
            self.own("memory_peak", "bytes", bytes(|memory| memory.peak));
            self.own("memory_loaded", "bytes", bytes(|memory| memory.loaded));
            self.own("memory_settled", "bytes", bytes(|memory| memory.settled));
        }
        self.reopen_rows()?;
        Ok(std::fs::remove_dir_all(self.plan.dir.join("own"))?)
    }

    fn reopen_rows(&mut self) -> Result<()> {
        let dir = self.plan.dir.join("own");
        if self.wants(Row::ReopenClean) {
            let times = self.repeat("opening after a close", || own::reopen_clean(&dir))?;
            self.own("reopen_clean", "ms", times);
        }
        if self.wants(Row::ReopenKilled) {
            let killed = || own::reopen_killed(&dir, self.entries, self.plan.memtable_bytes);
            let times = self.repeat("opening after a kill", killed)?;
            self.own("reopen_killed", "ms", times);
        }
        Ok(())
    }

    /// Milliseconds of each round.
    fn repeat(&self, what: &str, measure: impl Fn() -> Result<Duration>) -> Result<Vec<f64>> {
        let mut times = Vec::new();
        for _ in 0..self.plan.rounds {
            self.step(what);
            times.push(measure()?.as_secs_f64() * 1e3);
            self.progress.inc(1);
        }
        Ok(times)
    }

    fn own(&mut self, row: &'static str, unit: &'static str, samples: Vec<f64>) {
        self.report.add(figure(row, "toykv", self.entries, unit, samples));
    }
}

/// All rows here write with the durability that everyone can give.
fn figure(row: &str, engine: &str, entries: u64, unit: &str, samples: Vec<f64>) -> Figure {
    let (row, engine, unit) = (row.into(), engine.into(), unit.into());
    let durability = "process".into();
    Figure { suite: "quick", row, engine, durability, entries, unit, samples }
}

/// The engines in the order of this round: who begins changes, so that none always follows another.
pub(crate) fn turns(engines: usize, round: u64) -> impl Iterator<Item = usize> {
    (0..engines).map(move |turn| (turn + round as usize) % engines)
}

fn rate(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_has_one_turn_per_round_and_the_first_changes() {
        assert_eq!(turns(3, 0).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(turns(3, 4).collect::<Vec<_>>(), [1, 2, 0]);
    }
}
