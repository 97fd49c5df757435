//! Names in a folder where a repository is about to be made: what may stand there.
//!
//! A repository takes its folder for itself: it removes what lies in `tmp` for a day, and a file
//! `reserve` on a full disk. So nobody's files may be there when it is made. What a creation that
//! died has left may, and so may what systems put everywhere without being asked.

/// What systems put into the top folder of a disk, or of a share; they vary in case.
const OF_SYSTEMS: [&str; 10] = [
    "lost+found",
    "System Volume Information",
    "$RECYCLE.BIN",
    "@eaDir",
    "@Recycle",
    "@Recently-Snapshot",
    "#recycle",
    "#snapshot",
    "desktop.ini",
    "Thumbs.db",
];
/// Before three digits, where the repair of a Windows disk puts what it found.
const FOUND: &str = "FOUND.";
/// Hex digits of a random name, of a file in `tmp` or of a password slot.
const RANDOM_LENGTH: usize = 32;

/// Says whether a name is one that systems give to what is theirs. Hidden files are no data that
/// somebody keeps in the folder that he names.
pub(super) fn is_of_a_system(name: &[u8]) -> bool {
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    name.starts_with(b".") || OF_SYSTEMS.into_iter().any(is) || is_of_a_repair(name)
}

fn is_of_a_repair(name: &[u8]) -> bool {
    let Some((start, digits)) = name.split_at_checked(FOUND.len()) else { return false };
    let is_number = digits.len() == 3 && digits.iter().all(u8::is_ascii_digit);
    is_number && start.eq_ignore_ascii_case(FOUND.as_bytes())
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
        for name in [
            "a",
            "mine",
            "id_rsa",
            "lost",
            "DESKTOP",
            "found.it",
            "FOUND.0000",
            "0123456789abcdef",
            "tmp",
            "keys",
        ] {
            assert!(!is_of_a_system(name.as_bytes()) && !is_random(name.as_bytes()), "{name}");
        }
        assert!(is_random(b"00112233445566778899aabbccddeeff"));
        assert!(!is_random(b"00112233445566778899aabbccddeefg"));
        for name in ["lost+found", ".Trash-1000", "$Recycle.Bin", "FOUND.000", "found.123"] {
            assert!(is_of_a_system(name.as_bytes()), "{name}");
        }
    }
}
