//! Lines of LIST, for servers without MLSD: as `ls -l` writes them, and as DOS does.
//!
//! No standard says what they look like, so only what is known for sure is read, and any other line
//! is an error. Times are to the minute or to the day, in a zone that the line does not tell.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::metadata::Kind;
use crate::base::path::display;
use crate::base::time::Timestamp;
use crate::net::files::Found;
use crate::net::files::Look;
use crate::net::files::Modified;
use crate::net::files::Precision;
use crate::net::ftp::facts::number;

const MONTHS: [&[u8]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// Reads a line, without its end. None for one that names nothing, and for `.` and `..`. Times are
/// taken as UTC, and `now` tells the year where none stands.
pub(crate) fn row(line: &[u8], now: Timestamp) -> Result<Option<Found>> {
    if line.strip_prefix(b"total ").is_some_and(|rest| number(trimmed(rest), 10).is_some()) {
        return Ok(None);
    }
    let found = unix(line, now).or_else(|| dos(line)).ok_or_else(|| {
        let shown: String = display(line).chars().take(200).collect();
        Error::corrupt(format!("`{shown}` in a listing is not understood"))
            .hint("the server cannot be used without MLSD; another FTP server, or SFTP, can")
    })?;
    let is_self = found.name == b"." || found.name == b"..";
    Ok(Some(found).filter(|_| !is_self))
}

/// What is left of a line that is read from its beginning.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    /// Takes a word and the blanks before it.
    fn word(&mut self) -> Option<&'a [u8]> {
        let from = self.0.iter().position(|&byte| byte != b' ')?;
        let rest = &self.0[from..];
        let end = rest.iter().position(|&byte| byte == b' ').unwrap_or(rest.len());
        self.0 = &rest[end..];
        Some(&rest[..end])
    }

    /// Takes the one blank before a name, and the name with all that it begins and ends with.
    fn name(self) -> Option<&'a [u8]> {
        self.0.strip_prefix(b" ").filter(|name| !name.is_empty())
    }
}

/// `-rw-r--r--    1 999      995          1024 Nov 14  2023 a.bin`
fn unix(line: &[u8], now: Timestamp) -> Option<Found> {
    let mut rest = Rest(line);
    if line.first() == Some(&b' ') {
        return None;
    }
    let (kind, mode) = bits(rest.word()?)?;
    number(rest.word()?, 10)?;
    // User, group and size; some servers know no group, and devices have two numbers for a size.
    let mut words = vec![rest.word()?];
    let date = loop {
        let mut ahead = Rest(rest.0);
        let word = ahead.word()?;
        let size_before = words.last().is_some_and(|last| number(last, 10).is_some());
        let date =
            if words.len() >= 2 && size_before { date(&mut Rest(rest.0), now) } else { None };
        if let Some(found) = date {
            break found;
        }
        if words.len() == WORDS_MAX {
            return None;
        }
        words.push(word);
        rest = ahead;
    };
    let (modified, rest) = date;
    let size = number(words.last()?, 10)?;
    let narrow = |word: &[u8]| number(word, 10).and_then(|number| u32::try_from(number).ok());
    let owner = match words.as_slice() {
        [user, group, _] => narrow(user).zip(narrow(group)),
        _ => None,
    };
    let name = rest.name()?;
    let name = if kind == Kind::Symlink { link_name(name, size)? } else { name };
    let size = Some(size).filter(|_| kind == Kind::File);
    let look =
        Look { kind, size, modified: Some(modified), mode: Some(mode), owner, unique: Vec::new() };
    Some(Found { name: name.to_vec(), look })
}

/// Words before a date at most: user and group of two words each, and two numbers of a device.
const WORDS_MAX: usize = 6;

/// Reads `drwxr-sr-t`, with a mark of more rights behind it.
fn bits(word: &[u8]) -> Option<(Kind, u32)> {
    let (letters, mark) = word.split_at_checked(10)?;
    if !matches!(mark, b"" | b"+" | b"." | b"@") {
        return None;
    }
    let kind = match letters[0] {
        b'-' => Kind::File,
        b'd' => Kind::Directory,
        b'l' => Kind::Symlink,
        b'p' => Kind::Fifo,
        b'c' => Kind::CharDevice,
        b'b' => Kind::BlockDevice,
        b's' => Kind::Socket,
        _ => return None,
    };
    let mut mode = 0;
    for (at, &letter) in letters[1..].iter().enumerate() {
        let bit = 0o400 >> at;
        let special = 0o4000 >> (at / 3);
        mode |= match (at % 3, letter) {
            (_, b'-') => 0,
            (0, b'r') | (1, b'w') | (2, b'x') => bit,
            (2, b's') if at < 8 => bit | special,
            (2, b'S') if at < 8 => special,
            (2, b't') if at == 8 => bit | special,
            (2, b'T') if at == 8 => special,
            _ => return None,
        };
    }
    Some((kind, mode))
}

/// Reads `Nov 14  2023`, `Nov 17 07:56` or `2023-11-14 22:13`.
fn date<'a>(rest: &mut Rest<'a>, now: Timestamp) -> Option<(Modified, Rest<'a>)> {
    let first = rest.word()?;
    if let Some(month) = MONTHS.iter().position(|month| *month == first) {
        let month = month as i32 + 1;
        let day = number(rest.word()?, 10).filter(|day| *day <= 31)? as i32;
        let last = rest.word()?;
        let modified = match clock(last) {
            Some([hour, minute]) => recent(month, day, hour, minute, now)?,
            None => {
                let year = number(last, 10).filter(|_| last.len() == 4)? as i32;
                let time = Timestamp::from_calendar([year, month, day, 0, 0, 0])?;
                Modified { time, precision: Precision::Vague }
            }
        };
        return Some((modified, Rest(rest.0)));
    }
    let [year, month, day] = triple(first, b'-')?;
    let [hour, minute] = clock(rest.word()?)?;
    let time = Timestamp::from_calendar([year, month, day, hour, minute, 0])?;
    Some((Modified { time, precision: Precision::Minute }, Rest(rest.0)))
}

/// A date without a year is the last one of its kind. A day ahead is possible, as zones differ.
fn recent(month: i32, day: i32, hour: i32, minute: i32, now: Timestamp) -> Option<Modified> {
    let [year, ..] = now.to_calendar()?;
    let latest = now.plus_seconds(24 * 3600);
    // Of 29 February the last one is up to eight years ago.
    let time = (0..9).find_map(|back| {
        let year = year.checked_add(1)?.checked_sub(back)?;
        let time = Timestamp::from_calendar([year, month, day, hour, minute, 0])?;
        (time <= latest).then_some(time)
    })?;
    Some(Modified { time, precision: Precision::Minute })
}

fn clock(word: &[u8]) -> Option<[i32; 2]> {
    let at = word.iter().position(|&byte| byte == b':')?;
    let hour = number(&word[..at], 10).filter(|hour| *hour < 24)?;
    let minute = number(&word[at + 1..], 10).filter(|minute| *minute < 60)?;
    Some([hour as i32, minute as i32])
}

fn triple(word: &[u8], bar: u8) -> Option<[i32; 3]> {
    let mut parts = word
        .split(|&byte| byte == bar)
        .map(|part| number(part, 10).filter(|_| part.len() <= 4).map(|number| number as i32));
    let triple = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(triple)
}

/// Cuts where a link points to from its name. The size of a link is the length of that.
fn link_name(name: &[u8], size: u64) -> Option<&[u8]> {
    let arrow = b" -> ";
    let mut cuts = name.windows(arrow.len()).enumerate().filter(|(_, window)| window == arrow);
    let fits = |at: &usize| (name.len() - at - arrow.len()) as u64 == size;
    let all: Vec<usize> = cuts.by_ref().map(|(at, _)| at).collect();
    match all.as_slice() {
        [] => None,
        [only] => Some(&name[..*only]),
        _ => all.iter().find(|at| fits(at)).map(|at| &name[..*at]),
    }
    .filter(|name| !name.is_empty())
}

/// `11-14-23  10:13PM                 1024 a.bin` or `...       <DIR>          sub`
fn dos(line: &[u8]) -> Option<Found> {
    let mut rest = Rest(line);
    let [month, day, year] = triple(rest.word()?, b'-')?;
    let year = match year {
        0..70 => 2000 + year,
        70..100 => 1900 + year,
        _ => year,
    };
    let word = rest.word()?;
    let (digits, half) = word.split_at_checked(5).unwrap_or((word, b""));
    let [hour, minute] = clock(digits)?;
    let hour = match half.to_ascii_uppercase().as_slice() {
        b"AM" if (1..=12).contains(&hour) => hour % 12,
        b"PM" if (1..=12).contains(&hour) => hour % 12 + 12,
        b"" => hour,
        _ => return None,
    };
    let time = Timestamp::from_calendar([year, month, day, hour, minute, 0])?;
    let what = rest.word()?;
    let (kind, size, name) = match what {
        b"<DIR>" => {
            // Ten blanks stand before the name; more are its own.
            let name = rest.0.strip_prefix(b"          ").unwrap_or(rest.0.trim_ascii_start());
            (Kind::Directory, None, Some(name).filter(|name| !name.is_empty())?)
        }
        digits => (Kind::File, Some(number(digits, 10)?), rest.name()?),
    };
    let modified = Some(Modified { time, precision: Precision::Vague });
    let look = Look { kind, size, modified, mode: None, owner: None, unique: Vec::new() };
    Some(Found { name: name.to_vec(), look })
}

fn trimmed(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::ErrorKind;
    use proptest::prelude::any;
    use proptest::proptest;

    /// 2026-11-20 08:00.
    const NOW: Timestamp = Timestamp::new(1_795_161_600, 0);

    fn read(text: &str) -> Found {
        row(text.as_bytes(), NOW).expect(text).expect(text)
    }

    fn time(found: &Found) -> (String, Precision) {
        let modified = found.look.modified.expect("told");
        (modified.time.to_rfc3339(), modified.precision)
    }

    #[test]
    fn lines_of_four_servers() {
        for text in [
            "-rw-r--r--    1 999      995          1024 Nov 14  2023 a.bin",
            "-rw-r--r--   1 tester   ftptest      1024 Nov 14  2023 a.bin",
            "-rw-r--r--    1 999        ftptest          1024 Nov 14  2023 a.bin",
            "-rw-r--r--   1 ftptest  ftptest      1024 Nov 14  2023 a.bin",
        ] {
            let found = read(text);
            assert_eq!(found.name, b"a.bin");
            assert_eq!((found.look.kind, found.look.size), (Kind::File, Some(1024)));
            assert_eq!(found.look.mode, Some(0o644));
            assert_eq!(time(&found), ("2023-11-14T00:00:00Z".to_owned(), Precision::Vague));
        }
        let found = read("-rw-r--r--    1 999      995            12 Nov 17 07:56 recent.txt");
        assert_eq!(time(&found), ("2026-11-17T07:56:00Z".to_owned(), Precision::Minute));
        assert_eq!(found.look.owner, Some((999, 995)));
        assert_eq!(
            read("prw-r--r--    1 999      995             0 Nov 20 07:56 f").look.kind,
            Kind::Fifo
        );
        assert_eq!(
            read("drwxr-xr-x    2 1        1            4096 Nov 21 15:25  lead").name,
            b" lead"
        );
        assert_eq!(read("drwxrwsr-t    2 1 1 4096 Nov 21 15:25 trail ").name, b"trail ");
        assert_eq!(read("drwxrwsr-T+   2 1 1 4096 Nov 21 15:25 x").look.mode, Some(0o3774));
    }

    #[test]
    fn years_that_are_not_told_are_the_last_ones() {
        let of = |text: &str| time(&read(&format!("-rw-r--r-- 1 a b 1 {text} x"))).0;
        assert_eq!(of("Nov 20 07:59"), "2026-11-20T07:59:00Z");
        assert_eq!(of("Nov 21 07:59"), "2026-11-21T07:59:00Z");
        assert_eq!(of("Nov 22 07:59"), "2025-11-22T07:59:00Z");
        assert_eq!(of("Dec 31 23:59"), "2025-12-31T23:59:00Z");
        assert_eq!(of("Feb 29 00:00"), "2024-02-29T00:00:00Z");
        assert_eq!(of("2023-11-14 22:13"), "2023-11-14T22:13:00Z");
    }

    #[test]
    fn links_are_cut_where_their_size_says() {
        assert_eq!(read("lrwxrwxrwx    1 0  0  5 Nov 20 07:56 ln -> a.bin").name, b"ln");
        assert_eq!(read("lrwxrwxrwx    1 0  0  6 Nov 20 07:56 a -> b -> c -> d").name, b"a -> b");
        for bad in ["ln", " -> a.bin", "a -> b -> c"] {
            let text = format!("lrwxrwxrwx    1 0  0  9 Nov 20 07:56 {bad}");
            assert!(row(text.as_bytes(), NOW).is_err(), "{text}");
        }
    }

    #[test]
    fn other_forms_are_read() {
        let device = read("crw-rw-rw-    1 0  0   1,   3 Nov 20 07:56 null");
        assert_eq!((device.look.kind, device.look.size), (Kind::CharDevice, None));
        let spaced = read("-rw-r--r-- 1 bob Domain Users 77 Nov 14 2023 a b");
        assert_eq!((spaced.name.as_slice(), spaced.look.size), (&b"a b"[..], Some(77)));
        assert_eq!(spaced.look.owner, None);
        let groupless = read("-rw-r--r-- 1 bob 77 Nov 14 2023 Nov 14 2023 x");
        assert_eq!(groupless.name, b"Nov 14 2023 x");
    }

    #[test]
    fn lines_of_dos() {
        let file = read("11-14-23  10:13PM                 1024 a b.bin");
        assert_eq!((file.name.as_slice(), file.look.size), (&b"a b.bin"[..], Some(1024)));
        assert_eq!(time(&file), ("2023-11-14T22:13:00Z".to_owned(), Precision::Vague));
        let folder = read("07-17-2000  12:33AM       <DIR>          custinfo");
        assert_eq!((folder.name.as_slice(), folder.look.kind), (&b"custinfo"[..], Kind::Directory));
        assert_eq!(time(&folder).0, "2000-07-17T00:33:00Z");
        assert_eq!(read("07-17-00  02:33PM       <DIR>            two").name, b"  two");
    }

    #[test]
    fn lines_that_name_nothing_are_passed_over() {
        for text in [
            "total 12",
            "total 0",
            "drwxr-xr-x 2 1 1 4096 Nov 21 15:25 .",
            "drwxr-xr-x 2 1 1 4096 Nov 21 15:25 ..",
        ] {
            assert_eq!(row(text.as_bytes(), NOW).expect(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for text in [
            "",
            "total",
            "total x",
            "second line of a name",
            "-rw-r--r--",
            "-rw-r--r-- 1 a b 12 Nov 14 2023",
            "-rw-r--r-- 1 a b 12 Nov 14 2023 ",
            "-rw-r--r-- 1 a b 12 Nov 32 2023 x",
            "-rw-r--r-- 1 a b 12 Foo 12 2023 x",
            "-rw-r--r-- 1 a b 12 Nov 12 25:00 x",
            "-rw-r--r-- 1 a b x Nov 12 2023 x",
            "-rw-r--q-- 1 a b 12 Nov 14 2023 x",
            "?rw-r--r-- 1 a b 12 Nov 14 2023 x",
            " -rw-r--r-- 1 a b 12 Nov 14 2023 x",
            "11-14-23  10:13XM  1024 x",
            "13-14-23  10:13PM  1024 x",
            "11-14-23  10:13PM  <DIR>",
            "11-14-23  10:13PM  12",
        ] {
            let error = row(text.as_bytes(), NOW).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = row(&bytes, NOW);
        }

        #[test]
        fn anything_like_a_row_is_read_or_refused(
            front in "[-dlc][-rwxsStT]{9} [0-9]{0,3}( [a-z0-9,]{1,5}){0,5}",
            back in " (Nov|Feb|2023-11-14) [0-9]{1,3} [0-9:]{0,6} ?[a-z> -]{0,9}",
        ) {
            let _ = row((front + &back).as_bytes(), NOW);
        }

        #[test]
        fn anything_like_dos_is_read_or_refused(
            front in "[0-9]{1,2}-[0-9]{1,2}-[0-9]{2,4} +[0-9]{1,2}:[0-9]{2}(AM|PM|)?",
            back in " +(<DIR>|[0-9]{1,20}) *[a-z]{0,5}",
        ) {
            let _ = row((front + &back).as_bytes(), NOW);
        }
    }
}
