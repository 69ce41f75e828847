//! The lines dialect, for people: `nc 127.0.0.1 7878`, a command on a line, an answer in words.

use std::fmt::Write;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use memchr::memchr;
use toykv::{Error, Result, ScanOptions, Value};

use crate::clients::Client;
use crate::conn::{Dialect, Next};
use crate::metrics::add;
use crate::out::Out;
use crate::quote::quote_to;
use crate::resp::{COMMANDS, NO_COMMAND, find};
use crate::server::Shared;
use crate::store::Stall;
use crate::threads::{blocking, blocking_if_long};
use crate::words::split;

const HELP: &str = "\
SET key value               stores a value: success
GET key                     shows it, or: no value stored
DELETE key                  removes it: success
SCAN [start [end]] [LIMIT n]  shows keys and values in order, 100 unless told otherwise
COUNT                       the number of keys
AUTH password               where the server asks for one
PING  HELP  QUIT
Words with blanks or bytes that cannot be typed go in quotes: \"a b\", \"\\x00\\n\".
";

/// Entries that a SCAN shows unless told otherwise.
const SCAN_LIMIT: u64 = 100;

/// One client.
pub(crate) struct Session {
    shared: Arc<Shared>,
    client: Arc<Client>,
    authenticated: bool,
    /// Bytes of the line that have no end in them.
    searched: usize,
    begun: Instant,
}

/// Why a line failed.
enum Failure {
    Engine(Error),
    Words(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Engine(error)
    }
}

impl Stall for Failure {
    fn would_stall(&self) -> bool {
        matches!(self, Failure::Engine(error) if error.would_stall())
    }
}

impl Session {
    /// A new client.
    pub(crate) fn new(shared: &Arc<Shared>, client: &Arc<Client>) -> Session {
        Session {
            shared: Arc::clone(shared),
            client: Arc::clone(client),
            authenticated: !shared.secret.is_set(),
            searched: 0,
            begun: Instant::now(),
        }
    }

    /// Answers one line; true when it was the last.
    fn line(&mut self, line: &[u8], out: &mut Out) -> bool {
        let words: Vec<Vec<u8>> = match split(line) {
            Ok(words) => words.into_iter().map(|(word, _)| word).collect(),
            Err(text) => {
                self.fail(text, out);
                return false;
            }
        };
        let Some(name) = words.first().map(|name| name.to_ascii_uppercase()) else { return false };
        if matches!(&name[..], b"QUIT" | b"EXIT") {
            return true;
        }
        if is_http(&name, &words) {
            let Client { id, peer, .. } = &*self.client;
            tracing::warn!(client = id, %peer, "speaks HTTP: closed");
            self.fail("this port speaks no HTTP", out);
            return true;
        }
        let mark = out.mark();
        if let Err(failure) = self.command(&name, &words[1..], out) {
            out.rewind(mark);
            let text = match failure {
                Failure::Words(text) => text,
                Failure::Engine(error) => error.to_string(),
            };
            self.fail(&text, out);
        } else if out.refused() {
            out.rewind(mark);
            self.fail("the answer is too long: use LIMIT", out);
        }
        // Counted among the commands of the other dialect that do the same.
        let same: &[u8] = match &name[..] {
            b"DELETE" | b"REMOVE" => b"DEL",
            b"COUNT" | b"LEN" => b"DBSIZE",
            other => other,
        };
        let command = find(same).unwrap_or(COMMANDS.len());
        let took = self.begun.elapsed();
        self.shared.metrics.count(command, 1, took);
        if took >= self.shared.slow {
            let name = COMMANDS.get(command).map_or(NO_COMMAND, |command| command.name);
            self.shared.note_slow(name, 1, took);
        }
        self.begun = Instant::now();
        self.client.has_guessed_enough()
    }

    fn fail(&self, text: &str, out: &mut Out) {
        add(&self.shared.metrics.errors, 1);
        out.mark();
        out.push(b"error: ");
        out.push(text.replace(['\r', '\n'], " ").as_bytes());
        out.push(b"\n");
    }

    fn command(
        &mut self,
        name: &[u8],
        words: &[Vec<u8>],
        out: &mut Out,
    ) -> std::result::Result<(), Failure> {
        let store = &self.shared.store;
        match (name, words) {
            (b"AUTH", [password]) => return self.log_in(password, out),
            (b"HELP", _) => out.push(HELP.as_bytes()),
            _ if !self.authenticated => {
                return Err(Failure::Words("say AUTH and the password first".into()));
            }
            // As Redis answers a bare line: redis-benchmark's PING_INLINE counts on it.
            (b"PING", []) => out.push(b"+PONG\r\n"),
            (b"SET", [key, value]) => {
                blocking(|| store.patiently(|patience| store.put(key, value, patience)))?;
                self.written(out)?;
            }
            (b"DELETE" | b"DEL" | b"REMOVE", [key]) => {
                blocking(|| store.patiently(|patience| store.delete(key, patience)))?;
                self.written(out)?;
            }
            (b"GET", [key]) => match store.get(key)? {
                Some(value) => blocking_if_long(value.len(), || show(&value, out)),
                None => out.push(b"no value stored\n"),
            },
            (b"COUNT" | b"LEN", []) => {
                let mut text = String::new();
                let _ = writeln!(text, "{}", blocking(|| store.len())?);
                out.push(text.as_bytes());
            }
            (b"SCAN", words) => return blocking(|| self.scan(words, out)),
            (b"SET" | b"GET" | b"DELETE" | b"DEL" | b"REMOVE" | b"AUTH" | b"COUNT", _) => {
                let text = "that takes other words; HELP shows which (quote blanks: \"a b\")";
                return Err(Failure::Words(text.into()));
            }
            _ => {
                let name = String::from_utf8_lossy(&name[..name.len().min(32)]).into_owned();
                return Err(Failure::Words(format!("no command is called {name}; try HELP")));
            }
        }
        Ok(())
    }

    fn log_in(&mut self, password: &[u8], out: &mut Out) -> std::result::Result<(), Failure> {
        if !self.shared.secret.is_set() {
            let text =
                "no password is configured here, and none is needed: is this the right server?";
            return Err(Failure::Words(text.into()));
        }
        if !self.shared.secret.admits(password) {
            self.client.note_guess();
            return Err(Failure::Words("wrong password".into()));
        }
        self.authenticated = true;
        out.push(b"success\n");
        Ok(())
    }

    /// A line is settled by itself: people wait for each answer.
    fn written(&self, out: &mut Out) -> Result<()> {
        if self.shared.store.settles() {
            blocking(|| self.shared.store.settle())?;
        }
        out.push(b"success\n");
        Ok(())
    }

    /// `[start [end]] [LIMIT n]`.
    fn scan(&self, words: &[Vec<u8>], out: &mut Out) -> std::result::Result<(), Failure> {
        let (mut limit, mut bounds) = (SCAN_LIMIT, words);
        if let [front @ .., word, number] = words
            && word.eq_ignore_ascii_case(b"LIMIT")
        {
            let number = std::str::from_utf8(number).ok().and_then(|text| text.parse().ok());
            limit = number.ok_or_else(|| Failure::Words("LIMIT needs a number".into()))?;
            bounds = front;
        }
        let mut options = ScanOptions::new();
        match bounds {
            [] => {}
            [start] => options = options.lower(Bound::Included(start)),
            [start, end] => {
                options = options.lower(Bound::Included(start)).upper(Bound::Excluded(end));
            }
            _ => return Err(Failure::Words("SCAN takes a start and an end at most".into())),
        }
        let mut scan = self.shared.store.scan(&options)?;
        let mut shown = 0u64;
        while shown < limit && !out.refused() {
            if self.shared.shutdown.is_over() {
                return Err(Failure::Words("the server ends".into()));
            }
            let Some(entry) = scan.next_entry()? else { break };
            push_quoted(entry.key, out);
            out.push(b" ");
            push_quoted(entry.value, out);
            out.push(b"\n");
            shown += 1;
        }
        let more = shown == limit && scan.next_entry()?.is_some();
        let more = if more { ", there are more" } else { "" };
        out.push(format!("({shown} entries{more})\n").as_bytes());
        Ok(())
    }
}

/// Whether a browser speaks. A page from anywhere can make it send a request here, whose body would
/// be read as commands.
fn is_http(name: &[u8], words: &[Vec<u8>]) -> bool {
    let version = words.len() == 3 && words[2].starts_with(b"HTTP/") && name != b"SET";
    version || name == b"HOST:"
}

/// A value for a person: as it is where it is text of one line, otherwise quoted.
fn show(value: &Value, out: &mut Out) {
    let text = std::str::from_utf8(value).is_ok_and(|text| !text.contains(char::is_control));
    if text && value.first() != Some(&b'"') && !value.is_empty() {
        out.push_value(value);
    } else {
        push_quoted(value, out);
    }
    out.push(b"\n");
}

/// Not further than there is room for it.
fn push_quoted(bytes: &[u8], out: &mut Out) {
    quote_to(bytes, &mut |piece| {
        out.push(piece);
        !out.refused()
    });
}

impl Dialect for Session {
    fn step(&mut self, input: &[u8], out: &mut Out) -> Next {
        let limit = self.shared.limits.line_bytes as usize;
        let from = self.searched.min(input.len());
        let end = memchr(b'\n', &input[from..]).map(|end| from + end);
        if end.unwrap_or(input.len()) > limit {
            out.push(format!("error: a line has at most {limit} bytes\n").as_bytes());
            return Next::Close;
        }
        let Some(end) = end else {
            self.searched = input.len();
            return Next::More;
        };
        self.searched = 0;
        if self.line(&input[..end], out) { Next::Close } else { Next::Used(end + 1) }
    }

    fn begin(&mut self) {
        self.begun = Instant::now();
    }

    fn settle(&mut self, _: &mut Out) {}

    fn is_amid(&self) -> bool {
        self.searched > 0
    }

    fn is_stranger(&self) -> bool {
        !self.authenticated
    }
}
