//! From nothing to a lease, and the ways in which that does not go through at once.

use super::super::{Input, Loss, Output, Rejection};
use super::*;

#[test]
fn an_undisturbed_exchange_gives_the_lease_that_was_offered() {
    let mut bench = Bench::new();

    let (discover, to) = sent(&bench.fire());
    assert_eq!(kind(&discover), MessageType::Discover);
    assert_eq!(to, BROADCAST);
    assert_eq!(discover.xid(), 0x1234_5678);
    assert_eq!(discover.chaddr(), MAC);
    assert!(!discover.flags().broadcast());
    assert_eq!(requested(&discover), None);

    bench.now += Duration::from_secs(1);
    let (request, to) = sent(&bench.receive(&answer(&discover, MessageType::Offer)));
    assert_eq!(kind(&request), MessageType::Request);
    assert_eq!(to, BROADCAST);
    assert_eq!(request.xid(), discover.xid());
    assert_eq!(requested(&request), Some(ADDRESS));
    assert_eq!(server_of(&request), Some(SERVER));
    assert_eq!(request.ciaddr(), Ipv4Addr::UNSPECIFIED);

    let asked_at = bench.now;
    bench.now += Duration::from_secs(1);
    let outputs = bench.receive(&answer(&request, MessageType::Ack));
    let lease = configured(&outputs).unwrap();
    assert_eq!(lease.address.to_string(), "192.0.2.50/24");
    assert_eq!(lease.server, SERVER);
    assert_eq!(lease.router(), Some(SERVER));
    assert_eq!(lease.dns, [SERVER, OTHER_SERVER]);
    assert_eq!(lease.duration, Duration::from_secs(3600));
    assert_eq!(bench.timer, asked_at + Duration::from_secs(1800), "T1 counts from the request");
    assert_eq!(bench.client.lease(), Some(&lease));
}

#[test]
fn a_lost_discover_is_repeated_ever_more_slowly_with_the_same_id() {
    let mut bench = Bench::new();
    let (first, _) = sent(&bench.fire());
    let mut waits = Vec::new();
    for _ in 0..6 {
        waits.push(bench.timer.saturating_sub(bench.now).as_secs());
        let (again, _) = sent(&bench.fire());
        assert_eq!((kind(&again), again.xid()), (MessageType::Discover, first.xid()));
        assert_eq!(u64::from(again.secs()), (bench.now.as_secs() - 100));
    }
    assert_eq!(waits, [4, 8, 16, 32, 64, 64]);
}

#[test]
fn a_lost_request_is_repeated_four_times_and_then_another_offer_is_sought() {
    let mut bench = Bench::new();
    let (discover, _) = sent(&bench.fire());
    let (request, _) = sent(&bench.receive(&answer(&discover, MessageType::Offer)));
    for _ in 0..3 {
        let (again, _) = sent(&bench.fire());
        assert_eq!((kind(&again), again.xid()), (MessageType::Request, request.xid()));
    }
    let (fresh, _) = sent(&bench.fire());
    assert_eq!(kind(&fresh), MessageType::Discover);
    assert_ne!(fresh.xid(), discover.xid());
}

#[test]
fn a_timer_that_comes_early_changes_nothing() {
    let mut bench = Bench::new();
    bench.fire();
    let due = bench.timer;
    bench.now = due.saturating_sub(Duration::from_millis(1));
    assert_eq!(bench.step(Input::Timer), [Output::SetTimer(due)]);
}

#[test]
fn a_nak_to_the_request_starts_over_after_a_growing_pause() {
    let mut bench = Bench::new();
    let mut pauses = Vec::new();
    for _ in 0..3 {
        let (discover, _) = sent(&bench.fire());
        assert_eq!(kind(&discover), MessageType::Discover);
        let (request, _) = sent(&bench.receive(&answer(&discover, MessageType::Offer)));
        let outputs = bench.receive(&answer(&request, MessageType::Nak));
        assert_eq!(outputs, [Output::SetTimer(bench.timer)], "nothing was held, nothing is lost");
        pauses.push(bench.timer.saturating_sub(bench.now).as_secs());
    }
    assert_eq!(pauses, [2, 4, 8]);
}

#[test]
fn answers_of_others_are_ignored_and_the_right_one_still_taken() {
    let mut bench = Bench::new();
    let (discover, _) = sent(&bench.fire());
    let offer = answer(&discover, MessageType::Offer);

    let mut wrong = offer.clone();
    wrong.set_xid(offer.xid() ^ 1);
    assert_eq!(bench.receive(&wrong), [Output::Ignored(Rejection::OtherExchange)]);
    let mut wrong = offer.clone();
    wrong.set_chaddr(&[2, 0, 0, 0, 0, 8]);
    assert_eq!(bench.receive(&wrong), [Output::Ignored(Rejection::OtherClient)]);
    let mut wrong = offer.clone();
    wrong.set_opcode(Opcode::BootRequest);
    assert_eq!(bench.receive(&wrong), [Output::Ignored(Rejection::Malformed)]);
    let mut wrong = offer.clone();
    wrong.opts_mut().remove(OptionCode::ServerIdentifier);
    assert_eq!(bench.receive(&wrong), [Output::Ignored(Rejection::NoServer)]);
    assert_eq!(
        bench.receive(&answer(&discover, MessageType::Ack)),
        [Output::Ignored(Rejection::UnexpectedType)]
    );

    let (request, _) = sent(&bench.receive(&offer));
    let mut wrong = answer(&request, MessageType::Ack);
    wrong.opts_mut().insert(DhcpOption::ServerIdentifier(OTHER_SERVER));
    assert_eq!(bench.receive(&wrong), [Output::Ignored(Rejection::OtherServer)]);
    let mut wrong = answer(&request, MessageType::Nak);
    wrong.opts_mut().insert(DhcpOption::ServerIdentifier(OTHER_SERVER));
    assert_eq!(bench.receive(&wrong), [Output::Ignored(Rejection::OtherServer)]);
    let mut wrong = answer(&request, MessageType::Ack);
    wrong.set_yiaddr(Ipv4Addr::new(192, 0, 2, 51));
    assert_eq!(bench.receive(&wrong), [Output::Ignored(Rejection::OtherAddress)]);

    assert!(configured(&bench.receive(&answer(&request, MessageType::Ack))).is_some());
}

#[test]
fn an_unusable_offer_does_not_end_the_search() {
    let mut bench = Bench::new();
    let (discover, _) = sent(&bench.fire());
    let mut offer = answer(&discover, MessageType::Offer);
    offer.opts_mut().insert(DhcpOption::AddressLeaseTime(59));
    let outputs = bench.receive(&offer);
    assert!(matches!(outputs[..], [Output::Ignored(Rejection::Lease(_))]), "{outputs:?}");
    sent(&bench.receive(&answer(&discover, MessageType::Offer)));
}

#[test]
fn carrier_on_another_network_gives_up_the_address_at_its_nak() {
    let (mut bench, _) = Bench::bound();
    let (reboot, to) = sent(&bench.step(Input::LinkUp));
    assert_eq!((kind(&reboot), to), (MessageType::Request, BROADCAST));
    assert_eq!((requested(&reboot), server_of(&reboot)), (Some(ADDRESS), None));

    let mut nak = answer(&reboot, MessageType::Nak);
    nak.opts_mut().insert(DhcpOption::ServerIdentifier(OTHER_SERVER));
    let outputs = bench.receive(&nak);
    assert_eq!(outputs[0], Output::Deconfigure(Loss::Refused(OTHER_SERVER)));
    assert_eq!(bench.client.lease(), None);
    assert_eq!(kind(&sent(&bench.fire()).0), MessageType::Discover);
}

#[test]
fn carrier_on_the_same_network_confirms_the_lease() {
    let (mut bench, lease) = Bench::bound();
    let (reboot, _) = sent(&bench.step(Input::LinkUp));
    assert_eq!(configured(&bench.receive(&answer(&reboot, MessageType::Ack))), Some(lease));
}

#[test]
fn silence_after_carrier_keeps_the_lease_and_its_times() {
    let (mut bench, lease) = Bench::bound();
    let renew_at = bench.timer;
    bench.step(Input::LinkUp);
    sent(&bench.fire());
    assert_eq!(bench.fire(), [Output::SetTimer(renew_at)]);
    assert_eq!(bench.client.lease(), Some(&lease));
    assert_eq!(kind(&sent(&bench.fire()).0), MessageType::Request);
}

#[test]
fn carrier_during_a_search_searches_anew() {
    let mut bench = Bench::new();
    let (discover, _) = sent(&bench.fire());
    let stale = answer(&discover, MessageType::Offer);
    let (fresh, _) = sent(&bench.step(Input::LinkUp));
    assert_ne!(fresh.xid(), discover.xid());
    assert_eq!(bench.receive(&stale), [Output::Ignored(Rejection::OtherExchange)]);
}
