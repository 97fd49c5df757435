//! Integration tests in one program, so that they link once: a module for each thing that is
//! held to its contract.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests as well")]

mod backend;
mod cache;
mod cli;
mod concurrency;
mod crash;
mod damage;
mod distance;
mod end_to_end;
mod engine_backup;
mod engine_backup_spread;
mod engine_backup_trouble;
mod engine_check;
mod engine_copy;
mod engine_diff;
mod engine_export;
mod engine_find;
mod engine_forget;
mod engine_parity;
mod engine_prune;
mod engine_prune_beside;
mod engine_prune_trouble;
mod engine_prune_unseen;
mod engine_rename;
mod engine_repair;
mod engine_restore;
mod engine_restore_over;
mod engine_restore_trouble;
mod engine_tag;
mod files_backend;
mod files_pool;
mod files_source;
mod files_target;
mod fuzz;
mod history;
mod hostile;
mod kill;
mod model;
mod s3;
mod serve;
mod source;
mod streams;
mod support;
mod target;
mod uploads;
