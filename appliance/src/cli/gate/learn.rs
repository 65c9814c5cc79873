//! What another appliance printed, read back.

use glacis_control::UnixMillis;
use glacis_control::gate::{ClientRecord, Finding};
use serde::Deserialize;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Longest input: the book of a gate with the usual ports is some 25 MB at most.
const INPUT_BYTES_MAX: u64 = 64 << 20;
/// Most ports of one client; the store keeps no more.
const FINDINGS_MAX: usize = 1024;

#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    #[error("cannot read {}: {cause}", path.display())]
    Read { path: PathBuf, cause: io::Error },
    #[error("{} is longer than {} MiB; learn it in parts", path.display(), INPUT_BYTES_MAX >> 20)]
    TooLong { path: PathBuf },
    #[error("{}: {cause}. It must be what `glacis gate verdicts --json` or `--jsonl` prints", path.display())]
    Json { path: PathBuf, cause: serde_json::Error },
    #[error("{}: record {number} {wrong}; nothing was learned", path.display())]
    Record { path: PathBuf, number: usize, wrong: String },
}

/// A document with many records, or one record: both are objects.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    records: Option<Vec<ClientRecord>>,
    #[serde(rename = "clients")]
    _clients: Option<u64>,
    client: Option<IpAddr>,
    seen: Option<UnixMillis>,
    findings: Option<Vec<Finding>>,
}

/// All records of a file; `-` is standard input.
pub fn read(path: &Path) -> Result<Vec<ClientRecord>, LearnError> {
    let unreadable = |cause| LearnError::Read { path: path.to_owned(), cause };
    let mut text = String::new();
    let bounded = INPUT_BYTES_MAX + 1;
    let length = if path.as_os_str() == "-" {
        io::stdin().lock().take(bounded).read_to_string(&mut text)
    } else {
        File::open(path).and_then(|file| file.take(bounded).read_to_string(&mut text))
    };
    if length.map_err(unreadable)? as u64 > INPUT_BYTES_MAX {
        return Err(LearnError::TooLong { path: path.to_owned() });
    }
    parse(path, &text)
}

fn parse(path: &Path, text: &str) -> Result<Vec<ClientRecord>, LearnError> {
    let wrong =
        |number, wrong: &str| LearnError::Record { path: path.to_owned(), number, wrong: wrong.to_owned() };
    let mut records = Vec::new();
    for entry in serde_json::Deserializer::from_str(text).into_iter() {
        let entry: Entry = entry.map_err(|cause| LearnError::Json { path: path.to_owned(), cause })?;
        match entry {
            Entry { records: Some(listed), client: None, seen: None, findings: None, .. } => {
                records.extend(listed);
            }
            Entry {
                records: None, client: Some(client), seen: Some(seen), findings: Some(findings), ..
            } => {
                records.push(ClientRecord { client, seen, findings });
            }
            _ => return Err(wrong(records.len() + 1, "needs `client`, `seen` and `findings`")),
        }
    }
    for (index, record) in records.iter().enumerate() {
        if let Some(fault) = fault(record) {
            return Err(wrong(index + 1, &format!("({}) {fault}", record.client)));
        }
    }
    Ok(records)
}

/// What no gate writes.
fn fault(record: &ClientRecord) -> Option<&'static str> {
    if record.client.to_canonical() != record.client {
        Some("has an IPv4 address written as IPv6")
    } else if record.findings.is_empty() {
        Some("has no findings")
    } else if record.findings.len() > FINDINGS_MAX {
        Some("has more than 1024 findings")
    } else if !record.findings.is_sorted_by(|a, b| a.port < b.port) {
        Some("has findings that are not in the order of their ports")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glacis_control::gate::PortOutcome;

    fn record(client: &str, ports: usize) -> ClientRecord {
        let finding = |port| Finding { port, outcome: PortOutcome::Silent, until: UnixMillis(9) };
        ClientRecord {
            client: client.parse().unwrap(),
            seen: UnixMillis(5),
            findings: (0..ports as u16).map(finding).collect(),
        }
    }

    fn learned(text: &str) -> Result<Vec<ClientRecord>, String> {
        parse(Path::new("book.json"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn b16_both_forms_that_verdicts_prints_are_read() {
        let records = [record("192.0.2.1", 3), record("2001:db8::1", 1)];
        let document = serde_json::json!({ "records": records, "clients": 77 });
        assert_eq!(learned(&serde_json::to_string_pretty(&document).unwrap()).unwrap(), records);
        let lines = records.each_ref().map(|record| serde_json::to_string(record).unwrap());
        assert_eq!(learned(&lines.join("\n")).unwrap(), records);
        assert_eq!(learned("{\"records\":[],\"clients\":0}\n").unwrap(), []);
        assert_eq!(learned("").unwrap(), []);
    }

    #[test]
    fn b16_what_no_gate_wrote_is_refused_with_its_place() {
        let line = |record: &ClientRecord| serde_json::to_string(record).unwrap() + "\n";
        let good = line(&record("192.0.2.1", 2));
        let mut twice = record("192.0.2.2", 2);
        twice.findings[1].port = 0;
        for (bad, why) in [
            ("{\"client\":\"192.0.2.2\"}".to_owned(), "record 2 needs `client`, `seen` and `findings`"),
            ("{\"scans\":[]}".into(), "unknown field `scans`"),
            ("{\"client\":\"example.org\"".into(), "line 2 column"),
            ("CLIENT  VERDICT".into(), "line 2 column"),
            ("[]".into(), "`--jsonl` prints"),
            (good.replace("silent", "closed"), "unknown variant `closed`"),
            (good[..20].to_owned(), "EOF"),
            (line(&record("192.0.2.2", 0)), "record 2 (192.0.2.2) has no findings"),
            (line(&record("192.0.2.2", FINDINGS_MAX + 1)), "more than 1024"),
            (line(&twice), "not in the order"),
            (line(&record("::ffff:192.0.2.2", 1)), "IPv4 address written as IPv6"),
        ] {
            let error = learned(&(good.clone() + &bad)).unwrap_err();
            assert!(error.starts_with("book.json: ") && error.contains(why), "{bad}: {error}");
        }
    }
}
