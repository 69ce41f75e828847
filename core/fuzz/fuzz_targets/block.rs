//! See [`toykv::sim::Part::Block`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| toykv::sim::Part::Block.read(bytes));
