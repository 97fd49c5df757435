//! The program: all of it is in [`icecore::cli`].

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    icecore::cli::main()
}
