//! The shell under a script.

use crate::harness::{Place, run};

/// Runs a script; answers output, complaints and exit code.
fn script(place: &Place, args: &[&str], text: &str) -> (String, String, i32) {
    let output = run(&mut place.toykv(&[&["shell"], args].concat()), text.as_bytes());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

#[test]
fn a_script_is_answered_line_by_line() {
    let place = Place::new();
    let text = "# a comment\n\
                SET key value\n\
                \n\
                get key\n\
                get none\n\
                set \"a b\" '\"quoted\"'\n\
                SET \"\\x00\\xff\" \\x00\n\
                scan\n\
                scan -k --json\n\
                len\n\
                remove key\n\
                get key\n\
                get \"a b\" --hex\n\
                exit\n\
                get never\n";
    let expected = "success\n\
                    value\n\
                    no value stored under none\n\
                    success\n\
                    success\n\
                    \\x00\\xff\t\\\\x00\n\
                    a b\t\"quoted\"\n\
                    key\tvalue\n\
                    {\"key_base64\":\"AP8=\"}\n{\"key\":\"a b\"}\n{\"key\":\"key\"}\n\
                    3\n\
                    success\n\
                    no value stored under key\n";
    let (out, complaints, code) = script(&place, &[], text);
    // Hexadecimal words are hexadecimal both ways.
    assert_eq!(
        complaints,
        "toykv: line 13: \"a b\" is not hex: invalid length at 2\n\
                            toykv: lines of the script failed\n"
    );
    assert_eq!((out.as_str(), code), (expected, 2));
}

#[test]
fn what_is_in_quotes_is_neither_option_nor_file() {
    let place = Place::new();
    let (out, complaints, code) = script(
        &place,
        &[],
        "set \"-n\" \"@no/such/file\"\nset '-' \"-\"\nscan\nget \"-n\"\nset x -5\nget x\n",
    );
    assert_eq!(complaints, "");
    let expected = "success\nsuccess\n-\t-\n-n\t@no/such/file\n@no/such/file\nsuccess\n-5\n";
    assert_eq!((out.as_str(), code), (expected, 0));
}

#[test]
fn a_script_goes_on_after_a_failure_unless_it_is_strict() {
    let place = Place::new();
    let text = "set a\nset a 1\nnonsense\nget \"a\nget a\n";
    let (out, complaints, code) = script(&place, &[], text);
    assert_eq!((out.as_str(), code), ("success\n1\n", 2));
    let lines: Vec<&str> = complaints.lines().collect();
    assert!(lines[0].starts_with("toykv: line 1: "), "{complaints}");
    assert!(lines[0].contains("VALUE"), "{complaints}");
    assert!(lines[1].contains("line 3: ") && lines[1].contains("nonsense"), "{complaints}");
    assert_eq!(lines[2], "toykv: line 4: a quote is not closed");
    assert_eq!(lines.len(), 4, "{complaints}");
    let (out, complaints, code) = script(&place, &["--strict"], "get a\nget\nset a 2\n");
    assert_eq!((out.as_str(), code), ("1\n", 2));
    assert!(complaints.starts_with("toykv: line 2: "), "{complaints}");
    assert_eq!(place.text(&["get", "a"]), "1\n");
}

#[test]
fn verbs_on_whole_databases_work_in_the_shell_too() {
    let place = Place::new();
    let text = "set a 1\nset \"b\\x00\" 2\ncompact\ndump \"my dump\"\nrm a\n\
                load \"my dump\"\nverify\nexport out.csv --force\nhelp\nshell\nman\n";
    let (out, complaints, code) = script(&place, &[], text);
    assert_eq!(code, 2, "{complaints}");
    let expected = "success\nsuccess\nsuccess\nsuccess\nentries\t2\nbytes\t5\nfiles\t";
    assert!(out.starts_with(expected), "{out}");
    assert!(out.contains("\nfindings\t0\n"), "{out}");
    assert!(out.contains("\nexit "), "{out}");
    assert_eq!(complaints.lines().count(), 3, "{complaints}");
    assert_eq!(place.read("out.csv"), b"key,value\na,1\nb\\x00,2\n");
}

#[test]
fn json_scripts_have_json_answers() {
    let place = Place::new();
    let (out, _, code) = script(&place, &["--json"], "set a 1\nget a\nget b\nlen\n");
    let expected =
        "{\"success\":true}\n{\"key\":\"a\",\"value\":\"1\"}\n{\"value\":null}\n{\"keys\":1}\n";
    assert_eq!((out.as_str(), code), (expected, 0));
}
