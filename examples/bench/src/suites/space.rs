//! Space and values: what overwrites leave on disk and send to the device, values of 1 to 64 KiB,
//! compressed blocks, and loading with little memory.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Result;
use crate::choice::Random;
use crate::corpus::{self, Key, Order, Shape};
use crate::engine::{Compression, Config, Durability, Engine, Reader};
use crate::measure::{Plan, Recorder, device_bytes, disk_bytes, expect_equal, repeat};

/// Full sizes: bytes of live values, and how often they are overwritten.
const LIVE_BYTES: u64 = 1 << 30;
const OVERWRITES: u64 = 10;

/// Entries of the rows about compression and memory.
const ENTRIES: u64 = 2_000_000;
const OPERATIONS: u64 = 1_000_000;

/// The budget of the load with little memory.
const BUDGET_BYTES: u64 = 64 << 20;

/// How long an engine may take to give space back after the last write, and for how long nothing
/// may have changed for it to be done.
const REST: Duration = Duration::from_secs(30);
const STABLE: Duration = Duration::from_secs(6);

const KEYS: Shape = Shape { order: Order::Random, key_len: 16, value_len: 100 };
const FOUR_KIB: usize = 4 << 10;

/// Values that are loaded once, by the suffix of their rows.
const LONG: [(&str, usize); 3] = [("1k", 1 << 10), ("4k", FOUR_KIB), ("64k", 64 << 10)];

/// Parts of a value that compresses: this many times the same bytes.
const REPEATS: usize = 4;

/// Runs all rows.
pub(crate) fn run<E: Engine>(plan: &Plan, out: &mut Recorder<impl Write>) -> Result<()> {
    out.durability::<E>(Durability::Process);
    overwrite::<E>(plan, mixed_length, "disk_over_live", out)?;
    overwrite::<E>(plan, |_| FOUR_KIB, "device_bytes_per_user_byte", out)?;
    for (suffix, length) in LONG {
        long_values::<E>(plan, length, suffix, out)?;
    }
    if E::compresses() {
        compressed::<E>(plan, Compression::Lz4, "lz4", out)?;
        compressed::<E>(plan, Compression::Zstd, "zstd", out)?;
    }
    out.entries(plan.count(ENTRIES) * 5);
    let unbounded = load::<E>(plan, plan.cache_bytes)?;
    out.rate("load_unbounded", "ops/s", unbounded)?;
    let bounded = load::<E>(plan, BUDGET_BYTES)?;
    out.rate("load_64mib_budget", "ops/s", bounded)?;
    let each = |(count, time): (u64, Duration)| time.as_secs_f64() / count as f64;
    out.value("load_64mib_share", "of unbounded/s", each(unbounded) / each(bounded))
}

/// 100 B to 64 KiB, each doubling as frequent as the next.
fn mixed_length(random: u64) -> usize {
    let doublings = (random >> 11) as f64 / (1u64 << 53) as f64 * (655.36f64).log2();
    (100.0 * doublings.exp2()) as usize
}

/// A set of values that is overwritten at random, and the length that each has now.
struct Values<'a, E> {
    engine: &'a E,
    random: Random,
    lengths: Vec<u32>,
    length: fn(u64) -> usize,
    /// Bytes of keys and values put so far.
    put: u64,
}

impl<E: Engine> Values<'_, E> {
    fn put(&mut self, number: u64) -> Result<()> {
        let length = (self.length)(self.random.word());
        let key = KEYS.key(number);
        let value = corpus::value(key.as_ref(), number, self.random.word(), length);
        self.engine.put(key.as_ref(), value)?;
        self.put += (KEYS.key_len + length) as u64;
        match self.lengths.get_mut(number as usize) {
            Some(old) => *old = length as u32,
            None => self.lengths.push(length as u32),
        }
        Ok(())
    }

    fn live(&self) -> u64 {
        self.lengths.iter().map(|length| u64::from(*length) + KEYS.key_len as u64).sum()
    }

    fn check(&self) -> Result<()> {
        let mut reader = self.engine.reader()?;
        let mut right = 0;
        for (number, length) in self.lengths.iter().enumerate() {
            let key = KEYS.key(number as u64);
            reader.get(key.as_ref(), |value| {
                right += u64::from(corpus::belongs(key.as_ref(), value, *length as usize));
            })?;
        }
        expect_equal("values after overwriting", right, self.lengths.len() as u64)
    }
}

fn overwrite<E: Engine>(
    plan: &Plan,
    length: fn(u64) -> usize,
    row: &str,
    out: &mut Recorder<impl Write>,
) -> Result<()> {
    let dir = plan.fresh("db")?;
    let engine = E::open(&dir, &plan.config(Durability::Process))?;
    let random = Random::new(plan.round);
    let mut values = Values { engine: &engine, random, lengths: Vec::new(), length, put: 0 };
    let before = device_bytes()?;
    let goal = (LIVE_BYTES as f64 * plan.scale) as u64;
    let mut number = 0;
    while values.put < goal {
        values.put(number)?;
        number += 1;
    }
    out.entries(number);
    let mut peak = 0.0f64;
    for step in 0..OVERWRITES * number {
        let target = values.random.below(number);
        values.put(target)?;
        // Ten looks at the disk in each pass over the set.
        if step % (number / 10).max(1) == 0 {
            peak = peak.max(disk_bytes(&dir)? as f64 / values.live() as f64);
        }
    }
    let (rested, waited) = rest(&dir)?;
    let live = values.live() as f64;
    let device = (device_bytes()? - before) as f64 / values.put as f64;
    if row == "disk_over_live" {
        out.value(row, "times", rested as f64 / live)?;
        out.value("disk_over_live_peak", "times", peak)?;
        out.value("disk_rest", "s", waited.as_secs_f64())?;
        out.value("device_bytes_mixed", "per user byte", device)?;
    } else {
        out.value(row, "per user byte", device)?;
        out.value("disk_over_live_4k", "times", rested as f64 / live)?;
    }
    values.check()?;
    engine.close()
}

/// Waits until the disk's use stays as it is; what it is then, and when it was reached.
fn rest(dir: &Path) -> Result<(u64, Duration)> {
    let start = Instant::now();
    let (mut bytes, mut since) = (disk_bytes(dir)?, Duration::ZERO);
    while start.elapsed() < REST && start.elapsed() < since + STABLE {
        std::thread::sleep(Duration::from_millis(100));
        let now = disk_bytes(dir)?;
        if now != bytes {
            (bytes, since) = (now, start.elapsed());
        }
    }
    Ok((bytes, since))
}

fn long_values<E: Engine>(
    plan: &Plan,
    length: usize,
    suffix: &str,
    out: &mut Recorder<impl Write>,
) -> Result<()> {
    let shape = Shape { value_len: length, ..KEYS };
    let count = ((LIVE_BYTES as f64 * plan.scale) as u64 / length as u64).max(1_000);
    out.entries(count);
    let dir = plan.fresh("db")?;
    let before = device_bytes()?;
    let mut engine = E::open(&dir, &plan.config(Durability::Process))?;
    let put = |number| {
        let (key, value) = shape.entry(number, 0);
        engine.put(key.as_ref(), value)
    };
    let done = repeat(count, plan.limit * 4, put)?;
    out.rate(&format!("put_{suffix}"), "ops/s", done)?;
    (done.0..count).try_for_each(put)?;
    engine.settle()?;
    let user = count * (shape.key_len + length) as u64;
    let device = (device_bytes()? - before) as f64 / user as f64;
    out.value(&format!("load_device_bytes_{suffix}"), "per user byte", device)?;
    let random_gets = |limit| {
        let mut reader = engine.reader()?;
        let mut random = Random::new(plan.round);
        let mut right = 0;
        let done = repeat(OPERATIONS, limit, |_| {
            let (key, expected) = shape.entry(random.below(count), 0);
            reader.get(key.as_ref(), |value| right += u64::from(value == expected))?;
            Ok(())
        })?;
        expect_equal("right long values", right, done.0)?;
        Ok::<_, crate::Error>(done)
    };
    random_gets(plan.limit)?;
    out.rate(&format!("get_{suffix}"), "ops/s", random_gets(plan.limit)?)?;
    engine.close()
}

/// A value of [`REPEATS`] equal parts.
fn repeated(key: &Key, number: u64, buffer: &mut Vec<u8>) {
    let part = corpus::value(key.as_ref(), number, 0, KEYS.value_len);
    buffer.clear();
    (0..REPEATS).for_each(|_| buffer.extend_from_slice(part));
}

fn compressed<E: Engine>(
    plan: &Plan,
    compression: Compression,
    name: &str,
    out: &mut Recorder<impl Write>,
) -> Result<()> {
    let count = plan.count(ENTRIES);
    out.entries(count);
    let dir = plan.fresh("db")?;
    let config = Config { compression, ..plan.config(Durability::Process) };
    let mut engine = E::open(&dir, &config)?;
    let mut buffer = Vec::new();
    for number in 0..count {
        let key = KEYS.key(number);
        repeated(&key, number, &mut buffer);
        engine.put(key.as_ref(), &buffer)?;
    }
    engine.settle()?;
    let live = count * (KEYS.key_len + REPEATS * KEYS.value_len) as u64;
    let size = disk_bytes(&dir)? as f64 / live as f64;
    out.value(&format!("size_{name}"), "per live byte", size)?;
    let mut reader = engine.reader()?;
    for measured in [false, true] {
        let mut random = Random::new(plan.round);
        let mut right = 0;
        let done = repeat(OPERATIONS, plan.limit, |_| {
            let number = random.below(count);
            let key = KEYS.key(number);
            repeated(&key, number, &mut buffer);
            reader.get(key.as_ref(), |value| right += u64::from(value == buffer))?;
            Ok(())
        })?;
        expect_equal("right values from compressed blocks", right, done.0)?;
        if measured {
            out.rate(&format!("get_{name}"), "ops/s", done)?;
        }
    }
    drop(reader);
    engine.close()
}

/// A load by single puts within so much memory.
fn load<E: Engine>(plan: &Plan, cache_bytes: u64) -> Result<(u64, Duration)> {
    let dir = plan.fresh("db")?;
    let config = Config { cache_bytes, ..plan.config(Durability::Process) };
    let engine = E::open(&dir, &config)?;
    let done = repeat(plan.count(ENTRIES) * 5, plan.limit * 4, |number| {
        let (key, value) = KEYS.entry(number, 0);
        engine.put(key.as_ref(), value)
    })?;
    expect_equal("entries after a load", engine.len()?, done.0)?;
    engine.close()?;
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixed_lengths_are_spread_over_the_doublings() {
        let mut random = Random::new(1);
        let lengths: Vec<usize> = (0..10_000).map(|_| mixed_length(random.word())).collect();
        assert!(lengths.iter().all(|length| (100..=65_536).contains(length)));
        let below = |bound: usize| lengths.iter().filter(|length| **length < bound).count();
        // 9.36 doublings in all: 3.36 below 1024, 6.68 below 10240.
        assert!((3_400..3_800).contains(&below(1_024)), "{}", below(1_024));
        assert!((6_900..7_400).contains(&below(10_240)), "{}", below(10_240));
    }
}
