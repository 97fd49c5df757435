//! A folder that is listed: several requests for more names under way.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::limits::SFTP_LISTS_UNDER_WAY_MAX;
use crate::base::limits::SFTP_NAMES_MAX;
use crate::base::path::display;
use crate::net::files::Found;
use crate::net::sftp::look::look;
use crate::net::sftp::packet::Answer;
use crate::net::sftp::packet::Name;
use crate::net::sftp::packet::Request;
use crate::net::sftp::session::STATUS_EOF;
use crate::net::sftp::session::Session;
use crate::net::sftp::session::refused;
use std::collections::VecDeque;

/// Under way from the beginning: the names of a small folder, and that these were all.
const FIRST_REQUESTS: usize = 2;

/// Shows what is in a folder.
///
/// # Errors
/// As the server says, or `visit`; `Corrupt` for a name that is none.
pub(super) fn list(
    session: &mut Session,
    path: &[u8],
    visit: &mut dyn FnMut(Found) -> Result<()>,
) -> Result<()> {
    let handle = match session.ask(&Request::OpenFolder { path })? {
        Answer::Handle(handle) => handle,
        other => return Err(refused(other)),
    };
    let mut under_way = VecDeque::new();
    let listed = list_open(session, &handle, &mut under_way, visit);
    if listed.as_ref().is_err_and(|e| e.kind() == ErrorKind::Unreachable) {
        return listed;
    }
    under_way.into_iter().for_each(|number| session.forget(number));
    let number = session.send(&Request::Close { handle: &handle })?;
    session.forget(number);
    session.flush()?;
    listed
}

/// Asks for more names in rounds, each twice as large, until all of the last one is answered:
/// names may come to one request after another has met the end.
fn list_open(
    session: &mut Session,
    handle: &[u8],
    under_way: &mut VecDeque<u32>,
    visit: &mut dyn FnMut(Found) -> Result<()>,
) -> Result<()> {
    let mut is_ended = false;
    let mut round = FIRST_REQUESTS;
    let mut names_total = 0_u64;
    while !is_ended {
        for _ in 0..round {
            under_way.push_back(session.send(&Request::ReadFolder { handle })?);
        }
        while let Some(number) = under_way.pop_front() {
            match session.wait(number)? {
                Answer::Names(names) if !names.is_empty() => {
                    names_total += names.len() as u64;
                    if names_total > SFTP_NAMES_MAX {
                        return Err(Error::corrupt("the server lists names without end"));
                    }
                    names.into_iter().try_for_each(|name| show(name, visit))?;
                }
                Answer::Status(STATUS_EOF, _) => is_ended = true,
                other => return Err(refused(other)),
            }
        }
        round = (round * 2).min(SFTP_LISTS_UNDER_WAY_MAX);
    }
    Ok(())
}

fn show(name: Name, visit: &mut dyn FnMut(Found) -> Result<()>) -> Result<()> {
    let Name { name, attributes } = name;
    match name.as_slice() {
        b"." | b".." => return Ok(()),
        b"" => return Err(Error::corrupt("the server lists a name that is empty")),
        _ if name.contains(&b'/') || name.contains(&0) => {
            let message = format!("the server lists `{}`, which is no name", display(&name));
            return Err(Error::corrupt(message));
        }
        _ => {}
    }
    let look = look(&attributes).map_err(|e| e.context(display(&name)))?;
    visit(Found { name, look })
}
