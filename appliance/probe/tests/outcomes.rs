//! What a client's kernel answers, and what a look makes of it.

mod bed;

use bed::{AT_ONCE, Bed, CLIENT, LONG};
use glacis_control::gate::PortOutcome::{self, Open, Refused, Silent, Unreachable};
use glacis_probe::{Look, Stop, look};
use std::thread;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(200);

#[test]
fn b06_refusing_ports_are_told_after_one_round_trip() {
    let bed = Bed::new("refused");
    for client in CLIENT {
        let looked = bed.look(client, &[22, 80, 443, 3128, 8000, 8080], LONG);
        assert!(looked.took < AT_ONCE, "{:?}", looked.took);
        let ports = [22, 80, 443, 3128, 8000, 8080];
        assert_eq!(looked.outcomes(), ports.map(|port| (port, Refused)));
    }
}

#[test]
fn b05_dropping_ports_take_one_timeout_all_together() {
    let bed = Bed::new("silent");
    bed.client_input("tcp dport 1-64 drop");
    let ports: Vec<u16> = (1..=64).collect();
    for client in CLIENT {
        let looked = bed.look(client, &ports, SHORT);
        assert!(looked.took >= SHORT && looked.took < SHORT + AT_ONCE, "{:?}", looked.took);
        assert_eq!(looked.outcomes(), ports.iter().map(|port| (*port, Silent)).collect::<Vec<_>>());
    }
}

#[test]
fn b05_the_first_open_port_ends_the_look_at_once() {
    let bed = Bed::new("first");
    bed.client_input("tcp dport { 22, 80, 443, 3128, 8000 } drop");
    let _listener = bed.listen(8080);
    for client in CLIENT {
        let looked = bed.look(client, &[22, 80, 443, 3128, 8000, 8080], LONG);
        assert!(looked.took < AT_ONCE, "{:?}", looked.took);
        assert_eq!(looked.outcomes(), [(8080, Open)], "ports that had not told have no outcome");
    }
}

#[test]
fn b04_the_shortest_timeout_is_kept() {
    let bed = Bed::new("shortest");
    bed.client_input("tcp dport 80 drop");
    let timeout = Duration::from_millis(10);
    let looked = bed.look(CLIENT[0], &[80], timeout);
    assert!(looked.took >= timeout && looked.took < timeout + AT_ONCE, "{:?}", looked.took);
    assert_eq!(looked.outcome(), Silent);
}

#[test]
fn a_lost_packet_is_sent_again_within_the_timeout() {
    let bed = Bed::new("lost");
    // The first SYN, of 60 bytes, is lost; the kernel sends the next one after a second.
    bed.client_input("tcp dport 80 quota until 100 bytes drop");
    let _listener = bed.listen(80);
    let looked = bed.look(CLIENT[0], &[80], LONG);
    assert!(looked.took >= Duration::from_millis(900), "no packet was lost: {:?}", looked.took);
    assert_eq!(looked.outcome(), Open);
}

#[test]
fn every_icmp_error_is_unreachable_and_comes_at_once() {
    let bed = Bed::new("icmp");
    let codes = [
        "net-unreachable",
        "host-unreachable",
        "prot-unreachable",
        "port-unreachable",
        "net-prohibited",
        "host-prohibited",
        "admin-prohibited",
    ];
    let rules =
        codes.iter().zip(1..).map(|(code, port)| format!("tcp dport {port} reject with icmp {code};"));
    bed.client_input(&format!("meta nfproto ipv4 jump {{ {}\n }}", rules.collect::<String>()));
    for (code, port) in codes.into_iter().zip(1..) {
        let looked = bed.look(CLIENT[0], &[port], LONG);
        assert!(looked.took < AT_ONCE, "{code}: {:?}", looked.took);
        assert_eq!(looked.outcome(), Unreachable, "{code}");
    }
}

#[test]
fn b17_every_icmpv6_error_is_unreachable_and_comes_at_once() {
    let bed = Bed::new("icmp6");
    let codes = [
        "no-route",
        "admin-prohibited",
        "addr-unreachable",
        "port-unreachable",
        "policy-fail",
        "reject-route",
    ];
    let rules =
        codes.iter().zip(1..).map(|(code, port)| format!("tcp dport {port} reject with icmpv6 {code};"));
    bed.client_input(&format!("meta nfproto ipv6 jump {{ {}\n }}", rules.collect::<String>()));
    for (code, port) in codes.into_iter().zip(1..) {
        let looked = bed.look(CLIENT[1], &[port], LONG);
        assert!(looked.took < AT_ONCE, "{code}: {:?}", looked.took);
        assert_eq!(looked.outcome(), Unreachable, "{code}");
    }
}

#[test]
fn a_router_before_the_client_may_say_that_it_is_unreachable() {
    let bed = Bed::new("router");
    bed.client.run(["sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]);
    for (net, host, gateway) in
        [("198.51.100.0/24", "198.51.100.9", CLIENT[0]), ("2001:db8:9::/64", "2001:db8:9::9", CLIENT[1])]
    {
        bed.client.run(["ip", "route", "add", "unreachable", net]);
        bed.gate.run(["ip", "route", "add", net, "via", gateway]);
        assert_eq!(bed.look(host, &[80], LONG).outcome(), Unreachable);
        // A packet that dies on its way is answered by the router where it died.
        bed.gate.run(["ip", "route", "change", net, "via", gateway, "hoplimit", "1"]);
        assert_eq!(bed.look(host, &[80], LONG).outcome(), Unreachable);
    }
}

#[test]
fn sixty_four_ports_of_all_kinds_are_told_apart() {
    let bed = Bed::new("mixed");
    bed.client_input("tcp dport 1-16 drop; tcp dport 17-32 reject; tcp dport 33-48 reject with tcp reset");
    let ports: Vec<u16> = (1..=64).collect();
    for client in CLIENT {
        let outcomes = bed.look(client, &ports, SHORT).outcomes();
        let count = |wanted: PortOutcome| outcomes.iter().filter(|(_, outcome)| *outcome == wanted).count();
        assert_eq!((count(Silent), count(Unreachable), count(Refused)), (16, 16, 32), "{outcomes:?}");
        assert!(outcomes.iter().all(|(port, outcome)| (*outcome == Silent) == (*port <= 16)), "{outcomes:?}");
    }
}

#[test]
fn a_port_that_resets_each_connection_at_once_is_open() {
    let bed = Bed::new("resets");
    bed.serve(80, |stream| {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        // SAFETY: the value is a `linger` that outlives the call, and the length is its length.
        let code = unsafe {
            libc::setsockopt(
                std::os::fd::AsRawFd::as_raw_fd(&stream),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                (&raw const linger).cast(),
                size_of_val(&linger) as libc::socklen_t,
            )
        };
        assert_eq!(code, 0);
    });
    for _ in 0..50 {
        assert_eq!(bed.look(CLIENT[0], &[80], LONG).outcome(), Open);
    }
}

#[test]
fn an_ipv4_client_written_as_ipv6_is_looked_at() {
    let bed = Bed::new("mapped");
    assert_eq!(bed.look("::ffff:192.0.2.2", &[80], LONG).outcome(), Refused);
}

#[test]
fn b17_a_link_local_client_is_looked_at_behind_its_interface() {
    let bed = Bed::new("linklocal");
    let addresses =
        bed.client.stdout(["ip", "-6", "-o", "address", "show", "dev", "client0", "scope", "link"]);
    let client = addresses.split_whitespace().find_map(|word| word.strip_suffix("/64")).unwrap().to_owned();
    let index = bed.gate.stdout(["cat", "/sys/class/net/gate0/ifindex"]).trim().parse().unwrap();
    let seen = bed.run(|| {
        let client = bed::address(&client);
        look(Look { client, scope: index, ports: &[80], timeout: LONG, stop: Stop::Open })
    });
    assert_eq!(seen.outcomes, [(80, Refused)], "{seen:?}");
}

#[test]
fn nothing_of_a_look_stays_behind() {
    let bed = Bed::new("behind");
    bed.client_input("tcp dport 22 drop");
    let _listener = bed.listen(80);
    for client in CLIENT {
        bed.look(client, &[22, 80, 443], SHORT);
        assert_eq!(bed.sockets(), "");
    }
}

#[test]
fn a_look_that_is_dropped_closes_its_sockets() {
    let bed = Bed::new("dropped");
    bed.client_input("tcp dport 1-64 drop");
    let ports: Vec<u16> = (1..=64).collect();
    bed.run(|| async {
        let client = bed::address(CLIENT[0]);
        let looking = look(Look { client, scope: 0, ports: &ports, timeout: LONG, stop: Stop::Open });
        assert!(tokio::time::timeout(SHORT, looking).await.is_err(), "dropping ports take the timeout");
    });
    assert_eq!(bed.sockets(), "");
}

#[test]
fn a_late_runtime_does_not_make_an_open_port_silent() {
    let bed = Bed::new("late");
    let _listener = bed.listen(80);
    let outcomes = bed.run(|| async {
        let client = bed::address(CLIENT[0]);
        let timeout = Duration::from_millis(20);
        let looking = look(Look { client, scope: 0, ports: &[80], timeout, stop: Stop::Open });
        let mut looking = std::pin::pin!(looking);
        // The look sets out, and its thread is kept busy until long after the timeout.
        let first = std::future::poll_fn(|context| std::task::Poll::Ready(looking.as_mut().poll(context)));
        assert!(first.await.is_pending());
        let start = Instant::now();
        while start.elapsed() < 5 * timeout {
            thread::sleep(timeout);
        }
        looking.await.outcomes
    });
    assert_eq!(outcomes, [(80, Open)]);
}
