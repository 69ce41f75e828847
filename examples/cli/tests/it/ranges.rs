//! Scans and counts.

use std::process::Stdio;

use crate::harness::{Place, run};

fn filled() -> Place {
    let place = Place::new();
    for key in ["a", "ab", "abc", "b", "ba", "c"] {
        place.ok(&["set", key, &key.to_uppercase()]);
    }
    place
}

#[test]
fn scans_are_ordered_and_bounded() {
    let place = filled();
    let keys = |args: &[&str]| {
        let text = place.text(&[&["scan", "-k"], args].concat());
        text.split_terminator('\n').collect::<Vec<_>>().join(" ")
    };
    assert_eq!(keys(&[]), "a ab abc b ba c");
    assert_eq!(keys(&["ab"]), "ab abc b ba c");
    assert_eq!(keys(&["ab", "ba"]), "ab abc b");
    assert_eq!(keys(&["--prefix", "ab"]), "ab abc");
    assert_eq!(keys(&["-p", "b", "-r"]), "ba b");
    assert_eq!(keys(&["--reverse", "-n", "2"]), "c ba");
    assert_eq!(keys(&["aa", "--limit", "1"]), "ab");
    assert_eq!(keys(&["ab", "ba", "--reverse", "--limit", "2"]), "b abc");
    assert_eq!(keys(&["x"]), "");
    assert_eq!(keys(&["c", "a"]), "");
    assert_eq!(keys(&["-n", "0"]), "");
    assert_eq!(keys(&["--hex", "6162", "--limit", "2"]), "6162 616263");
    assert_eq!(place.text(&["scan", "b"]), "b\tB\nba\tBA\nc\tC\n");
    assert_eq!(place.text(&["len"]), "6\n");
    assert_eq!(place.text(&["count"]), "6\n");
}

#[test]
fn a_table_has_every_entry() {
    let place = filled();
    let table = place.text(&["scan", "--table", "--prefix", "ab"]);
    let words: Vec<&str> = table.split(|c: char| !c.is_alphanumeric()).collect();
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    assert_eq!(words, ["key", "value", "ab", "AB", "abc", "ABC"], "{table}");
}

#[test]
fn stats_have_names_and_figures() {
    let place = filled();
    let lines = place.text(&["stats"]);
    assert!(lines.starts_with("keys\t6\nseqno\t"), "{lines}");
    assert!(lines.contains("\npoisoned\t-\n"), "{lines}");
    let json = place.text(&["stats", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["keys"], 6);
    assert_eq!(json["background_error"], serde_json::Value::Null);
    assert!(place.text(&["stats", "--table"]).contains("segment_bytes"));
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let place = Place::new();
    let value = "v".repeat(100_000);
    for key in 0..10 {
        place.ok(&["set", &key.to_string(), &value]);
    }
    let mut scan = place.toykv(&["scan"]);
    let mut child = scan.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]));
    assert_eq!(run(&mut scan, b"").stdout.len(), 10 * 100_003);
}
