//! What foreign bytes may not do to a parser; shared by the fuzz targets and the test that replays their corpora.
//!
//! Every function takes whatever bytes come and panics when a promise is broken. What it returns tells the replay how
//! far the bytes got.

pub mod dhcp_script;
pub mod gate;
pub mod store;

use glacis_control::message::StatusFeed;
use glacis_control::{Reply, Request, frame};
use glacis_plan::nft::Elements;
use glacis_policy::{Facts, Theme, compile, parse};
use glacis_wire::udp4::{self, Checksum, Datagram};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

const LISTED: &str = r#"policy version=1
interface wan { address "192.0.2.1/24" }
zone internet { from wan }
blocklist bad file="bad.txt" { apply drop in=internet out=internet }
"#;

/// The file of a blocklist compiles to ascending, disjoint ranges, or every error of it can be shown. Returns the number
/// of ranges.
pub fn blocklist(bytes: &[u8]) -> Option<usize> {
    let policy = parse("fuzz.kdl", LISTED.as_bytes()).expect("the policy around the list is right");
    let facts = Facts { lists: [("bad.txt".to_owned(), Ok(bytes.to_vec()))].into(), ..Facts::default() };
    match compile(&policy, &facts) {
        Ok(compiled) => {
            let sets = compiled.plan.ruleset.tables.iter().flat_map(|table| &table.sets);
            let listed = sets.filter(|set| set.name.as_str().starts_with("list."));
            let counts = listed.map(|set| match &set.elements {
                Elements::Ipv4Ranges(ranges) => ascending(ranges),
                Elements::Ipv6Ranges(ranges) => ascending(ranges),
                other => panic!("a list is made of ranges: {other:?}"),
            });
            Some(counts.sum())
        }
        Err(errors) => {
            assert!(!errors.is_empty(), "refused without an error");
            assert!(errors.iter().all(|error| !error.to_string().is_empty()), "{errors:?}");
            None
        }
    }
}

/// Returns how many there are.
fn ascending<A: Ord + Copy + Debug>(ranges: &[(A, A)]) -> usize {
    assert!(ranges.iter().all(|(first, last)| first <= last), "{ranges:?}");
    assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0), "{ranges:?}");
    ranges.len()
}

/// The bytes of a policy are a policy, or a report that can be drawn. Returns whether it is one.
pub fn policy(bytes: &[u8]) -> bool {
    let Err(report) = parse("fuzz.kdl", bytes) else { return true };
    assert!(report.count() > 0, "an error without a problem");
    let lines = report.source().text().lines().count() as u32 + 1;
    for problem in report.problems() {
        assert!(report.source().line_of(problem.span()) <= lines);
    }
    assert!(!report.render(Theme::Plain).is_empty());
    false
}

/// The body of a frame, whoever it is for, is refused or comes back the same from the wire. Returns who understands it.
pub fn control(bytes: &[u8]) -> Vec<&'static str> {
    let understood = [
        ("request", survives_the_wire::<Request>(bytes)),
        ("reply", survives_the_wire::<Reply>(bytes)),
        ("feed", survives_the_wire::<StatusFeed>(bytes)),
    ];
    understood.into_iter().filter(|(_, understood)| *understood).map(|(name, _)| name).collect()
}

fn survives_the_wire<T: Serialize + DeserializeOwned + PartialEq + Debug>(body: &[u8]) -> bool {
    let Ok(message) = frame::decode::<T>(body) else { return false };
    let sent = frame::encode(&message).expect("what fitted a frame fits one");
    let (header, body) = sent.split_first_chunk().expect("a frame has a header");
    assert_eq!(frame::body_length(*header).expect("within the bound"), body.len());
    assert_eq!(frame::decode::<T>(body).expect("of this version"), message);
    true
}

/// A packet is refused or is a datagram within it, which can be sent. Returns the length of its payload.
pub fn udp4(packet: &[u8]) -> Option<usize> {
    let complete = udp4::decode(packet, Checksum::Complete);
    let unfinished = udp4::decode(packet, Checksum::NotReady);
    if let Ok(datagram) = complete {
        assert_eq!(unfinished, Ok(datagram), "a right checksum makes a packet worse");
    }
    let Datagram { source, destination, payload } = unfinished.ok()?;
    assert!(packet.as_ptr_range().start <= payload.as_ptr() && payload.len() <= packet.len() - 28);
    let sent = udp4::encode(&Datagram { source, destination, payload }).expect("it came in one packet");
    assert_eq!(udp4::decode(&sent, Checksum::Complete), Ok(Datagram { source, destination, payload }));
    complete.ok().map(|datagram| datagram.payload.len())
}
