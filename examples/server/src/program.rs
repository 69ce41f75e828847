//! The program: reads its configuration, runs until a signal says stop.
//!
//! Exit codes: 0 after a clean end, 1 when the server could not start or the database could not be
//! closed, 2 for a wrong command line.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

use crate::config::{Config, Flags, LogFormat};
use crate::server::Server;

/// Runs `toykv-server` with these arguments, its own name first, and the process' environment,
/// signals and standard error, until it ends. Once in a process.
pub fn program(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let flags = Flags::read(arguments);
    let print_config = flags.print_config;
    match Config::load(flags, std::env::var("TOYKV_PASSWORD").ok()) {
        Err(text) => fail(&text, 2),
        Ok(config) if print_config => {
            print!("{}", config.to_toml());
            ExitCode::SUCCESS
        }
        Ok(config) => match start(&config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(text) => fail(&text, 1),
        },
    }
}

fn fail(text: &str, code: u8) -> ExitCode {
    eprintln!("toykv-server: {text}");
    ExitCode::from(code)
}

fn start(config: &Config) -> Result<(), String> {
    start_logs(config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.workers)
        .thread_name("toykv-server")
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start threads: {error}"))?;
    runtime.block_on(run(config))
}

fn start_logs(config: &Config) -> Result<(), String> {
    let filter: Targets =
        config.log.parse().map_err(|error| format!("log {:?}: {error}", config.log))?;
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = match config.log_format {
        LogFormat::Text => layer.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => layer.json().boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
    Ok(())
}

async fn run(config: &Config) -> Result<(), String> {
    let listen = |kind| signal(kind).map_err(|error| format!("cannot wait for signals: {error}"));
    let (mut term, mut int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let server = Server::start(config).await?;
    let shutdown = server.shutdown();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        shutdown.start();
    });
    server.run().await.map_err(|error| format!("closing the database: {error}"))
}
