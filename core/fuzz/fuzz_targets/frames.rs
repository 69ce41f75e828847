//! See [`toykv::sim::Part::Frames`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| toykv::sim::Part::Frames.read(bytes));
