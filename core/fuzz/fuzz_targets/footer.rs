//! See [`toykv::sim::Part::Footer`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| toykv::sim::Part::Footer.read(bytes));
