//! What a store that refuses means: its word and its number, as an error with a hint.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::path::display;
use crate::net::s3::xml;
use crate::net::s3::xml::Refusal;

/// Most bytes of what a store says that are shown.
const SHOWN_BYTES_MAX: usize = 200;

/// An answer that is no success.
#[derive(Clone, Copy, Debug)]
pub struct Refused<'a> {
    /// Its number.
    pub status: u16,
    /// The region that the bucket is in, where the store says so beside the answer.
    pub region: Option<&'a str>,
    /// What came with it; None of a look at a head, which has nothing.
    pub body: Option<&'a [u8]>,
}

/// Returns the beginning of what a store says, safe to show.
fn shown(text: &str) -> String {
    display(&text.as_bytes()[..text.len().min(SHOWN_BYTES_MAX)])
}

impl Refused<'_> {
    /// Returns the error; `doing` is what could not be done, as `read s3://bucket/key`.
    pub fn error(&self, doing: &str) -> Error {
        let said = self.body.and_then(xml::refusal).unwrap_or_default();
        let kind = match (self.status, self.body) {
            // A look at a head has no words.
            (404, None) => ErrorKind::NotFound,
            _ => kind(self.status, &said),
        };
        // A proxy speaks where the store is away.
        let is_foreign = self.status == 404 && kind == ErrorKind::Unreachable;
        let who = if is_foreign { "what is not the store" } else { "the store" };
        let mut message = format!("cannot {doing}: {who} answers {}", self.status);
        for part in [&said.code, &said.message] {
            let part = part.trim().trim_end_matches('.');
            if !part.is_empty() {
                message.push_str(&format!(", {}", shown(part)));
            }
        }
        let error = Error::new(kind, message);
        match self.hint(kind, &said) {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    fn hint(&self, kind: ErrorKind, said: &Refusal) -> Option<String> {
        let is_elsewhere = is_elsewhere(self.status, &said.code);
        if is_elsewhere && let Some(region) = said.region.as_deref().or(self.region) {
            return Some(format!("the bucket is in the region {}", shown(region)));
        }
        let hint = match said.code.as_str() {
            _ if is_elsewhere => "another region, or another endpoint, has this bucket",
            "NoSuchBucket" => "is its name right, and the endpoint? `icecore init` makes a bucket",
            "AccessDenied" => {
                "the key is known and lacks a permission: reading, writing, listing \
                               and deleting are needed"
            }
            "SignatureDoesNotMatch" => "the secret does not fit the access key",
            "InvalidAccessKeyId" => "the store does not know the access key",
            "InvalidToken" | "ExpiredToken" | "TokenRefreshRequired" => {
                "the session token is over: get another"
            }
            "RequestTimeTooSkewed" => "the clock of this machine is wrong",
            _ if kind == ErrorKind::Denied => {
                "are access key and secret right, and is the key \
                                               allowed to do this?"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

fn is_elsewhere(status: u16, code: &str) -> bool {
    let codes = [
        "PermanentRedirect",
        "TemporaryRedirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
    ];
    matches!(status, 301 | 302 | 307 | 308) || codes.contains(&code)
}

/// Words come before numbers, as stores choose numbers freely.
fn kind(status: u16, said: &Refusal) -> ErrorKind {
    if is_elsewhere(status, &said.code) {
        return ErrorKind::InvalidInput;
    }
    match said.code.as_str() {
        "NoSuchBucket" => ErrorKind::NoRepository,
        "NoSuchKey" | "NoSuchUpload" | "NoSuchVersion" => ErrorKind::NotFound,
        // The object is there.
        "NoSuchTagSet" => ErrorKind::Unsupported,
        "AccessDenied"
        | "AllAccessDisabled"
        | "AccountProblem"
        | "SignatureDoesNotMatch"
        | "InvalidAccessKeyId"
        | "InvalidToken"
        | "ExpiredToken"
        | "TokenRefreshRequired"
        | "RequestTimeTooSkewed" => ErrorKind::Denied,
        // One store's words for an object under a lock.
        "InvalidRequest" if said.message.contains("WORM protected") => ErrorKind::Denied,
        // A store without space says so in the sentence at first, and by a word of its own later.
        _ if said.message.contains("no space left on device") => ErrorKind::Full,
        "QuotaExceeded"
        | "EntityTooLarge"
        | "InsufficientStorage"
        | "XMinioStorageFull"
        | "XMinioAdminBucketQuotaExceeded" => ErrorKind::Full,
        "SlowDown"
        | "SlowDownRead"
        | "SlowDownWrite"
        | "ServiceUnavailable"
        | "Throttling"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "TooManyRequests" => ErrorKind::RateLimited,
        // What arrived was cut or changed on the way.
        "RequestTimeout"
        | "IncompleteBody"
        | "BadDigest"
        | "XAmzContentSHA256Mismatch"
        | "XAmzContentChecksumMismatch"
        | "InternalError" => ErrorKind::Unreachable,
        "PreconditionFailed" | "BucketAlreadyExists" | "BucketAlreadyOwnedByYou" => {
            ErrorKind::AlreadyExists
        }
        "ConditionalRequestConflict" | "OperationAborted" => ErrorKind::Busy,
        "InvalidRange" => ErrorKind::Corrupt,
        "NotImplemented" | "MethodNotAllowed" => ErrorKind::Unsupported,
        "KeyTooLongError"
        | "InvalidBucketName"
        | "InvalidObjectName"
        | "XMinioInvalidObjectName" => ErrorKind::InvalidInput,
        _ => kind_of_number(status),
    }
}

fn kind_of_number(status: u16) -> ErrorKind {
    match status {
        401 | 403 => ErrorKind::Denied,
        // That something is not there a store says with a word of its own.
        404 => ErrorKind::Unreachable,
        405 | 501 => ErrorKind::Unsupported,
        408 | 500 | 502 | 504 => ErrorKind::Unreachable,
        409 => ErrorKind::Busy,
        412 => ErrorKind::AlreadyExists,
        413 | 507 => ErrorKind::Full,
        416 => ErrorKind::Corrupt,
        429 | 503 => ErrorKind::RateLimited,
        _ => ErrorKind::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, code: &str, more: &str) -> Error {
        let body = format!("<Error><Code>{code}</Code><Message>No.</Message>{more}</Error>");
        Refused { status, region: None, body: Some(body.as_bytes()) }.error("read s3://b/k")
    }

    #[test]
    fn words_and_numbers_are_kinds() {
        for (status, code, kind) in [
            (404, "NoSuchKey", ErrorKind::NotFound),
            (404, "NoSuchBucket", ErrorKind::NoRepository),
            (403, "AccessDenied", ErrorKind::Denied),
            (403, "SignatureDoesNotMatch", ErrorKind::Denied),
            (403, "InvalidAccessKeyId", ErrorKind::Denied),
            (403, "RequestTimeTooSkewed", ErrorKind::Denied),
            (503, "SlowDown", ErrorKind::RateLimited),
            (429, "", ErrorKind::RateLimited),
            (503, "", ErrorKind::RateLimited),
            (500, "InternalError", ErrorKind::Unreachable),
            (412, "PreconditionFailed", ErrorKind::AlreadyExists),
            (409, "ConditionalRequestConflict", ErrorKind::Busy),
            (507, "XMinioStorageFull", ErrorKind::Full),
            (400, "EntityTooLarge", ErrorKind::Full),
            (403, "QuotaExceeded", ErrorKind::Full),
            (400, "AuthorizationHeaderMalformed", ErrorKind::InvalidInput),
            (301, "PermanentRedirect", ErrorKind::InvalidInput),
            (416, "InvalidRange", ErrorKind::Corrupt),
            (400, "Unheard", ErrorKind::Io),
            (404, "NoSuchTagSet", ErrorKind::Unsupported),
            (404, "NoSuchUpload", ErrorKind::NotFound),
            (404, "NoSuchVersion", ErrorKind::NotFound),
            (404, "", ErrorKind::Unreachable),
        ] {
            assert_eq!(refused(status, code, "").kind(), kind, "{status} {code}");
        }
        let head = |status| Refused { status, region: None, body: None }.error("look at s3://b/k");
        assert_eq!(head(404).kind(), ErrorKind::NotFound);
        let head = head(403);
        assert_eq!(head.kind(), ErrorKind::Denied);
        assert_eq!(head.to_string(), "cannot look at s3://b/k: the store answers 403");
    }

    #[test]
    fn a_wrong_region_names_the_right_one() {
        let error = refused(400, "AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>");
        assert_eq!(error.hint_text(), Some("the bucket is in the region eu-west-1"));
        let moved = Refused { status: 301, region: Some("eu-west-2"), body: None };
        let hint = moved.error("list s3://b");
        assert_eq!(hint.hint_text(), Some("the bucket is in the region eu-west-2"));
    }

    #[test]
    fn what_a_store_says_is_shown_short_and_plain() {
        let long = format!("\u{1b}[31m{}", "x".repeat(5000));
        let body = format!("<Error><Code>Odd</Code><Message>{long}</Message></Error>");
        let body = Some(body.as_bytes());
        let error = Refused { status: 400, region: None, body }.error("put k");
        assert!(error.to_string().len() < 300, "{error}");
        assert!(!error.to_string().contains('\u{1b}'), "{error}");
        let region = format!("<Region>{}</Region>", "r".repeat(5000));
        let elsewhere = refused(301, "PermanentRedirect", &region);
        assert!(elsewhere.hint_text().is_some_and(|hint| hint.len() < 300), "{elsewhere:?}");
        let body = Some(&b"<html>"[..]);
        let garbage = Refused { status: 500, region: None, body }.error("put k");
        assert_eq!(garbage.to_string(), "cannot put k: the store answers 500");
    }

    /// A proxy says so while the store starts, and a backup took all its objects for gone.
    #[test]
    fn that_something_is_not_there_the_store_says_itself() {
        for body in ["", "404 page not found\n", "<html/>", "<Error></Error>"] {
            let body = Some(body.as_bytes());
            let error = Refused { status: 404, region: None, body }.error("read k");
            assert_eq!(error.kind(), ErrorKind::Unreachable);
            assert_eq!(error.to_string(), "cannot read k: what is not the store answers 404");
        }
    }
}
