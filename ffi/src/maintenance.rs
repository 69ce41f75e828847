//! `toykv` (C noun), continued: what keeps a database in shape and tells how it is.

use crate::buffer::{Out, ReservedBuf, ToykvBuf, ToykvSlice, bound, invalid};
use crate::db::{Toykv, ToykvKeyspace, db_of};
use crate::panic::guard;
use crate::status::{TOYKV_OK, ToykvError};
use engine::{Error, Result, RunSize, Space, Stats};
use std::fmt::Write;
use std::ops::Bound;
use std::ptr;

/// Makes everything acknowledged so far survive power loss.
/// Ownership: none.
/// Threads: any.
/// Errors: MISUSE, CLOSED, IO, DISK_FULL, POISONED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_sync(db: *mut Toykv, err: *mut ToykvError) -> i32 {
    // SAFETY: `err` is NULL or a toykv_error, by contract.
    unsafe {
        guard(err, || {
            db_of(db, ptr::null())?.sync()?;
            Ok(TOYKV_OK)
        })
    }
}

/// Moves what is in memory to tables, and waits for it. Never needed for durability.
/// Ownership: none.
/// Threads: any.
/// Errors: MISUSE, CLOSED, READ_ONLY, IO, DISK_FULL, POISONED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_flush(db: *mut Toykv, err: *mut ToykvError) -> i32 {
    // SAFETY: `err` is NULL or a toykv_error, by contract.
    unsafe {
        guard(err, || {
            db_of(db, ptr::null())?.flush()?;
            Ok(TOYKV_OK)
        })
    }
}

/// Merges the keys from *lower to before *upper, NULL for no bound, into one sorted run; waits.
/// Ownership: bounds are copied.
/// Threads: any.
/// Errors: INVALID, TOO_LARGE, MISUSE, CLOSED, READ_ONLY, CORRUPTION, IO, DISK_FULL, POISONED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_compact(
    db: *mut Toykv,
    keyspace: *mut ToykvKeyspace,
    lower: *const ToykvSlice,
    upper: *const ToykvSlice,
    err: *mut ToykvError,
) -> i32 {
    // SAFETY: pointers are NULL or point to what their names say, by contract.
    unsafe {
        guard(err, || {
            let db = db_of(db, keyspace)?;
            let (lower, upper) = (slice_at("lower", lower)?, slice_at("upper", upper)?);
            let lower = lower.map_or(Bound::Unbounded, Bound::Included);
            let upper = upper.map_or(Bound::Unbounded, Bound::Excluded);
            db.compact(lower, upper)?;
            Ok(TOYKV_OK)
        })
    }
}

/// Frees all space that can be freed now: merges everything, then rewrites every file of the value
/// log that holds dead values; waits. Needed for nothing: the option space_amplification is kept
/// without it.
/// Ownership: none.
/// Threads: any.
/// Errors: MISUSE, CLOSED, READ_ONLY, CORRUPTION, IO, DISK_FULL, POISONED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_gc(db: *mut Toykv, err: *mut ToykvError) -> i32 {
    // SAFETY: `err` is NULL or a toykv_error, by contract.
    unsafe {
        guard(err, || {
            db_of(db, ptr::null())?.gc()?;
            Ok(TOYKV_OK)
        })
    }
}

/// The bytes of a slice that may be missing.
///
/// # Safety
/// `slice` is NULL or points to a slice whose bytes nobody changes for `'a`.
unsafe fn slice_at<'a>(name: &str, slice: *const ToykvSlice) -> Result<Option<&'a [u8]>> {
    if slice.is_null() {
        return Ok(None);
    }
    if !slice.is_aligned() {
        return Err(invalid(format!("{name} points between the places of its type")));
    }
    // SAFETY: not NULL, aligned, and the caller's promise.
    unsafe { bound(name, slice.read()) }
}

/// OK when all is well; otherwise the error that keeps writes from being taken (POISONED, until the
/// database is opened again) or the newest one of background work that will be tried again.
/// Ownership: none.
/// Threads: any.
/// Errors: MISUSE, FORKED, and those that it reports.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_health(db: *mut Toykv, err: *mut ToykvError) -> i32 {
    // SAFETY: `err` is NULL or a toykv_error, by contract.
    unsafe {
        guard(err, || {
            let health = db_of(db, ptr::null())?.health();
            match health.poisoned.or(health.background_error) {
                Some(error) => Err(error),
                None => Ok(TOYKV_OK),
            }
        })
    }
}

/// Counts and sizes as one JSON object, NUL-terminated; later versions add members. sorted_runs
/// lists the tables, entries and bytes of each run, the newest first.
/// Ownership: the caller frees *out with toykv_buf_free; out->len leaves out the NUL.
/// Threads: any.
/// Errors: INVALID, MISUSE, FORKED, NO_MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_stats_json(
    db: *mut Toykv,
    out: *mut ToykvBuf,
    err: *mut ToykvError,
) -> i32 {
    // SAFETY: `out` is a place for a buffer and `err` a toykv_error or NULL, by contract.
    unsafe {
        guard(err, || {
            let out = Out::new(out, "out")?;
            out.set(ToykvBuf::NONE);
            let db = db_of(db, ptr::null())?;
            let health = db.health();
            let errors = [health.poisoned.as_ref(), health.background_error.as_ref()];
            let (mut stats, runs) = (db.stats(), db.runs());
            // Runs may have come and gone between the two.
            stats.runs = runs.len();
            stats.tables = runs.iter().map(|run| run.tables).sum();
            stats.table_bytes = runs.iter().map(|run| run.bytes).sum();
            out.set(ReservedBuf::new()?.fill_text(json(&stats, &runs, errors)));
            Ok(TOYKV_OK)
        })
    }
}

/// What the space of the directory is needed for, in bytes, as one JSON object, NUL-terminated;
/// later versions add members. All members but hidden_value_bytes, which is part of
/// live_value_bytes, and two lists, snapshots and held_files, which are those of obsolete_bytes and
/// how long they have waited for readers, add up to total_bytes. hidden_value_bytes estimates
/// what newer entries of other runs hide, each one older value; a compaction finds it dead.
/// Ownership: the caller frees *out with toykv_buf_free; out->len leaves out the NUL.
/// Threads: any.
/// Errors: INVALID, MISUSE, CLOSED, FORKED, IO, NO_MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_space_json(
    db: *mut Toykv,
    out: *mut ToykvBuf,
    err: *mut ToykvError,
) -> i32 {
    // SAFETY: `out` is a place for a buffer and `err` a toykv_error or NULL, by contract.
    unsafe {
        guard(err, || {
            let out = Out::new(out, "out")?;
            out.set(ToykvBuf::NONE);
            let space = db_of(db, ptr::null())?.explain_space()?;
            out.set(ReservedBuf::new()?.fill_text(space_json(&space)));
            Ok(TOYKV_OK)
        })
    }
}

/// One member a field of `Space`.
fn space_json(space: &Space) -> String {
    let mut text = String::from("{");
    for (name, number) in space.numbers() {
        let _ = write!(text, "\"{name}\":{number},");
    }
    text.push_str("\"snapshots\":[");
    for (index, own) in space.snapshots.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(
            text,
            "{comma}{{\"seqno\":{},\"count\":{},\"age_ms\":{},\"held_bytes\":{}}}",
            own.seqno, own.count, own.age_ms, own.held_bytes
        );
    }
    text.push_str("],\"held_files\":[");
    for (index, own) in space.held_files.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let (name, bytes, age_ms) = (quoted(&own.name), own.bytes, own.age_ms);
        let _ = write!(text, "{comma}{{\"name\":{name},\"bytes\":{bytes},\"age_ms\":{age_ms}}}");
    }
    text.push_str("]}");
    text
}

/// One member a field of `Stats`, then the runs, then what poisoned the database and what failed in
/// the background: text or null.
fn json(stats: &Stats, runs: &[RunSize], errors: [Option<&Error>; 2]) -> String {
    let mut text = String::from("{");
    for number in stats.numbers() {
        let _ = write!(text, "\"{}\":{},", number.name, number.value);
    }
    text.push_str("\"sorted_runs\":[");
    for (index, RunSize { tables, entries, bytes, .. }) in runs.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ =
            write!(text, "{comma}{{\"tables\":{tables},\"entries\":{entries},\"bytes\":{bytes}}}");
    }
    text.push_str("],");
    for (name, error) in ["poisoned", "background_error"].into_iter().zip(errors) {
        let error = error.map_or("null".to_string(), |error| quoted(&error.to_string()));
        let _ = write!(text, "\"{name}\":{error},");
    }
    text.pop();
    text.push('}');
    text
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_the_statistics_is_a_member() {
        let stats = Stats::default();
        let wanted: Vec<&str> = stats.numbers().iter().map(|number| number.name).collect();
        let error = Error::new(engine::ErrorKind::Io, "no");
        let text = json(&stats, &[], [Some(&error), None]);
        let members: Vec<&str> = text
            .split(',')
            .filter_map(|member| member.split_once(':'))
            .map(|(name, _)| name.trim_start_matches('{').trim_matches('"'))
            .collect();
        assert_eq!(members[..wanted.len()], wanted);
        assert_eq!(members[wanted.len()..], ["sorted_runs", "poisoned", "background_error"]);
        assert!(text.ends_with("\"poisoned\":\"no\",\"background_error\":null}"), "{text}");
    }

    #[test]
    fn every_field_of_the_space_is_a_member() {
        let debug = format!("{:?}", Space::default());
        let fields = debug.trim_start_matches("Space {").trim_end_matches('}').trim();
        let wanted = fields.replace(": ", ":").replace(", ", ",");
        let text = space_json(&Space::default()).replace(['"', '{', '}'], "");
        assert_eq!(text, wanted);
    }

    #[test]
    fn texts_are_quoted() {
        assert_eq!(quoted("a \"b\"\\c\n\u{e4}"), "\"a \\\"b\\\"\\\\c\\u000a\u{e4}\"");
    }
}
