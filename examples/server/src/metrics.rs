//! What the server counts: cheap enough for every command.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Latencies are counted in four buckets an octave, from 256 ns to a minute.
const FIRST_OCTAVE: u32 = 8;
const BUCKETS: usize = 28 * 4;

/// Counters since the start.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Connections that were taken.
    pub(crate) accepted: AtomicU64,
    /// Connections beyond the limit.
    pub(crate) rejected: AtomicU64,
    /// Bytes from and to clients of the TCP port.
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    /// Commands that answered an error.
    pub(crate) errors: AtomicU64,
    /// Commands that took longer than the slow log's limit.
    pub(crate) slow: AtomicU64,
    /// gRPC calls.
    pub(crate) grpc_calls: AtomicU64,
    /// Commands of the TCP port, by their time in the server.
    pub(crate) latency: Histogram,
    by_command: Vec<(&'static str, AtomicU64)>,
}

/// How many commands took how long.
#[derive(Debug)]
pub(crate) struct Histogram {
    counts: [AtomicU64; BUCKETS],
    total_ns: AtomicU64,
}

impl Metrics {
    /// Nothing counted. `commands` are the names of the commands that are counted by name.
    pub(crate) fn new(commands: impl Iterator<Item = &'static str>) -> Metrics {
        Metrics {
            accepted: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            slow: AtomicU64::new(0),
            grpc_calls: AtomicU64::new(0),
            latency: Histogram::new(),
            by_command: commands.map(|name| (name, AtomicU64::new(0))).collect(),
        }
    }

    /// Counts commands of one kind that took `each` on average.
    #[inline]
    pub(crate) fn count(&self, command: usize, number: u64, each: Duration) {
        if let Some((_, count)) = self.by_command.get(command) {
            count.fetch_add(number, Ordering::Relaxed);
        }
        self.latency.record(each, number);
    }

    /// Commands by name.
    pub(crate) fn commands(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.by_command.iter().map(|(name, count)| (*name, count.load(Ordering::Relaxed)))
    }
}

/// Adds to a counter.
#[inline]
pub(crate) fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}

/// Reads a counter.
pub(crate) fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Histogram {
    fn new() -> Histogram {
        Histogram {
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            total_ns: AtomicU64::new(0),
        }
    }

    /// Counts `number` commands that took `each`.
    #[inline]
    pub(crate) fn record(&self, each: Duration, number: u64) {
        let ns = each.as_nanos() as u64;
        self.counts[bucket(ns)].fetch_add(number, Ordering::Relaxed);
        self.total_ns.fetch_add(ns * number, Ordering::Relaxed);
    }

    /// Upper bounds in seconds, and how many fell below each but not below the one before.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        self.counts.iter().enumerate().map(|(index, count)| (bound(index), read(count)))
    }

    /// All seconds together.
    pub(crate) fn total_seconds(&self) -> f64 {
        read(&self.total_ns) as f64 / 1e9
    }
}

fn bucket(ns: u64) -> usize {
    let octave = (ns | 1).ilog2();
    if octave < FIRST_OCTAVE {
        return 0;
    }
    let quarter = (ns >> (octave - 2)) & 3;
    (((octave - FIRST_OCTAVE) as usize) * 4 + quarter as usize).min(BUCKETS - 1)
}

/// The upper bound of a bucket in seconds.
fn bound(index: usize) -> f64 {
    let octave = FIRST_OCTAVE + index as u32 / 4;
    let quarter = (index % 4) as u64;
    ((5 + quarter) << (octave - 2)) as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_falls_below_the_bound_of_its_bucket() {
        for ns in [0, 1, 255, 256, 319, 320, 1000, 12_345, 1_000_000, 30_000_000_000] {
            let index = bucket(ns);
            assert!((ns as f64) / 1e9 < bound(index), "{ns}");
            assert!(index == 0 || ns as f64 / 1e9 >= bound(index - 1), "{ns}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }
}
