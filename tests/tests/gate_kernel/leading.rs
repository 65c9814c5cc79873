//! Whom the kernel leads, and where to.

use super::scene::*;
use glacis_plan::gate::FAST_PATH_CLIENTS_MAX;
use glacis_plan::gate_elements::fill_clients_ops;
use glacis_plan::nft::NfProto;
use std::net::Ipv4Addr;

#[test]
fn b20_the_kernel_leads_admitted_clients_and_nobody_else() {
    let mut scene = Scene::new("lead", &gate(""));
    let _worker = serve(&scene.router, "[::]:443", "worker");
    let _backend = serve(&scene.servers, "[::]:8443", "backend");
    for (client, stranger, to, ours) in
        [(CLIENT4, STRANGER4, GATE4, "10.0.2.1"), (CLIENT6, STRANGER6, GATE6, "fd00:2::1")]
    {
        assert_eq!(scene.answerer(client, to), "worker");
        scene.admit(client);
        let led = scene.talk(client, to);
        assert_eq!((led.who.as_str(), led.seen_as.to_string().as_str()), ("backend", ours));
        assert_eq!(scene.answerer(stranger, to), "worker");
        scene.forget(client);
        assert_eq!(scene.answerer(client, to), "worker");
    }
    assert_eq!(scene.led(), 2);
    // Past the gate, backends are as closed as any other host.
    for (from, to) in [(CLIENT4, "10.0.2.30:8443"), (CLIENT6, "[fd00:2::30]:8443")] {
        scene.client.run(["ip", "route", "replace", "10.0.2.0/24", "via", "192.0.2.1"]);
        scene.client.run(["ip", "-6", "route", "replace", "fd00:2::/64", "via", "2001:db8::1"]);
        scene.admit(from);
        assert!(scene.is_shut_out(from, to));
    }
}

#[test]
fn b20_packets_and_bytes_of_led_flows_are_counted_both_ways() {
    let mut scene = Scene::new("count", &gate(""));
    let _worker = serve(&scene.router, "[::]:443", "worker");
    let _backend = serve(&scene.servers, "[::]:8443", "backend");
    let carried = scene.gate().carried_counter();
    assert_eq!(scene.answerer(CLIENT4, GATE4), "worker");
    assert_eq!((scene.counted(&carried).packets, scene.led()), (0, 0));

    scene.admit(CLIENT4);
    let mut talk = scene.talk(CLIENT4, GATE4);
    let before = scene.counted(&carried);
    let line = "x".repeat(10_000);
    talk.echo(&line, ANSWER_MAX).unwrap();
    let after = scene.counted(&carried);
    let bytes = after.bytes - before.bytes;
    assert!((20_000..30_000).contains(&bytes), "{bytes} bytes carried of 20,000");
    assert!(after.packets > before.packets);
    talk.echo("again", ANSWER_MAX).unwrap();
    assert_eq!(scene.led(), 1, "a connection counts once");
}

#[test]
fn b21_connections_are_shared_by_weight() {
    let backends = "backend \"10.0.2.31:8443\" weight=3";
    let mut scene = Scene::new("weight", &gate(backends));
    let _light = serve(&scene.servers, "10.0.2.30:8443", "light");
    let _heavy = serve(&scene.servers, "10.0.2.31:8443", "heavy");
    scene.admit(CLIENT4);
    let heavy = (0..200).filter(|_| scene.answerer(CLIENT4, GATE4) == "heavy").count();
    // 150 are due; more than five standard deviations off would be no chance.
    assert!(
        (118..=182).contains(&heavy),
        "{heavy} of 200 connections went to the backend with weight 3 of 4"
    );
}

#[test]
fn b21_without_a_backend_in_service_clients_come_to_the_worker() {
    let mut scene = Scene::new("none", &gate("backend \"10.0.2.31:8443\""));
    let _worker = serve(&scene.router, "[::]:443", "worker");
    let _first = serve(&scene.servers, "10.0.2.30:8443", "first");
    let _second = serve(&scene.servers, "10.0.2.31:8443", "second");
    let backends = scene.gate().pools[0].backends.clone();
    scene.admit(CLIENT4);
    scene.admit(CLIENT6);
    scene.serve_with(&[]);
    assert_eq!(scene.answerer(CLIENT4, GATE4), "worker");
    assert_eq!(scene.answerer(CLIENT6, GATE6), "worker");
    assert_eq!(scene.led(), 0, "nobody was led");
    let second: Vec<_> =
        backends.iter().filter(|b| b.address.to_string() == "10.0.2.31:8443").copied().collect();
    scene.serve_with(&second);
    for _ in 0..20 {
        assert_eq!(scene.answerer(CLIENT4, GATE4), "second");
    }
    assert_eq!(scene.answerer(CLIENT6, GATE6), "worker", "no backend of its family serves");
    assert_eq!(scene.led(), 20);
}

#[test]
fn b20_a_backend_sees_the_clients_address_where_the_policy_says_so() {
    let mut scene = Scene::new("client", &gate("fast-path #true source=client"));
    let _backend = serve(&scene.servers, "[::]:8443", "backend");
    for (client, to) in [(CLIENT4, GATE4), (CLIENT6, GATE6)] {
        scene.admit(client);
        let mut led = scene.talk(client, to);
        assert_eq!((led.who.as_str(), led.seen_as.to_string().as_str()), ("backend", client));
        led.echo("both ways", ANSWER_MAX).unwrap();
    }
    assert_eq!(scene.led(), 2);
}

/// A policy's own masquerading would hide the client; the gate says whom a backend sees.
#[test]
fn b20_the_gate_decides_over_the_address_that_a_backend_sees() {
    let masquerade = "nat {\n    masquerade internet out=dmz\n}\n";
    let mut scene = Scene::new("order", &(gate("fast-path #true source=client") + masquerade));
    let _backend = serve(&scene.servers, "[::]:8443", "backend");
    scene.admit(CLIENT4);
    assert_eq!(scene.talk(CLIENT4, GATE4).seen_as.to_string(), CLIENT4);
}

#[test]
fn b20_a_backend_beside_its_clients_is_reached_through_us() {
    let gate = policy(
        "reverse-scan web {
    listen tcp=443 on=wan
    backend \"192.0.2.50:8443\"
}",
    );
    let mut scene = Scene::new("hairpin", &gate);
    let _backend = serve(&scene.client, "192.0.2.50:8443", "beside");
    scene.admit(CLIENT4);
    let mut led = scene.talk(CLIENT4, GATE4);
    assert_eq!((led.who.as_str(), led.seen_as.to_string().as_str()), ("beside", "192.0.2.1"));
    led.echo("back through us", ANSWER_MAX).unwrap();
}

#[test]
fn b20_a_full_set_still_takes_clients_that_it_holds_and_lets_them_go() {
    let mut scene = Scene::new("full", &gate(""));
    let many: Vec<_> = (0..FAST_PATH_CLIENTS_MAX + 5)
        .map(|n| (Ipv4Addr::from(0x0b00_0000 + n).into(), Some(ANSWER_MAX * 100)))
        .collect();
    let fill = fill_clients_ops(&scene.gate(), &many);
    scene.commit(&fill);
    assert_eq!(scene.admitted(NfProto::Ipv4), FAST_PATH_CLIENTS_MAX as usize);
    // All at once again, as after a start; and one after the other.
    scene.commit(&fill);
    assert_eq!(scene.admitted(NfProto::Ipv4), FAST_PATH_CLIENTS_MAX as usize);
    for client in ["11.0.0.0", "11.0.0.1", "11.0.128.0"] {
        scene.admit(client);
    }
    scene.forget("11.0.0.1");
    scene.forget("12.0.0.1");
    assert_eq!(scene.admitted(NfProto::Ipv4), FAST_PATH_CLIENTS_MAX as usize - 1);
}
