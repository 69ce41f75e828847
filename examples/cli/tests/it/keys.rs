//! One-shot verbs on single keys.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::harness::{Place, fail, program, run, succeed};

#[test]
fn set_get_delete() {
    let place = Place::new();
    assert_eq!(place.text(&["set", "1", "Hello, World!"]), "");
    assert_eq!(place.text(&["get", "1"]), "Hello, World!\n");
    assert_eq!(place.text(&["put", "1", "other"]), "");
    assert_eq!(place.text(&["get", "1"]), "other\n");
    for verb in ["delete", "remove", "rm", "del"] {
        place.ok(&["set", "1", "x"]);
        assert_eq!(place.text(&[verb, "1"]), "");
        let (code, message) = place.fails(&["get", "1"]);
        assert_eq!((code, &message[..]), (1, "toykv: no value stored under 1\n"));
        assert_eq!(place.text(&[verb, "1"]), "", "an absent key is no error");
    }
    let (code, message) = place.fails(&["delete", "--check", "1"]);
    assert_eq!((code, &message[..]), (1, "toykv: no value stored under 1\n"));
}

#[test]
fn several_keys_at_once() {
    let place = Place::new();
    for key in ["a", "b", "c"] {
        place.ok(&["set", key, &key.repeat(3)]);
    }
    assert_eq!(place.text(&["get", "c", "a"]), "c\tccc\na\taaa\n");
    let output = run(&mut place.toykv(&["get", "a", "x", "c"]), b"");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout, b"a\taaa\nc\tccc\n");
    assert_eq!(output.stderr, b"toykv: no value stored under x\n");
    place.ok(&["delete", "a", "c"]);
    assert_eq!(place.text(&["scan"]), "b\tbbb\n");
}

#[test]
fn every_byte_comes_back_as_it_was() {
    let place = Place::new();
    let all: Vec<u8> = (0..=255).chain(0..=255).collect();
    place.write("value", &all);
    place.ok(&["set", "file", "@value"]);
    assert_eq!(place.ok(&["get", "file", "--raw"]), all);
    succeed(&mut place.toykv(&["set", "input", "-"]), &all);
    assert_eq!(place.ok(&["get", "input", "--raw"]), all);
    // As arguments: any byte but 0 as it is, and 0 as an escape.
    let arguments =
        [b"set".as_slice(), b"--plain", b"a\xff\\", b"\xfe\\x\n"].map(OsStr::from_bytes);
    place.ok(&arguments);
    assert_eq!(place.ok(&["get", r"a\xff\\", "--raw"]), b"\xfe\\x\n");
    assert_eq!(place.text(&["get", r"a\xff\\"]), "\\xfe\\\\x\\n\n");
    assert_eq!(place.text(&["get", "61ff5c", "--hex"]), "fe5c780a\n");
    assert_eq!(place.text(&["get", "Yf9c", "--base64"]), "/lx4Cg==\n");
    let plain = [b"get".as_slice(), b"--plain", b"a\xff\\"].map(OsStr::from_bytes);
    assert_eq!(place.ok(&plain), b"\xfe\\x\n\n");
    place.ok(&["set", r"\x00", r"\@text"]);
    assert_eq!(place.ok(&["get", r"\0", "--raw"]), b"@text");
    place.ok(&["set", "", ""]);
    assert_eq!(place.ok(&["get", "", "--raw"]), b"");
    assert_eq!(place.text(&["get", ""]), "\n");
}

#[test]
fn json_says_what_is_not_text() {
    let place = Place::new();
    place.ok(&["set", "text", "é\n"]);
    place.ok(&["set", r"\xff", r"\x00\x80"]);
    let lines = "{\"key\":\"text\",\"value\":\"é\\n\"}\n\
                 {\"key_base64\":\"/w==\",\"value_base64\":\"AIA=\"}\n";
    assert_eq!(place.text(&["get", "text", r"\xff", "--json"]), lines);
    assert_eq!(place.text(&["scan", "--json"]), lines);
    assert_eq!(place.text(&["--json", "len"]), "{\"keys\":2}\n");
    let keys = "{\"key\":\"text\"}\n{\"key_base64\":\"/w==\"}\n";
    assert_eq!(place.text(&["scan", "--json", "-k"]), keys);
}

#[test]
fn wrong_calls_end_with_2_and_say_why() {
    let place = Place::new();
    place.ok(&["set", "a", "b"]);
    let cases: &[(&[&str], &str)] = &[
        (&[], "Usage"),
        (&["nonsense"], "nonsense"),
        (&["get"], "KEYS"),
        (&["set", "a"], "VALUE"),
        (&["get", r"\q"], "escape"),
        (&["get", "--hex", "abc"], "hex"),
        (&["get", "--base64", "$"], "base64"),
        (&["get", "--raw", "a", "b"], "--raw"),
        (&["set", "a", "@no/such/file"], "no/such/file"),
        (&["--option", "no_such=1", "get", "a"], "no_such"),
        (&["--option", "read_only", "get", "a"], "NAME=VALUE"),
        (&["--durability", "maybe", "get", "a"], "maybe"),
        (&["set", &"k".repeat(65_536), ""], "65"),
    ];
    for (args, words) in cases {
        let (code, message) = place.fails(args);
        assert_eq!(code, 2, "{args:?}: {message}");
        assert!(message.contains(words), "{args:?}: {message}");
    }
    let (code, message) = fail(program().args(["get", "a"]), b"");
    assert_eq!(code, 2);
    assert!(message.contains("--dir"), "{message}");
}

#[test]
fn the_environment_names_the_directory() {
    let place = Place::new();
    succeed(program().args(["set", "a", "b"]).env("TOYKV_DIR", place.path("db")), b"");
    assert_eq!(place.text(&["get", "a"]), "b\n");
}

#[test]
fn only_set_makes_a_database() {
    let place = Place::new();
    for verb in [&["get", "a"][..], &["scan"], &["len"], &["stats"], &["delete", "a"]] {
        let (code, message) = place.fails(verb);
        assert_eq!(code, 5, "{verb:?}: {message}");
        assert!(!place.path("db").exists(), "{verb:?}");
    }
    place.ok(&["set", "a", "b", "--durability", "sync"]);
    assert_eq!(place.text(&["len"]), "1\n");
}
