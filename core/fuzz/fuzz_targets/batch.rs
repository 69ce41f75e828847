//! See [`toykv::sim::Part::Batch`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| toykv::sim::Part::Batch.read(bytes));
