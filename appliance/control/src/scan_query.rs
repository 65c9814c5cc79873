//! Questions about scan data, and their answers. The page, its JSON and `glacis scans` show the same.

use crate::{Day, ProbeKinds, Protocol, ScanRecord, UnixMillis};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Longest range that can be asked for, in days: the longest retention.
pub const DAYS_MAX: u32 = 365;

/// Days without a gap, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DayRange {
    pub first: Day,
    pub last: Day,
}

impl DayRange {
    /// `None` when it would be empty or longer than [`DAYS_MAX`].
    pub const fn new(first: Day, last: Day) -> Option<Self> {
        if first.0 <= last.0 && last.0 - first.0 < DAYS_MAX { Some(Self { first, last }) } else { None }
    }

    /// So many days that end with this one; at least one, at most [`DAYS_MAX`].
    pub const fn ending(last: Day, days: u32) -> Self {
        let days = if days == 0 {
            1
        } else if days > DAYS_MAX {
            DAYS_MAX
        } else {
            days
        };
        Self { first: Day(last.0.saturating_sub(days - 1)), last }
    }

    /// The number of days; never 0.
    pub const fn days(self) -> u32 {
        self.last.0 - self.first.0 + 1
    }

    pub const fn contains(self, day: Day) -> bool {
        self.first.0 <= day.0 && day.0 <= self.last.0
    }

    /// The period of the same length before this one; `None` when it would begin before 1970.
    pub const fn before(self) -> Option<Self> {
        let days = self.days();
        if self.first.0 < days {
            return None;
        }
        Some(Self { first: Day(self.first.0 - days), last: Day(self.first.0 - 1) })
    }

    pub fn iter(self) -> impl DoubleEndedIterator<Item = Day> {
        (self.first.0..=self.last.0).map(Day)
    }
}

/// Where an address is said to be, by the GeoIP databases at the time of its first probe of a day. Unknown parts are empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Location {
    /// ISO 3166-1, two letters.
    pub country_code: String,
    /// In English, as the following.
    pub country: String,
    pub region: String,
    pub city: String,
    /// The provider's name, or that of the autonomous system.
    pub isp: String,
    /// Number of the autonomous system; 0 is unknown.
    pub asn: u32,
}

impl Location {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A number of distinct things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Distinct {
    pub count: u64,
    /// False for an estimate; the store's documentation gives its error.
    pub exact: bool,
}

/// A number, and the one of the period before; no period before counts as zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change<T> {
    pub current: T,
    pub previous: T,
}

/// The three cards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanSummary {
    pub days: DayRange,
    pub hits: Change<u64>,
    /// Distinct port numbers, whatever the protocol.
    pub ports: Change<Distinct>,
    pub sources: Change<Distinct>,
}

/// One point of both series of the trend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrendDay {
    pub day: Day,
    pub hits: u64,
    /// Distinct sources of the day; exact.
    pub sources: u64,
}

/// One source over a range of days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceTotal {
    pub source: IpAddr,
    /// As of the newest day.
    pub location: Location,
    pub hits: u64,
    /// Distinct pairs of protocol and port.
    pub ports: Distinct,
    pub kinds: ProbeKinds,
    pub first: UnixMillis,
    pub last: UnixMillis,
}

/// One port over a range of days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortTotal {
    pub port: u16,
    pub protocol: Protocol,
    pub hits: u64,
    /// Distinct sources.
    pub sources: Distinct,
}

/// Which records to list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanFilter {
    pub days: DayRange,
    /// Part of the address as it is written; empty is any.
    #[serde(default)]
    pub address: String,
    #[serde(default)]
    pub port: Option<u16>,
    #[serde(default)]
    pub protocol: Option<Protocol>,
    /// Part of the country, its code, region, city or provider, whatever the case; empty is any.
    #[serde(default)]
    pub location: String,
}

impl ScanFilter {
    pub const fn all(days: DayRange) -> Self {
        Self { days, address: String::new(), port: None, protocol: None, location: String::new() }
    }
}

/// Page sizes that are offered.
pub const PAGE_SIZES: [u32; 3] = [20, 50, 100];

/// One record and where its source is said to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanRow {
    #[serde(flatten)]
    pub record: ScanRecord,
    pub location: Location,
}

/// Part of a listing: newest day first, in a day by source, protocol and port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanPage {
    pub rows: Vec<ScanRow>,
    /// Asks for what follows; `None` at the end. Opaque, and of use as long as the filter is the same.
    pub next: Option<String>,
    /// False when the search ended early because it had looked at as many records as one may; `next` goes on.
    pub complete: bool,
}

/// Tops of sources or ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Top<T> {
    /// The most hits first.
    pub rows: Vec<T>,
    /// False when a row with more hits may be missing; said when the range holds too many different ones to add up.
    pub exact: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a19_ranges_are_bounded_and_know_the_period_before() {
        let week = DayRange::ending(Day(20_000), 7);
        assert_eq!((week.first, week.days()), (Day(19_994), 7));
        assert_eq!(week.before(), DayRange::new(Day(19_987), Day(19_993)));
        assert_eq!(DayRange::new(Day(5), Day(4)), None);
        assert_eq!(DayRange::new(Day(0), Day(365)), None);
        assert!(DayRange::new(Day(0), Day(364)).is_some());
        assert_eq!(DayRange::ending(Day(3), 7).before(), None);
        assert_eq!(DayRange::ending(Day(9), 0).days(), 1);
    }
}
