//! The commands: name, shape, what they do to keys, and the function that does it.

use super::parse::Arguments;
use super::reply::Failure;
use super::session::Context;
use super::{basic, keys, server, strings, upkeep};
use crate::store::Patience;

/// What a command function answers: the reply is in the context's output, or it failed.
pub(crate) type Answer = Result<(), Failure>;

/// A command function. It is called again, with its reply rewound, when it answers WouldStall.
pub(crate) type Run = fn(&mut Context<'_>, Arguments<'_>, Patience) -> Answer;

/// It writes, and is acknowledged after what it wrote has the server's durability.
pub(crate) const WRITE: u8 = 1;
/// It may take long, so it runs where others need not wait for it.
pub(crate) const LONG: u8 = 2;
/// Clients may use it before they have given the password.
pub(crate) const OPEN: u8 = 4;

/// One command.
pub(crate) struct Command {
    /// In capitals.
    pub(crate) name: &'static str,
    /// Number of arguments with the name; negative: at least so many.
    pub(crate) arity: i64,
    /// [`WRITE`], [`LONG`], [`OPEN`].
    pub(crate) flags: u8,
    /// First and last key, and the step between keys, as COMMAND answers.
    pub(crate) keys: (i64, i64, i64),
    /// What it does.
    pub(crate) run: Run,
}

const fn command(
    name: &'static str,
    arity: i64,
    flags: u8,
    keys: (i64, i64, i64),
    run: Run,
) -> Command {
    Command { name, arity, flags, keys, run }
}

const NONE: (i64, i64, i64) = (0, 0, 0);
const ONE: (i64, i64, i64) = (1, 1, 1);
const ALL: (i64, i64, i64) = (1, -1, 1);
const PAIRS: (i64, i64, i64) = (1, -1, 2);

/// All commands, by name.
pub(crate) const COMMANDS: &[Command] = &[
    command("APPEND", 3, WRITE, ONE, strings::append),
    command("AUTH", -2, OPEN, NONE, basic::auth),
    command("CLIENT", -2, 0, NONE, server::client),
    command("COMMAND", -1, 0, NONE, server::command),
    command("CONFIG", -2, 0, NONE, server::config),
    command("DBSIZE", 1, LONG, NONE, keys::dbsize),
    command("DECR", 2, WRITE, ONE, strings::decr),
    command("DECRBY", 3, WRITE, ONE, strings::decrby),
    command("DEL", -2, WRITE, ALL, keys::del),
    command("ECHO", 2, 0, NONE, basic::echo),
    command("EXISTS", -2, 0, ALL, keys::exists),
    command("FLUSHALL", -1, WRITE | LONG, NONE, keys::flushdb),
    command("FLUSHDB", -1, WRITE | LONG, NONE, keys::flushdb),
    command("GET", 2, 0, ONE, strings::get),
    command("GETDEL", 2, WRITE, ONE, strings::getdel),
    command("GETRANGE", 4, 0, ONE, strings::getrange),
    command("GETSET", 3, WRITE, ONE, strings::getset),
    command("HELLO", -1, OPEN, NONE, basic::hello),
    command("INCR", 2, WRITE, ONE, strings::incr),
    command("INCRBY", 3, WRITE, ONE, strings::incrby),
    command("INFO", -1, LONG, NONE, server::info),
    command("KEYS", 2, LONG, NONE, keys::keys),
    command("MGET", -2, 0, ALL, strings::mget),
    command("MSET", -3, WRITE, PAIRS, strings::mset),
    command("MSETNX", -3, WRITE, PAIRS, strings::msetnx),
    command("PING", -1, 0, NONE, basic::ping),
    command("QUIT", -1, OPEN, NONE, basic::quit),
    command("SCAN", -2, LONG, NONE, keys::scan),
    command("SELECT", 2, 0, NONE, basic::select),
    command("SET", -3, WRITE, ONE, strings::set),
    command("SETNX", 3, WRITE, ONE, strings::setnx),
    command("SHUTDOWN", -1, 0, NONE, server::shutdown),
    command("STRLEN", 2, 0, ONE, strings::strlen),
    command("TOYKV", -2, LONG, NONE, upkeep::toykv),
    command("TYPE", 2, 0, ONE, keys::key_type),
    command("UNLINK", -2, WRITE, ALL, keys::del),
];

/// Longest name.
const MAX_NAME: usize = 16;

/// The place of a command in [`COMMANDS`], in any case.
#[inline]
pub(crate) fn find(name: &[u8]) -> Option<usize> {
    let mut capitals = [0; MAX_NAME];
    let capitals = capitals.get_mut(..name.len())?;
    capitals.copy_from_slice(name);
    capitals.make_ascii_uppercase();
    COMMANDS.binary_search_by(|command| command.name.as_bytes().cmp(capitals)).ok()
}

impl Command {
    /// Whether a command of so many arguments, the name included, is one.
    #[inline]
    pub(crate) fn takes(&self, arguments: usize) -> bool {
        let arguments = arguments as i64;
        if self.arity < 0 { arguments >= -self.arity } else { arguments == self.arity }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_by_its_name() {
        for (index, command) in COMMANDS.iter().enumerate() {
            assert_eq!(find(command.name.as_bytes()), Some(index));
            assert_eq!(find(command.name.to_ascii_lowercase().as_bytes()), Some(index));
        }
        assert_eq!(find(b""), None);
        assert_eq!(find(b"GETT"), None);
        assert_eq!(find(&[b'A'; 99]), None);
    }
}
