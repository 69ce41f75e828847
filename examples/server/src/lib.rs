//! toykv over the network: a thin server over the engine's public API.
//!
//! Layers, imports go down: `program`, `server` (start and end), the ports (`listen`, `conn`,
//! `tls`), the dialects (`lines`, `resp`, `grpc`, `http`), which only translate, `store` (what
//! commands mean to the engine); beside them plain parts: `config`, `limits`, `budget`, `out`,
//! `clients`, `metrics`, `auth`, `threads`, `words`, `quote`.

mod auth;
mod budget;
mod clients;
mod config;
mod conn;
mod grpc;
mod http;
mod limits;
mod lines;
mod listen;
mod metrics;
mod out;
mod program;
pub mod proto;
mod quote;
mod resp;
mod server;
mod shutdown;
mod store;
mod threads;
mod tls;
mod words;

pub use auth::Secret;
pub use config::{Config, ConfigError, Flags, FlushPolicy, LogFormat};
pub use limits::{LimitInfo, Limits};
pub use program::program;
pub use server::Server;
pub use shutdown::Shutdown;
