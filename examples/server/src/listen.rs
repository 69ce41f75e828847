//! Accepting connections: a limit of them, TLS where there is a certificate, and a time within
//! which a client must begin.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::clients::Clients;
use crate::metrics::add;
use crate::server::Shared;

/// Pause after a failed accept: descriptors have run out, and some may come back.
const PAUSE: Duration = Duration::from_millis(50);

/// Bytes that show that an HTTP client is one: HTTP/2's preface and a frame's head.
const BEGINNING: usize = 33;

/// What shows that a connection is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moves {
    /// Bytes in either direction.
    Bytes,
    /// Pieces of calls, and of their answers: HTTP/2 has other bytes that mean nothing.
    Calls,
}

/// When a connection was last in use.
pub(crate) struct Activity {
    clients: Arc<Clients>,
    last_ms: AtomicU64,
}

impl Activity {
    fn new(clients: &Arc<Clients>) -> Arc<Activity> {
        let last_ms = AtomicU64::new(clients.now_ms());
        Arc::new(Activity { clients: Arc::clone(clients), last_ms })
    }

    /// It is in use now.
    pub(crate) fn touch(&self) {
        self.last_ms.store(self.clients.now_ms(), Ordering::Relaxed);
    }

    fn quiet_ms(&self) -> u64 {
        self.clients.now_ms().saturating_sub(self.last_ms.load(Ordering::Relaxed))
    }
}

/// A plain or TLS connection of the gRPC or the status port.
pub(crate) struct Io {
    stream: Stream,
    /// Runs out unless the client begins in time.
    begin: Option<Pin<Box<Sleep>>>,
    received: usize,
    /// Runs while the client takes nothing of what is sent.
    sending: Option<Pin<Box<Sleep>>>,
    send_patience: Duration,
    /// Looks again and again whether the connection is in use.
    idle: Pin<Box<Sleep>>,
    idle_ms: u64,
    moves: Moves,
    activity: Arc<Activity>,
    _permit: OwnedSemaphorePermit,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Opens a port.
pub(crate) async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), String> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|error| format!("cannot listen on {address}: {error}"))?;
    let bound = listener.local_addr().map_err(|error| error.to_string())?;
    Ok((listener, bound))
}

/// The next connection; `None` when the server ends.
pub(crate) async fn next(
    shared: &Shared,
    listener: &TcpListener,
) -> Option<(TcpStream, SocketAddr)> {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.shutdown.wait() => return None,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Replies are whole when they are written; a failure only makes them slower.
                let _ = stream.set_nodelay(true);
                return Some((stream, peer));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Accepts HTTP connections, at most `limit` at a time, and hands each to `serve` when TLS is done.
pub(crate) async fn accept_http<F>(
    shared: Arc<Shared>,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    limit: u64,
    moves: Moves,
    serve: impl Fn(Io) -> F + Clone + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(limit as usize));
    let patience = Duration::from_secs(shared.limits.header_seconds);
    let send_patience = Duration::from_secs(shared.limits.send_seconds);
    let idle_ms = shared.limits.idle_seconds * 1000;
    while let Some((stream, peer)) = next(&shared, &listener).await {
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            add(&shared.metrics.rejected, 1);
            tracing::debug!(%peer, "too many connections");
            continue;
        };
        let (tls, serve) = (tls.clone(), serve.clone());
        let activity = Activity::new(&shared.clients);
        tokio::spawn(async move {
            let stream = match tls {
                None => Stream::Plain(stream),
                Some(tls) => match tokio::time::timeout(patience, tls.accept(stream)).await {
                    Ok(Ok(stream)) => Stream::Tls(Box::new(stream)),
                    _ => return,
                },
            };
            let begin = Some(Box::pin(tokio::time::sleep(patience)));
            let idle = Box::pin(tokio::time::sleep(Duration::from_millis(idle_ms)));
            let io = Io {
                stream,
                begin,
                received: 0,
                sending: None,
                send_patience,
                idle,
                idle_ms,
                moves,
                activity,
                _permit: permit,
            };
            serve(io).await;
        });
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        };
        let bytes = buf.filled().len() - before;
        self.received = self.received.saturating_add(bytes);
        if bytes > 0 && self.moves == Moves::Bytes {
            self.activity.touch();
        }
        if self.received >= BEGINNING {
            self.begin = None;
        }
        if read.is_pending()
            && let Some(begin) = &mut self.begin
            && begin.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if read.is_pending() && self.is_idle(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl Io {
    /// Whether it has not been in use for too long; otherwise wakes its task when it may be.
    fn is_idle(&mut self, cx: &mut Context<'_>) -> bool {
        while self.idle.as_mut().poll(cx).is_ready() {
            let quiet = self.activity.quiet_ms();
            if quiet >= self.idle_ms {
                return true;
            }
            let left = Duration::from_millis((self.idle_ms - quiet).max(100));
            self.idle.as_mut().reset(tokio::time::Instant::now() + left);
        }
        false
    }

    /// An answer of the sending side, or an error when the client has taken nothing for too long.
    fn sent<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.sending = None;
            if self.moves == Moves::Bytes {
                self.activity.touch();
            }
            return poll;
        }
        let patience = self.send_patience;
        let sending = self.sending.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        match sending.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        };
        self.sent(cx, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        };
        self.sent(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}

impl tonic::transport::server::Connected for Io {
    type ConnectInfo = Arc<Activity>;

    fn connect_info(&self) -> Arc<Activity> {
        Arc::clone(&self.activity)
    }
}
