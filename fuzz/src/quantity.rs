//! Sizes, rates, time limits, amounts and durations as a person types them.

use icecore::base::size::parse_bytes;
use icecore::base::size::parse_rate;
use icecore::config::values::parse_seconds;
use icecore::engine::retention::Amount;
use icecore::engine::retention::Span;

use super::places::reach;

/// What the seeds come to.
pub const PLACES: &[&str] =
    &["no text", "size", "rate", "seconds", "a number", "all", "no amount", "span"];

/// One execution.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return reach("no text") };
    let size = parse_bytes(text).ok();
    if let Some(size) = size {
        reach("size");
        assert_eq!(parse_bytes(&size.to_string()).expect("a plain number"), size, "{text:?}");
        assert_eq!(parse_bytes(&text.to_uppercase()).expect("in any case"), size);
    }
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    if let (true, Ok(number)) = (plain, text.parse::<u64>()) {
        assert_eq!(size, Some(number), "{text:?}");
    }
    let rate = parse_rate(text).ok();
    assert_ne!(rate, Some(0));
    if let Some(size) = size.filter(|size| *size > 0) {
        assert_eq!(rate, Some(size), "{text:?}");
        reach("rate");
        let each_second = format!("{}/s", text.trim());
        assert_eq!(parse_rate(&each_second).expect("said in full"), size);
    }
    if let Ok(seconds) = parse_seconds(text) {
        assert!((1..=86_400).contains(&seconds));
        reach("seconds");
        assert_eq!(parse_seconds(&seconds.to_string()), Ok(seconds));
    }
    match text.parse::<Amount>() {
        Ok(Amount::Most(most)) => {
            assert_eq!(text.parse(), Ok::<u64, _>(most.get()));
            reach("a number");
        }
        Ok(Amount::All) => {
            assert_eq!(text, "all");
            reach("all");
        }
        Err(_) => {
            assert!(!plain || text.parse::<u64>().map_or(true, |number| number == 0));
            reach("no amount");
        }
    }
    if let Ok(span) = text.parse::<Span>() {
        reach("span");
        let shown = span.to_string();
        assert_eq!(shown.parse::<Span>().expect("what is shown is read"), span, "{shown}");
    }
}
