use super::super::message::Verdict;
use super::*;

fn reply(address: [u8; 4], change: impl FnOnce(&mut Options)) -> Reply {
    let mut options = Options {
        mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
        lease_seconds: Some(3600),
        ..Options::default()
    };
    change(&mut options);
    Reply { verdict: Verdict::Ack, server: Ipv4Addr::new(10, 0, 0, 1), address: address.into(), options }
}

fn lease(change: impl FnOnce(&mut Options)) -> Result<Lease, LeaseError> {
    Lease::from_reply(&reply([10, 0, 0, 50], change))
}

fn times(lease_seconds: u32, t1: Option<u32>, t2: Option<u32>) -> (u64, u64) {
    let lease = lease(|o| {
        o.lease_seconds = Some(lease_seconds);
        o.renewal_seconds = t1;
        o.rebinding_seconds = t2;
    })
    .unwrap();
    (lease.renew_after.as_secs(), lease.rebind_after.as_secs())
}

fn routes_of(option: &[u8]) -> Vec<String> {
    lease(|o| {
        o.routers = vec![Ipv4Addr::new(10, 0, 0, 1)];
        o.classless_routes = Some(option.to_vec());
    })
    .unwrap()
    .routes
    .iter()
    .map(|r| match r.gateway {
        Some(gateway) => format!("{} via {gateway}", r.destination),
        None => r.destination.to_string(),
    })
    .collect()
}

#[test]
fn an_address_must_be_one_hosts() {
    for address in [[0, 0, 0, 0], [0, 1, 2, 3], [127, 0, 0, 1], [224, 0, 0, 1], [255, 255, 255, 255]] {
        let refused = Lease::from_reply(&reply(address, |_| {}));
        assert_eq!(refused, Err(LeaseError::Address(address.into())));
    }
    assert!(Lease::from_reply(&reply([10, 0, 0, 0], |_| {})).is_err(), "network address");
    assert!(Lease::from_reply(&reply([10, 0, 0, 255], |_| {})).is_err(), "broadcast address");
    let both = |o: &mut Options| o.mask = Some(Ipv4Addr::new(255, 255, 255, 254));
    assert!(Lease::from_reply(&reply([10, 0, 0, 0], both)).is_ok(), "a /31 has two hosts");
}

#[test]
fn a_mask_must_be_contiguous_and_of_one_link() {
    let masked =
        |a, b, c, d| lease(|o| o.mask = Some(Ipv4Addr::new(a, b, c, d))).map(|l| l.address.prefix_len());
    assert_eq!(masked(255, 255, 255, 255), Ok(32));
    assert_eq!(masked(255, 0, 0, 0), Ok(8));
    assert_eq!(masked(254, 0, 0, 0), Err(LeaseError::Mask(Ipv4Addr::new(254, 0, 0, 0))));
    assert_eq!(masked(255, 0, 255, 0), Err(LeaseError::Mask(Ipv4Addr::new(255, 0, 255, 0))));
    assert_eq!(lease(|o| o.mask = None), Err(LeaseError::NoMask));
}

#[test]
fn a_lease_lasts_between_a_minute_and_thirty_days() {
    assert_eq!(lease(|o| o.lease_seconds = None), Err(LeaseError::NoDuration));
    assert_eq!(lease(|o| o.lease_seconds = Some(59)), Err(LeaseError::TooShort(59)));
    assert_eq!(lease(|o| o.lease_seconds = Some(60)).unwrap().duration.as_secs(), 60);
    let infinite = lease(|o| o.lease_seconds = Some(u32::MAX)).unwrap();
    assert_eq!(infinite.duration.as_secs(), 30 * 86400);
}

#[test]
fn renewal_times_are_the_servers_only_when_in_order() {
    assert_eq!(times(3600, None, None), (1800, 3150));
    assert_eq!(times(3600, Some(600), Some(1200)), (600, 1200));
    assert_eq!(times(3600, Some(600), None), (600, 3150));
    assert_eq!(times(3600, None, Some(700)), (400, 700));
    assert_eq!(times(3600, Some(1200), Some(600)), (342, 600), "T1 beyond T2");
    assert_eq!(times(3600, Some(29), Some(1200)), (685, 1200), "T1 below 30 s");
    assert_eq!(times(3600, Some(0), Some(0)), (1800, 3150));
    assert_eq!(times(3600, Some(u32::MAX), Some(u32::MAX)), (1800, 3150));
    assert_eq!(times(60, Some(30), Some(31)), (30, 31));
}

#[test]
fn an_mtu_that_would_switch_off_ipv6_is_not_taken() {
    let mtu = |value| lease(|o| o.mtu = Some(value)).unwrap().mtu;
    assert_eq!([68, 576, 1279, 9217, 65535].map(mtu), [None; 5]);
    assert_eq!([1280, 1500, 9216].map(mtu), [Some(1280), Some(1500), Some(9216)]);
}

#[test]
fn name_servers_are_hosts_and_at_most_four() {
    let servers =
        [[127, 0, 0, 1], [8, 8, 8, 8], [0, 0, 0, 0], [1, 1, 1, 1], [9, 9, 9, 9], [8, 8, 4, 4], [1, 0, 0, 1]];
    let lease = lease(|o| o.dns = servers.map(Ipv4Addr::from).to_vec()).unwrap();
    assert_eq!(lease.dns, [[8, 8, 8, 8], [1, 1, 1, 1], [9, 9, 9, 9], [8, 8, 4, 4]].map(Ipv4Addr::from));
}

#[test]
fn the_first_router_that_can_be_one_makes_the_default_route() {
    let routers = [[0, 0, 0, 0], [10, 0, 0, 50], [10, 0, 0, 2], [10, 0, 0, 3]];
    let lease = lease(|o| o.routers = routers.map(Ipv4Addr::from).to_vec()).unwrap();
    assert_eq!(lease.router(), Some(Ipv4Addr::new(10, 0, 0, 2)));
    assert_eq!(lease.routes.len(), 1);
}

#[test]
fn a_router_outside_the_subnet_gets_an_on_link_route_before_its_own() {
    let lease = lease(|o| {
        o.mask = Some(Ipv4Addr::BROADCAST);
        o.routers = vec![Ipv4Addr::new(172, 31, 1, 1)];
    })
    .unwrap();
    let text: Vec<_> = lease.routes.iter().map(|r| (r.destination.to_string(), r.gateway)).collect();
    let router = Ipv4Addr::new(172, 31, 1, 1);
    assert_eq!(text, [("172.31.1.1/32".to_string(), None), ("0.0.0.0/0".to_string(), Some(router))]);
}

#[test]
fn classless_routes_replace_the_router() {
    // The examples of RFC 3442, then one without a gateway.
    let option =
        [0, 10, 0, 0, 2, 8, 10, 10, 0, 0, 3, 25, 10, 229, 0, 128, 10, 0, 0, 4, 16, 192, 168, 0, 0, 0, 0];
    assert_eq!(
        routes_of(&option),
        [
            "192.168.0.0/16",
            "0.0.0.0/0 via 10.0.0.2",
            "10.0.0.0/8 via 10.0.0.3",
            "10.229.0.128/25 via 10.0.0.4"
        ]
    );
}

#[test]
fn a_malformed_route_option_counts_as_absent() {
    for option in [&[33, 10, 0, 0, 0, 0, 10, 0, 0, 1][..], &[24, 10, 0, 0, 10, 0, 0], &[8]] {
        assert_eq!(routes_of(option), ["0.0.0.0/0 via 10.0.0.1"], "{option:?}");
    }
}

#[test]
fn routes_to_what_is_no_host_are_left_out_and_host_bits_cut() {
    let option =
        [8, 127, 10, 0, 0, 1, 8, 224, 10, 0, 0, 1, 24, 172, 16, 255, 127, 0, 0, 1, 12, 172, 31, 10, 0, 0, 1];
    assert_eq!(routes_of(&option), ["172.16.0.0/12 via 10.0.0.1"]);
}

#[test]
fn routes_are_at_most_thirty_two() {
    let option: Vec<u8> = (1..=60_u8).flat_map(|n| [16, 172, n, 10, 0, 0, 1]).collect();
    assert_eq!(routes_of(&option).len(), ROUTES_MAX);
}
