//! Answers of stores: XML, read into a small tree and from there into rows.
//!
//! What a store sends is not trusted: elements, depth and bytes are bounded, and a document that
//! is not closed is an error. A listing that was cut is never a shorter listing.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::limits::S3_DEPTH_MAX;
use crate::base::limits::S3_ELEMENTS_MAX;
use crate::base::path::display;
use crate::base::time::Timestamp;
use quick_xml::Reader;
use quick_xml::events::BytesRef;
use quick_xml::events::Event;

/// How much of what is wrong with an answer is repeated, as it may be of any length.
const WHY_BYTES_MAX: usize = 200;

/// An element with what is in it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) name: String,
    pub(crate) text: String,
    children: Vec<Element>,
}

impl Element {
    /// Reads a document up to the end of its outermost element.
    ///
    /// # Errors
    /// `Corrupt` for what is none, or too much.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes).map_err(|_| garbled("it is not UTF-8"))?;
        let mut reader = Reader::from_str(text);
        let mut open: Vec<Element> = Vec::new();
        let mut elements = 0;
        loop {
            let event = reader.read_event();
            let closed = match event.map_err(|e| no_xml(&e))? {
                Event::Start(start) => {
                    elements += 1;
                    check(elements, open.len() + 1)?;
                    open.push(Element::named(start.local_name().as_ref()));
                    None
                }
                Event::Empty(start) => {
                    elements += 1;
                    check(elements, open.len() + 1)?;
                    Some(Element::named(start.local_name().as_ref()))
                }
                Event::End(_) => open.pop(),
                Event::Text(more) => {
                    add(&mut open, &more.xml10_content());
                    None
                }
                Event::CData(more) => {
                    add(&mut open, &more.xml10_content());
                    None
                }
                Event::GeneralRef(reference) => {
                    add(&mut open, resolved(&reference)?.encode_utf8(&mut [0; 4]));
                    None
                }
                Event::Eof => return Err(garbled("it breaks off")),
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => None,
            };
            match (closed, open.last_mut()) {
                (Some(closed), Some(parent)) => parent.children.push(closed),
                (Some(closed), None) => return Ok(closed),
                (None, _) => {}
            }
        }
    }

    fn named(name: &str) -> Self {
        Element { name: name.to_owned(), ..Element::default() }
    }

    /// Returns the first element of a name directly below.
    pub(crate) fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// Returns the text of the first element of a name directly below, blanks around it cut off.
    pub(crate) fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.trim())
    }

    /// Returns all elements of a name directly below.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// Returns an element's text, which must be there.
    fn need(&self, name: &str) -> Result<&str> {
        self.text_of(name).ok_or_else(|| garbled(&format!("there is no {name} in a {}", self.name)))
    }

    fn number(&self, name: &str) -> Result<u64> {
        self.need(name)?.parse().map_err(|_| garbled(&format!("its {name} is no number")))
    }

    /// Makes sure of what a document is.
    pub(crate) fn expect(self, name: &str) -> Result<Self> {
        if self.name == name {
            return Ok(self);
        }
        Err(garbled(&format!("it is no {name}")))
    }
}

fn check(elements: usize, depth: usize) -> Result<()> {
    if elements > S3_ELEMENTS_MAX || depth > S3_DEPTH_MAX {
        return Err(garbled("it holds too much"));
    }
    Ok(())
}

fn add(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

fn resolved(reference: &BytesRef<'_>) -> Result<char> {
    let name: &str = reference;
    Ok(match name {
        "lt" => '<',
        "gt" => '>',
        "amp" => '&',
        "apos" => '\'',
        "quot" => '"',
        _ => {
            let known = reference.resolve_char_ref();
            let known = known.map_err(|e| no_xml(&e))?;
            known.ok_or_else(|| garbled("it names an unknown entity"))?
        }
    })
}

/// Makes sure that an answer says by its name that something was done: a number alone may be that
/// of somebody before the store, and an answer that was cut says nothing.
///
/// # Errors
/// `Corrupt`.
pub(crate) fn confirmed(bytes: &[u8], name: &str) -> Result<()> {
    Element::parse(bytes)?.expect(name).map(drop)
}

/// Returns the error of an answer that makes no sense. The reason may repeat words of the answer,
/// which are shown short, and never as what a terminal obeys.
pub(crate) fn garbled(why: &str) -> Error {
    let why = display(&why.as_bytes()[..why.len().min(WHY_BYTES_MAX)]);
    // A byte that cannot be shown takes some characters.
    let why: String = why.chars().take(WHY_BYTES_MAX).collect();
    Error::corrupt(format!("the answer of the store cannot be read: {why}"))
}

/// Returns the error of what the XML reader does not take, in its words.
fn no_xml(e: &impl std::fmt::Display) -> Error {
    garbled(&format!("it is no XML: {e}"))
}

/// An object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was put.
    pub modified: Option<Timestamp>,
    /// The store's word for its content, without quotes.
    pub etag: String,
}

/// A page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Objects.
    pub objects: Vec<Object>,
    /// What keys begin with up to the next slash, that slash with it.
    pub folders: Vec<String>,
    /// What the next page is asked for with; None on the last.
    pub next: Option<String>,
}

/// One version of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The object; of a mark of deletion nothing but key and time.
    pub object: Object,
    /// Its name among the versions of its key; `null` from before there were any.
    pub version: String,
    /// Whether a plain look at the key shows it.
    pub is_latest: bool,
    /// Whether it says that the object was deleted.
    pub is_deletion: bool,
}

/// A page of versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionPage {
    /// Versions, those of a key newest first.
    pub versions: Vec<Version>,
    /// What keys begin with up to the next slash, that slash with it.
    pub folders: Vec<String>,
    /// Key and version that the next page is asked for with; None on the last.
    pub next: Option<(String, String)>,
}

/// An upload in parts that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The key it is for.
    pub key: String,
    /// Its name.
    pub upload: String,
    /// When it was begun.
    pub begun: Option<Timestamp>,
}

/// A page of uploads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadPage {
    /// Uploads.
    pub uploads: Vec<Upload>,
    /// Key and upload that the next page is asked for with; None on the last.
    pub next: Option<(String, String)>,
}

/// How keys are written in a listing.
#[derive(Clone, Copy)]
struct Spelling {
    is_encoded: bool,
}

impl Spelling {
    fn of(root: &Element) -> Self {
        Spelling { is_encoded: root.text_of("EncodingType") == Some("url") }
    }

    /// Blanks around a key belong to it, but in encoded form there are none.
    fn key(self, element: &Element, name: &str) -> Result<String> {
        let text = element.child(name).map(|child| child.text.as_str());
        let text = text.ok_or_else(|| garbled(&format!("there is no {name} in a row")))?;
        if !self.is_encoded {
            return Ok(text.to_owned());
        }
        let bytes = decoded(text.trim()).ok_or_else(|| garbled("a key is badly encoded"))?;
        String::from_utf8(bytes).map_err(|_| garbled("a key is not UTF-8"))
    }
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        out.push(match byte {
            b'%' => (digit()? * 16 + digit()?) as u8,
            b'+' => b' ',
            byte => byte,
        });
    }
    Some(out)
}

/// Reads a page of a listing.
///
/// # Errors
/// `Corrupt` for what is none, and for a page that says it has more than it shows.
pub fn page(bytes: &[u8]) -> Result<Page> {
    let root = Element::parse(bytes)?.expect("ListBucketResult")?;
    let spelling = Spelling::of(&root);
    let mut page = Page::default();
    for row in root.all("Contents") {
        page.objects.push(object(row, spelling)?);
    }
    for row in root.all("CommonPrefixes") {
        page.folders.push(spelling.key(row, "Prefix")?);
    }
    let rows = (page.objects.len() + page.folders.len()) as u64;
    if root.child("KeyCount").is_some() && root.number("KeyCount")? > rows {
        return Err(garbled("the listing has fewer rows than it says"));
    }
    if is_truncated(&root)? {
        let token = root.text_of("NextContinuationToken").filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| garbled("the listing is cut and does not say how"))?;
        page.next = Some(token.to_owned());
    }
    Ok(page)
}

/// Says whether there is more. Where the word is missing that is nobody's promise of an end.
fn is_truncated(root: &Element) -> Result<bool> {
    match root.need("IsTruncated")? {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(garbled("the listing does not say whether there is more")),
    }
}

fn object(row: &Element, spelling: Spelling) -> Result<Object> {
    Ok(Object {
        key: spelling.key(row, "Key")?,
        size: row.number("Size")?,
        modified: row.text_of("LastModified").and_then(Timestamp::from_rfc3339),
        etag: unquoted(row.text_of("ETag").unwrap_or_default()),
    })
}

/// Takes the quotes off.
pub(crate) fn unquoted(etag: &str) -> String {
    etag.trim().trim_matches('"').to_owned()
}

/// Reads a page of versions.
///
/// # Errors
/// `Corrupt` for what is none.
pub fn version_page(bytes: &[u8]) -> Result<VersionPage> {
    let root = Element::parse(bytes)?.expect("ListVersionsResult")?;
    let spelling = Spelling::of(&root);
    let mut page = VersionPage::default();
    for row in &root.children {
        let is_deletion = row.name == "DeleteMarker";
        if !is_deletion && row.name != "Version" {
            continue;
        }
        let object = if is_deletion {
            let modified = row.text_of("LastModified").and_then(Timestamp::from_rfc3339);
            Object { key: spelling.key(row, "Key")?, size: 0, modified, etag: String::new() }
        } else {
            object(row, spelling)?
        };
        page.versions.push(Version {
            object,
            version: row.need("VersionId")?.to_owned(),
            is_latest: row.text_of("IsLatest") == Some("true"),
            is_deletion,
        });
    }
    for row in root.all("CommonPrefixes") {
        page.folders.push(spelling.key(row, "Prefix")?);
    }
    if is_truncated(&root)? {
        let version = root.text_of("NextVersionIdMarker").unwrap_or_default();
        page.next = Some((next_key(&root, spelling, "NextKeyMarker")?, version.to_owned()));
    }
    Ok(page)
}

fn next_key(root: &Element, spelling: Spelling, name: &str) -> Result<String> {
    match root.child(name) {
        Some(_) => spelling.key(root, name),
        None => Err(garbled("the listing is cut and does not say how")),
    }
}

/// Reads a page of uploads.
///
/// # Errors
/// `Corrupt` for what is none.
pub fn upload_page(bytes: &[u8]) -> Result<UploadPage> {
    let root = Element::parse(bytes)?.expect("ListMultipartUploadsResult")?;
    let spelling = Spelling::of(&root);
    let mut page = UploadPage::default();
    for row in root.all("Upload") {
        page.uploads.push(Upload {
            key: spelling.key(row, "Key")?,
            upload: row.need("UploadId")?.to_owned(),
            begun: row.text_of("Initiated").and_then(Timestamp::from_rfc3339),
        });
    }
    // One store, which shows all of them at once, does not say the word.
    if root.child("IsTruncated").is_some() && is_truncated(&root)? {
        let upload = root.text_of("NextUploadIdMarker").unwrap_or_default();
        page.next = Some((next_key(&root, spelling, "NextKeyMarker")?, upload.to_owned()));
    }
    Ok(page)
}

/// Returns how many bytes the parts of an upload have, on this page of them.
///
/// # Errors
/// `Corrupt` for what is no list of parts.
pub fn parts_bytes(bytes: &[u8]) -> Result<u64> {
    let root = Element::parse(bytes)?.expect("ListPartsResult")?;
    root.all("Part").try_fold(0_u64, |sum, part| Ok(sum.saturating_add(part.number("Size")?)))
}

/// Returns the name of an upload that was begun.
///
/// # Errors
/// `Corrupt` when there is none.
pub fn upload_id(bytes: &[u8]) -> Result<String> {
    // One store has another name for it.
    match Element::parse(bytes)?.need("UploadId")? {
        "" => Err(garbled("the upload has no name")),
        id => Ok(id.to_owned()),
    }
}

/// Reads tags.
///
/// # Errors
/// `Corrupt` for what is none.
pub fn tags(bytes: &[u8]) -> Result<Vec<(String, String)>> {
    let root = Element::parse(bytes)?.expect("Tagging")?;
    let Some(set) = root.child("TagSet") else { return Ok(Vec::new()) };
    let text = |tag: &Element, name: &str| {
        tag.child(name).map(|child| child.text.clone()).ok_or_else(|| garbled("a tag is cut"))
    };
    set.all("Tag").map(|tag| Ok((text(tag, "Key")?, text(tag, "Value")?))).collect()
}

/// Returns the region a bucket is in, as the store says; the empty word is the first region.
///
/// # Errors
/// `Corrupt` for what is none.
pub fn location(bytes: &[u8]) -> Result<String> {
    let root = Element::parse(bytes)?;
    // One store wraps it up.
    if let Some(region) = root.text_of("LocationConstraint") {
        return Ok(region.to_owned());
    }
    Ok(root.expect("LocationConstraint")?.text.trim().to_owned())
}

/// Returns whether a bucket keeps versions, as the store says.
///
/// # Errors
/// `Unsupported` for what is no answer to that.
pub fn keeps_versions(bytes: &[u8]) -> Result<bool> {
    let root = Element::parse(bytes)?;
    match root.name.as_str() {
        "VersioningConfiguration" => Ok(root.text_of("Status") == Some("Enabled")),
        _ => Err(Error::new(ErrorKind::Unsupported, "the store tells nothing of versions")),
    }
}

/// What a store says that did not do what it was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// The word for it.
    pub code: String,
    /// The sentence for people.
    pub message: String,
    /// The region to ask instead.
    pub region: Option<String>,
}

/// Reads what a store says that refuses. None when it is no such thing.
pub fn refusal(bytes: &[u8]) -> Option<Refusal> {
    let root = Element::parse(bytes).ok()?.expect("Error").ok()?;
    let text = |name: &str| root.text_of(name).map(str::to_owned);
    Some(Refusal {
        code: text("Code").unwrap_or_default(),
        message: text("Message").unwrap_or_default(),
        region: text("Region").filter(|region| !region.is_empty()),
    })
}

/// Writes text so that it can stand in XML.
pub fn escaped(text: &str) -> String {
    quick_xml::escape::escape(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::any;
    use proptest::prop_assert;
    use proptest::proptest;

    #[test]
    fn a_page_is_read() {
        let text = r#"<?xml version="1.0" encoding="UTF-8"?>
            <ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
              <IsTruncated>true</IsTruncated><EncodingType>url</EncodingType>
              <Contents><Key>l/a+b%2B&#x25;41</Key><ETag>&#34;e&#34;</ETag><Size>5</Size>
                <LastModified>2026-11-21T15:34:22Z</LastModified></Contents>
              <CommonPrefixes><Prefix>l/%E6%BC%A2/</Prefix></CommonPrefixes>
              <KeyCount>2</KeyCount><NextContinuationToken>t=/+</NextContinuationToken>
            </ListBucketResult>"#;
        let page = page(text.as_bytes()).expect("a page");
        let modified = Timestamp::from_rfc3339("2026-11-21T15:34:22Z");
        let object = Object { key: "l/a b+A".into(), size: 5, modified, etag: "e".into() };
        assert_eq!(page.objects, [object]);
        assert_eq!(page.folders, ["l/\u{6f22}/"]);
        assert_eq!(page.next.as_deref(), Some("t=/+"));
    }

    #[test]
    fn what_a_garbled_answer_says_is_shown_short_and_plain() {
        for name in ["a\u{1b}[2J", &"long".repeat(1000), "a\u{202e}", &"\u{17}".repeat(300)] {
            for text in [format!("<{name}></b>"), format!("<{name}>&{name};</{name}>")] {
                let message = page(text.as_bytes()).expect_err("no page").full_message();
                assert!(!message.contains(['\u{1b}', '\u{202e}']), "{message:?}");
                assert!(message.len() < 500, "{message:?}");
            }
            let text = format!("<{name}/>");
            let message = upload_id(text.as_bytes()).expect_err("no upload").full_message();
            assert!(!message.contains(['\u{1b}', '\u{202e}']) && message.len() < 500);
        }
    }

    #[test]
    fn keys_that_are_not_encoded_are_taken_as_they_are() {
        let text = "<ListBucketResult><IsTruncated>false</IsTruncated><Contents>\
                    <Key> a+%41&lt;&amp;<![CDATA[<]]></Key><Size>1</Size></Contents>\
                    </ListBucketResult>";
        assert_eq!(page(text.as_bytes()).expect("a page").objects[0].key, " a+%41<&<");
    }

    #[test]
    fn versions_come_in_order_with_marks_of_deletion() {
        let text = "<ListVersionsResult><IsTruncated>true</IsTruncated>\
            <NextKeyMarker>k</NextKeyMarker><NextVersionIdMarker>1</NextVersionIdMarker>\
            <DeleteMarker><Key>k</Key><VersionId>2</VersionId><IsLatest>true</IsLatest>\
            </DeleteMarker><Version><Key>k</Key><VersionId>1</VersionId><IsLatest>false</IsLatest>\
            <Size>3</Size></Version></ListVersionsResult>";
        let page = version_page(text.as_bytes()).expect("a page");
        let seen: Vec<_> = page
            .versions
            .iter()
            .map(|it| (it.version.as_str(), it.is_latest, it.is_deletion, it.object.size))
            .collect();
        assert_eq!(seen, [("2", true, true, 0), ("1", false, false, 3)]);
        assert_eq!(page.next, Some(("k".into(), "1".into())));
    }

    #[test]
    fn other_answers_are_read_as_stores_write_them() {
        let begun = "<InitiateMultipartUpload><UploadId>u</UploadId></InitiateMultipartUpload>";
        assert_eq!(upload_id(begun.as_bytes()).expect("one"), "u");
        assert!(upload_id(b"<a><UploadId/></a>").is_err());
        let wrapped = "<CreateBucketConfiguration><LocationConstraint>r</LocationConstraint>\
                       </CreateBucketConfiguration>";
        assert_eq!(location(wrapped.as_bytes()).expect("one"), "r");
        assert_eq!(location(b"<LocationConstraint/>").expect("one"), "");
        let row = "<Tagging><TagSet><Tag><Key>a</Key><Value>&amp; b</Value></Tag></TagSet>\
                   </Tagging>";
        assert_eq!(tags(row.as_bytes()).expect("tags"), [("a".to_owned(), "& b".to_owned())]);
        let uploads = "<ListMultipartUploadsResult><Upload><Key>k</Key><UploadId>u</UploadId>\
                       </Upload></ListMultipartUploadsResult>";
        assert_eq!(upload_page(uploads.as_bytes()).expect("a page").uploads.len(), 1);
        assert_eq!(refusal(b"<Error><Code>X</Code></Error>").expect("one").code, "X");
        assert_eq!(refusal(b"<html>"), None);
    }

    #[test]
    fn an_entity_of_ones_own_is_no_bomb() {
        let text = "<!DOCTYPE a [<!ENTITY b \"bbbb\">]><a>&b;</a>";
        assert_eq!(Element::parse(text.as_bytes()).expect_err("no").kind(), ErrorKind::Corrupt);
    }

    fn all(bytes: &[u8]) {
        let _ = page(bytes);
        let _ = version_page(bytes);
        let _ = upload_page(bytes);
        let _ = (upload_id(bytes), tags(bytes), location(bytes), parts_bytes(bytes));
        let _ = refusal(bytes);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            all(&bytes);
        }

        #[test]
        fn any_cut_or_change_of_a_page_is_read_or_refused(
            at in 0..400_usize, byte in any::<u8>(), length in 0..400_usize,
        ) {
            let text = "<ListBucketResult><IsTruncated>true</IsTruncated><EncodingType>url\
                </EncodingType><Contents><Key>a%41&#x41;</Key><Size>5</Size></Contents>\
                <CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes>\
                <NextContinuationToken>t</NextContinuationToken></ListBucketResult>";
            let mut bytes = text.as_bytes().to_vec();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            let whole = bytes.len();
            bytes.truncate(length);
            all(&bytes);
            if length < whole {
                prop_assert!(page(&bytes).is_err());
            }
        }
    }
}
