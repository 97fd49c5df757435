//! Tests against real servers on this machine, and against one that plays tricks. Each starts what
//! it needs, and fails where that cannot be started.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests as well")]

mod files_contract;
mod sftp;
mod sftp_fake;
mod sftp_hostile;
mod ssh;
mod support;
