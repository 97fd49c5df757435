//! SFTP: version 3 of the protocol, with names as bytes.
//!
//! | file | what |
//! |---|---|
//! | [`packet`] | requests to bytes, bytes to answers |
//! | [`session`] | one session: many requests under way, answers in any order |

mod packet;
pub mod session;

pub use packet::Attributes;
pub use packet::Name;
