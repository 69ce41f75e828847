//! The messages, client and server of proto/toykv/v1/toykv.proto, as generated.
#![expect(clippy::allow_attributes_without_reason, reason = "generated")]
#![expect(missing_docs, reason = "generated; the .proto file documents them")]

tonic::include_proto!("toykv.v1");

/// The compiled .proto file, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/toykv.bin"));
