//! The RESP dialect: Redis' protocol, versions 2 and 3.

mod basic;
mod keys;
mod parse;
mod reply;
mod server;
mod session;
mod strings;
mod table;
mod upkeep;

pub(crate) use session::{NO_COMMAND, NO_MEMORY, Session};
pub(crate) use table::{COMMANDS, find};
