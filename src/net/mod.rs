//! Floor 1: clients of protocols that sources, targets and backends share.
//!
//! | file | what |
//! |---|---|
//! | [`address`] | what a person types to name a place on another machine |
//! | [`files`] | what FTP and SFTP have in common: a tree of files, and one session with it |
//! | [`pace`] | bounds on how much goes over a line |
//! | [`pool`] | sessions kept to be used again |
//! | [`ftp`] | files over FTP, in the clear and within TLS |
//! | [`sftp`] | files over SFTP, whatever carries its bytes |
//! | [`ssh`] | what carries them over the network: who the server is, who we are |
//! | [`http`] | requests over HTTP |
//! | [`s3`] | buckets of S3-compatible stores |
//! | [`tcp`] | connections with limits on each wait |
//! | [`tls`] | the inside of a connection kept from others, and the other end checked |

pub mod address;
pub mod files;
pub mod ftp;
pub mod http;
pub mod pace;
pub mod pool;
pub mod s3;
pub mod sftp;
pub mod ssh;
pub mod tcp;
pub mod tls;
