//! Floor 1: clients of protocols that sources, targets and backends share.
//!
//! | file | what |
//! |---|---|
//! | [`address`] | what a person types to name a place on another machine |
//! | [`files`] | what FTP and SFTP have in common: a tree of files, and one session with it |
//! | [`sftp`] | files over SSH |
//! | [`tls`] | TLS |

pub mod address;
pub mod files;
pub mod sftp;
pub mod tls;
