//! How long a database takes to open, by its size: after a clean close, and after its process was
//! killed with as many writes behind it as a memtable holds. Every acknowledged write is looked up
//! afterwards, unless the engine does not promise it.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Result;
use crate::corpus::{Order, Shape};
use crate::engine::{Durability, Engine, Reader};
use crate::engines::Visit;
use crate::measure::{Plan, Recorder, expect_equal, repeat, timed};

const SHAPE: Shape = Shape { order: Order::Random, key_len: 16, value_len: 100 };

/// Full sizes.
const SIZES: [u64; 2] = [1_000_000, 5_000_000];

/// Puts before the kill: not quite 64 MiB of log.
const PUTS: u64 = 450_000;

/// Runs all rows.
pub(crate) fn run<E: Engine>(plan: &Plan, out: &mut Recorder<impl Write>) -> Result<()> {
    out.durability::<E>(Durability::Process);
    for full in SIZES {
        let entries = plan.count(full);
        out.entries(entries);
        let dir = plan.fresh("db")?;
        build::<E>(plan, &dir, entries)?;
        let mut engine = open_and_get::<E>(plan, &dir, 0, "open_clean", out)?;
        expect_equal("entries after a reopen", engine.len()?, entries)?;
        engine.close()?;
        let end = fill_in_child::<E>(plan, &dir, entries)?;
        let promised = E::gives(Durability::Process) >= Durability::Process;
        let probe = if promised { end - 1 } else { 0 };
        engine = open_and_get::<E>(plan, &dir, probe, "open_killed", out)?;
        let mut reader = engine.reader()?;
        let last = if promised { end } else { entries };
        for number in 0..last {
            expect(&mut reader, number)?;
        }
        drop(reader);
        engine.close()?;
    }
    Ok(())
}

fn build<E: Engine>(plan: &Plan, dir: &Path, entries: u64) -> Result<()> {
    const BATCH: u64 = 10_000;
    let mut engine = E::open(dir, &plan.config(Durability::Process))?;
    let mut next = 0;
    while next < entries {
        let end = entries.min(next + BATCH);
        let changes = (next..end).map(|number| SHAPE.entry(number, 0));
        engine.write(changes.map(|(key, value)| (key, Some(value))))?;
        next = end;
    }
    // What survives a kill must not depend on a last write without a sync.
    engine.set_durability(Durability::Sync)?;
    let (key, value) = SHAPE.entry(0, 0);
    engine.put(key.as_ref(), value)?;
    engine.close()
}

fn open_and_get<E: Engine>(
    plan: &Plan,
    dir: &Path,
    number: u64,
    row: &str,
    out: &mut Recorder<impl Write>,
) -> Result<E> {
    let (engine, time) = timed(|| {
        let engine = E::open(dir, &plan.config(Durability::Process))?;
        expect(&mut engine.reader()?, number)?;
        Ok(engine)
    })?;
    out.value(row, "ms", time.as_secs_f64() * 1e3)?;
    Ok(engine)
}

fn expect(reader: &mut impl Reader, number: u64) -> Result<()> {
    let (key, expected) = SHAPE.entry(number, 0);
    let mut right = false;
    reader.get(key.as_ref(), |value| right = value == expected)?;
    if right { Ok(()) } else { Err(format!("entry {number} is gone or wrong").into()) }
}

/// Lets a child put entries from `start` on and kills it; the number after the last acknowledged.
fn fill_in_child<E: Engine>(plan: &Plan, dir: &Path, start: u64) -> Result<u64> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["fill", "--engine", E::NAME, "--start", &start.to_string()])
        .args(["--seconds", &plan.limit.as_secs_f64().to_string()])
        .args(["--cache-bytes", &plan.cache_bytes.to_string(), "--dir"])
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no stdout")?).read_line(&mut line)?;
    child.kill()?;
    child.wait()?;
    Ok(line.trim().parse().map_err(|_| "the filling child failed")?)
}

/// What that child does: puts, says how many are acknowledged, and waits for SIGKILL.
struct Fill<'a> {
    plan: &'a Plan,
    start: u64,
}

/// Puts entries from `start` on until it is killed.
pub(crate) fn fill_until_killed(name: &str, plan: &Plan, start: u64) -> Result<()> {
    crate::engines::visit(name, Fill { plan, start })
}

impl Visit for Fill<'_> {
    type Output = ();

    fn visit<E: Engine + 'static>(self) -> Result<()> {
        let Fill { plan, start } = self;
        let engine = E::open(&plan.dir, &plan.config(Durability::Process))?;
        let limit = plan.limit.max(Duration::from_millis(100));
        let (done, _) = repeat(PUTS, limit, |index| {
            let (key, value) = SHAPE.entry(start + index, 0);
            engine.put(key.as_ref(), value)
        })?;
        let mut stdout = std::io::stdout();
        writeln!(stdout, "{}", start + done)?;
        stdout.flush()?;
        std::io::stdin().read_line(&mut String::new())?;
        Err("nobody killed the filling child".into())
    }
}
