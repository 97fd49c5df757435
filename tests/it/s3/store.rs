//! A store in memory that does what buckets do, and fails where a test says.

use crate::s3::fake::Asked;
use crate::s3::fake::Fake;
use crate::s3::fake::Reply;
use icecore::base::hash;
use icecore::base::id::to_hex;
use icecore::base::time::SystemClock;
use icecore::base::time::Timestamp;
use icecore::net::s3::client::Client;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

/// What stands under a key at one time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    pub(crate) bytes: Vec<u8>,
    /// Those that come back, names in small letters.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) tags: Vec<(String, String)>,
    version: String,
    seconds: i64,
    is_deletion: bool,
}

impl Stored {
    fn etag(&self) -> String {
        to_hex(&hash::hash(&self.bytes)[..16])
    }

    pub(crate) fn word(&self, name: &str) -> Option<&str> {
        self.headers.get(&format!("x-amz-meta-{name}")).map(String::as_str)
    }
}

#[derive(Default)]
struct Content {
    /// Versions of each key, oldest first.
    objects: BTreeMap<String, Vec<Stored>>,
    uploads: BTreeMap<String, (String, Stored, BTreeMap<u64, Vec<u8>>)>,
    keeps_versions: bool,
    number: i64,
}

/// Looks up a word of a query.
type Word = dyn Fn(&str) -> Option<&'static str>;
type Trick = Box<dyn Fn(&Asked) -> Option<Reply> + Send>;

#[derive(Default)]
struct Shared {
    content: Mutex<Content>,
    trick: Mutex<Option<Trick>>,
}

pub(crate) struct Store {
    pub(crate) fake: Fake,
    shared: Arc<Shared>,
}

/// What a trick answers so that the store does what it is asked, and nobody hears of it.
pub(crate) const LOST: &[u8] = b"lost";
/// Rows of a page: few, so that listings have several.
const PAGE: usize = 7;

impl Store {
    pub(crate) fn new() -> Self {
        let shared: Arc<Shared> = Arc::default();
        let own = Arc::clone(&shared);
        let fake = Fake::start(move |_, asked| {
            let tricked = own.trick.lock().unwrap().as_ref().and_then(|trick| trick(asked));
            match tricked {
                Some(Reply::Raw(bytes)) if bytes == LOST => {
                    own.content.lock().unwrap().answer(asked);
                    Reply::Raw(Vec::new())
                }
                Some(reply) => reply,
                None => own.content.lock().unwrap().answer(asked),
            }
        });
        Store { fake, shared }
    }

    pub(crate) fn with_versions() -> Self {
        let store = Store::new();
        store.shared.content.lock().unwrap().keeps_versions = true;
        store
    }

    /// Answers otherwise where a test says so.
    pub(crate) fn trick(&self, trick: impl Fn(&Asked) -> Option<Reply> + Send + 'static) {
        *self.shared.trick.lock().unwrap() = Some(Box::new(trick));
    }

    pub(crate) fn behave(&self) {
        *self.shared.trick.lock().unwrap() = None;
    }

    pub(crate) fn client(&self) -> Client {
        let mut bucket = crate::s3::options(self.fake.port, None).bucket;
        // A busy machine is no store that hangs.
        bucket.http.limits.silence = Duration::from_secs(20);
        Client::new(&bucket, Arc::new(SystemClock), Arc::new(|_| Ok(()))).unwrap()
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        let content = self.shared.content.lock().unwrap();
        content.newest().map(|(key, _)| key.clone()).collect()
    }

    pub(crate) fn get(&self, key: &str) -> Option<Stored> {
        let content = self.shared.content.lock().unwrap();
        content.newest().find(|(known, _)| *known == key).map(|(_, stored)| stored.clone())
    }

    /// Returns what there was under a key, oldest first; None for a mark of deletion.
    pub(crate) fn history(&self, key: &str) -> Vec<Option<Vec<u8>>> {
        let content = self.shared.content.lock().unwrap();
        let all = content.objects.get(key).into_iter().flatten();
        all.map(|it| (!it.is_deletion).then(|| it.bytes.clone())).collect()
    }

    pub(crate) fn put(&self, key: &str, bytes: &[u8], headers: &[(&str, &str)]) {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let stored =
            Stored { bytes: bytes.to_vec(), headers: headers.collect(), ..Stored::default() };
        self.shared.content.lock().unwrap().store(key, stored);
    }

    pub(crate) fn delete(&self, key: &str) {
        self.shared.content.lock().unwrap().delete(key);
    }

    /// Returns how many uploads were begun and neither completed nor given up.
    pub(crate) fn uploads(&self) -> usize {
        self.shared.content.lock().unwrap().uploads.len()
    }

    /// Returns how many requests of a method had a word in their target.
    pub(crate) fn count(&self, method: &str, word: &str) -> usize {
        let asked = self.fake.asked();
        asked.iter().filter(|it| it.method == method && it.has(word)).count()
    }
}

fn decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut digit = || char::from(bytes.next().unwrap()).to_digit(16).unwrap() as u8;
        out.push(if byte == b'%' { digit() * 16 + digit() } else { byte });
    }
    String::from_utf8(out).unwrap()
}

fn pairs(text: &str) -> Vec<(String, String)> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    };
    text.split('&').filter(|pair| !pair.is_empty()).map(pair).collect()
}

fn text_of(xml: &str, name: &str) -> Option<String> {
    let start = xml.find(&format!("<{name}>"))? + name.len() + 2;
    let end = xml[start..].find(&format!("</{name}>"))? + start;
    Some(xml[start..end].replace("&lt;", "<").replace("&amp;", "&"))
}

fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte);
    let shown = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(shown).collect()
}

impl Content {
    fn newest(&self) -> impl Iterator<Item = (&String, &Stored)> {
        let newest = self.objects.iter().filter_map(|(key, all)| Some((key, all.last()?)));
        newest.filter(|(_, stored)| !stored.is_deletion)
    }

    /// Answers to what has put a version.
    fn stored(&self, key: &str, body: &str) -> Reply {
        let newest = self.objects.get(key).and_then(|all| all.last());
        match newest.filter(|_| self.keeps_versions) {
            Some(newest) => Reply::ok(body).with("x-amz-version-id", newest.version.clone()),
            None => Reply::ok(body),
        }
    }

    fn store(&mut self, key: &str, mut stored: Stored) {
        self.number += 1;
        // Two of them in each second.
        stored.seconds = 1_700_000_000 + self.number / 2;
        stored.version = match self.keeps_versions {
            true => format!("v{}", self.number),
            false => "null".to_owned(),
        };
        let all = self.objects.entry(key.to_owned()).or_default();
        if !self.keeps_versions {
            all.clear();
        }
        all.push(stored);
    }

    fn delete(&mut self, key: &str) {
        if self.keeps_versions {
            self.store(key, Stored { is_deletion: true, ..Stored::default() });
        } else {
            self.objects.remove(key);
        }
    }

    fn find(&self, key: &str, version: Option<&str>) -> Option<&Stored> {
        let all = self.objects.get(key)?;
        let found = match version {
            Some(version) => all.iter().find(|it| it.version == version),
            None => all.last(),
        };
        found.filter(|it| !it.is_deletion)
    }

    fn answer(&mut self, asked: &Asked) -> Reply {
        let (path, query) = asked.target.split_once('?').unwrap_or((&asked.target, ""));
        // So little is asked in a test that it may stay.
        let query: &'static [(String, String)] = pairs(query).leak();
        let word = |name: &str| {
            let found = query.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.as_str())
        };
        let key = match path.strip_prefix("/b/") {
            Some(key) => decoded(key),
            None if path == "/b" => String::new(),
            None => return Reply::error(404, "NoSuchBucket"),
        };
        match asked.method.as_str() {
            "HEAD" if key.is_empty() => Reply::ok(b""),
            "GET" if word("versioning").is_some() => Reply::ok(match self.keeps_versions {
                true => {
                    "<VersioningConfiguration><Status>Enabled</Status>\
                         </VersioningConfiguration>"
                }
                false => "<VersioningConfiguration/>",
            }),
            "GET" if word("versions").is_some() => self.list_versions(&word),
            "GET" if key.is_empty() => self.list(&word),
            "GET" if word("tagging").is_some() => match self.find(&key, word("versionId")) {
                None => Reply::error(404, "NoSuchKey"),
                Some(stored) => {
                    let tags = stored.tags.iter();
                    let tags =
                        tags.map(|(k, v)| format!("<Tag><Key>{k}</Key><Value>{v}</Value></Tag>"));
                    let tags: String = tags.collect();
                    Reply::ok(format!("<Tagging><TagSet>{tags}</TagSet></Tagging>"))
                }
            },
            "GET" | "HEAD" => self.read(asked, &key, word("versionId")),
            "DELETE" if word("uploadId").is_some() => {
                self.uploads.remove(word("uploadId").unwrap());
                Reply::Whole(204, Vec::new(), Vec::new())
            }
            "DELETE" => {
                self.delete(&key);
                Reply::Whole(204, Vec::new(), Vec::new())
            }
            "POST" if word("uploads").is_some() => {
                self.number += 1;
                let upload = format!("u{}", self.number);
                let new = (key, described(asked, Vec::new()), BTreeMap::new());
                self.uploads.insert(upload.clone(), new);
                Reply::ok(format!("<R><UploadId>{upload}</UploadId></R>"))
            }
            "POST" => self.complete(asked, word("uploadId").unwrap_or_default()),
            "PUT" if word("partNumber").is_some() => {
                let Some(upload) = self.uploads.get_mut(word("uploadId").unwrap()) else {
                    return Reply::error(404, "NoSuchUpload");
                };
                upload.2.insert(word("partNumber").unwrap().parse().unwrap(), asked.body.clone());
                Reply::ok(b"").with("etag", format!("\"{}\"", word("partNumber").unwrap()))
            }
            "PUT" if word("tagging").is_some() => {
                let body = String::from_utf8(asked.body.clone()).unwrap();
                let tags = body.split("<Tag>").skip(1);
                let tags =
                    tags.map(|tag| (text_of(tag, "Key").unwrap(), text_of(tag, "Value").unwrap()));
                let tags: Vec<_> = tags.collect();
                match self.objects.get_mut(&key).and_then(|all| all.last_mut()) {
                    None => Reply::error(404, "NoSuchKey"),
                    Some(stored) => {
                        stored.tags = tags;
                        Reply::ok(b"")
                    }
                }
            }
            "PUT" => self.put(asked, &key),
            _ => Reply::error(405, "MethodNotAllowed"),
        }
    }

    fn put(&mut self, asked: &Asked, key: &str) -> Reply {
        let stored = match asked.header("x-amz-copy-source") {
            None => described(asked, asked.body.clone()),
            Some(source) => {
                let from = decoded(source.strip_prefix("/b/").unwrap());
                let Some(found) = self.find(&from, None).cloned() else {
                    return Reply::error(404, "NoSuchKey");
                };
                match asked.header("x-amz-metadata-directive") {
                    Some("REPLACE") => described(asked, found.bytes),
                    _ => found,
                }
            }
        };
        self.store(key, stored);
        self.stored(key, "<CopyObjectResult/>")
    }

    fn complete(&mut self, asked: &Asked, upload: &str) -> Reply {
        let Some((key, mut stored, parts)) = self.uploads.remove(upload) else {
            return Reply::error(404, "NoSuchUpload");
        };
        let body = String::from_utf8(asked.body.clone()).unwrap();
        assert_eq!(body.matches("<Part>").count(), parts.len());
        stored.bytes = parts.into_values().flatten().collect();
        self.store(&key, stored);
        self.stored(&key, "<CompleteMultipartUploadResult/>")
    }

    fn read(&self, asked: &Asked, key: &str, version: Option<&str>) -> Reply {
        let Some(stored) = self.find(key, version) else { return Reply::error(404, "NoSuchKey") };
        let etag = format!("\"{}\"", stored.etag());
        if asked.header("if-match").is_some_and(|wanted| wanted != etag) {
            return Reply::error(412, "PreconditionFailed");
        }
        let time = Timestamp::new(stored.seconds, 0).to_calendar().unwrap();
        let [year, month, day, hour, minute, second] = time;
        let names =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let month = names[month as usize - 1];
        let time = format!("{day:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT");
        let mut reply = Reply::ok(stored.bytes.clone());
        if let Some(range) = asked.header("range") {
            let (from, to) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
            let length = stored.bytes.len();
            let from: usize = from.parse().unwrap();
            let to = to.parse::<usize>().map_or(length, |to| (to + 1).min(length));
            if from >= length {
                return Reply::error(416, "InvalidRange");
            }
            reply = Reply::Whole(206, Vec::new(), stored.bytes[from..to].to_vec())
                .with("content-range", format!("bytes {from}-{}/{length}", to - 1));
        }
        if let Reply::Whole(_, headers, _) = &mut reply {
            for (name, value) in &stored.headers {
                headers.push((name.clone().leak(), value.clone()));
            }
        }
        if !stored.tags.is_empty() {
            reply = reply.with("x-amz-tagging-count", stored.tags.len().to_string());
        }
        if self.keeps_versions {
            reply = reply.with("x-amz-version-id", stored.version.clone());
        }
        reply.with("etag", etag).with("last-modified", time)
    }

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

    fn list(&self, word: &Word) -> Reply {
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

    fn list_versions(&self, word: &Word) -> Reply {
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
        for (key, row_of) in &rows {
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

fn described(asked: &Asked, bytes: Vec<u8>) -> Stored {
    let comes_back = [
        "content-type",
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "expires",
    ];
    let is_kept = |name: &str| comes_back.contains(&name) || name.starts_with("x-amz-meta-");
    let headers = asked.headers.iter().filter(|(name, _)| is_kept(name)).cloned();
    let tags = asked.header("x-amz-tagging").map(pairs).unwrap_or_default();
    Stored { bytes, headers: headers.collect(), tags, ..Stored::default() }
}
