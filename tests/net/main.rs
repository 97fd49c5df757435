//! Tests against real servers on this machine, and against some that play tricks: a program of
//! its own, as they take longer and install what they need. Each starts the servers it needs, and
//! one that cannot be started is a failure, never a test left out.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests as well")]

mod bucket;
mod bucket_target;
#[path = "../it/backend/contract.rs"]
mod contract;
mod copy;
mod cuts;
mod distance;
mod fake;
mod files_contract;
mod ftp;
mod ftp_hostile;
mod ftp_transfers;
mod many;
mod pairs;
mod pairs_home;
mod pairs_places;
mod pairs_refused;
mod proxy;
#[path = "../it/support/random.rs"]
mod random;
mod restore;
mod s3;
mod serve;
mod sftp;
mod sftp_fake;
mod sftp_hostile;
mod ssh;
mod suppaftp;
mod support;
mod table;
