//! What only trying tells of a server, remembered for the session.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::metadata::Kind;
use crate::base::path::display;
use crate::base::time::Timestamp;
use crate::net::files::Found;
use crate::net::files::Precision;
use crate::net::ftp::control::sayable;
use crate::net::ftp::facts;
use crate::net::ftp::login::Features;
use crate::net::ftp::reply::Reply;
use crate::net::ftp::session::Session;

/// How folders are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListBy {
    Mlsd,
    /// `LIST -a`, which names that begin with a dot want of most servers.
    ListAll,
    /// `LIST`, for servers that take `-a` for a name.
    List,
}

/// How a time is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeBy {
    Mfmt,
    Utime,
    /// `MDTM time name`, which is a question to most servers.
    Mdtm,
}

impl TimeBy {
    /// Returns word and argument of the command that sets a time.
    pub(crate) fn command(self, time: &str, path: &[u8]) -> (&'static str, Vec<u8>) {
        let argument = [time.as_bytes(), b" ", path].concat();
        match self {
            TimeBy::Mfmt => ("MFMT", argument),
            TimeBy::Utime => ("SITE", [b"UTIME ", &argument[..]].concat()),
            TimeBy::Mdtm => ("MDTM", argument),
        }
    }
}

/// What was learned.
#[derive(Debug)]
pub(crate) struct Learned {
    pub(crate) list_by: ListBy,
    /// Whether `LIST -a` has shown a folder itself, so that it is no name.
    pub(crate) all_works: bool,
    /// Ways to set a time that may work, the best first.
    pub(crate) time_by: Vec<TimeBy>,
    /// Whether the first of them was seen to work.
    pub(crate) time_is_proven: bool,
    /// Whether permission bits can be set.
    pub(crate) sets_mode: bool,
    /// The mode that a new file had before anybody set it, and its folder.
    pub(crate) new_mode: Option<(Vec<u8>, u32)>,
    /// Whether STAT lists a file, as far as was seen.
    pub(crate) stat_tells: bool,
    /// Whether EPSV is used.
    pub(crate) extended: bool,
    /// Whether times of LIST are those of MDTM; None until it was seen.
    is_one_zone: Option<bool>,
    /// How 0xFF is heard; None until it was asked.
    heard: Option<Heard>,
}

impl Learned {
    pub(crate) fn new(features: &Features) -> Self {
        let may = |word: &str| !features.is_told || features.has(word);
        // A server that offers MFMT means it; the others are tried.
        let time_by = match features.has("MFMT") {
            true => vec![TimeBy::Mfmt, TimeBy::Utime],
            false if may("MDTM") => vec![TimeBy::Utime, TimeBy::Mdtm],
            false => vec![TimeBy::Utime],
        };
        Learned {
            list_by: if features.facts.is_some() { ListBy::Mlsd } else { ListBy::ListAll },
            all_works: false,
            time_is_proven: features.has("MFMT"),
            time_by,
            sets_mode: true,
            new_mode: None,
            stat_tells: true,
            extended: true,
            is_one_zone: None,
            heard: None,
        }
    }

    /// Returns the mode of new files in a folder, where one was seen.
    pub(crate) fn new_mode_in(&self, folder: &[u8]) -> Option<u32> {
        self.new_mode.as_ref().filter(|(seen, _)| seen == folder).map(|(_, mode)| *mode)
    }

    /// Returns how a time is set, where that was seen to work.
    pub(crate) fn proven_time_by(&self) -> Option<TimeBy> {
        self.time_by.first().copied().filter(|_| self.time_is_proven)
    }
}

/// How a server hears 0xFF in a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// As every other byte.
    Plain,
    /// As Telnet has it, where it stands twice for itself.
    Telnet,
    /// It does not tell.
    Untold,
}

/// Asked for the size of what has this name, a server that hears Telnet repeats it with one 0xFF.
const DOUBLED: &[u8] = b"/icecore-\xFF\xFF-probe";
/// Servers that repeat no name and take 0xFF as it is, by words of what they say to STAT.
const PLAIN: &[&str] = &["vsftpd", "pureftpd"];

impl Session {
    /// Finds out how 0xFF is said, before it is for the first time: proftpd hears commands as
    /// Telnet has them, where it stands twice for itself, and once for the beginning of something
    /// else; vsftpd and pure-ftpd take it as it is. Where that stays unknown no such path is said,
    /// as it could be heard as another one.
    pub(crate) fn learn_doubling(&mut self, path: &[u8]) -> Result<()> {
        if !path.contains(&0xFF) {
            return Ok(());
        }
        let heard = match self.learned.heard {
            Some(heard) => heard,
            None => self.ask_doubling()?,
        };
        if heard == Heard::Untold {
            let message = format!("`{}` cannot be said to this FTP server", display(path));
            return Err(Error::invalid(message)
                .hint("it holds a byte 0xFF, and the server does not show how it hears that"));
        }
        Ok(())
    }

    fn ask_doubling(&mut self) -> Result<Heard> {
        self.settle()?;
        let repeated = heard(&self.ask("SIZE", DOUBLED)?);
        let is_known = |reply: &Reply| PLAIN.iter().any(|word| reply.mentions(word));
        let heard = match repeated {
            Heard::Untold if is_known(&self.ask("STAT", b"")?) => Heard::Plain,
            heard => heard,
        };
        self.control.doubles = heard == Heard::Telnet;
        self.learned.heard = Some(heard);
        Ok(heard)
    }

    /// Says how exact the times of a listing are: one of them is asked for by another command,
    /// which should tell it in UTC. Where both tell the same it is one zone, and no proof of which:
    /// vsftpd with `use_localtime` tells both in its own.
    pub(crate) fn settle_times(&mut self, folder: &[u8], found: &mut [Found]) -> Result<()> {
        let is_exact = |found: &Found| {
            found.look.modified.is_some_and(|modified| modified.precision == Precision::Minute)
        };
        let sample = found.iter().find(|found| is_exact(found) && found.look.kind == Kind::File);
        if let (None, Some(sample)) = (self.learned.is_one_zone, sample) {
            let path = joined(folder, &sample.name);
            let reply = match sayable(&path) {
                Ok(()) => Some(self.ask("MDTM", &path)?),
                Err(_) => None,
            };
            let shown = sample.look.modified.map(|modified| modified.time.seconds());
            let told = reply.as_ref().and_then(time_of).map(|time| time.seconds());
            if let (Some(shown), Some(told)) = (shown, told) {
                self.learned.is_one_zone = Some(told.div_euclid(60) == shown.div_euclid(60));
            }
        }
        if self.learned.is_one_zone != Some(true) {
            let all = found.iter_mut().filter_map(|found| found.look.modified.as_mut());
            all.for_each(|modified| modified.precision = Precision::Vague);
        }
        Ok(())
    }

    /// Makes sure that something has the name that it was given, where that is one of those that
    /// some servers keep as another: pure-ftpd drops blanks at the end and makes `_` of a tab,
    /// pyftpdlib another sign of what is not UTF-8.
    pub(crate) fn confirm_name(&mut self, path: &[u8]) -> Result<()> {
        let (folder, name) = split(path);
        if !is_odd(name) {
            return Ok(());
        }
        let found = match self.entries(folder)? {
            Ok(found) => found,
            Err(reply) => return Err(reply.refusal()),
        };
        match found.iter().any(|found| found.name == name) {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Unsupported,
                "the server keeps it under another name",
            )
            .hint(
                "it cannot have blanks at the end, control characters, or bytes that are not UTF-8",
            )),
        }
    }
}

/// Sees by a name that is repeated how it was heard.
fn heard(reply: &Reply) -> Heard {
    let holds = |part: &[u8]| {
        reply.lines.iter().any(|line| line.windows(part.len()).any(|window| window == part))
    };
    if holds(b"icecore-\xFF\xFF-probe") {
        return Heard::Plain;
    }
    if holds(b"icecore-\xFF-probe") { Heard::Telnet } else { Heard::Untold }
}

/// Reads the reply to MDTM.
pub(crate) fn time_of(reply: &Reply) -> Option<Timestamp> {
    let line = reply.lines.last().filter(|_| reply.code == 213)?;
    facts::time(line.trim_ascii())
}

/// Splits an absolute path into folder and name.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let at = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
    let folder = if at == 0 { &b"/"[..] } else { &path[..at] };
    (folder, path.get(at + 1..).unwrap_or_default())
}

pub(crate) fn joined(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder == b"/" { [folder, name].concat() } else { [folder, b"/", name].concat() }
}

/// Says whether there are servers that keep a name as another.
pub(crate) fn is_odd(name: &[u8]) -> bool {
    let is_control = |byte: &u8| byte.is_ascii_control();
    let at_end = matches!(name.last(), Some(b' ' | b'.'));
    at_end || name.iter().any(is_control) || std::str::from_utf8(name).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split() {
        assert_eq!(split(b"/a/b"), (&b"/a"[..], &b"b"[..]));
        assert_eq!(split(b"/a"), (&b"/"[..], &b"a"[..]));
        assert_eq!(split(b"/"), (&b"/"[..], &b""[..]));
        assert_eq!(joined(b"/", b"a"), b"/a");
        assert_eq!(joined(b"/a", b"b"), b"/a/b");
    }

    #[test]
    fn telnet_is_heard_by_what_it_repeats() {
        let reply = |text: &[u8]| Reply { code: 550, lines: vec![text.to_vec()] };
        for (text, wanted) in [
            (&b"/icecore-\xFF-probe: No such file or directory"[..], Heard::Telnet),
            (b"/icecore-\xFF\xFF-probe: No such file or directory", Heard::Plain),
            (b"Could not get file size.", Heard::Untold),
            // Neither of them: another sign in their place, or nothing at all.
            (b"/icecore-??-probe: No such file or directory", Heard::Untold),
            (b"/icecore--probe: No such file or directory", Heard::Untold),
        ] {
            assert_eq!(heard(&reply(text)), wanted, "{text:?}");
        }
    }
}
