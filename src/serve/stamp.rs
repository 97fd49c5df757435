//! Times as FTP writes them: `20261121152100.25`, in UTC.

use crate::base::time::Timestamp;

/// What `ls -l` shows with a year instead of the time of day: half a year, as it counts it.
const RECENT_SECONDS: f64 = 15_778_476.0;
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Writes a time with as many digits as it has; None beyond the years that have four.
pub(super) fn write(time: Timestamp) -> Option<String> {
    let [year, month, day, hour, minute, second] = calendar(time)?;
    let whole = format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}");
    let fraction = format!("{:09}", time.nanos());
    Some(match fraction.trim_end_matches('0') {
        "" => whole,
        digits => format!("{whole}.{digits}"),
    })
}

/// Reads a time; None for what is none.
pub(super) fn parse(text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if whole.len() != 14 || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let number = |from: usize, to: usize| whole[from..to].parse().ok();
    let [year, month, day] = [number(0, 4)?, number(4, 6)?, number(6, 8)?];
    let [hour, minute, second] = [number(8, 10)?, number(10, 12)?, number(12, 14)?];
    let time = Timestamp::from_calendar([year, month, day, hour, minute, second])?;
    let nanos = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    Some(Timestamp::new(time.seconds(), nanos))
}

/// Writes a time as `ls -l` does.
pub(super) fn as_in_ls(time: Timestamp, now: Timestamp) -> String {
    let Some([year, month, day, hour, minute, _]) = calendar(time) else {
        return "Jan  1  1970".to_owned();
    };
    let month = usize::try_from(month - 1).ok().and_then(|at| MONTHS.get(at)).unwrap_or(&"Jan");
    let age = now.seconds_since(time);
    match (0.0..RECENT_SECONDS).contains(&age) {
        true => format!("{month} {day:2} {hour:02}:{minute:02}"),
        false => format!("{month} {day:2}  {year}"),
    }
}

fn calendar(time: Timestamp) -> Option<[i32; 6]> {
    time.to_calendar().filter(|[year, ..]| (0..=9999).contains(year))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for seconds in [0, -1, 951_782_400, 1_709_210_096, 4_102_444_799, -62_167_219_200] {
            for nanos in [0, 1, 250_000_000, 999_999_999] {
                let time = Timestamp::new(seconds, nanos);
                let text = write(time).unwrap();
                assert_eq!(parse(text.as_bytes()), Some(time), "{text}");
            }
        }
        assert_eq!(write(Timestamp::new(1_795_274_460, 250_000_000)).unwrap(), "20261121152100.25");
        assert_eq!(write(Timestamp::new(i64::MAX, 0)), None);
    }

    #[test]
    fn what_is_no_time_is_refused() {
        let bad = [
            "",
            "2026",
            "20261321000000",
            "20260230000000",
            "20260101240000",
            "20260101006000",
            "2026010100000x",
            "20260101000000.",
            "20260101000000.x",
            "-0260101000000",
            "00000000000000",
        ];
        for text in bad {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn old_times_show_their_year() {
        let now = Timestamp::new(1_795_274_460, 0);
        assert_eq!(as_in_ls(now.plus_seconds(-60), now), "Nov 21 15:20");
        assert_eq!(as_in_ls(now.plus_seconds(-86_400 * 300), now), "Jan 25  2026");
        assert_eq!(as_in_ls(now.plus_seconds(60), now), "Nov 21  2026");
    }
}
