//! What a certificate says of itself: names, validity, key. A reader of exactly the DER that is
//! needed for messages and for recognising an agent; trust is decided elsewhere (`tls`).

use jiff::Timestamp;
use std::fmt;

/// Largest certificate that is looked at.
const LIMIT: usize = 64 << 10;
/// Most attributes of one name, and most alternative names.
const MAX_NAMES: usize = 100;

/// Why a certificate could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a readable X.509 certificate ({0})")]
pub struct Unreadable(&'static str);

/// The readable facts of one X.509 certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Whose it is.
    pub subject: Name,
    /// Who signed it.
    pub issuer: Name,
    /// First moment of validity.
    pub not_before: Timestamp,
    /// Last moment of validity.
    pub not_after: Timestamp,
    /// The `subjectPublicKeyInfo`, as DER: equal for a certificate and its renewal with one key.
    pub public_key: Vec<u8>,
    /// DNS names and addresses it was issued for.
    pub alternative_names: Vec<String>,
}

/// A distinguished name, attribute by attribute in the order of the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The encoded name, for comparing issuer with subject.
    pub der: Vec<u8>,
    attributes: Vec<(String, String)>,
}

impl Name {
    /// All common names in order: an agent's certificate has two, workspace and GUID
    /// (protocol.md 1.6).
    pub fn common_names(&self) -> impl Iterator<Item = &str> {
        self.values("CN")
    }

    /// All values of one kind of attribute (`CN`, `OU`, `O`, ...) in order.
    pub fn values<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a str> {
        self.attributes
            .iter()
            .filter(move |(found, _)| found == kind)
            .map(|(_, value)| value.as_str())
    }
}

impl fmt::Display for Name {
    /// `CN=a, O=b`; control characters, which could forge log lines, are shown as `?`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (kind, value)) in self.attributes.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            write!(f, "{separator}{kind}={value}")?;
        }
        Ok(())
    }
}

impl Facts {
    /// Reads one certificate (RFC 5280 section 4.1).
    pub fn read(der: &[u8]) -> Result<Facts, Unreadable> {
        if der.len() > LIMIT {
            return Err(Unreadable("larger than 64 KiB"));
        }
        let mut outer = Der(Der(der).take(SEQUENCE)?);
        let mut body = Der(outer.take(SEQUENCE)?);
        body.take_if(0xa0)?; // version
        body.take(INTEGER)?; // serial number
        body.take(SEQUENCE)?; // signature algorithm
        let issuer = name(body.element(SEQUENCE)?)?;
        let mut validity = Der(body.take(SEQUENCE)?);
        let not_before = time(&mut validity)?;
        let not_after = time(&mut validity)?;
        let subject = name(body.element(SEQUENCE)?)?;
        let public_key = body.element(SEQUENCE)?.to_vec();
        body.take_if(0xa1)?; // unique ids of X.509 v2, primitive or not
        body.take_if(0x81)?;
        body.take_if(0xa2)?;
        body.take_if(0x82)?;
        let alternative_names = match body.take_if(0xa3)? {
            Some(extensions) => alternative_names(extensions)?,
            None => Vec::new(),
        };
        Ok(Facts {
            subject,
            issuer,
            not_before,
            not_after,
            public_key,
            alternative_names,
        })
    }

    /// The encoded subject alone: cheap enough to ask of every root of a system.
    pub(crate) fn subject_of(der: &[u8]) -> Result<&[u8], Unreadable> {
        let mut outer = Der(Der(der).take(SEQUENCE)?);
        let mut body = Der(outer.take(SEQUENCE)?);
        body.take_if(0xa0)?;
        body.take(INTEGER)?;
        for _ in 0..3 {
            body.take(SEQUENCE)?; // signature algorithm, issuer, validity
        }
        body.element(SEQUENCE)
    }
}

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

/// The rest of a run of DER elements.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next element: tag, content, and the whole of it.
    fn next(&mut self) -> Result<(u8, &'a [u8], &'a [u8]), Unreadable> {
        let cut = Unreadable("cut off");
        let (&tag, rest) = self.0.split_first().ok_or(cut)?;
        let (&first, mut rest) = rest.split_first().ok_or(cut)?;
        let length = match first {
            0..=0x7f => usize::from(first),
            0x81..=0x83 => {
                let (digits, after) = rest
                    .split_at_checked(usize::from(first & 0x7f))
                    .ok_or(cut)?;
                rest = after;
                digits.iter().fold(0, |n, d| n << 8 | usize::from(*d))
            }
            _ => return Err(Unreadable("length out of range")),
        };
        let (content, after) = rest.split_at_checked(length).ok_or(cut)?;
        let whole = &self.0[..self.0.len() - after.len()];
        self.0 = after;
        Ok((tag, content, whole))
    }

    fn take(&mut self, tag: u8) -> Result<&'a [u8], Unreadable> {
        match self.next()? {
            (found, content, _) if found == tag => Ok(content),
            _ => Err(Unreadable("unexpected element")),
        }
    }

    fn element(&mut self, tag: u8) -> Result<&'a [u8], Unreadable> {
        match self.next()? {
            (found, _, whole) if found == tag => Ok(whole),
            _ => Err(Unreadable("unexpected element")),
        }
    }

    fn take_if(&mut self, tag: u8) -> Result<Option<&'a [u8]>, Unreadable> {
        if self.0.first() == Some(&tag) {
            self.take(tag).map(Some)
        } else {
            Ok(None)
        }
    }
}

fn name(der: &[u8]) -> Result<Name, Unreadable> {
    let mut attributes = Vec::new();
    let mut rdns = Der(Der(der).take(SEQUENCE)?);
    while !rdns.0.is_empty() {
        let mut set = Der(rdns.take(SET)?);
        while !set.0.is_empty() {
            let mut pair = Der(set.take(SEQUENCE)?);
            let kind = pair.take(OID)?;
            let (tag, value, _) = pair.next()?;
            attributes.push((attribute_name(kind), text(tag, value)));
            if attributes.len() > MAX_NAMES {
                return Err(Unreadable("too many names"));
            }
        }
    }
    let der = der.to_vec();
    Ok(Name { der, attributes })
}

fn attribute_name(oid: &[u8]) -> String {
    let known = match oid {
        [0x55, 4, 3] => "CN",
        [0x55, 4, 6] => "C",
        [0x55, 4, 7] => "L",
        [0x55, 4, 8] => "ST",
        [0x55, 4, 10] => "O",
        [0x55, 4, 11] => "OU",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25] => "DC",
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1] => "emailAddress",
        _ => "other",
    };
    known.to_owned()
}

fn text(tag: u8, value: &[u8]) -> String {
    let text = match tag {
        0x1e => {
            let units = value
                .chunks_exact(2)
                .map(|c| u16::from_be_bytes([c[0], c[1]]));
            char::decode_utf16(units)
                .map(|c| c.unwrap_or('?'))
                .collect()
        }
        _ => String::from_utf8_lossy(value).into_owned(),
    };
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .take(256)
        .collect()
}

/// UTCTime `YYMMDDhhmmssZ` (years 1950 to 2049) or GeneralizedTime `YYYYMMDDhhmmssZ`.
fn time(from: &mut Der<'_>) -> Result<Timestamp, Unreadable> {
    const BAD: Unreadable = Unreadable("bad time");
    let (tag, value, _) = from.next()?;
    let digits = std::str::from_utf8(value).map_err(|_| BAD)?;
    let digits = digits.strip_suffix('Z').ok_or(BAD)?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(BAD);
    }
    let full = match (tag, digits.len()) {
        (0x17, 12) if digits < "50" => format!("20{digits}"),
        (0x17, 12) => format!("19{digits}"),
        (0x18, 14) => digits.to_owned(),
        _ => return Err(BAD),
    };
    let moment = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", &full).map_err(|_| BAD)?;
    let moment = moment.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| BAD)?;
    Ok(moment.timestamp())
}

fn alternative_names(wrapped: &[u8]) -> Result<Vec<String>, Unreadable> {
    let mut found = Vec::new();
    let mut extensions = Der(Der(wrapped).take(SEQUENCE)?);
    while !extensions.0.is_empty() {
        let mut extension = Der(extensions.take(SEQUENCE)?);
        if extension.take(OID)? != [0x55, 29, 17] {
            continue;
        }
        extension.take_if(0x01)?; // critical
        let mut names = Der(Der(extension.take(OCTETS)?).take(SEQUENCE)?);
        while !names.0.is_empty() && found.len() < MAX_NAMES {
            match names.next()? {
                (0x82, name, _) => found.push(text(0x0c, name)),
                (0x87, octets, _) => {
                    let v4 = <[u8; 4]>::try_from(octets).map(std::net::IpAddr::from);
                    let v6 = <[u8; 16]>::try_from(octets).map(std::net::IpAddr::from);
                    found.extend(v4.or(v6).ok().map(|ip| ip.to_string()));
                }
                _ => {}
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params =
            rcgen::CertificateParams::new(vec!["*.oms.example".into(), "127.0.0.1".into()])
                .unwrap();
        params.not_before = rcgen::date_time_ymd(2031, 2, 3);
        params.not_after = rcgen::date_time_ymd(2051, 2, 3);
        params.distinguished_name = rcgen::DistinguishedName::new();
        let name = &mut params.distinguished_name;
        name.push(rcgen::DnType::CommonName, "one\ntwo");
        name.push(rcgen::DnType::OrganizationName, "Org");
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn says_what_is_in_it() {
        let facts = Facts::read(&sample()).unwrap();
        assert_eq!(facts.subject.to_string(), "CN=one?two, O=Org");
        assert_eq!(facts.issuer, facts.subject);
        assert_eq!(facts.subject.values("O").collect::<Vec<_>>(), ["Org"]);
        assert_eq!(
            facts.subject.common_names().collect::<Vec<_>>(),
            ["one?two"]
        );
        assert_eq!(facts.not_before.to_string(), "2031-02-03T00:00:00Z");
        assert_eq!(facts.not_after.to_string(), "2051-02-03T00:00:00Z");
        assert_eq!(facts.alternative_names, ["*.oms.example", "127.0.0.1"]);
        assert_eq!(Facts::subject_of(&sample()).unwrap(), facts.subject.der);
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_survived() {
        let whole = sample();
        for n in 0..whole.len() {
            assert!(Facts::read(&whole[..n]).is_err(), "cut at {n}");
            for value in [0, 0x30, 0x7f, 0x80, 0x84, 0xff] {
                let mut altered = whole.clone();
                altered[n] = value;
                let _ = Facts::read(&altered);
                let _ = Facts::subject_of(&altered);
            }
        }
    }

    #[test]
    fn size_has_a_limit() {
        let mut fat = sample();
        fat.resize(LIMIT, 0); // what follows the certificate is not looked at
        assert!(Facts::read(&fat).is_ok());
        fat.push(0);
        assert_eq!(Facts::read(&fat), Err(Unreadable("larger than 64 KiB")));
    }
}
