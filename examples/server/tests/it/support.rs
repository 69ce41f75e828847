//! A server inside of the test's process, and a small RESP client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use toykv_server::{Config, Server, Shutdown};

/// Longer than anything here takes; a test that hangs fails after it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running server; dropping it ends it and waits.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) grpc: Option<SocketAddr>,
    pub(crate) http: Option<SocketAddr>,
    shutdown: Arc<Shutdown>,
    thread: Option<JoinHandle<toykv::Result<()>>>,
    _dir: tempfile::TempDir,
}

/// An address on this machine, on a port that is free.
pub(crate) fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Starts a server with a new database.
pub(crate) fn start(change: impl FnOnce(&mut Config)) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::for_dir(&dir.path().join("db"));
    change(&mut config);
    let (send, receive) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(config.workers)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let server = Server::start(&config).await.unwrap();
            let addresses = (server.tcp_address(), server.grpc_address(), server.http_address());
            send.send((addresses, server.shutdown())).unwrap();
            server.run().await
        })
    });
    let ((address, grpc, http), shutdown) = receive.recv().unwrap();
    Running { address, grpc, http, shutdown, thread: Some(thread), _dir: dir }
}

impl Running {
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// Ends the server; the answer of the database's close.
    pub(crate) fn stop(&mut self) -> toykv::Result<()> {
        self.shutdown.start();
        self.thread.take().map_or(Ok(()), |thread| thread.join().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// A reply, as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Null,
    Array(Vec<Reply>),
    Map(Vec<Reply>),
}

impl Reply {
    pub(crate) fn bulk(bytes: impl AsRef<[u8]>) -> Reply {
        Reply::Bulk(bytes.as_ref().to_vec())
    }

    pub(crate) fn ok() -> Reply {
        Reply::Simple("OK".into())
    }

    /// The text of an error.
    pub(crate) fn error(self) -> String {
        match self {
            Reply::Error(text) => text,
            other => panic!("not an error: {other:?}"),
        }
    }

    /// What is in an array or a map.
    pub(crate) fn items(self) -> Vec<Reply> {
        match self {
            Reply::Array(items) | Reply::Map(items) => items,
            other => panic!("not an array: {other:?}"),
        }
    }

    pub(crate) fn text(self) -> String {
        match self {
            Reply::Bulk(bytes) => String::from_utf8(bytes).unwrap(),
            other => panic!("not a bulk string: {other:?}"),
        }
    }
}

/// A connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    reader: BufReader<TcpStream>,
}

/// A command in RESP.
pub(crate) fn encode<A: AsRef<[u8]>>(arguments: &[A]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        bytes.extend_from_slice(format!("${}\r\n", argument.as_ref().len()).as_bytes());
        bytes.extend_from_slice(argument.as_ref());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client { reader: BufReader::new(stream.try_clone().unwrap()), stream }
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends a command and reads its reply.
    pub(crate) fn run<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Reply {
        self.send(&encode(arguments));
        self.reply()
    }

    /// The words of a line are a command.
    pub(crate) fn say(&mut self, line: &str) -> Reply {
        self.run(&line.split(' ').collect::<Vec<_>>())
    }

    /// The next line, without its end; `None` when the server has closed.
    pub(crate) fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        match self.reader.read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => Some(String::from_utf8(line).unwrap().trim_end().to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Passes over bytes.
    pub(crate) fn skip(&mut self, bytes: usize) {
        self.reader.read_exact(&mut vec![0; bytes]).unwrap();
    }

    /// Whether the server has closed the connection, with nothing left to be read.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.line().is_none()
    }

    pub(crate) fn reply(&mut self) -> Reply {
        self.try_reply().expect("the server closed the connection")
    }

    /// `None` when the server has closed.
    pub(crate) fn try_reply(&mut self) -> Option<Reply> {
        let line = self.line()?;
        let (kind, rest) = line.split_at(1);
        let number = || rest.parse::<i64>().unwrap();
        Some(match kind {
            "+" => Reply::Simple(rest.into()),
            "-" => Reply::Error(rest.into()),
            ":" => Reply::Integer(number()),
            "_" => Reply::Null,
            "$" if number() < 0 => Reply::Null,
            "$" => {
                let mut bytes = vec![0; number() as usize + 2];
                self.reader.read_exact(&mut bytes).unwrap();
                bytes.truncate(bytes.len() - 2);
                Reply::Bulk(bytes)
            }
            "*" => Reply::Array((0..number()).map(|_| self.reply()).collect()),
            "%" => Reply::Map((0..2 * number()).map(|_| self.reply()).collect()),
            _ => panic!("not a reply: {line:?}"),
        })
    }
}

/// A pattern that takes long to be compared with the keys of [`slow_keys`].
pub(crate) const SLOW_PATTERN: &str = {
    const BYTES: [u8; 1000] = {
        let mut bytes = [b'a'; 1000];
        (bytes[0], bytes[999]) = (b'*', b'b');
        bytes
    };
    match std::str::from_utf8(&BYTES) {
        Ok(text) => text,
        Err(_) => panic!(),
    }
};

/// Stores keys that are nearly like the pattern at every place.
pub(crate) fn slow_keys(client: &mut Client, count: usize) {
    let alike = "a".repeat(60_000);
    for n in 0..count {
        assert_eq!(client.run(&["SET", &format!("{alike}{n:04}"), ""]), Reply::ok());
    }
}
