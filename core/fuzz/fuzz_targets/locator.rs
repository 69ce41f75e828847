//! See [`toykv::sim::Part::Locator`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| toykv::sim::Part::Locator.read(bytes));
