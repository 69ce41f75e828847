//! The running server: what all parts share, its start and its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::auth::Secret;
use crate::budget::Budget;
use crate::clients::{Clients, Registered};
use crate::config::{Config, FlushPolicy};
use crate::limits::Limits;
use crate::metrics::{Metrics, add};
use crate::resp::COMMANDS;
use crate::shutdown::Shutdown;
use crate::store::Store;
use crate::tls::Pem;
use crate::{conn, grpc, http, listen};

/// After SIGTERM clients have so long for what they are doing; then there is time for the sync.
const DRAIN: Duration = Duration::from_millis(3500);
const DRAIN_STEP: Duration = Duration::from_millis(10);

/// What every connection and port uses.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) limits: Limits,
    pub(crate) budget: Arc<Budget>,
    pub(crate) metrics: Metrics,
    pub(crate) clients: Arc<Clients>,
    pub(crate) secret: Secret,
    pub(crate) flush_policy: FlushPolicy,
    /// Commands that take as long are logged.
    pub(crate) slow: Duration,
    pub(crate) shutdown: Arc<Shutdown>,
}

impl Shared {
    /// Logs commands of one kind that took long together; the caller has compared.
    #[cold]
    pub(crate) fn note_slow(&self, name: &str, number: u64, took: Duration) {
        add(&self.metrics.slow, 1);
        let took_ms = took.as_millis() as u64;
        tracing::warn!(target: "slow", command = name, number, took_ms, "a slow command");
    }
}

/// A server that listens.
pub struct Server {
    shared: Arc<Shared>,
    listen: SocketAddr,
    grpc: Option<SocketAddr>,
    http: Option<SocketAddr>,
    tasks: Vec<JoinHandle<()>>,
    /// Ends by itself when its calls have ended.
    grpc_task: Option<JoinHandle<()>>,
}

impl Server {
    /// Opens the database and the ports. Needs a runtime of several threads. The error says in
    /// words what was wrong.
    pub async fn start(config: &Config) -> Result<Server, String> {
        let pem = match &config.tls {
            Some((cert, key)) => Some(Pem::read(cert, key)?),
            None => None,
        };
        let acceptor = |protocols| pem.as_ref().map(|pem| pem.acceptor(protocols)).transpose();
        let (listener, listen) = listen::bind(config.listen).await?;
        let grpc_port = bind_some(config.grpc).await?;
        let http_port = bind_some(config.http).await?;
        let shared = Arc::new(share(config)?);
        let serve = accept_clients(Arc::clone(&shared), listener, acceptor(&[])?);
        let watch = Arc::clone(&shared.clients).watch();
        let mut tasks = vec![tokio::spawn(serve), tokio::spawn(watch)];
        let (mut grpc, mut grpc_task, mut http) = (None, None, None);
        if let Some((listener, address)) = grpc_port {
            let serve = grpc::serve(Arc::clone(&shared), listener, acceptor(&[b"h2"])?);
            (grpc, grpc_task) = (Some(address), Some(tokio::spawn(serve)));
        }
        if let Some((listener, address)) = http_port {
            let serve = http::serve(Arc::clone(&shared), listener, acceptor(&[b"http/1.1"])?);
            http = Some(address);
            tasks.push(tokio::spawn(serve));
        }
        let text = |address: Option<SocketAddr>| address.map(|address| address.to_string());
        tracing::info!(%listen, grpc = text(grpc), http = text(http), tls = pem.is_some(),
            dir = %config.dir.display(), "ready");
        Ok(Server { shared, listen, grpc, http, tasks, grpc_task })
    }

    /// Where gRPC is served, if it is.
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc
    }

    /// Where the status page is served, if it is.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Where lines and RESP are served.
    pub fn tcp_address(&self) -> SocketAddr {
        self.listen
    }

    /// Ends the server from anywhere.
    pub fn shutdown(&self) -> Arc<Shutdown> {
        Arc::clone(&self.shared.shutdown)
    }

    /// Waits until the server is told to end, lets clients finish what they have begun, makes
    /// everything durable and closes the database.
    pub async fn run(self) -> toykv::Result<()> {
        let shared = self.shared;
        shared.shutdown.wait().await;
        tracing::info!(clients = shared.clients.count(), "ending");
        let deadline = tokio::time::Instant::now() + DRAIN;
        while shared.clients.count() > 0 && tokio::time::Instant::now() < deadline {
            shared.clients.end_idle();
            tokio::time::sleep(DRAIN_STEP).await;
        }
        shared.shutdown.cut_short();
        shared.clients.end_all();
        if let Some(mut task) = self.grpc_task
            && tokio::time::timeout_at(deadline, &mut task).await.is_err()
        {
            task.abort();
        }
        self.tasks.iter().for_each(JoinHandle::abort);
        let closed = tokio::task::spawn_blocking(move || shared.store.close()).await;
        let closed = closed.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        tracing::info!("closed");
        closed
    }
}

async fn bind_some(
    address: Option<SocketAddr>,
) -> Result<Option<(TcpListener, SocketAddr)>, String> {
    match address {
        Some(address) => listen::bind(address).await.map(Some),
        None => Ok(None),
    }
}

fn share(config: &Config) -> Result<Shared, String> {
    let store = Store::open(&config.dir, config.options.clone(), config.durability);
    Ok(Shared {
        store: store.map_err(|error| error.to_string())?,
        limits: config.limits.clone(),
        budget: Budget::new(config.limits.buffer_bytes),
        metrics: Metrics::new(COMMANDS.iter().map(|command| command.name).chain(["unknown"])),
        clients: Clients::new(),
        secret: config.secret.clone(),
        flush_policy: config.flush_policy,
        slow: Duration::from_millis(config.slow_ms),
        shutdown: Arc::default(),
    })
}

/// Takes clients of lines and RESP.
async fn accept_clients(shared: Arc<Shared>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    let patience = Duration::from_secs(shared.limits.header_seconds);
    while let Some((stream, peer)) = listen::next(&shared, &listener).await {
        let registered = shared.clients.register(peer, shared.limits.connections, patience);
        let Some(registered) = registered else {
            add(&shared.metrics.rejected, 1);
            // The buffer of a new connection takes it at once; a client that it does not reach
            // sees the close.
            let _ = stream.try_write(b"-ERR max number of clients reached\r\n");
            continue;
        };
        add(&shared.metrics.accepted, 1);
        let client = Arc::clone(&registered.client);
        let task = tokio::spawn(serve(Arc::clone(&shared), registered, stream, tls.clone()));
        client.set_task(task.abort_handle());
    }
}

async fn serve(
    shared: Arc<Shared>,
    registered: Registered,
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
) {
    let client = Arc::clone(&registered.client);
    match tls {
        None => conn::serve(shared, client, stream).await,
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                conn::serve(shared, client, stream).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

    use super::*;

    /// The first line that answers some bytes on a new connection.
    async fn ask(address: SocketAddr, bytes: &[u8]) -> String {
        let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
        stream.write_all(bytes).await.unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        line
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn long_commands_end_when_the_time_for_them_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(&Config::for_dir(&dir.path().join("db"))).await.unwrap();
        let (address, shutdown) = (server.tcp_address(), server.shutdown());
        let running = tokio::spawn(server.run());
        let keys = b"*2\r\n$4\r\nKEYS\r\n$1\r\n*\r\n";
        assert_eq!(ask(address, b"SET a 1\n").await, "success\n");
        assert_eq!(ask(address, keys).await, "*1\r\n");
        assert_eq!(ask(address, b"SCAN\n").await, "a 1\n");
        assert!(!shutdown.is_over());
        shutdown.cut_short();
        assert_eq!(ask(address, keys).await, "-ERR the server ends\r\n");
        assert_eq!(ask(address, b"SCAN\n").await, "error: the server ends\n");
        shutdown.start();
        running.await.unwrap().unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_end_cuts_long_commands_short() {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(&Config::for_dir(&dir.path().join("db"))).await.unwrap();
        let shutdown = server.shutdown();
        shutdown.start();
        server.run().await.unwrap();
        assert!(shutdown.is_over());
    }
}
