//! Generates the gRPC code from the .proto file, without a protoc to install.

use prost::Message;

#[expect(clippy::disallowed_methods, reason = "a build's output is not the engine's")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["toykv/v1/toykv.proto"], ["proto"])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    // What the reflection service shows.
    std::fs::write(out.join("toykv.bin"), files.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").compile_fds(files)?;
    Ok(())
}
