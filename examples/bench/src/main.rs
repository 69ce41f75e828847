//! toykv beside its peers in one short run: alternating engines, one thread, medians and spreads.
//!
//! README.md says what each row does and why each engine is set as it is.

mod alloc;
mod data;
mod engine;
mod lmdb_engine;
mod own;
mod report;
mod rows;
mod subject;
mod toykv_engine;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use own::ChildTask;
use rows::{Plan, Row};

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

/// What everything here answers: any error ends the run with its message.
type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// toykv beside its peers: 16-byte random keys, 100-byte values, everything in memory.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
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
    #[arg(long, value_delimiter = ',', value_parser = engine::NAMES)]
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

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("toykv-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    if let (Some(task), [entries]) = (arguments.child, &arguments.entries[..]) {
        return own::run_child(task, &arguments.dir, *entries, arguments.memtable_bytes);
    }
    let plan = Plan {
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
