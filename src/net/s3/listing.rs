//! Many at once: objects and folders, versions, uploads that were begun.
//!
//! A listing is whole or an error. Each page has to go on behind the one before: so one that goes
//! in circles ends, and no key comes twice.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::limits::S3_EMPTY_PAGES_MAX;
use crate::base::time::Timestamp;
use crate::net::http::Answer;
use crate::net::http::Method;
use crate::net::s3::client::Call;
use crate::net::s3::client::Client;
use crate::net::s3::client::Refused;
use crate::net::s3::xml;
use crate::net::s3::xml::Object;
use crate::net::s3::xml::Page;
use crate::net::s3::xml::Upload;
use crate::net::s3::xml::Version;
use std::collections::BTreeSet;

/// One row of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// An object.
    Object(Object),
    /// What keys begin with up to the next slash, that slash with it.
    Folder(String),
}

/// One row of a listing of versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionRow {
    /// A version of an object, or a mark that it was deleted.
    Version(Version),
    /// What keys begin with up to the next slash, that slash with it.
    Folder(String),
}

/// How far a listing goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Up to the next slash: what has more is shown as a folder.
    Folder,
    /// Through everything.
    All,
}

/// Watches that pages go on: in the order of bytes, as they should, or in that of names part by
/// part, as one store has it that keeps folders (there `a/b` comes before `a-b`).
struct Course {
    /// The last key in each order, as long as the order holds.
    orders: [Option<String>; 2],
    empty_pages: usize,
    /// Where pages went on since the keys last did.
    markers: BTreeSet<(String, String)>,
    /// Whether a page may begin with the key that the one before ended with.
    keys_repeat: bool,
}

impl Course {
    fn new(keys_repeat: bool) -> Self {
        // The empty key is before all others, in either order.
        let orders = [Some(String::new()), Some(String::new())];
        Course { orders, empty_pages: 0, markers: BTreeSet::new(), keys_repeat }
    }

    /// Takes the keys of a page.
    fn page<'a>(&mut self, keys: impl Iterator<Item = &'a str> + Clone) -> Result<()> {
        self.empty_pages += 1;
        if keys.clone().next().is_some() {
            self.empty_pages = 0;
            let before = self.orders.clone();
            let by_bytes = keys.clone().map(str::to_owned);
            self.orders[0] = self.next(0, by_bytes);
            let by_names = keys.map(|key| key.trim_end_matches('/').replace('/', "\0"));
            self.orders[1] = self.next(1, by_names);
            if self.orders != before {
                self.markers.clear();
            }
        }
        if self.empty_pages > S3_EMPTY_PAGES_MAX {
            return Err(xml::garbled("the listing does not end"));
        }
        if self.orders == [None, None] {
            return Err(xml::garbled("the listing does not go on where it was"));
        }
        Ok(())
    }

    /// Takes what the next page is asked for with: the rows of one key may go in circles, too.
    fn marker(&mut self, marker: Option<&(String, String)>) -> Result<()> {
        match marker.is_none_or(|marker| self.markers.insert(marker.clone())) {
            true => Ok(()),
            false => Err(xml::garbled("the listing does not end")),
        }
    }

    /// Returns the greatest key if the least is behind what was the last in this order.
    fn next(&self, order: usize, keys: impl Iterator<Item = String> + Clone) -> Option<String> {
        let last = self.orders[order].as_ref()?;
        let least = keys.clone().min()?;
        let goes_on = least > *last || self.keys_repeat && least == *last;
        if goes_on { keys.max() } else { None }
    }
}

impl Client {
    /// Shows the objects whose keys begin with `prefix`. Returns what time it is for the store,
    /// where it says so.
    ///
    /// # Errors
    /// `NoRepository` without the bucket; `Corrupt` for a listing that is cut or makes no sense;
    /// as `visit` says, which ends it.
    pub fn list(
        &self,
        prefix: &str,
        depth: Depth,
        visit: &mut dyn FnMut(Row) -> Result<()>,
    ) -> Result<Option<Timestamp>> {
        let mut course = Course::new(false);
        let mut token: Option<String> = None;
        loop {
            let mut query = vec![("list-type", "2"), ("encoding-type", "url"), ("prefix", prefix)];
            if depth == Depth::Folder {
                query.push(("delimiter", "/"));
            }
            if let Some(token) = &token {
                query.push(("continuation-token", token.as_str()));
            }
            let call = Call { query: &query, ..Call::new(Method::Get, "list", "") };
            let (answer, body) = self.ask(&call).map_err(Refused::into_error)?.value;
            let mut page = xml::page(&body).map_err(|e| self.listing(e))?;
            let next = page.next.take();
            let rows = rows(page, prefix).map_err(|e| self.listing(e))?;
            let keys = rows.iter().map(|(key, _)| key.as_str());
            course.page(keys).map_err(|e| self.listing(e))?;
            for (_, row) in rows {
                visit(row)?;
            }
            if next.is_none() {
                return Ok(time_of(&answer));
            }
            token = next;
        }
    }

    /// Shows all versions of the objects whose keys begin with `prefix`, those of one key newest
    /// first; a folder may come again.
    ///
    /// # Errors
    /// As [`Client::list`]; `Unsupported` where the store has none.
    pub fn list_versions(
        &self,
        prefix: &str,
        depth: Depth,
        visit: &mut dyn FnMut(VersionRow) -> Result<()>,
    ) -> Result<()> {
        let mut course = Course::new(true);
        let mut next: Option<(String, String)> = None;
        loop {
            let mut query = vec![("versions", ""), ("encoding-type", "url"), ("prefix", prefix)];
            if depth == Depth::Folder {
                query.push(("delimiter", "/"));
            }
            if let Some((key, version)) = &next {
                query.push(("key-marker", key.as_str()));
                query.push(("version-id-marker", version.as_str()));
            }
            query.retain(|(name, value)| *name != "version-id-marker" || !value.is_empty());
            let call = Call { query: &query, ..Call::new(Method::Get, "list the versions in", "") };
            let (_, body) = self.ask(&call).map_err(Refused::into_error)?.value;
            let mut page = xml::version_page(&body).map_err(|e| self.listing(e))?;
            join_keys(&mut page.versions);
            let versions = || page.versions.iter().map(|version| version.object.key.as_str());
            let keys = || versions().chain(page.folders.iter().map(String::as_str));
            if keys().any(|key| !key.starts_with(prefix)) {
                return Err(self.listing(xml::garbled("a key is of another place")));
            }
            let goes_on = course.page(keys()).and_then(|()| course.marker(page.next.as_ref()));
            goes_on.map_err(|e| self.listing(e))?;
            for version in page.versions {
                visit(VersionRow::Version(version))?;
            }
            for folder in page.folders {
                visit(VersionRow::Folder(folder))?;
            }
            if page.next.is_none() {
                return Ok(());
            }
            next = page.next;
        }
    }

    /// Returns the uploads that were begun for keys that begin with `prefix`, and what time it is
    /// for the store.
    ///
    /// # Errors
    /// As [`Client::list`]; `Unsupported` where the store has none.
    pub fn list_uploads(&self, prefix: &str) -> Result<(Vec<Upload>, Option<Timestamp>)> {
        let mut course = Course::new(true);
        let mut uploads = Vec::new();
        let mut next: Option<(String, String)> = None;
        loop {
            let mut query = vec![("uploads", ""), ("encoding-type", "url"), ("prefix", prefix)];
            if let Some((key, upload)) = &next {
                query.push(("key-marker", key.as_str()));
                query.push(("upload-id-marker", upload.as_str()));
            }
            query.retain(|(name, value)| *name != "upload-id-marker" || !value.is_empty());
            let call = Call { query: &query, ..Call::new(Method::Get, "list the uploads in", "") };
            let (answer, body) = self.ask(&call).map_err(Refused::into_error)?.value;
            let page = xml::upload_page(&body).map_err(|e| self.listing(e))?;
            let keys = || page.uploads.iter().map(|upload| upload.key.as_str());
            let goes_on = course.page(keys()).and_then(|()| course.marker(page.next.as_ref()));
            goes_on.map_err(|e| self.listing(e))?;
            // One store answers with those of all keys, whatever is asked.
            uploads.extend(page.uploads.into_iter().filter(|it| it.key.starts_with(prefix)));
            if page.next.is_none() {
                return Ok((uploads, time_of(&answer)));
            }
            next = page.next;
        }
    }

    fn listing(&self, e: Error) -> Error {
        e.context(format!("cannot list {}", self.shown("")))
    }
}

/// Returns the rows of a page, sorted by what they begin with. An object that comes twice is one
/// where both may be the same: after two put one at once, `rclone serve s3` may go on showing the
/// file that one of them wrote first, of which it cannot tell the content any more.
fn rows(page: Page, prefix: &str) -> Result<Vec<(String, Row)>> {
    let objects = page.objects.into_iter().map(|it| (it.key.clone(), Row::Object(it)));
    let folders = page.folders.into_iter().map(|it| (it.clone(), Row::Folder(it)));
    let mut rows: Vec<_> = objects.chain(folders).collect();
    if rows.iter().any(|(key, _)| !key.starts_with(prefix)) {
        return Err(xml::garbled("a key is of another place"));
    }
    rows.sort_by(|one, other| one.0.cmp(&other.0));
    rows.dedup_by(|(_, twin), (_, kept)| is_twin(twin, kept));
    if rows.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(xml::garbled("a key comes twice"));
    }
    Ok(rows)
}

/// Says whether two rows show the same object; `kept` then says what both say.
fn is_twin(twin: &mut Row, kept: &mut Row) -> bool {
    let (Row::Object(twin), Row::Object(kept)) = (twin, kept) else { return false };
    let is_unsaid = twin.etag.is_empty() || kept.etag.is_empty();
    let is_same =
        (&twin.key, twin.size) == (&kept.key, kept.size) && (is_unsaid || twin.etag == kept.etag);
    if is_same {
        kept.modified = kept.modified.max(twin.modified);
        if kept.etag.is_empty() {
            std::mem::swap(&mut kept.etag, &mut twin.etag);
        }
    }
    is_same
}

/// Brings versions of one key together, newest first: a store may show marks of deletion behind all
/// else of a page.
fn join_keys(versions: &mut [Version]) {
    let mut keys = BTreeSet::new();
    let of_keys = versions.chunk_by(|one, other| one.object.key == other.object.key);
    if !of_keys.map(|of_key| &of_key[0].object.key).all(|key| keys.insert(key)) {
        versions.sort_by(|one, other| one.object.key.cmp(&other.object.key));
    }
    for of_key in versions.chunk_by_mut(|one, other| one.object.key == other.object.key) {
        join_marks(of_key);
    }
}

/// Brings marks of deletion that stand behind all versions of their key to where they belong: the
/// last of all first, the others by their times. Versions stay in order among themselves, as do
/// marks, and what is in order stays as it is.
fn join_marks(of_key: &mut [Version]) {
    let has_marks = of_key.last().is_some_and(|it| it.is_deletion);
    if !has_marks || !of_key.is_sorted_by_key(|it| it.is_deletion) {
        return;
    }
    let place = |it: &Version| (it.is_latest, it.object.modified);
    let first_mark = of_key.partition_point(|it| !it.is_deletion);
    let (of_objects, marks) = of_key.split_at(first_mark);
    let (mut of_objects, mut marks) = (of_objects.iter().peekable(), marks.iter().peekable());
    let mut joined = Vec::with_capacity(of_key.len());
    while let Some(&mark) = marks.peek() {
        let next = of_objects.next_if(|it| place(it) >= place(mark)).or_else(|| marks.next());
        joined.extend(next.cloned());
    }
    joined.extend(of_objects.cloned());
    of_key.clone_from_slice(&joined);
}

fn time_of(answer: &Answer) -> Option<Timestamp> {
    Timestamp::from_http_date(answer.header("date")?)
}
