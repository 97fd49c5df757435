//! Floor 1: clients of protocols that sources, targets and backends share.
//!
//! | file | what |
//! |---|---|
//! | [`address`] | what a person types to name a place on another machine |
//! | [`files`] | what FTP and SFTP have in common: a tree of files, and one session with it |
//! | [`pool`] | sessions kept to be used again |

pub mod address;
pub mod files;
pub mod pool;
//! | [`sftp`] | SFTP: a tree of files over a wire |
//! | [`ssh`] | the wire over the network: who the server is, who we are |
//! | [`tcp`] | connections with limits on each wait |

pub mod address;
pub mod files;
pub mod sftp;
pub mod ssh;
pub mod tcp;
