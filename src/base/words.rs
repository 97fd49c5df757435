//! Numbers in sentences.

/// Says how many there are of something: `1 block`, `7 blocks`.
///
/// ```
/// use icecore::base::words::counted;
/// assert_eq!(counted(1, "blob is", "blobs are"), "1 blob is");
/// assert_eq!(counted(0, "blob is", "blobs are"), "0 blobs are");
/// ```
pub fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
