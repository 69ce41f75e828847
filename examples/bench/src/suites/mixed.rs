//! Fills, overwrites, absent keys, seeks, scans and many gets at once, with keys of 16 and values
//! of 100 bytes; then reads beside a writer of a fixed rate.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::Result;
use crate::choice::Random;
use crate::corpus::{GROUP, Key, Order, Shape, belongs};
use crate::engine::{Durability, Engine, Reader};
use crate::measure::{
    Plan, Recorder, device_bytes, disk_bytes, expect_equal, histogram, repeat, timed,
};

const SHAPE: Shape = Shape { order: Order::Grouped, key_len: 16, value_len: 100 };
const SORTED: Shape = Shape { order: Order::Sorted, key_len: 16, value_len: 100 };

/// Full sizes.
const ENTRIES: u64 = 5_000_000;
const OPERATIONS: u64 = 1_000_000;

/// Keys of one multi_get.
const MANY: usize = 100;

/// Writes a second beside the reads.
const WRITES_PER_SECOND: f64 = 20_000.0;

/// Puts between two looks at the clock while a load is drawn as a curve.
const LAP: u64 = 64;

/// Points of that curve per second.
const POINTS_PER_SECOND: f64 = 50.0;

/// Runs all rows.
pub(crate) fn run<E: Engine>(plan: &Plan, out: &mut Recorder<impl Write>) -> Result<()> {
    let entries = plan.count(ENTRIES) / GROUP * GROUP;
    out.entries(entries);
    out.durability::<E>(Durability::Process);
    sorted_fill::<E>(plan, out)?;
    let dir = plan.fresh("db")?;
    let mut engine = E::open(&dir, &plan.config(Durability::Process))?;
    let before = device_bytes()?;
    fill(&engine, plan, entries, out)?;
    let user = (entries * (SHAPE.key_len + SHAPE.value_len) as u64) as f64;
    let (overwritten, time) = overwrite(&engine, plan, entries, out)?;
    let rate = overwritten as f64 / time.as_secs_f64();
    full_scans(&engine, entries, "_loaded", out)?;
    engine.settle()?;
    let put = user * (entries + overwritten) as f64 / entries as f64;
    out.value("fill_device_bytes", "per byte put", (device_bytes()? - before) as f64 / put)?;
    out.value("size_settled", "per live byte", disk_bytes(&dir)? as f64 / user)?;
    gets(&engine, plan, entries, out)?;
    scans(&engine, plan, entries, out)?;
    beside(&engine, plan, entries, WRITES_PER_SECOND, "", out)?;
    beside(&engine, plan, entries, rate / 2.0, "half_rate_", out)?;
    engine.close()
}

/// Ascending keys, one put each.
fn sorted_fill<E: Engine>(plan: &Plan, out: &mut Recorder<impl Write>) -> Result<()> {
    let dir = plan.fresh("sorted")?;
    let engine = E::open(&dir, &plan.config(Durability::Process))?;
    let done = repeat(plan.count(ENTRIES), plan.limit, |number| {
        let (key, value) = SORTED.entry(number, 0);
        engine.put(key.as_ref(), value)
    })?;
    expect_equal("entries after a sorted fill", engine.len()?, done.0)?;
    out.rate("put_sorted", "ops/s", done)?;
    engine.close()
}

/// The number of the `index`th entry to be filled: all of them once, none after its neighbour.
fn scattered(index: u64, entries: u64) -> u64 {
    // 999 983 is prime and above any size in use that it could divide evenly only by itself.
    ((u128::from(index) * 999_983) % u128::from(entries)) as u64
}

/// Random keys, one put each, drawn as a curve; what the limit leaves over comes in batches.
fn fill<E: Engine>(
    engine: &E,
    plan: &Plan,
    entries: u64,
    out: &mut Recorder<impl Write>,
) -> Result<()> {
    let entry = |index| SHAPE.entry(scattered(index, entries), 0);
    let mut curve: Vec<f64> = Vec::new();
    let start = Instant::now();
    let mut lap = start;
    let done = repeat(entries, plan.limit, |index| {
        let (key, value) = entry(index);
        engine.put(key.as_ref(), value)?;
        if index % LAP == LAP - 1 {
            let now = Instant::now();
            let point = ((now - start).as_secs_f64() * POINTS_PER_SECOND) as usize;
            curve.resize(curve.len().max(point + 1), 0.0);
            curve[point] = curve[point].max((now - lap).as_secs_f64() * 1e6 / LAP as f64);
            lap = now;
        }
        Ok(())
    })?;
    for (point, micros) in curve.iter().enumerate().filter(|(_, micros)| **micros > 0.0) {
        out.point("put_process", point as f64 / POINTS_PER_SECOND, *micros)?;
    }
    out.rate("put_process", "ops/s", done)?;
    let mut next = done.0;
    while next < entries {
        let end = entries.min(next + 1_000);
        let changes = (next..end).map(entry).map(|(key, value)| (key, Some(value)));
        engine.write(changes)?;
        next = end;
    }
    expect_equal("entries after the fill", engine.len()?, entries)
}

/// Overwrites at random; answers how many in what time.
fn overwrite<E: Engine>(
    engine: &E,
    plan: &Plan,
    entries: u64,
    out: &mut Recorder<impl Write>,
) -> Result<(u64, Duration)> {
    let mut random = Random::new(plan.round);
    let done = repeat(OPERATIONS, plan.limit, |_| {
        let (key, value) = SHAPE.entry(random.below(entries), 1);
        engine.put(key.as_ref(), value)
    })?;
    expect_equal("entries after overwriting", engine.len()?, entries)?;
    out.rate("overwrite", "ops/s", done)?;
    Ok(done)
}

fn gets<E: Engine>(
    engine: &E,
    plan: &Plan,
    entries: u64,
    out: &mut Recorder<impl Write>,
) -> Result<()> {
    let mut reader = engine.reader()?;
    let present = |reader: &mut E::Reader<'_>, limit| {
        let mut random = Random::new(plan.round + 10);
        let mut right = 0;
        let done = repeat(OPERATIONS, limit, |_| {
            let key = SHAPE.key(random.below(entries));
            reader.get(key.as_ref(), |value| {
                right += u64::from(belongs(key.as_ref(), value, SHAPE.value_len));
            })?;
            Ok(())
        })?;
        expect_equal("right values", right, done.0)?;
        Ok::<_, crate::Error>(done)
    };
    present(&mut reader, plan.limit / 2)?;
    let done = present(&mut reader, plan.limit)?;
    out.rate("get_present", "ops/s", done)?;

    let mut random = Random::new(plan.round + 20);
    let mut found = 0;
    let done = repeat(OPERATIONS, plan.limit, |_| {
        let key = SHAPE.key(entries + random.below(entries));
        found += u64::from(reader.get(key.as_ref(), |_| ())?);
        Ok(())
    })?;
    expect_equal("absent keys found", found, 0)?;
    out.rate("get_absent", "ops/s", done)?;

    let mut random = Random::new(plan.round + 30);
    let mut right = 0;
    let (done, time) = repeat(OPERATIONS / MANY as u64, plan.limit, |_| {
        let keys: [Key; MANY] = std::array::from_fn(|_| SHAPE.key(random.below(entries)));
        reader.multi_get(&keys, |index, value| {
            right += u64::from(belongs(keys[index].as_ref(), value, SHAPE.value_len));
        })?;
        Ok(())
    })?;
    expect_equal("right values of multi_get", right, done * MANY as u64)?;
    out.rate("multi_get", "keys/s", (done * MANY as u64, time))
}

fn scans<E: Engine>(
    engine: &E,
    plan: &Plan,
    entries: u64,
    out: &mut Recorder<impl Write>,
) -> Result<()> {
    let mut reader = engine.reader()?;
    let mut random = Random::new(plan.round + 40);
    let mut wrong = 0;
    let done = repeat(OPERATIONS, plan.limit, |_| {
        let from = SHAPE.key(random.below(entries));
        let seen = reader.scan(from.as_ref(), 1, |key, value| {
            wrong += u64::from(key != from.as_ref() || !belongs(key, value, SHAPE.value_len));
            true
        })?;
        wrong += u64::from(seen != 1);
        Ok(())
    })?;
    expect_equal("seek: wrong entries", wrong, 0)?;
    out.rate("seek", "ops/s", done)?;

    let (done, time) = repeat(OPERATIONS, plan.limit, |_| {
        let prefix = SHAPE.key(random.below(entries));
        let prefix = &prefix.as_ref()[..8];
        let mut count = 0;
        reader.scan(prefix, u64::MAX, |key, value| {
            let inside = key.starts_with(prefix);
            count += u64::from(inside);
            wrong += u64::from(inside && !belongs(key, value, SHAPE.value_len));
            inside
        })?;
        expect_equal("entries of a prefix", count, GROUP)
    })?;
    expect_equal("scan_prefix: wrong entries", wrong, 0)?;
    out.rate("scan_prefix", "entries/s", (done * GROUP, time))?;

    drop(reader);
    full_scans(engine, entries, "", out)
}

/// Everything in both directions.
fn full_scans<E: Engine>(
    engine: &E,
    entries: u64,
    suffix: &str,
    out: &mut Recorder<impl Write>,
) -> Result<()> {
    let mut reader = engine.reader()?;
    for (name, back) in [("scan_forward", false), ("scan_reverse", true)] {
        let row = format!("{name}{suffix}");
        let mut previous = Key::copy(&[]);
        let mut wrong = 0;
        let mut visit = |key: &[u8], value: &[u8]| {
            let ordered = previous.as_ref().is_empty() || (key < previous.as_ref()) == back;
            wrong += u64::from(!ordered || !belongs(key, value, SHAPE.value_len));
            previous = Key::copy(key);
        };
        let (count, time) = timed(|| match back {
            true => reader.scan_back(&mut visit),
            false => reader.scan(&[0], u64::MAX, |key, value| {
                visit(key, value);
                true
            }),
        })?;
        expect_equal(&row, count, entries)?;
        expect_equal(&format!("{row}: wrong entries"), wrong, 0)?;
        out.rate(&row, "entries/s", (count, time))?;
    }
    Ok(())
}

/// Reads beside a writer that overwrites at a fixed rate; the latencies of both. A write's latency
/// counts from when it was due, so that one that waits is not hidden by those after it.
fn beside<E: Engine>(
    engine: &E,
    plan: &Plan,
    entries: u64,
    rate: f64,
    prefix: &str,
    out: &mut Recorder<impl Write>,
) -> Result<()> {
    let stop = AtomicBool::new(false);
    let (reads, writes) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            write_at(engine, plan, entries, rate, &stop).map_err(|error| error.to_string())
        });
        let reads = read_for(engine, plan, entries);
        stop.store(true, Ordering::Relaxed);
        let writes = writer.join().map_err(|_| "the writer panicked")??;
        Ok::<_, crate::Error>((reads?, writes))
    })?;
    let percentiles: [(&str, f64); 4] =
        [("p50", 50.0), ("p99", 99.0), ("p999", 99.9), ("max", 100.0)];
    for (what, histogram) in [("read", &reads), ("write", &writes)] {
        // At half of each engine's own rate the engines do different work: only the longest write
        // is reported.
        for (name, percentile) in percentiles {
            if !prefix.is_empty() && (what, name) != ("write", "max") {
                continue;
            }
            let micros = histogram.value_at_percentile(percentile) as f64 / 1e3;
            out.value(&format!("{prefix}{what}_{name}"), "us", micros)?;
        }
    }
    Ok(())
}

fn read_for<E: Engine>(engine: &E, plan: &Plan, entries: u64) -> Result<Histogram<u64>> {
    let mut latencies = histogram()?;
    let mut reader = engine.reader()?;
    let mut random = Random::new(plan.round + 50);
    let mut right = 0;
    let mut before = Instant::now();
    let (done, _) = repeat(u64::MAX, plan.limit, |_| {
        let key = SHAPE.key(random.below(entries));
        reader.refresh()?;
        reader.get(key.as_ref(), |value| {
            right += u64::from(belongs(key.as_ref(), value, SHAPE.value_len));
        })?;
        let now = Instant::now();
        latencies.saturating_record((now - before).as_nanos() as u64);
        before = now;
        Ok(())
    })?;
    expect_equal("right values beside a writer", right, done)?;
    Ok(latencies)
}

fn write_at<E: Engine>(
    engine: &E,
    plan: &Plan,
    entries: u64,
    rate: f64,
    stop: &AtomicBool,
) -> Result<Histogram<u64>> {
    /// Writes that fall due together: sleeping for each alone is not possible at these rates.
    const BURST: u64 = 20;
    /// How late a sleep may end.
    const SLACK: Duration = Duration::from_millis(1);
    let mut latencies = histogram()?;
    let mut random = Random::new(plan.round + 60);
    let start = Instant::now();
    let mut written = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let due = start + Duration::from_secs_f64(written as f64 / rate);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // Later than a sleep's slack: then it is the engine that makes it wait.
        let now = Instant::now();
        let mut begun = if now > due + SLACK { due } else { now };
        for _ in 0..BURST {
            let (key, value) = SHAPE.entry(random.below(entries), 2);
            engine.put(key.as_ref(), value)?;
            let now = Instant::now();
            latencies.saturating_record((now - begun).as_nanos() as u64);
            begun = now;
        }
        written += BURST;
    }
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use super::scattered;
    use std::collections::HashSet;

    #[test]
    fn every_entry_is_filled_once() {
        for entries in [1_000, 5_000, 100_000] {
            let seen: HashSet<u64> = (0..entries).map(|index| scattered(index, entries)).collect();
            assert_eq!(seen.len() as u64, entries);
        }
    }
}
