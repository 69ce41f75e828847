//! YCSB A to F: records of ten fields of 100 bytes as YCSB has them, and single values of four
//! sizes; zipfian, uniform and latest requests; one and two threads.
//!
//! Each run is repeated with an engine that does nothing, and its time is taken off: what is left
//! is the engine's. Of every value read each cache line is touched, and the first and the last word
//! of each field say whether it is the key's.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::Result;
use crate::choice::{Chooser, Random, Spread};
use crate::corpus::{self, Key, Order, Shape, VALUE_MAX};
use crate::engine::{Config, Durability, Engine, Reader};
use crate::engines::NullEngine;
use crate::measure::{Plan, Recorder, expect_equal, repeat};

/// Full sizes: records, and bytes of all values of one size.
const RECORDS: u64 = 1_000_000;
const BYTES: u64 = 1 << 30;

/// Operations of one run; the limit mostly ends it before.
const OPERATIONS: u64 = 1_000_000;

/// The longest scan.
const SCAN_MAX: u64 = 100;

/// What a value is made of.
#[derive(Clone, Copy, Debug)]
struct Record {
    fields: usize,
    field_len: usize,
}

/// A workload's shares in percent; what is left are updates.
#[derive(Clone, Copy, Debug)]
struct Mix {
    name: &'static str,
    read: u64,
    insert: u64,
    scan: u64,
    /// Updates that need the old record first, whatever its fields.
    modify: bool,
    spread: Spread,
}

const fn mix(name: &'static str, read: u64, insert: u64, scan: u64) -> Mix {
    Mix { name, read, insert, scan, modify: false, spread: Spread::Zipfian }
}

const A: Mix = mix("a", 50, 0, 0);
const B: Mix = mix("b", 95, 0, 0);
const C: Mix = mix("c", 100, 0, 0);
const D: Mix = Mix { spread: Spread::Latest, ..mix("d", 95, 5, 0) };
const E: Mix = mix("e", 0, 5, 95);
const F: Mix = Mix { modify: true, ..mix("f", 50, 0, 0) };

/// YCSB's own order: E last, since it and D insert.
const ALL: [Mix; 6] = [A, B, C, F, D, E];

const FIELDS: Record = Record { fields: 10, field_len: 100 };
const SIZES: [(&str, usize); 4] =
    [("_100b", 100), ("_1k", 1 << 10), ("_4k", 4 << 10), ("_64k", 64 << 10)];

impl Record {
    fn len(self) -> usize {
        self.fields * self.field_len
    }

    fn key(self, number: u64) -> Key {
        Shape { order: Order::Random, key_len: 24, value_len: self.field_len }.key(number)
    }

    fn field(self, key: &Key, number: u64, version: u64) -> &'static [u8] {
        corpus::value(key.as_ref(), number, version, self.field_len)
    }

    /// A whole record into `buffer`.
    fn fill(self, key: &Key, number: u64, version: u64, buffer: &mut Vec<u8>) {
        buffer.clear();
        for field in 0..self.fields as u64 {
            buffer.extend_from_slice(self.field(key, number, version + field));
        }
    }

    /// Also reads a byte of each cache line: a value that was only pointed at was not read.
    fn check(self, key: &[u8], value: &[u8]) -> bool {
        std::hint::black_box(value.iter().step_by(64).fold(0, |sum, byte| sum ^ byte));
        value.len() == self.len()
            // All of them, also of the values of the engine that does nothing.
            && value.chunks(self.field_len).fold(true, |all, field| {
                all & corpus::belongs(key, field, self.field_len)
            })
    }
}

/// Runs all rows.
pub(crate) fn run<G: Engine>(plan: &Plan, out: &mut Recorder<impl Write>) -> Result<()> {
    out.durability::<G>(Durability::Process);
    let base = Set::<G>::load(plan, FIELDS, plan.count(RECORDS), "", out)?;
    for mix in ALL {
        base.measure(mix, 1, "", out)?;
    }
    for mix in [A, B, C, F, D, E] {
        base.measure(mix, 2, "_t2", out)?;
    }
    for mix in [A, C] {
        base.measure(Mix { spread: Spread::Uniform, ..mix }, 1, "_uniform", out)?;
        base.measure(Mix { spread: Spread::Latest, ..mix }, 1, "_latest", out)?;
    }
    base.engine.close()?;
    for (suffix, length) in SIZES {
        let record = Record { fields: 1, field_len: length };
        let bytes = (BYTES as f64 * plan.scale) as u64;
        let count = (bytes / length as u64).clamp(1_000, plan.count(RECORDS));
        let set = Set::<G>::load(plan, record, count, suffix, out)?;
        for mix in [A, C] {
            set.measure(mix, 1, suffix, out)?;
        }
        set.engine.close()?;
    }
    Ok(())
}

/// Which records there are.
struct Numbers {
    /// The next to be inserted.
    next: AtomicU64,
    /// All below are there.
    count: AtomicU64,
}

impl Numbers {
    fn new(count: u64) -> Numbers {
        Numbers { next: AtomicU64::new(count), count: AtomicU64::new(count) }
    }
}

/// Loaded records, in the engine and in the one that does nothing.
struct Set<'a, G> {
    plan: &'a Plan,
    record: Record,
    engine: G,
    null: NullEngine,
    numbers: Numbers,
    null_numbers: Numbers,
}

impl<'a, G: Engine> Set<'a, G> {
    fn load(
        plan: &'a Plan,
        record: Record,
        count: u64,
        suffix: &str,
        out: &mut Recorder<impl Write>,
    ) -> Result<Set<'a, G>> {
        assert!(record.len() <= VALUE_MAX, "a constant of this file");
        out.entries(count);
        let dir = plan.fresh("db")?;
        let engine = G::open(&dir, &plan.config(Durability::Process))?;
        let null = NullEngine::open(&dir, &Config::default())?;
        let base = load(&null, record, count, plan.limit)?;
        let done = load(&engine, record, count, plan.limit * 2)?;
        record_net(&format!("ycsb_load{suffix}"), done, base, out)?;
        let mut buffer = Vec::new();
        for number in done.0..count {
            // The rest, for which the limit left no time, in pieces of one.
            let key = record.key(number);
            record.fill(&key, number, 0, &mut buffer);
            engine.write([(key, Some(&buffer))].into_iter())?;
        }
        let (numbers, null_numbers) = (Numbers::new(count), Numbers::new(count));
        Ok(Set { plan, record, engine, null, numbers, null_numbers })
    }

    fn measure(
        &self,
        mix: Mix,
        threads: u64,
        suffix: &str,
        out: &mut Recorder<impl Write>,
    ) -> Result<()> {
        let count = self.numbers.count.load(Ordering::Relaxed);
        let chooser = Chooser::new(mix.spread, count);
        let base = self.spawn(&self.null, &self.null_numbers, mix, &chooser, threads)?;
        let done = self.spawn(&self.engine, &self.numbers, mix, &chooser, threads)?;
        expect_equal(&format!("ycsb_{}{suffix}: wrong answers", mix.name), done.2, 0)?;
        record_net(&format!("ycsb_{}{suffix}", mix.name), (done.0, done.1), (base.0, base.1), out)
    }

    /// Operations done, time, wrong answers.
    fn spawn<X: Engine>(
        &self,
        engine: &X,
        numbers: &Numbers,
        mix: Mix,
        chooser: &Chooser,
        threads: u64,
    ) -> Result<(u64, Duration, u64)> {
        let start = Instant::now();
        let done = std::thread::scope(|scope| {
            let client = |thread| Client {
                engine,
                record: self.record,
                mix,
                chooser,
                numbers,
                random: Random::new(self.plan.round * 1000 + thread),
                buffer: Vec::new(),
                wrong: 0,
            };
            let limit = self.plan.limit;
            let spawn = |thread| {
                let mut client = client(thread);
                scope.spawn(move || {
                    let done = client.work(OPERATIONS / threads, limit);
                    done.map(|done| (done, client.wrong)).map_err(|error| error.to_string())
                })
            };
            let handles: Vec<_> = (0..threads).map(spawn).collect();
            let mut sum = (0, 0);
            for handle in handles {
                let (done, wrong) = handle.join().map_err(|_| "a client panicked")??;
                sum = (sum.0 + done, sum.1 + wrong);
            }
            Ok::<_, crate::Error>(sum)
        })?;
        Ok((done.0, start.elapsed(), done.1))
    }
}

fn load<X: Engine>(
    engine: &X,
    record: Record,
    count: u64,
    limit: Duration,
) -> Result<(u64, Duration)> {
    let mut buffer = Vec::new();
    repeat(count, limit, |number| {
        let key = record.key(number);
        record.fill(&key, number, 0, &mut buffer);
        engine.put(key.as_ref(), &buffer)
    })
}

/// The rate without the harness's own time, and that time.
fn record_net(
    row: &str,
    done: (u64, Duration),
    null: (u64, Duration),
    out: &mut Recorder<impl Write>,
) -> Result<()> {
    let each = |(count, time): (u64, Duration)| time.as_secs_f64() / count as f64;
    let harness = each(null);
    // Never below a tenth of what was measured: a difference that small says nothing.
    let own = (each(done) - harness).max(each(done) / 10.0);
    out.value(row, "ops/s", 1.0 / own)?;
    out.value(&format!("{row}_harness"), "ns", harness * 1e9)
}

/// One thread of a run.
struct Client<'a, X> {
    engine: &'a X,
    record: Record,
    mix: Mix,
    chooser: &'a Chooser,
    numbers: &'a Numbers,
    random: Random,
    buffer: Vec<u8>,
    wrong: u64,
}

impl<X: Engine> Client<'_, X> {
    fn work(&mut self, operations: u64, limit: Duration) -> Result<u64> {
        let mut reader = self.engine.reader()?;
        let Mix { read, insert, scan, .. } = self.mix;
        let stays = read + scan == 100;
        let (done, _) = repeat(operations, limit, |_| {
            let dice = self.random.below(100);
            if dice < insert {
                return self.insert();
            }
            // Chosen first: what another thread has put by then is in the newer state.
            let number = self.choose();
            let blind = dice >= insert + read + scan && !self.reads_first();
            if !stays && !blind {
                reader.refresh()?;
            }
            if dice < insert + read {
                self.read(&mut reader, number)
            } else if dice < insert + read + scan {
                self.scan(&mut reader, number)
            } else {
                self.update(&mut reader, number)
            }
        })?;
        Ok(done)
    }

    /// Whether an update needs the old record.
    fn reads_first(&self) -> bool {
        self.record.fields > 1 || self.mix.modify
    }

    fn choose(&mut self) -> u64 {
        self.chooser.choose(&mut self.random, self.numbers.count.load(Ordering::Acquire))
    }

    fn read(&mut self, reader: &mut X::Reader<'_>, number: u64) -> Result<()> {
        let key = self.record.key(number);
        let mut right = false;
        reader.get(key.as_ref(), |value| right = self.record.check(key.as_ref(), value))?;
        self.wrong += u64::from(!right);
        Ok(())
    }

    fn scan(&mut self, reader: &mut X::Reader<'_>, number: u64) -> Result<()> {
        let key = self.record.key(number);
        let length = 1 + self.random.below(SCAN_MAX);
        let (mut wrong, mut first) = (0, true);
        let seen = reader.scan(key.as_ref(), length, |found, value| {
            // It begins with the record that it was asked for.
            wrong += u64::from(first && found != key.as_ref());
            first = false;
            wrong += u64::from(!self.record.check(found, value));
            true
        })?;
        self.wrong += wrong + u64::from(seen == 0 || seen > length);
        Ok(())
    }

    /// One field, or the whole value if it has but one.
    fn update(&mut self, reader: &mut X::Reader<'_>, number: u64) -> Result<()> {
        let key = self.record.key(number);
        let version = self.random.word();
        let field = (version % self.record.fields as u64) as usize;
        if self.reads_first() {
            let buffer = &mut self.buffer;
            buffer.clear();
            reader.get(key.as_ref(), |value| buffer.extend_from_slice(value))?;
            self.wrong += u64::from(!self.record.check(key.as_ref(), buffer));
        } else {
            self.buffer.resize(self.record.len(), 0);
        }
        let place = field * self.record.field_len;
        if let Some(place) = self.buffer.get_mut(place..place + self.record.field_len) {
            place.copy_from_slice(self.record.field(&key, number, version));
        }
        self.engine.put(key.as_ref(), &self.buffer)
    }

    /// A new record; it may be chosen once it and all before it are there.
    fn insert(&mut self) -> Result<()> {
        let number = self.numbers.next.fetch_add(1, Ordering::Relaxed);
        let key = self.record.key(number);
        let mut buffer = std::mem::take(&mut self.buffer);
        self.record.fill(&key, number, 0, &mut buffer);
        let put = self.engine.put(key.as_ref(), &buffer);
        self.buffer = buffer;
        // In order, so that whoever chooses below the count finds what it chooses; also after an
        // error, or the others would wait for ever.
        while self.numbers.count.load(Ordering::Acquire) != number {
            std::thread::yield_now();
        }
        self.numbers.count.store(number + 1, Ordering::Release);
        put
    }
}
