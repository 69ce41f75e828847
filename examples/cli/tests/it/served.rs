//! toykv-server as a process of its own, and every way to it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitCode, Stdio};

use crate::harness::{Place, program, succeed};

/// Where the arguments of the server's process are, one a line.
const ARGUMENTS: &str = "TOYKV_TEST_SERVER";

/// Ways to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Resp,
    Grpc,
}

pub(crate) const WAYS: [Way; 2] = [Way::Resp, Way::Grpc];

/// A server; dropping it kills it.
pub(crate) struct Served {
    place: Place,
    child: Child,
    log: BufReader<ChildStderr>,
    resp: String,
    grpc: String,
    tls: bool,
}

/// A file of the certificate that the servers with TLS have, and of its key.
pub(crate) fn pem(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../server/tests/it/tls", name].iter().collect()
}

impl Served {
    /// A server with a new database.
    pub(crate) fn start(arguments: &[&str]) -> Served {
        Served::start_in(Place::new(), arguments)
    }

    /// A server with TLS.
    pub(crate) fn start_tls() -> Served {
        let (cert, key) = (pem("cert.pem"), pem("key.pem"));
        let files = ["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
        let mut served = Served::start(&files);
        served.tls = true;
        served
    }

    /// A server with the database of a place. This test program is the server too: so it is there
    /// whichever of the project's programs were built.
    pub(crate) fn start_in(place: Place, arguments: &[&str]) -> Served {
        let mut all = vec!["toykv-server", "--listen", "127.0.0.1:0", "--grpc", "127.0.0.1:0"];
        all.extend(["--log-format", "json", "--dir"]);
        let db = place.path("db");
        all.push(db.to_str().unwrap());
        all.extend(arguments);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "served::the_server", "--ignored", "--nocapture"])
            .env(ARGUMENTS, all.join("\n"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let (mut line, mut told) = (String::new(), String::new());
        while !line.contains("\"ready\"") {
            line.clear();
            let end = log.read_line(&mut line).unwrap() == 0;
            told.push_str(&line);
            assert!(!end, "the server did not start: {told}");
        }
        let address = |name: &str| {
            let (_, rest) = line.split_once(&format!("\"{name}\":\"")).unwrap();
            rest.split('"').next().unwrap().to_owned()
        };
        let (resp, grpc) = (address("listen"), address("grpc"));
        Served { place, child, log, resp, grpc, tls: false }
    }

    /// What `--server` names.
    pub(crate) fn address(&self, way: Way) -> String {
        let place = match way {
            Way::Resp => &self.resp,
            Way::Grpc => &self.grpc,
        };
        match (way, self.tls) {
            (Way::Resp, false) => place.clone(),
            (Way::Grpc, false) => format!("http://{place}"),
            (Way::Resp, true) => format!("rediss://{place}"),
            (Way::Grpc, true) => format!("https://{place}"),
        }
    }

    /// The program on this server.
    pub(crate) fn toykv(&self, way: Way, args: &[&str]) -> Command {
        let mut command = program();
        command.arg("--server").arg(self.address(way)).args(args);
        if self.tls {
            command.arg("--ca").arg(pem("cert.pem"));
        }
        command
    }

    /// Runs a verb that must succeed and answer text.
    pub(crate) fn text(&self, way: Way, args: &[&str]) -> String {
        String::from_utf8(succeed(&mut self.toykv(way, args), b"")).unwrap()
    }

    /// Ends the server as an operator does; the place of its database.
    pub(crate) fn stop(mut self) -> Place {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let mut told = String::new();
        std::io::Read::read_to_string(&mut self.log, &mut told).unwrap();
        assert!(self.child.wait().unwrap().success(), "{told}");
        std::mem::replace(&mut self.place, Place::new())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test: the process of [`Served::start`].
#[test]
#[ignore = "no test: the process of the server, which every test of a server starts"]
fn the_server() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else { return };
    let ended = toykv_server::program(arguments.lines().map(Into::into));
    std::process::exit(i32::from(ended != ExitCode::SUCCESS));
}
