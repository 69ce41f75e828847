//! See [`toykv::sim::Part::Edit`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| toykv::sim::Part::Edit.read(bytes));
