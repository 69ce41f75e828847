//! Data eight times as large as memory: a load and random reads in a memory cgroup of its own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::Result;
use crate::choice::Random;
use crate::corpus::{Order, Shape};
use crate::engine::{Durability, Engine, Reader};
use crate::measure::{Plan, Recorder, device_bytes, expect_equal, repeat};

/// Full sizes: a gibibyte of memory, eight of data.
const MEMORY_BYTES: u64 = 1 << 30;
const ENTRIES: u64 = 8_000_000;
const OPERATIONS: u64 = 1_000_000;

/// The load's clock stops after so many times the limit of other rows.
const LOAD_LIMITS: u32 = 60;

const SHAPE: Shape = Shape { order: Order::Random, key_len: 16, value_len: 1000 };
const BATCH: u64 = 1_000;

/// Where version 1 of memory cgroups is mounted.
const MOUNT: &str = "/sys/fs/cgroup/memory";

/// Runs both rows, where the machine allows a memory cgroup.
pub(crate) fn run<E: Engine>(plan: &Plan, out: &mut Recorder<impl Write>) -> Result<()> {
    let memory = (MEMORY_BYTES as f64 * plan.scale) as u64;
    let group = match Group::enter(memory) {
        Ok(group) => group,
        Err(error) => return out.note(&format!("no memory cgroup, no suite big: {error}")),
    };
    // A quarter for what engines cache themselves; the rest is for files and everything else.
    let plan = Plan { cache_bytes: memory / 4, ..plan.clone() };
    let rows = rows::<E>(&plan, out);
    drop(group);
    rows
}

fn rows<E: Engine>(plan: &Plan, out: &mut Recorder<impl Write>) -> Result<()> {
    let entries = plan.count(ENTRIES) / BATCH * BATCH;
    out.entries(entries);
    out.durability::<E>(Durability::Process);
    let dir = plan.fresh("db")?;
    let engine = E::open(&dir, &plan.config(Durability::Process))?;
    let put = |numbers: &mut dyn Iterator<Item = u64>| {
        let changes = numbers.map(|number| SHAPE.entry(number, 0));
        engine.write(changes.map(|(key, value)| (key, Some(value))))
    };
    let before = device_bytes()?;
    let start = Instant::now();
    let mut loaded = 0;
    while loaded < entries && start.elapsed() < LOAD_LIMITS * plan.limit {
        put(&mut (loaded..loaded + BATCH))?;
        loaded += BATCH;
    }
    out.rate("big_load", "entries/s", (loaded, start.elapsed()))?;
    let user = loaded * (SHAPE.key_len + SHAPE.value_len) as u64;
    let device = (device_bytes()? - before) as f64 / user as f64;
    out.value("big_load_device_bytes", "per user byte", device)?;
    // The rest in the order of the keys, in which every engine is quick.
    let mut rest: Vec<u32> = (loaded as u32..entries as u32).collect();
    rest.sort_unstable_by_key(|number| SHAPE.key(u64::from(*number)).first_word());
    rest.chunks(BATCH as usize)
        .try_for_each(|numbers| put(&mut numbers.iter().map(|number| u64::from(*number))))?;
    drop(rest);
    let mut reader = engine.reader()?;
    let mut random = Random::new(plan.round);
    let mut right = 0;
    let done = repeat(OPERATIONS, plan.limit * 4, |_| {
        let (key, expected) = SHAPE.entry(random.below(entries), 0);
        reader.get(key.as_ref(), |value| right += u64::from(value == expected))?;
        Ok(())
    })?;
    expect_equal("right values", right, done.0)?;
    out.rate("big_get", "ops/s", done)?;
    drop(reader);
    engine.close()
}

/// A memory cgroup with this process in it; leaving removes it.
struct Group {
    home: PathBuf,
    own: PathBuf,
}

impl Group {
    fn enter(bytes: u64) -> Result<Group> {
        let groups = std::fs::read_to_string("/proc/self/cgroup")?;
        let home = groups.lines().find_map(|line| line.split_once(":memory:"));
        let home = home.ok_or("no cgroup of version 1 with memory")?.1.trim_start_matches('/');
        let home = Path::new(MOUNT).join(home);
        let own = home.join(format!("toykv-bench-{}", std::process::id()));
        std::fs::create_dir(&own)?;
        let group = Group { home, own };
        set(&group.own.join("memory.limit_in_bytes"), bytes)?;
        set(&group.own.join("cgroup.procs"), std::process::id().into())?;
        Ok(group)
    }
}

#[expect(clippy::disallowed_methods, reason = "a control file of the kernel")]
fn set(path: &Path, number: u64) -> Result<()> {
    let text = format!("{}: ", path.display());
    std::fs::write(path, number.to_string()).map_err(|error| format!("{text}{error}").into())
}

impl Drop for Group {
    fn drop(&mut self) {
        // What cannot be left or removed stays until the machine restarts; nothing depends on it.
        let _ = set(&self.home.join("cgroup.procs"), std::process::id().into());
        let _ = std::fs::remove_dir(&self.own);
    }
}
