//! Tests with real servers on this machine: a program of its own, as they take longer and install
//! what they need. A server that cannot be started is a failure, never a test left out.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests as well")]

mod bucket;
#[path = "../it/backend/contract.rs"]
mod contract;
mod s3;
mod support;
