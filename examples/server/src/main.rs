//! toykv-server: the program; `program` of the library is all of it.

use std::process::ExitCode;

fn main() -> ExitCode {
    toykv_server::program(std::env::args_os())
}
