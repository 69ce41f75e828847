//! toykv on the command line: a database in a directory or behind a server, by the same verbs.
//!
//! README.md has the verbs, the exit codes and the bytes of a dump.

mod args;
mod dump;
mod exchange;
mod failure;
mod files;
mod output;
mod progress;
mod shell;
mod store;
mod text;
mod verbs;

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Cli, DestroyArgs, Target, Verb};
use failure::{Exit, Failure, Result};
use output::{Form, Style};
use text::Encoding;
use verbs::Call;

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
    if target.dir.is_none() && target.server.is_none() {
        target.dir = std::env::var_os("TOYKV_DIR").map(PathBuf::from);
        if target.dir.is_none() {
            target.server = std::env::var("TOYKV_SERVER").ok();
        }
    }
}

/// Tables for people at a terminal, lines for programs.
fn base_style() -> Style {
    let form = if io::stdout().is_terminal() { Form::Table } else { Form::Lines };
    Style { form, encoding: Encoding::Escaped, input: Encoding::Escaped }
}

fn run(cli: &Cli) -> Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let style = cli.show.style(base_style(), Encoding::Plain);
    let mut call = Call { style, chatty: false, out: &mut out };
    let done = if let Some(done) = run_alone(cli, &mut call) {
        done
    } else {
        progress::watch_interrupts()?;
        let mut store = store::open(&cli.target, cli.verb.access())?;
        if let Verb::Shell(args) = &cli.verb {
            // The shell writes to the standard output by itself.
            drop(out);
            return shell::run(store, args, style);
        }
        let done = verbs::run(&cli.verb, &mut *store, &mut call);
        // What was written before a failure is kept too.
        done.and(store.close())
    };
    let written = out.flush();
    done.and(written.map_err(Into::into))
}

/// Runs the verbs that need no open store.
fn run_alone(cli: &Cli, call: &mut Call<'_>) -> Option<Result<()>> {
    match &cli.verb {
        Verb::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "toykv", &mut text);
            Some(call.out.write_all(&text).map_err(Into::into))
        }
        Verb::Man { verb } => Some(manual(verb.as_deref(), call)),
        Verb::Destroy(args) => Some(destroy(args, &cli.target)),
        Verb::Load(args) if args.check => Some(watched(|| verbs::check_dump(args, call))),
        Verb::Verify(args) => {
            let dir = args.dir.as_ref().or(cli.target.dir.as_ref())?;
            Some(watched(|| verbs::verify_dir(dir, call)))
        }
        Verb::Salvage(args) => Some(watched(|| {
            let options = store::options(&cli.target)?;
            verbs::salvage(args, &options, call)
        })),
        _ => None,
    }
}

/// Runs what Ctrl-C ends.
fn watched(run: impl FnOnce() -> Result<()>) -> Result<()> {
    progress::watch_interrupts()?;
    run()
}

fn manual(verb: Option<&str>, call: &mut Call<'_>) -> Result<()> {
    let mut command = Cli::command();
    command.build();
    if let Some(name) = verb {
        let found = command.find_subcommand(name);
        let found = found.ok_or_else(|| Failure::usage(format!("there is no verb {name}")))?;
        command = found.clone();
    }
    Ok(clap_mangen::Man::new(command).render(call.out)?)
}

fn destroy(args: &DestroyArgs, target: &Target) -> Result<()> {
    if let (None, Some(server)) = (&target.dir, &target.server) {
        return Err(store::unsupported("destroy", server, "a server's database is in use"));
    }
    let dir = target.dir.as_ref();
    let dir = dir.ok_or_else(|| Failure::usage("say which database: --dir DIR"))?;
    if !args.yes {
        let what = format!("destroy deletes {} for good: say --yes", dir.display());
        return Err(Failure::usage(what));
    }
    Ok(toykv::Db::destroy(dir)?)
}
