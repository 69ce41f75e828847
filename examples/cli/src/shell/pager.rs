//! Long answers go through a pager.

use std::io::{self, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

/// Writes to `$PAGER`, to `less`, or to the terminal when there is neither; waits for the pager to
/// end when dropped.
pub(super) struct Pager {
    pager: Option<(Child, Option<ChildStdin>)>,
}

impl Pager {
    /// A pager, or the terminal itself when none is wanted.
    pub(super) fn new(wanted: bool) -> Pager {
        if !wanted {
            return Pager { pager: None };
        }
        let named = std::env::var("PAGER").unwrap_or_default();
        let mut words = named.split_whitespace();
        let mut command = match words.next() {
            Some(program) => {
                let mut command = Command::new(program);
                command.args(words);
                command
            }
            None => {
                let mut command = Command::new("less");
                // Ends at once when everything fits, leaves the screen as it is.
                command.args(["-F", "-R", "-X"]);
                command
            }
        };
        let child = command.stdin(Stdio::piped()).spawn().ok();
        Pager {
            pager: child.map(|mut child| {
                let stdin = child.stdin.take();
                (child, stdin)
            }),
        }
    }
}

impl Write for Pager {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.pager {
            Some((_, Some(pipe))) => pipe.write(bytes),
            _ => io::stdout().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.pager {
            Some((_, Some(pipe))) => pipe.flush(),
            _ => io::stdout().flush(),
        }
    }
}

impl Drop for Pager {
    fn drop(&mut self) {
        if let Some((mut child, pipe)) = self.pager.take() {
            drop(pipe);
            drop(child.wait());
        }
    }
}
