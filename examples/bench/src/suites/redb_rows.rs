//! The rows of redb's benchmark: keys of 24 and values of 150 bytes, the same order of steps in one
//! database that lives through all of them.

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Result;
use crate::choice::Random;
use crate::corpus::{Order, Shape, belongs};
use crate::engine::{Durability, Engine, Reader};
use crate::measure::{Plan, Recorder, device_bytes, disk_bytes, expect_equal, repeat, timed};

const SHAPE: Shape = Shape { order: Order::Random, key_len: 24, value_len: 150 };
const SORTED: Shape = Shape { order: Order::Sorted, key_len: 32, value_len: 150 };

/// Full sizes.
const BULK: u64 = 5_000_000;
const SORTED_BULK: u64 = 1_000_000;
const SINGLE: u64 = 1_000;
const BATCHES: u64 = 100;
const BATCH: u64 = 1_000;
const NOSYNC: u64 = 50_000;
const READS: u64 = 1_000_000;
const RANGES: u64 = 500_000;
const POPS: u64 = 500_000;

/// What lives through the steps.
struct Steps<'a, E, W> {
    plan: &'a Plan,
    engine: E,
    dir: &'a Path,
    out: &'a mut Recorder<W>,
    /// Entries 0..next were put at some time.
    next: u64,
    /// Entries that are there now.
    live: u64,
}

/// Runs all rows.
pub(crate) fn run<E: Engine>(plan: &Plan, out: &mut Recorder<impl Write>) -> Result<()> {
    let dir = plan.fresh("db")?;
    let engine = E::open(&dir, &plan.config(Durability::Sync))?;
    let mut steps = Steps { plan, engine, dir: &dir, out, next: 0, live: 0 };
    steps.out.durability::<E>(Durability::Sync);
    steps.load()?;
    steps.single_writes()?;
    steps.length()?;
    steps.random_reads()?;
    steps.range_reads("range_10", true)?;
    for threads in [4, 8, 16, 32] {
        steps.threads(threads)?;
    }
    steps.removals()?;
    steps.pops()?;
    steps.sizes()?;
    steps.range_reads("range_10_compacted", false)?;
    steps.sorted()?;
    steps.engine.close()
}

impl<E: Engine, W: Write> Steps<'_, E, W> {
    fn load(&mut self) -> Result<()> {
        let count = self.plan.count(BULK);
        self.out.entries(count);
        let before = device_bytes()?;
        let ((), time) = timed(|| self.append(count))?;
        self.out.rate("bulk_load", "entries/s", (count, time))?;
        let user = count * (SHAPE.key_len + SHAPE.value_len) as u64;
        let written = (device_bytes()? - before) as f64 / user as f64;
        self.out.value("bulk_load_device_bytes", "per user byte", written)
    }

    /// So many new entries as one batch.
    fn append(&mut self, count: u64) -> Result<()> {
        let entries = (self.next..self.next + count).map(|number| SHAPE.entry(number, 0));
        self.engine.write(entries.map(|(key, value)| (key, Some(value))))?;
        self.next += count;
        self.live += count;
        Ok(())
    }

    fn put(&mut self) -> Result<()> {
        let (key, value) = SHAPE.entry(self.next, 0);
        self.engine.put(key.as_ref(), value)?;
        self.next += 1;
        self.live += 1;
        Ok(())
    }

    fn single_writes(&mut self) -> Result<()> {
        let limit = self.plan.limit;
        // Bare appends before and after, for what the device did meanwhile.
        let mut bare = Bare::new(&self.plan.dir)?;
        let before = bare.append(SINGLE / 2, limit / 2)?;
        let done = repeat(SINGLE, limit, |_| self.put())?;
        self.out.rate("put_sync", "ops/s", done)?;
        let after = bare.append(SINGLE / 2, limit / 2)?;
        let bare = (before.0 + after.0, before.1 + after.1);
        self.out.rate("put_sync_bare", "ops/s", bare)?;
        let each = |(count, time): (u64, Duration)| time.as_secs_f64() / count as f64;
        self.out.value("put_sync_over_bare", "times", each(done) / each(bare))?;
        let batches = (self.plan.count(BATCHES * BATCH) / BATCH).max(10);
        let mut time = Duration::ZERO;
        let mut done = 0;
        while done < batches && time < 4 * limit {
            time += timed(|| self.append(BATCH))?.1;
            done += 1;
        }
        self.out.rate("batch_sync", "entries/s", (done * BATCH, time))?;
        self.engine.set_durability(Durability::Process)?;
        self.out.durability::<E>(Durability::Process);
        let done = repeat(NOSYNC, limit, |_| self.put())?;
        self.out.rate("put_nosync", "ops/s", done)?;
        self.engine.set_durability(Durability::Sync)?;
        self.out.durability::<E>(Durability::Sync);
        Ok(())
    }

    fn length(&mut self) -> Result<()> {
        let (length, time) = timed(|| self.engine.len())?;
        expect_equal("len", length, self.live)?;
        self.out.value("len", "ms", time.as_secs_f64() * 1e3)
    }

    fn random_reads(&mut self) -> Result<()> {
        // The first time warms what each engine caches.
        read(&self.engine, self.next, self.plan.round, READS / 4, self.plan.limit / 2)?;
        let done = read(&self.engine, self.next, self.plan.round, READS, self.plan.limit)?;
        self.out.rate("get_random", "ops/s", done)
    }

    /// `all`: every entry that was ever put is there.
    fn range_reads(&mut self, row: &str, all: bool) -> Result<()> {
        let mut random = Random::new(self.plan.round);
        let mut reader = self.engine.reader()?;
        let (mut wrong, mut short) = (0, 0);
        let done = repeat(RANGES, self.plan.limit, |_| {
            let from = SHAPE.key(random.below(self.next));
            let mut previous = from;
            let mut seen = 0;
            let found = reader.scan(from.as_ref(), 10, |key, value| {
                let ordered = match seen {
                    0 if all => key == from.as_ref(),
                    0 => key >= from.as_ref(),
                    _ => key > previous.as_ref(),
                };
                wrong += u64::from(!ordered || !belongs(key, value, SHAPE.value_len));
                previous = crate::corpus::Key::copy(key);
                seen += 1;
                true
            })?;
            // Only at the end of the keys there are fewer.
            short += u64::from(seen < 10);
            wrong += u64::from((all && seen == 0) || found != seen);
            Ok(())
        })?;
        expect_equal(&format!("{row}: wrong entries"), wrong, 0)?;
        // Where the last keys were popped, the few that came since have fewer behind them.
        let most = done.0 / if all { 1_000 } else { 100 };
        expect_equal(&format!("{row}: too short"), u64::from(short > 1 + most), 0)?;
        self.out.rate(row, "ops/s", done)
    }

    fn threads(&mut self, threads: u64) -> Result<()> {
        let (engine, plan, next) = (&self.engine, self.plan, self.next);
        let start = Instant::now();
        let done = std::thread::scope(|scope| {
            let read_one = |thread| read(engine, next, 100 + thread, READS / threads, plan.limit);
            // An error crosses threads as its text.
            let spawn =
                |thread| scope.spawn(move || read_one(thread).map_err(|error| error.to_string()));
            let handles: Vec<_> = (0..threads).map(spawn).collect();
            let mut done = 0;
            for handle in handles {
                done += handle.join().map_err(|_| "a reading thread panicked")??.0;
            }
            Ok::<u64, crate::Error>(done)
        })?;
        let row =
            if threads == 4 { "get_threads".into() } else { format!("get_threads_{threads}") };
        self.out.rate(&row, "ops/s", (done, start.elapsed()))
    }

    fn removals(&mut self) -> Result<()> {
        let half = self.live / 2;
        let keys = || (0..half).map(|number| (SHAPE.key(number), None::<&[u8]>));
        let ((), time) = timed(|| self.engine.write(keys()))?;
        self.live -= half;
        expect_equal("entries after the removal", self.engine.len()?, self.live)?;
        self.out.rate("remove_half", "entries/s", (half, time))?;

        // Every other entry of all, then of the third of the keys from 0x55 to 0xaa.
        self.remove_every_other("retain", &[0], None, 1)?;
        self.remove_every_other("remove_if", &[0x55; 24], Some(&[0xaa; 24]), 1)
    }

    fn remove_every_other(
        &mut self,
        row: &str,
        from: &[u8],
        to: Option<&[u8]>,
        parity: u64,
    ) -> Result<()> {
        let (mut seen, mut wrong) = (0u64, 0u64);
        let (removed, time) = timed(|| {
            self.engine.remove_where(from, to, |key, value| {
                wrong += u64::from(!belongs(key, value, SHAPE.value_len));
                seen += 1;
                seen % 2 != parity
            })
        })?;
        expect_equal(row, removed, seen / 2)?;
        expect_equal("wrong entries", wrong, 0)?;
        self.live -= removed;
        self.out.rate(row, "entries/s", (seen, time))?;
        expect_equal("entries left", self.engine.len()?, self.live)?;
        self.append(removed)
    }

    fn pops(&mut self) -> Result<()> {
        self.engine.set_durability(Durability::Process)?;
        self.out.durability::<E>(Durability::Process);
        let count = self.plan.count(POPS).min(self.live / 2);
        let mut wrong = 0u64;
        let (popped, time) = timed(|| {
            self.engine.pop_ends(count, Instant::now() + self.plan.limit, |key, value| {
                wrong += u64::from(!belongs(key, value, SHAPE.value_len));
            })
        })?;
        expect_equal("wrong entries popped", wrong, 0)?;
        self.live -= popped;
        self.out.rate("pop_first", "ops/s", (popped, time))?;
        expect_equal("entries after popping", self.engine.len()?, self.live)?;
        self.append(popped)
    }

    fn sizes(&mut self) -> Result<()> {
        self.engine.set_durability(Durability::Sync)?;
        self.out.durability::<E>(Durability::Sync);
        let live = (self.live * (SHAPE.key_len + SHAPE.value_len) as u64) as f64;
        self.out.value("size_loaded", "per live byte", disk_bytes(self.dir)? as f64 / live)?;
        let ((), time) = timed(|| self.engine.settle())?;
        self.out.value("compact", "ms", time.as_secs_f64() * 1e3)?;
        self.out.value("size_compacted", "per live byte", disk_bytes(self.dir)? as f64 / live)?;
        let (length, time) = timed(|| self.engine.len())?;
        expect_equal("entries after compaction", length, self.live)?;
        self.out.value("len_compacted", "ms", time.as_secs_f64() * 1e3)
    }

    fn sorted(&mut self) -> Result<()> {
        let count = self.plan.count(SORTED_BULK);
        let entries = (0..count).map(|number| SORTED.entry(number, 0));
        let ((), time) = timed(|| self.engine.load_sorted(entries))?;
        self.live += count;
        self.out.rate("sorted_load", "entries/s", (count, time))?;
        expect_equal("entries after the sorted load", self.engine.len()?, self.live)?;
        let mut reader = self.engine.reader()?;
        let (key, value) = SORTED.entry(count - 1, 0);
        let mut right = false;
        reader.get(key.as_ref(), |found| right = found == value)?;
        expect_equal("the last sorted entry", u64::from(right), 1)
    }
}

/// What a durable write of one record cannot be faster than: 128 bytes and a `fdatasync`, again and
/// again into a file whose blocks were written before.
struct Bare(std::fs::File, u64);

impl Bare {
    /// Bytes of one append.
    const LEN: usize = 128;

    #[expect(clippy::disallowed_methods, reason = "a file of the benchmark, not of the engine")]
    fn new(dir: &Path) -> Result<Bare> {
        let file = std::fs::File::create(dir.join("bare"))?;
        file.write_all_at(&vec![1; Self::LEN * SINGLE as usize], 0)?;
        file.sync_all()?;
        Ok(Bare(file, 0))
    }

    fn append(&mut self, count: u64, limit: Duration) -> Result<(u64, Duration)> {
        let Bare(file, next) = self;
        repeat(count, limit, |_| {
            file.write_all_at(&[2; Self::LEN], *next * Self::LEN as u64)?;
            *next += 1;
            Ok(file.sync_data()?)
        })
    }
}

/// Random reads of entries below `entries`, every value compared whole.
fn read<E: Engine>(
    engine: &E,
    entries: u64,
    seed: u64,
    count: u64,
    limit: Duration,
) -> Result<(u64, Duration)> {
    let mut random = Random::new(seed);
    let mut reader = engine.reader()?;
    let mut right = 0;
    let done = repeat(count, limit, |_| {
        let (key, expected) = SHAPE.entry(random.below(entries), 0);
        reader.get(key.as_ref(), |value| right += u64::from(value == expected))?;
        Ok(())
    })?;
    expect_equal("right values", right, done.0)?;
    Ok(done)
}
