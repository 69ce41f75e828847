//! toykv beside its peers: alternating engines, medians, spreads, verified answers.
//!
//! Without a command it is the quick comparison of `make bench`. README.md says what each row does
//! and why each engine is set as it is.

mod alloc;
mod choice;
mod corpus;
mod data;
mod engine;
mod engines;
mod matrix;
mod measure;
mod own;
mod peers;
mod plot;
mod report;
mod results;
mod rows;
mod subject;
mod suites;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use measure::{Plan, Recorder};
use own::ChildTask;
use rows::Row;
use suites::Suite;

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

/// What everything here answers: any error ends the run with its message.
type Result<T, E = Error> = std::result::Result<T, E>;

/// Any error.
type Error = Box<dyn std::error::Error>;

/// toykv beside its peers
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    quick: Quick,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// All suites with all engines that were compiled in
    Peers(Peers),
    /// RESULTS.md and its plots from the last run of `peers`
    Report(Report),
    /// What a child of `peers` does
    #[command(hide = true)]
    Suite(Child),
    /// What a child of the suite `open` does
    #[command(hide = true)]
    Fill(Child),
}

/// The quick comparison: 16-byte random keys, 100-byte values, everything in memory.
#[derive(Debug, Args)]
struct Quick {
    /// Entries in the database; a list makes several runs
    #[arg(long, value_delimiter = ',', default_values_t = [1_000_000, 5_000_000])]
    entries: Vec<u64>,
    /// How often each row is measured per engine
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    rounds: u64,
    /// Gets and seeks of one measurement (seeks: a fifth of it)
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(5..))]
    operations: u64,
    /// Only these rows
    #[arg(long, value_delimiter = ',', value_enum)]
    rows: Vec<Row>,
    /// Only these engines
    #[arg(long, value_delimiter = ',', value_parser = engines::names())]
    engines: Vec<String>,
    /// Where the databases are made, and removed afterwards
    #[arg(long, default_value = "target/bench/databases")]
    dir: PathBuf,
    /// The file of JSON lines to write
    #[arg(long, default_value = "target/bench/quick.jsonl")]
    out: PathBuf,
    /// A few seconds with a small database: does everything run?
    #[arg(long)]
    quick: bool,
    /// Size of the memtable that reopen_killed fills
    #[arg(long, default_value_t = 64 << 20)]
    memtable_bytes: u64,
    /// What this process does for its parent
    #[arg(long, hide = true, value_enum)]
    child: Option<ChildTask>,
}

#[derive(Debug, Args)]
struct Peers {
    /// Only these suites
    #[arg(long, value_delimiter = ',', value_enum, default_values = suites::DEFAULT)]
    suites: Vec<Suite>,
    /// Only these engines
    #[arg(long, value_delimiter = ',', value_parser = engines::names())]
    engines: Vec<String>,
    /// Share of the full sizes; 1 is five million entries and hours
    #[arg(long, default_value_t = 0.2)]
    scale: f64,
    /// How often each suite runs per engine
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: u64,
    /// Longest time of a row that counts operations, in seconds
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Memory for what engines cache themselves
    #[arg(long, default_value_t = 4 << 30)]
    cache_bytes: u64,
    /// Options of toykv as name=value
    #[arg(long = "set")]
    options: Vec<String>,
    /// Go on with the run that was interrupted
    #[arg(long)]
    resume: bool,
    /// Where the databases are made, and removed afterwards
    #[arg(long, default_value = "target/bench/databases")]
    dir: PathBuf,
    /// The file of JSON lines to write; the journal lies beside it
    #[arg(long, default_value = "target/bench/peers.jsonl")]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct Report {
    /// The files of JSON lines that `peers` wrote, with their journals beside them; plots are of
    /// the first
    #[arg(long, value_delimiter = ',', default_value = "target/bench/peers.jsonl")]
    run: Vec<PathBuf>,
    /// The folder of RESULTS.md and its plots
    #[arg(long, default_value = "examples/bench")]
    to: PathBuf,
}

#[derive(Debug, Args)]
struct Child {
    #[arg(long, value_enum, default_value = "redb")]
    suite: Suite,
    #[arg(long)]
    engine: String,
    #[arg(long, default_value_t = 0)]
    round: u64,
    #[arg(long, default_value_t = 0)]
    start: u64,
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    #[arg(long)]
    seconds: f64,
    #[arg(long)]
    cache_bytes: u64,
    #[arg(long = "set")]
    options: Vec<String>,
    #[arg(long)]
    dir: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        None => quick(arguments.quick),
        Some(Command::Peers(arguments)) => peers(arguments),
        Some(Command::Report(arguments)) => {
            let journals: Vec<PathBuf> = arguments.run.iter().map(|run| journal_of(run)).collect();
            results::write(&journals, &arguments.to)
        }
        Some(Command::Suite(child)) => suite(&child).inspect_err(|error| {
            // For the journal; stderr has it as well.
            println!("M\t{}", error.to_string().replace(['\n', '\t'], " "));
        }),
        Some(Command::Fill(child)) => child
            .plan()
            .and_then(|plan| suites::fill_until_killed(&child.engine, &plan, child.start)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("toykv-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn quick(arguments: Quick) -> Result<()> {
    if let (Some(task), [entries]) = (arguments.child, &arguments.entries[..]) {
        return own::run_child(task, &arguments.dir, *entries, arguments.memtable_bytes);
    }
    let plan = rows::Plan {
        entries: if arguments.quick { vec![20_000] } else { arguments.entries },
        rounds: if arguments.quick { 3 } else { arguments.rounds },
        operations: if arguments.quick { 10_000 } else { arguments.operations },
        memtable_bytes: if arguments.quick { 2 << 20 } else { arguments.memtable_bytes },
        rows: arguments.rows,
        engines: arguments.engines,
        dir: arguments.dir,
    };
    let report = rows::run(&plan)?;
    print!("{}", report.table());
    report.write_json(&arguments.out)?;
    println!("\n{}", arguments.out.display());
    Ok(())
}

fn journal_of(out: &Path) -> PathBuf {
    out.with_extension("journal")
}

fn peers(arguments: Peers) -> Result<()> {
    let Peers { engines: wanted, resume, out, .. } = &arguments;
    let wants = |name: &&str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    let run = peers::Run {
        engines: engines::names().into_iter().filter(wants).collect(),
        suites: arguments.suites.clone(),
        scale: arguments.scale,
        rounds: arguments.rounds,
        seconds: arguments.seconds,
        cache_bytes: arguments.cache_bytes,
        options: arguments.options.clone(),
        dir: arguments.dir.clone(),
        journal: journal_of(out),
    };
    peers::run(&run, *resume)?;
    let journal = peers::read(&run.journal)?;
    print!("{}", matrix::text(&journal.report));
    journal.notes.iter().for_each(|note| println!("\nnote: {note}"));
    journal.report.write_json(out)?;
    println!("\n{}", out.display());
    match &journal.failures[..] {
        [] => Ok(()),
        failures => Err(format!("failed: {}", failures.join("; ")).into()),
    }
}

impl Child {
    fn plan(&self) -> Result<Plan> {
        let split = |option: &String| {
            let (name, value) = option.split_once('=')?;
            Some((name.to_string(), value.to_string()))
        };
        let options: Option<Vec<(String, String)>> = self.options.iter().map(split).collect();
        Ok(Plan {
            dir: self.dir.clone(),
            scale: self.scale,
            limit: Duration::from_secs_f64(self.seconds),
            round: self.round,
            cache_bytes: self.cache_bytes,
            options: options.ok_or("--set wants name=value")?,
        })
    }
}

fn suite(child: &Child) -> Result<()> {
    measure::watch_memory();
    let mut recorder = Recorder::new(std::io::stdout());
    let plan = child.plan()?;
    let run = suites::RunSuite { suite: child.suite, plan: &plan, recorder: &mut recorder };
    engines::visit(&child.engine, run)
}
