//! Bytes that no good server sends: nothing panics, and no lease is out of its bounds.

use super::super::{DNS_SERVERS_MAX, Input, Output, ROUTES_MAX, Rejection};
use super::*;

/// A 64-bit linear congruential generator (Knuth's constants): repeatable, no dependency.
struct Lcg(u64);

impl Lcg {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

fn assert_within_bounds(lease: &Lease) {
    let octets = lease.address.addr().octets();
    assert!(octets[0] != 0 && octets[0] != 127 && octets[0] < 224, "{lease:?}");
    assert!((8..=32).contains(&lease.address.prefix_len()), "{lease:?}");
    assert!(lease.duration >= Duration::from_secs(60), "{lease:?}");
    assert!(lease.duration <= Duration::from_secs(30 * 86400), "{lease:?}");
    assert!(lease.renew_after < lease.rebind_after && lease.rebind_after < lease.duration, "{lease:?}");
    assert!(lease.mtu.is_none_or(|mtu| (1280..=9216).contains(&mtu)), "{lease:?}");
    assert!(lease.dns.len() <= DNS_SERVERS_MAX && lease.routes.len() <= 2 * ROUTES_MAX, "{lease:?}");
}

#[test]
fn a_hardware_length_beyond_the_field_is_another_client_and_no_panic() {
    let mut bench = Bench::new();
    let (discover, _) = sent(&bench.fire());
    let mut packet = bytes(&answer(&discover, MessageType::Offer));
    for length in [0, 5, 7, 16, 17, 255] {
        packet[2] = length;
        assert_eq!(bench.step(Input::Packet(&packet)), [Output::Ignored(Rejection::OtherClient)]);
    }
}

#[test]
fn every_truncation_of_every_reply_is_survived() {
    let mut bench = Bench::new();
    let (discover, _) = sent(&bench.fire());
    let offer = bytes(&answer(&discover, MessageType::Offer));
    for length in 0..offer.len() {
        let outputs = bench.client.clone().handle(Input::Packet(&offer[..length]), bench.now, 1);
        assert!(length >= 240 || outputs == [Output::Ignored(Rejection::Malformed)], "length {length}");
    }
    let long = [offer, vec![0; 1500]].concat();
    assert_eq!(bench.step(Input::Packet(&long)), [Output::Ignored(Rejection::Malformed)]);
}

#[test]
fn twenty_thousand_mutated_replies_never_panic_nor_break_a_bound() {
    let mut random = Lcg(0x61_6c_61_63_69_73);
    let mut taken = 0;
    for round in 0..20_000 {
        let mut bench = Bench::new();
        let (discover, _) = sent(&bench.fire());
        let offer = mutated(bytes(&answer(&discover, MessageType::Offer)), &mut random);
        let outputs = bench.step(Input::Packet(&offer));
        let request = if outputs.iter().any(|o| matches!(o, Output::Send { .. })) {
            sent(&outputs).0
        } else {
            sent(&bench.receive(&answer(&discover, MessageType::Offer))).0
        };
        let mut ack = answer(&request, MessageType::Ack);
        ack.set_yiaddr(requested(&request).unwrap_or(ADDRESS));
        let ack = mutated(bytes(&ack), &mut random);
        if let Some(lease) = configured(&bench.step(Input::Packet(&ack))) {
            assert_within_bounds(&lease);
            taken += 1;
        }
        assert!(bench.timer > bench.now, "round {round}: a client without a timer hangs");
    }
    assert!((2_000..19_500).contains(&taken), "{taken} taken: the mutations test one side only");
}

/// Changes one to four bytes, half of them among the options, and now and then cuts the end.
fn mutated(mut packet: Vec<u8>, random: &mut Lcg) -> Vec<u8> {
    for _ in 0..=random.below(4) {
        let start = if random.below(2) == 0 { 0 } else { 240 };
        let at = start + random.below(packet.len() - start);
        packet[at] = [0, 1, 4, 0x7f, 0xff, random.below(256) as u8][random.below(6)];
    }
    if random.below(8) == 0 {
        packet.truncate(241 + random.below(packet.len() - 241));
    }
    packet
}
