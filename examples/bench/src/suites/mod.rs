//! The suites: each is what one engine does in one round, in a process of its own.

mod big;
mod commits;
mod mixed;
mod open;
mod redb_rows;
mod space;
mod ycsb;

use std::io::Write;

use crate::Result;
use crate::engine::Engine;
use crate::engines::Visit;
use crate::measure::{Plan, Recorder, peak_bytes};

pub(crate) use open::fill_until_killed;

/// A suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Suite {
    /// The rows of redb's own benchmark
    Redb,
    /// Fills, overwrites, gets, scans, and reads beside writes
    Mixed,
    /// YCSB A to F
    Ycsb,
    /// Durable commits by many threads
    Commits,
    /// Opening after a close and after a kill
    Open,
    /// Data eight times as large as memory, in a cgroup
    Big,
    /// What overwrites leave on disk, values of 4 KiB, compression, little memory
    Space,
}

/// The suites of a run that names none.
pub(crate) const DEFAULT: [&str; 5] = ["redb", "mixed", "ycsb", "commits", "open"];

impl Suite {
    /// Its name in options and JSON lines.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Suite::Redb => "redb",
            Suite::Mixed => "mixed",
            Suite::Ycsb => "ycsb",
            Suite::Commits => "commits",
            Suite::Open => "open",
            Suite::Big => "big",
            Suite::Space => "space",
        }
    }
}

/// Runs a suite with the engine that it is shown.
pub(crate) struct RunSuite<'a, W> {
    /// Which.
    pub(crate) suite: Suite,
    /// How.
    pub(crate) plan: &'a Plan,
    /// Where the samples go.
    pub(crate) recorder: &'a mut Recorder<W>,
}

impl<W: Write> Visit for RunSuite<'_, W> {
    type Output = ();

    fn visit<E: Engine + 'static>(self) -> Result<()> {
        let RunSuite { suite, plan, recorder } = self;
        match suite {
            Suite::Redb => redb_rows::run::<E>(plan, recorder)?,
            Suite::Mixed => mixed::run::<E>(plan, recorder)?,
            Suite::Ycsb => ycsb::run::<E>(plan, recorder)?,
            Suite::Commits => commits::run::<E>(plan, recorder)?,
            Suite::Open => open::run::<E>(plan, recorder)?,
            Suite::Big => big::run::<E>(plan, recorder)?,
            Suite::Space => space::run::<E>(plan, recorder)?,
        }
        let row = format!("memory_peak_{}", suite.name());
        recorder.value(&row, "bytes", peak_bytes() as f64)
    }
}
