//! One client's conversation in RESP: command after command, without waiting for the network.

use std::sync::Arc;
use std::time::Instant;

use toykv::WriteBatch;

use super::parse::{Arguments, FrameLimits, Parser, Step};
use super::reply::{Failure, Reply};
use super::table::{COMMANDS, Command, LONG, OPEN, WRITE, find};
use crate::budget::Share;
use crate::clients::Client;
use crate::conn::{Dialect, Next};
use crate::metrics::add;
use crate::out::{Mark, Out};
use crate::server::Shared;
use crate::store::{Found, Job, KEYS_AT_ONCE, Patience, Stall, Stripes};
use crate::threads::{LONG_ARGUMENTS, LONG_BYTES, blocking};

/// SETs of a pipeline are collected up to so many bytes and then written at once.
const BATCH_BYTES: usize = 64 << 10;

/// What an argument of a long command takes while it is executed, beside a copy of its bytes: its
/// place in a list of keys or pairs, and in a batch.
const ARGUMENT_BYTES: usize = 48;

/// What a command is told for which there is no memory.
pub(crate) const NO_MEMORY: &str = "too much memory is used by clients' commands";

/// Shown in the log in place of what is no command.
pub(crate) const NO_COMMAND: &str = "(unknown)";

/// What a connection remembers between commands.
pub(crate) struct Session {
    shared: Arc<Shared>,
    state: State,
    parser: Parser,
    limits: FrameLimits,
    sets: Sets,
    gets: Gets,
    timing: Timing,
    /// Something was written that has not been made durable.
    unsettled: bool,
    /// Replies since the last settling, and where the first begins.
    replies: usize,
    start: Option<Mark>,
}

/// What commands may change.
pub(crate) struct State {
    /// The client.
    pub(crate) client: Arc<Client>,
    /// Version 3 of the protocol.
    pub(crate) three: bool,
    /// The password was given, or there is none.
    pub(crate) authenticated: bool,
    /// After the reply, close.
    pub(crate) close: bool,
    /// The long work that it has begun; a client that goes ends it.
    pub(crate) job: Option<Job>,
    /// What the last search for damage found.
    pub(crate) found: Found,
}

/// What a command function works with.
pub(crate) struct Context<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) state: &'a mut State,
    pub(crate) reply: Reply<'a>,
    /// Where its reply begins.
    pub(crate) mark: Mark,
}

/// SETs that wait to be written together. Nobody is answered before.
#[derive(Default)]
struct Sets {
    batch: WriteBatch,
    stripes: Stripes,
}

/// The keys of GETs that wait to be looked up together, one behind the other, and their ends.
#[derive(Default)]
struct Gets {
    keys: Vec<u8>,
    ends: Vec<usize>,
}

/// Commands of one kind that were executed one after the other share one look at the clock.
struct Timing {
    /// When the ones before them were finished.
    last: Instant,
    command: usize,
    number: u64,
}

impl Session {
    /// A new client.
    pub(crate) fn new(shared: &Arc<Shared>, client: &Arc<Client>) -> Session {
        let authenticated = !shared.secret.is_set();
        Session {
            shared: Arc::clone(shared),
            state: State {
                client: Arc::clone(client),
                three: false,
                authenticated,
                close: false,
                job: None,
                found: None,
            },
            parser: Parser::default(),
            limits: FrameLimits::new(&shared.limits, authenticated),
            sets: Sets::default(),
            gets: Gets::default(),
            timing: Timing { last: Instant::now(), command: COMMANDS.len(), number: 0 },
            unsettled: false,
            replies: 0,
            start: None,
        }
    }

    /// Executes one command, or puts a plain SET or GET aside.
    #[inline]
    fn execute(&mut self, input: &[u8], out: &mut Out) {
        let arguments = self.parser.arguments(input);
        let index = find(arguments.get(0));
        let key = arguments.get(1);
        let plain = self.state.authenticated && key.len() <= toykv::MAX_KEY_LEN;
        match (index.map(|index| COMMANDS[index].name), arguments.len()) {
            (Some("SET"), 3) if plain && arguments.get(2).len() < BATCH_BYTES => {
                self.read_gets(out);
                self.put_aside(input, out);
            }
            (Some("GET"), 2) if plain => {
                self.gets.keys.extend_from_slice(key);
                self.gets.ends.push(self.gets.keys.len());
                self.write_sets(out);
                if self.gets.ends.len() == KEYS_AT_ONCE || self.gets.keys.len() >= BATCH_BYTES {
                    self.read_gets(out);
                }
            }
            _ => self.execute_now(index, input, out),
        }
    }

    /// Collects a SET.
    #[inline]
    fn put_aside(&mut self, input: &[u8], out: &mut Out) {
        if self.sets.batch.size_bytes() >= BATCH_BYTES {
            self.write_sets(out);
        }
        let arguments = self.parser.arguments(input);
        let (key, value) = (arguments.get(1), arguments.get(2));
        self.sets.stripes.add(self.shared.store.stripe(key));
        // Cannot fail: the lengths are within the limits.
        let _ = self.sets.batch.put(key, value);
    }

    /// Executes one command after those that were put aside.
    fn execute_now(&mut self, index: Option<usize>, input: &[u8], out: &mut Out) {
        self.write_sets(out);
        self.read_gets(out);
        let arguments = self.parser.arguments(input);
        let mark = out.mark();
        let outcome = match index {
            Some(index) => run(&self.shared, &mut self.state, &COMMANDS[index], arguments, out),
            None if !self.state.authenticated => Err(no_auth()),
            None => Err(unknown(arguments)),
        };
        let outcome = if out.refused() { Err(too_large(&self.shared)) } else { outcome };
        if let Err(failure) = outcome {
            out.rewind(mark);
            self.reply(out).failure(&failure);
            add(&self.shared.metrics.errors, 1);
        }
        if index.is_some_and(|index| COMMANDS[index].flags & WRITE != 0) {
            self.unsettled = true;
        }
        self.note_reply(mark, 1);
        self.timing.count(&self.shared, index, 1);
        if index.is_some_and(|index| COMMANDS[index].flags & OPEN != 0) {
            self.limits = FrameLimits::new(&self.shared.limits, self.state.authenticated);
        }
    }

    /// Writes the SETs that were put aside, and answers them.
    #[inline]
    fn write_sets(&mut self, out: &mut Out) {
        let count = self.sets.batch.len();
        if count == 0 {
            return;
        }
        let store = &self.shared.store;
        let write = |patience| store.write(&self.sets.batch, self.sets.stripes, patience);
        let result = match write(Patience::None) {
            Err(error) if error.would_stall() => blocking(|| store.patiently(write)),
            result => result,
        };
        self.sets.batch.clear();
        self.sets.stripes = Stripes::default();
        let mark = out.mark();
        match result {
            Ok(_) => (0..count).for_each(|_| {
                out.mark();
                self.reply(out).ok();
            }),
            Err(error) => self.fail_all(count, error, out),
        }
        self.unsettled = true;
        self.note_reply(mark, count);
        self.timing.count(&self.shared, find(b"SET"), count as u64);
    }

    /// Looks up the keys that were put aside, and answers them. At most one of SETs and GETs waits.
    #[inline]
    fn read_gets(&mut self, out: &mut Out) {
        let count = self.gets.ends.len();
        if count == 0 {
            return;
        }
        let mut keys = [&[][..]; KEYS_AT_ONCE];
        let mut start = 0;
        for (key, &end) in keys.iter_mut().zip(&self.gets.ends) {
            *key = &self.gets.keys[start..end];
            start = end;
        }
        let first = out.mark();
        match self.shared.store.multi_get(&keys[..count]) {
            Ok(values) => {
                for value in values {
                    let mark = out.mark();
                    self.reply(out).value(value.as_ref());
                    if out.refused() {
                        out.rewind(mark);
                        self.reply(out).failure(&too_large(&self.shared));
                    }
                }
            }
            Err(error) => self.fail_all(count, error, out),
        }
        self.gets.keys.clear();
        self.gets.keys.shrink_to(BATCH_BYTES);
        self.gets.ends.clear();
        self.note_reply(first, count);
        self.timing.count(&self.shared, find(b"GET"), count as u64);
    }

    /// Answers commands that failed together.
    #[cold]
    fn fail_all(&self, count: usize, error: toykv::Error, out: &mut Out) {
        add(&self.shared.metrics.errors, count as u64);
        let failure = Failure::Engine(error);
        (0..count).for_each(|_| {
            out.mark();
            self.reply(out).failure(&failure);
        });
    }

    fn reply<'a>(&self, out: &'a mut Out) -> Reply<'a> {
        Reply { out, three: self.state.three }
    }

    #[inline]
    fn note_reply(&mut self, mark: Mark, count: usize) {
        self.start.get_or_insert(mark);
        self.replies += count;
    }
}

impl Dialect for Session {
    #[inline]
    fn step(&mut self, input: &[u8], out: &mut Out) -> Next {
        match self.parser.step(input, &self.limits) {
            Step::Command(len) => {
                self.execute(&input[..len], out);
                if self.state.close { Next::Close } else { Next::Used(len) }
            }
            Step::Nothing(len) => Next::Used(len),
            Step::Incomplete => Next::More,
            Step::Bad(text) => {
                self.write_sets(out);
                self.read_gets(out);
                out.mark();
                self.reply(out).failure(&Failure::new(text));
                Next::Close
            }
        }
    }

    fn begin(&mut self) {
        self.timing.last = Instant::now();
    }

    /// Writes what was put aside and makes it as durable as the server promises. When that fails,
    /// every command since the last time answers so: none of them was acknowledged.
    fn settle(&mut self, out: &mut Out) {
        self.write_sets(out);
        self.read_gets(out);
        self.timing.flush(&self.shared);
        let (replies, start) = (std::mem::take(&mut self.replies), self.start.take());
        if !std::mem::take(&mut self.unsettled) || !self.shared.store.settles() {
            return;
        }
        let Err(error) = blocking(|| self.shared.store.settle()) else { return };
        if let Some(start) = start {
            out.rewind(start);
            self.fail_all(replies, error, out);
        }
    }

    fn is_amid(&self) -> bool {
        self.parser.is_amid()
    }

    fn is_stranger(&self) -> bool {
        !self.state.authenticated
    }

    fn memory_bytes(&self) -> usize {
        self.parser.capacity_bytes()
    }

    fn shrink(&mut self) {
        self.parser.shrink();
    }
}

impl Timing {
    /// Counts commands that were executed just now.
    #[inline]
    fn count(&mut self, shared: &Shared, command: Option<usize>, number: u64) {
        let command = command.unwrap_or(COMMANDS.len());
        if command != self.command {
            self.flush(shared);
            self.command = command;
        }
        self.number += number;
        if COMMANDS.get(command).is_none_or(|command| command.flags & LONG != 0) {
            self.flush(shared);
        }
    }

    /// Looks at the clock.
    fn flush(&mut self, shared: &Shared) {
        let number = std::mem::take(&mut self.number);
        if number == 0 {
            return;
        }
        let now = Instant::now();
        let took = now - self.last;
        self.last = now;
        shared.metrics.count(self.command, number, took / number as u32);
        if took >= shared.slow {
            let name = COMMANDS.get(self.command).map_or(NO_COMMAND, |command| command.name);
            shared.note_slow(name, number, took);
        }
    }
}

/// Runs one command; when it would have to wait, on a thread that may.
#[inline]
fn run(
    shared: &Arc<Shared>,
    state: &mut State,
    command: &Command,
    arguments: Arguments<'_>,
    out: &mut Out,
) -> Result<(), Failure> {
    if !state.authenticated && command.flags & OPEN == 0 {
        return Err(no_auth());
    }
    if !command.takes(arguments.len()) {
        let name = command.name.to_ascii_lowercase();
        return Err(Failure::new(format!("wrong number of arguments for '{name}' command")));
    }
    let mark = out.mark();
    let mut once = |patience| {
        out.rewind(mark);
        let reply = Reply { out: &mut *out, three: state.three };
        let mut context = Context { shared, state: &mut *state, reply, mark };
        (command.run)(&mut context, arguments, patience)
    };
    let short = arguments.len() <= LONG_ARGUMENTS && arguments.size_bytes() <= LONG_BYTES;
    if short && command.flags & LONG == 0 {
        let answer = once(Patience::None);
        if !answer.as_ref().is_err_and(Stall::would_stall) {
            return answer;
        }
    }
    let mut share = Share::new(&shared.budget);
    if arguments.len() > LONG_ARGUMENTS
        && !share.resize(arguments.size_bytes() + arguments.len() * ARGUMENT_BYTES)
    {
        return Err(Failure::new(NO_MEMORY));
    }
    blocking(|| shared.store.patiently(once))
}

fn no_auth() -> Failure {
    Failure::Client("NOAUTH Authentication required.".into())
}

#[cold]
fn too_large(shared: &Shared) -> Failure {
    let limit = shared.limits.reply_bytes;
    Failure::new(format!("the reply is larger than {limit} bytes, or memory is short: use SCAN"))
}

/// As Redis says it.
#[cold]
fn unknown(arguments: Arguments<'_>) -> Failure {
    let shown = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(128)]).into_owned();
    let begin: String = arguments.from(1).take(8).map(|a| format!("'{}' ", shown(a))).collect();
    let name = shown(arguments.get(0));
    Failure::new(format!("unknown command '{name}', with args beginning with: {begin}"))
}
