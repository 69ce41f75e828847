//! Commands on keys.

use std::time::{Duration, Instant};

use toykv::ScanOptions;

use super::parse::Arguments;
use super::reply::{Failure, format_head};
use super::session::Context;
use super::strings::integer;
use super::table::Answer;
use crate::config::FlushPolicy;
use crate::store::{Glob, Patience};

/// Keys that one SCAN looks at unless told otherwise, and at most.
const SCAN_COUNT: i64 = 10;
const MAX_SCAN_COUNT: i64 = 100_000;

/// Bytes of a pattern from its first wildcard on: comparing takes as many steps for each byte of a
/// key.
const MAX_WILD: usize = 1024;

/// A SCAN that takes longer ends early.
const SCAN_TIME: Duration = Duration::from_secs(1);

/// A SCAN that has found so many bytes of keys ends there, whatever COUNT says.
const SCAN_BYTES: usize = 1 << 20;

pub(super) fn dbsize(context: &mut Context<'_>, _: Arguments<'_>, _: Patience) -> Answer {
    let len = context.shared.store.len()?;
    context.reply.integer(len as i64);
    Ok(())
}

pub(super) fn del(context: &mut Context<'_>, arguments: Arguments<'_>, p: Patience) -> Answer {
    let keys: Vec<&[u8]> = arguments.from(1).collect();
    let removed = context.shared.store.remove(&keys, p)?;
    context.reply.integer(removed as i64);
    Ok(())
}

/// A key named twice counts twice.
pub(super) fn exists(context: &mut Context<'_>, arguments: Arguments<'_>, _: Patience) -> Answer {
    let mut count = 0;
    for key in arguments.from(1) {
        count += i64::from(context.shared.store.contains(key)?);
    }
    context.reply.integer(count);
    Ok(())
}

pub(super) fn key_type(context: &mut Context<'_>, arguments: Arguments<'_>, _: Patience) -> Answer {
    let there = context.shared.store.contains(arguments.get(1))?;
    context.reply.simple(if there { "string" } else { "none" });
    Ok(())
}

pub(super) fn keys(context: &mut Context<'_>, arguments: Arguments<'_>, _: Patience) -> Answer {
    let glob = glob(arguments.get(1))?;
    let options = ScanOptions::new().keys_only(true).prefix(&glob.prefix());
    let mut scan = context.shared.store.scan(&options)?;
    let mut count = 0;
    while let Some(entry) = scan.next_entry()? {
        if glob.matches(entry.key) {
            context.reply.bulk(entry.key);
            count += 1;
        }
        if context.reply.out.refused() {
            return Ok(());
        }
        if context.shared.shutdown.is_over() {
            return Err(Failure::new("the server ends"));
        }
    }
    let mut head = [0; 24];
    let start = format_head(&mut head, b'*', count);
    context.reply.out.insert(context.mark, &head[start..]);
    Ok(())
}

/// A pattern that is not longer than every key, nor takes too long to be compared with one.
pub(super) fn glob(pattern: &[u8]) -> Result<Glob<'_>, Failure> {
    let most = toykv::MAX_KEY_LEN;
    if pattern.len() > most {
        return Err(Failure::new(format!("a pattern has at most {most} bytes")));
    }
    let glob = Glob::new(pattern);
    if pattern.len() - glob.plain_len() > MAX_WILD {
        let text = format!("a pattern has at most {MAX_WILD} bytes from its first wildcard on");
        return Err(Failure::new(text));
    }
    Ok(glob)
}

/// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`. Keys come in their order; whatever is
/// there from the first call to the last comes exactly once.
pub(super) fn scan(context: &mut Context<'_>, arguments: Arguments<'_>, _: Patience) -> Answer {
    let cursor = std::str::from_utf8(arguments.get(1)).ok().and_then(|text| text.parse().ok());
    let cursor: u64 = cursor.ok_or_else(|| Failure::new("invalid cursor"))?;
    let (mut pattern, mut count, mut strings) = (&b"*"[..], SCAN_COUNT, true);
    if !arguments.len().is_multiple_of(2) {
        return Err(Failure::new("syntax error"));
    }
    for at in (2..arguments.len()).step_by(2) {
        let value = arguments.get(at + 1);
        match &arguments.get(at).to_ascii_uppercase()[..] {
            b"MATCH" => pattern = value,
            b"COUNT" => count = integer(value)?,
            b"TYPE" => strings = value.eq_ignore_ascii_case(b"string"),
            _ => return Err(Failure::new("syntax error")),
        }
    }
    if count < 1 {
        return Err(Failure::new("syntax error"));
    }
    let store = &context.shared.store;
    let after = match cursor {
        0 => None,
        _ => Some(store.cursors.find(cursor).ok_or_else(|| {
            Failure::new("invalid cursor: never given, or too long ago; begin again with 0")
        })?),
    };
    let count = count.min(MAX_SCAN_COUNT) as u64;
    let (reply, mut found, mut bytes) = (&mut context.reply, 0, 0);
    let (glob, begun) = (glob(pattern)?, Instant::now());
    let last = store.page(after.as_deref(), &glob, count, &mut |key, matches| {
        if strings && matches {
            reply.bulk(key);
            found += 1;
            bytes += key.len();
        }
        bytes < SCAN_BYTES && !reply.out.refused() && begun.elapsed() < SCAN_TIME
    })?;
    let next = last.map_or(0, |last| store.cursors.keep(context.state.client.id, &last));
    let next = next.to_string();
    let mut head = [0; 24];
    let start = format_head(&mut head, b'*', found);
    let mut front = format!("*2\r\n${}\r\n{next}\r\n", next.len()).into_bytes();
    front.extend_from_slice(&head[start..]);
    context.reply.out.insert(context.mark, &front);
    Ok(())
}

/// Also FLUSHALL: there is one database. What it needs is said by the configuration.
pub(super) fn flushdb(context: &mut Context<'_>, arguments: Arguments<'_>, _: Patience) -> Answer {
    let mut confirmed = false;
    for option in arguments.from(1) {
        match &option.to_ascii_uppercase()[..] {
            b"CONFIRM" => confirmed = true,
            b"ASYNC" | b"SYNC" => {}
            _ => return Err(Failure::new("syntax error")),
        }
    }
    match context.shared.flush_policy {
        FlushPolicy::Refuse => {
            return Err(Failure::Client("NOPERM this server removes nothing at once".into()));
        }
        FlushPolicy::Confirm if !confirmed => {
            return Err(Failure::new("this removes every key: say FLUSHDB CONFIRM"));
        }
        FlushPolicy::Confirm | FlushPolicy::Allow => {}
    }
    let removed = context.shared.store.clear()?;
    tracing::warn!(client = context.state.client.id, removed, "every key was removed");
    context.reply.ok();
    Ok(())
}
