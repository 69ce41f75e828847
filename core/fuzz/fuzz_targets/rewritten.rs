//! See [`toykv::sim::Part::Rewritten`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| toykv::sim::Part::Rewritten.read(bytes));
