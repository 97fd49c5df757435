//! Commands that need a data connection: files up and down, listings.

use crate::base::limits::SERVE_LIST_NAMES;
use crate::base::metadata::Kind;
use crate::base::time::Timestamp;
use crate::net::tls::server::Speaker;
use crate::serve::files::two;
use crate::serve::listing;
use crate::serve::listing::Wanted;
use crate::serve::passive::Passive;
use crate::serve::reply::Reply;
use crate::serve::reply::Trouble;
use crate::serve::reply::refuse;
use crate::serve::session::Answer;
use crate::serve::session::Session;
use crate::serve::stream::Stream;
use crate::serve::transfer::Cut;
use crate::serve::transfer::Transfer;
use crate::serve::tree::Listing;
use crate::serve::tree::Look;
use crate::serve::tree::Named;
use crate::serve::tree::disarm;
use crate::serve::users::Rights;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::net::IpAddr;

/// What a client is told whose data connection may be somebody else's.
const STRANGER: &str = "The data connection must resume the TLS session of the commands";

impl From<Cut> for Trouble {
    fn from(cut: Cut) -> Self {
        Trouble::Refused(cut.reply())
    }
}

/// How a listing looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Facts,
    Long,
    Names,
}

impl Session<'_> {
    pub(super) fn pasv(&mut self) -> Answer {
        if self.is_epsv_only {
            return refuse(503, "EPSV ALL was said");
        }
        let told = match (self.shared.options.passive_host, self.local) {
            (Some(host), _) | (None, IpAddr::V4(host)) => host,
            (None, IpAddr::V6(_)) => return refuse(425, "Use EPSV with IPv6"),
        };
        let port = self.listen()?;
        let [a, b, c, d] = told.octets();
        let (high, low) = (port >> 8, port & 0xff);
        let text = format!("Entering Passive Mode ({a},{b},{c},{d},{high},{low}).");
        Ok(Reply::new(227, text))
    }

    pub(super) fn epsv(&mut self, argument: &[u8]) -> Answer {
        let argument = argument.trim_ascii();
        if argument.eq_ignore_ascii_case(b"ALL") {
            self.is_epsv_only = true;
            return Ok(Reply::new(200, "Only EPSV from here on"));
        }
        let own: &[u8] = if self.local.is_ipv4() { b"1" } else { b"2" };
        if !argument.is_empty() && argument != own {
            let text = if self.local.is_ipv4() { "Only (1) here" } else { "Only (2) here" };
            return refuse(522, text);
        }
        let port = self.listen()?;
        Ok(Reply::new(229, format!("Entering Extended Passive Mode (|||{port}|)")))
    }

    /// Opens a port for the next transfer; one that was not used is closed.
    fn listen(&mut self) -> Result<u16, Trouble> {
        self.passive = None;
        let opened = Passive::open(self.local, self.shared.options.passive_ports.as_ref());
        match opened.and_then(|passive| Ok((passive.port()?, passive))) {
            Ok((port, passive)) => {
                self.passive = Some(passive);
                Ok(port)
            }
            Err(_) => refuse(425, "No port is free"),
        }
    }

    pub(super) fn restart(&mut self, argument: &[u8]) -> Answer {
        let text = std::str::from_utf8(argument.trim_ascii()).unwrap_or_default();
        match text.parse() {
            Ok(offset) if i64::try_from(offset).is_ok() && !text.starts_with('+') => {
                self.restart = offset;
                Ok(Reply::new(350, "Now the transfer"))
            }
            _ => refuse(501, "An offset is a number of bytes"),
        }
    }

    pub(super) fn retrieve(&mut self, path: &[u8]) -> Answer {
        let offset = std::mem::take(&mut self.restart);
        let place = self.place_of(path)?;
        let (mut file, size) = self.shared.tree.read(&place)?;
        if offset > size {
            return refuse(554, "The restart offset is beyond the end of the file");
        }
        file.seek(SeekFrom::Start(offset))?;
        let stream = self.connect(Speaker::Server)?;
        let (silence, cancel) = (self.shared.options.limits.silence, self.shared.cancel);
        let mut transfer = Transfer::new(stream, &mut self.control, cancel, silence);
        send_file(&mut file, size - offset, &mut transfer, &mut self.buffer)?;
        transfer.finish()?;
        Ok(Reply::new(226, "All is sent"))
    }

    pub(super) fn store(&mut self, path: &[u8]) -> Answer {
        match std::mem::take(&mut self.restart) {
            0 => self.store_whole(path),
            offset => self.store_part(path, Some(offset)),
        }
    }

    pub(super) fn append(&mut self, path: &[u8]) -> Answer {
        self.restart = 0;
        self.store_part(path, None)
    }

    /// Takes a file in under a hidden name, and lets it take its place when all of it is there.
    fn store_whole(&mut self, path: &[u8]) -> Answer {
        let place = self.place_of(path)?;
        let mut upload = self.shared.tree.begin(&place)?;
        let stream = self.connect(Speaker::Client)?;
        let (silence, cancel) = (self.shared.options.limits.silence, self.shared.cancel);
        let mut transfer = Transfer::new(stream, &mut self.control, cancel, silence);
        receive_file(&mut transfer, upload.file(), &mut self.buffer)?;
        upload.seal()?;
        transfer.confirm()?;
        upload.place()?;
        // All of it is here, whether or not the client waits for a last word.
        let _ = transfer.finish();
        Ok(Reply::new(226, "All is stored"))
    }

    /// Writes into the file itself, so that what was there before a transfer broke off stays.
    fn store_part(&mut self, path: &[u8], offset: Option<u64>) -> Answer {
        let place = self.place_of(path)?;
        let there = self.shared.tree.part(&place, offset)?;
        let stream = self.connect(Speaker::Client)?;
        // Made only now, as it would stay where no data connection comes.
        let mut file = there.map_or_else(|| self.shared.tree.make_part(&place), Ok)?;
        disarm(&file)?;
        let (silence, cancel) = (self.shared.options.limits.silence, self.shared.cancel);
        let mut transfer = Transfer::new(stream, &mut self.control, cancel, silence);
        let received = receive_file(&mut transfer, &mut file, &mut self.buffer);
        file.sync_all()?;
        self.shared.tree.sync_folder_of(&place)?;
        received?;
        transfer.confirm()?;
        // As above.
        let _ = transfer.finish();
        Ok(Reply::new(226, "All is stored"))
    }

    pub(super) fn list_facts(&mut self, path: &[u8]) -> Answer {
        self.list(path, Style::Facts)
    }

    pub(super) fn list_long(&mut self, argument: &[u8]) -> Answer {
        self.list(without_flags(argument), Style::Long)
    }

    pub(super) fn list_names(&mut self, argument: &[u8]) -> Answer {
        self.list(without_flags(argument), Style::Names)
    }

    fn list(&mut self, path: &[u8], style: Style) -> Answer {
        self.restart = 0;
        let place = if path.is_empty() { self.place.clone() } else { self.place_of(path)? };
        let look = self.shared.tree.look_at(&place)?;
        if look.kind != Kind::Directory {
            if style == Style::Facts {
                return refuse(501, "Not a directory");
            }
            return self.list_one(path, &look, style);
        }
        let mut listing = self.shared.tree.list(&place)?;
        let view = self.view(path, style);
        let stream = self.connect(Speaker::Server)?;
        let (silence, cancel) = (self.shared.options.limits.silence, self.shared.cancel);
        let mut transfer = Transfer::new(stream, &mut self.control, cancel, silence);
        while let Some(rows) = listing.next(SERVE_LIST_NAMES)? {
            transfer.send(&view.lines(&listing, &rows))?;
        }
        transfer.finish()?;
        Ok(Reply::new(226, "All is listed"))
    }

    fn list_one(&mut self, path: &[u8], look: &Look, style: Style) -> Answer {
        let mut text = Vec::new();
        self.view(b"", style).line(path, look, None, &mut text);
        let stream = self.connect(Speaker::Server)?;
        let (silence, cancel) = (self.shared.options.limits.silence, self.shared.cancel);
        let mut transfer = Transfer::new(stream, &mut self.control, cancel, silence);
        transfer.send(&text)?;
        transfer.finish()?;
        Ok(Reply::new(226, "All is listed"))
    }

    fn view(&self, path: &[u8], style: Style) -> View {
        let mut prefix = Vec::new();
        if style == Style::Names && !path.is_empty() {
            prefix.extend_from_slice(path);
            prefix.extend((!path.ends_with(b"/")).then_some(b'/'));
        }
        let rights = self.rights().unwrap_or(Rights::Read);
        View { style, prefix, rights, wanted: self.wanted, now: self.shared.clock.now() }
    }

    /// Waits for the client's data connection, and makes it ready.
    fn connect(&mut self, speaker: Speaker) -> Result<Stream, Trouble> {
        if self.needs_tls() && !self.is_protected {
            return refuse(521, "Data goes within TLS here: say PBSZ 0 and PROT P first");
        }
        if self.is_protected && self.family.is_none() {
            return refuse(522, STRANGER);
        }
        let Some(passive) = self.passive.take() else {
            return refuse(425, "Say EPSV or PASV first");
        };
        let cancel = self.shared.cancel;
        let Some(socket) = passive.accept(self.peer, &mut self.control, cancel) else {
            return refuse(425, "No data connection came");
        };
        let stream = Stream::new(socket)?;
        if !self.control.say(&Reply::new(150, "Here it comes")) {
            return Err(Trouble::Over);
        }
        if !self.is_protected {
            return Ok(stream);
        }
        let socket = stream.socket().try_clone()?;
        drop(stream);
        let Some(stream) = self.shake_hands(socket, speaker) else {
            return refuse(425, "No TLS on the data connection");
        };
        if self.needs_resumption() && !stream.is_resumed() {
            // Whoever it was may have been given sessions to resume: none is good from here on.
            self.family = None;
            return refuse(522, STRANGER);
        }
        Ok(Stream::Tls(Box::new(stream)))
    }
}

/// What lines of a listing are made with.
struct View {
    style: Style,
    prefix: Vec<u8>,
    rights: Rights,
    wanted: Wanted,
    now: Timestamp,
}

impl View {
    fn lines(&self, listing: &Listing<'_>, rows: &[Named]) -> Vec<u8> {
        let mut text = Vec::new();
        for (name, look) in rows {
            let shown = listing::in_line(name, |name| listing.has(name));
            let shows_links = match self.style {
                Style::Facts => self.wanted.has_links(),
                Style::Long => true,
                Style::Names => false,
            };
            let is_shown_link = shows_links && look.kind == Kind::Symlink;
            // A link that went away meanwhile is shown without its end.
            let link = if is_shown_link { listing.read_link(name).ok() } else { None };
            self.line(&shown, look, link.as_deref(), &mut text);
        }
        text
    }

    fn line(&self, name: &[u8], look: &Look, link: Option<&[u8]>, text: &mut Vec<u8>) {
        match self.style {
            Style::Facts => {
                text.extend(listing::facts(look, link, self.wanted, self.rights).bytes());
                text.push(b' ');
                text.extend_from_slice(name);
            }
            Style::Long => text.extend(listing::long(look, name, link, self.now)),
            Style::Names => {
                text.extend_from_slice(&self.prefix);
                text.extend_from_slice(name);
            }
        }
        text.extend(b"\r\n");
    }
}

/// Sends so many bytes of a file. One that became shorter meanwhile is an error: a client could
/// not tell it from one that is whole.
fn send_file(
    file: &mut File,
    size: u64,
    transfer: &mut Transfer<'_>,
    buffer: &mut [u8],
) -> Result<(), Trouble> {
    let mut left = size;
    while left > 0 {
        let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        match file.read(&mut buffer[..most]) {
            Ok(0) => return refuse(451, "The file became shorter while it was read"),
            Ok(read) => {
                transfer.send(&buffer[..read])?;
                left -= read as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return refuse(451, &format!("The file cannot be read: {e}")),
        }
    }
    Ok(())
}

fn receive_file(
    transfer: &mut Transfer<'_>,
    file: &mut File,
    buffer: &mut [u8],
) -> Result<(), Trouble> {
    loop {
        let received = transfer.receive(buffer)?;
        if received == 0 {
            return Ok(());
        }
        file.write_all(&buffer[..received])?;
    }
}

/// Takes off what clients say to LIST as if it were `ls`: all is shown, and in one form.
fn without_flags(argument: &[u8]) -> &[u8] {
    let mut rest = argument;
    while rest.starts_with(b"-") {
        rest = two(rest).1;
    }
    rest
}
