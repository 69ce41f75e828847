//! toykv on the command line: a database in a directory or behind a server, by the same verbs.
//!
//! README.md has the verbs and the exit codes.
#![expect(dead_code, reason = "the verbs on whole databases come next")]

mod args;
mod failure;
mod files;
mod output;
mod store;
mod text;
mod verbs;

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Show, Target};
use failure::{Exit, Result};
use output::{Form, Style};

fn main() -> ExitCode {
    let mut cli = Cli::parse();
    from_environment(&mut cli.target);
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.exit == Exit::Unread => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("toykv: {failure}");
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// What the command line does not say the environment may.
fn from_environment(target: &mut Target) {
    if target.dir.is_none() {
        target.dir = std::env::var_os("TOYKV_DIR").map(PathBuf::from);
    }
}

fn style(show: &Show) -> Style {
    let form = match show {
        Show { json: true, .. } => Form::Json,
        Show { table: true, .. } => Form::Table,
        _ if io::stdout().is_terminal() => Form::Table,
        _ => Form::Lines,
    };
    Style { form, encoding: show.encoding().unwrap_or_default() }
}

fn run(cli: &Cli) -> Result<()> {
    let mut store = store::open(&cli.target, cli.verb.access())?;
    let mut out = BufWriter::new(io::stdout().lock());
    let done = verbs::run(&cli.verb, &mut *store, style(&cli.show), &mut out);
    let done = done.and(out.flush().map_err(Into::into));
    // What was written before a failure is kept too.
    done.and(store.close())
}
