//! Values of what is counted, and the grades by which it is ranked.

use super::{DAY_MILLIS, Fields, RecordError, ScanKey};
use glacis_control::scan_query::DAYS_MAX;
use glacis_control::{ProbeKinds, ScanHit, ScanRecord, UnixMillis};

/// Value of one scan record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    pub hits: u64,
    /// Since the day began.
    pub first_ms: u32,
    /// Since the day began.
    pub last_ms: u32,
    pub kinds: ProbeKinds,
}

impl Tally {
    pub fn of(hit: &ScanHit) -> Self {
        // Below 86,400,000, which a u32 holds.
        let of_day = (hit.at.0 % DAY_MILLIS) as u32;
        Self { hits: hit.hits, first_ms: of_day, last_ms: of_day, kinds: hit.kinds }
    }

    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        Self {
            hits: self.hits.saturating_add(other.hits),
            first_ms: self.first_ms.min(other.first_ms),
            last_ms: self.last_ms.max(other.last_ms),
            kinds: self.kinds.with(other.kinds),
        }
    }

    pub fn bytes(self) -> [u8; 18] {
        let mut value = [0; 18];
        value[..8].copy_from_slice(&self.hits.to_be_bytes());
        value[8..12].copy_from_slice(&self.first_ms.to_be_bytes());
        value[12..16].copy_from_slice(&self.last_ms.to_be_bytes());
        value[16..].copy_from_slice(&self.kinds.bits().to_be_bytes());
        value
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut fields = Fields::of("a scan", bytes);
        let (hits, first_ms, last_ms) = (fields.u64()?, fields.u32()?, fields.u32()?);
        let kinds = ProbeKinds::from_bits(fields.u16()?);
        fields.end()?;
        Ok(Self { hits, first_ms, last_ms, kinds })
    }

    pub fn record(self, key: &ScanKey) -> ScanRecord {
        let start = key.day.start().0;
        ScanRecord {
            day: key.day,
            source: key.source,
            port: key.target.port,
            protocol: key.target.protocol,
            kinds: self.kinds,
            hits: self.hits,
            first: UnixMillis(start + u64::from(self.first_ms)),
            last: UnixMillis(start + u64::from(self.last_ms)),
        }
    }
}

/// One source on one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceSum {
    /// Of all its records together.
    pub tally: Tally,
    /// Its records: distinct pairs of protocol and port.
    pub ports: u32,
    pub place: u32,
}

impl SourceSum {
    pub fn bytes(&self) -> [u8; 26] {
        let mut value = [0; 26];
        value[..8].copy_from_slice(&self.tally.hits.to_be_bytes());
        value[8..12].copy_from_slice(&self.ports.to_be_bytes());
        value[12..16].copy_from_slice(&self.tally.first_ms.to_be_bytes());
        value[16..20].copy_from_slice(&self.tally.last_ms.to_be_bytes());
        value[20..22].copy_from_slice(&self.tally.kinds.bits().to_be_bytes());
        value[22..].copy_from_slice(&self.place.to_be_bytes());
        value
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut fields = Fields::of("a source", bytes);
        let (hits, ports, first_ms, last_ms) = (fields.u64()?, fields.u32()?, fields.u32()?, fields.u32()?);
        let kinds = ProbeKinds::from_bits(fields.u16()?);
        let place = fields.u32()?;
        fields.end()?;
        Ok(Self { tally: Tally { hits, first_ms, last_ms, kinds }, ports, place })
    }
}

/// One target on one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortSum {
    pub hits: u64,
    /// Its records: distinct sources.
    pub sources: u32,
}

impl PortSum {
    pub fn bytes(self) -> [u8; 12] {
        let mut value = [0; 12];
        value[..8].copy_from_slice(&self.hits.to_be_bytes());
        value[8..].copy_from_slice(&self.sources.to_be_bytes());
        value
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut fields = Fields::of("a port", bytes);
        let sum = Self { hits: fields.u64()?, sources: fields.u32()? };
        fields.end().map(|()| sum)
    }
}

/// Days that a source's return is told over; as many as a range may have.
pub const DAYS_BACK: usize = DAYS_MAX as usize;
const DAY_SUM_HEAD_BYTES: usize = 12;
const DAY_SUM_BYTES: usize = DAY_SUM_HEAD_BYTES + 4 * DAYS_BACK;

/// One day.
///
/// `returns` counts the day's sources by how many days before it each was seen last; those that were not seen within
/// [`DAYS_BACK`] days count at 0. The distinct sources of any range are therefore a sum over its days: of each day those
/// that were not seen since the range began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaySum {
    pub hits: u64,
    pub sources: u32,
    pub returns: [u32; DAYS_BACK],
}

impl Default for DaySum {
    fn default() -> Self {
        Self { hits: 0, sources: 0, returns: [0; DAYS_BACK] }
    }
}

impl DaySum {
    pub fn bytes(&self) -> [u8; DAY_SUM_BYTES] {
        let mut value = [0; DAY_SUM_BYTES];
        value[..8].copy_from_slice(&self.hits.to_be_bytes());
        value[8..DAY_SUM_HEAD_BYTES].copy_from_slice(&self.sources.to_be_bytes());
        for (to, count) in value[DAY_SUM_HEAD_BYTES..].as_chunks_mut::<4>().0.iter_mut().zip(self.returns) {
            *to = count.to_be_bytes();
        }
        value
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut fields = Fields::of("a day", bytes);
        let mut sum = Self { hits: fields.u64()?, sources: fields.u32()?, ..Self::default() };
        for count in &mut sum.returns {
            *count = fields.u32()?;
        }
        fields.end().map(|()| sum)
    }

    /// Hits and sources, without the rest.
    pub fn parse_head(bytes: &[u8]) -> Result<(u64, u32), RecordError> {
        let mut fields = Fields::of("a day", bytes);
        Ok((fields.u64()?, fields.u32()?))
    }

    /// Where a source counts that was seen so many days before.
    pub fn place_of_return(days_before: Option<u32>) -> usize {
        days_before.map(|days| days as usize).filter(|days| *days < DAYS_BACK).unwrap_or(0)
    }

    /// Sources of this day that were not seen on any of so many days before it.
    pub fn not_seen_for(&self, days_before: u32) -> u64 {
        let longer = self.returns.iter().skip(days_before as usize + 1);
        u64::from(self.returns[0]) + longer.map(|count| u64::from(*count)).sum::<u64>()
    }
}

/// Hits on a scale with four steps to each doubling, so that a rank moves seldom: at most every fifth hit moves it, and
/// the more hits there are the fewer.
pub const fn grade(hits: u64) -> u8 {
    if hits < 4 {
        return hits as u8;
    }
    let doublings = hits.ilog2();
    let step = (hits >> (doublings - 2)) & 3;
    // At most 4 * 62 + 3.
    (4 * (doublings - 1) + step as u32) as u8
}

/// The least hits that have this grade.
pub const fn hits_at_least(grade: u8) -> u64 {
    if grade == 0 { 0 } else { hits_at_most(grade - 1).saturating_add(1) }
}

/// The most hits that have this grade.
pub const fn hits_at_most(grade: u8) -> u64 {
    if grade < 4 {
        return grade as u64;
    }
    let (doublings, step) = (grade as u32 / 4 + 1, grade as u64 % 4);
    if doublings > 63 {
        return u64::MAX;
    }
    // The next grade's least, less one; that of the last grade wraps to the greatest number.
    ((5 + step) << (doublings - 2)).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use glacis_control::ProbeKind;

    const TALLY: Tally =
        Tally { hits: 3, first_ms: 0x0304, last_ms: 0x0506, kinds: ProbeKinds::of(ProbeKind::Fin) };

    #[test]
    fn the_bytes_of_sums_are_those_documented() {
        assert_eq!(TALLY.bytes(), [0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 3, 4, 0, 0, 5, 6, 0, 2]);
        let source = SourceSum { tally: TALLY, ports: 7, place: 9 };
        let expected = [0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 7, 0, 0, 3, 4, 0, 0, 5, 6, 0, 2, 0, 0, 0, 9];
        assert_eq!(source.bytes(), expected);
        assert_eq!(PortSum { hits: 1, sources: 2 }.bytes(), [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2]);
    }

    #[test]
    fn sums_survive_their_bytes_and_other_lengths_are_errors() {
        let source = SourceSum { tally: TALLY, ports: 7, place: 9 };
        let mut day = DaySum { hits: 1, sources: 2, ..DaySum::default() };
        day.returns[364] = 5;
        assert_eq!(Tally::parse(&TALLY.bytes()).unwrap(), TALLY);
        assert_eq!(SourceSum::parse(&source.bytes()).unwrap(), source);
        assert_eq!(PortSum::parse(&PortSum { hits: 1, sources: 2 }.bytes()).unwrap().sources, 2);
        assert_eq!(DaySum::parse(&day.bytes()).unwrap(), day);
        assert_eq!(DaySum::parse_head(&day.bytes()).unwrap(), (1, 2));
        assert!(Tally::parse(&[0; 17]).is_err());
        assert!(SourceSum::parse(&[0; 27]).is_err());
        assert!(PortSum::parse(&[0; 11]).is_err());
        assert!(DaySum::parse(&[0; 1471]).is_err());
    }

    #[test]
    fn merged_tallies_add_hits_and_span_both() {
        let kinds = ProbeKinds::of(ProbeKind::Syn);
        let late = Tally { hits: u64::MAX, first_ms: 0x0400, last_ms: 0x0600, kinds };
        let both = late.merged(TALLY);
        assert_eq!((both.hits, both.first_ms, both.last_ms), (u64::MAX, 0x0304, 0x0600));
        assert_eq!(both.kinds.to_string(), "syn fin");
    }

    #[test]
    fn grades_rise_with_hits_and_know_their_most() {
        for grade_number in 1..=u8::MAX {
            let most = hits_at_most(grade_number);
            if most < u64::MAX {
                assert_eq!((grade(most), grade(most + 1)), (grade_number, grade_number + 1), "{most}");
                assert_eq!(hits_at_least(grade_number + 1), most + 1);
            }
        }
        assert_eq!((grade(0), grade(1), grade(u64::MAX)), (0, 1, 251));
        assert_eq!((hits_at_least(0), hits_at_least(1)), (0, 1));
        assert_eq!(hits_at_most(251), u64::MAX);
    }

    #[test]
    fn returns_tell_how_many_were_not_seen_since() {
        let mut day = DaySum::default();
        (day.returns[0], day.returns[1], day.returns[3]) = (10, 5, 2);
        let counts = [0, 1, 2, 3].map(|days| day.not_seen_for(days));
        assert_eq!(counts, [17, 12, 12, 10]);
        assert_eq!(DaySum::place_of_return(Some(365)), 0);
        assert_eq!(DaySum::place_of_return(Some(364)), 364);
    }
}
