//! Row B18: an error of ours is never an outcome.

mod bed;

use bed::{Bed, CLIENT, LONG};
use glacis_control::gate::PortOutcome::Refused;

#[test]
fn b18_no_route_is_no_outcome() {
    let bed = Bed::new("noroute");
    for client in ["198.51.100.9", "2001:db8:9::9"] {
        let trouble = bed.look(client, &[80, 443], LONG).trouble();
        assert!(trouble.contains("cannot set out for port 80"), "{trouble}");
    }
}

#[test]
fn b18_a_route_of_ours_that_refuses_is_no_outcome() {
    let bed = Bed::new("badroute");
    for kind in ["unreachable", "prohibit", "blackhole"] {
        for (net, client) in [("198.51.100.0/24", "198.51.100.9"), ("2001:db8:9::/64", "2001:db8:9::9")] {
            bed.gate.run(["ip", "route", "replace", kind, net]);
            let trouble = bed.look(client, &[80, 443], LONG).trouble();
            assert!(trouble.contains("cannot set out for port 80"), "{kind}: {trouble}");
        }
    }
}

#[test]
fn b18_a_next_hop_that_does_not_answer_is_no_outcome() {
    let bed = Bed::new("nexthop");
    for family in ["ipv4", "ipv6"] {
        let neighbours = format!("net.{family}.neigh.gate0");
        bed.gate.run(["sysctl", "-q", "-w", &format!("{neighbours}.mcast_solicit=1")]);
        bed.gate.run(["sysctl", "-q", "-w", &format!("{neighbours}.retrans_time_ms=50")]);
    }
    for client in ["192.0.2.77", "2001:db8::77"] {
        let trouble = bed.look(client, &[80, 443], LONG).trouble();
        assert!(trouble.contains("failed on our side"), "{trouble}");
    }
}

#[test]
fn b18_a_reject_of_our_own_firewall_is_no_outcome() {
    let bed = Bed::new("ownreject");
    let rules = "chain output { type filter hook output priority 0; tcp dport 80 reject\n}\n";
    bed.gate.run(["nft", &format!("table inet own {{ {rules} }}")]);
    for client in CLIENT {
        let looked = bed.look(client, &[80, 443], LONG);
        assert!(looked.seen.trouble.is_some(), "{:?}", looked.seen);
        assert_eq!(looked.seen.outcomes, [(443, Refused)], "the other port is told all the same");
    }
}

#[test]
fn b18_no_local_port_left_is_no_outcome() {
    let bed = Bed::new("ephemeral");
    bed.gate.run(["sysctl", "-q", "-w", "net.ipv4.ip_local_port_range=40000 40000"]);
    // The only local port is taken towards port 80, and free towards port 443.
    let _listener = bed.listen(80);
    let taken = bed.gate.enter(|| std::net::TcpStream::connect((CLIENT[0], 80)).expect("the first one fits"));
    let looked = bed.look(CLIENT[0], &[80, 443], LONG);
    assert!(looked.seen.trouble.is_some(), "{:?}", looked.seen);
    assert_eq!(looked.seen.outcomes, [(443, Refused)]);
    drop(taken);
}
