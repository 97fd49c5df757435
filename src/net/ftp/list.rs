//! Listings, and looking at one thing.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::limits::FTP_LISTING_BYTES_MAX;
use crate::base::limits::FTP_LISTING_NAMES_MAX;
use crate::base::metadata::Kind;
use crate::base::path::display;
use crate::net::files::Found;
use crate::net::files::Look;
use crate::net::files::Modified;
use crate::net::files::Precision;
use crate::net::ftp::control::Command;
use crate::net::ftp::control::broken;
use crate::net::ftp::data::Data;
use crate::net::ftp::data::Lines;
use crate::net::ftp::facts;
use crate::net::ftp::learn::ListBy;
use crate::net::ftp::learn::joined;
use crate::net::ftp::learn::split;
use crate::net::ftp::learn::time_of;
use crate::net::ftp::reply::Cause;
use crate::net::ftp::reply::Reply;
use crate::net::ftp::row::row;
use crate::net::ftp::session::Begun;
use crate::net::ftp::session::Session;
use crate::net::ftp::session::size_of;

/// A listing as it came.
struct Listing {
    found: Vec<Found>,
    /// Lines with a name, those of the folder itself among them.
    lines: usize,
}

impl Session {
    /// Returns what is in a folder, by name, or how the server refuses. All of it is there before
    /// anything is returned, as only the last word tells whether it is whole.
    pub(crate) fn entries(
        &mut self,
        folder: &[u8],
    ) -> Result<std::result::Result<Vec<Found>, Reply>> {
        loop {
            let by = self.learned.list_by;
            let mut listing = match self.listing(folder, by)? {
                Ok(listing) => listing,
                Err(refused) => match (by, refused.code) {
                    (ListBy::Mlsd, _) if refused.is_unknown() => {
                        self.learned.list_by = ListBy::ListAll;
                        continue;
                    }
                    (ListBy::ListAll, 500..) if !self.learned.all_works => {
                        // Whether `-a` is refused, or the folder: the same without tells.
                        let again = self.listing(folder, ListBy::List)?;
                        if again.is_ok() {
                            self.learned.list_by = ListBy::List;
                            continue;
                        }
                        return Ok(Err(refused));
                    }
                    _ => return Ok(Err(refused)),
                },
            };
            if by == ListBy::ListAll && !self.learned.all_works {
                self.learned.all_works = listing.lines > listing.found.len();
                if listing.lines == 0 {
                    // No folder is so empty that it does not show itself: `-a` may be a name here.
                    let again = self.listing(folder, ListBy::List)?;
                    if let Ok(again) = again.map(|again| again.lines)
                        && again > 0
                    {
                        self.learned.list_by = ListBy::List;
                        continue;
                    }
                }
            }
            if by != ListBy::Mlsd {
                self.settle_times(folder, &mut listing.found)?;
            }
            return names_checked(listing.found).map(Ok);
        }
    }

    /// Lists a folder in one way. The folder is gone into first: a path behind LIST is a pattern to
    /// some servers, and one that is not there an empty listing to others.
    fn listing(
        &mut self,
        folder: &[u8],
        by: ListBy,
    ) -> Result<std::result::Result<Listing, Reply>> {
        let command = match by {
            ListBy::Mlsd => Command::bare("MLSD"),
            ListBy::ListAll => Command::new("LIST", b"-a"),
            ListBy::List => Command::bare("LIST"),
        };
        let (replies, begun) = self.begin(&[Command::new("CWD", folder)], true, command, 0)?;
        let is_entered = replies.first().is_some_and(Reply::is_done);
        match begun {
            Begun::Open(data) => self.read_listing(data, by).map(Ok),
            Begun::Refused(reply) if is_entered && reply.is_of_nothing() => {
                Ok(Ok(Listing { found: Vec::new(), lines: 0 }))
            }
            Begun::Refused(reply) => Ok(Err(reply)),
        }
    }

    fn read_listing(&mut self, mut data: Data, by: ListBy) -> Result<Listing> {
        let listing = match self.read_lines(&mut data, by) {
            Err(e) if e.kind() != ErrorKind::Unreachable => {
                if self.abandon(data).is_err() {
                    self.lose();
                }
                return Err(e);
            }
            listing => listing?,
        };
        let is_cut = !data.is_whole && self.is_secure();
        let reply = self.end(data)?;
        if !reply.is_done() {
            return Err(reply.refusal());
        }
        if is_cut {
            return Err(broken("the listing was cut on its way"));
        }
        let total = matches_told(&reply);
        if reply.mentions("truncated") || total.is_some_and(|total| total != listing.lines) {
            let said = format!("the server cuts the listing: it says {}", reply.text());
            return Err(Error::new(ErrorKind::Unsupported, said)
                .hint("raise its limit (-L of pure-ftpd), or keep fewer names in a folder"));
        }
        Ok(listing)
    }

    fn read_lines(&mut self, data: &mut Data, by: ListBy) -> Result<Listing> {
        let now = self.clock.now();
        let mut lines = Lines::new(data);
        let mut listing = Listing { found: Vec::new(), lines: 0 };
        let mut bytes = 0;
        while let Some(line) = lines.next()? {
            bytes += line.len();
            if listing.found.len() >= FTP_LISTING_NAMES_MAX || bytes > FTP_LISTING_BYTES_MAX {
                return Err(Error::corrupt("the listing has no end"));
            }
            let found = match by {
                ListBy::Mlsd => {
                    let line = facts::line(&line)?;
                    let found = Found { name: line.name.to_vec(), look: line.look };
                    Some(found).filter(|_| !line.is_self)
                }
                ListBy::ListAll | ListBy::List => row(&line, now)?,
            };
            listing.lines += usize::from(!line.starts_with(b"total "));
            listing.found.extend(found);
        }
        Ok(listing)
    }

    pub(crate) fn list_all(
        &mut self,
        folder: &[u8],
        visit: &mut dyn FnMut(Found) -> Result<()>,
    ) -> Result<()> {
        self.settle()?;
        match self.entries(folder)? {
            Ok(found) => found.into_iter().try_for_each(visit),
            // One server says so of what it may not enter, too; but not when asked for a size.
            Err(refused)
                if refused.cause() == Some(Cause::Missing)
                    && self.ask("SIZE", folder)?.cause() == Some(Cause::Missing) =>
            {
                Err(Error::new(ErrorKind::NotFound, refused.said()))
            }
            Err(refused) => Err(match self.look(folder)? {
                None => Error::new(ErrorKind::NotFound, refused.said()),
                Some(look) if look.kind != Kind::Directory => {
                    Error::new(ErrorKind::Io, "it is no folder")
                }
                Some(_) => refused.refusal(),
            }),
        }
    }

    /// Looks at what a path names.
    pub(crate) fn look(&mut self, path: &[u8]) -> Result<Option<Look>> {
        self.settle()?;
        if self.features.facts.is_some() {
            let reply = self.ask("MLST", path)?;
            if reply.code == 250 {
                return self.read_look(path, &reply).map(Some);
            }
            if !reply.is_unknown() {
                return self.look_again(path, &reply);
            }
        }
        let commands = [Command::new("SIZE", path), Command::new("MDTM", path)];
        let replies = self.control.ask_all(&commands)?;
        let Some(size) = replies.first().and_then(size_of) else {
            return match replies.first() {
                Some(refused) => self.look_again(path, refused),
                None => Err(Error::bug("a command has no reply")),
            };
        };
        let time = replies.last().and_then(time_of);
        let modified = time.map(|time| Modified { time, precision: Precision::Second });
        Ok(Some(Look { size: Some(size), modified, ..bare(Kind::File) }))
    }

    pub(crate) fn read_look(&mut self, path: &[u8], reply: &Reply) -> Result<Look> {
        let line = reply.lines.iter().find_map(|line| line.strip_prefix(b" "));
        let line = line.ok_or_else(|| Error::corrupt(reply.said()))?;
        let look = facts::line(line)?.look;
        // proftpd calls a link a file here, with the size of the link and the mode of links.
        if look.kind == Kind::File && look.mode == Some(0o777) {
            let size = size_of(&self.ask("SIZE", path)?);
            if size != look.size {
                return Ok(Look { size: None, kind: Kind::Symlink, ..look });
            }
        }
        Ok(look)
    }

    /// Returns where a link leads to, of a server that tells it.
    pub(crate) fn link_at(&mut self, path: &[u8]) -> Result<Vec<u8>> {
        self.settle()?;
        if !self.features.shows(facts::LINK) {
            return Err(Error::new(ErrorKind::Unsupported, "this server tells of no link"));
        }
        let reply = self.ask("MLST", path)?;
        if reply.code != 250 {
            return Err(match self.look_again(path, &reply)? {
                None => Error::new(ErrorKind::NotFound, reply.said()),
                Some(_) => reply.refusal(),
            });
        }
        let line = reply.lines.iter().find_map(|line| line.strip_prefix(b" "));
        let link = line.and_then(facts::link);
        link.ok_or_else(|| Error::new(ErrorKind::Io, "the server does not tell where it leads to"))
    }

    /// Finds out what a refusal to look means: going there tells a folder, and of many servers why
    /// not; of others the listing of the folder above does.
    fn look_again(&mut self, path: &[u8], refused: &Reply) -> Result<Option<Look>> {
        if refused.cause() == Some(Cause::Missing) {
            return Ok(None);
        }
        if self.features.has("ESTP") {
            // pure-ftpd, which answers each CWD that fails later than the one before. Without a
            // data connection it opens a file and says how that went.
            let opened = self.ask("RETR", path)?;
            match opened.cause() {
                Some(Cause::Missing | Cause::NotFolder) => return Ok(None),
                Some(Cause::Denied) => return Err(opened.refusal()),
                _ if opened.is_preliminary() => return Err(broken("the server is out of step")),
                _ => {}
            }
        }
        let commands = [Command::new("SIZE", path), Command::new("CWD", path)];
        let replies = self.control.ask_all(&commands)?;
        let [sized, gone] = replies.as_slice() else {
            return Err(Error::bug("a command has no reply"));
        };
        if gone.is_done() {
            return Ok(Some(bare(Kind::Directory)));
        }
        // In this order: proftpd says "no such file" of what is in a folder that it may not enter.
        for reply in [refused, sized, gone] {
            match reply.cause() {
                Some(Cause::Missing) => return Ok(None),
                Some(Cause::Denied) => return Err(reply.refusal()),
                _ => {}
            }
        }
        let mut below = path;
        while below != b"/" {
            let (folder, name) = split(below);
            let found = match self.entries(folder)? {
                Ok(found) => found.into_iter().find(|found| found.name == name),
                Err(reply) if reply.cause() == Some(Cause::Missing) => return Ok(None),
                Err(_) => {
                    below = folder;
                    continue;
                }
            };
            return match found {
                found if below == path => Ok(found.map(|found| found.look)),
                // It is there and cannot be gone into.
                Some(found) if found.look.kind == Kind::Directory => {
                    let said = format!("{} cannot be gone into", display(&joined(folder, name)));
                    Err(Error::new(ErrorKind::Denied, said))
                }
                _ => Ok(None),
            };
        }
        Err(gone.refusal())
    }
}

/// What is known of something of which only the kind is.
fn bare(kind: Kind) -> Look {
    Look { kind, size: None, modified: None, mode: None, owner: None, unique: Vec::new() }
}

/// Sorts names, and refuses those that are none and those that come twice: a name with the end of a
/// line in it shows as two, and a hostile server says what it likes.
fn names_checked(mut found: Vec<Found>) -> Result<Vec<Found>> {
    found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let is_none = |name: &[u8]| {
        matches!(name, b"" | b"." | b"..") || name.iter().any(|byte| matches!(byte, b'/' | b'\0'))
    };
    if let Some(bad) = found.iter().find(|found| is_none(&found.name)) {
        let said = format!("the server lists `{}`, which is no name", display(&bad.name));
        return Err(Error::corrupt(said));
    }
    if let Some(pair) = found.windows(2).find(|pair| pair[0].name == pair[1].name) {
        let said = format!("the server lists `{}` twice", display(&pair[0].name));
        return Err(Error::corrupt(said)
            .hint("a name with a control character in it may show as another; rename it there"));
    }
    Ok(found)
}

/// Reads `226 3 matches total`, as pure-ftpd says.
fn matches_told(reply: &Reply) -> Option<usize> {
    let line = reply.lines.last()?.strip_suffix(b" matches total")?;
    facts::number(line, 10).and_then(|total| usize::try_from(total).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &[u8]) -> Found {
        Found { name: name.to_vec(), look: bare(Kind::File) }
    }

    #[test]
    fn names_that_are_none_are_refused() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"/etc/passwd", b"../x", b"a\0b"] {
            let error = names_checked(vec![found(b"ok"), found(bad)]).expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
        assert!(names_checked(vec![found(b"a"), found(b"b"), found(b"a")]).is_err());
        let names = names_checked(vec![found(b"b"), found(b"...")]).expect("fine");
        assert_eq!(names[0].name, b"...");
    }

    #[test]
    fn totals_of_pure_ftpd_are_read() {
        let reply = |text: &str| Reply { code: 226, lines: vec![text.as_bytes().to_vec()] };
        assert_eq!(matches_told(&reply("3 matches total")), Some(3));
        assert_eq!(matches_told(&reply("Transfer complete.")), None);
        assert_eq!(matches_told(&reply("x matches total")), None);
    }
}
