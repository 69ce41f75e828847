//! The shell at a terminal: prompt, completion, history, tables, Ctrl-C.

use std::time::Duration;

use expectrl::process::unix::WaitStatus;
use expectrl::session::OsSession;
use expectrl::{ControlCode, Eof, Expect, Session};

use crate::harness::Place;

/// A shell at a terminal; nothing of it takes longer than this unless it hangs.
fn shell(place: &Place) -> OsSession {
    let mut command = place.toykv(&["shell"]);
    command.env("TOYKV_HISTORY", place.path("history")).env("PAGER", "cat").env("TERM", "xterm");
    let mut session = Session::spawn(command).unwrap();
    session.set_expect_timeout(Some(Duration::from_secs(60)));
    session.expect("toykv> ").unwrap();
    session
}

fn end(mut session: OsSession) {
    session.send(ControlCode::EndOfTransmission).unwrap();
    session.expect(Eof).unwrap();
    assert!(matches!(session.get_process().wait().unwrap(), WaitStatus::Exited(_, 0)));
}

#[test]
fn a_person_talks_to_the_shell() {
    let place = Place::new();
    let mut session = shell(&place);
    session.send_line("set \"apple pie\" sweet").unwrap();
    session.expect("success").unwrap();
    session.expect("toykv> ").unwrap();
    session.send_line("get none").unwrap();
    session.expect("no value stored under none").unwrap();
    session.expect("toykv> ").unwrap();
    session.send_line("nonsense").unwrap();
    session.expect("unrecognized subcommand").unwrap();
    session.expect("toykv> ").unwrap();
    // A verb and a key by their beginnings.
    session.send("ge\t").unwrap();
    session.expect("get ").unwrap();
    session.send("ap\t").unwrap();
    session.expect("\"apple pie\"").unwrap();
    session.send_line("").unwrap();
    session.expect("sweet").unwrap();
    session.expect("toykv> ").unwrap();
    // Ctrl-C forgets the line and nothing else.
    session.send("set lost line").unwrap();
    session.send(ControlCode::EndOfText).unwrap();
    session.expect("toykv> ").unwrap();
    session.send_line("scan").unwrap();
    session.expect("value").unwrap();
    session.expect("apple pie").unwrap();
    session.expect("toykv> ").unwrap();
    end(session);
    assert_eq!(place.text(&["scan"]), "apple pie\tsweet\n");
    // The history is there in the next shell.
    let mut session = shell(&place);
    session.send("\x1b[A").unwrap();
    session.expect("scan").unwrap();
    session.send("\x1b[A").unwrap();
    session.expect("get").unwrap();
    session.send_line("").unwrap();
    session.expect("sweet").unwrap();
    session.expect("toykv> ").unwrap();
    end(session);
}
