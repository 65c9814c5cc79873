//! What gates know of clients.

use super::{Fields, Key, RecordError};
use glacis_control::UnixMillis;
use glacis_control::gate::{ClientRecord, Finding, PortOutcome};
use std::net::IpAddr;

/// Most ports of one client that are kept: sixteen gates name sixty-four each.
pub const FINDINGS_MAX: usize = 1024;
/// Port, outcome and end.
const FINDING_BYTES: usize = 11;

const WHAT: &str = "a client";

/// The number of an outcome in a finding.
const fn outcome_number(outcome: PortOutcome) -> u8 {
    match outcome {
        PortOutcome::Refused => 0,
        PortOutcome::Unreachable => 1,
        PortOutcome::Silent => 2,
        PortOutcome::Open => 3,
        PortOutcome::Service => 4,
        PortOutcome::HttpProxy => 5,
        PortOutcome::Socks4Proxy => 6,
        PortOutcome::Socks5Proxy => 7,
    }
}

const fn outcome_of(number: u8) -> Option<PortOutcome> {
    Some(match number {
        0 => PortOutcome::Refused,
        1 => PortOutcome::Unreachable,
        2 => PortOutcome::Silent,
        3 => PortOutcome::Open,
        4 => PortOutcome::Service,
        5 => PortOutcome::HttpProxy,
        6 => PortOutcome::Socks4Proxy,
        7 => PortOutcome::Socks5Proxy,
        _ => return None,
    })
}

pub fn client_key(client: IpAddr) -> Key {
    Key::EMPTY.with_source(client)
}

/// In `clients-by-seen`.
pub fn client_seen_key(seen: UnixMillis, client: IpAddr) -> Key {
    Key::EMPTY.with(&seen.0.to_be_bytes()).with_source(client)
}

pub fn parse_client_seen_key(key: &[u8]) -> Result<(UnixMillis, IpAddr), RecordError> {
    let mut fields = Fields::of("the key of a client by the time it was seen", key);
    let parsed = (UnixMillis(fields.u64()?), fields.source()?);
    fields.end().map(|()| parsed)
}

/// Whether a record is as its type promises: it is written as it stands, and read only so.
pub fn is_storable(record: &ClientRecord) -> bool {
    let findings = &record.findings;
    (1..=FINDINGS_MAX).contains(&findings.len())
        && findings.is_sorted_by(|a, b| a.port < b.port)
        && record.client.to_canonical() == record.client
}

pub fn client_value(record: &ClientRecord) -> Vec<u8> {
    let mut value = Vec::with_capacity(8 + record.findings.len() * FINDING_BYTES);
    value.extend(record.seen.0.to_be_bytes());
    for finding in &record.findings {
        value.extend(finding.port.to_be_bytes());
        value.push(outcome_number(finding.outcome));
        value.extend(finding.until.0.to_be_bytes());
    }
    value
}

/// When a client was seen last, without reading what was found.
pub(crate) fn client_seen(value: &[u8]) -> Result<UnixMillis, RecordError> {
    Ok(UnixMillis(Fields::of(WHAT, value).u64()?))
}

pub fn parse_client(key: &[u8], value: &[u8]) -> Result<ClientRecord, RecordError> {
    let mut fields = Fields::of("the key of a client", key);
    let client = fields.source()?;
    fields.end()?;
    let mut fields = Fields::of(WHAT, value);
    let seen = UnixMillis(fields.u64()?);
    let (findings, []) = fields.rest().as_chunks::<FINDING_BYTES>() else {
        return Err(RecordError::Length { what: WHAT, bytes: value.len() });
    };
    let findings = findings.iter().map(parse_finding).collect::<Result<_, _>>()?;
    let record = ClientRecord { client, seen, findings };
    if is_storable(&record) { Ok(record) } else { Err(disorder(&record)) }
}

fn parse_finding(bytes: &[u8; FINDING_BYTES]) -> Result<Finding, RecordError> {
    let mut fields = Fields::of(WHAT, bytes);
    let port = fields.u16()?;
    let number = fields.u8()?;
    let outcome = outcome_of(number).ok_or_else(|| fields.wrong("outcome", number.into()))?;
    Ok(Finding { port, outcome, until: UnixMillis(fields.u64()?) })
}

fn disorder(record: &ClientRecord) -> RecordError {
    let value = record.findings.len() as u64;
    RecordError::Field {
        what: WHAT,
        field: "none, too many or disordered ports, or a mapped address; ports",
        value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(client: &str, ports: &[u16]) -> ClientRecord {
        let finding = |(place, port): (usize, &u16)| Finding {
            port: *port,
            outcome: PortOutcome::ALL[place % PortOutcome::ALL.len()],
            until: UnixMillis(0x0102_0304_0506_0708 + place as u64),
        };
        ClientRecord {
            client: client.parse().unwrap(),
            seen: UnixMillis(9),
            findings: ports.iter().enumerate().map(finding).collect(),
        }
    }

    #[test]
    fn a_client_survives_its_bytes() {
        for client in ["0.0.0.0", "203.0.113.9", "::", "2001:db8::1"] {
            for ports in [&[0][..], &[22, 80, 443, 1080, 3128, 8000, 8080, 9999, 65_535]] {
                let record = record(client, ports);
                let read = parse_client(&client_key(record.client), &client_value(&record)).unwrap();
                assert_eq!(read, record);
                let key = client_seen_key(record.seen, record.client);
                assert_eq!(parse_client_seen_key(&key).unwrap(), (record.seen, record.client));
            }
        }
    }

    #[test]
    fn the_bytes_of_a_client_are_those_documented() {
        let record = record("203.0.113.9", &[22, 3128]);
        assert_eq!(*client_key(record.client), [4, 203, 0, 113, 9]);
        assert_eq!(*client_seen_key(record.seen, record.client), [0, 0, 0, 0, 0, 0, 0, 9, 4, 203, 0, 113, 9]);
        let bytes = [
            &[0, 0, 0, 0, 0, 0, 0, 9][..],
            &[0, 22, 0, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0x0c, 0x38, 1, 1, 2, 3, 4, 5, 6, 7, 9],
        ];
        assert_eq!(client_value(&record), bytes.concat());
        assert_eq!(client_seen(&client_value(&record)).unwrap(), record.seen);
    }

    #[test]
    fn every_outcome_has_a_number_of_its_own() {
        for outcome in PortOutcome::ALL {
            assert_eq!(outcome_of(outcome_number(outcome)), Some(outcome));
        }
        assert_eq!(outcome_of(PortOutcome::ALL.len() as u8), None);
    }

    #[test]
    fn records_that_no_gate_makes_are_not_stored() {
        assert!(is_storable(&record("203.0.113.9", &[22, 80])));
        let all: Vec<u16> = (0..=FINDINGS_MAX as u16).collect();
        for (client, ports) in [
            ("203.0.113.9", &[][..]),
            ("203.0.113.9", &[80, 22]),
            ("203.0.113.9", &[22, 22]),
            ("203.0.113.9", &all),
            ("::ffff:203.0.113.9", &[22]),
        ] {
            let record = record(client, ports);
            assert!(!is_storable(&record), "{client} {ports:?}");
            assert!(parse_client(&client_key(record.client), &client_value(&record)).is_err());
        }
    }

    #[test]
    fn foreign_bytes_are_errors() {
        let record = record("203.0.113.9", &[22, 80]);
        let (key, value) = (client_key(record.client), client_value(&record));
        for length in (0..value.len()).filter(|length| *length != 8 + FINDING_BYTES) {
            assert!(parse_client(&key, &value[..length]).is_err(), "{length} bytes");
        }
        assert!(parse_client(&key[..4], &value).is_err());
        assert!(parse_client(&key.with(&[0]), &value).is_err());
        let mut bad = value;
        bad[10] = 8;
        assert!(parse_client(&key, &bad).is_err());
        assert!(parse_client_seen_key(&key).is_err());
    }
}
