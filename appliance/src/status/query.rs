//! What a visitor asks for: the part of the address behind the question mark, parsed and bounded.

use super::records::ClientQuestion;
use crate::days;
use crate::words::{self, ClientVerdict};
use axum::http::Uri;
use glacis_control::scan_query::{DAYS_MAX, DayRange, PAGE_SIZES, ScanFilter};
use glacis_control::{Day, Protocol};
use ipnet::IpNet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// The range that is shown when none is asked for.
pub const DAYS_DEFAULT: u32 = 7;
/// Ranges that are offered, in days.
pub const PRESETS: [u32; 5] = [1, 7, 30, 90, 365];
/// Most rows of one answer.
pub const ROWS_MAX: u32 = 100;
/// Longest part of an address to look for: more is no address.
const ADDRESS_CHARS_MAX: usize = 45;
/// Longest part of a location to look for.
const LOCATION_CHARS_MAX: usize = 64;
/// Longest cursor; the store's are shorter.
const CURSOR_CHARS_MAX: usize = 256;

/// Why a question is not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadQuery {
    #[error("the parameters are not percent-encoded UTF-8")]
    Encoding,
    #[error("`{name}` {why}")]
    Value { name: &'static str, why: String },
    #[error("`{name}` is given twice")]
    Twice { name: &'static str },
    #[error("there is a parameter that this address does not take; it takes {}", listed(.known))]
    Unknown { known: Vec<&'static str> },
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// Parameters that nobody has taken yet.
pub struct Query {
    pairs: Vec<(String, String)>,
    known: Vec<&'static str>,
}

impl Query {
    pub fn of(uri: &Uri) -> Result<Self, BadQuery> {
        let axum::extract::Query(pairs) =
            axum::extract::Query::try_from_uri(uri).map_err(|_| BadQuery::Encoding)?;
        Ok(Self { pairs, known: Vec::new() })
    }

    /// One parameter. An empty one counts as not given: forms send their empty fields.
    fn take<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, BadQuery> {
        self.known.push(name);
        let mut values = self.pairs.extract_if(.., |(key, _)| key == name);
        let first = values.next();
        if values.next().is_some() {
            return Err(BadQuery::Twice { name });
        }
        match first.as_ref().map(|(_, value)| value.trim()) {
            None | Some("") => Ok(None),
            Some(value) => parse(value).map(Some).map_err(|why| BadQuery::Value { name, why }),
        }
    }

    /// Nothing may be left.
    pub fn finish(self) -> Result<(), BadQuery> {
        if self.pairs.is_empty() { Ok(()) } else { Err(BadQuery::Unknown { known: self.known }) }
    }

    /// `limit`, from 1 to `most`.
    pub fn limit(&mut self, default: u32, most: u32) -> Result<u32, BadQuery> {
        Ok(self.take("limit", number(1..=most))?.unwrap_or(default))
    }

    /// `limit`, one of [`PAGE_SIZES`].
    pub fn page_size(&mut self) -> Result<u32, BadQuery> {
        let parse = |text: &str| {
            let size = text.parse().ok().filter(|size| PAGE_SIZES.contains(size));
            size.ok_or_else(|| format!("must be one of {PAGE_SIZES:?}"))
        };
        Ok(self.take("limit", parse)?.unwrap_or(PAGE_SIZES[0]))
    }

    /// `skip`: how many rows come before the page; at most `most`.
    pub fn skip(&mut self, most: u32) -> Result<u32, BadQuery> {
        Ok(self.take("skip", number(0..=most))?.unwrap_or(0))
    }

    /// One word of a list.
    pub fn word<T: Copy>(&mut self, name: &'static str, words: &[(&str, T)]) -> Result<Option<T>, BadQuery> {
        self.take(name, |text| {
            let found = words.iter().find(|(word, _)| *word == text);
            found.map(|(_, value)| *value).ok_or_else(|| {
                format!(
                    "must be one of {}",
                    words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ")
                )
            })
        })
    }

    /// `days`, or `from` and `to`.
    pub fn period(&mut self, today: Day) -> Result<Period, BadQuery> {
        let day = |text: &str| days::parse(text).ok_or_else(|| "must be a day as YYYY-MM-DD".to_owned());
        let days = self.take("days", number(1..=DAYS_MAX))?;
        let (from, to) = (self.take("from", day)?, self.take("to", day)?);
        if from.is_none() && to.is_none() {
            return Ok(Period::last(days.unwrap_or(DAYS_DEFAULT), today));
        }
        if days.is_some() {
            let why = "is given beside `from` or `to`; give one or the other".to_owned();
            return Err(BadQuery::Value { name: "days", why });
        }
        let last = to.unwrap_or(today);
        let first = from.unwrap_or(Day(last.0.saturating_sub(DAYS_DEFAULT - 1)));
        let range = DayRange::new(first, last).ok_or_else(|| BadQuery::Value {
            name: "from",
            why: format!("must not be after `to`, and at most {DAYS_MAX} days may lie between them"),
        })?;
        Ok(Period { range, last_days: None })
    }

    /// `address`, `port`, `protocol` and `location`.
    pub fn filter(&mut self, days: DayRange) -> Result<ScanFilter, BadQuery> {
        Ok(ScanFilter {
            days,
            address: self.take("address", address_part)?.unwrap_or_default(),
            port: self.take("port", number(0..=u32::from(u16::MAX)))?.map(|port| port as u16),
            protocol: self.word("protocol", &PROTOCOLS)?,
            location: self.take("location", text(LOCATION_CHARS_MAX))?.unwrap_or_default(),
        })
    }

    /// `address` and `verdict`.
    pub fn clients(&mut self) -> Result<ClientQuestion, BadQuery> {
        let address = self.take("address", address_part)?.unwrap_or_default();
        Ok(ClientQuestion { address, verdict: self.word("verdict", &VERDICTS)? })
    }

    /// `within`: a network, or one address.
    pub fn within(&mut self) -> Result<Option<IpNet>, BadQuery> {
        self.take("within", |text| {
            let one = text.parse::<IpAddr>().map(IpNet::from);
            one.or_else(|_| text.parse::<IpNet>())
                .map(|net| net.trunc())
                .map_err(|_| "must be an address, or a network such as 203.0.113.0/24".into())
        })
    }

    /// `after`: the cursor of the page before.
    pub fn after(&mut self) -> Result<Option<String>, BadQuery> {
        self.take("after", text(CURSOR_CHARS_MAX))
    }
}

/// Protocols by their names.
pub const PROTOCOLS: [(&str, Protocol); 3] =
    [("tcp", Protocol::Tcp), ("udp", Protocol::Udp), ("sctp", Protocol::Sctp)];

/// Verdicts, as in addresses.
pub const VERDICTS: [(&str, ClientVerdict); 3] =
    [("open", ClientVerdict::Open), ("no-proxy", ClientVerdict::NoProxy), ("clean", ClientVerdict::Clean)];

fn number(range: RangeInclusive<u32>) -> impl FnOnce(&str) -> Result<u32, String> {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("must be a number from {} to {}", range.start(), range.end()))
    }
}

fn text(chars_max: usize) -> impl FnOnce(&str) -> Result<String, String> {
    move |text| {
        let fits = text.chars().count() <= chars_max;
        if fits { Ok(text.to_owned()) } else { Err(format!("must have at most {chars_max} characters")) }
    }
}

fn address_part(text: &str) -> Result<String, String> {
    let is_part = text.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b'.' | b':'));
    if is_part && text.len() <= ADDRESS_CHARS_MAX {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("must be a part of an address: digits, a to f, dots and colons".into())
    }
}

/// The days that a visitor looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    pub range: DayRange,
    /// When it was asked for as the last so many days.
    pub last_days: Option<u32>,
}

impl Period {
    pub const fn last(days: u32, today: Day) -> Self {
        Self { range: DayRange::ending(today, days), last_days: Some(days) }
    }

    /// The same on another day: the last so many days go with the time.
    #[must_use]
    pub fn as_of(self, today: Day) -> Self {
        self.last_days.map_or(self, |days| Self::last(days, today))
    }

    /// As parameters of a link that asks for the same.
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        match self.last_days {
            Some(DAYS_DEFAULT) => vec![],
            Some(days) => vec![("days", days.to_string())],
            None => vec![("from", words::day(self.range.first)), ("to", words::day(self.range.last))],
        }
    }
}

/// A path with parameters.
pub fn link(path: &str, pairs: &[(&str, String)]) -> String {
    let mut link = path.to_owned();
    for (index, (name, value)) in pairs.iter().enumerate() {
        link.push(if index == 0 { '?' } else { '&' });
        link.push_str(name);
        link.push('=');
        for byte in value.bytes() {
            // Unreserved (RFC 3986, section 2.3).
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                link.push(char::from(byte));
            } else {
                link.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    link
}

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: Day = Day(20_778);

    fn query(text: &str) -> Query {
        Query::of(&format!("/x?{text}").parse().unwrap()).unwrap()
    }

    fn period(text: &str) -> Result<Period, BadQuery> {
        let mut query = query(text);
        let period = query.period(TODAY)?;
        query.finish().map(|()| period)
    }

    #[test]
    fn a19_the_last_seven_days_unless_others_are_asked_for() {
        let range = |first, last| DayRange::new(Day(first), Day(last)).unwrap();
        for (text, expected, last_days) in [
            ("", range(20_772, 20_778), Some(7)),
            ("days=", range(20_772, 20_778), Some(7)),
            ("days=1", range(20_778, 20_778), Some(1)),
            ("days=365", range(20_414, 20_778), Some(365)),
            ("from=2026-11-01&to=2026-11-21", range(20_758, 20_778), None),
            ("from=2026-11-20", range(20_777, 20_778), None),
            ("to=2026-11-20", range(20_771, 20_777), None),
            ("from=2025-11-22&to=2026-11-21", range(20_414, 20_778), None),
        ] {
            assert_eq!(period(text), Ok(Period { range: expected, last_days }), "{text}");
        }
    }

    #[test]
    fn every_refusal_names_the_parameter() {
        for (text, name) in [
            ("days=0", "days"),
            ("days=366", "days"),
            ("days=x", "days"),
            ("days=7&from=2026-11-01", "days"),
            ("from=2026-11-31", "from"),
            ("to=tomorrow", "to"),
            ("from=2026-11-21&to=2026-11-20", "from"),
            ("from=2025-11-21&to=2026-11-21", "from"),
        ] {
            assert!(
                matches!(period(text), Err(BadQuery::Value { name: found, .. }) if found == name),
                "{text}"
            );
        }
        assert_eq!(period("days=1&days=1"), Err(BadQuery::Twice { name: "days" }));
        let unknown = period("offset=1").unwrap_err().to_string();
        assert!(unknown.ends_with("it takes days, from, to"), "{unknown}");
    }

    #[test]
    fn a23_filters_are_parsed_and_bounded() {
        let days = DayRange::ending(TODAY, 7);
        let filter = |text: &str| query(text).filter(days);
        assert_eq!(filter("address=&port=&protocol=&location="), Ok(ScanFilter::all(days)));
        let all = filter("address=2001:DB8&port=443&protocol=udp&location=New+York%20City").unwrap();
        assert_eq!((all.address.as_str(), all.port), ("2001:db8", Some(443)));
        assert_eq!((all.protocol, all.location.as_str()), (Some(Protocol::Udp), "New York City"));
        for text in ["address=x", "address=1%27", "port=65536", "port=-1", "protocol=icmp"] {
            assert!(filter(text).is_err(), "{text}");
        }
        let longest = "ä".repeat(LOCATION_CHARS_MAX);
        assert!(filter(&link("", &[("location", longest.clone())])[1..]).is_ok());
        assert!(filter(&link("", &[("location", longest + "b")])[1..]).is_err());
    }

    #[test]
    fn b15_questions_about_clients_are_parsed_and_bounded() {
        let clients = |text: &str| query(text).clients();
        assert_eq!(clients("address=&verdict="), Ok(ClientQuestion::default()));
        let question = clients("address=2001:DB8&verdict=no-proxy").unwrap();
        assert_eq!((question.address.as_str(), question.verdict), ("2001:db8", Some(ClientVerdict::NoProxy)));
        assert_eq!(link("", &question.pairs()), "?address=2001%3Adb8&verdict=no-proxy");
        assert!(clients("address=x").is_err() && clients("verdict=denied").is_err());
        let within = |text: &str| query(text).within();
        assert_eq!(within(""), Ok(None));
        for (text, net) in [
            ("203.0.113.9", "203.0.113.9/32"),
            ("203.0.113.9/24", "203.0.113.0/24"),
            ("2001:db8::/32", "2001:db8::/32"),
        ] {
            assert_eq!(within(&format!("within={text}")), Ok(Some(net.parse().unwrap())));
        }
        assert!(within("within=203.0.113").is_err() && within("within=203.0.113.0/33").is_err());
    }

    #[test]
    fn a23_pages_have_the_sizes_that_are_offered() {
        assert_eq!(query("").page_size(), Ok(20));
        for size in PAGE_SIZES {
            assert_eq!(query(&format!("limit={size}")).page_size(), Ok(size));
        }
        assert!(query("limit=21").page_size().is_err());
        assert_eq!(query("limit=21").limit(100, 100), Ok(21));
        assert!(query("limit=101").limit(100, 100).is_err());
    }

    #[test]
    fn links_ask_for_what_they_say() {
        let value = "a&b=c d/ü%".to_owned();
        let uri = link("/scans", &[("location", value.clone()), ("days", "30".into())]).parse().unwrap();
        let mut query = Query::of(&uri).unwrap();
        assert_eq!(query.filter(DayRange::ending(TODAY, 1)).unwrap().location, value);
        let period = query.period(TODAY).unwrap();
        assert_eq!(period.last_days, Some(30));
        assert_eq!(link("/", &period.pairs()), "/?days=30");
        assert_eq!(link("/", &Period::last(7, TODAY).pairs()), "/");
    }
}
