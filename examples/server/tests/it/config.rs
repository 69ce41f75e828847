//! The configuration of the program: what wins over what, and what is refused.

use std::process::{Command, Output};

/// The program with these arguments and this environment, and no other settings.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_toykv-server"));
    command.env_clear().args(arguments).envs(environment.iter().copied());
    command.output().unwrap()
}

/// A line of the configuration that it prints.
fn setting(output: &Output, name: &str) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} = ")));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).trim_matches('"').to_string()
}

fn refusal(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a file of the test")]
fn flags_win_over_environment_over_file_over_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("server.toml");
    let text = "dir = \"from-file\"\nlisten = \"127.0.0.1:1\"\nworkers = 1\nslow-ms = 1\n\
                password = \"p\"\n[limits]\nidle_seconds = 1\nconnections = 1\n\
                [engine]\nmemtable_size_bytes = \"1MiB\"\n";
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    let print = "--print-config";
    let output = run(&[print, "--dir", "d"], &[]);
    assert_eq!(setting(&output, "listen"), "127.0.0.1:7878");
    assert_eq!(setting(&output, "durability"), "interval");
    assert_eq!(setting(&output, "idle_seconds"), "300");
    let output = run(&[print, "--config", path], &[]);
    assert_eq!(setting(&output, "dir"), "from-file");
    assert_eq!(setting(&output, "workers"), "1");
    assert_eq!(setting(&output, "idle_seconds"), "1");
    let environment = [("DB_DIR", "from-env"), ("SERVER_PORT", "2"), ("TOYKV_WORKERS", "2")];
    let output = run(&[print, "--config", path], &environment);
    assert_eq!(setting(&output, "dir"), "from-env");
    assert_eq!(setting(&output, "listen"), "127.0.0.1:2");
    assert_eq!(setting(&output, "workers"), "2");
    assert_eq!(setting(&output, "slow-ms"), "1");
    let flags = ["--config", path, "--dir", "from-flag", "--workers", "3"];
    let limit = ["--limit", "idle_seconds=3", "--listen", "127.0.0.1:3", print];
    let output = run(&[&flags[..], &limit].concat(), &[("TOYKV_WORKERS", "2")]);
    assert_eq!(setting(&output, "dir"), "from-flag");
    assert_eq!(setting(&output, "listen"), "127.0.0.1:3");
    assert_eq!(setting(&output, "workers"), "3");
    assert_eq!(setting(&output, "idle_seconds"), "3");
    assert_eq!(setting(&output, "connections"), "1");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("\"p\""));
}

/// What `--print-config` shows is a file that gives the same.
#[test]
#[expect(clippy::disallowed_methods, reason = "a file of the test")]
fn the_printed_configuration_is_a_file_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let options = ["--option", "memtable_size_bytes=1MiB", "--option", "io=direct"];
    let flags = ["--print-config", "--dir", "d", "--listen", "0.0.0.0:3", "--insecure"];
    let first = run(&[&flags[..], &options].concat(), &[]);
    assert_eq!(setting(&first, "memtable_size_bytes"), "1MiB");
    assert_eq!(setting(&first, "io"), "direct");
    assert_eq!(setting(&first, "insecure"), "true");
    let path = dir.path().join("server.toml");
    std::fs::write(&path, &first.stdout).unwrap();
    let again = run(&["--print-config", "--config", path.to_str().unwrap()], &[]);
    assert_eq!(String::from_utf8_lossy(&again.stdout), String::from_utf8_lossy(&first.stdout));
}

#[test]
fn an_address_wins_over_a_port_and_a_flag_over_the_environment() {
    let print = ["--print-config", "--dir", "d"];
    let both = [("TOYKV_LISTEN", "127.0.0.1:4"), ("SERVER_PORT", "5")];
    assert_eq!(setting(&run(&print, &both), "listen"), "127.0.0.1:4");
    let port = [&print[..], &["--port", "6"]].concat();
    assert_eq!(setting(&run(&port, &both), "listen"), "127.0.0.1:6");
    let listen = [&port[..], &["--listen", "127.0.0.1:7"]].concat();
    assert_eq!(setting(&run(&listen, &both), "listen"), "127.0.0.1:7");
    for word in ["1", "true", "yes"] {
        let open = [&print[..], &["--listen", "0.0.0.0:8"]].concat();
        let output = run(&open, &[("TOYKV_INSECURE", word)]);
        assert_eq!(setting(&output, "insecure"), "true", "{word}");
        assert!(!run(&open, &[("TOYKV_INSECURE", "0")]).status.success());
    }
}

#[test]
fn an_open_address_needs_a_password() {
    let open = ["--dir", "d", "--listen", "0.0.0.0:0", "--print-config"];
    assert!(refusal(&run(&open, &[])).contains("no password"));
    assert!(run(&open, &[("TOYKV_PASSWORD", "p")]).status.success());
    assert!(run(&[&open[..], &["--insecure"]].concat(), &[]).status.success());
    let grpc = ["--dir", "d", "--grpc", "[::]:0", "--print-config"];
    assert!(refusal(&run(&grpc, &[])).contains("no password"));
    let loopback = ["--dir", "d", "--listen", "[::1]:0", "--print-config"];
    assert!(run(&loopback, &[]).status.success());
}

#[test]
fn mistakes_are_named() {
    for (arguments, word) in [
        (&["--print-config"][..], "--dir"),
        (&["--dir", "d", "--limit", "nonsense=1"], "nonsense"),
        (&["--dir", "d", "--limit", "connections=0"], "connections"),
        (&["--dir", "d", "--option", "nonsense=1"], "nonsense"),
        (&["--dir", "d", "--option", "read_only=true"], "read_only"),
        (&["--dir", "d", "--durability", "maybe"], "maybe"),
        (&["--dir", "d", "--tls-cert", "c"], "--tls-key"),
        (&["--dir", "d", "--config", "/nonexistent"], "/nonexistent"),
        (&["--dir", "/nonexistent/a/b", "--listen", "127.0.0.1:0"], "/nonexistent"),
    ] {
        let text = refusal(&run(arguments, &[]));
        assert!(text.contains(word), "{arguments:?}: {text}");
    }
}
