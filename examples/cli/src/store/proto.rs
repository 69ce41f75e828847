//! The messages and the client of toykv-server's .proto file, as generated.
#![expect(clippy::allow_attributes_without_reason, reason = "generated")]
#![expect(unreachable_pub, reason = "generated")]

tonic::include_proto!("toykv.v1");
