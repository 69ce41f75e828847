//! The messages and the client of toykv-server's .proto file, as generated.
#![expect(unreachable_pub, reason = "generated")]

tonic::include_proto!("toykv.v1");
