//! What a store in memory lists: objects and versions, page by page.

use crate::s3::fake::Reply;
use crate::s3::store::Content;
use crate::s3::store::Stored;
use crate::s3::store::Word;
use icecore::base::time::Timestamp;
use std::collections::BTreeMap;

/// Rows of a page: few, so that listings have several.
const PAGE: usize = 7;

impl Content {
    /// Returns what is at or below a prefix: keys, and folders where these are asked for.
    fn rows(&self, word: &Word) -> BTreeMap<String, Option<&Vec<Stored>>> {
        let prefix = word("prefix").unwrap_or_default();
        let mut rows = BTreeMap::new();
        for (key, all) in self.objects.iter().filter(|(key, _)| key.starts_with(prefix)) {
            let rest = &key[prefix.len()..];
            match rest.find('/').filter(|_| word("delimiter").is_some()) {
                Some(end) => rows.insert(key[..prefix.len() + end + 1].to_owned(), None),
                None => rows.insert(key.clone(), Some(all)),
            };
        }
        rows
    }

    pub(super) fn list(&self, word: &Word) -> Reply {
        let after = word("continuation-token").unwrap_or_default();
        let rows = self.rows(word);
        let is_shown = |(key, all): &(&String, &Option<&Vec<Stored>>)| {
            let below = || self.newest().any(|(known, _)| known.starts_with(key.as_str()));
            let is_there = match all {
                Some(all) => all.last().is_some_and(|it| !it.is_deletion),
                None => below(),
            };
            is_there && key.as_str() > after
        };
        let rows: Vec<_> = rows.iter().filter(is_shown).collect();
        let mut text = String::from("<ListBucketResult><EncodingType>url</EncodingType>");
        for (key, all) in rows.iter().take(PAGE) {
            let key = escaped(key);
            match all.and_then(|all| all.last()) {
                None => text
                    .push_str(&format!("<CommonPrefixes><Prefix>{key}</Prefix></CommonPrefixes>")),
                Some(stored) => {
                    text.push_str(&format!("<Contents><Key>{key}</Key>{}</Contents>", row(stored)))
                }
            }
        }
        let is_cut = rows.len() > PAGE;
        text.push_str(&format!("<IsTruncated>{is_cut}</IsTruncated>"));
        if is_cut {
            let last = rows[PAGE - 1].0;
            text.push_str(&format!("<NextContinuationToken>{last}</NextContinuationToken>"));
        }
        Reply::ok(text + "</ListBucketResult>")
    }

    pub(super) fn list_versions(&self, word: &Word) -> Reply {
        let mut all: Vec<(String, Option<(&Stored, bool)>)> = Vec::new();
        for (key, versions) in self.rows(word) {
            match versions {
                None => all.push((key, None)),
                Some(versions) => {
                    for (at, stored) in versions.iter().rev().enumerate() {
                        all.push((key.clone(), Some((stored, at == 0))));
                    }
                }
            }
        }
        let start = match word("key-marker") {
            None => 0,
            Some(marker) => {
                let version = word("version-id-marker").unwrap_or_default();
                let is_it = |(key, row): &(String, Option<(&Stored, bool)>)| {
                    let id = row.map_or("", |(stored, _)| stored.version.as_str());
                    key == marker && id == version
                };
                all.iter().position(is_it).unwrap() + 1
            }
        };
        let mut text = String::from("<ListVersionsResult><EncodingType>url</EncodingType>");
        let rows: Vec<_> = all[start..].iter().take(PAGE).collect();
        let is_mark = |row: &Option<(&Stored, bool)>| row.is_some_and(|(it, _)| it.is_deletion);
        let mut shown = rows.clone();
        if self.shows_marks_last {
            shown.sort_by_key(|(_, row)| is_mark(row));
        }
        for (key, row_of) in &shown {
            let key = escaped(key);
            match row_of {
                None => text
                    .push_str(&format!("<CommonPrefixes><Prefix>{key}</Prefix></CommonPrefixes>")),
                Some((stored, is_latest)) => {
                    let name = if stored.is_deletion { "DeleteMarker" } else { "Version" };
                    text.push_str(&format!(
                        "<{name}><Key>{key}</Key><VersionId>{}</VersionId>\
                         <IsLatest>{is_latest}</IsLatest>{}</{name}>",
                        stored.version,
                        row(stored)
                    ));
                }
            }
        }
        let is_cut = start + rows.len() < all.len();
        text.push_str(&format!("<IsTruncated>{is_cut}</IsTruncated>"));
        if is_cut {
            let (key, row_of) = rows[rows.len() - 1];
            let version = row_of.map_or("", |(stored, _)| stored.version.as_str());
            text.push_str(&format!(
                "<NextKeyMarker>{}</NextKeyMarker>\
                 <NextVersionIdMarker>{version}</NextVersionIdMarker>",
                escaped(key)
            ));
        }
        Reply::ok(text + "</ListVersionsResult>")
    }
}

fn row(stored: &Stored) -> String {
    let time = Timestamp::new(stored.seconds, 0).to_rfc3339();
    let (size, etag) = (stored.bytes.len(), stored.etag());
    format!("<LastModified>{time}</LastModified><Size>{size}</Size><ETag>\"{etag}\"</ETag>")
}

fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte);
    let shown = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(shown).collect()
}
