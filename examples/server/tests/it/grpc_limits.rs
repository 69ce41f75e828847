//! gRPC's limits, each with a client that does not keep it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Bound;
use std::time::Duration;

use tokio_stream::StreamExt;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic::{Code, Request};
use toykv_server::Secret;
use toykv_server::proto::toykv_client::ToykvClient;
use toykv_server::proto::{
    BatchWriteRequest, GetResponse, ScanRequest, VerifyRequest, Write as WriteMessage,
};

use crate::grpc::{calls, connect, end, get, keys, put, serve};
use crate::support::{PATIENCE, Running, any_port, start};

/// A raw HTTP/2 client: the preface, its settings, and whatever else.
pub(crate) fn raw(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The server may already have closed.
    let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let _ = stream.write_all(bytes);
    stream
}

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The head of a call of Get.
fn head() -> Vec<u8> {
    head_of("/toykv.v1.Toykv/Get")
}

/// The head of a call, in HPACK without compression.
pub(crate) fn head_of(path: &str) -> Vec<u8> {
    let mut block = Vec::new();
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    for (name, value) in fields {
        block.extend([0, name.len() as u8]);
        block.extend(name.bytes());
        block.push(value.len() as u8);
        block.extend(value.bytes());
    }
    block
}

fn check_good(server: &Running) {
    calls(async {
        let mut client = connect(server).await;
        client.put(put("good", "1")).await.unwrap();
    });
}

/// What is no GetRequest: its field 1 is a number.
#[derive(Clone, PartialEq, prost::Message)]
struct NoRequest {
    #[prost(uint64, tag = "1")]
    key: u64,
}

#[test]
fn malformed_messages_and_frames_hurt_nobody() {
    let server = serve();
    let address = server.grpc.unwrap();
    let head = frame(1, 4, 1, &head());
    let messages: [&[u8]; 5] = [
        &[0, 0, 0, 0, 3, 0xff, 0xff, 0xff],
        &[0, 0xff, 0xff, 0xff, 0xff, 1],
        &[1, 0, 0, 0, 1, 0],
        &[0, 0, 0, 0, 2, 0x0a, 0x7f],
        &[7; 40],
    ];
    for message in messages {
        let call = [&head[..], &frame(0, 1, 1, message)].concat();
        let mut stream = raw(address, &call);
        let mut answer = [0; 64];
        // Settings at least; a call that is no call never goes unanswered.
        assert!(stream.read(&mut answer).unwrap() > 0);
    }
    for garbage in [&[0xff; 400][..], b"GET / HTTP/1.1\r\n\r\n", &frame(9, 0, 1, &[0; 9])] {
        let mut stream = raw(address, garbage);
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let reset = |error: std::io::Error| error.kind() == std::io::ErrorKind::ConnectionReset;
        assert!(read.map_or_else(reset, |_| true), "the server keeps {garbage:?}");
    }
    check_good(&server);
}

/// The next frame: its kind, its stream, its payload; `None` at the end.
pub(crate) fn next_frame(stream: &mut TcpStream) -> Option<(u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    match stream.read_exact(&mut head) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("no frame comes"),
        read => read.ok()?,
    }
    let number = |bytes: &[u8]| bytes.iter().fold(0, |all, byte| all << 8 | u32::from(*byte));
    let mut payload = vec![0; number(&head[..3]) as usize];
    stream.read_exact(&mut payload).ok()?;
    Some((head[3], number(&head[5..]), payload))
}

const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

#[test]
fn more_calls_at_a_time_than_may_be_are_refused() {
    let server = start(|config| {
        config.grpc = Some(any_port());
        config.limits.grpc_streams = 2;
    });
    let mut stream = raw(server.grpc.unwrap(), b"");
    // The server's settings, then three calls whose requests do not come.
    while next_frame(&mut stream).unwrap().0 != 4 {}
    stream.write_all(&frame(4, 1, 0, &[])).unwrap();
    let head = head();
    for id in [1, 3, 5] {
        stream.write_all(&frame(1, 4, id, &head)).unwrap();
    }
    let refused = loop {
        let (kind, id, payload) = next_frame(&mut stream).unwrap();
        if kind == RST_STREAM {
            break (id, payload);
        }
    };
    assert_eq!(refused, (5, vec![0, 0, 0, 7]), "REFUSED_STREAM");
    check_good(&server);
}

#[test]
fn an_old_connection_is_ended_and_its_client_goes_on() {
    let server = start(|config| {
        config.grpc = Some(any_port());
        config.limits.grpc_age_seconds = 1;
    });
    let mut stream = raw(server.grpc.unwrap(), &frame(4, 1, 0, &[]));
    // The server asks after 30 seconds whether the client is still there. It is, so that nothing
    // but its age ends the connection; one question may come first when the machine stands still.
    let mut questions = 0;
    let why = loop {
        match next_frame(&mut stream).expect("ended without a word") {
            (GOAWAY, _, payload) => break payload[4..8].to_vec(),
            (PING, _, payload) => {
                questions += 1;
                assert!(questions < 2, "the server keeps an old connection");
                stream.write_all(&frame(PING, 1, 0, &payload)).unwrap();
            }
            _ => {}
        }
    };
    assert_eq!(why, [0; 4], "NO_ERROR");
    let mut other = server.connect();
    for n in 0..20 {
        other.run(&["SET", &format!("k{n:02}"), &"v".repeat(50_000)]);
    }
    calls(async {
        // A scan goes on over the end of its connection's time. One that comes too late to this
        // connection begins again on another.
        let mut client = connect(&server).await;
        let mut scan = loop {
            match client.scan(ScanRequest::default()).await {
                Ok(stream) => break stream.into_inner(),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let mut keys = scan.next().await.unwrap().unwrap().entries.len();
        tokio::time::sleep(Duration::from_secs(2)).await;
        // On a new connection.
        while client.get(get("k00")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        while let Some(message) = scan.next().await {
            keys += message.unwrap().entries.len();
        }
        assert_eq!(keys, 20);
    });
}

#[test]
fn a_flood_of_resets_is_ended() {
    let server = serve();
    let head = head();
    let mut flood = Vec::new();
    for n in 0..5000u32 {
        let id = 2 * n + 1;
        flood.extend(frame(1, 4, id, &head));
        flood.extend(frame(3, 0, id, &8u32.to_be_bytes()));
    }
    let mut stream = raw(server.grpc.unwrap(), &flood);
    // The server says GOAWAY, or cuts the connection in the middle of it. If it went on, it would
    // ask later whether the client is still there, and end the connection without an answer.
    while let Some((kind, _, _)) = next_frame(&mut stream) {
        assert_ne!(kind, PING, "the server goes on");
        if kind == GOAWAY {
            break;
        }
    }
    check_good(&server);
}

#[test]
fn one_connection_too_many_is_closed_and_the_others_are_served() {
    let server = start(|config| {
        config.grpc = Some(any_port());
        config.limits.grpc_connections = 2;
    });
    calls(async {
        let (mut first, mut second) = (connect(&server).await, connect(&server).await);
        first.put(put("a", "1")).await.unwrap();
        second.put(put("b", "2")).await.unwrap();
        for _ in 0..3 {
            let mut third = raw(server.grpc.unwrap(), b"");
            let mut answer = Vec::new();
            let read = third.read_to_end(&mut answer);
            let silent = read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
            assert!(!silent && answer.is_empty(), "{answer:?}");
        }
        first.get(get("b")).await.unwrap();
        drop(second);
        // The place becomes free a moment later.
        loop {
            let address = format!("http://{}", server.grpc.unwrap());
            let Ok(channel) = Endpoint::new(address).unwrap().connect().await else { continue };
            if ToykvClient::new(channel).get(get("a")).await.is_ok() {
                break;
            }
        }
    });
}

#[test]
fn connections_where_nothing_moves_are_closed() {
    let server = start(|config| {
        config.grpc = Some(any_port());
        config.limits.grpc_connections = 2;
        config.limits.idle_seconds = 4;
    });
    let start = std::time::Instant::now();
    let wait = async || {
        assert!(start.elapsed() < 2 * PATIENCE, "the server keeps connections where nothing moves");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    calls(async {
        // One that is quiet but answers the server's pings, and one that does not read on.
        let mut quiet = connect(&server).await;
        for n in 0..200 {
            quiet.put(put(&format!("k{n:03}"), &"v".repeat(50_000))).await.unwrap();
        }
        let mut stuck = connect(&server).await;
        let mut stream = stuck.scan(ScanRequest::default()).await.unwrap().into_inner();
        assert!(stream.next().await.unwrap().is_ok());
        // Both places become free: two others are taken at the same time, and stay taken.
        let mut others = Vec::new();
        while others.len() < 2 {
            let address = format!("http://{}", server.grpc.unwrap());
            if let Ok(channel) = Endpoint::new(address).unwrap().connect().await {
                let mut other = ToykvClient::new(channel);
                if other.get(get("k000")).await.is_ok() {
                    others.push(other);
                    continue;
                }
            }
            for other in &mut others {
                other.get(get("k000")).await.unwrap();
            }
            wait().await;
        }
        let ended = end(stream).await.unwrap_err();
        assert_ne!(ended.code(), Code::Ok, "the scan was cut off");
        drop(others);
        // A client connects anew by itself.
        while quiet.get(get("k000")).await.is_err() {
            wait().await;
        }
    });
}

#[test]
fn calls_without_the_token_keep_no_connection() {
    let server = start(|config| {
        config.grpc = Some(any_port());
        config.secret = Secret::new("hunter2");
        config.limits.idle_seconds = 2;
    });
    let mut stream = raw(server.grpc.unwrap(), &frame(4, 1, 0, &[]));
    stream.set_nonblocking(true).unwrap();
    // The one service that answers strangers.
    let (head, start) = (head_of("/grpc.health.v1.Health/Check"), std::time::Instant::now());
    for id in (1..).step_by(2) {
        let call = [frame(1, 4, id, &head), frame(0, 1, id, &[0; 5])].concat();
        let _ = stream.write_all(&call);
        match stream.read(&mut [0; 4096]) {
            Ok(0) => break,
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => break,
            _ => assert!(start.elapsed() < PATIENCE, "a stranger stays"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_message_that_is_none_is_answered_and_the_connection_goes_on() {
    let server = serve();
    calls(async {
        let address = format!("http://{}", server.grpc.unwrap());
        let channel = Endpoint::new(address).unwrap().connect().await.unwrap();
        let mut grpc = tonic::client::Grpc::new(channel.clone());
        grpc.ready().await.unwrap();
        let path = PathAndQuery::from_static("/toykv.v1.Toykv/Get");
        let codec = tonic_prost::ProstCodec::<NoRequest, GetResponse>::default();
        let answer = grpc.unary(Request::new(NoRequest { key: 7 }), path, codec).await;
        let status = answer.unwrap_err();
        assert_eq!(status.code(), Code::Internal, "{status:?}");
        assert!(status.message().contains("decode"), "{status:?}");
        grpc.ready().await.unwrap();
        let path = PathAndQuery::from_static("/toykv.v1.Toykv/Frob");
        let codec = tonic_prost::ProstCodec::<NoRequest, GetResponse>::default();
        let answer = grpc.unary(Request::new(NoRequest { key: 7 }), path, codec).await;
        assert_eq!(answer.unwrap_err().code(), Code::Unimplemented);
        assert!(ToykvClient::new(channel).get(get("a")).await.is_ok());
    });
}

#[test]
fn silent_connections_are_closed() {
    let server = start(|config| {
        config.grpc = Some(any_port());
        config.limits.header_seconds = 1;
    });
    let address = server.grpc.unwrap();
    let mut silent: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
    silent[1].write_all(b"PRI * HT").unwrap();
    for stream in &mut silent {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let silent = read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!silent, "the server waits on");
    }
    check_good(&server);
}

#[test]
fn requests_take_their_part_of_the_memory_of_all_clients() {
    let server = start(|config| {
        config.grpc = Some(any_port());
        config.limits.buffer_bytes = 1 << 20;
    });
    calls(async {
        let mut client = connect(&server).await;
        client.put(put("a", &"v".repeat(400_000))).await.unwrap();
        let error = client.put(put("a", &"v".repeat(600_000))).await.unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted, "{error:?}");
        // Many writes of which each says nothing become much more than they are.
        let writes = vec![WriteMessage { operation: None }; 100_000];
        let error = client.batch_write(BatchWriteRequest { writes, durability: 0 }).await;
        assert_eq!(error.unwrap_err().code(), Code::ResourceExhausted);
        // All of it was given back.
        for _ in 0..10 {
            client.put(put("a", &"v".repeat(400_000))).await.unwrap();
            client.get(get("a")).await.unwrap();
        }
    });
}

#[test]
fn messages_have_a_largest_size() {
    let server = start(|config| {
        config.grpc = Some(any_port());
        config.limits.grpc_message_bytes = 100_000;
    });
    calls(async {
        let mut client = connect(&server).await;
        client.put(put("a", &"v".repeat(90_000))).await.unwrap();
        client.put(put("b", &"v".repeat(90_000))).await.unwrap();
        let error = client.put(put("c", &"v".repeat(100_000))).await.unwrap_err();
        assert_eq!(error.code(), Code::OutOfRange, "{error:?}");
        assert!(error.message().contains("100000"), "{error:?}");
        assert_eq!(keys(&mut client, ScanRequest::default()).await, ["a", "b"]);
        // What came on another way.
        let mut other = server.connect();
        other.run(&["SET", "c", &"v".repeat(100_000)]);
        let error = client.get(get("c")).await.unwrap_err();
        assert_eq!(error.code(), Code::OutOfRange, "{error:?}");
        assert!(error.message().contains("the limit is 100000"), "{error:?}");
        let scan = client.scan(ScanRequest::default()).await.unwrap().into_inner();
        let error = end(scan).await.unwrap_err();
        assert!(error.message().contains("the limit is 100000"), "{error:?}");
    });
}

/// A database of keys of 2000 bytes with one place of damage in its largest table.
#[expect(clippy::disallowed_methods, reason = "damage comes from outside")]
fn damaged() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let db = toykv::Db::open(dir.path(), &toykv::Options::new()).unwrap();
    for n in 0..3000 {
        db.put(format!("{n:02000}").as_bytes(), &[7; 40]).unwrap();
    }
    db.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
    db.close().unwrap();
    let files = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path());
    let tables = files.filter(|path| path.extension().is_some_and(|kind| kind == "table"));
    let table = tables.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&table).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&table, bytes).unwrap();
    dir
}

/// What a search found tells keys, which are no values.
#[test]
fn what_is_told_of_damage_has_a_largest_size() {
    let dir = damaged();
    // Room for both keys of a place, and for none.
    for (limit, code) in [(10_000, Code::Ok), (1_024, Code::OutOfRange)] {
        let server = start(|config| {
            config.grpc = Some(any_port());
            config.dir = dir.path().to_path_buf();
            config.limits.grpc_message_bytes = limit;
        });
        calls(async {
            let mut client = connect(&server).await;
            let parts = client.verify(VerifyRequest {}).await.unwrap().into_inner();
            let ended = end(parts).await.map_or_else(|status| status.code(), |()| Code::Ok);
            assert_eq!(ended, code, "{limit} bytes a message");
            assert!(client.get(get("a")).await.is_ok());
        });
    }
}
