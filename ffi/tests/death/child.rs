//! A child process, what it says, and the two ways to bring about its death or a failing call: a
//! signal at any time, and strace, which steps in at a certain system call.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};

use crate::script::Script;

/// What a child said of one operation.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) number: usize,
    pub(crate) status: i32,
    pub(crate) digest: u64,
}

/// All that a child said and how it ended.
pub(crate) struct Story {
    /// What its attempts to open answered.
    pub(crate) opens: Vec<i32>,
    /// By thread.
    pub(crate) answers: Vec<Vec<Answer>>,
    /// It came to its end.
    pub(crate) ended: bool,
    pub(crate) exit: ExitStatus,
    /// The texts of its errors.
    pub(crate) errors: String,
}

impl Story {
    /// Whether a signal ended it that this side had sent.
    pub(crate) fn was_killed(&self) -> bool {
        self.exit.signal() == Some(9)
    }
}

/// A process that stops whatever happens to this one's test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A child that has read its script and waits for the word.
pub(crate) struct Ready {
    child: Ends,
    out: BufReader<ChildStdout>,
    threads: usize,
}

/// A child at work.
pub(crate) struct Running {
    child: Ends,
    out: BufReader<ChildStdout>,
    errors: ChildStderr,
    strace: Option<Strace>,
    story: Story,
}

struct Strace {
    process: Ends,
    err: BufReader<ChildStderr>,
}

impl Ready {
    /// Starts `program` on the database `db`; the script is written beside it.
    pub(crate) fn start(program: &Path, db: &Path, script: &Script) -> Ready {
        let file = db.with_extension("script");
        std::fs::write(&file, script.text()).expect("a script");
        let mut command = Command::new(program);
        command.arg(db).arg(file).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = Ends(command.stderr(Stdio::piped()).spawn().expect("a child"));
        let mut out = BufReader::new(child.0.stdout.take().expect("a pipe"));
        let mut line = String::new();
        out.read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n", "{}", rest(&mut child));
        Ready { child, out, threads: script.threads.len() }
    }

    pub(crate) fn go(self) -> Running {
        self.begin(None)
    }

    /// Lets it go under strace with the arguments, `-e inject=...` say.
    pub(crate) fn go_under_strace(self, arguments: &[&str]) -> Running {
        let strace = Strace::attach(self.child.0.id(), arguments).expect("strace attaches");
        self.begin(Some(strace))
    }

    fn begin(mut self, strace: Option<Strace>) -> Running {
        let errors = self.child.0.stderr.take().expect("a pipe");
        let mut word = self.child.0.stdin.take().expect("a pipe");
        // Fails when it is dead already.
        let _ = word.write_all(b"!");
        let answers = (0..self.threads).map(|_| Vec::new()).collect();
        let exit = ExitStatus::default();
        let story = Story { opens: Vec::new(), answers, ended: false, exit, errors: String::new() };
        Running { child: self.child, out: self.out, errors, strace, story }
    }
}

fn rest(child: &mut Ends) -> String {
    let mut text = String::new();
    let errors = child.0.stderr.as_mut().map(|errors| errors.read_to_string(&mut text));
    errors.transpose().expect("what it says");
    text
}

impl Strace {
    /// Attaches to a process; `None` where there is no strace or it must not.
    fn attach(pid: u32, arguments: &[&str]) -> Option<Strace> {
        let mut command = Command::new("strace");
        command.args(["-f", "-o", "/dev/null"]).args(arguments).args(["-p", &pid.to_string()]);
        let process = command.stderr(Stdio::piped()).spawn().ok()?;
        let mut process = Ends(process);
        let mut err = BufReader::new(process.0.stderr.take()?);
        let mut said = String::new();
        while err.read_line(&mut said).ok()? > 0 {
            // "attached" or "attached with 3 threads".
            if said.contains(" attached") {
                return Some(Strace { process, err });
            }
        }
        eprintln!("{said}");
        None
    }
}

impl Running {
    /// Takes in the next line; false when there are no more.
    pub(crate) fn listen(&mut self) -> bool {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("a line");
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            _ if !line.ends_with('\n') => return false,
            ["open", status] => self.story.opens.push(status.parse().expect("a status")),
            ["A", thread, number, status, digest] => {
                let thread: usize = thread.parse().expect("a thread");
                self.story.answers[thread].push(Answer {
                    number: number.parse().expect("a number"),
                    status: status.parse().expect("a status"),
                    digest: u64::from_str_radix(digest, 16).expect("a digest"),
                });
            }
            ["end"] => self.story.ended = true,
            _ => panic!("{line:?}"),
        }
        true
    }

    /// Kills it and answers its story.
    pub(crate) fn kill(mut self) -> Story {
        self.child.0.kill().expect("a signal");
        self.wait()
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Story {
        while self.listen() {}
        self.errors.read_to_string(&mut self.story.errors).expect("its errors");
        self.story.exit = self.child.0.wait().expect("its status");
        if let Some(mut strace) = self.strace.take() {
            let mut said = String::new();
            strace.err.read_to_string(&mut said).expect("what strace says");
            strace.process.0.wait().expect("its status");
        }
        self.story
    }
}

/// Whether strace is there and may step in; says what is left out where not.
pub(crate) fn strace_works(program: &Path, dir: &Path) -> bool {
    let ready = Ready::start(program, &dir.join("probe"), &Script::default());
    // Attaching alone does not tell: some systems let it look on only.
    let fails = ["-e", "trace=openat", "-e", "inject=openat:error=EIO:when=1+"];
    let strace = Strace::attach(ready.child.0.id(), &fails);
    let works = strace.is_some_and(|strace| {
        let story = ready.begin(Some(strace)).wait();
        story.opens.iter().all(|status| *status != 0) && story.ended
    });
    if !works {
        println!("no strace that may step in: deaths and failures at system calls are left out");
    }
    works
}

/// How often each system call is made by the thread that makes it most often, when nothing fails.
pub(crate) fn count_calls(program: &Path, db: &Path, script: &Script) -> BTreeMap<String, usize> {
    let log = db.with_extension("calls");
    let ready = Ready::start(program, db, script);
    let story = ready.go_under_strace(&["-o", log.to_str().expect("a path")]).wait();
    assert!(story.ended, "{}: {}", script.name, story.errors);
    let text = std::fs::read(&log).expect("the calls");
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in String::from_utf8_lossy(&text).lines() {
        // "PID name(arguments", "PID <... name resumed>", "PID +++ exited", "PID --- SIG".
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((name, _)) = rest.trim_start().split_once('(') else { continue };
        // Those that this strace has no name for cannot be chosen.
        let named = !name.starts_with("syscall_0x");
        if named && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            *counts.entry((thread.to_owned(), name.to_owned())).or_default() += 1;
        }
    }
    let mut most = BTreeMap::new();
    for ((_, name), count) in counts {
        let own: &mut usize = most.entry(name).or_default();
        *own = count.max(*own);
    }
    most
}
