//! Records of a PAX header: what does not fit into the 512 bytes that every tar header has.

use crate::base::metadata::Xattr;
use crate::base::time::Timestamp;
use crate::engine::export::acl;

/// Records in the order they were added.
#[derive(Debug, Default)]
pub(super) struct Pax(Vec<u8>);

impl Pax {
    /// Adds a record: its own length, a space, keyword, `=`, value and a new line.
    pub(super) fn add(&mut self, keyword: &[u8], value: &[u8]) {
        let rest = keyword.len() + value.len() + 3;
        let digits = |number: usize| number.to_string().len();
        // The length counts its own digits, of which it may take one more.
        let length = rest + digits(rest + digits(rest));
        self.0.extend_from_slice(length.to_string().as_bytes());
        self.0.push(b' ');
        self.0.extend_from_slice(keyword);
        self.0.push(b'=');
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }

    /// Adds a record whose value is a number.
    pub(super) fn add_number(&mut self, keyword: &str, value: u64) {
        self.add(keyword.as_bytes(), value.to_string().as_bytes());
    }

    /// Adds a time: seconds since 1970, with a fraction.
    pub(super) fn add_time(&mut self, keyword: &str, time: Timestamp) {
        self.add(keyword.as_bytes(), decimal(time).as_bytes());
    }

    /// Adds extended attributes, ACLs as the text that GNU tar and others read.
    pub(super) fn add_xattrs(&mut self, xattrs: &[Xattr]) {
        for xattr in xattrs {
            let acl = match xattr.name.as_slice() {
                b"system.posix_acl_access" => Some("SCHILY.acl.access"),
                b"system.posix_acl_default" => Some("SCHILY.acl.default"),
                _ => None,
            };
            match acl.and_then(|keyword| Some((keyword, acl::to_text(&xattr.value)?))) {
                Some((keyword, text)) => self.add(keyword.as_bytes(), &text),
                None => {
                    let keyword = [b"SCHILY.xattr.", escaped(&xattr.name).as_slice()].concat();
                    self.add(&keyword, &xattr.value);
                }
            }
        }
    }

    /// Returns the bytes of all records; none when there are none.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A keyword ends at the first `=`; GNU tar writes one in a name as `%3D`, and `%` as `%25`.
fn escaped(name: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(name.len());
    for &byte in name {
        match byte {
            b'=' => escaped.extend_from_slice(b"%3D"),
            b'%' => escaped.extend_from_slice(b"%25"),
            _ => escaped.push(byte),
        }
    }
    escaped
}

/// `1.5`, and `-0.5` for half a second before 1970.
fn decimal(time: Timestamp) -> String {
    let nanos = i128::from(time.seconds()) * 1_000_000_000 + i128::from(time.nanos());
    let (whole, fraction) =
        (nanos.unsigned_abs() / 1_000_000_000, nanos.unsigned_abs() % 1_000_000_000);
    let sign = if nanos < 0 { "-" } else { "" };
    if fraction == 0 {
        return format!("{sign}{whole}");
    }
    let digits = format!("{fraction:09}");
    format!("{sign}{whole}.{}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_itself() {
        for length in 0..1100 {
            let mut pax = Pax::default();
            pax.add(b"path", &vec![b'x'; length]);
            let text = String::from_utf8(pax.bytes().to_vec()).expect("text");
            let (said, _) = text.split_once(' ').expect("a space");
            assert_eq!(said.parse(), Ok(text.len()), "{length}");
        }
    }

    #[test]
    fn times_are_decimal_numbers() {
        for (seconds, nanos, text) in [
            (0, 0, "0"),
            (-1, 500_000_000, "-0.5"),
            (-2, 250_000_000, "-1.75"),
            (-2_000_000_000, 1, "-1999999999.999999999"),
            (-5, 0, "-5"),
            (1_700_000_000, 120_000_000, "1700000000.12"),
        ] {
            assert_eq!(decimal(Timestamp::new(seconds, nanos)), text);
        }
    }

    #[test]
    fn attributes_are_named_as_gnu_tar_does() {
        let mut pax = Pax::default();
        let xattr = |name: &[u8], value: &[u8]| Xattr { name: name.into(), value: value.into() };
        pax.add_xattrs(&[
            xattr(b"user.a=b%c", b"x"),
            xattr(b"system.posix_acl_access", &[2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255]),
            xattr(b"system.posix_acl_default", b"?"),
        ]);
        let expected = "33 SCHILY.xattr.user.a%3Db%25c=x\n\
            33 SCHILY.acl.access=user::rw-\n\n\
            41 SCHILY.xattr.system.posix_acl_default=?\n";
        let text = String::from_utf8_lossy(pax.bytes()).into_owned();
        let without_lengths = |text: &str| {
            let lines =
                text.lines().map(|line| line.trim_start_matches(|c: char| c.is_ascii_digit()));
            lines.collect::<Vec<_>>().join("\n")
        };
        assert_eq!(without_lengths(&text), without_lengths(expected));
    }
}
