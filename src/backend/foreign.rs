//! Names in a folder where a repository is about to be made: what may stand there.
//!
//! A repository takes its folder for itself: it removes what lies in `tmp` for a day, and a file
//! `reserve` on a full disk. So nobody's files may be there when it is made. What a creation that
//! died has left may, and so may what systems put everywhere without being asked.

/// What systems put into the top folder of a disk, or of a share.
const OF_SYSTEMS: [&[u8]; 6] = [
    b"lost+found",
    b"System Volume Information",
    b"$RECYCLE.BIN",
    b"@eaDir",
    b"#recycle",
    b"desktop.ini",
];
/// Hex digits of a random name, of a file in `tmp` or of a password slot.
const RANDOM_LENGTH: usize = 32;

/// Says whether a name is one that systems give to what is theirs. Hidden files are no data that
/// somebody keeps in the folder that he names.
pub(super) fn is_of_a_system(name: &[u8]) -> bool {
    name.starts_with(b".") || OF_SYSTEMS.contains(&name)
}

/// Says whether a name is a random one of this program.
pub(super) fn is_random(name: &[u8]) -> bool {
    name.len() == RANDOM_LENGTH && name.iter().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_people_are_nobody_elses() {
        for name in ["a", "mine", "id_rsa", "lost", "DESKTOP", "0123456789abcdef", "tmp", "keys"] {
            assert!(!is_of_a_system(name.as_bytes()) && !is_random(name.as_bytes()), "{name}");
        }
        assert!(is_random(b"00112233445566778899aabbccddeeff"));
        assert!(!is_random(b"00112233445566778899aabbccddeefg"));
        assert!(is_of_a_system(b"lost+found") && is_of_a_system(b".Trash-1000"));
    }
}
