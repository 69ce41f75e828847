//! See [`toykv::sim::Part::Manifest`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| toykv::sim::Part::Manifest.read(bytes));
