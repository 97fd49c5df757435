//! Which backups rules keep, against a model that counts days, weeks, months by hand.

use icecore::base::error::ErrorKind;
use icecore::base::id::BackupId;
use icecore::base::time::Timestamp;
use icecore::engine::retention::Amount;
use icecore::engine::retention::Candidate;
use icecore::engine::retention::Rules;
use icecore::engine::retention::Span;
use icecore::engine::retention::Verdict;
use icecore::engine::retention::judge;
use std::collections::BTreeSet;
use std::num::NonZeroU64;

use super::Bytes;
use super::places::reach;

/// What the seeds come to.
pub const PLACES: &[&str] = &[
    "refused",
    "some stay and some go",
    "last",
    "hourly",
    "daily",
    "weekly",
    "monthly",
    "yearly",
    "within",
    "tags",
    "a clock that was wrong",
];

const NOW: Timestamp = Timestamp::new(1_800_000_000, 0);
const DAY: i64 = 86_400;

fn amount(byte: u8) -> Option<Amount> {
    match byte % 16 {
        0..8 => None,
        15 => Some(Amount::All),
        number => NonZeroU64::new(u64::from(number - 7)).map(Amount::Most),
    }
}

fn most(amount: Option<Amount>) -> usize {
    match amount {
        None => 0,
        Some(Amount::All) => usize::MAX,
        Some(Amount::Most(most)) => most.get() as usize,
    }
}

fn rules(bytes: &mut Bytes<'_>) -> Rules {
    let mut next = || amount(bytes.byte());
    let [last, hourly, daily, weekly, monthly, yearly] = [(); 6].map(|()| next());
    let hours = u16::from(bytes.byte());
    let within = format!("{hours}h").parse::<Span>().ok();
    let tags = bytes.byte();
    let tags = (0..2).filter(|bit| tags >> bit & 1 == 1).map(|bit| format!("t{bit}")).collect();
    Rules { last, hourly, daily, weekly, monthly, yearly, within, tags }
}

/// The newest of each of the newest so many periods, of which `of` gives each a mark.
fn of_periods<T: Ord>(
    newest_first: &[Candidate<'_>],
    most: usize,
    of: impl Fn(i64) -> T,
) -> BTreeSet<BackupId> {
    let mut seen = BTreeSet::new();
    let firsts = newest_first.iter().filter(|it| seen.insert(of(it.time.seconds())));
    firsts.take(most).map(|it| it.number).collect()
}

/// What stays by the rules alone.
fn model(backups: &[Candidate<'_>], rules: &Rules, offset: i64, hours: i64) -> BTreeSet<BackupId> {
    let mut newest_first = backups.to_vec();
    newest_first.reverse();
    let date = |time: i64| Timestamp::new(time + offset, 0).to_calendar().expect("near 2027");
    let mut kept: BTreeSet<BackupId> =
        newest_first.iter().take(most(rules.last)).map(|it| it.number).collect();
    kept.extend(of_periods(&newest_first, most(rules.hourly), |t| (t + offset).div_euclid(3_600)));
    kept.extend(of_periods(&newest_first, most(rules.daily), |t| (t + offset).div_euclid(DAY)));
    // The first of January 1970 was a Thursday.
    let week = |t: i64| ((t + offset).div_euclid(DAY) + 3).div_euclid(7);
    kept.extend(of_periods(&newest_first, most(rules.weekly), week));
    kept.extend(of_periods(&newest_first, most(rules.monthly), |t| [date(t)[0], date(t)[1]]));
    kept.extend(of_periods(&newest_first, most(rules.yearly), |t| date(t)[0]));
    if let (Some(_), Some(newest)) = (&rules.within, newest_first.first()) {
        let oldest = newest.time.min(NOW).plus_seconds(-hours * 3_600);
        kept.extend(backups.iter().filter(|it| it.time >= oldest).map(|it| it.number));
    }
    let has_tag = |it: &&Candidate<'_>| rules.tags.iter().any(|tag| it.tags.contains(tag));
    kept.extend(backups.iter().filter(has_tag).map(|it| it.number));
    kept
}

fn kept(verdicts: &[Verdict]) -> BTreeSet<BackupId> {
    verdicts.iter().filter(|it| it.is_kept()).map(|it| it.number).collect()
}

/// Notes what was tried.
fn tell(rules: &Rules, backups: &[Candidate<'_>], kept: &BTreeSet<BackupId>) {
    if backups.windows(2).any(|pair| pair[0].time > pair[1].time) {
        reach("a clock that was wrong");
    }
    if (1..backups.len()).contains(&kept.len()) {
        reach("some stay and some go");
        for (is_there, place) in [
            (rules.last.is_some(), "last"),
            (rules.hourly.is_some(), "hourly"),
            (rules.daily.is_some(), "daily"),
            (rules.weekly.is_some(), "weekly"),
            (rules.monthly.is_some(), "monthly"),
            (rules.yearly.is_some(), "yearly"),
            (rules.within.is_some(), "within"),
            (!rules.tags.is_empty(), "tags"),
        ] {
            if is_there {
                reach(place);
            }
        }
    }
}

/// One execution: rules, a zone, and backups by how long after the one before they came.
pub fn run(data: &[u8]) {
    let mut bytes = Bytes(data);
    let hours = i64::from(data.get(6).copied().unwrap_or(0));
    let rules = rules(&mut bytes);
    let offset = (i64::from(bytes.byte() % 27) - 12) * 3_600;
    let word = |bit: u8| format!("t{bit}");
    let tags = [vec![], vec![word(0)], vec![word(1)], vec![word(0), word(1)]];
    let mut time = NOW.plus_seconds(-300 * DAY);
    let mut backups: Vec<Candidate<'_>> = Vec::new();
    while !bytes.is_empty() && backups.len() < 60 {
        let step = bytes.byte();
        // Mostly forward, by minutes, hours and days; a clock may also have been wrong.
        let back = if step & 0x40 == 0 { 1 } else { -1 };
        let unit = [600, 3_600, DAY, 9 * DAY][usize::from(step >> 4 & 3)];
        time = time.plus_seconds(back * unit * i64::from(step & 15));
        let number = BackupId(backups.len() as u64 * 3);
        backups.push(Candidate { number, time, tags: &tags[usize::from(bytes.byte() & 3)] });
    }
    let zone = |_: Timestamp| offset as i32;
    let expected = model(&backups, &rules, offset, hours);

    let mut shuffled = backups.clone();
    shuffled.rotate_left(data.len() % backups.len().max(1));
    let verdicts = match judge(&shuffled, &rules, &zone, NOW) {
        Ok(verdicts) => verdicts,
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::InvalidInput);
            assert!(expected.is_empty(), "{rules:?} keep {expected:?}: {e}");
            return reach("refused");
        }
    };
    assert!(verdicts.windows(2).all(|pair| pair[0].number < pair[1].number));
    assert_eq!(verdicts.len(), backups.len());
    let newest = backups.last().map(|it| it.number);
    let with_newest: BTreeSet<BackupId> = expected.into_iter().chain(newest).collect();
    assert_eq!(kept(&verdicts), with_newest, "{rules:?}");
    // Judged again without what goes, all that stayed does.
    let left: Vec<Candidate<'_>> =
        backups.iter().filter(|it| with_newest.contains(&it.number)).cloned().collect();
    let again = judge(&left, &rules, &zone, NOW).expect("rules that keep something");
    assert_eq!(kept(&again), with_newest, "{rules:?}");
    tell(&rules, &backups, &with_newest);
}
