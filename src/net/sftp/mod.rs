//! SFTP: version 3 of the protocol, with names as bytes.
//!
//! | file | what |
//! |---|---|
//! | `packet` | requests to bytes, bytes to answers |
//! | [`wire`] | what carries the bytes: the pipes of a program, or [`crate::net::ssh`] |
//! | `session` | many requests under way, answers in any order |
//! | `read` `write` `list` | a file that is read, one that is written, a folder |
//! | `look` | what a server tells of a name |
//! | `tree` | [`crate::net::files::Files`], and why a server fails that says no more than that |
//! | [`process`] | a server behind the pipes of a program |
//!
//! Version 3 is what OpenSSH speaks and every other server does too. A session is for one thread
//! and never waits without a limit. What costs round trips: one to open a file, one for its
//! content and size together, none to close it; a file that is written takes one to begin and one
//! to end, which makes it durable, compares its size and closes it; a folder one to open and one
//! for its names and that these were all.

use crate::base::error::Result;
use crate::net::files::Files;
use crate::net::sftp::session::Session;
use crate::net::sftp::tree::Tree;
use crate::net::sftp::wire::Wire;
use std::time::Duration;

mod list;
mod look;
mod packet;
pub mod process;
mod read;
mod session;
mod tree;
pub mod wire;
mod write;

/// Begins a session over a wire. `place` names the server in messages, without a password;
/// `silence` is how long an answer may take.
///
/// # Errors
/// `Unreachable` when the other end is gone or is no SFTP server.
pub fn begin(wire: Box<dyn Wire>, place: String, silence: Duration) -> Result<Box<dyn Files>> {
    Ok(Box::new(Tree::new(Session::start(wire, place, silence)?)))
}
