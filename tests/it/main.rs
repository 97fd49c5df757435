//! Integration tests of the library, in one program so that they link once.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests as well")]

mod backend;
mod source;
mod support;
mod target;
