//! Times as senders write them, and as we write them.
//!
//! An RFC 3164 stamp has no year and no zone: it is local time, of the year that puts it at most
//! a month into the future (so a line of December read in January is last year's).

use jiff::civil;
use jiff::tz::TimeZone;

/// How far ahead of us a sender's clock may be before its stamp is taken for last year's: 30 days.
const AHEAD_MS: i64 = 30 * 86_400_000;

/// A stamp as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    year: Option<i64>,
    month: u8,
    day: u8,
    /// Milliseconds of the day.
    clock: i64,
    /// Minutes east of UTC; `None` is local time.
    east: Option<i64>,
}

/// Reads the stamp that `text` begins with: `Aug  9 10:11:12`, `Aug 9 2031 10:11:12`,
/// `2031-08-09T10:11:12.345+02:00`. The rest follows.
pub fn read(text: &[u8]) -> Option<(Stamp, &[u8])> {
    match text.first()? {
        b'0'..=b'9' => rfc3339(text),
        _ => rfc3164(text),
    }
}

fn rfc3164(text: &[u8]) -> Option<(Stamp, &[u8])> {
    let rest = text.get(3..)?;
    let month = MONTHS
        .iter()
        .position(|m| m.as_bytes().eq_ignore_ascii_case(&text[..3]))?;
    let rest = blanks(rest)?;
    let (day, rest) = number(rest, 1, 2)?;
    let rest = blanks(rest)?;
    let (year, rest) = match number(rest, 4, 4) {
        Some((year, after)) if after.first() == Some(&b' ') => (Some(year), blanks(after)?),
        _ => (None, rest),
    };
    let (clock, rest) = clock(rest)?;
    let stamp = Stamp {
        year,
        month: month as u8 + 1,
        day: u8::try_from(day).ok()?,
        clock,
        east: None,
    };
    Some((stamp, rest))
}

fn rfc3339(text: &[u8]) -> Option<(Stamp, &[u8])> {
    let (year, rest) = number(text, 4, 4)?;
    let (month, rest) = number(rest.strip_prefix(b"-")?, 2, 2)?;
    let (day, rest) = number(rest.strip_prefix(b"-")?, 2, 2)?;
    let rest = match rest.first()? {
        b'T' | b't' => &rest[1..],
        _ => return None,
    };
    let (clock, rest) = clock(rest)?;
    let (east, rest) = match rest.first() {
        Some(b'Z' | b'z') => (Some(0), &rest[1..]),
        Some(sign @ (b'+' | b'-')) => {
            let (hours, rest) = number(&rest[1..], 2, 2)?;
            let rest = rest.strip_prefix(b":").unwrap_or(rest);
            let (minutes, rest) = number(rest, 2, 2)?;
            if hours > 23 || minutes > 59 {
                return None;
            }
            let east = hours * 60 + minutes;
            (Some(if *sign == b'-' { -east } else { east }), rest)
        }
        _ => (None, rest),
    };
    let stamp = Stamp {
        year: Some(year),
        month: u8::try_from(month).ok()?,
        day: u8::try_from(day).ok()?,
        clock,
        east,
    };
    Some((stamp, rest))
}

/// `hh:mm:ss` with an optional fraction, of which milliseconds are kept. A leap second is the
/// second before it.
fn clock(text: &[u8]) -> Option<(i64, &[u8])> {
    let (hour, rest) = number(text, 1, 2)?;
    let (minute, rest) = number(rest.strip_prefix(b":")?, 2, 2)?;
    let (second, rest) = number(rest.strip_prefix(b":")?, 2, 2)?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let fraction = match rest {
        [b'.' | b',', digit, ..] if digit.is_ascii_digit() => &rest[1..],
        _ => &[],
    };
    let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
    let ms = (0..3).fold(0, |ms, i| {
        let digit = fraction.get(i).filter(|_| i < digits);
        ms * 10 + digit.map_or(0, |d| i64::from(d - b'0'))
    });
    let rest = if digits > 0 {
        &rest[digits + 1..]
    } else {
        rest
    };
    let clock = (hour * 3600 + minute * 60 + second.min(59)) * 1000 + ms;
    Some((clock, rest))
}

fn blanks(text: &[u8]) -> Option<&[u8]> {
    let count = text.iter().take_while(|b| **b == b' ').count();
    (count > 0).then(|| &text[count..])
}

/// A number of `least` to `most` digits, and what follows.
fn number(text: &[u8], least: usize, most: usize) -> Option<(i64, &[u8])> {
    let digits = text
        .iter()
        .take(most)
        .take_while(|b| b.is_ascii_digit())
        .count();
    if digits < least {
        return None;
    }
    let value = text[..digits]
        .iter()
        .fold(0, |n, b| n * 10 + i64::from(b - b'0'));
    Some((value, &text[digits..]))
}

/// Turns stamps into milliseconds since 1970; remembers the zone's offset of the last quarter
/// hour, since lines come in order.
pub struct Zone {
    zone: TimeZone,
    now_ms: i64,
    this_year: i64,
    year_known_for: i64,
    quarter: Option<(i64, i64)>,
}

impl Zone {
    /// The zone senders of RFC 3164 stamps mean.
    pub fn new(zone: TimeZone) -> Self {
        Zone {
            zone,
            now_ms: 0,
            this_year: 1970,
            year_known_for: i64::MIN,
            quarter: None,
        }
    }

    /// Tells it the time, which decides about years.
    pub fn set_now(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
        let minute = now_ms.div_euclid(60_000);
        if minute != self.year_known_for {
            self.year_known_for = minute;
            let now = jiff::Timestamp::from_millisecond(now_ms).unwrap_or_default();
            self.this_year = i64::from(self.zone.to_datetime(now).year());
        }
    }

    /// The time it was told.
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// Milliseconds since 1970; `None` for a day no calendar has.
    pub fn resolve(&mut self, stamp: Stamp) -> Option<i64> {
        if let Some(year) = stamp.year {
            return self.in_year(stamp, year);
        }
        // 29 February exists up to eight years back only (1900, 2100).
        let next_year = self.this_year + 1;
        (0..=8).map(|back| next_year - back).find_map(|year| {
            let time = self.in_year(stamp, year)?;
            (time <= self.now_ms + AHEAD_MS).then_some(time)
        })
    }

    fn in_year(&mut self, stamp: Stamp, year: i64) -> Option<i64> {
        let (month, day) = (i64::from(stamp.month), i64::from(stamp.day));
        if !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
            return None;
        }
        let local = days_from_civil(year, month, day) * 86_400_000 + stamp.clock;
        match stamp.east {
            Some(east) => Some(local - east * 60_000),
            None => Some(local - self.offset(stamp, year, local)?),
        }
    }

    /// Milliseconds east of UTC at a local time.
    fn offset(&mut self, stamp: Stamp, year: i64, local: i64) -> Option<i64> {
        let quarter = local.div_euclid(900_000);
        if let Some((known, offset)) = self.quarter
            && known == quarter
        {
            return Some(offset);
        }
        let minutes = stamp.clock / 60_000;
        let date = civil::Date::new(
            i16::try_from(year).ok()?,
            stamp.month as i8,
            stamp.day as i8,
        );
        let time = civil::Time::new((minutes / 60) as i8, (minutes % 60) as i8, 0, 0);
        let moment = date.ok()?.to_datetime(time.ok()?);
        let moment = self.zone.to_timestamp(moment).ok()?;
        let offset = i64::from(self.zone.to_offset(moment).seconds()) * 1000;
        self.quarter = Some((quarter, offset));
        Some(offset)
    }
}

/// Appends `2016-08-05T03:58:15.181Z` (protocol.md 3.4).
pub fn push_utc(out: &mut Vec<u8>, ms: i64) {
    let (days, ms) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let (year, month, day) = civil_from_days(days);
    let year = year.clamp(0, 9999);
    let (hour, minute) = (ms / 3_600_000, ms / 60_000 % 60);
    let (second, ms) = (ms / 1000 % 60, ms % 1000);
    for (value, width, after) in [
        (year, 4, b'-'),
        (month, 2, b'-'),
        (day, 2, b'T'),
        (hour, 2, b':'),
        (minute, 2, b':'),
        (second, 2, b'.'),
        (ms, 3, b'Z'),
    ] {
        for place in (0..width).rev() {
            out.push(b'0' + (value / 10_i64.pow(place) % 10) as u8);
        }
        out.push(after);
    }
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar. The year begins in March here, so
/// that the leap day is its last; an era is 400 years.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> i64 {
        text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
    }

    fn at(zone: TimeZone, now: &str, stamp: &str) -> Option<String> {
        let mut zone = Zone::new(zone);
        zone.set_now(ms(now));
        let (stamp, rest) = read(stamp.as_bytes())?;
        assert_eq!(rest, b"");
        let mut out = Vec::new();
        push_utc(&mut out, zone.resolve(stamp)?);
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn stamps() {
        let now = "2031-08-09T10:11:20Z";
        for (stamp, wanted) in [
            ("Aug  9 10:11:12", "2031-08-09T10:11:12.000Z"),
            ("Aug 9 10:11:12", "2031-08-09T10:11:12.000Z"),
            ("Aug 09 10:11:12", "2031-08-09T10:11:12.000Z"),
            ("aug   9   1:11:12", "2031-08-09T01:11:12.000Z"),
            ("Aug  9 10:11:12.3456", "2031-08-09T10:11:12.345Z"),
            ("Aug  9 2024 10:11:12", "2024-08-09T10:11:12.000Z"),
            ("2024-02-29T23:59:60Z", "2024-02-29T23:59:59.000Z"),
            ("2031-08-09T10:11:12.5+02:00", "2031-08-09T08:11:12.500Z"),
            (
                "2031-08-09T10:11:12.123456-0130",
                "2031-08-09T11:41:12.123Z",
            ),
            ("2031-08-09T10:11:12", "2031-08-09T10:11:12.000Z"),
            // Eleven months ago rather than a month and more ahead.
            ("Sep 20 00:00:00", "2030-09-20T00:00:00.000Z"),
            ("Sep  1 00:00:00", "2031-09-01T00:00:00.000Z"),
            ("Feb 29 00:00:00", "2028-02-29T00:00:00.000Z"),
        ] {
            assert_eq!(
                at(TimeZone::UTC, now, stamp).as_deref(),
                Some(wanted),
                "{stamp}"
            );
        }
        for bad in [
            "",
            "A",
            "Foo  9 10:11:12",
            "Aug 9",
            "Aug 32 10:11:12",
            "Aug 0 10:11:12",
            "Feb 30 10:11:12",
            "Aug 9 24:00:00",
            "Aug 9 10:60:00",
            "Aug 9 10:11:61",
            "Aug910:11:12",
            "2031-13-01T00:00:00Z",
            "2031-02-29T00:00:00Z",
            "2031-08-09 10:11:12Z",
            "2031-08-09T10:11:12+24:00",
        ] {
            let read = std::panic::catch_unwind(|| at(TimeZone::UTC, now, bad));
            assert!(!matches!(read, Ok(Some(_))), "{bad}");
        }
    }

    #[test]
    fn the_turn_of_the_year() {
        for (now, stamp, wanted) in [
            (
                "2032-01-01T00:00:05Z",
                "Dec 31 23:59:59",
                "2031-12-31T23:59:59.000Z",
            ),
            (
                "2031-12-31T23:59:55Z",
                "Jan  1 00:00:01",
                "2032-01-01T00:00:01.000Z",
            ),
            (
                "2032-01-20T00:00:00Z",
                "Jan 19 00:00:00",
                "2032-01-19T00:00:00.000Z",
            ),
        ] {
            assert_eq!(
                at(TimeZone::UTC, now, stamp).as_deref(),
                Some(wanted),
                "{stamp}"
            );
        }
    }

    #[test]
    fn local_time_is_the_zones() {
        let zone = || TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        for (stamp, wanted) in [
            ("Aug  9 10:11:12", "2031-08-09T08:11:12.000Z"),
            ("Feb  9 10:11:12", "2031-02-09T09:11:12.000Z"),
            ("2031-08-09T10:11:12", "2031-08-09T08:11:12.000Z"),
            ("2031-08-09T10:11:12Z", "2031-08-09T10:11:12.000Z"),
        ] {
            let got = at(zone(), "2031-08-10T00:00:00Z", stamp);
            assert_eq!(got.as_deref(), Some(wanted), "{stamp}");
        }
        // The sender's new year comes before ours in UTC.
        let got = at(zone(), "2031-12-31T23:30:00Z", "Jan  1 00:30:00");
        assert_eq!(got.as_deref(), Some("2031-12-31T23:30:00.000Z"));
    }

    proptest::proptest! {
        #[test]
        fn calendars_agree(ms in -60_000_000_000_000_i64..250_000_000_000_000) {
            let theirs = jiff::Timestamp::from_millisecond(ms).unwrap();
            let mut ours = Vec::new();
            push_utc(&mut ours, ms);
            proptest::prop_assert_eq!(format!("{theirs:.3}"), String::from_utf8(ours.clone()).unwrap());
            let (stamp, _) = read(&ours).unwrap();
            proptest::prop_assert_eq!(Zone::new(TimeZone::UTC).resolve(stamp), Some(ms));
        }
    }
}
