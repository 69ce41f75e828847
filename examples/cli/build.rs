//! Generates the gRPC client from the server's .proto file, without a protoc to install.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = "../server/proto";
    println!("cargo::rerun-if-changed={protos}");
    let files = protox::compile(["toykv/v1/toykv.proto"], [protos])?;
    tonic_prost_build::configure().build_server(false).compile_fds(files)?;
    Ok(())
}
