//! Tests against real programs on this machine. Each starts what it needs, and fails where that
//! cannot be started.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests as well")]

mod serve;
mod support;
