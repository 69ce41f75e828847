//! What a row measures with: clocks that stop after a time, counters of the kernel, and the
//! recorder that hands samples to the process that asked for them.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::Result;
use crate::engine::{Config, Durability, Engine};

/// How often a loop looks at the clock: every so many operations.
const CLOCK_EVERY: u64 = 64;

/// Longest latency that a histogram tells apart, in nanoseconds.
const LATENCY_MAX_NS: u64 = 600_000_000_000;

/// What one engine does in one round of a suite.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The engine's own directory: exists, empty.
    pub(crate) dir: PathBuf,
    /// Share of the full sizes.
    pub(crate) scale: f64,
    /// Longest time of a row that counts operations.
    pub(crate) limit: Duration,
    /// Seeds the choices, so that rounds differ and engines do not.
    pub(crate) round: u64,
    /// Memory for what the engine caches itself.
    pub(crate) cache_bytes: u64,
    /// Options of toykv by name.
    pub(crate) options: Vec<(String, String)>,
}

impl Plan {
    /// A count that is `full` at scale 1; at least a thousand.
    pub(crate) fn count(&self, full: u64) -> u64 {
        ((full as f64 * self.scale) as u64).max(1_000)
    }

    /// How engines are opened.
    pub(crate) fn config(&self, durability: Durability) -> Config {
        let (cache_bytes, options) = (self.cache_bytes, self.options.clone());
        Config { durability, cache_bytes, options, ..Config::default() }
    }

    /// An empty directory of this name, the only one of this plan.
    pub(crate) fn fresh(&self, name: &str) -> Result<PathBuf> {
        if self.dir.exists() {
            std::fs::remove_dir_all(&self.dir)?;
        }
        let dir = self.dir.join(name);
        std::fs::create_dir_all(&dir)?;
        Ok(dir)
    }
}

/// Runs `step` with 0, 1, 2 ... `count` times or until the limit has passed; how often, and how
/// long it took.
#[inline]
pub(crate) fn repeat(
    count: u64,
    limit: Duration,
    mut step: impl FnMut(u64) -> Result<()>,
) -> Result<(u64, Duration)> {
    let start = Instant::now();
    for index in 0..count {
        step(index)?;
        if index % CLOCK_EVERY == CLOCK_EVERY - 1 && start.elapsed() > limit {
            return Ok((index + 1, start.elapsed()));
        }
    }
    Ok((count, start.elapsed()))
}

/// How long `work` takes, and what it answers.
pub(crate) fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let start = Instant::now();
    let answer = work()?;
    Ok((answer, start.elapsed()))
}

/// An error unless both are equal.
pub(crate) fn expect_equal(what: &str, found: u64, expected: u64) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: found {found}, expected {expected}").into())
}

/// Latencies in nanoseconds.
pub(crate) fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3)?)
}

/// Bytes that this process sent towards devices so far (pages that it dirtied).
pub(crate) fn device_bytes() -> Result<u64> {
    field("/proc/self/io", "write_bytes:")
}

/// Resident memory of this process that is not the page cache, in bytes.
pub(crate) fn anonymous_bytes() -> Result<u64> {
    Ok(field("/proc/self/status", "RssAnon:")? * 1024)
}

static PEAK: AtomicU64 = AtomicU64::new(0);

/// Watches this process's memory from now on.
pub(crate) fn watch_memory() {
    /// Longer than nothing allocates unseen, rare enough to cost nothing.
    const EVERY: Duration = Duration::from_millis(50);
    std::thread::spawn(|| {
        while let Ok(bytes) = anonymous_bytes() {
            PEAK.fetch_max(bytes, Ordering::Relaxed);
            std::thread::sleep(EVERY);
        }
    });
}

/// The most memory that was seen since.
pub(crate) fn peak_bytes() -> u64 {
    PEAK.load(Ordering::Relaxed)
}

fn field(path: &str, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(path)?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name));
    let rest = rest.ok_or_else(|| format!("{path} has no {name}"))?;
    Ok(rest.trim().trim_end_matches("kB").trim().parse()?)
}

/// Blocks that the files below `dir` occupy, in bytes.
pub(crate) fn disk_bytes(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        // A file may be deleted in the background meanwhile.
        let Ok(metadata) = path.symlink_metadata() else { continue };
        bytes += match metadata.is_dir() {
            true => disk_bytes(&path)?,
            false => metadata.blocks() * 512,
        };
    }
    Ok(bytes)
}

/// A sample as it stands on its line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    /// The row.
    pub(crate) row: String,
    /// The unit; one that ends in "/s" is a rate.
    pub(crate) unit: String,
    /// What the engine's writes in this row survived.
    pub(crate) durability: String,
    /// Entries in the database.
    pub(crate) entries: u64,
    /// The number.
    pub(crate) value: f64,
}

impl Sample {
    /// One line, without its end.
    pub(crate) fn line(&self) -> String {
        let Sample { row, unit, durability, entries, value } = self;
        format!("S\t{row}\t{unit}\t{durability}\t{entries}\t{value}")
    }

    /// The sample of a line; `None` for lines of other kinds.
    pub(crate) fn parse(line: &str) -> Option<Sample> {
        let mut parts = line.strip_prefix("S\t")?.split('\t').map(str::to_string);
        Some(Sample {
            row: parts.next()?,
            unit: parts.next()?,
            durability: parts.next()?,
            entries: parts.next()?.parse().ok()?,
            value: parts.next()?.parse().ok()?,
        })
    }
}

/// Writes samples to stdout as they come, so that a row that fails takes no earlier one with it.
pub(crate) struct Recorder<W> {
    out: W,
    entries: u64,
    durability: &'static str,
}

impl<W: Write> Recorder<W> {
    /// A recorder of rows about databases of unknown size.
    pub(crate) fn new(out: W) -> Recorder<W> {
        Recorder { out, entries: 0, durability: "none" }
    }

    /// From now on rows are about a database of so many entries.
    pub(crate) fn entries(&mut self, entries: u64) {
        self.entries = entries;
    }

    /// From now on rows write with what the engine gives for `wanted`.
    pub(crate) fn durability<E: Engine>(&mut self, wanted: Durability) {
        self.durability = E::gives(wanted).name();
    }

    /// Records a number.
    pub(crate) fn value(&mut self, row: &str, unit: &str, value: f64) -> Result<()> {
        let (row, unit, durability) = (row.into(), unit.into(), self.durability.into());
        let sample = Sample { row, unit, durability, entries: self.entries, value };
        writeln!(self.out, "{}", sample.line())?;
        Ok(self.out.flush()?)
    }

    /// Records a rate.
    pub(crate) fn rate(&mut self, row: &str, unit: &str, done: (u64, Duration)) -> Result<()> {
        self.value(row, unit, done.0 as f64 / done.1.as_secs_f64())
    }

    /// Says something that a reader of the results must know.
    pub(crate) fn note(&mut self, text: &str) -> Result<()> {
        Ok(writeln!(self.out, "N\t{text}")?)
    }

    /// Records a point of a curve.
    pub(crate) fn point(&mut self, curve: &str, x: f64, y: f64) -> Result<()> {
        Ok(writeln!(self.out, "P\t{curve}\t{x}\t{y}")?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_read_back_from_its_line() {
        let mut recorder = Recorder::new(Vec::new());
        recorder.entries(7);
        recorder.value("get", "ops/s", 12.5).unwrap();
        recorder.point("load", 1.0, 2.0).unwrap();
        let text = String::from_utf8(recorder.out.clone()).unwrap();
        let samples: Vec<Option<Sample>> = text.lines().map(Sample::parse).collect();
        let [Some(sample), None] = &samples[..] else { panic!("{text}") };
        assert_eq!((sample.row.as_str(), sample.entries, sample.value), ("get", 7, 12.5));
        assert_eq!(sample.line(), text.lines().next().unwrap());
    }

    #[test]
    fn a_loop_ends_at_its_count_or_its_limit() {
        let (done, _) = repeat(1_000, Duration::from_secs(60), |_| Ok(())).unwrap();
        assert_eq!(done, 1_000);
        let (done, _) = repeat(1_000, Duration::ZERO, |_| Ok(())).unwrap();
        assert_eq!(done, CLOCK_EVERY);
        assert!(repeat(10, Duration::ZERO, |_| Err("no".into())).is_err());
    }

    #[test]
    fn files_are_counted_in_blocks() {
        let dir = std::env::temp_dir().join(format!("toykv-bench-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("below")).unwrap();
        std::fs::copy("/proc/self/exe", dir.join("below/file")).unwrap();
        let length = std::fs::metadata("/proc/self/exe").unwrap().len();
        let bytes = disk_bytes(&dir).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(
            (length..=length + 65_536).contains(&bytes) && bytes.is_multiple_of(512),
            "{bytes}"
        );
    }
}
