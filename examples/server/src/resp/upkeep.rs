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

/// `TOYKV STATS | EXPLAIN | COMPACT [FROM key] [TO key] | GC | VERIFY | PROGRESS | CANCEL |
/// FINDINGS`.
///
/// COMPACT, GC and VERIFY answer at once; PROGRESS answers bytes done, bytes to do and `running` or
/// `done`, or the error that ended the work; FINDINGS answers what VERIFY found. A client that
/// leaves ends what it began.
pub(super) fn toykv(context: &mut Context<'_>, arguments: Arguments<'_>, _: Patience) -> Answer {
    match (&arguments.get(1).to_ascii_uppercase()[..], arguments.len()) {
        (b"STATS", 2) => stats(context),
        (b"EXPLAIN", 2) => explain(context),
        (b"COMPACT", _) => {
            let range = range(arguments)?;
            begin(context, range)
        }
        (b"GC", 2) => begin(context, Upkeep::Collect),
        (b"VERIFY", 2) => begin(context, Upkeep::Verify),
        (b"PROGRESS", 2) => progress(context),
        (b"FINDINGS", 2) => findings(context),
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

/// Numbers by name, then for each place of damage: file, offset, first and last key and number of
/// records where they are known, and what is wrong.
fn findings(context: &mut Context<'_>) -> Answer {
    let Some(report) = &context.state.found else {
        return Err(Failure::new("no VERIFY has ended on this connection"));
    };
    let reply = &mut context.reply;
    let numbers = [
        ("files", report.files),
        ("bytes", report.bytes),
        ("records", report.records),
        ("findings", report.findings.len() as u64 + report.omitted_findings),
    ];
    reply.array(2);
    reply.map(numbers.len());
    for (name, number) in numbers {
        reply.bulk(name.as_bytes());
        reply.integer(number as i64);
    }
    reply.array(report.findings.len());
    for finding in &report.findings {
        reply.array(6);
        reply.bulk(finding.path.as_os_str().as_encoded_bytes());
        reply.integer(finding.offset as i64);
        for key in [&finding.first_key, &finding.last_key] {
            match key {
                Some(key) => reply.bulk(key),
                None => reply.null(),
            }
        }
        match finding.records {
            Some(count) => reply.integer(count as i64),
            None => reply.null(),
        }
        reply.bulk(finding.what.as_bytes());
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
        let text = "BUSY another compaction, collection or search is under way";
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
    let running = report.outcome.is_none();
    if let Some(outcome) = report.outcome {
        context.state.job = None;
        context.state.found = outcome?;
    }
    context.reply.array(3);
    context.reply.integer(report.done_bytes as i64);
    context.reply.integer(report.total_bytes as i64);
    context.reply.simple(if running { "running" } else { "done" });
    Ok(())
}
