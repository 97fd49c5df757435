//! Content-addressed snapshots of datasets: record every version, get any version back, exactly.

pub mod backend;
pub mod base;
pub mod chunk;
pub mod cli;
pub mod codec;
pub mod config;
pub mod docs;
pub mod engine;
pub mod format;
pub mod repository;
pub mod source;
pub mod target;
