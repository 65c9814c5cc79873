use super::*;
use crate::gate::{
    Budget, Deny, Exhausted, FastPath, FastPathEstablished, FastPathSource, GateMode, GateProtocol, Pool,
    Prove, Remember,
};
use std::collections::BTreeMap;

const HOUR: Duration = Duration::from_secs(3_600);

fn gate(fast_path: bool) -> GatePlan {
    GatePlan {
        name: "web".to_owned(),
        line: 7,
        port: 443,
        devices: vec!["wan".to_owned()],
        protocol: GateProtocol::Tcp,
        fronts: None,
        pools: vec![Pool { backends: vec![backend(1, 1)] }],
        routes: vec![],
        routes_only: false,
        health: None,
        idle: HOUR,
        ports: vec![80],
        timeout: Duration::from_millis(500),
        prove: Prove::Open,
        mode: GateMode::Enforce,
        budget: Budget { in_flight: 200, per_second: 50, then: Exhausted::Refuse },
        remember: Remember { clean: HOUR, open: HOUR },
        deny: Deny::Close,
        on_open: None,
        ignore: vec![],
        ignore_countries: vec![],
        private: false,
        fast_path: fast_path
            .then_some(FastPath { source: FastPathSource::Own, established: FastPathEstablished::Keep }),
    }
}

fn backend(host: u8, weight: u8) -> Backend {
    Backend { address: SocketAddr::from(([10, 0, 2, host], 8443)), weight, proxy_protocol: None }
}

fn shares(places: &[SocketAddr]) -> BTreeMap<SocketAddr, usize> {
    let mut shares = BTreeMap::new();
    for place in places {
        *shares.entry(*place).or_default() += 1;
    }
    shares
}

#[test]
fn a_gate_without_a_fast_path_has_nothing_in_the_kernel() {
    let (gate, client) = (gate(false), IpAddr::from([9, 9, 9, 9]));
    assert_eq!((sets(&gate), counters(&gate)), (vec![], vec![]));
    assert_eq!(clients_ops(&gate, client, None), []);
    assert_eq!(remove_client_ops(&gate, client), []);
    assert_eq!(fill_clients_ops(&gate, &[(client, None)]), []);
    assert_eq!(backends_ops(&gate, &[backend(1, 1)]), []);
}

#[test]
fn places_follow_weights() {
    let places = places(&[backend(1, 1), backend(2, 2), backend(3, 3)]);
    assert_eq!(shares(&places).into_values().collect::<Vec<_>>(), [10, 20, 30]);
}

#[test]
fn every_place_is_filled_and_the_lightest_backend_has_one() {
    for count in 1..=32 {
        let backends: Vec<_> =
            (1..=count).map(|host| backend(host, if host == 1 { 1 } else { 10 })).collect();
        let shares = shares(&places(&backends));
        assert_eq!(shares.values().sum::<usize>(), 60, "{count}");
        assert_eq!(shares.len(), usize::from(count));
    }
    assert_eq!(places(&[]), []);
}

#[test]
fn the_order_of_backends_does_not_matter() {
    let [a, b, c] = [backend(1, 1), backend(2, 5), backend(3, 2)];
    assert_eq!(places(&[a, b, c]), places(&[c, a, b]));
}

#[test]
fn a_backend_that_goes_moves_little_more_than_its_share() {
    let all: Vec<_> = (1..=5).map(|host| backend(host, 1)).collect();
    let before = places(&all);
    for gone in 0..all.len() {
        let mut rest = all.clone();
        let gone = rest.remove(gone).address;
        let after = places(&rest);
        let moved = before.iter().zip(&after).filter(|(was, is)| **was != gone && was != is).count();
        assert!(moved <= 6, "{moved} places of backends that stayed moved");
        assert!(!after.contains(&gone));
    }
}

#[test]
fn neighbouring_places_lead_to_different_backends_as_often_as_chance_has_it() {
    let places = places(&[backend(1, 1), backend(2, 1)]);
    let runs = 1 + places.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!((20..=42).contains(&runs), "{runs} runs in 60 places");
}

#[test]
fn each_family_leads_to_its_own_backends_and_an_empty_one_nowhere() {
    let v6 = Backend { address: "[fd00::1]:443".parse().unwrap(), weight: 1, proxy_protocol: None };
    let of = |in_service: &[Backend]| {
        let ops = backends_ops(&gate(true), in_service);
        let brief = |op: &Op| match op {
            Op::FlushSet { set, .. } => format!("flush {set}"),
            Op::AddElements { set, elements: Elements::List(list), .. } => {
                format!("fill {} with {}", set.name, list.len())
            }
            other => panic!("{other:?}"),
        };
        ops.iter().map(brief).collect::<Vec<_>>()
    };
    let [flush4, flush6] = ["flush gate_web_backends4", "flush gate_web_backends6"];
    assert_eq!(of(&[]), [flush4, flush6]);
    assert_eq!(of(&[v6]), [flush4, flush6, "fill gate_web_backends6 with 60"]);
    assert_eq!(of(&[backend(1, 1)]), [flush4, "fill gate_web_backends4 with 60", flush6]);
}

#[test]
fn a_client_takes_the_set_of_its_family_and_mapped_ones_are_ipv4() {
    let gate = gate(true);
    let target = |client: &str| {
        let ops = clients_ops(&gate, client.parse().unwrap(), Some(HOUR));
        assert_eq!(ops.len(), 3);
        match ops.into_iter().next_back().unwrap() {
            Op::AddElements { set, elements: Elements::List(list), .. } => {
                (set.name.to_string(), list[0].clone())
            }
            other => panic!("{other:?}"),
        }
    };
    let four = Element { timeout: Some(HOUR), ..Element::atom(Atom::Ipv4([9, 9, 9, 9].into())) };
    assert_eq!(target("9.9.9.9"), ("gate_web_clients4".to_owned(), four.clone()));
    assert_eq!(target("::ffff:9.9.9.9"), ("gate_web_clients4".to_owned(), four));
    assert_eq!(target("2001:db8::1").0, "gate_web_clients6");
}

#[test]
fn a_verdict_that_ends_now_does_not_hold_for_ever() {
    let ops = clients_ops(&gate(true), IpAddr::from([9, 9, 9, 9]), Some(Duration::ZERO));
    let Some(Op::AddElements { elements: Elements::List(list), .. }) = ops.last() else { panic!("{ops:?}") };
    assert_eq!(list[0].timeout, Some(TIMEOUT_MIN));
}

#[test]
fn a_book_larger_than_the_set_fills_it_and_no_more() {
    let clients: Vec<_> = (0..FAST_PATH_CLIENTS_MAX + 10)
        .map(|n| (IpAddr::V4(std::net::Ipv4Addr::from(0x0b00_0000 + n)), None))
        .collect();
    let ops = fill_clients_ops(&gate(true), &clients);
    let [_, Op::AddElements { elements: Elements::List(list), .. }, _] = &ops[..] else {
        panic!("{}", ops.len())
    };
    assert_eq!(list.len(), FAST_PATH_CLIENTS_MAX as usize);
}
