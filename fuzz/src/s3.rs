//! What a store answers: pages of listings, tags, refusals; and keys that come back through XML.

use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::net::s3::refusal::Refused;
use icecore::net::s3::xml;

fn is_garbled<T>(read: Result<T, Error>) -> Option<T> {
    let refused = |e: &Error| assert_eq!(e.kind(), ErrorKind::Corrupt, "{}", e.full_message());
    if let Err(e) = &read {
        reach("garbled");
        assert!(e.full_message().len() < 1000, "{}", e.full_message());
        assert!(!e.full_message().contains(char::is_control), "{:?}", e.full_message());
    }
    read.inspect_err(refused).ok()
}

use super::places::reach;

/// What the seeds come to.
pub const PLACES: &[&str] = &[
    "garbled",
    "page",
    "folder",
    "more",
    "version",
    "deletion",
    "upload",
    "parts",
    "tag",
    "location",
    "upload id",
    "keeps versions",
    "keeps none",
    "refusal",
    "region",
    "key",
];

/// Notes what was read, where something was.
fn told<T>(read: Option<T>, is_there: impl Fn(&T) -> bool, place: &'static str) {
    if read.is_some_and(|read| is_there(&read)) {
        reach(place);
    }
}

/// A page that says there is more says where.
fn reads(data: &[u8]) {
    if let Some(page) = is_garbled(xml::page(data)) {
        told(Some(&page.objects), |it| !it.is_empty(), "page");
        told(Some(&page.folders), |it| !it.is_empty(), "folder");
        told(page.next.as_ref(), |_| true, "more");
        assert_ne!(page.next.as_deref(), Some(""));
        assert!(page.objects.len() + page.folders.len() <= data.len() / 8);
        assert!(page.objects.iter().all(|it| it.key.len() <= data.len()));
    }
    if let Some(page) = is_garbled(xml::version_page(data)) {
        told(Some(&page.versions), |it| it.iter().any(|it| !it.is_deletion), "version");
        told(Some(&page.versions), |it| it.iter().any(|it| it.is_deletion), "deletion");
        assert!(page.versions.iter().all(|it| !it.is_deletion || it.object.size == 0));
    }
    told(is_garbled(xml::upload_page(data)), |it| !it.uploads.is_empty(), "upload");
    told(is_garbled(xml::parts_bytes(data)), |bytes| *bytes > 0, "parts");
    told(is_garbled(xml::tags(data)), |tags| !tags.is_empty(), "tag");
    told(is_garbled(xml::location(data)), |it| !it.is_empty(), "location");
    if let Some(id) = is_garbled(xml::upload_id(data)) {
        assert!(!id.is_empty());
        reach("upload id");
    }
    match xml::keeps_versions(data) {
        Ok(keeps) => reach(if keeps { "keeps versions" } else { "keeps none" }),
        Err(e) => assert!(matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported)),
    }
}

/// Any status with any body is an error that is short and plain.
fn refuses(status: u16, body: &[u8]) {
    let said = xml::refusal(body);
    told(said.as_ref(), |_| true, "refusal");
    let region = said.and_then(|it| it.region);
    told(region.as_ref(), |_| true, "region");
    for region in [None, region.as_deref()] {
        let error = Refused { status, region, body: Some(body) }.error("list s3://b");
        assert_ne!(error.kind(), ErrorKind::Bug);
        // A byte that cannot be shown takes some characters.
        assert!(error.to_string().len() < 3000, "{error}");
        assert!(error.hint_text().unwrap_or_default().len() < 2000, "{:?}", error.hint_text());
        assert!(!error.full_message().contains(char::is_control), "{:?}", error.full_message());
    }
}

/// A key that XML can hold comes back, plain and encoded.
fn comes_back(key: &str) {
    // What XML has no words for, and what its readers make one of.
    let is_text = |c: char| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}');
    if !key.chars().all(is_text) {
        return;
    }
    let encoded: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
    for (word, key_text) in [("", xml::escaped(key)), ("url", encoded)] {
        let text = format!(
            "<ListBucketResult><IsTruncated>false</IsTruncated><EncodingType>{word}</EncodingType>\
             <Contents><Key>{key_text}</Key><Size>{}</Size></Contents></ListBucketResult>",
            key.len()
        );
        let page = xml::page(text.as_bytes()).expect(&text);
        assert_eq!(page.objects.len(), 1);
        reach("key");
        assert_eq!((page.objects[0].key.as_str(), page.objects[0].size), (key, key.len() as u64));
    }
}

/// One execution. The last two bytes are a status as well.
pub fn run(data: &[u8]) {
    reads(data);
    let (body, status) = data.split_last_chunk::<2>().unwrap_or((data, &[0, 0]));
    refuses(u16::from_le_bytes(*status) % 700, body);
    refuses(404, data);
    if let Ok(key) = std::str::from_utf8(data) {
        comes_back(key);
    }
}
