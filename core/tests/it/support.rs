//! What several tests share: cheap random numbers, values that tell whose they are, and running
//! this test binary again as another process.

#[path = "support/random.rs"]
mod random;

use std::process::Command;

pub(crate) use random::{Random, value_of};

/// A directory on a disk, where this program itself is: the usual place may be in memory, where
/// nothing is read directly.
pub(crate) fn directory_on_disk() -> tempfile::TempDir {
    let program = std::env::current_exe().expect("the path of this program");
    tempfile::tempdir_in(program.parent().expect("the directory of this program")).unwrap()
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
