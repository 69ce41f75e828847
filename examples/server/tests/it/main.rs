//! The server from outside, over loopback: what each kind of client sees.

mod abuse;
mod config;
mod grpc;
mod grpc_limits;
mod http;
mod lines;
mod process;
mod resp;
mod support;
mod tls;
