//! What a folder and its files look like to a client: MLSD's facts, `ls -l`, bare names.
//!
//! A name with the end of a line in it would be two entries. It is shown with `?` instead and a
//! hash of itself behind, under a name that nothing else has: whoever then asks for it hears that
//! there is no such file, which is better than a folder that cannot be listed, and than a file that
//! is silently missing.

use crate::base::hash::hash;
use crate::base::id::to_hex;
use crate::base::limits::NAME_BYTES_MAX;
use crate::base::metadata::Kind;
use crate::base::metadata::mode_text;
use crate::base::time::Timestamp;
use crate::serve::stamp;
use crate::serve::tree::Look;
use crate::serve::users::Rights;

/// The facts there are, in their order. The last one is ours: where a symbolic link leads to, in
/// hex, as any byte may be in it. Nobody gets it who does not ask for it.
pub(super) const FACTS: [&str; 9] =
    ["type", "size", "modify", "perm", "unique", "UNIX.mode", "UNIX.uid", "UNIX.gid", LINK];
const LINK: &str = "X.link";

/// Which facts a client wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted([bool; FACTS.len()]);

impl Wanted {
    /// Returns those of a client that has not asked for any.
    pub(super) fn usual() -> Self {
        Wanted(FACTS.map(|fact| fact != LINK))
    }

    /// Says whether it is asked for where links lead to.
    pub(super) fn has_links(self) -> bool {
        FACTS.iter().zip(self.0).any(|(fact, is_wanted)| is_wanted && *fact == LINK)
    }

    /// Reads what `OPTS MLST` says: `type;size;`. What is unknown is not wanted.
    pub(super) fn parse(text: &str) -> Self {
        let has = |fact: &str| text.split(';').any(|word| word.trim().eq_ignore_ascii_case(fact));
        Wanted(FACTS.map(has))
    }

    /// Returns the facts, each behind it with `mark` where it is wanted and one is given, else
    /// only those that are wanted.
    pub(super) fn shown(self, mark: Option<char>) -> String {
        let mut text = String::new();
        for (fact, is_wanted) in FACTS.iter().zip(self.0) {
            if mark.is_some() || is_wanted {
                text.push_str(fact);
                text.extend(mark.filter(|_| is_wanted));
                text.push(';');
            }
        }
        text
    }
}

/// Returns a line of MLSD, or what MLST says, without a name. `link` is where a link leads to.
pub(super) fn facts(look: &Look, link: Option<&[u8]>, wanted: Wanted, rights: Rights) -> String {
    let is_file = look.kind == Kind::File;
    let values = [
        Some(type_of(look.kind).to_owned()),
        is_file.then(|| look.size.to_string()),
        stamp::write(look.modified),
        Some(permitted(look.kind, rights).to_owned()),
        Some(format!("{:x}-{:x}", look.identity.0, look.identity.1)),
        Some(format!("0{:o}", look.mode)),
        Some(look.owner.0.to_string()),
        Some(look.owner.1.to_string()),
        link.map(to_hex),
    ];
    let mut text = String::new();
    for ((fact, value), is_wanted) in FACTS.iter().zip(values).zip(wanted.0) {
        if let Some(value) = value.filter(|_| is_wanted) {
            text.push_str(&format!("{fact}={value};"));
        }
    }
    text
}

/// Returns a line of `ls -l`, without its end.
pub(super) fn long(look: &Look, name: &[u8], link: Option<&[u8]>, now: Timestamp) -> Vec<u8> {
    let mut line = format!(
        "{} {:3} {:<8} {:<8} {:>12} {} ",
        mode_text(look.kind, look.mode),
        look.links,
        look.owner.0,
        look.owner.1,
        look.size,
        stamp::as_in_ls(look.modified, now),
    )
    .into_bytes();
    line.extend_from_slice(name);
    if let Some(link) = link {
        line.extend(b" -> ");
        line.extend(link.iter().map(|&byte| if ends_line(byte) { b'?' } else { byte }));
    }
    line
}

/// How many bytes of a hash make a shown name its own.
const MARK_BYTES: usize = 8;

/// Returns a name that fits in a line, that nothing else is shown as, and that `is_taken` knows of
/// nothing else. It is the same each time, and as short as names may be.
pub(super) fn in_line(name: &[u8], is_taken: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    if !name.iter().any(|&byte| ends_line(byte)) {
        return name.to_vec();
    }
    let marked = |&byte: &u8| if ends_line(byte) { b'?' } else { byte };
    let mut shown: Vec<u8> = name.iter().map(marked).collect();
    shown.truncate(NAME_BYTES_MAX - 1 - 2 * MARK_BYTES);
    shown.push(b'?');
    let length = shown.len();
    // Not an inode, as two such names may be of one file.
    let mut digest = hash(name);
    loop {
        shown.extend(to_hex(&digest[..MARK_BYTES]).bytes());
        if !is_taken(&shown) {
            return shown;
        }
        shown.truncate(length);
        digest = hash(&digest);
    }
}

fn ends_line(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

fn type_of(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Directory => "dir",
        Kind::Symlink => "OS.unix=symlink",
        Kind::Fifo => "OS.unix=fifo",
        Kind::CharDevice => "OS.unix=chr",
        Kind::BlockDevice => "OS.unix=blk",
        Kind::Socket => "OS.unix=socket",
    }
}

fn permitted(kind: Kind, rights: Rights) -> &'static str {
    match (kind, rights) {
        (Kind::Directory, Rights::Read) => "el",
        (Kind::Directory, Rights::Write) => "cdeflmp",
        (Kind::File, Rights::Read) => "r",
        (Kind::File, Rights::Write) => "adfrw",
        (_, Rights::Read) => "",
        (_, Rights::Write) => "df",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const FILE: Look = Look {
        kind: Kind::File,
        size: 1234,
        modified: Timestamp::new(1_795_274_460, 250_000_000),
        mode: 0o640,
        owner: (1000, 100),
        links: 1,
        identity: (0xfd00, 0x1a2b),
    };

    #[test]
    fn facts_are_those_that_are_wanted() {
        assert_eq!(
            facts(&FILE, None, Wanted::usual(), Rights::Read),
            "type=file;size=1234;modify=20261121152100.25;perm=r;unique=fd00-1a2b;UNIX.mode=0640;\
             UNIX.uid=1000;UNIX.gid=100;"
        );
        let wanted = Wanted::parse("Size;nonsense;unix.mode;");
        assert_eq!(facts(&FILE, None, wanted, Rights::Write), "size=1234;UNIX.mode=0640;");
        assert_eq!(wanted.shown(None), "size;UNIX.mode;");
        assert!(wanted.shown(Some('*')).starts_with("type;size*;modify;"));
        let link = Look { kind: Kind::Symlink, ..FILE };
        let usual = facts(&link, Some(b"x"), Wanted::usual(), Rights::Write);
        assert!(usual.starts_with("type=OS.unix=symlink;mod") && !usual.contains("X.link"));
        let wanted = Wanted::parse("x.link;");
        assert_eq!(facts(&link, Some(b"a ;\n\xff"), wanted, Rights::Write), "X.link=61203b0aff;");
    }

    #[test]
    fn a_long_line_is_that_of_ls() {
        let line = |look: &Look, link| {
            let now = Timestamp::new(1_795_274_500, 0);
            String::from_utf8(long(look, b"a b", link, now)).unwrap()
        };
        let wanted = "-rw-r-----   1 1000     100              1234 Nov 21 15:21 a b";
        assert_eq!(line(&FILE, None), wanted);
        let link = Look { kind: Kind::Symlink, mode: 0o777, ..FILE };
        assert!(line(&link, Some(b"x\ny")).ends_with("a b -> x?y"));
    }

    #[test]
    fn a_name_that_breaks_a_line_gets_one_that_nothing_has() {
        let free = |_: &[u8]| false;
        let names: [&[u8]; 6] = [b"a\nb", b"a\rb", b"a\n\n", b"a\n\r", b"a?\n", b"a\n?"];
        let shown: HashSet<Vec<u8>> = names.iter().map(|name| in_line(name, free)).collect();
        assert_eq!(shown.len(), names.len());
        assert!(
            shown.iter().all(|name| name.len() == 3 + 17 && !name.iter().any(|&b| ends_line(b)))
        );
        let first = in_line(b"a\nb", free);
        assert!(first.starts_with(b"a?b?"));
        assert_eq!(first, in_line(b"a\nb", free));
        let second = in_line(b"a\nb", |name| name == first);
        assert!(second != first && second.starts_with(b"a?b?"));
        assert_eq!(in_line(b"a?b", |_| true), b"a?b");
    }

    #[test]
    fn a_long_name_stays_one_that_may_be() {
        let free = |_: &[u8]| false;
        let long = |end: &[u8]| [&[b'x'; NAME_BYTES_MAX - 1], end].concat();
        let [one, other] = [&b"\n"[..], b"\r"].map(|end| in_line(&long(end), free));
        assert_eq!((one.len(), other.len()), (NAME_BYTES_MAX, NAME_BYTES_MAX));
        assert_ne!(one, other);
    }
}
