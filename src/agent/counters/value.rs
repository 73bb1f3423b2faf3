//! Values of counters, and the arithmetic that all objects share (protocol.md 4.2).

use std::time::Duration;

/// One value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// It cannot be read: the counter is left out.
    Missing,
    /// A whole number.
    Number(u64),
    /// Seconds, with a fraction.
    Real(f64),
}

impl Value {
    /// Its text in an item; `None` when there is nothing to say.
    pub fn text(self) -> Option<String> {
        match self {
            Value::Missing => None,
            Value::Number(number) => Some(number.to_string()),
            Value::Real(real) => Some(six_digits(real)),
        }
    }
}

impl From<Option<u64>> for Value {
    fn from(number: Option<u64>) -> Value {
        number.map_or(Value::Missing, Value::Number)
    }
}

/// What an object has several of: a processor, a disk, a process.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// `InstanceName`.
    pub name: String,
    /// One for each counter of the object, in the order of [`super::names`].
    pub values: Vec<Value>,
}

/// Percent: rounded, a half upwards; at most 100; 0 of nothing.
pub fn percent(part: u64, whole: u64) -> u64 {
    share(part.into(), whole.into())
}

/// As [`percent`], of numbers that were multiplied before.
pub fn share(part: u128, whole: u128) -> u64 {
    if whole == 0 {
        return 0;
    }
    let rounded = (part.saturating_mul(200).saturating_add(whole)) / whole.saturating_mul(2);
    u64::try_from(rounded.min(100)).unwrap_or(100)
}

/// By the second, truncated; 0 in no time.
pub fn per_second(count: u64, elapsed: Duration) -> u64 {
    let rate = (u128::from(count) * 1_000_000_000).checked_div(elapsed.as_nanos());
    u64::try_from(rate.unwrap_or(0)).unwrap_or(u64::MAX)
}

/// At most six significant digits, as C++ streams write them: `0.00123457`, `1e-05`.
fn six_digits(real: f64) -> String {
    if real == 0.0 || !real.is_finite() {
        return "0".to_owned();
    }
    let exact = format!("{real:.5e}");
    let (digits, power) = exact.split_once('e').unwrap_or((&exact, "0"));
    let power: i32 = power.parse().unwrap_or(0);
    let bare = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if (-4..6).contains(&power) {
        let places = usize::try_from(5 - power).unwrap_or(0);
        return bare(&format!("{real:.places$}"));
    }
    let sign = if power < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", bare(digits), power.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_are_rounded_half_upwards_and_capped() {
        for (part, whole, wanted) in [
            (0, 0, 0),
            (5, 0, 0),
            (1, 200, 1), // 0.5
            (1, 201, 0), // 0.4975
            (3, 200, 2), // 1.5
            (85363, 97632, 87),
            (3, 2, 100),
            (u64::MAX, u64::MAX, 100),
            (u64::MAX / 2, u64::MAX, 50),
        ] {
            assert_eq!(percent(part, whole), wanted, "{part} of {whole}");
        }
    }

    #[test]
    fn rates_are_truncated() {
        let rate = |count, ms| per_second(count, Duration::from_millis(ms));
        assert_eq!(rate(59, 30_000), 1);
        assert_eq!(rate(60, 30_000), 2);
        assert_eq!(rate(7, 0), 0);
        assert_eq!(rate(u64::MAX, 1), u64::MAX);
    }

    #[test]
    fn reals_have_six_digits() {
        for (real, wanted) in [
            (0.0, "0"),
            (0.001_234_567, "0.00123457"),
            (0.00123, "0.00123"),
            (0.000_01, "1e-05"),
            (0.000_012_345_67, "1.23457e-05"),
            (0.0001, "0.0001"),
            (1.5, "1.5"),
            (2.0, "2"),
            (123_456.7, "123457"),
            (999_999.7, "1e+06"),
            (1_234_567.0, "1.23457e+06"),
            (100.0, "100"),
            (f64::NAN, "0"),
        ] {
            assert_eq!(Value::Real(real).text().unwrap(), wanted);
        }
        assert_eq!(Value::Missing.text(), None);
        assert_eq!(Value::from(Some(7)).text().unwrap(), "7");
    }
}
