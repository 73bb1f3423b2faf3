//! What time the hub believes it is: the system's, unless a fault says otherwise.

use jiff::{SignedDuration, Timestamp};

/// A clock that may be ahead of the system's, or behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Clock {
    ahead: SignedDuration,
}

impl Clock {
    /// So many seconds ahead of the system's clock; behind it when negative.
    pub(super) fn ahead(seconds: i32) -> Self {
        Clock {
            ahead: SignedDuration::from_secs(seconds.into()),
        }
    }

    pub(super) fn now(self) -> Timestamp {
        let now = Timestamp::now();
        now.saturating_add(self.ahead).unwrap_or(now)
    }

    /// Now, as HTTP writes it: agents measure their clock's skew with it.
    pub(super) fn http_date(self) -> String {
        self.now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_ahead_or_behind() {
        for seconds in [1200, -1200, 0] {
            let off = Clock::ahead(seconds).now().duration_since(Timestamp::now());
            let off = off.as_secs() - i64::from(seconds);
            assert!((-2..=2).contains(&off), "{seconds} {off}");
        }
        assert!(Clock::default().http_date().ends_with(" GMT"));
    }
}
