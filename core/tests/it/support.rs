//! What several tests share: cheap random numbers, values that tell whose they are, and running
//! this test binary again as another process.

use std::process::Command;

/// A small generator (splitmix64): equal seeds, equal numbers.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// `len` bytes that no other `mark` has, as far as `len` allows.
pub(crate) fn value_of(mark: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(mark);
    let mut value = Vec::with_capacity(len + 8);
    while value.len() < len {
        value.extend_from_slice(&random.next().to_le_bytes());
    }
    value.truncate(len);
    value
}

/// A number from the environment, for longer runs.
pub(crate) fn number_from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect(name))
}

/// This test binary as another process that runs only `test`, given as `module::function`. The
/// function should do its work when `marker` is in its environment and nothing otherwise.
pub(crate) fn again(test: &str, marker: &str, value: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(marker, value);
    command
}
