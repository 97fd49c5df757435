//! Signatures of requests, version 4: who asks, when and for what, proven without the secret.
//!
//! Everything that this program says of itself is signed: the server's name, each header it sets,
//! the hash of the content. Headers that the HTTP client adds are not.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::id::to_hex;
use crate::base::secret::Secret;
use crate::base::time::Timestamp;
use aws_lc_rs::digest;
use aws_lc_rs::hmac;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SERVICE: &str = "s3";

/// Who asks.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The name of the key.
    pub access_key: String,
    /// What proves it.
    pub secret_key: Secret,
    /// What belongs to keys that are lent for a while.
    pub session_token: Option<Secret>,
}

/// What is signed.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// The word of the protocol.
    pub method: &'a str,
    /// The server's name as the request says it, with its port unless that is the usual one.
    pub host: &'a str,
    /// The path, encoded.
    pub path: &'a str,
    /// The query, encoded and sorted.
    pub query: &'a str,
    /// Headers, names in small letters.
    pub headers: &'a [(String, String)],
    /// SHA-256 of the content, in hex.
    pub content_hash: &'a str,
}

/// Returns the headers to add to a request: date, hash of the content, token and signature.
///
/// # Errors
/// `Bug` for a date beyond the calendar.
pub fn sign(
    request: &Signed<'_>,
    credentials: &Credentials,
    region: &str,
    now: Timestamp,
) -> Result<Vec<(String, String)>> {
    let [year, month, day, hour, minute, second] =
        now.to_calendar().ok_or_else(|| Error::bug("the clock shows no date"))?;
    let date = format!("{year:04}{month:02}{day:02}");
    let time = format!("{date}T{hour:02}{minute:02}{second:02}Z");

    let mut added = vec![
        ("x-amz-content-sha256".to_owned(), request.content_hash.to_owned()),
        ("x-amz-date".to_owned(), time.clone()),
    ];
    if let Some(token) = &credentials.session_token {
        let token = String::from_utf8_lossy(token.expose()).into_owned();
        added.push(("x-amz-security-token".to_owned(), token));
    }
    let mut headers: Vec<(&str, &str)> = vec![("host", request.host)];
    let all = request.headers.iter().chain(&added);
    headers.extend(all.map(|(name, value)| (name.as_str(), value.as_str())));
    headers.sort_unstable();

    let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    // Blanks around a value are left out, and each stretch of them within is one: those beyond
    // ASCII with them, as MinIO and SeaweedFS have it. What AWS does with these was not seen.
    let plain = |value: &str| value.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = |(name, value): &(&str, &str)| format!("{name}:{}\n", plain(value));
    let lines: String = headers.iter().map(line).collect();
    let canonical = format!(
        "{}\n{}\n{}\n{lines}\n{names}\n{}",
        request.method, request.path, request.query, request.content_hash
    );
    let scope = format!("{date}/{region}/{SERVICE}/aws4_request");
    let text = format!("{ALGORITHM}\n{time}\n{scope}\n{}", sha256_hex(canonical.as_bytes()));
    let signature = to_hex(keyed(&key(credentials, &date, region), &text).as_ref());
    let access_key = &credentials.access_key;
    added.push((
        "authorization".to_owned(),
        format!(
            "{ALGORITHM} Credential={access_key}/{scope},SignedHeaders={names},\
             Signature={signature}"
        ),
    ));
    Ok(added)
}

/// Derives the key of a day, a region and the service.
fn key(credentials: &Credentials, date: &str, region: &str) -> hmac::Tag {
    let first = Secret::new([b"AWS4", credentials.secret_key.expose()].concat());
    let first = hmac::Key::new(hmac::HMAC_SHA256, first.expose());
    let dated = hmac::sign(&first, date.as_bytes());
    [region, SERVICE, "aws4_request"].iter().fold(dated, |key, part| keyed(&key, part))
}

fn keyed(key: &hmac::Tag, text: &str) -> hmac::Tag {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_ref());
    hmac::sign(&key, text.as_bytes())
}

/// Returns SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

/// Returns SHA-256 in hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    to_hex(&sha256(bytes))
}

/// Returns bytes in base 64, as headers hold hashes.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
        let number = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let digit = number >> (18 - 6 * place) & 63;
            let is_there = place <= three.len();
            text.push(if is_there { char::from(DIGITS[digit as usize]) } else { '=' });
        }
    }
    text
}

/// Writes all but plain letters, digits, `-._~` and what `also` names as `%XX`.
pub fn encoded(text: &str, also: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let character = char::from(byte);
        let is_plain = byte.is_ascii_alphanumeric() || "-._~".contains(character);
        if is_plain || also.contains(character) && byte.is_ascii() {
            out.push(character);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Writes a query as it is signed: encoded, sorted.
pub fn query(pairs: &[(&str, &str)]) -> String {
    let mut pairs: Vec<_> =
        pairs.iter().map(|(name, value)| (encoded(name, ""), encoded(value, ""))).collect();
    pairs.sort_unstable();
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn example() -> Credentials {
        Credentials {
            access_key: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_key: Secret::new(b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_vec()),
            session_token: None,
        }
    }

    fn signature(method: &str, path: &str, query: &str, headers: &[(&str, &str)]) -> String {
        let body: &[u8] = if method == "PUT" { b"Welcome to Amazon S3." } else { b"" };
        let headers: Vec<(String, String)> =
            headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let request = Signed {
            method,
            host: "examplebucket.s3.amazonaws.com",
            path,
            query,
            headers: &headers,
            content_hash: &sha256_hex(body),
        };
        // 2013-05-24, midnight.
        let now = Timestamp::new(1_369_353_600, 0);
        let added = sign(&request, &example(), "us-east-1", now).expect("signed");
        let (_, value) = added.last().expect("the signature");
        assert!(value.contains("Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/"));
        value.rsplit('=').next().expect("the signature").to_owned()
    }

    /// The four examples of "Authenticating Requests: Using the Authorization Header".
    #[test]
    fn the_published_examples_are_met() {
        assert_eq!(
            signature("GET", "/test.txt", "", &[("range", "bytes=0-9")]),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
        let put = [
            ("date", "Fri, 24 May 2013 00:00:00 GMT"),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ];
        assert_eq!(
            signature("PUT", "/test%24file.text", "", &put),
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
        );
        assert_eq!(
            signature("GET", "/", "lifecycle=", &[]),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
        );
        assert_eq!(
            signature("GET", "/", &query(&[("prefix", "J"), ("max-keys", "2")]), &[]),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        );
    }

    /// A store sees other blanks than were sent, as whoever is in between may join them.
    #[test]
    fn blanks_within_a_value_are_signed_as_one() {
        let of = |value: &str| signature("GET", "/", "", &[("x-amz-meta-a", value)]);
        assert_eq!(of(" a  b "), of("a b"));
        assert_eq!(of("a \u{a0}\u{3000}b"), of("a b"));
        assert_ne!(of("a b"), of("ab"));
    }

    #[test]
    fn a_token_is_signed_and_no_secret_is_said() {
        let token = Some(Secret::new(b"lent".to_vec()));
        let credentials = Credentials { session_token: token, ..example() };
        let request = Signed {
            method: "GET",
            host: "h",
            path: "/",
            query: "",
            headers: &[],
            content_hash: EMPTY,
        };
        let now = Timestamp::new(0, 0);
        let added = sign(&request, &credentials, "r", now).expect("signed");
        let text = format!("{added:?}");
        assert!(text.contains("x-amz-content-sha256;x-amz-date;x-amz-security-token"), "{text}");
        assert!(!text.contains("EXAMPLEKEY"), "{text}");
        assert!(!format!("{credentials:?}").contains("EXAMPLEKEY"));
    }

    #[test]
    fn bytes_are_written_as_the_standards_say() {
        assert_eq!(sha256_hex(b""), EMPTY);
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(encoded("a/b c~+\u{e9}", "/"), "a/b%20c~%2B%C3%A9");
        assert_eq!(encoded("a/b", ""), "a%2Fb");
    }
}
