//! `~/.aws/credentials` and `~/.aws/config`: sections of `key = value`, as the usual programs
//! have them.
//!
//! What is nested below a key (indented lines) says nothing of interest here and is passed over.
//! No value of the files is repeated in an error.

use crate::base::error::Error;
use crate::base::error::Result;
use std::collections::BTreeMap;

/// One of the files.
#[derive(Clone, Default)]
pub struct AwsFile {
    sections: BTreeMap<String, BTreeMap<String, String>>,
}

impl AwsFile {
    /// Reads the text of a file. A section or key that comes twice counts as said last.
    ///
    /// # Errors
    /// `InvalidInput` that names the line.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let mut file = AwsFile::default();
        let mut section: Option<String> = None;
        for (number, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let refuse = |why: &str| Error::invalid(format!("line {}: {why}", number + 1));
            let line = std::str::from_utf8(line).map_err(|_| refuse("it is not UTF-8"))?;
            let trimmed = line.trim();
            if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
                continue;
            }
            if let Some(rest) = trimmed.strip_prefix('[') {
                let (name, _) = rest.split_once(']').ok_or_else(|| refuse("a ] is missing"))?;
                let words: Vec<&str> = name.split_whitespace().collect();
                let name = words.join(" ").replace(['"', '\''], "");
                file.sections.entry(name.clone()).or_default();
                section = Some(name);
                continue;
            }
            if line.starts_with([' ', '\t']) {
                continue;
            }
            let Some((key, value)) = trimmed.split_once('=') else {
                return Err(refuse("it is no `key = value`"));
            };
            let Some(section) = &section else {
                return Err(refuse("there is no [section] before this"));
            };
            let values = file.sections.entry(section.clone()).or_default();
            values.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
        Ok(file)
    }

    /// Says whether a profile is there, in either spelling.
    pub fn has(&self, profile: &str) -> bool {
        self.spellings(profile).iter().any(|name| self.sections.contains_key(name))
    }

    /// Returns what a profile says of a key. An empty value says nothing.
    pub fn get(&self, profile: &str, key: &str) -> Option<&str> {
        let spellings = self.spellings(profile);
        let mut values = spellings.iter().filter_map(|name| self.sections.get(name)?.get(key));
        values.next().map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The one file has `[name]`, the other `[profile name]`.
    fn spellings(&self, profile: &str) -> [String; 2] {
        [profile.to_owned(), format!("profile {profile}")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::any;
    use proptest::prelude::prop;
    use proptest::proptest;

    #[test]
    fn profiles_are_found_in_both_spellings() {
        let text = b"# comment\n[default]\nregion = eu-1\naws_access_key_id=AK=\n\
            s3 =\n  addressing_style = path\n; more\n[profile  work]\r\nregion =\r\n\
            endpoint_url = http://h:1\r\n[other]\nRegion = x\n[default]\nregion = eu-2\n";
        let file = AwsFile::parse(text).expect("good");
        assert_eq!(file.get("default", "region"), Some("eu-2"));
        assert_eq!(file.get("default", "aws_access_key_id"), Some("AK="));
        assert_eq!(file.get("default", "addressing_style"), None);
        assert_eq!(file.get("work", "region"), None);
        assert_eq!(file.get("work", "endpoint_url"), Some("http://h:1"));
        assert_eq!(file.get("other", "region"), Some("x"));
        assert!(file.has("work") && !file.has("none"));
    }

    #[test]
    fn what_is_not_understood_is_an_error_with_its_line_and_no_secret() {
        for (text, line) in [
            ("[default]\nhunter2", 2),
            ("hunter2 = hunter2", 1),
            ("\n[default\nx = hunter2", 2),
            ("[a]\n\nx=\u{1}\nhunter2", 4),
        ] {
            let error = AwsFile::parse(text.as_bytes()).err().expect(text);
            let message = error.full_message();
            assert!(message.starts_with(&format!("line {line}:")), "{text}: {message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
        assert!(AwsFile::parse(b"[a]\nx=\xff").is_err());
    }

    proptest! {
        #[test]
        fn no_text_is_a_reason_to_panic(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = AwsFile::parse(&text);
        }

        #[test]
        fn lines_in_any_order_are_no_reason_to_panic(
            lines in prop::collection::vec("[\\[\\]a-z=# ;\t\"']{0,12}", 0..12),
        ) {
            let _ = AwsFile::parse(lines.join("\n").as_bytes());
        }
    }
}
