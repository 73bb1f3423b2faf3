//! Moments on the wire: the clock that is read, the service's `Date` header, and how far apart
//! they are. The date string of a request is `signature::date` (protocol.md 1.4).

use jiff::{SignedDuration, Timestamp, Zoned};

/// Longest `Date` header that is looked at.
const LIMIT: usize = 64;

/// A difference beyond this is worth telling: the original's own pre-check allows as much
/// (protocol.md 1.4).
pub const TOLERATED_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// Where the time comes from.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// The system's clock, in the system's zone.
    #[default]
    System,
    /// Always this moment: for tests.
    Fixed(Zoned),
}

impl Clock {
    /// The moment with its zone.
    pub fn now(&self) -> Zoned {
        match self {
            Clock::System => Zoned::now(),
            Clock::Fixed(moment) => moment.clone(),
        }
    }

    /// The moment in UTC, as heartbeats write it (protocol.md 2.1).
    pub fn now_utc(&self) -> Zoned {
        self.now().with_time_zone(jiff::tz::TimeZone::UTC)
    }
}

/// The moment of an HTTP `Date` header (RFC 9110 section 5.6.7, the form in use today).
pub fn parse_http_date(text: &str) -> Option<Timestamp> {
    if text.len() > LIMIT {
        return None;
    }
    let parser = jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true);
    parser.parse_timestamp(text.trim()).ok()
}

/// How far the local clock is off the service's: positive when it is ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skew(pub SignedDuration);

impl Skew {
    /// From the `Date` header of an answer that just came.
    pub fn measure(date_header: &str, local: &Zoned) -> Option<Skew> {
        let theirs = parse_http_date(date_header)?;
        Some(Skew(local.timestamp().duration_since(theirs)))
    }

    /// Off by more than [`TOLERATED_SKEW`], either way?
    pub fn is_notable(self) -> bool {
        self.0.abs() > TOLERATED_SKEW
    }
}

impl std::fmt::Display for Skew {
    /// `12 minutes ahead of the service's`, `3 days behind the service's`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0.as_secs().unsigned_abs();
        let (unit, name) = match seconds {
            0..120 => (1, "second"),
            120..7_200 => (60, "minute"),
            7_200..172_800 => (3_600, "hour"),
            _ => (86_400, "day"),
        };
        let count = (seconds + unit / 2) / unit;
        let plural = if count == 1 { "" } else { "s" };
        let way = if self.0.is_negative() {
            "behind"
        } else {
            "ahead of"
        };
        write!(f, "{count} {name}{plural} {way} the service's")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_dates() {
        let moment = parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(moment.to_string(), "1994-11-06T08:49:37Z");
        // A wrong day name does not make the time wrong.
        assert_eq!(
            parse_http_date("Mon, 06 Nov 1994 08:49:37 GMT"),
            Some(moment)
        );
        for bad in ["", "yesterday", "1994-11-06", "Sun, 06 Nov 1994"] {
            assert_eq!(parse_http_date(bad), None, "{bad}");
        }
        let padded = |n| format!("{:1$}", "Sun, 06 Nov 1994 08:49:37 GMT", n);
        assert!(parse_http_date(&padded(LIMIT)).is_some());
        assert!(parse_http_date(&padded(LIMIT + 1)).is_none());
    }

    #[test]
    fn skew_says_how_much_and_which_way() {
        let shown = |local: &str| {
            let local: Zoned = local.parse().unwrap();
            let skew = Skew::measure("Sun, 06 Nov 1994 08:49:37 GMT", &local).unwrap();
            format!("{skew} {}", skew.is_notable())
        };
        let berlin = |time: &str| format!("1994-11-06T{time}+01:00[+01:00]");
        assert_eq!(
            shown(&berlin("09:49:38")),
            "1 second ahead of the service's false"
        );
        assert_eq!(
            shown(&berlin("09:54:37")),
            "5 minutes ahead of the service's false"
        );
        assert_eq!(
            shown(&berlin("09:54:38")),
            "5 minutes ahead of the service's true"
        );
        assert_eq!(
            shown(&berlin("09:29:37")),
            "20 minutes behind the service's true"
        );
        assert_eq!(
            shown(&berlin("22:49:37")),
            "13 hours ahead of the service's true"
        );
        assert_eq!(
            shown("1994-11-01T08:49:37+00:00[+00:00]"),
            "5 days behind the service's true"
        );
    }

    #[test]
    fn a_fixed_clock_stands() {
        let moment: Zoned = "2031-02-03T04:05:06+01:00[+01:00]".parse().unwrap();
        let clock = Clock::Fixed(moment);
        let date = crate::wire::signature::date;
        assert_eq!(date(&clock.now()), "2031-02-03T04:05:06.000000000+01:00");
        assert_eq!(
            date(&clock.now_utc()),
            "2031-02-03T03:05:06.000000000+00:00"
        );
    }
}
