//! The status port, with plain HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;

use toykv_server::Secret;

use crate::support::{PATIENCE, Running, any_port, start};

/// The whole answer to one request.
fn request(server: &Running, text: &str) -> String {
    let mut stream = TcpStream::connect(server.http.unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

fn get(server: &Running, path: &str) -> String {
    request(server, &format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"))
}

#[test]
fn the_page_and_what_it_shows() {
    let server = start(|config| config.http = Some(any_port()));
    let mut client = server.connect();
    client.say("SET a 1");
    (0..5).for_each(|_| drop(client.say("GET a")));
    client.say("NONSENSE");
    let page = get(&server, "/");
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("<!doctype html>"));
    assert!(page.contains("content-security-policy: default-src 'none'"));
    let status = get(&server, "/status.json");
    let (_, json) = status.split_once("\r\n\r\n").unwrap();
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(json["keys"], 1);
    assert_eq!(json["commands"]["GET"], 5);
    assert_eq!(json["errors"], 1);
    assert_eq!(json["poisoned"], serde_json::Value::Null);
    let counted: u64 =
        json["latency"].as_array().unwrap().iter().map(|b| b[1].as_u64().unwrap()).sum();
    assert_eq!(counted, 7);
    assert_eq!(json["runs"], serde_json::json!([]));
    assert!(json["explained"]["total_bytes"].as_u64().unwrap() > 0);
    let metrics = get(&server, "/metrics");
    for line in [
        "toykv_commands_total{command=\"GET\"} 5",
        "toykv_keys 1",
        "toykv_clients 1",
        "toykv_errors_total 1",
        "toykv_command_duration_seconds_count 7",
        "# TYPE toykv_syncs_total counter",
    ] {
        assert!(metrics.lines().any(|found| found == line), "no {line} in {metrics}");
    }
    // The lines dialect counts among the same commands.
    let mut person = server.connect();
    person.send(b"GET a\nDELETE a\nCOUNT\nFROB\n");
    (0..4).for_each(|_| drop(person.line()));
    let metrics = get(&server, "/metrics");
    for line in [
        "toykv_commands_total{command=\"GET\"} 6",
        "toykv_commands_total{command=\"DEL\"} 1",
        "toykv_commands_total{command=\"DBSIZE\"} 1",
        "toykv_commands_total{command=\"unknown\"} 2",
    ] {
        assert!(metrics.lines().any(|found| found == line), "no {line} in {metrics}");
    }
    assert!(get(&server, "/health").ends_with("\r\n\r\nok"));
    assert!(get(&server, "/nonsense").starts_with("HTTP/1.1 404"));
    let post = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    assert!(request(&server, post).starts_with("HTTP/1.1 405"));
}

#[test]
fn clients_that_never_read_or_never_ask_leave_the_port_to_others() {
    let server = start(|config| {
        config.http = Some(any_port());
        config.limits.http_connections = 2;
        config.limits.send_seconds = 1;
        config.limits.idle_seconds = 4;
    });
    let connect = || {
        let stream = TcpStream::connect(server.http.unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    // The page again and again, more than the sockets between hold, until the server has enough.
    let mut greedy = connect();
    let page = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(100);
    let error = loop {
        if let Err(error) = greedy.write_all(&page) {
            break error;
        }
    };
    assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "the server waits on");
    let mut quiet = connect();
    quiet.write_all(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // Answered, then closed by the server, reset where it had more to say.
    let ended = quiet
        .read_to_end(&mut answer)
        .map_or_else(|error| error.kind() == std::io::ErrorKind::ConnectionReset, |_| true);
    assert!(ended && answer.ends_with(b"ok"), "{}", String::from_utf8_lossy(&answer));
    assert!(get(&server, "/health").ends_with("ok"));
}

#[test]
fn one_connection_too_many_is_closed() {
    let server = start(|config| {
        config.http = Some(any_port());
        config.limits.http_connections = 2;
    });
    let ask = || {
        let mut stream = TcpStream::connect(server.http.unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.write_all(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n");
        let mut answer = [0; 12];
        let answered = match stream.read_exact(&mut answer) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("no answer"),
            read => read.is_ok() && answer == *b"HTTP/1.1 200",
        };
        (stream, answered)
    };
    let held = [ask(), ask()];
    assert!(held.iter().all(|(_, answered)| *answered));
    (0..3).for_each(|_| assert!(!ask().1, "one more was served"));
    drop(held);
    // The places become free a moment later.
    assert!((0..10_000).any(|_| ask().1));
}

#[test]
fn the_password_is_asked_for_and_long_heads_are_refused() {
    let server = start(|config| {
        config.http = Some(any_port());
        config.secret = Secret::new("hunter2");
        config.limits.header_seconds = 1;
    });
    assert!(get(&server, "/metrics").starts_with("HTTP/1.1 401"));
    assert!(get(&server, "/health").starts_with("HTTP/1.1 200"));
    let with = |header: &str| {
        let head = "GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n";
        request(&server, &format!("{head}authorization: {header}\r\n\r\n"))
    };
    assert!(with("Bearer hunter2").starts_with("HTTP/1.1 200"));
    assert!(with("Basic YTpodW50ZXIy").starts_with("HTTP/1.1 200"));
    assert!(with("Basic YTpodW50ZXIz").starts_with("HTTP/1.1 401"));
    let long = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", "a".repeat(30_000));
    let mut stream = TcpStream::connect(server.http.unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stream.write_all(long.as_bytes());
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{read:?}");
    // A head that never ends.
    let mut slow = TcpStream::connect(server.http.unwrap()).unwrap();
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nmore-than-the-beginning: x\r\n").unwrap();
    let _ = slow.read_to_end(&mut answer);
}
