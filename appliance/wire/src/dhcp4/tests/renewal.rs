//! What happens to a lease over its time. The bench's lease was requested at 101 s, for an hour.

use super::super::{Input, Loss, Output, Rejection};
use super::*;

const ASKED_AT: u64 = 101;
const FROM_HELD: Destination = Destination::Broadcast { source: ADDRESS };
const TO_SERVER: Destination = Destination::Unicast { source: ADDRESS, server: SERVER };

#[test]
fn at_t1_the_server_is_asked_directly_and_its_answer_starts_the_lease_anew() {
    let (mut bench, _) = Bench::bound();
    let (renew, to) = sent(&bench.fire());
    assert_eq!(bench.now.as_secs(), ASKED_AT + 1800);
    assert_eq!((kind(&renew), to), (MessageType::Request, TO_SERVER));
    assert_eq!(renew.ciaddr(), ADDRESS);
    assert_eq!((requested(&renew), server_of(&renew)), (None, None));

    let mut ack = answer(&renew, MessageType::Ack);
    ack.opts_mut().insert(DhcpOption::AddressLeaseTime(7200));
    let lease = configured(&bench.receive(&ack)).unwrap();
    assert_eq!(lease.duration.as_secs(), 7200);
    assert_eq!(bench.timer.as_secs(), ASKED_AT + 1800 + 3600);
}

#[test]
fn without_answer_the_client_rebinds_at_t2_and_gives_up_at_the_end() {
    let (mut bench, _) = Bench::bound();
    let mut sendings = Vec::new();
    let lost_at = loop {
        let outputs = bench.fire();
        let (message, to) = sent(&outputs);
        if outputs.contains(&Output::Deconfigure(Loss::Expired)) {
            assert_eq!(kind(&message), MessageType::Discover);
            break bench.now.as_secs() - ASKED_AT;
        }
        sendings.push((bench.now.as_secs() - ASKED_AT, to));
    };
    assert_eq!(lost_at, 3600);
    assert_eq!(bench.client.lease(), None);
    let at = |to| sendings.iter().filter(|s| s.1 == to).map(|s| s.0).collect::<Vec<_>>();
    assert_eq!(at(TO_SERVER), [1800, 2475, 2812, 2981, 3065, 3125]);
    assert_eq!(at(FROM_HELD), [3150, 3375, 3487, 3547]);
    assert_eq!(sendings.len(), 10);
}

#[test]
fn while_rebinding_any_server_may_extend_or_refuse() {
    let (mut bench, _) = Bench::bound();
    while sent(&bench.fire()).1 != FROM_HELD {}
    let mut refusing = bench.client.clone();

    bench.now += Duration::from_secs(1);
    let (rebind, _) = sent(&bench.fire());
    let mut ack = answer(&rebind, MessageType::Ack);
    ack.opts_mut().insert(DhcpOption::ServerIdentifier(OTHER_SERVER));
    assert_eq!(configured(&bench.receive(&ack)).unwrap().server, OTHER_SERVER);

    let mut nak = answer(&rebind, MessageType::Nak);
    nak.opts_mut().insert(DhcpOption::ServerIdentifier(OTHER_SERVER));
    let outputs = refusing.handle(Input::Packet(&bytes(&nak)), bench.now, 0);
    assert_eq!(outputs[0], Output::Deconfigure(Loss::Refused(OTHER_SERVER)));
}

#[test]
fn a_nak_while_renewing_takes_the_lease_away() {
    let (mut bench, _) = Bench::bound();
    let (renew, _) = sent(&bench.fire());
    let outputs = bench.receive(&answer(&renew, MessageType::Nak));
    assert_eq!(outputs[0], Output::Deconfigure(Loss::Refused(SERVER)));
    assert!(bench.timer > bench.now);
    assert_eq!(kind(&sent(&bench.fire()).0), MessageType::Discover);
}

#[test]
fn a_renewal_for_another_address_is_not_taken() {
    let (mut bench, lease) = Bench::bound();
    let (renew, _) = sent(&bench.fire());
    let mut ack = answer(&renew, MessageType::Ack);
    ack.set_yiaddr(Ipv4Addr::new(192, 0, 2, 99));
    assert_eq!(bench.receive(&ack), [Output::Ignored(Rejection::OtherAddress)]);
    assert_eq!(bench.client.lease(), Some(&lease));
}

#[test]
fn a_bound_client_listens_to_nobody() {
    let (mut bench, lease) = Bench::bound();
    let (renew, _) = sent(&bench.client.clone().handle(Input::Renew, bench.now, 7));
    for kind in [MessageType::Nak, MessageType::Ack, MessageType::Offer] {
        let outputs = bench.receive(&answer(&renew, kind));
        assert_eq!(outputs, [Output::Ignored(Rejection::UnexpectedType)]);
    }
    assert_eq!(bench.client.lease(), Some(&lease));
}

#[test]
fn a_renewal_on_demand_that_fails_waits_for_t1_again() {
    let (mut bench, lease) = Bench::bound();
    let renew_at = bench.timer;
    let (renew, to) = sent(&bench.step(Input::Renew));
    assert_eq!((kind(&renew), to), (MessageType::Request, TO_SERVER));
    let due = bench.timer;
    assert_eq!(bench.step(Input::Renew), [Output::SetTimer(due)], "asked already");
    assert_eq!(bench.fire(), [Output::SetTimer(renew_at)]);
    assert_eq!(bench.client.lease(), Some(&lease));
}

#[test]
fn an_answer_to_the_third_renewal_counts_from_the_third() {
    let (mut bench, _) = Bench::bound();
    bench.fire();
    bench.fire();
    let (renew, _) = sent(&bench.fire());
    let asked_at = bench.now;
    bench.now += Duration::from_secs(2);
    bench.receive(&answer(&renew, MessageType::Ack));
    assert_eq!(bench.timer, asked_at + Duration::from_secs(1800));
}
