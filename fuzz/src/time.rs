//! Times: those that a person types, and every one that a stored object may hold.

use icecore::base::error::ErrorKind;
use icecore::base::time::Timestamp;
use icecore::base::time::parse_until;

use super::places::reach;

/// What the seeds come to.
pub const PLACES: &[&str] = &["refused", "typed", "written", "beyond what can be written"];
const NOW: Timestamp = Timestamp::new(1_800_000_000, 5);
/// The first second of the year 0 and the end of the year 9999: what RFC 3339 can write.
const WRITABLE: std::ops::Range<i64> = -62_167_219_200..253_402_300_800;

fn is_shown(time: Timestamp) {
    let text = time.to_rfc3339();
    assert!(!time.to_local_text().is_empty());
    assert!(time.seconds_since(NOW).is_finite());
    if WRITABLE.contains(&time.seconds()) {
        let again = parse_until(&text, NOW).expect("what is written is read");
        assert_eq!(again.seconds(), time.seconds(), "{text}");
        // Whole seconds are written without a fraction, and cover all of the second.
        reach("written");
        assert_eq!(again.nanos(), if time.nanos() == 0 { 999_999_999 } else { time.nanos() });
    } else {
        reach("beyond what can be written");
    }
}

/// One execution.
pub fn run(data: &[u8]) {
    match std::str::from_utf8(data).map(|text| parse_until(text, NOW)) {
        Ok(Ok(time)) => {
            reach("typed");
            is_shown(time);
        }
        Ok(Err(e)) => {
            assert_eq!(e.kind(), ErrorKind::InvalidInput, "{}", e.full_message());
            reach("refused");
        }
        Err(_) => {}
    }
    if let Some((seconds, rest)) = data.split_first_chunk::<8>()
        && let Some((nanos, _)) = rest.split_first_chunk::<4>()
    {
        let time = Timestamp::new(i64::from_le_bytes(*seconds), u32::from_le_bytes(*nanos));
        is_shown(time);
        is_shown(NOW.plus_seconds(time.seconds()));
    }
}
