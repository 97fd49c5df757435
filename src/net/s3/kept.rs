//! What a file system knows of a file, written beside an object and read back from there.
//!
//! | word (`x-amz-meta-...`) | what |
//! |---|---|
//! | `icecore` | `1`: the words below are this program's |
//! | `mtime` | seconds since 1970 with nine decimals, as rclone writes them |
//! | `mode` | kind and permissions in octal, as `0100644`; rclone and s3fs have this word too |
//! | `uid`, `gid` | numbers of the owner |
//! | `icecore-user`, `icecore-group` | their names |
//! | `icecore-device` | major and minor number of a device |
//! | `icecore-xattrs` | `name=value,...`, bytes that are not plain as `%XX` |
//! | `icecore-content` | a mark of the content, which says nothing of it to others |
//!
//! A symlink is an object that holds where it points. Of objects without the mark nothing is taken
//! for a word of a file system: they mean what their owners mean.

use crate::base::limits::S3_OWN_BYTES_MAX;
use crate::base::metadata::Kind;
use crate::base::metadata::Metadata;
use crate::base::metadata::Owner;
use crate::base::metadata::Xattr;
use crate::base::time::Timestamp;
use std::sync::Arc;

const MARK: &str = "icecore";
const VERSION: &str = "1";
/// The word that marks the content.
pub const CONTENT: &str = "icecore-content";
const XATTRS: &str = "icecore-xattrs";
/// The word that holds the time.
pub const MTIME: &str = "mtime";
const WORDS: [&str; 10] = [
    MARK,
    CONTENT,
    XATTRS,
    MTIME,
    "mode",
    "uid",
    "gid",
    "icecore-user",
    "icecore-group",
    "icecore-device",
];
const KINDS: [(u32, Kind); 6] = [
    (0o100_000, Kind::File),
    (0o040_000, Kind::Directory),
    (0o120_000, Kind::Symlink),
    (0o010_000, Kind::Fifo),
    (0o020_000, Kind::CharDevice),
    (0o060_000, Kind::BlockDevice),
];
const NANOS: i128 = 1_000_000_000;
/// The content type of folders, as s3fs and others have it.
pub const FOLDER_TYPE: &str = "application/x-directory";
const OTHER_TYPE: &str = "application/octet-stream";

/// Words beside an object, names in small letters.
pub type Words = Vec<(String, String)>;

/// What was known of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What it is.
    pub kind: Kind,
    /// Mode, owner, time and attributes.
    pub metadata: Metadata,
    /// The numbers of a device.
    pub device: (u32, u32),
}

impl Kept {
    /// Returns the words, and whether the attributes fit in.
    pub fn words(&self) -> (Words, bool) {
        let Metadata { mode, owner, mtime, xattrs } = &self.metadata;
        let bits = KINDS.iter().find(|(_, kind)| *kind == self.kind).map_or(0, |(bits, _)| *bits);
        let mut words: Words = Vec::new();
        let mut add = |name: &str, value: String| words.push((name.to_owned(), value));
        add(MARK, VERSION.to_owned());
        add(MTIME, time_text(*mtime));
        add("mode", format!("0{:o}", bits | mode & 0o7777));
        add("uid", owner.uid.to_string());
        add("gid", owner.gid.to_string());
        for (name, value) in [("icecore-user", &owner.user), ("icecore-group", &owner.group)] {
            if !value.is_empty() {
                add(name, escaped(value.as_bytes()));
            }
        }
        if matches!(self.kind, Kind::CharDevice | Kind::BlockDevice) {
            add("icecore-device", format!("{}:{}", self.device.0, self.device.1));
        }
        let shown = |xattr: &Xattr| format!("{}={}", escaped(&xattr.name), escaped(&xattr.value));
        let shown: Vec<String> = xattrs.iter().map(shown).collect();
        let shown = shown.join(",");
        // Room for the mark of the content.
        let room = S3_OWN_BYTES_MAX.saturating_sub(bytes(&words) + XATTRS.len() + 64);
        let fits = shown.len() <= room;
        if fits && !shown.is_empty() {
            words.push((XATTRS.to_owned(), shown));
        }
        words.sort_unstable();
        (words, fits)
    }

    /// Reads words. None for an object that is not marked, or whose words make no sense.
    pub fn read(own: &[(String, String)]) -> Option<Self> {
        let word = |name: &str| {
            own.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
        };
        if word(MARK)? != VERSION {
            return None;
        }
        let mode = u32::from_str_radix(word("mode")?, 8).ok()?;
        let (_, kind) = *KINDS.iter().find(|(bits, _)| *bits == mode & 0o170_000)?;
        let name = |name: &str| match word(name) {
            None => Some(String::new()),
            Some(text) => String::from_utf8(unescaped(text)?).ok(),
        };
        let owner = Owner {
            uid: word("uid")?.parse().ok()?,
            gid: word("gid")?.parse().ok()?,
            user: name("icecore-user")?,
            group: name("icecore-group")?,
        };
        let device = match word("icecore-device") {
            None => (0, 0),
            Some(text) => {
                let (major, minor) = text.split_once(':')?;
                (major.parse().ok()?, minor.parse().ok()?)
            }
        };
        let metadata = Metadata {
            mode: mode & 0o7777,
            owner: Arc::new(owner),
            mtime: time_of(word(MTIME)?)?,
            xattrs: xattrs_of(word(XATTRS).unwrap_or_default())?,
        };
        Some(Kept { kind, metadata, device })
    }
}

/// Says whether this program writes a word of this name.
pub fn is_ours(name: &str) -> bool {
    WORDS.contains(&name)
}

/// Says whether words are marked as this program's.
pub fn is_marked(own: &[(String, String)]) -> bool {
    own.iter().any(|(name, _)| name == MARK)
}

/// Returns how many bytes a store counts.
pub fn bytes(words: &[(String, String)]) -> usize {
    words.iter().map(|(name, value)| name.len() + value.len()).sum()
}

/// Returns the content type that a name stands for, as those who show files to browsers want it.
pub fn content_type(name: &[u8]) -> &'static str {
    let Some(dot) = name.iter().rposition(|&byte| byte == b'.') else { return OTHER_TYPE };
    match name[dot + 1..].to_ascii_lowercase().as_slice() {
        b"html" | b"htm" => "text/html",
        b"css" => "text/css",
        b"js" | b"mjs" => "text/javascript",
        b"json" => "application/json",
        b"xml" => "application/xml",
        b"txt" => "text/plain",
        b"csv" => "text/csv",
        b"md" => "text/markdown",
        b"png" => "image/png",
        b"jpg" | b"jpeg" => "image/jpeg",
        b"gif" => "image/gif",
        b"webp" => "image/webp",
        b"svg" => "image/svg+xml",
        b"pdf" => "application/pdf",
        b"zip" => "application/zip",
        b"gz" => "application/gzip",
        b"mp3" => "audio/mpeg",
        b"mp4" => "video/mp4",
        b"webm" => "video/webm",
        b"wasm" => "application/wasm",
        b"woff2" => "font/woff2",
        _ => OTHER_TYPE,
    }
}

fn time_text(time: Timestamp) -> String {
    let nanos = i128::from(time.seconds()) * NANOS + i128::from(time.nanos());
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.abs();
    format!("{sign}{}.{:09}", nanos / NANOS, nanos % NANOS)
}

fn time_of(text: &str) -> Option<Timestamp> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let (seconds, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 9 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds: u64 = seconds.parse().ok()?;
    let decimals: i128 = format!("{decimals:0<9}").parse().ok()?;
    let nanos = sign * (i128::from(seconds) * NANOS + decimals);
    let seconds = i64::try_from(nanos.div_euclid(NANOS)).ok()?;
    Some(Timestamp::new(seconds, nanos.rem_euclid(NANOS) as u32))
}

fn xattrs_of(text: &str) -> Option<Vec<Xattr>> {
    let mut xattrs = Vec::new();
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let xattr = Xattr { name: unescaped(name)?, value: unescaped(value)? };
        if xattr.name.is_empty() || xattr.name.contains(&0) {
            return None;
        }
        xattrs.push(xattr);
    }
    xattrs.sort();
    xattrs.dedup_by(|a, b| a.name == b.name);
    Some(xattrs)
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~:/@".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        out.push(if byte == b'%' { (digit()? * 16 + digit()?) as u8 } else { byte });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::any;
    use proptest::prop_assert;
    use proptest::prop_assert_eq;
    use proptest::proptest;

    fn kept(xattrs: &[(&[u8], &[u8])]) -> Kept {
        let xattr =
            |(name, value): &(&[u8], &[u8])| Xattr { name: name.to_vec(), value: value.to_vec() };
        let owner = Owner { uid: 7, gid: 8, user: "ann e\u{e9}".into(), group: String::new() };
        Kept {
            kind: Kind::File,
            metadata: Metadata {
                mode: 0o4640,
                owner: Arc::new(owner),
                mtime: Timestamp::new(-5, 123_456_789),
                xattrs: xattrs.iter().map(xattr).collect(),
            },
            device: (0, 0),
        }
    }

    #[test]
    fn words_are_as_others_write_them() {
        let (words, fits) = kept(&[(b"user.a", b"1,=%\xff")]).words();
        assert!(fits);
        let value = |name: &str| {
            words.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
        };
        assert_eq!(value("mtime"), Some("-4.876543211"));
        assert_eq!(value("mode"), Some("0104640"));
        assert_eq!((value("uid"), value("gid")), (Some("7"), Some("8")));
        assert_eq!(value("icecore-user"), Some("ann%20e%C3%A9"));
        assert_eq!(value("icecore-xattrs"), Some("user.a=1%2C%3D%25%FF"));
        assert!(words.iter().all(|(name, value)| is_ours(name) && value.is_ascii()));
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_told() {
        let kept = kept(&[(b"user.a", &[7; 3000])]);
        let (words, fits) = kept.words();
        assert!(!fits && bytes(&words) < S3_OWN_BYTES_MAX);
        let back = Kept::read(&words).expect("read");
        assert_eq!(back.metadata.xattrs, []);
        assert_eq!(back.metadata.mtime, kept.metadata.mtime);
    }

    #[test]
    fn words_of_others_are_no_words_of_a_file() {
        let (good, _) = kept(&[]).words();
        assert!(Kept::read(&good).is_some());
        for (name, value) in [
            ("icecore", "2"),
            ("mode", "dark"),
            ("mode", "0644"),
            ("mtime", "soon"),
            ("mtime", "1.1234567890"),
            ("mtime", "--1"),
            ("uid", "-1"),
            ("icecore-xattrs", "a"),
            ("icecore-xattrs", "%zz=1"),
            ("icecore-device", "1"),
        ] {
            let mut words = good.clone();
            words.retain(|(known, _)| known != name);
            words.push((name.to_owned(), value.to_owned()));
            assert_eq!(Kept::read(&words), None, "{name}={value}");
        }
        assert_eq!(Kept::read(&[("mtime".into(), "1".into())]), None);
    }

    #[test]
    fn types_follow_names() {
        assert_eq!(content_type(b"a.b.HTML"), "text/html");
        assert_eq!(content_type(b"html"), OTHER_TYPE);
        assert_eq!(content_type(b"a."), OTHER_TYPE);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            seconds in any::<i64>(),
            nanos in 0_u32..1_000_000_000,
            mode in 0_u32..0o10000,
            number in 0_usize..6,
            ids in any::<(u32, u32, u32, u32)>(),
            name in proptest::collection::vec(1_u8.., 1..20),
            value in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let (uid, gid, major, minor) = ids;
            let kind = KINDS[number].1;
            let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
            let kept = Kept {
                kind,
                metadata: Metadata {
                    mode,
                    owner: Arc::new(Owner { uid, gid, ..Owner::default() }),
                    mtime: Timestamp::new(seconds, nanos),
                    xattrs: vec![Xattr { name, value }],
                },
                device: if is_device { (major, minor) } else { (0, 0) },
            };
            let (words, fits) = kept.words();
            prop_assert!(fits);
            prop_assert_eq!(Kept::read(&words), Some(kept));
        }

        #[test]
        fn nothing_read_ends_in_a_panic(mode in ".*", mtime in ".*", xattrs in ".*") {
            let word = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            Kept::read(&[
                word("icecore", "1"),
                word("mode", &mode),
                word("mtime", &mtime),
                word("uid", "0"),
                word("gid", "0"),
                word("icecore-xattrs", &xattrs),
            ]);
        }
    }
}
