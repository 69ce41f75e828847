//! `toykv` (C noun), continued: what keeps a database in shape and tells how it is.

use crate::buffer::{Out, ReservedBuf, ToykvBuf, ToykvSlice, bound, invalid};
use crate::db::{Toykv, ToykvKeyspace, db_of};
use crate::panic::guard;
use crate::status::{TOYKV_OK, ToykvError};
use engine::{Error, Result, Stats};
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

/// Counts and sizes as one JSON object, NUL-terminated; later versions add members.
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
            out.set(ReservedBuf::new()?.fill_text(json(&db.stats(), errors)));
            Ok(TOYKV_OK)
        })
    }
}

/// One member a field of `Stats`, then what poisoned the database and what failed in the
/// background: text or null.
fn json(stats: &Stats, errors: [Option<&Error>; 2]) -> String {
    let numbers = [
        ("seqno", stats.seqno),
        ("memtables", stats.memtables as u64),
        ("memtable_bytes", stats.memtable_bytes),
        ("runs", stats.runs as u64),
        ("tables", stats.tables as u64),
        ("table_bytes", stats.table_bytes),
        ("segments", stats.segments as u64),
        ("segment_bytes", stats.segment_bytes),
        ("snapshots", stats.snapshots as u64),
        ("flushes", stats.flushes),
        ("compactions", stats.compactions),
        ("compaction_bytes_read", stats.compaction_bytes_read),
        ("compaction_bytes_written", stats.compaction_bytes_written),
        ("collections", stats.collections),
        ("collection_bytes_written", stats.collection_bytes_written),
        ("flush_bytes_written", stats.flush_bytes_written),
        ("log_bytes_written", stats.log_bytes_written),
        ("syncs", stats.syncs),
        ("stalled_us", stats.stalled_us),
        ("table_heap_bytes", stats.table_heap_bytes),
        ("cache_bytes", stats.cache_bytes),
        ("cache_hits", stats.cache_hits),
        ("cache_misses", stats.cache_misses),
    ];
    let mut text = String::from("{");
    for (name, number) in numbers {
        let _ = write!(text, "\"{name}\":{number},");
    }
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
        let debug = format!("{:?}", Stats::default());
        let fields = debug.trim_start_matches("Stats {").trim_end_matches('}').trim();
        let wanted: Vec<&str> =
            fields.split(", ").filter_map(|field| Some(field.split_once(':')?.0)).collect();
        assert!(wanted.contains(&"memtable_bytes"), "{debug}");
        let names = "seqno memtables";
        assert_eq!(wanted.iter().take(2).copied().collect::<Vec<_>>().join(" "), names);
        let error = Error::new(engine::ErrorKind::Io, "no");
        let text = json(&Stats::default(), [Some(&error), None]);
        let members: Vec<&str> = text
            .split(',')
            .filter_map(|member| member.split_once(':'))
            .map(|(name, _)| name.trim_start_matches('{').trim_matches('"'))
            .collect();
        assert_eq!(members[..wanted.len()], wanted);
        assert_eq!(members[wanted.len()..], ["poisoned", "background_error"]);
        assert!(text.ends_with("\"poisoned\":\"no\",\"background_error\":null}"), "{text}");
    }

    #[test]
    fn texts_are_quoted() {
        assert_eq!(quoted("a \"b\"\\c\n\u{e4}"), "\"a \\\"b\\\"\\\\c\\u000a\u{e4}\"");
    }
}
