//! What is to stand beside an object, made of an entry's metadata, and whether it does.
//!
//! An entry that came from a bucket says it itself, in attributes `user.s3.*`; what came from a
//! file system is kept as words (see [`kept`]).

use crate::base::hash;
use crate::base::id::to_hex;
use crate::base::limits::S3_OWN_BYTES_MAX;
use crate::base::metadata::Kind;
use crate::base::metadata::Metadata;
use crate::base::metadata::Xattr;
use crate::base::path::EntryPath;
use crate::base::path::display;
use crate::net::s3::kept;
use crate::net::s3::kept::Kept;
use crate::net::s3::objects::Beside;
use crate::net::s3::objects::Head;
use crate::net::s3::objects::SAID;
use crate::target::MetadataRules;

/// What begins the names of attributes that came from a bucket.
const OF_BUCKET: &[u8] = b"user.s3.";

/// What is to stand beside an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) beside: Beside,
    /// What of the metadata cannot be kept.
    pub(super) untold: Vec<String>,
    /// Whether it is written by this program, not taken over from another bucket.
    pub(super) is_ours: bool,
}

/// Says whether an entry tells by its attributes what its object is to have.
fn came_from_bucket(metadata: &Metadata) -> bool {
    metadata.xattrs.iter().any(|xattr| xattr.name.starts_with(OF_BUCKET))
}

/// Says whether there is anything to keep of a folder: buckets have none that tell time or mode.
pub(super) fn has_words(metadata: &Metadata) -> bool {
    let Metadata { owner, mtime, .. } = metadata;
    *mtime != Default::default() || (owner.uid, owner.gid) != (0, 0) || !metadata.xattrs.is_empty()
}

/// Returns what is to stand beside the object of an entry.
pub(super) fn wanted(
    name: &[u8],
    kind: Kind,
    device: (u32, u32),
    metadata: &Metadata,
    owner: bool,
) -> Wanted {
    let mut wanted = Wanted::default();
    let mut rest: Vec<Xattr> = Vec::new();
    for xattr in &metadata.xattrs {
        match xattr.name.strip_prefix(OF_BUCKET) {
            None => rest.push(xattr.clone()),
            Some(word) => take(&mut wanted, word, &xattr.value),
        }
    }
    wanted.is_ours = !came_from_bucket(metadata) || kept::is_marked(&wanted.beside.own);
    if wanted.is_ours {
        add_words(&mut wanted, kind, device, metadata, rest, owner);
        let usual = match kind {
            Kind::Directory => kept::FOLDER_TYPE,
            _ => kept::content_type(name),
        };
        wanted.beside.content_type.get_or_insert_with(|| usual.to_owned());
    } else if !rest.is_empty() {
        wanted.untold.push("extended attributes beside those of a bucket are not kept".to_owned());
    }
    let beside = &mut wanted.beside;
    beside.own.sort_unstable();
    beside.said.sort_unstable();
    beside.tags.sort_unstable();
    if kept::bytes(&beside.own) > S3_OWN_BYTES_MAX {
        wanted.untold.push("it has more metadata than S3 allows; a store may refuse it".to_owned());
    }
    wanted
}

/// Takes one attribute that came from a bucket.
fn take(wanted: &mut Wanted, word: &[u8], value: &[u8]) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let (Some(word), Some(value)) = (text(word), text(value)) else {
        return refuse(wanted, word);
    };
    let beside = &mut wanted.beside;
    if let Some(name) = word.strip_prefix("tag.") {
        beside.tags.push((name.to_owned(), value));
        return;
    }
    if value.chars().any(char::is_control) {
        return refuse(wanted, word.as_bytes());
    }
    match word.strip_prefix("meta.") {
        Some(name) if is_token(name) => beside.own.push((name.to_ascii_lowercase(), value)),
        None if word == "content-type" => beside.content_type = Some(value),
        None if SAID.contains(&word.as_str()) => beside.said.push((word, value)),
        _ => refuse(wanted, word.as_bytes()),
    }
}

fn refuse(wanted: &mut Wanted, word: &[u8]) {
    // What is kept of versions says where something came from, and is not set.
    if !word.starts_with(b"version") {
        wanted.untold.push(format!("{} cannot be said to a store", display(word)));
    }
}

/// Says whether a name can be part of a header's.
fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn add_words(
    wanted: &mut Wanted,
    kind: Kind,
    device: (u32, u32),
    metadata: &Metadata,
    xattrs: Vec<Xattr>,
    owner: bool,
) {
    let mut metadata = Metadata { xattrs, ..metadata.clone() };
    if !owner {
        metadata.owner = Default::default();
    }
    let (words, fits) = Kept { kind, metadata, device }.words();
    if !fits {
        wanted.untold.push("its extended attributes are too long for a bucket".to_owned());
    }
    wanted.beside.own.retain(|(name, _)| !kept::is_ours(name));
    wanted.beside.own.extend(words);
}

/// Returns the word that marks content, which counts while the time beside it is the same: who
/// rewrites an object and carries its words over sets another time.
pub(super) fn mark_word(mark: &[u8; 16], own: &[(String, String)]) -> String {
    let time = own.iter().find(|(name, _)| name == kept::MTIME);
    let time = time.map_or("", |(_, value)| value.as_str());
    let material = [mark, time.as_bytes()].concat();
    to_hex(&hash::derive("icecore 2026-11-21 mark of an object's content v1", &material)[..16])
}

/// Returns what is to stand beside a file.
pub(super) fn wanted_of(
    path: &EntryPath,
    metadata: &Metadata,
    rules: MetadataRules,
    mark: Option<&[u8; 16]>,
) -> Wanted {
    let mut wanted = wanted(path.name(), Kind::File, (0, 0), metadata, rules.owner);
    if let Some(mark) = mark.filter(|_| wanted.is_ours) {
        let word = mark_word(mark, &wanted.beside.own);
        wanted.beside.own.push((kept::CONTENT.to_owned(), word));
        wanted.beside.own.sort_unstable();
    }
    wanted
}

/// Says whether what stands beside an object is what is wanted. The mark of the content counts
/// only where one is wanted. Tags are not part of it.
pub(super) fn stands(wanted: &Beside, head: &Head) -> bool {
    let has_mark = wanted.own.iter().any(|(name, _)| name == kept::CONTENT);
    let counts = |word: &&(String, String)| has_mark || word.0 != kept::CONTENT;
    let same_type = wanted.content_type.is_none() || wanted.content_type == head.content_type;
    let mut said: Vec<_> = head.said.iter().collect();
    said.sort_unstable();
    same_type
        && wanted.said.iter().eq(said)
        && wanted.own.iter().filter(counts).eq(head.own.iter().filter(counts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Timestamp;

    fn metadata(xattrs: &[(&str, &str)]) -> Metadata {
        let xattr = |(name, value): &(&str, &str)| Xattr {
            name: name.as_bytes().to_vec(),
            value: value.as_bytes().to_vec(),
        };
        Metadata {
            mode: 0o640,
            mtime: Timestamp::new(5, 0),
            xattrs: xattrs.iter().map(xattr).collect(),
            ..Metadata::default()
        }
    }

    fn of(name: &str, metadata: &Metadata) -> Wanted {
        wanted(name.as_bytes(), Kind::File, (0, 0), metadata, true)
    }

    #[test]
    fn what_came_from_a_bucket_gets_what_it_had_and_nothing_else() {
        let wanted = of(
            "a.html",
            &metadata(&[
                ("user.s3.cache-control", "no-store"),
                ("user.s3.content-type", "text/x"),
                ("user.s3.meta.mtime", "soon"),
                ("user.s3.tag.a b", "c"),
            ]),
        );
        let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        assert_eq!(wanted.beside.content_type.as_deref(), Some("text/x"));
        assert_eq!(wanted.beside.own, pair("mtime", "soon"));
        assert_eq!(wanted.beside.said, pair("cache-control", "no-store"));
        assert_eq!(wanted.beside.tags, pair("a b", "c"));
        assert!(wanted.untold.is_empty() && !wanted.is_ours);
    }

    #[test]
    fn what_came_from_a_folder_gets_words() {
        let wanted = of("a.html", &metadata(&[("user.colour", "red")]));
        assert_eq!(wanted.beside.content_type.as_deref(), Some("text/html"));
        let kept = Kept::read(&wanted.beside.own).expect("marked");
        assert_eq!((kept.kind, kept.metadata), (Kind::File, metadata(&[("user.colour", "red")])));
        assert!(wanted.untold.is_empty() && wanted.is_ours);
    }

    /// Marked words beside others are taken over as the entry has them now.
    #[test]
    fn words_that_came_along_are_written_anew() {
        let first = of("a", &metadata(&[]));
        let mut xattrs = vec![("user.s3.meta.more".to_owned(), "x".to_owned())];
        xattrs
            .extend(first.beside.own.iter().map(|(k, v)| (format!("user.s3.meta.{k}"), v.clone())));
        let xattrs: Vec<_> = xattrs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let later = Metadata { mtime: Timestamp::new(9, 0), ..metadata(&xattrs) };

        let own = of("a", &later).beside.own;

        assert_eq!(Kept::read(&own).expect("marked").metadata.mtime, Timestamp::new(9, 0));
        assert!(own.contains(&("more".to_owned(), "x".to_owned())));
        assert_eq!(own.iter().filter(|(name, _)| name == "mtime").count(), 1);
    }

    #[test]
    fn what_no_header_can_hold_is_told() {
        for (name, value) in [
            ("user.s3.meta.a b", "x"),
            ("user.s3.meta.", "x"),
            ("user.s3.meta.a", "x\r\nx-amz-acl: public-read"),
            ("user.s3.content-type", "x\ny"),
            ("user.s3.else", "x"),
        ] {
            let wanted = of("a", &metadata(&[(name, value)]));
            assert_eq!(wanted.untold.len(), 1, "{name}");
            assert_eq!((wanted.beside.own.len(), wanted.beside.content_type), (0, None), "{name}");
        }
    }

    #[test]
    fn differences_are_seen() {
        let beside = of("a", &metadata(&[])).beside;
        let mut head = Head {
            own: beside.own.clone(),
            content_type: beside.content_type.clone(),
            ..Head::default()
        };
        assert!(stands(&beside, &head));
        head.own.push((kept::CONTENT.to_owned(), "x".to_owned()));
        head.own.sort_unstable();
        assert!(stands(&beside, &head), "whose mark nobody asks for");
        assert!(!stands(&of("a.txt", &metadata(&[])).beside, &head), "another type");
        assert!(!stands(&of("a", &metadata(&[("user.x", "")])).beside, &head));
    }
}
