//! The program as a process: what survives its death, how it ends, what it holds on to.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Client, PATIENCE, Reply, SLOW_PATTERN, encode, slow_keys};

/// A running program; dropping it kills it.
struct Process {
    child: Child,
    address: SocketAddr,
    grpc: Option<SocketAddr>,
    http: Option<SocketAddr>,
    log: BufReader<ChildStderr>,
}

impl Process {
    fn start(dir: &Path, arguments: &[&str]) -> Process {
        let mut program = Command::new(env!("CARGO_BIN_EXE_toykv-server"));
        Process::run(&mut program, dir, arguments)
    }

    fn run(program: &mut Command, dir: &Path, arguments: &[&str]) -> Process {
        let mut child = program
            .args(["--listen", "127.0.0.1:0", "--log-format", "json", "--dir"])
            .arg(dir)
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("\"ready\"") {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "the server did not start");
        }
        let address = |name: &str| {
            let (_, rest) = line.split_once(&format!("\"{name}\":\""))?;
            Some(rest.split('"').next()?.parse().unwrap())
        };
        let (listen, grpc, http) = (address("listen").unwrap(), address("grpc"), address("http"));
        Process { child, address: listen, grpc, http, log }
    }

    fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    /// Waits for its end; the log since the start.
    fn wait(mut self) -> (ExitStatus, String) {
        let mut log = String::new();
        std::io::Read::read_to_string(&mut self.log, &mut log).unwrap();
        (self.child.wait().unwrap(), log)
    }

    /// Memory that is not the page cache, which comes and goes as the system likes.
    fn resident_kib(&self) -> u64 {
        self.status_kib("RssAnon:")
    }

    /// The most that it ever had resident.
    fn peak_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    #[expect(clippy::disallowed_methods, reason = "what the system says about the process")]
    fn status_kib(&self, name: &str) -> u64 {
        let status = std::fs::read(format!("/proc/{}/status", self.child.id())).unwrap();
        let status = String::from_utf8(status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts with gRPC and segments of this size; limits of the system then fail writes and kill
/// nobody. `None` where they cannot be set.
fn start_failing(dir: &Path, segments: &str, limits: &[&str]) -> Option<Process> {
    let found = |name: &str| Command::new(name).arg("--version").output().is_ok();
    if !found("prlimit") {
        println!("left out: prlimit (Debian: util-linux) is missing");
        return None;
    }
    let shell = ["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_toykv-server")];
    let size = format!("memtable_size_bytes={segments}");
    let ports = ["--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--option", &size];
    let server = Process::run(Command::new("sh").args(shell), dir, &[&ports, limits].concat());
    if !limit_files(&server, "unlimited") {
        println!("left out: the limit of file sizes cannot be set here");
        return None;
    }
    Some(server)
}

/// Sets how large the files may become that a process writes.
fn limit_files(server: &Process, bytes: &str) -> bool {
    let (limit, pid) = (format!("--fsize={bytes}:unlimited"), server.child.id().to_string());
    Command::new("prlimit").args([&limit, "--pid", &pid]).output().unwrap().status.success()
}

#[test]
fn a_failing_disk_is_told_by_its_kind_and_writes_go_on_when_it_works_again() {
    let dir = tempfile::tempdir().unwrap();
    let Some(server) = start_failing(&dir.path().join("db"), "1MiB", &[]) else { return };
    let mut client = server.connect();
    let value = "v".repeat(100_000);
    assert_eq!(client.run(&["SET", "a", &value]), Reply::ok());
    assert!(limit_files(&server, "0"));
    // What was prepared before is used up first.
    let mut refused = (0..1000).map(|_| client.run(&["SET", "a", &value]));
    let refused = refused.find(|reply| *reply != Reply::ok());
    let text = refused.expect("no write failed").error();
    assert!(text.starts_with("MISCONF Io: "), "{text}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let address = format!("http://{}", server.grpc.unwrap());
        let endpoint = tonic::transport::Endpoint::new(address).unwrap();
        let channel = endpoint.connect().await.unwrap();
        let mut client = toykv_server::proto::toykv_client::ToykvClient::new(channel);
        for left in (0..1000).rev() {
            let (key, value) = ("b".into(), value.clone().into());
            let put = toykv_server::proto::PutRequest { key, value, durability: 0 };
            let Err(refusal) = client.put(put).await else {
                assert!(left > 0, "no write failed");
                continue;
            };
            assert_eq!(refusal.metadata().get("toykv-error-kind").unwrap(), "Io", "{refusal:?}");
            break;
        }
    });
    assert!(matches!(client.say("GET a"), Reply::Bulk(_)), "reads go on");
    assert!(limit_files(&server, "unlimited"));
    while client.run(&["SET", "a", &value]) != Reply::ok() {
        thread::sleep(Duration::from_millis(10));
    }
}

/// Files may be as large as a segment, and the list of files becomes larger than that: a write to
/// it fails half done, after which the engine refuses writes.
#[test]
fn a_database_that_refuses_writes_is_told_on_every_port() {
    const SEGMENT: usize = 64 << 10;
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("db");
    let little = ["--limit", "buffer_bytes=200000", "--limit", "header_seconds=3600"];
    let Some(server) = start_failing(&db, "64KiB", &little) else { return };
    let mut client = server.connect();
    let health = |server: &Process| {
        let mut stream = std::net::TcpStream::connect(server.http.unwrap()).unwrap();
        let ask = b"GET /health HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        std::io::Write::write_all(&mut stream, ask).unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        answer
    };
    assert!(health(&server).starts_with("HTTP/1.1 200"));
    assert!(limit_files(&server, &(SEGMENT + 4096).to_string()));
    let value = "v".repeat(SEGMENT - 4096);
    let mut refused = (0..20_000).map(|_| client.run(&["SET", "a", &value]));
    let refused = refused.find(|reply| *reply != Reply::ok());
    let text = refused.expect("no write failed").error();
    assert!(text.starts_with("MISCONF Poisoned: "), "{text}");
    assert!(matches!(client.say("GET a"), Reply::Bulk(_)), "reads go on");
    assert!(health(&server).starts_with("HTTP/1.1 503"));
    let stats = client.say("TOYKV STATS").items();
    let at = stats.iter().position(|item| *item == Reply::bulk("poisoned")).unwrap();
    assert!(stats[at + 1].clone().text().contains("MANIFEST"), "{stats:?}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let address = format!("http://{}", server.grpc.unwrap());
        let channel = tonic::transport::Endpoint::new(address).unwrap().connect().await.unwrap();
        let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
        for service in ["", "toykv.v1.Toykv"] {
            // Told a moment later.
            let wanted = tonic_health::ServingStatus::NotServing as i32;
            let start = Instant::now();
            loop {
                let ask = tonic_health::pb::HealthCheckRequest { service: service.into() };
                if health.check(ask).await.unwrap().into_inner().status == wanted {
                    break;
                }
                assert!(start.elapsed() < PATIENCE, "{service:?} is told to be well");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    });
    check_no_part_of_the_replies(&server);
}

/// Commands that fail together find no memory for their replies: the client is closed, since it
/// would take one reply for another if some were missing.
fn check_no_part_of_the_replies(server: &Process) {
    let mut hog = server.connect();
    hog.send(b"*2\r\n$4\r\nECHO\r\n$60000000\r\n");
    hog.send(&[b'h'; 140_000]);
    let mut client = server.connect();
    let used = |client: &mut Client| {
        let info = client.say("INFO memory").text();
        let line = info.lines().find_map(|line| line.strip_prefix("client_buffer_bytes:"));
        line.unwrap().parse::<u64>().unwrap()
    };
    let start = Instant::now();
    while used(&mut client) < 190_000 {
        assert!(start.elapsed() < PATIENCE, "the memory is not taken");
        thread::sleep(Duration::from_millis(1));
    }
    const COUNT: usize = 600;
    let pipeline = [encode(&["SET", "", ""]).repeat(COUNT), encode(&["PING"])].concat();
    // Tried again where it comes in parts that are small enough.
    let closed = (0..100).any(|_| {
        let mut client = server.connect();
        client.send(&pipeline);
        let mut replies = Vec::new();
        while let Some(reply) = client.try_reply() {
            if reply == Reply::Simple("PONG".into()) {
                assert_eq!(replies.len(), COUNT, "replies are missing");
                return false;
            }
            assert!(reply.clone().error().starts_with("MISCONF Poisoned"), "{reply:?}");
            replies.push(reply);
        }
        true
    });
    assert!(closed, "600 replies of errors found room");
}

#[test]
fn a_long_value_of_bytes_is_not_written_out_where_it_has_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("db"), &["--limit", "reply_bytes=1000000"]);
    let mut client = server.connect();
    client.run(&[&b"SET"[..], b"a", &vec![0xff; 50_000_000]]);
    let before = server.peak_kib();
    let mut person = server.connect();
    for line in ["GET a\n", "SCAN\n"] {
        person.send(line.as_bytes());
        assert_eq!(person.line().as_deref(), Some("error: the answer is too long: use LIMIT"));
    }
    // The value itself is mapped; written out it would take four times as much.
    let grown = server.peak_kib().saturating_sub(before);
    println!("{grown} KiB more");
    assert!(grown < 80_000, "{grown} KiB");
}

/// What one client sent last, and what of it was acknowledged.
#[derive(Default)]
struct Oracle {
    sent: AtomicU64,
    acknowledged: AtomicU64,
}

const WRITERS: usize = 4;

/// A way to store; `None` when the server has died.
type Put = Box<dyn FnMut(&str, &str) -> Option<()> + Send>;

/// Writes numbers until the server dies.
fn write_on(mut put: Put, key: &str, oracle: &Oracle, total: &AtomicU64) {
    loop {
        let number = oracle.sent.load(Ordering::SeqCst) + 1;
        oracle.sent.store(number, Ordering::SeqCst);
        if put(key, &number.to_string()).is_none() {
            return;
        }
        oracle.acknowledged.store(number, Ordering::SeqCst);
        total.fetch_add(1, Ordering::SeqCst);
    }
}

fn put_by_resp(server: &Process) -> Put {
    let mut client = server.connect();
    Box::new(move |key, value| {
        let command = encode(&["SET", key, value]);
        std::io::Write::write_all(&mut client.stream, &command).ok()?;
        assert_eq!(client.try_reply()?, Reply::ok());
        Some(())
    })
}

/// The durability is the call's own; the server has another one.
fn put_by_grpc(server: &Process, durability: toykv_server::proto::Durability) -> Put {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let address = format!("http://{}", server.grpc.unwrap());
    let endpoint = tonic::transport::Endpoint::new(address).unwrap();
    let channel = runtime.block_on(endpoint.connect()).unwrap();
    let mut client = toykv_server::proto::toykv_client::ToykvClient::new(channel);
    Box::new(move |key, value| {
        let (key, value) = (key.to_owned().into(), value.to_owned().into());
        let durability = durability.into();
        let request = toykv_server::proto::PutRequest { key, value, durability };
        runtime.block_on(client.put(request)).ok().map(drop)
    })
}

/// `TOYKV_KILLS=100` makes it long.
fn check_kills(durability: &str, each: u64, connect: impl Fn(&Process) -> Put) {
    let kills = std::env::var("TOYKV_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("db");
    let oracles: Arc<Vec<Oracle>> = Arc::new((0..WRITERS).map(|_| Oracle::default()).collect());
    let options = [
        "--grpc",
        "127.0.0.1:0",
        "--durability",
        durability,
        "--option",
        "memtable_size_bytes=64KiB",
    ];
    let options = [&options[..], &["--option", "backlog_limit_bytes=1MiB"]].concat();
    for round in 0..=kills {
        let mut server = Process::start(&dir, &options);
        let mut reader = server.connect();
        for (writer, oracle) in oracles.iter().enumerate() {
            let found: u64 = match reader.say(&format!("GET w{writer}")) {
                Reply::Null => 0,
                value => value.text().parse().unwrap(),
            };
            let acknowledged = oracle.acknowledged.load(Ordering::SeqCst);
            let sent = oracle.sent.load(Ordering::SeqCst);
            assert!((acknowledged..=sent).contains(&found), "{acknowledged} {found} {sent}");
            oracle.sent.store(found, Ordering::SeqCst);
        }
        if round == kills {
            break;
        }
        let total = Arc::new(AtomicU64::new(0));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (put, oracles) = (connect(&server), Arc::clone(&oracles));
                let total = Arc::clone(&total);
                let key = format!("w{writer}");
                thread::spawn(move || write_on(put, &key, &oracles[writer], &total))
            })
            .collect();
        while total.load(Ordering::SeqCst) < each + round {
            thread::sleep(Duration::from_millis(1));
        }
        server.child.kill().unwrap();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    check_kills("interval", 5000, put_by_resp);
}

#[test]
fn what_was_acknowledged_at_sync_survives_kill_9() {
    check_kills("sync", 50, put_by_resp);
}

#[test]
fn what_was_acknowledged_by_grpc_survives_kill_9() {
    use toykv_server::proto::Durability;
    check_kills("process", 500, |server| put_by_grpc(server, Durability::Unspecified));
    check_kills("process", 50, |server| put_by_grpc(server, Durability::Sync));
}

#[test]
fn sigterm_lets_clients_finish_and_exits_with_0() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("db");
    let server = Process::start(&dir, &["--durability", "sync"]);
    let mut idle = server.connect();
    assert_eq!(idle.say("PING"), Reply::Simple("PONG".into()));
    let mut busy = server.connect();
    let pipeline: Vec<u8> =
        (0..20_000).flat_map(|n| encode(&["SET", &format!("k{n}"), "v"])).collect();
    let mut sender = busy.stream.try_clone().unwrap();
    let sending = thread::spawn(move || std::io::Write::write_all(&mut sender, &pipeline).is_ok());
    assert_eq!(busy.reply(), Reply::ok());
    let start = Instant::now();
    server.terminate();
    let mut acknowledged = 1;
    while let Some(reply) = busy.try_reply() {
        assert_eq!(reply, Reply::ok());
        acknowledged += 1;
    }
    let _ = sending.join();
    assert!(idle.is_closed());
    let (status, log) = server.wait();
    // Five seconds and what a slow machine takes to close.
    assert!(start.elapsed() < PATIENCE);
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("\"closed\""), "{log}");
    let db = toykv::Db::open(&dir, &toykv::Options::new()).unwrap();
    for n in 0..acknowledged {
        assert!(db.contains(format!("k{n}").as_bytes()).unwrap(), "{n} of {acknowledged}");
    }
}

#[test]
fn a_client_that_does_not_read_delays_the_end_by_seconds_only() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("db"), &[]);
    let mut bad = server.connect();
    bad.run(&["SET", "a", &"v".repeat(1_000_000)]);
    bad.send(&encode(&["GET", "a"]).repeat(100));
    server.terminate();
    let start = Instant::now();
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    // Five seconds and what a slow machine takes to close.
    assert!(start.elapsed() < PATIENCE);
}

/// Comparing all keys with the pattern takes minutes; a key, a moment.
#[test]
fn a_long_command_delays_the_end_by_seconds_only() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("db"), &[]);
    let mut busy = server.connect();
    slow_keys(&mut busy, 1000);
    let mut good = server.connect();
    let ask = ["INFO", "stats"];
    let received = |good: &mut Client| {
        let info = good.run(&ask).text();
        let line = info.lines().find_map(|line| line.strip_prefix("total_net_input_bytes:"));
        line.unwrap().parse::<usize>().unwrap()
    };
    let command = encode(&["KEYS", SLOW_PATTERN]);
    let mut expected = received(&mut good) + command.len();
    busy.send(&command);
    // Until the command has come, beside the good client's own questions.
    loop {
        expected += encode(&ask).len();
        if received(&mut good) >= expected {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    server.terminate();
    let start = Instant::now();
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    // Five seconds and what a slow machine takes to compare a key and to close.
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
}

#[test]
fn a_client_may_end_the_server_and_a_second_server_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("db");
    let server = Process::start(&dir, &[]);
    let second = Command::new(env!("CARGO_BIN_EXE_toykv-server"))
        .args(["--listen", "127.0.0.1:0", "--dir"])
        .arg(&dir)
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    server.connect().send(&encode(&["SHUTDOWN"]));
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn slow_commands_are_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    // Everything is slow.
    let arguments = ["--slow-ms", "0", "--grpc", "127.0.0.1:0"];
    let server = Process::start(&dir.path().join("db"), &arguments);
    let mut client = server.connect();
    client.say("SET a 1");
    client.say("NONSENSE");
    let mut person = server.connect();
    person.send(b"DELETE a\n");
    assert_eq!(person.line().as_deref(), Some("success"));
    put_by_grpc(&server, toykv_server::proto::Durability::Unspecified)("a", "1").unwrap();
    server.terminate();
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    let slow: Vec<&str> = log.lines().filter(|l| l.contains("\"target\":\"slow\"")).collect();
    for command in ["SET", "(unknown)", "DEL", "/toykv.v1.Toykv/Put"] {
        let command = format!("\"command\":\"{command}\"");
        assert!(slow.iter().any(|line| line.contains(&command)), "{command} in {slow:?}");
    }
}

/// `TOYKV_CONNECTIONS=10000` makes it long.
#[test]
fn connections_leave_nothing_behind() {
    let count = std::env::var("TOYKV_CONNECTIONS").ok().and_then(|n| n.parse().ok());
    let count: usize = count.unwrap_or(1000);
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("db"), &[]);
    let mut steady = server.connect();
    let once = |n: usize| {
        let mut client = server.connect();
        match n % 4 {
            0 => drop(client.say("PING")),
            1 => client.send(b"GET a\n"),
            2 => client.send(b"*1\r\n$400000\r\nabc"),
            _ => {}
        }
    };
    (0..count / 4).for_each(once);
    let settle = |steady: &mut Client| {
        // Who is answered has been accepted, and so has everybody before.
        assert_eq!(server.connect().say("PING"), Reply::Simple("PONG".into()));
        while !steady.say("INFO clients").text().contains("connected_clients:1\r\n") {
            thread::yield_now();
        }
    };
    settle(&mut steady);
    let (memory, descriptors) = (server.resident_kib(), server.descriptors());
    (0..count).for_each(once);
    settle(&mut steady);
    assert_eq!(server.descriptors(), descriptors);
    let grown = server.resident_kib().saturating_sub(memory);
    println!("{count} connections: {grown} KiB more, {descriptors} descriptors");
    assert!(grown < 4096, "{grown} KiB for {count} connections");
}

#[test]
fn unfinished_commands_take_no_more_memory_than_the_budget() {
    let dir = tempfile::tempdir().unwrap();
    let budget = 16 << 20;
    let limit = format!("buffer_bytes={budget}");
    let server = Process::start(&dir.path().join("db"), &["--limit", &limit]);
    assert_eq!(server.connect().say("PING"), Reply::Simple("PONG".into()));
    let before = server.resident_kib();
    let part = [&b"*2\r\n$4\r\nECHO\r\n$60000000\r\n"[..], &vec![b'v'; 3_000_000]].concat();
    let mut clients: Vec<Client> = (0..100).map(|_| server.connect()).collect();
    for client in &mut clients {
        // Most are refused while they still send.
        let _ = std::io::Write::write_all(&mut client.stream, &part);
    }
    let grown = server.resident_kib().saturating_sub(before) * 1024;
    // What every connection may take, and some for the allocator.
    let bound = budget + 100 * 3 * 65_536 + (16 << 20);
    println!("{grown} bytes more, at most {bound}");
    assert!(grown < bound, "{grown} of {bound}");
    assert_eq!(server.connect().say("PING"), Reply::Simple("PONG".into()));
}
