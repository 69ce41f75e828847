//! Opens a whole directory whose checksums were mended, and asks it everything.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| toykv_fuzz::open_directory(bytes));
