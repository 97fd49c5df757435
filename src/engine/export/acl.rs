//! Access control lists as text: the system keeps them as bytes, and archives as
//! `user::rwx`, `user:1234:r--` and so on, a line each.

/// The version of the bytes (Linux, `posix_acl_xattr.h`).
const VERSION: u32 = 2;

/// Returns the text of a list, with numbers for users and groups; None when the bytes are none.
pub(super) fn to_text(bytes: &[u8]) -> Option<Vec<u8>> {
    let (version, entries) = bytes.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != VERSION || entries.len() % 8 != 0 {
        return None;
    }
    let mut text = String::new();
    for entry in entries.chunks_exact(8) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let permissions = u16::from_le_bytes([entry[2], entry[3]]);
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let who = match tag {
            1 => "user:".to_owned(),
            2 => format!("user:{id}"),
            4 => "group:".to_owned(),
            8 => format!("group:{id}"),
            16 => "mask:".to_owned(),
            32 => "other:".to_owned(),
            _ => return None,
        };
        if permissions > 7 {
            return None;
        }
        let letter = |bit: u16, letter: char| if permissions & bit == 0 { '-' } else { letter };
        text.push_str(&who);
        text.push(':');
        text.extend([letter(4, 'r'), letter(2, 'w'), letter(1, 'x'), '\n']);
    }
    Some(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_as_getfacl_shows_it() {
        let mut bytes = 2_u32.to_le_bytes().to_vec();
        let entries: [(u16, u16, u32); 6] = [
            (1, 7, u32::MAX),
            (2, 4, 1234),
            (4, 5, u32::MAX),
            (8, 0, 99),
            (16, 5, u32::MAX),
            (32, 4, u32::MAX),
        ];
        for (tag, permissions, id) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(permissions.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        let text = "user::rwx\nuser:1234:r--\ngroup::r-x\ngroup:99:---\nmask::r-x\nother::r--\n";
        assert_eq!(to_text(&bytes).expect("a list"), text.as_bytes());
        for bad in [&bytes[1..], &bytes[..11], b"", &[3, 0, 0, 0]] {
            assert_eq!(to_text(bad), None);
        }
        bytes[4] = 3;
        assert_eq!(to_text(&bytes), None);
    }
}
