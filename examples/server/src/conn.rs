//! One connection of the TCP port: bytes in, commands executed, replies out.
//!
//! Invariants. TURN: nothing more of a client is executed or read while its replies wait. SETTLED:
//! replies leave only after the dialect has made what they acknowledge durable. BOUNDED: buffers
//! grow with what arrives, within the limits and the budget of all clients.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::budget::Share;
use crate::clients::Client;
use crate::limits::FREE_BYTES;
use crate::metrics::add;
use crate::out::Out;
use crate::server::Shared;
use crate::{lines, resp};

/// The buffer that a connection begins with.
const FIRST_CAPACITY: usize = 16 << 10;

/// A client has so many times `header_seconds` to give its password.
const STRANGER_TIMES: u64 = 3;

/// The first byte of TLS; no line and no command begins with it.
const TLS_HELLO: u8 = 0x16;

/// Bytes of a refused client that are read and thrown away, so that it can read why; and how long.
const LINGER_BYTES: usize = 1 << 20;
const LINGER: Duration = Duration::from_secs(1);

/// What a dialect made of the bytes at the front of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// So many bytes are done with.
    Used(usize),
    /// A command has not come completely.
    More,
    /// Send the replies and close.
    Close,
}

/// A way to talk to clients. Never waits for the network.
pub(crate) trait Dialect {
    /// Executes the first command in the buffer, whose reply goes to `out`.
    fn step(&mut self, input: &[u8], out: &mut Out) -> Next;
    /// Commands have arrived.
    fn begin(&mut self) {}
    /// Makes durable what the replies in `out` acknowledge.
    fn settle(&mut self, out: &mut Out);
    /// Whether a command has begun to arrive.
    fn is_amid(&self) -> bool;
    /// Whether the password is still to be given.
    fn is_stranger(&self) -> bool;
    /// Memory kept for a command that has not come completely.
    fn memory_bytes(&self) -> usize {
        0
    }
    /// Gives memory back.
    fn shrink(&mut self) {}
}

/// Serves a client until it leaves, breaks the rules, or the server ends.
pub(crate) async fn serve<S>(shared: Arc<Shared>, client: Arc<Client>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let out = Out::new(&shared.budget, shared.limits.reply_bytes as usize);
    let share = Share::new(&shared.budget);
    let mut connection = Connection {
        shared: Arc::clone(&shared),
        client: Arc::clone(&client),
        stream,
        input: Vec::with_capacity(FIRST_CAPACITY),
        out,
        share,
        begun_ms: None,
    };
    if !matches!(connection.fill(0, false).await, Fill::Some) {
        return;
    }
    let polite = match connection.input.first() {
        Some(b'*') => connection.talk(resp::Session::new(&shared, &client)).await,
        Some(&TLS_HELLO) => {
            tracing::warn!(client = client.id, peer = %client.peer, "speaks TLS: closed");
            false
        }
        _ => connection.talk(lines::Session::new(&shared, &client)).await,
    };
    if polite {
        connection.linger().await;
    }
}

/// What came of reading.
#[derive(Debug, PartialEq, Eq)]
enum Fill {
    /// More bytes.
    Some,
    /// The client has gone, or has to go.
    End,
    /// There is no memory for more.
    Full,
}

struct Connection<S> {
    shared: Arc<Shared>,
    client: Arc<Client>,
    stream: S,
    input: Vec<u8>,
    out: Out,
    share: Share,
    /// When the command that is arriving began.
    begun_ms: Option<u64>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Command after command. True when the client should still read what was sent.
    async fn talk(&mut self, mut dialect: impl Dialect) -> bool {
        let most = self.shared.limits.output_bytes as usize;
        loop {
            let (mut used, mut next) = (0, Next::Used(0));
            dialect.begin();
            while let Next::Used(_) = next {
                next = dialect.step(&self.input[used..], &mut self.out);
                match next {
                    Next::Used(bytes) => used += bytes,
                    Next::More | Next::Close => break,
                }
                if self.out.waiting() >= most || self.out.is_pressed() {
                    dialect.settle(&mut self.out);
                    if self.send().await.is_err() {
                        return false;
                    }
                }
            }
            dialect.settle(&mut self.out);
            if self.send().await.is_err() {
                return false;
            }
            if next == Next::Close {
                return true;
            }
            self.consume(used, &mut dialect);
            match self.fill(dialect.memory_bytes(), dialect.is_stranger()).await {
                Fill::Some => {}
                Fill::End => return false,
                Fill::Full => {
                    tracing::warn!(client = self.client.id, "no memory for a long command");
                    self.out.push(format!("-ERR {}\r\n", resp::NO_MEMORY).as_bytes());
                    return self.send().await.is_ok();
                }
            }
        }
    }

    /// Takes finished commands out of the buffer, and gives back what a long one needed.
    fn consume(&mut self, used: usize, dialect: &mut impl Dialect) {
        if used == self.input.len() {
            self.input.clear();
            if self.input.capacity() > FREE_BYTES {
                self.input = Vec::with_capacity(FIRST_CAPACITY);
                dialect.shrink();
                self.share.resize(0);
            }
        } else if used > 0 {
            self.input.drain(..used);
        }
        let now = self.shared.clients.now_ms();
        self.begun_ms = match self.begun_ms {
            Some(begun) if used == 0 => Some(begun),
            _ => (!self.input.is_empty() || dialect.is_amid()).then_some(now),
        };
    }

    /// Reads what there is. `memory_bytes` is what the command that is arriving takes beside its
    /// bytes.
    async fn fill(&mut self, memory_bytes: usize, stranger: bool) -> Fill {
        if self.input.capacity() - self.input.len() < self.input.capacity() / 4 {
            let capacity = self.input.capacity() * 2;
            if !self.share.resize(capacity + memory_bytes) {
                return Fill::Full;
            }
            self.input.reserve_exact(capacity - self.input.len());
        }
        let limits = &self.shared.limits;
        let header_ms = limits.header_seconds * 1000;
        if stranger {
            self.client.give_until(self.client.connected_ms() + STRANGER_TIMES * header_ms);
        } else if let Some(begun) = self.begun_ms {
            let pieces = 1 + (self.input.len() >> 20) as u64;
            self.client.give_until(begun + header_ms * pieces);
        } else if self.client.has_begun() {
            let now = self.shared.clients.now_ms();
            self.client.give_until(now + limits.idle_seconds * 1000);
        }
        self.client.rest();
        if self.shared.shutdown.has_started() {
            return Fill::End;
        }
        let read = self.stream.read_buf(&mut self.input).await;
        let now = self.shared.clients.now_ms();
        match read {
            Ok(0) | Err(_) => Fill::End,
            Ok(_) if !self.client.begin(now) => Fill::End,
            Ok(bytes) => {
                add(&self.shared.metrics.bytes_in, bytes as u64);
                Fill::Some
            }
        }
    }

    /// Sends all replies, however long the client takes, as long as it takes something.
    async fn send(&mut self) -> std::io::Result<()> {
        if self.out.is_cut() {
            tracing::warn!(client = self.client.id, "no memory for its replies: closed");
            return Err(std::io::ErrorKind::OutOfMemory.into());
        }
        if self.out.waiting() == 0 {
            return Ok(());
        }
        let patience_ms = self.shared.limits.send_seconds * 1000;
        for mut piece in self.out.pieces() {
            while !piece.is_empty() {
                self.client.give_until(self.shared.clients.now_ms() + patience_ms);
                let sent = self.stream.write(piece).await?;
                if sent == 0 {
                    return Err(std::io::ErrorKind::WriteZero.into());
                }
                piece = &piece[sent..];
            }
        }
        self.stream.flush().await?;
        add(&self.shared.metrics.bytes_out, self.out.waiting() as u64);
        self.out.clear();
        Ok(())
    }

    /// Ends the sending side and waits a moment for the other: closing at once, with bytes unread,
    /// would take the last reply from the client.
    async fn linger(&mut self) {
        let limits = &self.shared.limits;
        self.client.give_until(self.shared.clients.now_ms() + limits.header_seconds * 1000);
        let read_on = async {
            let _ = self.stream.shutdown().await;
            let (mut left, mut scrap) = (LINGER_BYTES, [0; 4096]);
            while left > 0 {
                match self.stream.read(&mut scrap).await {
                    Ok(0) | Err(_) => return,
                    Ok(bytes) => left = left.saturating_sub(bytes),
                }
            }
        };
        let _ = tokio::time::timeout(LINGER, read_on).await;
    }
}
