//! Operations on a database beside the same on a map.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| toykv_fuzz::model::run(bytes));
