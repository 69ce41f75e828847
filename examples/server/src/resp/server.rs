//! Commands about the server.

use std::fmt::Write;
use std::sync::PoisonError;

use super::basic::REDIS_VERSION;
use super::parse::Arguments;
use super::reply::Failure;
use super::session::Context;
use super::table::{Answer, COMMANDS, Command, LONG, WRITE, find};
use crate::metrics::read;
use crate::store::{Glob, Patience};

/// `COMMAND [COUNT | LIST | DOCS ... | INFO name ...]`.
pub(super) fn command(context: &mut Context<'_>, arguments: Arguments<'_>, _: Patience) -> Answer {
    let reply = &mut context.reply;
    match &arguments.get(1).to_ascii_uppercase()[..] {
        b"" => {
            reply.array(COMMANDS.len());
            COMMANDS.iter().for_each(|command| describe(context, command));
        }
        b"COUNT" => reply.integer(COMMANDS.len() as i64),
        b"LIST" => {
            reply.array(COMMANDS.len());
            COMMANDS.iter().for_each(|c| reply.bulk(c.name.to_ascii_lowercase().as_bytes()));
        }
        b"DOCS" => reply.map(0),
        b"INFO" => {
            reply.array(arguments.len() - 2);
            for name in arguments.from(2) {
                match find(name) {
                    Some(index) => describe(context, &COMMANDS[index]),
                    None => context.reply.null(),
                }
            }
        }
        _ => return Err(unknown_part(arguments)),
    }
    Ok(())
}

/// As Redis 7 does: name, arity, flags, keys, categories, and three lists that are empty here.
/// Clients count on all ten.
fn describe(context: &mut Context<'_>, command: &Command) {
    let reply = &mut context.reply;
    let (writes, long) = (command.flags & WRITE != 0, command.flags & LONG != 0);
    reply.array(10);
    reply.bulk(command.name.to_ascii_lowercase().as_bytes());
    reply.integer(command.arity);
    reply.array(2);
    reply.simple(if writes { "write" } else { "readonly" });
    reply.simple(if long { "blocking" } else { "fast" });
    let (first, last, step) = command.keys;
    [first, last, step].iter().for_each(|&number| reply.integer(number));
    reply.array(2);
    reply.simple(if writes { "@write" } else { "@read" });
    reply.simple(if long { "@slow" } else { "@fast" });
    (0..3).for_each(|_| reply.array(0));
}

pub(super) fn unknown_part(arguments: Arguments<'_>) -> Failure {
    let shown = |index| {
        let bytes = arguments.get(index);
        String::from_utf8_lossy(&bytes[..bytes.len().min(128)]).into_owned()
    };
    Failure::new(format!("unknown subcommand '{}' of '{}'", shown(1), shown(0)))
}

/// `CLIENT ID | GETNAME | SETNAME name | SETINFO name value | INFO | LIST`, and two that change
/// nothing here.
pub(super) fn client(context: &mut Context<'_>, arguments: Arguments<'_>, _: Patience) -> Answer {
    let now = context.shared.clients.now_ms();
    let count = arguments.len();
    match &arguments.get(1).to_ascii_uppercase()[..] {
        b"ID" => context.reply.integer(context.state.client.id as i64),
        b"GETNAME" => match context.state.client.name() {
            name if name.is_empty() => context.reply.null(),
            name => context.reply.bulk(name.as_bytes()),
        },
        b"SETNAME" if count == 3 => {
            set_name(context, arguments.get(2))?;
            context.reply.ok();
        }
        b"SETINFO" if count == 4 => context.reply.ok(),
        b"NO-EVICT" | b"NO-TOUCH" if count == 3 => context.reply.ok(),
        b"INFO" => context.reply.bulk((context.state.client.describe(now) + "\n").as_bytes()),
        b"LIST" => context.reply.bulk(context.shared.clients.describe().as_bytes()),
        _ => return Err(unknown_part(arguments)),
    }
    Ok(())
}

/// Names a client; a name is short and has no blanks, so that lists of clients can be read.
pub(super) fn set_name(context: &mut Context<'_>, name: &[u8]) -> Answer {
    let fine = name.len() <= 256 && name.iter().all(u8::is_ascii_graphic);
    let Some(name) = std::str::from_utf8(name).ok().filter(|_| fine) else {
        return Err(Failure::new(
            "Client names cannot contain spaces, newlines or special characters.",
        ));
    };
    let own = context.state.client.name.lock();
    *own.unwrap_or_else(PoisonError::into_inner) = name.into();
    Ok(())
}

/// How many settings CONFIG GET knows.
const SETTINGS: usize = 8;

/// `CONFIG GET pattern ...`: what Redis' clients ask about. Nothing can be set.
pub(super) fn config(context: &mut Context<'_>, arguments: Arguments<'_>, _: Patience) -> Answer {
    match &arguments.get(1).to_ascii_uppercase()[..] {
        b"GET" if arguments.len() > 2 => {}
        b"SET" => {
            return Err(Failure::new(
                "CONFIG SET is not supported: see the command line and the configuration file",
            ));
        }
        _ => return Err(unknown_part(arguments)),
    }
    let limits = &context.shared.limits;
    let settings: [(&str, String); SETTINGS] = [
        ("appendfsync", if context.shared.store.settles() { "always" } else { "everysec" }.into()),
        ("appendonly", "yes".into()),
        ("databases", "1".into()),
        ("maxclients", limits.connections.to_string()),
        ("maxmemory", "0".into()),
        ("proto-max-bulk-len", limits.frame_bytes.to_string()),
        ("save", String::new()),
        ("timeout", limits.idle_seconds.to_string()),
    ];
    let mut wanted = [false; SETTINGS];
    for pattern in arguments.from(2) {
        super::keys::glob(pattern)?;
        let pattern = pattern.to_ascii_lowercase();
        for (wanted, (name, _)) in wanted.iter_mut().zip(&settings) {
            *wanted |= Glob::new(&pattern).matches(name.as_bytes());
        }
    }
    let chosen = settings.iter().zip(wanted).filter(|(_, wanted)| *wanted).map(|(one, _)| one);
    let chosen: Vec<_> = chosen.collect();
    context.reply.map(chosen.len());
    for (name, value) in chosen {
        context.reply.bulk(name.as_bytes());
        context.reply.bulk(value.as_bytes());
    }
    Ok(())
}

/// `INFO [section ...]`.
pub(super) fn info(context: &mut Context<'_>, arguments: Arguments<'_>, _: Patience) -> Answer {
    let shared = context.shared;
    let wanted: Vec<Vec<u8>> = arguments.from(1).map(<[u8]>::to_ascii_lowercase).collect();
    let everything = wanted.is_empty()
        || wanted.iter().any(|name| matches!(&name[..], b"all" | b"everything" | b"default"));
    let mut text = String::new();
    for (name, lines) in sections(shared)? {
        if everything || wanted.iter().any(|wanted| wanted == name.to_lowercase().as_bytes()) {
            let _ = write!(text, "# {name}\r\n{lines}\r\n");
        }
    }
    context.reply.bulk(text.as_bytes());
    Ok(())
}

fn sections(shared: &crate::server::Shared) -> Result<[(&'static str, String); 6], Failure> {
    let (metrics, stats, health) = (&shared.metrics, shared.store.stats(), shared.store.health());
    let lines = |pairs: &[(&str, &dyn std::fmt::Display)]| -> String {
        pairs.iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect()
    };
    let commands: u64 = metrics.commands().map(|(_, count)| count).sum();
    let poisoned = health.poisoned.map_or_else(String::new, |error| error.to_string());
    let keys = shared.store.len()?;
    Ok([
        (
            "Server",
            lines(&[
                ("redis_version", &REDIS_VERSION),
                ("toykv_version", &env!("CARGO_PKG_VERSION")),
                ("redis_mode", &"standalone"),
                ("process_id", &std::process::id()),
                ("uptime_in_seconds", &(shared.clients.now_ms() / 1000)),
            ]),
        ),
        (
            "Clients",
            lines(&[
                ("connected_clients", &shared.clients.count()),
                ("maxclients", &shared.limits.connections),
            ]),
        ),
        (
            "Memory",
            lines(&[
                ("memtable_bytes", &stats.memtable_bytes),
                ("client_buffer_bytes", &shared.budget.used()),
                ("maxmemory", &0),
            ]),
        ),
        (
            "Persistence",
            lines(&[
                ("loading", &0),
                ("aof_enabled", &1),
                ("segment_bytes", &stats.segment_bytes),
                ("table_bytes", &stats.table_bytes),
                ("runs", &stats.runs),
                ("syncs", &stats.syncs),
                ("poisoned", &poisoned),
            ]),
        ),
        (
            "Stats",
            lines(&[
                ("total_connections_received", &read(&metrics.accepted)),
                ("total_commands_processed", &commands),
                ("total_net_input_bytes", &read(&metrics.bytes_in)),
                ("total_net_output_bytes", &read(&metrics.bytes_out)),
                ("rejected_connections", &read(&metrics.rejected)),
                ("total_error_replies", &read(&metrics.errors)),
                ("slow_commands", &read(&metrics.slow)),
                ("stalled_us", &stats.stalled_us),
            ]),
        ),
        (
            "Keyspace",
            if keys == 0 { String::new() } else { format!("db0:keys={keys},expires=0\r\n") },
        ),
    ])
}

/// `SHUTDOWN [SAVE | NOSAVE]`: the same as SIGTERM; what was acknowledged is kept either way.
pub(super) fn shutdown(context: &mut Context<'_>, _: Arguments<'_>, _: Patience) -> Answer {
    tracing::info!(client = context.state.client.id, "a client asked for a shutdown");
    context.shared.shutdown.start();
    context.state.close = true;
    Ok(())
}
