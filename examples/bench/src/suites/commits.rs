//! Durable commits by 1 to 32 threads: who shares a device flush?

use std::io::Write;
use std::time::Instant;

use crate::Result;
use crate::corpus::{Order, Shape};
use crate::engine::{Durability, Engine, Reader};
use crate::measure::{Plan, Recorder, expect_equal, repeat};

const SHAPE: Shape = Shape { order: Order::Random, key_len: 16, value_len: 100 };

/// Commits of one measurement at full scale; the limit mostly ends it before.
const COMMITS: u64 = 100_000;

/// Runs all rows.
pub(crate) fn run<E: Engine>(plan: &Plan, out: &mut Recorder<impl Write>) -> Result<()> {
    let dir = plan.fresh("db")?;
    let engine = E::open(&dir, &plan.config(Durability::Sync))?;
    out.durability::<E>(Durability::Sync);
    let mut total = 0;
    for threads in [1, 2, 4, 8, 16, 32] {
        let start = Instant::now();
        let done = std::thread::scope(|scope| {
            let engine = &engine;
            let spawn = |thread: u64| {
                scope.spawn(move || {
                    // Each thread has numbers of its own.
                    let base = (threads * 64 + thread) << 32;
                    let done = repeat(COMMITS / threads, plan.limit, |index| {
                        let (key, value) = SHAPE.entry(base + index, 0);
                        engine.put(key.as_ref(), value)
                    });
                    done.map_err(|error| error.to_string())
                })
            };
            let handles: Vec<_> = (0..threads).map(spawn).collect();
            let mut done = 0;
            for handle in handles {
                done += handle.join().map_err(|_| "a committing thread panicked")??.0;
            }
            Ok::<u64, crate::Error>(done)
        })?;
        total += done;
        out.rate(&format!("commits_{threads}"), "ops/s", (done, start.elapsed()))?;
    }
    expect_equal("entries after all commits", engine.len()?, total)?;
    let mut right = false;
    let (key, expected) = SHAPE.entry(64 << 32, 0);
    engine.reader()?.get(key.as_ref(), |value| right = value == expected)?;
    expect_equal("the first commit", u64::from(right), 1)?;
    engine.close()
}
