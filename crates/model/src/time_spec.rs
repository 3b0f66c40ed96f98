//! Points in time as people type them: `@2026-11-22`, `@9:30pm`, `~2w`.

use std::str::FromStr;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

/// A point in time, or a way back from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeSpec {
    /// `@2026-11-22T06:30:20Z`
    At(Timestamp),
    /// `@2026-11-22`: the start of that day where the user is.
    Day(Date),
    /// `@14:45`, `@9am`, `@9:30pm`: that time of today, both in UTC.
    Clock(Time),
    /// `~90s`, `~2w`, `~1year`: that long ago. A year has 365 days.
    Ago(SignedDuration),
}

impl TimeSpec {
    /// The time meant at a certain moment in a certain time zone.
    pub fn resolve(&self, now: &Zoned) -> Result<Timestamp, ResolveTimeError> {
        let time = match *self {
            Self::At(time) => Ok(time),
            Self::Day(day) => day.to_zoned(now.time_zone().clone()).map(|day| day.timestamp()),
            Self::Clock(time) => {
                let today = now.timestamp().to_zoned(TimeZone::UTC).date();
                today.to_datetime(time).to_zoned(TimeZone::UTC).map(|time| time.timestamp())
            }
            Self::Ago(duration) => now.timestamp().checked_sub(duration),
        };
        time.map_err(|source| ResolveTimeError { source })
    }
}

impl FromStr for TimeSpec {
    type Err = ParseTimeError;

    fn from_str(text: &str) -> Result<Self, ParseTimeError> {
        let spec = match text.as_bytes().first() {
            Some(b'@') => point(&text[1..]),
            Some(b'~') => ago(&text[1..]),
            _ => None,
        };
        spec.ok_or_else(|| ParseTimeError { text: text.to_owned() })
    }
}

fn point(text: &str) -> Option<TimeSpec> {
    if let Ok(time) = text.parse() {
        return Some(TimeSpec::At(time));
    }
    // a date alone; jiff would accept a date with a time and without a zone as well
    if text.len() == "2026-11-22".len()
        && let Ok(day) = text.parse()
    {
        return Some(TimeSpec::Day(day));
    }
    clock(text).map(TimeSpec::Clock)
}

fn clock(text: &str) -> Option<Time> {
    let lower = text.to_ascii_lowercase();
    let (digits, half) = match (lower.strip_suffix("am"), lower.strip_suffix("pm")) {
        (Some(digits), _) => (digits, Some(0)),
        (_, Some(digits)) => (digits, Some(12)),
        (None, None) => (&*lower, None),
    };
    let (hour, minute) = match digits.trim_end().split_once(':') {
        Some((hour, minute)) if minute.len() == 2 => (number(hour)?, number(minute)?),
        // an hour alone says which half of the day it is in
        None if half.is_some() => (number(digits.trim_end())?, 0),
        _ => return None,
    };
    let hour = match half {
        Some(half) if (1..=12).contains(&hour) => hour % 12 + half,
        Some(_) => return None,
        None => hour,
    };
    Time::new(hour.try_into().ok()?, minute.try_into().ok()?, 0, 0).ok()
}

fn ago(text: &str) -> Option<TimeSpec> {
    let unit_start = text.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = text.split_at(unit_start);
    let seconds: i64 = match unit.trim_start() {
        "y" | "year" | "years" => 365 * 86_400,
        "w" | "week" | "weeks" => 7 * 86_400,
        "d" | "day" | "days" => 86_400,
        "h" | "hour" | "hours" => 3_600,
        "m" | "min" | "minute" | "minutes" => 60,
        "s" | "sec" | "second" | "seconds" => 1,
        _ => return None,
    };
    let seconds = number(count)?.checked_mul(seconds)?;
    Some(TimeSpec::Ago(SignedDuration::from_secs(seconds)))
}

/// A number without a sign.
fn number(digits: &str) -> Option<i64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// A text that is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a time: it takes @ and a date, a time of day or both with a zone, \
     or ~ and a number with a unit of y, w, d, h, m or s"
)]
pub struct ParseTimeError {
    /// The text.
    pub text: String,
}

/// A time beyond what can be counted.
#[derive(Debug, thiserror::Error)]
#[error("the time is too far from now")]
pub struct ResolveTimeError {
    /// Why.
    pub source: jiff::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> String {
        // half past midnight in a zone two hours ahead: yesterday in UTC
        let now: Zoned = "2026-11-22T00:30:00+02:00[+02:00]".parse().unwrap();
        text.parse::<TimeSpec>().unwrap().resolve(&now).unwrap().to_string()
    }

    #[test]
    fn points_in_time() {
        assert_eq!(resolved("@2026-11-22T06:30:20Z"), "2026-11-22T06:30:20Z");
        assert_eq!(resolved("@2026-11-22T06:30:20.5+01:00"), "2026-11-22T05:30:20.5Z");
        assert_eq!(resolved("@2026-11-22"), "2026-11-21T22:00:00Z");
        assert_eq!(resolved("@14:45"), "2026-11-21T14:45:00Z");
        assert_eq!(resolved("@9am"), "2026-11-21T09:00:00Z");
        assert_eq!(resolved("@9:30PM"), "2026-11-21T21:30:00Z");
        assert_eq!(resolved("@12am"), "2026-11-21T00:00:00Z");
        assert_eq!(resolved("@12:05pm"), "2026-11-21T12:05:00Z");
    }

    #[test]
    fn ways_back_from_now() {
        assert_eq!(resolved("~30m"), "2026-11-21T22:00:00Z");
        assert_eq!(resolved("~90s"), "2026-11-21T22:28:30Z");
        assert_eq!(resolved("~2 hours"), "2026-11-21T20:30:00Z");
        assert_eq!(resolved("~1d"), "2026-11-20T22:30:00Z");
        assert_eq!(resolved("~2w"), "2026-11-07T22:30:00Z");
        assert_eq!(resolved("~1year"), "2025-11-21T22:30:00Z");
    }

    #[test]
    fn other_texts_are_refused() {
        let refused = [
            "",
            "@",
            "~",
            "2026-11-22",
            "@2026-13-01",
            "@2026-11-22T06:30:20",
            "@25:00",
            "@9",
            "@13pm",
            "@0am",
            "@9:3",
            "~5",
            "~w",
            "~-5d",
            "~5x",
            "~1.5h",
            "~+1d",
            "~99999999999999999999s",
            "~9999999999999999y",
            "@é",
            "~5é",
        ];
        for text in refused {
            assert!(text.parse::<TimeSpec>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_before_all_time_is_an_error() {
        let now: Zoned = "2026-11-22T00:30:00+02:00[+02:00]".parse().unwrap();
        assert!("~99999y".parse::<TimeSpec>().unwrap().resolve(&now).is_err());
    }
}
