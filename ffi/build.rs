//! Link arguments of the shared library: its soname, and that it stays loaded.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    // Programs that were linked against 0.x find 0.x, whatever else is installed.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libtoykv.so.0");
    // Background threads and the fork handler run code of the library: dlclose must not unmap it.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
