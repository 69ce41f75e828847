//! Commands that Redis does not have: `TOYKV ...`, about the database as a whole.

use std::time::Duration;

use tokio::runtime::Handle;

use super::parse::Arguments;
use super::reply::Failure;
use super::server::unknown_part;
use super::session::Context;
use super::table::Answer;
use crate::store::{Patience, Upkeep};

/// How long PROGRESS waits for news.
const NEWS: Duration = Duration::from_millis(200);

/// `TOYKV STATS | EXPLAIN | COMPACT [FROM key] [TO key] | GC | PROGRESS | CANCEL`.
///
/// COMPACT and GC answer at once; PROGRESS answers bytes done, bytes to do and `running` or `done`,
/// or the error that ended the work. A client that leaves ends what it began.
pub(super) fn toykv(context: &mut Context<'_>, arguments: Arguments<'_>, _: Patience) -> Answer {
    match (&arguments.get(1).to_ascii_uppercase()[..], arguments.len()) {
        (b"STATS", 2) => stats(context),
        (b"EXPLAIN", 2) => explain(context),
        (b"COMPACT", _) => {
            let range = range(arguments)?;
            begin(context, range)
        }
        (b"GC", 2) => begin(context, Upkeep::Collect),
        (b"PROGRESS", 2) => progress(context),
        (b"CANCEL", 2) => {
            if let Some(job) = &context.state.job {
                job.give_up();
            }
            context.reply.ok();
            Ok(())
        }
        _ => Err(unknown_part(arguments)),
    }
}

fn stats(context: &mut Context<'_>) -> Answer {
    let store = &context.shared.store;
    let (keys, numbers, health) = (store.len()?, store.stats().numbers(), store.health());
    let reply = &mut context.reply;
    reply.map(numbers.len() + 3);
    reply.bulk(b"keys");
    reply.integer(keys as i64);
    for number in numbers {
        reply.bulk(number.name.as_bytes());
        reply.integer(number.value as i64);
    }
    for (name, error) in
        [("poisoned", health.poisoned), ("background_error", health.background_error)]
    {
        reply.bulk(name.as_bytes());
        match error {
            Some(error) => reply.bulk(error.to_string().as_bytes()),
            None => reply.null(),
        }
    }
    Ok(())
}

/// Lines of bytes, then four numbers for each snapshot.
fn explain(context: &mut Context<'_>) -> Answer {
    let space = context.shared.store.explain_space()?;
    let numbers = space.numbers();
    let reply = &mut context.reply;
    reply.array(2);
    reply.map(numbers.len());
    for (name, bytes) in numbers {
        reply.bulk(name.as_bytes());
        reply.integer(bytes as i64);
    }
    reply.array(space.snapshots.len());
    for own in &space.snapshots {
        reply.array(4);
        for number in [own.seqno, own.count as u64, own.age_ms, own.held_bytes] {
            reply.integer(number as i64);
        }
    }
    Ok(())
}

fn range(arguments: Arguments<'_>) -> Result<Upkeep, Failure> {
    let (mut start, mut end) = (None, None);
    if !arguments.len().is_multiple_of(2) {
        return Err(Failure::new("syntax error"));
    }
    for at in (2..arguments.len()).step_by(2) {
        let key = Some(arguments.get(at + 1).to_vec());
        match &arguments.get(at).to_ascii_uppercase()[..] {
            b"FROM" => start = key,
            b"TO" => end = key,
            _ => return Err(Failure::new("syntax error")),
        }
    }
    Ok(Upkeep::Compact { start, end })
}

fn begin(context: &mut Context<'_>, what: Upkeep) -> Answer {
    let shared = context.shared;
    let Some(job) = shared.store.begin(what, &shared.shutdown)? else {
        let text = "BUSY another compaction or collection is under way";
        return Err(Failure::Client(text.into()));
    };
    context.state.job = Some(job);
    context.reply.ok();
    Ok(())
}

fn progress(context: &mut Context<'_>) -> Answer {
    let Some(job) = &mut context.state.job else {
        return Err(Failure::new("nothing was begun on this connection"));
    };
    // Errs when there is no news, which is fine: the client asks again.
    let news = async { tokio::time::timeout(NEWS, job.changed()).await };
    let _ = Handle::current().block_on(news);
    let report = job.report();
    let running = match report.outcome {
        None => true,
        Some(Ok(())) => false,
        Some(Err(error)) => {
            context.state.job = None;
            return Err(error.into());
        }
    };
    if !running {
        context.state.job = None;
    }
    context.reply.array(3);
    context.reply.integer(report.done_bytes as i64);
    context.reply.integer(report.total_bytes as i64);
    context.reply.simple(if running { "running" } else { "done" });
    Ok(())
}
