//! The API against a `BTreeMap`: random series of operations on the real file system and on the
//! simulated disk, with snapshots, scans and values kept while everything else goes on.
//!
//! `TOYKV_MODEL_CASES=10000 cargo test -p toykv --features sim --test it model` runs for longer.

mod machine;
mod operation;

use proptest::test_runner::{Config, TestRunner};
use toykv::sim::SimDisk;

use crate::support::number_from_env;
use machine::{Machine, Place};
use operation::operations;

fn check(cases: u64, most_operations: usize, place: impl Fn() -> Place) {
    let cases = number_from_env("TOYKV_MODEL_CASES", cases) as u32;
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let result = runner.run(&operations(most_operations), |(settings, operations)| {
        let mut machine = Machine::new(place(), settings);
        for operation in &operations {
            machine.perform(operation);
        }
        machine.finish();
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

#[test]
fn as_a_map_on_the_real_file_system() {
    check(60, 120, || Place::Real(tempfile::tempdir().unwrap()));
}

#[test]
fn as_a_map_on_the_simulated_disk() {
    check(60, 120, || Place::Simulated(SimDisk::new()));
}

#[test]
fn as_a_map_in_many_short_lives() {
    check(250, 12, || Place::Simulated(SimDisk::new()));
}
