//! Names of time zones as Windows has them, which custom logs carry (protocol.md 3.10; the pairs are
//! those of Unicode's CLDR).

/// For the zones that most hosts are in; sorted.
const NAMES: &[(&str, &str)] = &[
    ("Africa/Cairo", "Egypt Standard Time"),
    ("Africa/Johannesburg", "South Africa Standard Time"),
    ("Africa/Lagos", "W. Central Africa Standard Time"),
    ("Africa/Nairobi", "E. Africa Standard Time"),
    ("America/Anchorage", "Alaskan Standard Time"),
    ("America/Argentina/Buenos_Aires", "Argentina Standard Time"),
    ("America/Bogota", "SA Pacific Standard Time"),
    ("America/Buenos_Aires", "Argentina Standard Time"),
    ("America/Caracas", "Venezuela Standard Time"),
    ("America/Chicago", "Central Standard Time"),
    ("America/Denver", "Mountain Standard Time"),
    ("America/Edmonton", "Mountain Standard Time"),
    ("America/Guatemala", "Central America Standard Time"),
    ("America/Halifax", "Atlantic Standard Time"),
    ("America/Lima", "SA Pacific Standard Time"),
    ("America/Los_Angeles", "Pacific Standard Time"),
    ("America/Mexico_City", "Central Standard Time (Mexico)"),
    ("America/New_York", "Eastern Standard Time"),
    ("America/Phoenix", "US Mountain Standard Time"),
    ("America/Regina", "Canada Central Standard Time"),
    ("America/Santiago", "Pacific SA Standard Time"),
    ("America/Sao_Paulo", "E. South America Standard Time"),
    ("America/St_Johns", "Newfoundland Standard Time"),
    ("America/Toronto", "Eastern Standard Time"),
    ("America/Vancouver", "Pacific Standard Time"),
    ("America/Winnipeg", "Central Standard Time"),
    ("Asia/Baghdad", "Arabic Standard Time"),
    ("Asia/Bangkok", "SE Asia Standard Time"),
    ("Asia/Calcutta", "India Standard Time"),
    ("Asia/Dhaka", "Bangladesh Standard Time"),
    ("Asia/Dubai", "Arabian Standard Time"),
    ("Asia/Ho_Chi_Minh", "SE Asia Standard Time"),
    ("Asia/Hong_Kong", "China Standard Time"),
    ("Asia/Jakarta", "SE Asia Standard Time"),
    ("Asia/Jerusalem", "Israel Standard Time"),
    ("Asia/Karachi", "Pakistan Standard Time"),
    ("Asia/Kolkata", "India Standard Time"),
    ("Asia/Kuala_Lumpur", "Singapore Standard Time"),
    ("Asia/Manila", "Singapore Standard Time"),
    ("Asia/Riyadh", "Arab Standard Time"),
    ("Asia/Seoul", "Korea Standard Time"),
    ("Asia/Shanghai", "China Standard Time"),
    ("Asia/Singapore", "Singapore Standard Time"),
    ("Asia/Taipei", "Taipei Standard Time"),
    ("Asia/Tehran", "Iran Standard Time"),
    ("Asia/Tokyo", "Tokyo Standard Time"),
    ("Atlantic/Reykjavik", "Greenwich Standard Time"),
    ("Australia/Adelaide", "Cen. Australia Standard Time"),
    ("Australia/Brisbane", "E. Australia Standard Time"),
    ("Australia/Darwin", "AUS Central Standard Time"),
    ("Australia/Hobart", "Tasmania Standard Time"),
    ("Australia/Melbourne", "AUS Eastern Standard Time"),
    ("Australia/Perth", "W. Australia Standard Time"),
    ("Australia/Sydney", "AUS Eastern Standard Time"),
    ("Etc/GMT", "UTC"),
    ("Etc/UTC", "UTC"),
    ("Europe/Amsterdam", "W. Europe Standard Time"),
    ("Europe/Athens", "GTB Standard Time"),
    ("Europe/Belgrade", "Central Europe Standard Time"),
    ("Europe/Berlin", "W. Europe Standard Time"),
    ("Europe/Bratislava", "Central Europe Standard Time"),
    ("Europe/Brussels", "Romance Standard Time"),
    ("Europe/Bucharest", "GTB Standard Time"),
    ("Europe/Budapest", "Central Europe Standard Time"),
    ("Europe/Copenhagen", "Romance Standard Time"),
    ("Europe/Dublin", "GMT Standard Time"),
    ("Europe/Helsinki", "FLE Standard Time"),
    ("Europe/Istanbul", "Turkey Standard Time"),
    ("Europe/Kiev", "FLE Standard Time"),
    ("Europe/Kyiv", "FLE Standard Time"),
    ("Europe/Lisbon", "GMT Standard Time"),
    ("Europe/Ljubljana", "Central Europe Standard Time"),
    ("Europe/London", "GMT Standard Time"),
    ("Europe/Luxembourg", "W. Europe Standard Time"),
    ("Europe/Madrid", "Romance Standard Time"),
    ("Europe/Minsk", "Belarus Standard Time"),
    ("Europe/Moscow", "Russian Standard Time"),
    ("Europe/Oslo", "W. Europe Standard Time"),
    ("Europe/Paris", "Romance Standard Time"),
    ("Europe/Prague", "Central Europe Standard Time"),
    ("Europe/Riga", "FLE Standard Time"),
    ("Europe/Rome", "W. Europe Standard Time"),
    ("Europe/Sofia", "FLE Standard Time"),
    ("Europe/Stockholm", "W. Europe Standard Time"),
    ("Europe/Tallinn", "FLE Standard Time"),
    ("Europe/Vienna", "W. Europe Standard Time"),
    ("Europe/Vilnius", "FLE Standard Time"),
    ("Europe/Warsaw", "Central European Standard Time"),
    ("Europe/Zagreb", "Central European Standard Time"),
    ("Europe/Zurich", "W. Europe Standard Time"),
    ("Pacific/Auckland", "New Zealand Standard Time"),
    ("Pacific/Honolulu", "Hawaiian Standard Time"),
    ("UTC", "UTC"),
];

/// The name of the host's zone: Windows' one, the IANA name where none is known here, `Unknown` where
/// the host does not say.
pub fn of_host() -> String {
    let zone = jiff::tz::TimeZone::system();
    zone.iana_name().map_or("Unknown", of).to_owned()
}

/// The name for an IANA zone; itself where none is known here.
fn of(iana: &str) -> &str {
    let found = NAMES.binary_search_by_key(&iana, |(name, _)| name);
    found.ok().and_then(|n| NAMES.get(n)).map_or(iana, |p| p.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!(NAMES.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(of("Europe/Berlin"), "W. Europe Standard Time");
        assert_eq!(of("Antarctica/Troll"), "Antarctica/Troll");
        assert!(!of_host().is_empty());
    }
}
