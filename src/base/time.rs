//! Timestamps, and the only place that asks what time it is.

use crate::base::error::Error;
use crate::base::error::Result;
use chrono::DateTime;
use chrono::Datelike;
use chrono::Duration;
use chrono::Local;
use chrono::NaiveDate;
use chrono::NaiveDateTime;
use chrono::Offset;
use chrono::SecondsFormat;
use chrono::TimeZone;
use chrono::Timelike;
use chrono::Utc;
use serde::Deserialize;
use serde::Serialize;
use std::fmt;
use std::sync::Mutex;

const NANOS_PER_SECOND: u32 = 1_000_000_000;

/// A point in time with nanoseconds: seconds since 1970 (negative before), and nanoseconds
/// counted forward from there.
///
/// ```
/// use icecore::base::time::Timestamp;
/// let before_1970 = Timestamp::new(-1, 500_000_000);
/// assert_eq!(before_1970.to_rfc3339(), "1969-12-31T23:59:59.500Z");
/// ```
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Timestamp {
    seconds: i64,
    nanos: u32,
}

impl Timestamp {
    /// Makes a timestamp; nanoseconds from one second up are taken as the last of the second,
    /// so that no outside value can make an invalid one.
    pub const fn new(seconds: i64, nanos: u32) -> Self {
        let nanos = if nanos < NANOS_PER_SECOND { nanos } else { NANOS_PER_SECOND - 1 };
        Timestamp { seconds, nanos }
    }

    /// Returns whole seconds since 1970, rounded down.
    pub const fn seconds(self) -> i64 {
        self.seconds
    }

    /// Returns nanoseconds within the second.
    pub const fn nanos(self) -> u32 {
        if self.nanos < NANOS_PER_SECOND { self.nanos } else { NANOS_PER_SECOND - 1 }
    }

    /// Returns this time moved by whole seconds, stopping at the ends of the range.
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        Timestamp { seconds: self.seconds.saturating_add(seconds), nanos: self.nanos }
    }

    /// Returns year, month, day, hour, minute and second in UTC; None where no calendar reaches.
    pub fn to_calendar(self) -> Option<[i32; 6]> {
        let time = DateTime::from_timestamp(self.seconds, 0)?.naive_utc();
        let (date, clock) = (time.date(), time.time());
        let day = [date.month(), date.day(), clock.hour(), clock.minute(), clock.second()];
        let [month, day, hour, minute, second] = day.map(|number| number as i32);
        Some([date.year(), month, day, hour, minute, second])
    }

    /// Makes a timestamp of year, month, day, hour, minute and second in UTC; None for what no
    /// calendar shows.
    ///
    /// ```
    /// use icecore::base::time::Timestamp;
    /// let time = Timestamp::from_calendar([2023, 11, 14, 22, 13, 57]).unwrap();
    /// assert_eq!(time.to_rfc3339(), "2023-11-14T22:13:57Z");
    /// assert_eq!(Timestamp::from_calendar([2023, 2, 29, 0, 0, 0]), None);
    /// ```
    pub fn from_calendar(parts: [i32; 6]) -> Option<Self> {
        let [year, rest @ ..] = parts;
        let [month, day, hour, minute, second] = rest.map(|part| u32::try_from(part).ok());
        let date = NaiveDate::from_ymd_opt(year, month?, day?)?;
        let time = date.and_hms_opt(hour?, minute?, second?)?;
        Some(Timestamp::new(time.and_utc().timestamp(), 0))
    }

    /// Returns seconds from `earlier` to this, with fractions; negative when it is later.
    pub fn seconds_since(self, earlier: Timestamp) -> f64 {
        let whole = self.seconds.saturating_sub(earlier.seconds) as f64;
        whole + (f64::from(self.nanos) - f64::from(earlier.nanos)) / f64::from(NANOS_PER_SECOND)
    }

    fn to_utc(self) -> Option<DateTime<Utc>> {
        Utc.timestamp_opt(self.seconds, self.nanos()).single()
    }

    /// Returns RFC 3339 in UTC. A time beyond the calendar prints as `@seconds.nanos`.
    pub fn to_rfc3339(self) -> String {
        match self.to_utc() {
            Some(time) => time.to_rfc3339_opts(SecondsFormat::AutoSi, true),
            None => format!("@{}.{:09}", self.seconds, self.nanos),
        }
    }

    /// Returns `2026-11-20 14:00:05` in the local time zone, for people.
    pub fn to_local_text(self) -> String {
        match self.to_utc() {
            Some(time) => time.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string(),
            None => self.to_rfc3339(),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

/// Reads a time that a person typed and returns the last moment it covers: a date reaches to
/// the end of its day, `14:00` to the end of the minute, `14:00:05` to the end of the second.
/// Without a zone it is local time. `2h`, `30m`, `7d`, `4w`, `90s` mean so long before `now`.
///
/// # Errors
/// `InvalidInput` when it is none of these.
///
/// ```
/// use icecore::base::time::{Timestamp, parse_until};
/// let now = Timestamp::new(7_200, 0);
/// assert_eq!(parse_until("2h", now).unwrap(), Timestamp::new(0, 0));
/// let end = parse_until("1970-01-01T00:00:01Z", now).unwrap();
/// assert_eq!(end, Timestamp::new(1, 999_999_999));
/// ```
pub fn parse_until(text: &str, now: Timestamp) -> Result<Timestamp> {
    let text = text.trim();
    parse_ago(text, now).or_else(|| parse_zoned(text)).or_else(|| parse_local(text)).ok_or_else(
        || {
            Error::invalid(format!("{text:?} is no time")).hint(
                "write 2026-11-20, \"2026-11-20 14:00\", 2026-11-20T14:00:05Z, \
                 or an age as 2h or 7d",
            )
        },
    )
}

fn parse_ago(text: &str, now: Timestamp) -> Option<Timestamp> {
    let unit = text.chars().last()?;
    let seconds: i64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        'y' => 365 * 86_400,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let count: i64 = if plain { digits.parse().ok()? } else { return None };
    Some(now.plus_seconds(count.checked_mul(seconds)?.checked_neg()?))
}

fn parse_zoned(text: &str) -> Option<Timestamp> {
    let time = DateTime::parse_from_rfc3339(text).ok()?;
    let nanos = time.timestamp_subsec_nanos();
    let fraction_typed = text.contains('.');
    let nanos = if fraction_typed { nanos } else { NANOS_PER_SECOND - 1 };
    Some(Timestamp::new(time.timestamp(), nanos))
}

fn parse_local(text: &str) -> Option<Timestamp> {
    let text = text.replacen('T', " ", 1);
    let (first, unit) = if let Ok(date) = NaiveDate::parse_from_str(&text, "%Y-%m-%d") {
        (date.and_hms_opt(0, 0, 0)?, Duration::days(1))
    } else if let Ok(minute) = NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M") {
        (minute, Duration::minutes(1))
    } else {
        let second = NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S").ok()?;
        (second, Duration::seconds(1))
    };
    // The calendar ends, and a person may have typed its last day.
    let last = first.checked_add_signed(unit - Duration::nanoseconds(1))?;
    // In an autumn hour that comes twice the later one covers both; a spring hour that never
    // was is read with the offset in force a day before.
    let local = match Local.from_local_datetime(&last) {
        chrono::LocalResult::Single(time) => time,
        chrono::LocalResult::Ambiguous(_, later) => later,
        chrono::LocalResult::None => {
            let day_before = last.checked_sub_signed(Duration::days(1))?;
            let local = Local.from_local_datetime(&day_before).latest()?;
            local.checked_add_signed(Duration::days(1))?
        }
    };
    Some(Timestamp::new(local.timestamp(), local.timestamp_subsec_nanos()))
}

/// A stretch of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// An hour of the day.
    Hour,
    /// A date.
    Day,
    /// A week that begins on Monday, in the year that ISO 8601 counts it to.
    Week,
    /// A month of a year.
    Month,
    /// A year.
    Year,
}

/// One hour, day, week, month or year of somebody's calendar; prints as `2026-11-20 14:00`,
/// `2026-11-20`, `2026-W47`, `2026-11` or `2026`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bucket {
    label: String,
    /// Only of hours: one that a clock put back in autumn shows twice is two.
    offset_seconds: i32,
}

impl Bucket {
    /// Returns the period that a time falls in where clocks are `offset_seconds` ahead of UTC.
    /// A time beyond the calendar is alone in its own.
    ///
    /// ```
    /// use icecore::base::time::{Bucket, Period, Timestamp};
    /// let time = Timestamp::new(1_609_455_600, 0); // 2020-12-31 23:00 UTC
    /// assert_eq!(Bucket::of(time, Period::Year, 0).to_string(), "2020");
    /// assert_eq!(Bucket::of(time, Period::Year, 3_600).to_string(), "2021");
    /// assert_eq!(Bucket::of(time, Period::Week, 3_600).to_string(), "2020-W53");
    /// ```
    pub fn of(time: Timestamp, period: Period, offset_seconds: i32) -> Self {
        let offset = Duration::seconds(i64::from(offset_seconds));
        let local = time.to_utc().and_then(|utc| utc.naive_utc().checked_add_signed(offset));
        let format = match period {
            Period::Hour => "%Y-%m-%d %H:00",
            Period::Day => "%Y-%m-%d",
            Period::Week => "%G-W%V",
            Period::Month => "%Y-%m",
            Period::Year => "%Y",
        };
        let label = match local {
            Some(local) => local.format(format).to_string(),
            None => time.to_rfc3339(),
        };
        Bucket { label, offset_seconds: if period == Period::Hour { offset_seconds } else { 0 } }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

/// Returns by how many seconds this machine's clocks are ahead of UTC at a time, summer time
/// counted.
pub fn local_offset(time: Timestamp) -> i32 {
    let utc = time.to_utc();
    utc.map_or(0, |utc| utc.with_timezone(&Local).offset().fix().local_minus_utc())
}

/// Tells what time it is; tests give a fixed one.
pub trait Clock: Send + Sync {
    /// Returns the current time.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let now = Utc::now();
        Timestamp::new(now.timestamp(), now.timestamp_subsec_nanos())
    }
}

/// A clock for tests: stands still until it is told to go on.
#[derive(Debug, Default)]
pub struct FixedClock(Mutex<Timestamp>);

impl FixedClock {
    /// Makes a clock that shows `start`.
    pub fn new(start: Timestamp) -> Self {
        FixedClock(Mutex::new(start))
    }

    /// Moves the clock forward.
    pub fn advance(&self, seconds: i64) {
        let mut now = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *now = now.plus_seconds(seconds);
    }
}

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::new(1_800_000_000, 0);

    #[test]
    fn a_date_covers_its_day() {
        let day = parse_until("2026-11-20", NOW).expect("a date");
        let next = parse_until("2026-11-21 00:00", NOW).expect("a minute");
        assert_eq!(next.seconds_since(day).round(), 60.0);
    }

    #[test]
    fn a_typed_fraction_is_exact() {
        let time = parse_until("2026-11-20T14:00:05.25Z", NOW).expect("a time");
        assert_eq!(time.nanos(), 250_000_000);
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["", "x", "h", "-2h", "2026-13-01", "1.5h", "9999999999999999999d", "\u{e9}"] {
            assert!(parse_until(bad, NOW).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_last_day_of_the_calendar_is_no_reason_to_stop() {
        for text in ["+262142-12-31", "+262142-12-31 23:59", "+262142-12-31 23:59:59"] {
            let _ = parse_until(text, Timestamp::default());
        }
    }

    #[test]
    fn buckets_are_of_the_calendar_of_the_place() {
        let time = parse_until("2026-11-20T23:30:00Z", NOW).expect("a time");
        let label = |period, offset| Bucket::of(time, period, offset).to_string();
        assert_eq!(label(Period::Hour, 0), "2026-11-20 23:00");
        assert_eq!(label(Period::Hour, 19_800), "2026-11-21 05:00");
        assert_eq!(label(Period::Day, 0), "2026-11-20");
        assert_eq!(label(Period::Day, 3_600), "2026-11-21");
        assert_eq!(label(Period::Week, -86_400), "2026-W47");
        assert_eq!(label(Period::Month, 0), "2026-11");
        assert_eq!(label(Period::Year, 0), "2026");
    }

    #[test]
    fn weeks_belong_to_the_year_that_has_their_thursday() {
        let label = |text: &str| {
            let time = parse_until(&format!("{text}T12:00:00Z"), NOW).expect(text);
            Bucket::of(time, Period::Week, 0).to_string()
        };
        assert_eq!(label("2020-12-31"), "2020-W53");
        assert_eq!(label("2021-01-03"), "2020-W53");
        assert_eq!(label("2021-01-04"), "2021-W01");
        assert_eq!(label("2024-12-30"), "2025-W01");
        assert_eq!(label("2027-01-01"), "2026-W53");
    }

    #[test]
    fn an_hour_that_comes_twice_is_two() {
        let first = Bucket::of(Timestamp::new(0, 0), Period::Hour, 7_200);
        let second = Bucket::of(Timestamp::new(3_600, 0), Period::Hour, 3_600);
        assert_eq!(first.to_string(), second.to_string());
        assert_ne!(first, second);
        let days = [(0, 7_200), (3_600, 3_600)];
        let [a, b] = days.map(|(at, by)| Bucket::of(Timestamp::new(at, 0), Period::Day, by));
        assert_eq!(a, b);
    }

    #[test]
    fn times_beyond_the_calendar_have_buckets_too() {
        for seconds in [i64::MAX, i64::MIN, 8_210_266_876_799] {
            let time = Timestamp::new(seconds, 0);
            for period in [Period::Hour, Period::Week, Period::Year] {
                assert_eq!(Bucket::of(time, period, 50_000), Bucket::of(time, period, 50_000));
            }
            local_offset(time);
        }
    }

    #[test]
    fn times_far_away_print() {
        assert_eq!(Timestamp::new(i64::MAX, 0).to_rfc3339(), "@9223372036854775807.000000000");
        assert_eq!(Timestamp::new(4_400_000_000, 0).to_rfc3339(), "2109-06-06T22:13:20Z");
    }
}
