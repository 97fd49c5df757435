//! Commands about names in the folder, which need no data connection.

use crate::base::metadata::Kind;
use crate::serve::listing;
use crate::serve::place::Place;
use crate::serve::reply::Reply;
use crate::serve::reply::Trouble;
use crate::serve::reply::refuse;
use crate::serve::session::Answer;
use crate::serve::session::Session;
use crate::serve::stamp;
use crate::serve::tree::Look;
use crate::serve::upload::MODE_MAX;
use crate::serve::users::Rights;

impl Session<'_> {
    pub(super) fn print_place(&self) -> Reply {
        quoted(&self.place, "is where you are")
    }

    pub(super) fn go(&mut self, path: &[u8]) -> Answer {
        let place = self.place_of(path)?;
        self.shared.tree.expect_folder(&place)?;
        self.place = place;
        Ok(Reply::new(250, "Here you are"))
    }

    pub(super) fn size(&mut self, path: &[u8]) -> Answer {
        // The path is repeated as it was heard: clients see by it how 0xFF is to be said.
        let look = self.look_at(path).map_err(|trouble| trouble.about(path))?;
        match look.kind {
            Kind::File => Ok(Reply::new(213, look.size.to_string())),
            _ => refuse(550, "Not a regular file"),
        }
    }

    pub(super) fn modified(&mut self, path: &[u8]) -> Answer {
        match stamp::write(self.look_at(path)?.modified) {
            Some(text) => Ok(Reply::new(213, text)),
            None => refuse(550, "The time is beyond the calendar"),
        }
    }

    pub(super) fn set_modified(&mut self, argument: &[u8]) -> Answer {
        let (stamp, path) = two(argument);
        let Some(time) = stamp::parse(stamp) else {
            return refuse(501, "A time is written as 20261121152100");
        };
        let place = self.place_of(path)?;
        self.shared.tree.set_modified(&place, time)?;
        // As it is now: a file system may keep fewer years, or digits.
        let kept = stamp::write(self.shared.tree.look_at(&place)?.modified).unwrap_or_default();
        let text = [b"Modify=", kept.as_bytes(), b"; ", path].concat();
        Ok(Reply::new(213, text))
    }

    pub(super) fn site(&mut self, argument: &[u8]) -> Answer {
        let (word, rest) = two(argument);
        if word.eq_ignore_ascii_case(b"HELP") {
            return Ok(Reply::new(214, "CHMOD HELP"));
        }
        if !word.eq_ignore_ascii_case(b"CHMOD") {
            return refuse(504, "Only SITE CHMOD is known");
        }
        let (mode, path) = two(rest);
        let mode =
            std::str::from_utf8(mode).ok().and_then(|mode| u32::from_str_radix(mode, 8).ok());
        let Some(mode) = mode.filter(|mode| *mode <= MODE_MAX) else {
            return refuse(501, "A mode is octal, and at most 1777");
        };
        let place = self.place_of(path)?;
        self.shared.tree.set_mode(&place, mode)?;
        Ok(Reply::new(200, "Mode is set"))
    }

    pub(super) fn remove_file(&mut self, path: &[u8]) -> Answer {
        let place = self.place_of(path)?;
        self.shared.tree.remove_file(&place)?;
        Ok(Reply::new(250, "Removed"))
    }

    pub(super) fn make_folder(&mut self, path: &[u8]) -> Answer {
        let place = self.place_of(path)?;
        self.shared.tree.make_folder(&place)?;
        Ok(quoted(&place, "is made"))
    }

    pub(super) fn remove_folder(&mut self, path: &[u8]) -> Answer {
        let place = self.place_of(path)?;
        self.shared.tree.remove_folder(&place)?;
        Ok(Reply::new(250, "Removed"))
    }

    pub(super) fn rename_from(&mut self, path: &[u8]) -> Answer {
        let place = self.place_of(path)?;
        self.shared.tree.look_at(&place)?;
        if place.split().is_none() {
            return refuse(550, "The folder itself stays");
        }
        self.renamed = Some(place);
        Ok(Reply::new(350, "Now the new name"))
    }

    pub(super) fn rename_to(&mut self, path: &[u8]) -> Answer {
        let Some(from) = self.renamed.take() else { return refuse(503, "Say RNFR first") };
        let to = self.place_of(path)?;
        self.shared.tree.rename(&from, &to)?;
        Ok(Reply::new(250, "Renamed"))
    }

    pub(super) fn one_fact(&mut self, path: &[u8]) -> Answer {
        let place = if path.is_empty() { self.place.clone() } else { self.place_of(path)? };
        let look = self.shared.tree.look_at(&place)?;
        let rights = self.rights().unwrap_or(Rights::Read);
        let is_shown_link = look.kind == Kind::Symlink && self.wanted.has_links();
        let link = if is_shown_link { Some(self.shared.tree.read_link(&place)?) } else { None };
        let mut line = listing::facts(&look, link.as_deref(), self.wanted, rights).into_bytes();
        line.push(b' ');
        line.extend(place.shown());
        Ok(Reply::of_lines(250, vec![b"Facts:".to_vec(), line, b"End".to_vec()]))
    }

    fn look_at(&self, path: &[u8]) -> Result<Look, Trouble> {
        Ok(self.shared.tree.look_at(&self.place_of(path)?)?)
    }
}

/// Names a folder, as 257 wants it: a quote in a name is doubled.
fn quoted(place: &Place, text: &str) -> Reply {
    let mut line = vec![b'"'];
    for byte in place.shown() {
        line.push(byte);
        line.extend((byte == b'"').then_some(b'"'));
    }
    line.extend(b"\" ");
    line.extend(text.bytes());
    Reply::new(257, line)
}

/// Splits at the first blank; what stands behind it, a name, keeps its own.
pub(super) fn two(argument: &[u8]) -> (&[u8], &[u8]) {
    match argument.iter().position(|&byte| byte == b' ') {
        Some(at) => (&argument[..at], &argument[at + 1..]),
        None => (argument, b""),
    }
}
