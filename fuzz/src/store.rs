//! Keys and values of the store, as a damaged or foreign file may hold them.

use glacis_store::layout::{self, DaySum, PortSum, ScanKey, SourceSum, Tally};

/// The first byte is the length of the key, the rest is the value. Whatever they are taken for, they are refused, or what
/// is written for them says the same. Returns what they may be.
pub fn record(bytes: &[u8]) -> Vec<&'static str> {
    let Some((length, rest)) = bytes.split_first() else { return Vec::new() };
    let Some((key, value)) = rest.split_at_checked(usize::from(*length)) else { return Vec::new() };
    let understood = [
        ("scan", scan(ScanKey::parse(key).ok().filter(|parsed| *parsed.bytes() == *key), value)),
        ("scan by port", scan_by_port(key, value)),
        ("source", survives(value, SourceSum::parse, |sum| sum.bytes().to_vec())),
        ("port", survives(value, PortSum::parse, |sum| sum.bytes().to_vec())),
        ("day", survives(value, DaySum::parse, |sum| sum.bytes().to_vec())),
        ("place", survives(value, layout::parse_place, layout::encode_place)),
        ("ban", ban(key, value)),
        ("offences", offences(key, value)),
        ("event", event(key, value)),
    ];
    understood.into_iter().filter(|(_, understood)| *understood).map(|(name, _)| name).collect()
}

/// Unknown kinds are forgotten and long names cut, so the second reading is held against the first.
fn survives<T: PartialEq + std::fmt::Debug, E: std::fmt::Display>(
    value: &[u8],
    parse: impl Fn(&[u8]) -> Result<T, E>,
    write: impl Fn(&T) -> Vec<u8>,
) -> bool {
    let parsed = match parse(value) {
        Ok(parsed) => parsed,
        Err(error) => {
            assert!(!error.to_string().is_empty(), "refused without a reason");
            return false;
        }
    };
    let written = write(&parsed);
    let again = parse(&written).unwrap_or_else(|error| panic!("{error}: wrote what it does not read"));
    assert_eq!(write(&again), written);
    true
}

fn scan(key: Option<ScanKey>, value: &[u8]) -> bool {
    let tally = Tally::parse(value);
    if let (Some(key), Ok(tally)) = (key, &tally) {
        let record = tally.record(&key);
        assert_eq!(ScanKey::of_record(&record), key);
        assert!(survives(value, Tally::parse, |tally| tally.bytes().to_vec()));
        return true;
    }
    false
}

fn scan_by_port(key: &[u8], value: &[u8]) -> bool {
    let Ok(parsed) = ScanKey::parse_by_port(key) else { return false };
    assert_eq!(*parsed.by_port(), *key);
    value.is_empty()
}

fn ban(key: &[u8], value: &[u8]) -> bool {
    let Ok(ban) = layout::parse_ban(key, value) else { return false };
    let written = layout::ban_value(&ban).expect("what was JSON can be JSON");
    assert_eq!(layout::parse_ban(&layout::ban_key(&ban.source), &written).expect("own bytes"), ban);
    true
}

fn offences(key: &[u8], value: &[u8]) -> bool {
    let Ok(offences) = layout::parse_offences(key, value) else { return false };
    assert_eq!(layout::offences_value(&offences), value);
    true
}

fn event(key: &[u8], value: &[u8]) -> bool {
    let Ok(event) = layout::parse_event(key, value) else { return false };
    let written = layout::event_value(event.at, &event.kind).expect("what was JSON can be JSON");
    assert_eq!(layout::parse_event(key, &written).expect("own bytes"), event);
    true
}
