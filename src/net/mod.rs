//! Floor 1: clients of protocols that sources, targets and backends share.
//!
//! | file | what |
//! |---|---|
//! | [`address`] | what a person types to name a place on another machine |
//! | [`files`] | what FTP and SFTP have in common: a tree of files, and one session with it |
//! | [`ftp`] | files over FTP, in the clear and within TLS |
//! | [`sftp`] | files over SSH |
//! | [`tcp`] | connections with limits |
//! | [`tls`] | the inside of a connection kept from others, and the other end checked |

pub mod address;
pub mod files;
pub mod ftp;
pub mod sftp;
pub mod tcp;
pub mod tls;
