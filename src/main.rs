//! The program: all of it is in [`icecore::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    icecore::cli::main()
}
