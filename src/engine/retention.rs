//! Which backups rules keep: pure, from backups and rules to a verdict with reasons for each.
//!
//! - `last` keeps the newest N backups. `hourly`, `daily`, `weekly` (ISO weeks), `monthly` and
//!   `yearly` go from the newest backup to the oldest, and of each of the N most recent periods
//!   that hold a backup keep the newest one. Periods without a backup do not count.
//! - `within` keeps what is no older than the newest backup by more than its duration, so that a
//!   dataset that is no longer backed up loses nothing as time goes by. Should the newest claim to
//!   be of the future, it counts from now.
//! - `tag` keeps what has any of its tags.
//! - Rules add up: one that keeps a backup is enough. The newest backup is always kept.
//!
//! Newer and older go by *number*, never by time, as a clock may have been wrong. A backup's
//! period is that of its time; of a period's backups the highest number is kept, and those
//! periods are the most recent that hold the highest numbers. So a backup from a day in the far
//! future takes one place among the days for a while, and none for ever.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::id::BackupId;
use crate::base::time::Bucket;
use crate::base::time::Period;
use crate::base::time::Timestamp;
use std::collections::HashSet;
use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

/// Tells by how many seconds the caller's clocks are ahead of UTC at a time.
pub type Zone<'a> = &'a dyn Fn(Timestamp) -> i32;

/// How many a rule keeps: a number from 1 up, or `all`.
///
/// ```
/// use icecore::engine::retention::Amount;
/// assert_eq!("all".parse::<Amount>().unwrap(), Amount::All);
/// assert!("0".parse::<Amount>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// At most so many.
    Most(NonZeroU64),
    /// One for every period there is.
    All,
}

impl FromStr for Amount {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            _ if text == "all" => Ok(Amount::All),
            Ok(number) if is_plain => Ok(Amount::Most(number)),
            _ => Err(Error::invalid(format!("{text:?} is no number from 1 up, and not `all`"))),
        }
    }
}

/// A duration as a person types it.
///
/// A month has no fixed length, and `6m` could mean months or minutes: it is refused.
///
/// ```
/// use icecore::engine::retention::Span;
/// assert_eq!("2w".parse::<Span>().unwrap(), "14d".parse::<Span>().unwrap());
/// assert!("6m".parse::<Span>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    seconds: i64,
}

impl FromStr for Span {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let refuse = || {
            Error::invalid(format!(
                "{text:?} is no duration: write 36h, 30d, 8w or 2y (of 365 days)"
            ))
        };
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = match &text[digits.len()..] {
            "h" => 3_600,
            "d" => 86_400,
            "w" => 7 * 86_400,
            "y" => 365 * 86_400,
            _ => return Err(refuse()),
        };
        let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        let count: i64 = digits.parse().map_err(|_| refuse())?;
        let seconds = count.checked_mul(unit).filter(|_| is_plain && count > 0);
        seconds.map(|seconds| Span { seconds }).ok_or_else(refuse)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seconds % 86_400 {
            0 => write!(f, "{}d", self.seconds / 86_400),
            _ => write!(f, "{}h", self.seconds / 3_600),
        }
    }
}

/// What to keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The newest so many.
    pub last: Option<Amount>,
    /// One of each of so many hours.
    pub hourly: Option<Amount>,
    /// One of each of so many days.
    pub daily: Option<Amount>,
    /// One of each of so many weeks.
    pub weekly: Option<Amount>,
    /// One of each of so many months.
    pub monthly: Option<Amount>,
    /// One of each of so many years.
    pub yearly: Option<Amount>,
    /// Those no older than the newest by more than this.
    pub within: Option<Span>,
    /// Those with any of these tags.
    pub tags: Vec<String>,
}

impl Rules {
    /// Refuses to go on without any rule.
    ///
    /// # Errors
    /// `InvalidInput` when there is none.
    pub fn check(&self) -> Result<()> {
        if *self != Rules::default() {
            return Ok(());
        }
        Err(Error::invalid("no rule says what to keep, and no backup is named")
            .hint("say for example --keep-daily 7 --keep-weekly 4, or --backup 3"))
    }

    fn periods(&self) -> [(&'static str, Period, Option<Amount>); 5] {
        [
            ("hourly", Period::Hour, self.hourly),
            ("daily", Period::Day, self.daily),
            ("weekly", Period::Week, self.weekly),
            ("monthly", Period::Month, self.monthly),
            ("yearly", Period::Year, self.yearly),
        ]
    }
}

/// A backup that rules are asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Its number.
    pub number: BackupId,
    /// Its time.
    pub time: Timestamp,
    /// Its tags.
    pub tags: &'a [String],
}

/// What becomes of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Its number.
    pub number: BackupId,
    /// Its time; none where its header cannot be read.
    pub time: Option<Timestamp>,
    /// Why it is kept; without a reason it is let go.
    pub reasons: Vec<String>,
}

impl Verdict {
    /// Says whether it is kept.
    pub fn is_kept(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// Judges all visible backups of a dataset; the verdicts come by number, ascending.
///
/// # Errors
/// `InvalidInput` without a rule, and when the rules keep no backup but the newest, which they do
/// not speak of: that is a slip of the pen, and would forget all others.
pub fn judge(
    backups: &[Candidate<'_>],
    rules: &Rules,
    zone: Zone<'_>,
    now: Timestamp,
) -> Result<Vec<Verdict>> {
    rules.check()?;
    let mut newest_first: Vec<&Candidate<'_>> = backups.iter().collect();
    newest_first.sort_by_key(|backup| std::cmp::Reverse(backup.number));
    let mut verdicts: Vec<Verdict> = newest_first
        .iter()
        .map(|it| Verdict { number: it.number, time: Some(it.time), reasons: Vec::new() })
        .collect();
    if let Some(amount) = rules.last {
        let kept = verdicts.iter_mut().zip(1..).take_while(|(_, at)| amount.reaches(*at));
        kept.for_each(|(verdict, at)| verdict.reasons.push(counted("last", at, amount)));
    }
    for (word, period, amount) in rules.periods() {
        let Some(amount) = amount else { continue };
        keep_periods(word, period, amount, &mut verdicts, zone);
    }
    if let (Some(span), Some(newest)) = (rules.within, newest_first.first()) {
        let oldest = newest.time.min(now).plus_seconds(span.seconds.saturating_neg());
        let kept = verdicts.iter_mut().filter(|it| it.time.is_some_and(|time| time >= oldest));
        kept.for_each(|verdict| verdict.reasons.push(format!("within {span}")));
    }
    for (verdict, backup) in verdicts.iter_mut().zip(&newest_first) {
        let tags = rules.tags.iter().filter(|tag| backup.tags.contains(tag));
        verdict.reasons.extend(tags.map(|tag| format!("tag {tag}")));
    }
    if !verdicts.is_empty() && !verdicts.iter().any(Verdict::is_kept) {
        return Err(keeps_nothing(rules));
    }
    if let Some(newest) = verdicts.first_mut() {
        newest.reasons.insert(0, "newest".to_owned());
    }
    verdicts.reverse();
    Ok(verdicts)
}

impl Amount {
    fn reaches(self, place: u64) -> bool {
        match self {
            Amount::Most(most) => place <= most.get(),
            Amount::All => true,
        }
    }
}

/// Gives a reason to the first backup of each period, as far as the amount reaches.
fn keep_periods(
    word: &str,
    period: Period,
    amount: Amount,
    newest_first: &mut [Verdict],
    zone: Zone<'_>,
) {
    let mut seen = HashSet::new();
    for verdict in newest_first {
        let Some(time) = verdict.time else { continue };
        let bucket = Bucket::of(time, period, zone(time));
        let what = format!("{word} {bucket}");
        if !seen.insert(bucket) {
            continue;
        }
        let place = seen.len() as u64;
        if !amount.reaches(place) {
            return;
        }
        verdict.reasons.push(counted(&what, place, amount));
    }
}

fn counted(what: &str, place: u64, amount: Amount) -> String {
    match amount {
        Amount::Most(most) => format!("{what} ({place} of {most})"),
        Amount::All => format!("{what} ({place})"),
    }
}

fn keeps_nothing(rules: &Rules) -> Error {
    let tags = rules.tags.join(" or ");
    Error::invalid(format!("no backup has the tag {tags}, so the rules would keep nothing")).hint(
        "nothing was forgotten; with another rule beside it, as --keep-last 1, it may keep none",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::parse_until;
    use proptest::prelude::Just;
    use proptest::prelude::ProptestConfig;
    use proptest::prelude::Strategy;
    use proptest::prop_assert_eq;
    use proptest::prop_assume;
    use proptest::prop_compose;
    use proptest::prop_oneof;
    use proptest::proptest;
    use std::collections::BTreeMap;

    const NOW: Timestamp = Timestamp::new(4_000_000_000, 0);
    const NO_TAGS: &[String] = &[];

    fn utc(_: Timestamp) -> i32 {
        0
    }

    /// Central Europe in 2026: summer time from 29 March to 25 October, 01:00 UTC both.
    fn berlin(time: Timestamp) -> i32 {
        let is_summer = (1_774_746_000..1_792_890_000).contains(&time.seconds());
        if is_summer { 7_200 } else { 3_600 }
    }

    fn most(number: u64) -> Option<Amount> {
        NonZeroU64::new(number).map(Amount::Most)
    }

    fn time(text: &str) -> Timestamp {
        let end = parse_until(&format!("{text}:00Z"), NOW).expect(text);
        Timestamp::new(end.seconds(), 0)
    }

    /// Backups 0, 1, ... of these times.
    fn backups(times: &[Timestamp]) -> Vec<Candidate<'static>> {
        let numbered = times.iter().zip(0..);
        numbered.map(|(&time, n)| Candidate { number: BackupId(n), time, tags: NO_TAGS }).collect()
    }

    fn of(texts: &[&str]) -> Vec<Candidate<'static>> {
        backups(&texts.iter().map(|text| time(text)).collect::<Vec<_>>())
    }

    /// The numbers kept, with all reasons but `newest`.
    fn kept(backups: &[Candidate<'_>], rules: &Rules, zone: Zone<'_>) -> Vec<(u64, String)> {
        let verdicts = judge(backups, rules, zone, NOW).expect("verdicts");
        assert_eq!(verdicts.len(), backups.len());
        let kept = verdicts.into_iter().filter(Verdict::is_kept);
        kept.map(|it| (it.number.0, it.reasons.join(", ").replace("newest, ", ""))).collect()
    }

    fn numbers(backups: &[Candidate<'_>], rules: &Rules, zone: Zone<'_>) -> Vec<u64> {
        kept(backups, rules, zone).into_iter().map(|(number, _)| number).collect()
    }

    fn pairs(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
        expected.iter().map(|(number, reason)| (*number, (*reason).to_owned())).collect()
    }

    #[test]
    fn last_keeps_the_newest() {
        let four = of(&["2026-01-01T10:00"; 4]);
        let rules = Rules { last: most(2), ..Rules::default() };
        let expected = pairs(&[(2, "last (2 of 2)"), (3, "last (1 of 2)")]);
        assert_eq!(kept(&four, &rules, &utc), expected);
        let rules = Rules { last: Some(Amount::All), ..Rules::default() };
        assert_eq!(numbers(&four, &rules, &utc), [0, 1, 2, 3]);
    }

    #[test]
    fn of_each_period_the_newest_is_kept_and_empty_periods_do_not_count() {
        let some = of(&[
            "2026-11-01T08:00",
            "2026-11-18T09:00",
            "2026-11-18T20:00",
            "2026-11-20T07:00",
            "2026-11-20T14:30",
        ]);
        let rules = Rules { daily: most(3), ..Rules::default() };
        let expected = pairs(&[
            (0, "daily 2026-11-01 (3 of 3)"),
            (2, "daily 2026-11-18 (2 of 3)"),
            (4, "daily 2026-11-20 (1 of 3)"),
        ]);
        assert_eq!(kept(&some, &rules, &utc), expected);
        let rules = Rules { hourly: most(2), ..Rules::default() };
        let expected = pairs(&[
            (3, "hourly 2026-11-20 07:00 (2 of 2)"),
            (4, "hourly 2026-11-20 14:00 (1 of 2)"),
        ]);
        assert_eq!(kept(&some, &rules, &utc), expected);
        let rules = Rules { weekly: most(9), ..Rules::default() };
        let expected = pairs(&[(0, "weekly 2026-W44 (2 of 9)"), (4, "weekly 2026-W47 (1 of 9)")]);
        assert_eq!(kept(&some, &rules, &utc), expected);
        let rules = Rules { monthly: most(9), ..Rules::default() };
        assert_eq!(kept(&some, &rules, &utc), pairs(&[(4, "monthly 2026-11 (1 of 9)")]));
        let rules = Rules { yearly: Some(Amount::All), ..Rules::default() };
        assert_eq!(kept(&some, &rules, &utc), pairs(&[(4, "yearly 2026 (1)")]));
    }

    #[test]
    fn rules_add_up_and_the_newest_says_so() {
        let some = of(&["2025-12-31T23:00", "2026-01-01T01:00", "2026-01-02T01:00"]);
        let rules = Rules { last: most(1), yearly: most(2), ..Rules::default() };

        let verdicts = judge(&some, &rules, &utc, NOW).expect("verdicts");

        assert_eq!(verdicts[0].reasons, ["yearly 2025 (2 of 2)"]);
        assert!(!verdicts[1].is_kept());
        let reasons = ["newest", "last (1 of 1)", "yearly 2026 (1 of 2)"];
        assert_eq!(verdicts[2].reasons, reasons);
    }

    #[test]
    fn within_counts_from_the_newest_and_not_from_now() {
        let some = of(&["2026-10-20T11:59", "2026-10-20T12:00", "2026-11-19T12:00"]);
        let rules = Rules { within: "30d".parse().ok(), ..Rules::default() };
        assert_eq!(kept(&some, &rules, &utc), pairs(&[(1, "within 30d"), (2, "within 30d")]));
        let rules = Rules { within: "719h".parse().ok(), ..Rules::default() };
        assert_eq!(numbers(&some, &rules, &utc), [2]);
        let rules = Rules { within: "1000000y".parse().ok(), ..Rules::default() };
        assert_eq!(numbers(&some, &rules, &utc), [0, 1, 2]);
    }

    #[test]
    fn a_newest_of_the_future_does_not_make_within_forget_the_present() {
        let some = of(&["2026-11-18T12:00", "2026-11-19T12:00", "2099-01-01T00:00"]);
        let rules = Rules { within: "1d".parse().ok(), ..Rules::default() };

        let verdicts = judge(&some, &rules, &utc, time("2026-11-20T12:00")).expect("verdicts");

        let kept = verdicts.iter().filter(|it| it.is_kept()).map(|it| it.number.0);
        assert_eq!(kept.collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn tags_keep_and_alone_must_match_something() {
        let tags = [vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()], Vec::new()];
        let mut three = of(&["2026-01-01T10:00"; 3]);
        three.iter_mut().zip(&tags).for_each(|(backup, tags)| backup.tags = tags);
        let rules = |tags: &[&str]| Rules {
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            ..Rules::default()
        };

        let expected = pairs(&[(0, "tag b"), (2, "newest")]);
        assert_eq!(kept(&three, &rules(&["b", "x"]), &utc), expected);
        assert_eq!(numbers(&three, &rules(&["c", "a"]), &utc), [0, 1, 2]);
        let error = judge(&three, &rules(&["x", "y"]), &utc, NOW).expect_err("nothing kept");
        assert!(error.to_string().contains("x or y"), "{error}");
        let beside = Rules { last: most(1), ..rules(&["x"]) };
        assert_eq!(numbers(&three, &beside, &utc), [2]);
        assert_eq!(judge(&[], &rules(&["x"]), &utc, NOW).expect("nothing to do"), []);
    }

    #[test]
    fn without_a_rule_nothing_is_judged() {
        assert!(judge(&of(&["2026-01-01T10:00"]), &Rules::default(), &utc, NOW).is_err());
        assert!(judge(&[], &Rules::default(), &utc, NOW).is_err());
    }

    #[test]
    fn days_and_hours_are_those_of_the_place_also_when_clocks_change() {
        // 00:30 in Berlin on 29 March; then 03:30 summer time; then 00:30 on the 30th.
        let spring = of(&["2026-03-28T23:30", "2026-03-29T01:30", "2026-03-29T22:30"]);
        let rules = Rules { daily: most(9), ..Rules::default() };
        let expected = pairs(&[(1, "daily 2026-03-29 (2 of 9)"), (2, "daily 2026-03-30 (1 of 9)")]);
        assert_eq!(kept(&spring, &rules, &berlin), expected);
        assert_eq!(numbers(&spring, &rules, &utc), [0, 2]);
        // 02:30 in summer, 02:30 in winter an hour later: two hours, one day of 25 hours.
        let autumn = of(&["2026-10-25T00:30", "2026-10-25T01:30", "2026-10-25T22:59"]);
        let rules = Rules { hourly: most(9), ..Rules::default() };
        assert_eq!(numbers(&autumn, &rules, &berlin), [0, 1, 2]);
        let rules = Rules { daily: most(9), ..Rules::default() };
        assert_eq!(numbers(&autumn, &rules, &berlin), [2]);
    }

    #[test]
    fn weeks_do_not_end_with_the_year() {
        let some = of(&["2020-12-27T12:00", "2020-12-31T12:00", "2021-01-03T12:00"]);
        let rules = Rules { weekly: most(9), ..Rules::default() };
        let expected = pairs(&[(0, "weekly 2020-W52 (2 of 9)"), (2, "weekly 2020-W53 (1 of 9)")]);
        assert_eq!(kept(&some, &rules, &utc), expected);
    }

    #[test]
    fn where_times_do_not_ascend_numbers_decide() {
        let some = of(&[
            "2026-11-18T12:00",
            "2099-01-01T00:00",
            "2026-11-19T12:00",
            "1970-01-01T00:00",
            "2026-11-19T08:00",
        ]);
        let rules = Rules { daily: most(2), ..Rules::default() };
        // 4 is of an earlier hour than 2, and yet the newest of its day.
        let expected = pairs(&[(3, "daily 1970-01-01 (2 of 2)"), (4, "daily 2026-11-19 (1 of 2)")]);
        assert_eq!(kept(&some, &rules, &utc), expected);
        let rules = Rules { daily: most(4), ..Rules::default() };
        assert_eq!(numbers(&some, &rules, &utc), [0, 1, 3, 4]);
        let reversed: Vec<_> = some.iter().rev().cloned().collect();
        assert_eq!(numbers(&reversed, &rules, &utc), [0, 1, 3, 4]);
    }

    #[test]
    fn amounts_and_spans_are_plain() {
        assert_eq!(
            "7".parse::<Amount>().expect("an amount"),
            Amount::Most(NonZeroU64::MIN.saturating_add(6))
        );
        for bad in ["", "0", "-1", "+7", "7.5", "ALL", "99999999999999999999"] {
            assert!(bad.parse::<Amount>().is_err(), "{bad:?}");
        }
        for (text, shown) in [("36h", "36h"), ("48h", "2d"), ("2w", "14d"), ("1y", "365d")] {
            assert_eq!(text.parse::<Span>().expect(text).to_string(), shown);
        }
        for bad in ["", "d", "30", "0d", "-1d", "+1d", "1.5d", "6m", "1d2h", "9999999999999999y"] {
            assert!(bad.parse::<Span>().is_err(), "{bad:?}");
        }
    }

    /// Year, month and day, counted up from 1970 day by day.
    fn calendar(days: i64) -> Vec<(i64, usize, i64)> {
        let (mut all, mut year, mut month, mut day) = (Vec::new(), 1970, 0, 1);
        for _ in 0..days {
            all.push((year, month, day));
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let lengths = [31, if is_leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30];
            day += 1;
            if day > lengths.get(month).copied().unwrap_or(31) {
                (day, month) = (1, month + 1);
            }
            if month == 12 {
                (month, year) = (0, year + 1);
            }
        }
        all
    }

    /// What period a time is in, without the calendar of [`Bucket`]: 1970 began on a Thursday.
    fn naive_period(word: &str, time: Timestamp, days: &[(i64, usize, i64)]) -> i64 {
        let local = time.seconds() + i64::from(berlin(time));
        let (year, month, _) = days[(local / 86_400) as usize];
        match word {
            // Not of local time: no offset here is other than whole hours.
            "hourly" => time.seconds() / 3_600,
            "daily" => local / 86_400,
            "weekly" => (local / 86_400 + 3) / 7,
            "monthly" => year * 12 + month as i64,
            _ => year,
        }
    }

    /// The same judgement by sorting whole tables instead of walking.
    fn naive(times: &[Timestamp], rules: &Rules, days: &[(i64, usize, i64)]) -> Vec<u64> {
        let mut keep: Vec<u64> = vec![times.len() as u64 - 1];
        let reach = |amount| match amount {
            None => 0,
            Some(Amount::Most(most)) => most.get() as usize,
            Some(Amount::All) => usize::MAX,
        };
        keep.extend((0..times.len() as u64).rev().take(reach(rules.last)));
        for (word, _, amount) in rules.periods() {
            let mut newest: BTreeMap<i64, u64> = BTreeMap::new();
            for (&time, number) in times.iter().zip(0..) {
                newest.insert(naive_period(word, time, days), number);
            }
            let mut numbers: Vec<u64> = newest.into_values().collect();
            numbers.sort_unstable_by(|a, b| b.cmp(a));
            keep.extend(numbers.into_iter().take(reach(amount)));
        }
        if let (Some(span), Some(newest)) = (rules.within, times.last()) {
            let is_within = |time: &Timestamp| newest.seconds() - time.seconds() <= span.seconds;
            let within = times.iter().zip(0..).filter(|(time, _)| is_within(time));
            keep.extend(within.map(|(_, number)| number));
        }
        keep.sort_unstable();
        keep.dedup();
        keep
    }

    fn amounts() -> impl Strategy<Value = Option<Amount>> {
        prop_oneof![
            2 => Just(None),
            4 => (1_u64..40).prop_map(most),
            1 => Just(Some(Amount::All)),
        ]
    }

    prop_compose! {
        fn rules()(
            last in amounts(), hourly in amounts(), daily in amounts(), weekly in amounts(),
            monthly in amounts(), yearly in amounts(), hours in 0_i64..2_000,
        ) -> Rules {
            let within = (hours > 0).then_some(Span { seconds: hours * 3_600 });
            let within = within.filter(|_| hours % 3 == 0);
            Rules { last, hourly, daily, weekly, monthly, yearly, within, tags: Vec::new() }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn a_year_of_hourly_backups_is_thinned_as_a_naive_reader_would(
            rules in rules(),
            start in 1_735_689_600_i64..1_793_000_000,
            step in 1_000_i64..90_000,
            late in proptest::collection::vec((0_usize..8_760, -9_000_000_i64..9_000_000), 0..20),
        ) {
            prop_assume!(rules.check().is_ok());
            let days = calendar(31_000);
            let step = if step % 2 == 0 { 3_600 } else { step };
            let mut times: Vec<i64> = (0..8_760).map(|hour| start + hour * step).collect();
            // Clocks that were wrong.
            late.into_iter().for_each(|(at, by)| times[at] += by);
            let times: Vec<Timestamp> = times.into_iter().map(|at| Timestamp::new(at, 0)).collect();
            let backups = backups(&times);

            let kept = numbers(&backups, &rules, &berlin);

            prop_assert_eq!(&kept, &naive(&times, &rules, &days));
            // Again on what is left: nothing more goes.
            let left: Vec<_> = kept.iter().map(|&n| backups[n as usize].clone()).collect();
            prop_assert_eq!(numbers(&left, &rules, &berlin), kept);
        }
    }
}
