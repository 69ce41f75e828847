//! The lines dialect, as a person with `nc` sees it.

use toykv_server::Secret;

use crate::support::{Client, start};

fn ask(client: &mut Client, line: &str) -> String {
    client.send(format!("{line}\n").as_bytes());
    client.line().unwrap()
}

#[test]
fn a_person_stores_and_reads() {
    let server = start(|_| {});
    let mut client = server.connect();
    for (line, answer) in [
        ("SET key value", "success"),
        ("GET key", "value"),
        ("GET nothing", "no value stored"),
        ("set \"a b\" \"c\\x00\\n\"", "success"),
        ("get 'a b'", "\"c\\x00\\n\""),
        ("SET greeting \"Hello, World!\"", "success"),
        ("GET greeting", "Hello, World!"),
        ("COUNT", "3"),
        ("DELETE key", "success"),
        ("DELETE key", "success"),
        ("GET key", "no value stored"),
        ("PING", "+PONG"),
        ("SET a", "error: that takes other words; HELP shows which (quote blanks: \"a b\")"),
        ("SET \"a b", "error: a quote is not closed"),
        ("FROB", "error: no command is called FROB; try HELP"),
        ("SCAN a z LIMIT x", "error: LIMIT needs a number"),
        ("GET \u{e9}", "no value stored"),
        (
            "AUTH secret",
            "error: no password is configured here, and none is needed: is this the right server?",
        ),
    ] {
        assert_eq!(ask(&mut client, line), answer, "{line}");
    }
    client.send(b"\n\r\nHELP\nQUIT\n");
    let mut help = Vec::new();
    while let Some(line) = client.line() {
        help.push(line);
    }
    assert!(help[0].starts_with("SET key value"), "{help:?}");
}

#[test]
fn scans_show_a_range_and_say_whether_there_is_more() {
    let server = start(|_| {});
    let mut client = server.connect();
    for n in 0..120 {
        ask(&mut client, &format!("SET k{n:03} v{n}"));
    }
    let mut scan = |line: &str| {
        let mut shown = vec![ask(&mut client, line)];
        while !shown.last().unwrap().starts_with('(') {
            shown.push(client.line().unwrap());
        }
        shown
    };
    assert_eq!(scan("SCAN k001 k003"), ["k001 v1", "k002 v2", "(2 entries)"]);
    assert_eq!(scan("SCAN k118"), ["k118 v118", "k119 v119", "(2 entries)"]);
    assert_eq!(scan("SCAN LIMIT 1"), ["k000 v0", "(1 entries, there are more)"]);
    assert_eq!(scan("SCAN x"), ["(0 entries)"]);
    let all = scan("SCAN");
    assert_eq!((all.len(), all.last().unwrap().as_str()), (101, "(100 entries, there are more)"));
}

#[test]
fn both_dialects_see_the_same_keys_and_the_password_holds_for_both() {
    let server = start(|config| config.secret = Secret::new("hunter2"));
    let mut person = server.connect();
    assert!(ask(&mut person, "GET a").contains("AUTH"));
    assert_eq!(ask(&mut person, "AUTH wrong"), "error: wrong password");
    assert_eq!(ask(&mut person, "AUTH hunter2"), "success");
    assert_eq!(ask(&mut person, "SET a 1"), "success");
    let mut program = server.connect();
    program.say("AUTH hunter2");
    assert_eq!(program.say("GET a"), crate::support::Reply::bulk("1"));
}

/// A page from anywhere can make a browser send this to a port of its own machine.
#[test]
fn a_browser_that_is_led_here_executes_nothing() {
    let server = start(|_| {});
    for (method, headers) in
        [("POST", "Host: localhost"), ("GET", "Host: localhost"), ("X", "a: b")]
    {
        let request = format!("{method} / HTTP/1.1\r\n{headers}\r\n\r\nSET attacked 1\n");
        let mut browser = server.connect();
        browser.send(request.as_bytes());
        assert_eq!(browser.line().as_deref(), Some("error: this port speaks no HTTP"));
        assert!(browser.is_closed());
        let mut browser = server.connect();
        browser.send(format!("{method} /\nHost: localhost\n\nSET attacked 1\n").as_bytes());
        while browser.line().is_some() {}
    }
    let mut person = server.connect();
    assert_eq!(ask(&mut person, "GET attacked"), "no value stored");
    assert_eq!(ask(&mut person, "SET version HTTP/1.1"), "success");
    let mut encrypted = server.connect();
    encrypted.send(&[0x16, 3, 1, 2, 0, 1]);
    assert!(encrypted.is_closed());
}
