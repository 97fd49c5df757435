//! Lines of MLSD and MLST (RFC 3659): `type=file;size=1024;modify=20231114221357; name`.
//!
//! A fact that is missing is missing, and never made up; a line that is not understood is an
//! error, as a name that is left out of a backup is worse than a backup that fails.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::metadata::Kind;
use crate::base::path::display;
use crate::base::time::Timestamp;
use crate::net::files::Look;
use crate::net::files::Modified;
use crate::net::files::Precision;

/// A line: the facts, and the name as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) look: Look,
    /// It is the folder that is listed, or the one above.
    pub(crate) is_self: bool,
}

/// Facts that are asked for, where a server offers them.
pub(crate) const WANTED: &[&str] = &[
    "type",
    "size",
    "modify",
    "unique",
    "unix.mode",
    "unix.owner",
    "unix.group",
    "unix.uid",
    "unix.gid",
    LINK,
];

/// A fact of `serve-ftp`: where a symbolic link leads to, in hex.
pub(crate) const LINK: &str = "x.link";

/// Reads a line, without its end.
pub(crate) fn line(bytes: &[u8]) -> Result<Line<'_>> {
    let bad = |why: &str| {
        let shown: String = display(bytes).chars().take(200).collect();
        Error::corrupt(format!("`{shown}` in a listing is not understood: {why}"))
            .hint("a name that holds the end of a line cannot be told by FTP; rename it there")
    };
    let end = bytes.iter().position(|&byte| byte == b' ').ok_or_else(|| bad("no name"))?;
    let (facts, name) = (&bytes[..end], &bytes[end + 1..]);
    let mut kind = None;
    let mut is_self = false;
    let mut look = Look {
        kind: Kind::File,
        size: None,
        modified: None,
        mode: None,
        owner: None,
        unique: Vec::new(),
    };
    let (mut user, mut group) = (None, None);
    for fact in facts.split(|&byte| byte == b';').filter(|fact| !fact.is_empty()) {
        let at = fact.iter().position(|&byte| byte == b'=').ok_or_else(|| bad("no fact"))?;
        let (key, value) = (fact[..at].to_ascii_lowercase(), &fact[at + 1..]);
        match key.as_slice() {
            b"type" => (kind, is_self) = kind_of(value),
            b"size" => look.size = Some(number(value, 10).ok_or_else(|| bad("a size"))?),
            b"modify" => look.modified = time(value).map(second),
            b"unique" => look.unique = value.to_vec(),
            b"unix.mode" => {
                // Of pyftpdlib as Python writes it.
                let digits = value.strip_prefix(b"0o").unwrap_or(value);
                look.mode = number(digits, 8).map(|mode| mode as u32 & 0o7777);
            }
            b"unix.uid" | b"unix.owner" => user = number(value, 10).or(user),
            b"unix.gid" | b"unix.group" => group = number(value, 10).or(group),
            _ => {}
        }
    }
    look.kind = kind.ok_or_else(|| bad("no type"))?;
    if look.kind != Kind::File {
        look.size = None;
    }
    let narrow = |number: u64| u32::try_from(number).ok();
    look.owner = user.and_then(narrow).zip(group.and_then(narrow));
    Ok(Line { name, look, is_self })
}

/// Returns where a link leads to, by the line that tells of it; None where it does not.
pub(crate) fn link(bytes: &[u8]) -> Option<Vec<u8>> {
    let facts = bytes.split(|&byte| byte == b' ').next()?;
    let mut facts = facts.split(|&byte| byte == b';');
    let digits = facts.find_map(|fact| {
        let (key, value) = fact.split_at_checked(LINK.len())?;
        value.strip_prefix(b"=").filter(|_| key.eq_ignore_ascii_case(LINK.as_bytes()))
    })?;
    let pairs = digits.chunks(2).map(|pair| u8::try_from(number(pair, 16)?).ok());
    pairs
        .collect::<Option<Vec<u8>>>()
        .filter(|link| !link.is_empty() && digits.len().is_multiple_of(2))
}

fn second(time: Timestamp) -> Modified {
    Modified { time, precision: Precision::Second }
}

/// Returns what a type is, and whether it is the folder itself or the one above.
fn kind_of(value: &[u8]) -> (Option<Kind>, bool) {
    let value = value.to_ascii_lowercase();
    let is_link = |word: &[u8]| value.strip_prefix(word).is_some_and(|rest| !is_word(rest));
    let kind = match value.as_slice() {
        b"file" => Kind::File,
        b"dir" => Kind::Directory,
        b"cdir" | b"pdir" => return (Some(Kind::Directory), true),
        _ if is_link(b"os.unix=slink") || is_link(b"os.unix=symlink") => Kind::Symlink,
        b"os.unix=fifo" | b"os.unix=pipe" => Kind::Fifo,
        _ if value.starts_with(b"os.unix=chr") => Kind::CharDevice,
        _ if value.starts_with(b"os.unix=blk") => Kind::BlockDevice,
        // What a server has no word for is no content: pure-ftpd says so of pipes.
        _ if value.starts_with(b"os.") || value == b"unknown" => Kind::Socket,
        _ => return (None, false),
    };
    (Some(kind), false)
}

fn is_word(rest: &[u8]) -> bool {
    rest.first().is_some_and(u8::is_ascii_alphanumeric)
}

/// Reads a number of plain digits.
pub(crate) fn number(digits: &[u8], base: u32) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, &digit| {
        let digit = char::from(digit).to_digit(base)?;
        number.checked_mul(u64::from(base))?.checked_add(u64::from(digit))
    })
}

/// Reads `YYYYMMDDHHMMSS`, with a fraction or without, in UTC.
pub(crate) fn time(text: &[u8]) -> Option<Timestamp> {
    let (whole, fraction) = match text.iter().position(|&byte| byte == b'.') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &b""[..]),
    };
    if whole.len() != 14 {
        return None;
    }
    let part = |from: usize, to: usize| number(&whole[from..to], 10).map(|part| part as i32);
    let second = part(12, 14)?;
    let parts =
        [part(0, 4)?, part(4, 6)?, part(6, 8)?, part(8, 10)?, part(10, 12)?, second.min(59)];
    let time = Timestamp::from_calendar(parts).filter(|_| second <= 60)?;
    let mut nanos = 0;
    let mut worth = 100_000_000;
    for &digit in fraction {
        nanos += char::from(digit).to_digit(10)? * worth;
        worth /= 10;
    }
    Some(Timestamp::new(time.seconds(), nanos))
}

/// Writes a time as servers read it; None for years that have no four digits.
pub(crate) fn time_text(time: Timestamp) -> Option<String> {
    let [year, month, day, hour, minute, second] = time.to_calendar()?;
    (0..=9999)
        .contains(&year)
        .then(|| format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::ErrorKind;
    use proptest::prelude::any;
    use proptest::proptest;

    fn read(text: &str) -> Line<'_> {
        line(text.as_bytes()).expect(text)
    }

    #[test]
    fn lines_of_proftpd() {
        let it = read(
            "modify=20231114221357;perm=adfrw;size=1024;type=file;unique=FE00UA78002;\
             UNIX.group=995;UNIX.groupname=ftptest;UNIX.mode=0644;UNIX.owner=999;\
             UNIX.ownername=tester; a; b=c",
        );
        assert_eq!((it.name, it.look.kind, it.is_self), (&b"a; b=c"[..], Kind::File, false));
        assert_eq!((it.look.size, it.look.mode), (Some(1024), Some(0o644)));
        assert_eq!(it.look.owner, Some((999, 995)));
        assert_eq!(it.look.unique, b"FE00UA78002");
        let modified = it.look.modified.expect("told");
        assert_eq!(modified.time.to_rfc3339(), "2023-11-14T22:13:57Z");
        assert_eq!(modified.precision, Precision::Second);

        let link = read("modify=20261120075600;perm=adfrw;size=5;type=OS.unix=symlink; ln");
        assert_eq!((link.look.kind, link.look.size), (Kind::Symlink, None));
        assert!(read("type=cdir;unique=FE00U3640AD; .").is_self);
    }

    #[test]
    fn modes_of_pyftpdlib() {
        let it = read("modify=20261121152509;size=7;type=file;unix.mode=0o640;unix.uid=1; a");
        assert_eq!((it.look.mode, it.look.size), (Some(0o640), Some(7)));
    }

    #[test]
    fn lines_of_pure_ftpd() {
        let link = read(
            "type=OS.unix=slink:;size=7;modify=20261121152509;UNIX.mode=0777;UNIX.uid=0;\
             UNIX.gid=0;unique=fe00g364114; dang",
        );
        assert_eq!((link.look.kind, link.look.owner), (Kind::Symlink, Some((0, 0))));
        assert_eq!(read("type=OS.unix=slink:/a/b; x").look.kind, Kind::Symlink);
        let pipe = read("type=unknown;size=0;modify=20261121152509;UNIX.mode=0644; fifo");
        assert_eq!(pipe.look.kind, Kind::Socket);
        let folder = read("type=dir;sizd=4096;modify=20261121152508;UNIX.mode=0755;  lead");
        assert_eq!(
            (folder.look.kind, folder.look.size, folder.name),
            (Kind::Directory, None, &b" lead"[..])
        );
    }

    #[test]
    fn lines_of_pyftpdlib() {
        let it = read("modify=20261121152458;perm=radfwMT;size=1000;type=file;unique=fe00g1; ln");
        assert_eq!((it.look.kind, it.look.size, it.look.mode), (Kind::File, Some(1000), None));
    }

    #[test]
    fn missing_facts_are_missing() {
        let it = read("Type=file; x");
        assert_eq!((it.look.size, it.look.modified, it.look.owner), (None, None, None));
        assert!(it.look.unique.is_empty());
        assert_eq!(read("type=file;UNIX.uid=1; x").look.owner, None);
        assert_eq!(read("type=file;modify=nonsense; x").look.modified, None);
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for text in [
            "",
            "name",
            " name",
            "size=1; x",
            "type=file;size=-1; x",
            "type=; x",
            "type=file;x; y",
            "line two of a name",
            "type=door; x",
            "type=file;size=99999999999999999999; x",
        ] {
            let error = line(text.as_bytes()).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{text}");
        }
    }

    #[test]
    fn times_are_read_and_written() {
        let exact = time(b"20231114221357.25").expect("a time");
        assert_eq!(exact.to_rfc3339(), "2023-11-14T22:13:57.250Z");
        assert_eq!(time_text(exact).as_deref(), Some("20231114221357"));
        assert_eq!(
            time(b"20231114221357.123456789123"),
            Some(Timestamp::new(1_700_000_037, 123_456_789))
        );
        for bad in [
            &b""[..],
            b"2023111422135",
            b"20231314221357",
            b"20230229000000",
            b"2023111422135x",
            b"20231114221399",
            b"20231114221357.x",
            b"+2023111422135",
        ] {
            assert_eq!(time(bad), None, "{}", display(bad));
        }
        assert_eq!(time_text(Timestamp::new(i64::MAX, 0)), None);
        assert_eq!(
            time_text(Timestamp::new(-62_135_596_801, 0)).as_deref(),
            Some("00001231235959")
        );
    }

    #[test]
    fn links_are_read_as_they_are() {
        let read = |text: &str| link(text.as_bytes());
        let wanted = Some(b"a ;\n\xff".to_vec());
        assert_eq!(read("type=OS.unix=symlink;X.link=61203b0aff; l"), wanted);
        assert_eq!(read("x.LINK=61203B0AFF; X.link=00;"), wanted);
        for bad in ["type=file; X.link=61;", "X.link=; l", "X.link=6; l", "X.link=6x; l", ""] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = line(&bytes);
            let _ = time(&bytes);
            let _ = link(&bytes);
        }

        #[test]
        fn anything_like_facts_is_read_or_refused(
            facts in "((type|size|modify|UNIX.mode)=(file|[0-9.]{0,20}|OS.unix=slink:);){0,4}",
            name in " ?[a-z ]{0,5}",
        ) {
            let _ = line((facts + &name).as_bytes());
        }
    }
}
