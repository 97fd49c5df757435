//! Tests against real programs on this machine. Each starts what it needs, and fails where that
//! cannot be started.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests as well")]

mod serve;
#[allow(dead_code, reason = "it is shared with tests of other protocols")]
mod support;
