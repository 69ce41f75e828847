//! Exit codes that need a situation of their own.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use crate::harness::{Place, fail, names, run, succeed};

#[test]
fn the_readme_and_the_help_have_the_codes_that_the_program_has() {
    let source = include_str!("../../src/failure.rs");
    let readme = include_str!("../../README.md");
    let mut codes = Vec::new();
    for line in source.lines() {
        let Some((name, code)) = line.trim().trim_end_matches(',').split_once(" = ") else {
            continue;
        };
        if let (true, Ok(code)) = (name.chars().all(char::is_alphabetic), code.parse::<u8>()) {
            codes.push(code);
        }
    }
    assert!(codes.len() > 10);
    let help = Place::new().text(&["--help"]);
    let help: Vec<&str> = help.split(|c: char| !c.is_ascii_digit()).collect();
    for code in codes.into_iter().filter(|code| *code != 141) {
        assert!(readme.contains(&format!("\n| {code} | ")), "{code} in README.md");
        assert!(help.contains(&&code.to_string()[..]), "{code} in --help");
    }
}

#[test]
fn a_database_in_use_is_locked_with_3() {
    let place = Place::new();
    place.ok(&["set", "a", "b"]);
    let mut shell = place.toykv(&["shell"]);
    let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdin.write_all(b"get a\n").unwrap();
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "b\n", "answers come before the next line is read");
    for verb in [&["set", "a", "c"][..], &["get", "a"], &["destroy", "--yes"]] {
        let (code, message) = place.fails(verb);
        assert_eq!(code, 3, "{verb:?}: {message}");
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
    assert_eq!(place.text(&["get", "a"]), "b\n");
}

#[test]
fn reading_verbs_change_nothing_in_the_directory() {
    let place = Place::new();
    place.ok(&["set", "a", "b"]);
    let db = place.path("db");
    let before = names(&db);
    let verbs: [&[&str]; 7] =
        [&["get", "a"], &["scan"], &["len"], &["stats"], &["verify"], &["dump"], &["export", "-"]];
    for verb in verbs {
        place.ok(verb);
        assert_eq!(names(&db), before, "{verb:?}");
    }
}

#[test]
fn a_database_opened_for_reading_refuses_writes_with_6() {
    let place = Place::new();
    place.ok(&["set", "a", "b"]);
    let (code, message) = place.fails(&["-o", "read_only=true", "set", "a", "c"]);
    assert_eq!(code, 6, "{message}");
    let mut shell = place.toykv(&["-o", "read_only=true", "shell"]);
    let output = run(&mut shell, b"get a\ndelete a\nget a\n");
    assert_eq!(output.status.code(), Some(6));
    assert_eq!(output.stdout, b"b\nb\n");
}

#[test]
fn what_the_system_refuses_is_told() {
    let place = Place::new();
    place.ok(&["set", "a", "b"]);
    // A directory that is a file, and a full device.
    place.write("file", b"");
    let mut command = crate::harness::program();
    let (code, message) =
        fail(command.arg("--dir").arg(place.path("file")).args(["set", "a", "b"]), b"");
    assert_eq!(code, 2, "{message}");
    let (code, message) = place.fails(&["dump", "/dev/full"]);
    assert_eq!(code, 8, "{message}");
    let (code, message) = place.fails(&["export", "/dev/full"]);
    assert_eq!(code, 8, "{message}");
    #[expect(clippy::disallowed_methods, reason = "a device, not a file of the engine")]
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut child = place.toykv(&["scan"]).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(8));
}

/// Ctrl-C in the middle of a compaction: the database stays as it was, and the exit code says so.
#[test]
fn an_interrupted_compaction_ends_with_130() {
    let place = Place::new();
    // Slow to merge; more of it where the machine is faster than the signal.
    let slow = ["-o", "compression=zstd", "-o", "compression_level=19"];
    let mut lines = 0;
    loop {
        let csv: String = (lines..lines + 30_000u32)
            .map(|n| {
                format!("{:08x},{}\n", n.wrapping_mul(0x9e37_79b9), format!("{n:x}").repeat(40))
            })
            .collect();
        lines += 30_000;
        assert!(lines < 600_000, "every compaction was faster than the signal");
        succeed(&mut place.toykv(&["import", "-", "--no-header"]), csv.as_bytes());
        let mut compact = place.toykv(&[&slow[..], &["compact"]].concat());
        let mut child = compact.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Once the database is locked, the program listens to signals.
        while child.try_wait().unwrap().is_none() {
            if run(&mut place.toykv(&["len"]), b"").status.code() == Some(3) {
                let pid = child.id().to_string();
                // Fails when it has ended just now.
                drop(Command::new("kill").args(["-INT", &pid]).output());
                break;
            }
        }
        let output = child.wait_with_output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            // It was faster, or came while the other one looked.
            Some(0 | 3) => {}
            Some(130) => {
                assert_eq!(message, "toykv: interrupted\n");
                break;
            }
            code => panic!("{code:?}: {message}"),
        }
    }
    assert_eq!(place.text(&["len"]), format!("{lines}\n"));
}
