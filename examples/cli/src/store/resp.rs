//! A server that speaks Redis' protocol: toykv-server's TCP port.
//!
//! Invariant ORDER: keys are told in order or not at all. toykv-server's SCAN goes through them in
//! their order; a server that does not, such as Redis itself, is refused when it shows.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::Duration;

use redis::{Client, Connection, ConnectionAddr, ErrorKind, IntoConnectionInfo};
use redis::{RedisConnectionInfo, RedisError, RedisResult, TlsCertificates};
use serde_json::Value as Json;

use super::{Damage, Entries, Figures, Range, Spot, Store, Visit, Watch, unsupported};
use crate::args::Target;
use crate::failure::{Exit, Failure, Result};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// An answer that takes longer is not coming; the exact count of a large database takes a while.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// Keys that one SCAN asks for, and values that are asked for at once.
const SCAN_KEYS: u64 = 1000;
const VALUES: usize = 100;

/// A connection.
pub(crate) struct Resp {
    address: String,
    connection: Connection,
}

impl Resp {
    /// Connects to `host:port`, encrypted to `rediss://host:port`.
    pub(crate) fn open(address: &str, target: &Target, password: Option<&str>) -> Result<Resp> {
        let encrypted = address.strip_prefix("rediss://");
        let plain = encrypted.or(address.strip_prefix("redis://")).unwrap_or(address);
        let plain = plain.trim_end_matches('/');
        let parts = plain.rsplit_once(':').and_then(|(host, port)| {
            let host = host.strip_prefix('[').map_or(host, |host| host.trim_end_matches(']'));
            Some((host.to_owned(), port.parse().ok()?))
        });
        let good = |(host, _): &(String, u16)| !host.is_empty() && !host.contains('/');
        let Some((host, port)) = parts.filter(good) else {
            let message = format!("{address:?} is no address: host:port or http://host:port");
            return Err(Failure::usage(message));
        };
        let login = RedisConnectionInfo::default().set_skip_set_lib_name();
        let root_cert = target.ca.as_deref().map(crate::files::read_all).transpose()?;
        let address = plain.to_owned();
        let connect = || -> RedisResult<Connection> {
            let client = if encrypted.is_some() {
                let (insecure, tls_params) = (false, None);
                let place = ConnectionAddr::TcpTls { host, port, insecure, tls_params };
                let info = place.into_connection_info()?.set_redis_settings(login);
                Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })?
            } else {
                let info = ConnectionAddr::Tcp(host, port).into_connection_info()?;
                Client::open(info.set_redis_settings(login))?
            };
            let connection = client.get_connection_with_timeout(CONNECT_TIMEOUT)?;
            connection.set_read_timeout(Some(ANSWER_TIMEOUT))?;
            connection.set_write_timeout(Some(ANSWER_TIMEOUT))?;
            Ok(connection)
        };
        let connection = connect().map_err(|error| failure(&address, &error))?;
        let mut own = Resp { address, connection };
        if let Some(password) = password {
            // Not by the library, which would not tell what the server answers.
            own.ask::<()>(&[b"AUTH", password.as_bytes()]).map_err(|failure| {
                match failure.exit {
                    // There is no password.
                    Exit::Usage => Failure::new(Exit::Refused, failure.message),
                    _ => failure,
                }
            })?;
        }
        Ok(own)
    }

    fn ask<T: redis::FromRedisValue>(&mut self, command: &[&[u8]]) -> Result<T> {
        let mut packed = redis::Cmd::new();
        for word in command {
            packed.arg(*word);
        }
        packed.query(&mut self.connection).map_err(|error| failure(&self.address, &error))
    }

    /// Tells `visit` about keys and, unless only they are wanted, their values. A key that vanished
    /// since it was listed is passed over.
    fn tell(
        &mut self,
        keys: &[Vec<u8>],
        keys_only: bool,
        left: &mut u64,
        visit: &mut Visit<'_>,
    ) -> Result<ControlFlow<()>> {
        for keys in keys.chunks(VALUES) {
            let mut values = vec![Some(Vec::new()); keys.len()];
            if !keys_only {
                let mut pipe = redis::pipe();
                for key in keys {
                    pipe.cmd("GET").arg(&key[..]);
                }
                let asked = pipe.query(&mut self.connection);
                values = asked.map_err(|error| failure(&self.address, &error))?;
            }
            for (key, value) in keys.iter().zip(values) {
                let Some(value) = value else { continue };
                if *left == 0 || visit(key, &value)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                *left -= 1;
            }
        }
        Ok(if *left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    /// Tells `watch` how far the work has come that was begun, until it ends.
    fn follow(&mut self, watch: &mut Watch<'_>) -> Result<()> {
        loop {
            // Answers when there is news, and after a moment anyway.
            let (done, total, state): (u64, u64, String) = self.ask(&[b"TOYKV", b"PROGRESS"])?;
            if watch(done, total).is_break() {
                self.ask::<()>(&[b"TOYKV", b"CANCEL"])?;
            }
            if state == "done" {
                return Ok(());
            }
        }
    }

    /// The next keys of a SCAN.
    fn page(
        &mut self,
        cursor: &[u8],
        pattern: &[u8],
        count: u64,
    ) -> Result<(Vec<u8>, Vec<Vec<u8>>)> {
        let count = count.to_string();
        self.ask(&[b"SCAN", cursor, b"MATCH", pattern, b"COUNT", count.as_bytes()])
    }
}

/// Names and figures, one behind the other.
fn pairs(address: &str, flat: &[redis::Value]) -> Result<Figures> {
    let read = |pair: &[redis::Value]| -> RedisResult<(String, Json)> {
        let [name, value] = pair else {
            return Err((ErrorKind::UnexpectedReturnType, "a name without a figure").into());
        };
        let name = redis::from_redis_value_ref(name)?;
        let value = match value {
            redis::Value::Nil => Json::Null,
            redis::Value::Int(number) => (*number).into(),
            text => redis::from_redis_value_ref::<String>(text)?.into(),
        };
        Ok((name, value))
    };
    flat.chunks(2).map(read).collect::<RedisResult<_>>().map_err(|error| failure(address, &error))
}

/// A glob that matches what begins with `prefix`.
fn pattern(prefix: &[u8]) -> Vec<u8> {
    let mut pattern = Vec::with_capacity(prefix.len() + 1);
    for &byte in prefix {
        if b"*?[]\\^-".contains(&byte) {
            pattern.push(b'\\');
        }
        pattern.push(byte);
    }
    pattern.push(b'*');
    pattern
}

/// What a failed command means.
fn failure(address: &str, error: &RedisError) -> Failure {
    // toykv-server's engine says its kind of error in front of the text.
    let kind = error.detail().and_then(|detail| detail.split_once(": ")).map(|(kind, _)| kind);
    let exit = kind.and_then(Exit::of_kind_named).unwrap_or_else(|| exit(error));
    let message = match (error.code(), error.detail()) {
        _ if error.kind() == ErrorKind::Parse => FOREIGN.to_owned(),
        (Some(_), Some(detail)) if exit != Exit::Unreachable => detail.to_owned(),
        _ => error.to_string(),
    };
    Failure::new(exit, format!("{address}: {message}"))
}

/// What an answer means that is not the protocol.
const FOREIGN: &str = "what answers there speaks another protocol than Redis', or TLS";

/// What a client is told, as by Redis, that comes when all places are taken, or asks for what only
/// toykv-server has.
const TOO_MANY: &str = "max number of clients";
const UNKNOWN: &str = "unknown command";

/// What a failure without an engine's kind means.
fn exit(error: &RedisError) -> Exit {
    match (error.kind(), error.code()) {
        (ErrorKind::AuthenticationFailed, _) | (_, Some("NOAUTH" | "WRONGPASS" | "NOPERM")) => {
            Exit::Refused
        }
        (_, Some("READONLY")) => Exit::ReadOnly,
        (_, Some("MISCONF")) => Exit::Poisoned,
        (_, Some("BUSY" | "LOADING" | "TRYAGAIN")) => Exit::Busy,
        _ if error.detail().is_some_and(|text| text.starts_with(TOO_MANY)) => Exit::Busy,
        _ if error.detail().is_some_and(|text| text.starts_with(UNKNOWN)) => Exit::Unsupported,
        (ErrorKind::Server(_) | ErrorKind::Extension, _) => Exit::Usage,
        (ErrorKind::InvalidClientConfig, _) => Exit::Usage,
        (ErrorKind::Client | ErrorKind::UnexpectedReturnType, _) => Exit::Unsupported,
        _ => Exit::Unreachable,
    }
}

impl Store for Resp {
    fn name(&self) -> String {
        self.address.clone()
    }

    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.ask(&[b"GET", key])
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.ask(&[b"SET", key, value])
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.ask::<i64>(&[b"DEL", key]).map(drop)
    }

    fn put_all(&mut self, entries: &Entries) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut command: Vec<&[u8]> = vec![b"MSET"];
        for (key, value) in entries {
            command.extend([&key[..], value]);
        }
        self.ask(&command)
    }

    fn scan(&mut self, range: &Range, visit: &mut Visit<'_>) -> Result<()> {
        let pattern = pattern(&range.prefix);
        let mut left = range.limit.unwrap_or(u64::MAX);
        let count = if range.reverse { SCAN_KEYS } else { left.clamp(1, SCAN_KEYS) };
        let mut cursor = b"0".to_vec();
        let mut last: Option<Vec<u8>> = None;
        let mut kept = VecDeque::new();
        loop {
            let (next, mut keys) = self.page(&cursor, &pattern, count)?;
            for key in &keys {
                if last.as_ref().is_some_and(|last| key <= last) {
                    let why = "its keys come in no order; this is no toykv-server";
                    return Err(unsupported("scan", &self.address, why));
                }
                last = Some(key.clone());
            }
            let beyond = |key: &Vec<u8>| range.end.as_ref().is_some_and(|end| key >= end);
            let ended = next == b"0" || keys.last().is_some_and(beyond);
            keys.retain(|key| {
                range.start.as_ref().is_none_or(|start| key >= start) && !beyond(key)
            });
            if range.reverse {
                kept.extend(keys);
                let most = usize::try_from(left).unwrap_or(usize::MAX);
                kept.drain(..kept.len().saturating_sub(most));
            } else if self.tell(&keys, range.keys_only, &mut left, visit)?.is_break() {
                return Ok(());
            }
            if ended {
                break;
            }
            crate::progress::check()?;
            cursor = next;
        }
        let kept: Vec<Vec<u8>> = kept.into_iter().rev().collect();
        self.tell(&kept, range.keys_only, &mut left, visit).map(drop)
    }

    fn len(&mut self) -> Result<u64> {
        self.ask(&[b"DBSIZE"])
    }

    fn scans_are_frozen(&self) -> bool {
        false
    }

    fn stats(&mut self) -> Result<Figures> {
        let figures: Vec<redis::Value> = self.ask(&[b"TOYKV", b"STATS"])?;
        pairs(&self.address, &figures)
    }

    fn compact(&mut self, range: &Range, watch: &mut Watch<'_>) -> Result<()> {
        let mut command: Vec<&[u8]> = vec![b"TOYKV", b"COMPACT"];
        for (word, key) in [(&b"FROM"[..], &range.start), (b"TO", &range.end)] {
            command.extend(key.iter().flat_map(|key| [word, &key[..]]));
        }
        self.ask::<()>(&command)?;
        self.follow(watch)
    }

    fn explain(&mut self) -> Result<Figures> {
        let answer: (Vec<redis::Value>, Vec<[u64; 4]>) = self.ask(&[b"TOYKV", b"EXPLAIN"])?;
        let mut figures = pairs(&self.address, &answer.0)?;
        for (index, [_, _, age_ms, held_bytes]) in answer.1.into_iter().enumerate() {
            figures.extend([super::snapshot_figure(index, held_bytes, age_ms)]);
        }
        Ok(figures)
    }

    fn collect(&mut self, watch: &mut Watch<'_>) -> Result<()> {
        self.ask::<()>(&[b"TOYKV", b"GC"])?;
        self.follow(watch)
    }

    fn verify(&mut self, watch: &mut Watch<'_>) -> Result<Damage> {
        self.ask::<()>(&[b"TOYKV", b"VERIFY"])?;
        self.follow(watch)?;
        type Found = (Vec<u8>, u64, Option<Vec<u8>>, Option<Vec<u8>>, Option<u64>, String);
        let answer: (Vec<redis::Value>, Vec<Found>) = self.ask(&[b"TOYKV", b"FINDINGS"])?;
        let totals = pairs(&self.address, &answer.0)?;
        let total = |name: &str| totals.get(name).and_then(Json::as_u64).unwrap_or(0);
        let place = |(path, offset, first_key, last_key, records, what): Found| Spot {
            path,
            offset,
            what,
            first_key,
            last_key,
            records,
        };
        Ok(Damage {
            files: total("files"),
            bytes: total("bytes"),
            records: total("records"),
            count: total("findings"),
            places: answer.1.into_iter().map(place).collect(),
        })
    }

    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::pattern;

    #[test]
    fn a_prefix_is_no_glob() {
        assert_eq!(pattern(b"user:"), b"user:*");
        assert_eq!(pattern(b"a*[b]?\\^-"), br"a\*\[b\]\?\\\^\-*");
    }
}
