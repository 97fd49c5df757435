//! Fields that several JSON documents share: paths, failures, errors.
//!
//! A path is a string; one that is not UTF-8 is shown with `\xNN` there, and stands exactly in
//! `path_base64` beside.

use crate::base::error::Error;
use crate::base::path::EntryPath;
use crate::base::path::display;
use crate::cli::exit;
use crate::config::connect::without_passwords;
use crate::engine::Failure;
use crate::format::entry::Entry;
use crate::format::entry::EntryNode;
use serde::Serialize;

/// A path, to be flattened into what it is the path of.
#[derive(Debug, Serialize)]
pub(crate) struct PathField {
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
}

impl PathField {
    /// Makes the fields of a path.
    pub(crate) fn new(path: &EntryPath) -> Self {
        match std::str::from_utf8(path.as_bytes()) {
            Ok(text) => PathField { path: Some(text.to_owned()), path_base64: None },
            Err(_) => PathField {
                path: Some(path.to_string()),
                path_base64: Some(base64(path.as_bytes())),
            },
        }
    }

    /// Makes the fields of a path, or of none.
    pub(crate) fn maybe(path: Option<&EntryPath>) -> Self {
        path.map_or(PathField { path: None, path_base64: None }, PathField::new)
    }
}

/// Where a symlink points, to be flattened into what it is the target of.
#[derive(Debug, Serialize)]
pub(crate) struct TargetField {
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_base64: Option<String>,
}

impl TargetField {
    /// Makes the fields of an entry; none of what is no symlink.
    pub(crate) fn of(entry: &Entry) -> Self {
        let EntryNode::Symlink(target) = &entry.node else {
            return TargetField { target: None, target_base64: None };
        };
        match std::str::from_utf8(target) {
            Ok(text) => TargetField { target: Some(text.to_owned()), target_base64: None },
            Err(_) => {
                TargetField { target: Some(display(target)), target_base64: Some(base64(target)) }
            }
        }
    }
}

/// An entry that could not be handled.
#[derive(Debug, Serialize)]
pub(crate) struct FailureFields {
    #[serde(flatten)]
    path: PathField,
    message: String,
}

/// Makes the list of `errors` of a report.
pub(crate) fn failures(failures: &[Failure]) -> Vec<FailureFields> {
    let fields = |failure: &Failure| FailureFields {
        path: PathField::maybe(failure.path.as_ref()),
        message: failure.message.clone(),
    };
    failures.iter().map(fields).collect()
}

/// What is in `error`.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorFields {
    pub(crate) kind: &'static str,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl ErrorFields {
    /// Makes the fields of an error.
    pub(crate) fn new(error: &Error) -> Self {
        ErrorFields {
            kind: exit::word(error.kind()),
            message: without_passwords(&error.full_message()).into_owned(),
            hint: error.hint_text().map(|hint| without_passwords(hint).into_owned()),
        }
    }
}

/// Encodes bytes as base64 with padding (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let is_padding = digit > group.len();
            let index = (bits >> (18 - 6 * digit) & 63) as usize;
            text.push(if is_padding { '=' } else { char::from(DIGITS[index]) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
            (b"\xff\xfe\xfd", "//79"),
        ] {
            assert_eq!(base64(bytes), text);
        }
    }

    #[test]
    fn a_name_that_is_not_utf8_stands_beside() {
        let json = |bytes: &[u8]| {
            let path = EntryPath::new(bytes).expect("a path");
            serde_json::to_string(&PathField::new(&path)).expect("encodes")
        };
        assert_eq!(json(b"a/b"), r#"{"path":"a/b"}"#);
        assert_eq!(json(b"a\xff"), r#"{"path":"a\\xff","path_base64":"Yf8="}"#);
    }
}
