//! What the link needs when RocksDB is the system's and not the one in the crate.

fn main() {
    println!("cargo:rerun-if-env-changed=ROCKSDB_LIB_DIR");
    if std::env::var_os("ROCKSDB_LIB_DIR").is_some() {
        // The binding refers to this function, of RocksDB 8.4 and later, where it drops an object
        // that only another such function makes; the benchmark makes none, so it is never called.
        println!("cargo:rustc-link-arg-bins=-Wl,--defsym=rocksdb_write_buffer_manager_destroy=0");
    }
}
