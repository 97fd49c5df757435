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

mod rows;

/// What stands under a key at one time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    pub(crate) bytes: Vec<u8>,
    /// Those that come back, names in small letters.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) tags: Vec<(String, String)>,
    version: String,
    /// The number of what began it.
    begun: i64,
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
    uploads: BTreeMap<String, Begun>,
    keeps_versions: bool,
    /// A folder that is put takes the place of all that is in it, as a file.
    folders_are_files: bool,
    /// What is to be put only where nothing is takes its place all the same.
    ignores_conditions: bool,
    /// The last version is the one that was begun last, as AWS has it.
    orders_by_begin: bool,
    /// Marks of deletion stand behind all versions of a page.
    shows_marks_last: bool,
    number: i64,
}

/// Looks up a word of a query.
type Word = dyn Fn(&str) -> Option<&'static str>;
/// An upload in parts.
struct Begun {
    key: String,
    stored: Stored,
    parts: BTreeMap<u64, Vec<u8>>,
}

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

    pub(crate) fn take_folders_for_files(&self) {
        self.shared.content.lock().unwrap().folders_are_files = true;
    }

    pub(crate) fn ignore_conditions(&self) {
        self.shared.content.lock().unwrap().ignores_conditions = true;
    }

    pub(crate) fn order_by_begin(&self) {
        self.shared.content.lock().unwrap().orders_by_begin = true;
    }

    pub(crate) fn show_marks_last(&self) {
        self.shared.content.lock().unwrap().shows_marks_last = true;
    }

    /// Does what was asked, whenever that was.
    pub(crate) fn answer(&self, asked: &Asked) -> Reply {
        self.shared.content.lock().unwrap().answer(asked)
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

    /// Returns the tags of each version of a key, oldest first.
    pub(crate) fn tags(&self, key: &str) -> Vec<Vec<(String, String)>> {
        let content = self.shared.content.lock().unwrap();
        content.objects[key].iter().map(|it| it.tags.clone()).collect()
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

impl Content {
    fn newest(&self) -> impl Iterator<Item = (&String, &Stored)> {
        let newest = self.objects.iter().filter_map(|(key, all)| Some((key, all.last()?)));
        newest.filter(|(_, stored)| !stored.is_deletion)
    }

    /// Answers to what has put a version just now.
    fn stored(&self, reply: Reply) -> Reply {
        match self.keeps_versions {
            true => reply.with("x-amz-version-id", format!("v{}", self.number)),
            false => reply,
        }
    }

    fn store(&mut self, key: &str, mut stored: Stored) {
        self.number += 1;
        // Two of them in each second.
        stored.seconds = 1_700_000_000 + self.number / 2;
        if stored.begun == 0 {
            stored.begun = self.number;
        }
        stored.version = match self.keeps_versions {
            true => format!("v{}", self.number),
            false => "null".to_owned(),
        };
        let all = self.objects.entry(key.to_owned()).or_default();
        if !self.keeps_versions {
            all.clear();
        }
        all.push(stored);
        if self.orders_by_begin {
            all.sort_by_key(|stored| stored.begun);
        }
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
            "GET" | "HEAD" => self.tell(asked, &key, &word),
            "DELETE" => {
                if let Some(upload) = word("uploadId") {
                    self.uploads.remove(upload);
                } else {
                    match (word("versionId"), self.objects.get_mut(&key)) {
                        (Some(version), Some(all)) => all.retain(|it| it.version != version),
                        _ => {
                            self.delete(&key);
                            return self.stored(Reply::Whole(204, Vec::new(), Vec::new()));
                        }
                    }
                }
                Reply::Whole(204, Vec::new(), Vec::new())
            }
            "POST" if word("uploads").is_some() => {
                self.number += 1;
                let upload = format!("u{}", self.number);
                let stored = Stored { begun: self.number, ..described(asked, Vec::new()) };
                let parts = BTreeMap::new();
                self.uploads.insert(upload.clone(), Begun { key, stored, parts });
                Reply::ok(format!("<R><UploadId>{upload}</UploadId></R>"))
            }
            "POST" => self.complete(asked, word("uploadId").unwrap_or_default()),
            "PUT" => self.take(asked, &key, &word),
            _ => Reply::error(405, "MethodNotAllowed"),
        }
    }

    fn tell(&self, asked: &Asked, key: &str, word: &Word) -> Reply {
        if word("versioning").is_some() {
            let status = if self.keeps_versions { "<Status>Enabled</Status>" } else { "" };
            let name = "VersioningConfiguration";
            return Reply::ok(format!("<{name}>{status}</{name}>"));
        }
        if word("versions").is_some() {
            return self.list_versions(word);
        }
        if key.is_empty() {
            return self.list(word);
        }
        if word("tagging").is_none() {
            return self.read(asked, key, word("versionId"));
        }
        let Some(stored) = self.find(key, word("versionId")) else {
            return Reply::error(404, "NoSuchKey");
        };
        let tag =
            |(k, v): &(String, String)| format!("<Tag><Key>{k}</Key><Value>{v}</Value></Tag>");
        let tags: String = stored.tags.iter().map(tag).collect();
        Reply::ok(format!("<Tagging><TagSet>{tags}</TagSet></Tagging>"))
    }

    fn take(&mut self, asked: &Asked, key: &str, word: &Word) -> Reply {
        if let (Some(number), Some(upload)) = (word("partNumber"), word("uploadId")) {
            let Some(upload) = self.uploads.get_mut(upload) else {
                return Reply::error(404, "NoSuchUpload");
            };
            upload.parts.insert(number.parse().unwrap(), asked.body.clone());
            return Reply::ok(b"").with("etag", format!("\"{number}\""));
        }
        if word("tagging").is_some() {
            let body = String::from_utf8(asked.body.clone()).unwrap();
            let tag = |tag: &str| (text_of(tag, "Key").unwrap(), text_of(tag, "Value").unwrap());
            let mut all = self.objects.get_mut(key).map(|all| all.iter_mut()).into_iter().flatten();
            let is_it = |it: &&mut Stored| word("versionId").is_none_or(|name| it.version == name);
            let Some(stored) = all.rfind(is_it) else {
                return Reply::error(404, "NoSuchKey");
            };
            stored.tags = body.split("<Tag>").skip(1).map(tag).collect();
            return Reply::ok(b"");
        }
        if self.folders_are_files && key.ends_with('/') {
            self.objects.retain(|known, _| !known.starts_with(key));
            return self.put(asked, key.trim_end_matches('/'));
        }
        self.put(asked, key)
    }

    fn put(&mut self, asked: &Asked, key: &str) -> Reply {
        let is_conditional = !self.ignores_conditions && asked.header("if-none-match").is_some();
        if is_conditional && self.find(key, None).is_some() {
            return Reply::error(412, "PreconditionFailed");
        }
        let stored = match asked.header("x-amz-copy-source") {
            None => described(asked, asked.body.clone()),
            Some(source) => {
                let (from, version) = match source.split_once("?versionId=") {
                    Some((from, version)) => (from, Some(version)),
                    None => (source, None),
                };
                let from = decoded(from.strip_prefix("/b/").unwrap());
                let Some(found) = self.find(&from, version).cloned() else {
                    return Reply::error(404, "NoSuchKey");
                };
                match asked.header("x-amz-metadata-directive") {
                    Some("REPLACE") => described(asked, found.bytes),
                    _ => Stored { begun: 0, ..found },
                }
            }
        };
        self.store(key, stored);
        self.stored(Reply::ok("<CopyObjectResult/>"))
    }

    fn complete(&mut self, asked: &Asked, upload: &str) -> Reply {
        let Some(Begun { key, mut stored, parts }) = self.uploads.remove(upload) else {
            return Reply::error(404, "NoSuchUpload");
        };
        let body = String::from_utf8(asked.body.clone()).unwrap();
        assert_eq!(body.matches("<Part>").count(), parts.len());
        stored.bytes = parts.into_values().flatten().collect();
        self.store(&key, stored);
        self.stored(Reply::ok("<CompleteMultipartUploadResult/>"))
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
