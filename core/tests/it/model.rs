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

/// Runs series of operations; `prepare` answers what has to live as long as the database.
fn check<T>(
    cases: u64,
    most_operations: usize,
    place: impl Fn() -> Place,
    prepare: impl Fn(&Place) -> T,
) {
    let cases = number_from_env("TOYKV_MODEL_CASES", cases) as u32;
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let result = runner.run(&operations(most_operations), |(settings, operations)| {
        let place = place();
        let _prepared = prepare(&place);
        let mut machine = Machine::new(place, settings);
        for operation in &operations {
            machine.perform(operation);
        }
        machine.finish();
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    println!("model: {cases} cases of at most {most_operations} operations");
}

fn simulated(path: &str) -> Place {
    Place::Simulated(SimDisk::new(), path.into())
}

#[test]
fn as_a_map_on_the_real_file_system() {
    check(40, 120, || Place::Real(tempfile::tempdir().unwrap()), |_| ());
}

#[test]
fn as_a_map_on_the_simulated_disk() {
    check(60, 120, || simulated("/model"), |_| ());
}

#[test]
fn as_a_map_in_many_short_lives() {
    check(250, 12, || simulated("/short"), |_| ());
}

#[test]
fn as_a_map_with_many_small_tables() {
    check(60, 120, || simulated("/small-tables"), Place::small_tables);
}
