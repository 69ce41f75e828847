//! Commands on values.

use toykv::Value;

use super::parse::Arguments;
use super::reply::Failure;
use super::session::Context;
use super::table::Answer;
use crate::budget::Share;
use crate::store::{Patience, SetCondition};

pub(super) fn get(context: &mut Context<'_>, arguments: Arguments<'_>, _: Patience) -> Answer {
    let value = context.shared.store.get(arguments.get(1))?;
    context.reply.value(value.as_ref());
    Ok(())
}

/// `SET key value [NX | XX] [GET]`.
pub(super) fn set(context: &mut Context<'_>, arguments: Arguments<'_>, p: Patience) -> Answer {
    let (key, value) = (arguments.get(1), arguments.get(2));
    let (mut condition, mut want_before) = (SetCondition::Always, false);
    for option in arguments.from(3) {
        let option = option.to_ascii_uppercase();
        condition = match (&option[..], condition) {
            (b"NX", SetCondition::Always | SetCondition::Absent) => SetCondition::Absent,
            (b"XX", SetCondition::Always | SetCondition::Present) => SetCondition::Present,
            (b"GET", condition) => {
                want_before = true;
                condition
            }
            (b"EX" | b"PX" | b"EXAT" | b"PXAT" | b"KEEPTTL", _) => {
                let option = String::from_utf8_lossy(&option).into_owned();
                return Err(Failure::new(format!("{option}: keys cannot expire yet")));
            }
            _ => return Err(Failure::new("syntax error")),
        };
    }
    if condition == SetCondition::Always && !want_before {
        context.shared.store.put(key, value, p)?;
        context.reply.ok();
        return Ok(());
    }
    let outcome = context.shared.store.set(key, value, condition, want_before, p)?;
    match (want_before, outcome.stored) {
        (true, _) => context.reply.value(outcome.before.as_ref()),
        (false, true) => context.reply.ok(),
        (false, false) => context.reply.null(),
    }
    Ok(())
}

pub(super) fn setnx(context: &mut Context<'_>, arguments: Arguments<'_>, p: Patience) -> Answer {
    let (key, value) = (arguments.get(1), arguments.get(2));
    let outcome = context.shared.store.set(key, value, SetCondition::Absent, false, p)?;
    context.reply.integer(i64::from(outcome.stored));
    Ok(())
}

pub(super) fn getset(context: &mut Context<'_>, arguments: Arguments<'_>, p: Patience) -> Answer {
    let (key, value) = (arguments.get(1), arguments.get(2));
    let outcome = context.shared.store.set(key, value, SetCondition::Always, true, p)?;
    context.reply.value(outcome.before.as_ref());
    Ok(())
}

pub(super) fn getdel(context: &mut Context<'_>, arguments: Arguments<'_>, p: Patience) -> Answer {
    let before = context.shared.store.take(arguments.get(1), p)?;
    context.reply.value(before.as_ref());
    Ok(())
}

pub(super) fn mget(context: &mut Context<'_>, arguments: Arguments<'_>, _: Patience) -> Answer {
    let keys: Vec<&[u8]> = arguments.from(1).collect();
    let reply = &mut context.reply;
    reply.array(keys.len());
    context.shared.store.get_each(&keys, &mut |value| {
        reply.value(value);
        !reply.out.refused()
    })?;
    Ok(())
}

pub(super) fn mset(context: &mut Context<'_>, arguments: Arguments<'_>, p: Patience) -> Answer {
    context.shared.store.multi_set(&pairs(arguments)?, false, p)?;
    context.reply.ok();
    Ok(())
}

pub(super) fn msetnx(context: &mut Context<'_>, arguments: Arguments<'_>, p: Patience) -> Answer {
    let stored = context.shared.store.multi_set(&pairs(arguments)?, true, p)?;
    context.reply.integer(i64::from(stored));
    Ok(())
}

type Pair<'a> = (&'a [u8], &'a [u8]);

fn pairs(arguments: Arguments<'_>) -> Result<Vec<Pair<'_>>, Failure> {
    if arguments.len().is_multiple_of(2) {
        let name = String::from_utf8_lossy(arguments.get(0)).to_ascii_lowercase();
        return Err(Failure::new(format!("wrong number of arguments for '{name}' command")));
    }
    let pair = |at| (arguments.get(at), arguments.get(at + 1));
    Ok((1..arguments.len()).step_by(2).map(pair).collect())
}

pub(super) fn append(context: &mut Context<'_>, arguments: Arguments<'_>, p: Patience) -> Answer {
    let limit = context.shared.limits.frame_bytes as usize;
    let (key, tail) = (arguments.get(1), arguments.get(2));
    let mut share = Share::new(&context.shared.budget);
    let len = context.shared.store.append(key, tail, limit, &mut share, p)?;
    context.reply.integer(len as i64);
    Ok(())
}

pub(super) fn strlen(context: &mut Context<'_>, arguments: Arguments<'_>, _: Patience) -> Answer {
    let value = context.shared.store.get(arguments.get(1))?;
    context.reply.integer(value.map_or(0, |value| value.len() as i64));
    Ok(())
}

/// Both ends are included; negative ones count from the end.
pub(super) fn getrange(context: &mut Context<'_>, arguments: Arguments<'_>, _: Patience) -> Answer {
    let (start, end) = (integer(arguments.get(2))?, integer(arguments.get(3))?);
    let value: Option<Value> = context.shared.store.get(arguments.get(1))?;
    let value = value.as_deref().unwrap_or_default();
    context.reply.bulk(range(value, start, end));
    Ok(())
}

fn range(value: &[u8], start: i64, end: i64) -> &[u8] {
    let len = value.len() as i64;
    let from_end = |at: i64| if at < 0 { at.saturating_add(len) } else { at };
    let (start, end) = (from_end(start).max(0), from_end(end).min(len - 1));
    if start > end { b"" } else { &value[start as usize..=end as usize] }
}

pub(super) fn incr(context: &mut Context<'_>, arguments: Arguments<'_>, p: Patience) -> Answer {
    add(context, arguments, 1, p)
}

pub(super) fn decr(context: &mut Context<'_>, arguments: Arguments<'_>, p: Patience) -> Answer {
    add(context, arguments, -1, p)
}

pub(super) fn incrby(context: &mut Context<'_>, arguments: Arguments<'_>, p: Patience) -> Answer {
    let amount = integer(arguments.get(2))?;
    add(context, arguments, amount, p)
}

pub(super) fn decrby(context: &mut Context<'_>, arguments: Arguments<'_>, p: Patience) -> Answer {
    let amount = integer(arguments.get(2))?.checked_neg();
    let amount = amount.ok_or_else(|| Failure::new("decrement would overflow"))?;
    add(context, arguments, amount, p)
}

fn add(context: &mut Context<'_>, arguments: Arguments<'_>, amount: i64, p: Patience) -> Answer {
    let sum = context.shared.store.add(arguments.get(1), amount, p)?;
    context.reply.integer(sum);
    Ok(())
}

/// An argument that is a number.
pub(super) fn integer(text: &[u8]) -> Result<i64, Failure> {
    crate::store::parse_integer(text)
        .ok_or_else(|| Failure::new("value is not an integer or out of range"))
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn ranges_as_in_redis() {
        let text = &b"This is a string"[..];
        for (start, end, expected) in [
            (0, 3, "This"),
            (-3, -1, "ing"),
            (0, -1, "This is a string"),
            (10, 100, "string"),
            (5, 3, ""),
            (-100, 3, "This"),
            (100, 200, ""),
            (i64::MIN, i64::MAX, "This is a string"),
        ] {
            assert_eq!(range(text, start, end), expected.as_bytes(), "{start} {end}");
        }
        assert_eq!(range(b"", 0, -1), b"");
    }
}
