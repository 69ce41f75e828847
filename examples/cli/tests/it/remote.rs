//! A server that is not toykv-server, or does something wrong; the real one is in `places`.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::fake::{Manner, start};
use crate::harness::{Place, fail, program, run, succeed};

/// The program on a server.
fn remote(address: std::net::SocketAddr, args: &[&str]) -> Command {
    let mut command = program();
    command.arg("--server").arg(address.to_string()).args(args);
    command
}

#[test]
fn single_keys_and_scans() {
    let server = start(Manner::Good);
    let ok = |args: &[&str]| String::from_utf8(succeed(&mut remote(server, args), b"")).unwrap();
    assert_eq!(ok(&["set", "1", "Hello, World!"]), "");
    assert_eq!(ok(&["get", "1"]), "Hello, World!\n");
    let all: Vec<u8> = (0..=255).collect();
    succeed(&mut remote(server, &["set", r"\x00\xff", "-"]), &all);
    assert_eq!(succeed(&mut remote(server, &["get", r"\0\xff", "--raw"]), b""), all);
    assert_eq!(ok(&["len"]), "2\n");
    assert_eq!(ok(&["remove", "1"]), "");
    let (code, message) = fail(&mut remote(server, &["get", "1"]), b"");
    assert_eq!((code, &message[..]), (1, "toykv: no value stored under 1\n"));
    assert_eq!(ok(&["stats"]), "keys\t1\nsegment_bytes\t7\npoisoned\t-\n");
    // More keys than one page of a SCAN has.
    let csv: String = (0..2500).map(|n| format!("key{n:04},v{n}\n")).collect();
    let import = remote(server, &["import", "-", "--no-header"]);
    succeed(&mut { import }, csv.as_bytes());
    let keys = |args: &[&str]| {
        let text = ok(&[&["scan", "-k"], args].concat());
        text.split_terminator('\n').map(str::to_owned).collect::<Vec<_>>()
    };
    let expected: Vec<String> = (0..2500).map(|n| format!("key{n:04}")).collect();
    assert_eq!(keys(&["key"]), expected);
    assert_eq!(keys(&["--prefix", "key1", "-n", "2"]), ["key1000", "key1001"]);
    assert_eq!(keys(&["key0999", "key1001"]), ["key0999", "key1000"]);
    assert_eq!(keys(&["--reverse", "-n", "2"]), ["key2499", "key2498"]);
    assert_eq!(keys(&["key0000", "key1500", "-r", "-n", "1"]), ["key1499"]);
    let descending: Vec<String> = expected.into_iter().rev().collect();
    assert_eq!(keys(&["key", "--reverse"]), descending);
    assert_eq!(ok(&["scan", "key2499"]), "key2499\tv2499\n");
}

#[test]
fn a_dump_goes_from_a_directory_to_a_server_and_back() {
    let place = Place::new();
    let csv: String = (0..3000u32).map(|n| format!("{:08x},{n:x}\n", n * 77_777)).collect();
    succeed(&mut place.toykv(&["import", "-", "--no-header"]), csv.as_bytes());
    place.ok(&["set", r"\xff\x00", r"\n\x00"]);
    let dump = place.ok(&["dump"]);
    let server = start(Manner::Good);
    succeed(&mut remote(server, &["load"]), &dump);
    let output = run(&mut remote(server, &["dump"]), b"");
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("no frozen state"));
    assert_eq!(output.stdout, dump);
}

#[test]
fn the_shell_speaks_to_a_server() {
    let server = start(Manner::Good);
    let text = b"SET key \"a value\"\nGET key\nSCAN\nDELETE key\nGET key\nLEN\n";
    let answers = succeed(&mut remote(server, &["shell"]), text);
    let expected = "success\na value\nkey\ta value\nsuccess\nno value stored under key\n0\n";
    assert_eq!(String::from_utf8(answers).unwrap(), expected);
    // Also when the environment names the server.
    let mut shell = program();
    shell.arg("shell").env("TOYKV_SERVER", server.to_string());
    assert_eq!(succeed(&mut shell, b"len\n"), b"0\n");
}

#[test]
fn passwords() {
    let server = start(Manner::Locked);
    let place = Place::new();
    let file = place.write("password", b"secret\nanother line");
    let (code, message) = fail(&mut remote(server, &["len"]), b"");
    assert_eq!(code, 14, "{message}");
    let wrong = fail(remote(server, &["len"]).env("TOYKV_PASSWORD", "wrong"), b"");
    assert_eq!(wrong.0, 14, "{}", wrong.1);
    assert!(wrong.1.contains("no such password"), "{}", wrong.1);
    // A password where there is none: what the server says about it is told.
    let surplus = fail(remote(start(Manner::Good), &["len"]).env("TOYKV_PASSWORD", "x"), b"");
    assert_eq!(surplus.0, 14, "{}", surplus.1);
    assert!(surplus.1.contains("no password is configured"), "{}", surplus.1);
    succeed(remote(server, &["len"]).env("TOYKV_PASSWORD", "secret"), b"");
    succeed(remote(server, &["len", "--password-file"]).arg(file), b"");
}

#[test]
fn what_a_server_does_wrong_is_told() {
    let cases: &[(Manner, &[&str], i32, &str)] = &[
        (Manner::ReadOnly, &["set", "a", "b"], 6, "opened for reading"),
        (Manner::Foreign, &["get", "a"], 13, ""),
        (Manner::Poisoned, &["set", "a", "b"], 9, "after a failed sync"),
        (Manner::Full, &["set", "a", "b"], 8, "no space"),
        (Manner::Good, &["compact"], 10, "unknown command"),
        (Manner::Good, &["verify"], 10, "unknown command"),
        (Manner::Good, &["destroy", "--yes"], 10, "destroy cannot be done on"),
        (Manner::Good, &["set", "a", "b", "--durability", "sync"], 2, "--durability"),
        (Manner::Good, &["len", "-o", "read_only=true"], 2, "--option"),
        (Manner::Good, &["len", "--dir", "x"], 2, "--dir"),
    ];
    for (manner, args, expected, words) in cases {
        let (code, message) = fail(&mut remote(start(*manner), args), b"");
        assert_eq!(code, *expected, "{args:?}: {message}");
        assert!(message.contains(words), "{args:?}: {message}");
    }
    let csv: String = (0..2500).map(|n| format!("{n},v\n")).collect();
    for (manner, expected, words) in
        [(Manner::Unordered, 10, "no order"), (Manner::CutsOff, 13, "127.0.0.1")]
    {
        let server = start(manner);
        succeed(&mut remote(server, &["import", "-", "--no-header"]), csv.as_bytes());
        for verb in [&["scan"][..], &["scan", "--reverse"], &["dump"]] {
            let (code, message) = fail(&mut remote(server, verb), b"");
            assert_eq!(code, expected, "{manner:?} {verb:?}: {message}");
            assert!(message.contains(words), "{message}");
        }
    }
}

#[test]
fn addresses_that_lead_nowhere() {
    for (address, code) in [
        ("127.0.0.1:1", 13),
        ("nonsense", 2),
        (":1", 2),
        ("127.0.0.1:x", 2),
        ("ftp://127.0.0.1:1", 2),
        ("http://[::1]:1", 13),
    ] {
        let (found, message) = fail(program().args(["-s", address, "len"]), b"");
        assert_eq!(found, code, "{address}: {message}");
        assert!(message.contains(address), "{message}");
    }
}

/// Answers the beginning of HTTP/2 and then nothing, not even whether it is still there.
fn silent_server() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
        // Reads on, so that only the silence shows.
        drop(std::io::copy(&mut stream, &mut std::io::sink()));
    });
    address
}

/// A scan has no time of its own: without being asked whether it is there, a server that has gone
/// would be waited for without an end.
#[test]
fn a_server_that_falls_silent_ends_with_13() {
    let mut scan = program();
    scan.arg("--server").arg(format!("http://{}", silent_server())).arg("scan");
    let mut child = scan.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = std::time::Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_secs(200) {
            child.kill().unwrap();
            panic!("it waits on");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(13), "{message}");
}
