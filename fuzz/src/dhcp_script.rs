//! Bytes as a script for the DHCP client.
//!
//! One byte says what happens: 0 the timer fires when it is due, 1 the link comes up, 2 a renewal is asked for;
//! any other brings a packet of the length that the next two bytes give, big-endian, as far as there are bytes.

use glacis_wire::dhcp4::{Client, DNS_SERVERS_MAX, Input, Lease, OUTPUTS_MAX, Output, ROUTES_MAX};
use std::time::Duration;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
/// Transaction id 0x12345678 for every exchange, so that a packet in the corpus can answer.
const RANDOM: u64 = (1000 << 32) | 0x1234_5678;
const EVENTS_MAX: usize = 64;

/// Plays a script and returns how many leases were taken.
///
/// # Panics
/// When the client breaks one of its promises.
pub fn play(mut script: &[u8]) -> usize {
    let mut client = Client::new(MAC);
    let mut now = Duration::from_secs(1);
    let mut due = now;
    let mut leases = 0;
    for _ in 0..EVENTS_MAX {
        let [event, rest @ ..] = script else { break };
        script = rest;
        let input = match event {
            0 => {
                now = now.max(due);
                Input::Timer
            }
            1 => Input::LinkUp,
            2 => Input::Renew,
            _ => {
                let [high, low, rest @ ..] = script else { break };
                let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
                let (packet, rest) = rest.split_at(length);
                script = rest;
                Input::Packet(packet)
            }
        };
        let outputs = client.handle(input, now, RANDOM);
        assert!(outputs.len() <= OUTPUTS_MAX, "{outputs:?}");
        for output in outputs {
            match output {
                Output::SetTimer(at) => due = at,
                Output::Configure(lease) => {
                    assert_safe(&lease);
                    assert_eq!(client.lease(), Some(&lease));
                    leases += 1;
                }
                Output::Deconfigure(_) => assert_eq!(client.lease(), None),
                Output::Send { payload, .. } => assert!(payload.len() >= 300),
                Output::Ignored(_) => {}
            }
        }
    }
    leases
}

fn assert_safe(lease: &Lease) {
    let first = lease.address.addr().octets()[0];
    assert!(first != 0 && first != 127 && first < 224, "{lease:?}");
    assert!((8..=32).contains(&lease.address.prefix_len()), "{lease:?}");
    assert!((60..=30 * 86400).contains(&lease.duration.as_secs()), "{lease:?}");
    assert!(lease.renew_after < lease.rebind_after && lease.rebind_after < lease.duration, "{lease:?}");
    assert!(lease.mtu.is_none_or(|mtu| (1280..=9216).contains(&mtu)), "{lease:?}");
    assert!(lease.dns.len() <= DNS_SERVERS_MAX && lease.routes.len() <= 2 * ROUTES_MAX, "{lease:?}");
}
