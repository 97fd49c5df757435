//! Timestamps, and the only place that asks what time it is.

use crate::base::error::Error;
use crate::base::error::Result;
use chrono::DateTime;
use chrono::Datelike;
use chrono::Duration;
use chrono::FixedOffset;
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
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::time::Instant;

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

    /// Reads RFC 3339. None when it is none.
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let time = DateTime::parse_from_rfc3339(text.trim()).ok()?;
        Some(Timestamp::new(time.timestamp(), time.timestamp_subsec_nanos()))
    }

    /// Reads a date as HTTP writes it: `Tue, 15 Nov 1994 08:12:31 GMT`. None when it is none.
    pub fn from_http_date(text: &str) -> Option<Self> {
        let time = DateTime::parse_from_rfc2822(text.trim()).ok()?;
        Some(Timestamp::new(time.timestamp(), 0))
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
    parse_span(text, now).map(|span| *span.end())
}

/// Reads a time as [`parse_until`] does, and returns the first moment it covers.
///
/// # Errors
/// `InvalidInput` when it is no time.
pub fn parse_since(text: &str, now: Timestamp) -> Result<Timestamp> {
    parse_span(text, now).map(|span| *span.start())
}

fn parse_span(text: &str, now: Timestamp) -> Result<RangeInclusive<Timestamp>> {
    let text = text.trim();
    parse_ago(text, now).map(|time| time..=time).or_else(|| parse_calendar(text)).ok_or_else(|| {
        Error::invalid(format!("{text:?} is no time")).hint(
            "write 2026-11-20, \"2026-11-20 14:00\", 2026-11-20T14:00:05Z, \
             or an age as 2h or 7d",
        )
    })
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

/// Reads a date, which may be followed by a time of day, and that by a zone.
fn parse_calendar(text: &str) -> Option<RangeInclusive<Timestamp>> {
    // Two digits for the year would mean another century than was meant.
    let is_year = |year: &str| year.bytes().all(|byte| byte.is_ascii_digit());
    if text.get(4..5) != Some("-") || !text.get(..4).is_some_and(is_year) {
        return None;
    }
    let text = text.replacen(['T', 't'], " ", 1);
    let (text, zone) = split_zone(&text)?;
    let (first, unit) = if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        (date.and_hms_opt(0, 0, 0)?, Duration::days(1))
    } else if let Ok(minute) = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M") {
        (minute, Duration::minutes(1))
    } else if let Ok(second) = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S") {
        (second, Duration::seconds(1))
    } else {
        let exact = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok()?;
        (exact, Duration::nanoseconds(1))
    };
    // A leap second, which no clock here shows.
    if first.nanosecond() >= NANOS_PER_SECOND {
        return None;
    }
    // The calendar ends, and a person may have typed its last day.
    let last = first.checked_add_signed(unit - Duration::nanoseconds(1))?;
    let moments = |naive: NaiveDateTime| match zone {
        Some(zone) => zone.from_local_datetime(&naive).single().map(|time| [stamp(&time); 2]),
        None => local_moments(naive),
    };
    Some(moments(first)?[0]..=moments(last)?[1])
}

/// Parts a time of day and the zone behind it, as in `14:00 +01:00` and `14:00Z`. `None` for a zone
/// that is none.
fn split_zone(text: &str) -> Option<(&str, Option<FixedOffset>)> {
    let Some(time) = text.find(':') else {
        return Some((text, None));
    };
    let sign = |c: char| matches!(c, 'Z' | 'z' | '+' | '-');
    let Some(at) = text[time..].find(sign).map(|at| time + at) else {
        return Some((text, None));
    };
    Some((text[..at].trim_end(), Some(read_zone(&text[at..])?)))
}

/// Reads `Z`, `+01:00`, `+0100` or `+01`.
fn read_zone(text: &str) -> Option<FixedOffset> {
    let (sign, digits) = match text.split_at_checked(1)? {
        ("Z" | "z", "") => return FixedOffset::east_opt(0),
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match (digits.len(), digits.split_at_checked(2)?) {
        (2, (hours, _)) => (hours, "00"),
        (4, (hours, minutes)) => (hours, minutes),
        (5, (hours, minutes)) => (hours, minutes.strip_prefix(':')?),
        _ => return None,
    };
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok());
    let (hours, minutes): (i32, i32) = (number(hours)??, number(minutes)??);
    if minutes < 60 { FixedOffset::east_opt(sign * (hours * 3600 + minutes * 60)) } else { None }
}

/// Returns the first and the last moment that clocks here show as such: two of an autumn hour that
/// comes twice. One of a spring hour that never was is read with the offset of a day before.
fn local_moments(naive: NaiveDateTime) -> Option<[Timestamp; 2]> {
    match Local.from_local_datetime(&naive) {
        chrono::LocalResult::Single(time) => Some([stamp(&time); 2]),
        // Which of them comes first is not the same everywhere.
        chrono::LocalResult::Ambiguous(one, other) => {
            Some([stamp(&one.min(other)), stamp(&one.max(other))])
        }
        chrono::LocalResult::None => {
            let day_before = naive.checked_sub_signed(Duration::days(1))?;
            let local = Local.from_local_datetime(&day_before).latest()?;
            Some([stamp(&local.checked_add_signed(Duration::days(1))?); 2])
        }
    }
}

fn stamp<Z: TimeZone>(time: &DateTime<Z>) -> Timestamp {
    Timestamp::new(time.timestamp(), time.timestamp_subsec_nanos())
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

/// Tells how long ago it was started, whatever becomes of the clock of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts one.
    pub fn start() -> Self {
        Stopwatch(Instant::now())
    }

    /// Returns the time since.
    pub fn elapsed(&self) -> std::time::Duration {
        self.0.elapsed()
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
        for bad in ["26-01-01", "2026-06-01 14", "2026-06-01 14:00 CET", "2026-06-01 14:00:60 Z"] {
            assert!(parse_until(bad, NOW).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_time_begins_where_its_unit_does() {
        let first = |text: &str| parse_since(text, NOW).expect(text);
        let day = first("2026-11-20");
        assert_eq!(first("2026-11-20 00:00"), day);
        assert_eq!(first("2026-11-20T00:00:00"), day);
        assert_eq!(first("1970-01-01T00:00:05Z"), Timestamp::new(5, 0));
        assert_eq!(first("1970-01-01T00:00:05.25Z"), Timestamp::new(5, 250_000_000));
        assert!(parse_since("soon", NOW).is_err());
    }

    #[test]
    fn a_zone_may_stand_behind_each_time_of_day() {
        let until = |text| parse_until(text, NOW).expect(text).to_rfc3339();
        assert_eq!(until("2026-06-01T12:00Z"), "2026-06-01T12:00:59.999999999Z");
        assert_eq!(until("2026-06-01 14:00+02:00"), "2026-06-01T12:00:59.999999999Z");
        assert_eq!(until("2026-06-01 14:00:05 +02:00"), "2026-06-01T12:00:05.999999999Z");
        assert_eq!(until("2026-06-01 14:00:05.5 +0200"), "2026-06-01T12:00:05.500Z");
        let since = |text| parse_since(text, NOW).expect(text).to_rfc3339();
        assert_eq!(since("2026-06-01T14:00-01:00"), "2026-06-01T15:00:00Z");
        assert_eq!(parse_since("2h", NOW).expect("an age"), NOW.plus_seconds(-7_200));
    }

    #[test]
    fn the_last_day_of_the_calendar_is_no_reason_to_stop() {
        for text in ["9999-12-31", "9999-12-31 23:59", "9999-12-31 23:59:59Z"] {
            parse_until(text, NOW).expect(text);
        }
        assert!(parse_until("+262142-12-31", NOW).is_err());
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
    fn dates_of_servers_are_read() {
        let time = Timestamp::from_http_date("Tue, 15 Nov 1994 08:12:31 GMT").expect("a date");
        assert_eq!(time.to_rfc3339(), "1994-11-15T08:12:31Z");
        let time = Timestamp::from_rfc3339("2026-11-20T14:00:05.250Z").expect("a time");
        assert_eq!((time.seconds(), time.nanos()), (1_795_183_205, 250_000_000));
        for bad in ["", "yesterday", "2026-13-01T00:00:00Z", "Tue, 15 Nov 1994"] {
            assert_eq!(Timestamp::from_http_date(bad).or(Timestamp::from_rfc3339(bad)), None);
        }
    }

    #[test]
    fn times_far_away_print() {
        assert_eq!(Timestamp::new(i64::MAX, 0).to_rfc3339(), "@9223372036854775807.000000000");
        assert_eq!(Timestamp::new(4_400_000_000, 0).to_rfc3339(), "2109-06-06T22:13:20Z");
    }
}
