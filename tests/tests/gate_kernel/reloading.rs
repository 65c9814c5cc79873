//! What a reload keeps of a gate, and what goes with it.

use super::scene::*;
use glacis_plan::closed::{TABLE, TABLE_FAMILY};
use glacis_plan::nft::{NfProto, between, emptied, onto};

#[test]
fn b20_a_reload_keeps_clients_backends_and_counters() {
    let mut scene = Scene::new("reload", &gate(""));
    let _worker = serve(&scene.router, "[::]:443", "worker");
    let _moved = serve(&scene.router, "[::]:444", "worker");
    let _backend = serve(&scene.servers, "[::]:8443", "backend");
    scene.admit(CLIENT4);
    let mut led = scene.talk(CLIENT4, GATE4);

    // Another rule, another protocol, another port: the same gate by its name.
    let other = compiled(&gate("protocol http\n    ports 8080").replace("tcp=443", "tcp=444"));
    assert_eq!(emptied(&between(Some(&scene.plan.ruleset), &other.ruleset), &scene.plan.ruleset.tables), []);
    scene.apply(other);
    led.echo("goes on", ANSWER_MAX).unwrap();
    assert_eq!(scene.led(), 1);
    assert_eq!(scene.answerer(CLIENT4, "192.0.2.1:444"), "backend");
    assert_eq!(scene.led(), 2);

    // A process that was restarted knows nothing of what is loaded.
    let found = scene.nft.inventory(&[(TABLE_FAMILY, TABLE)]).unwrap();
    let ops = onto(&found, &scene.plan.ruleset);
    assert_eq!(emptied(&ops, &found.tables), []);
    scene.commit(&ops);
    assert_eq!(scene.nft.verify(&scene.plan.ruleset).unwrap(), []);
    assert_eq!(scene.answerer(CLIENT4, "192.0.2.1:444"), "backend");
    assert_eq!(scene.led(), 3);
}

#[test]
fn b20_a_gate_that_goes_takes_its_objects_along_and_leaves_no_door_open() {
    let mut scene = Scene::new("gone", &gate(""));
    let _worker = serve(&scene.router, "[::]:443", "worker");
    let _backend = serve(&scene.servers, "[::]:8443", "backend");
    scene.admit(CLIENT4);
    let mut led = scene.talk(CLIENT4, GATE4);
    // Something else is forwarded still, so the host goes on forwarding.
    scene.apply(compiled(&policy("rules from=servers to=internet {\n    allow tcp=25\n}")));
    let listing = scene.router.stdout(["nft", "list", "ruleset"]);
    assert!(!listing.contains("gate"), "{listing}");
    assert!(scene.is_shut_out(CLIENT4, GATE4));
    led.echo("like every flow that a reload finds", ANSWER_MAX).unwrap();

    // It comes back empty, and says that it is.
    let again = compiled(&gate(""));
    let ops = between(Some(&scene.plan.ruleset), &again.ruleset);
    let empty: Vec<_> =
        emptied(&ops, &scene.plan.ruleset.tables).iter().map(|(_, _, s)| s.name.clone()).collect();
    let gate_ = &again.gates[0];
    let all = [NfProto::Ipv4, NfProto::Ipv6].map(|f| [gate_.clients_set(f), gate_.backends_map(f)]).concat();
    assert_eq!(empty, all);
    scene.apply(again);
    assert_eq!(scene.admitted(NfProto::Ipv4), 0);
    assert_eq!(scene.answerer(CLIENT4, GATE4), "worker");
}

#[test]
fn b20_one_gate_goes_and_its_neighbour_stays_as_it_is() {
    let two = |first: &str| {
        gate("").replace("web", first)
            + "reverse-scan mail {\n    listen tcp=25 on=wan\n    backend \"10.0.2.31:25\"\n}\n"
    };
    let mut scene = Scene::new("two", &two("web"));
    let _mail = serve(&scene.servers, "10.0.2.31:25", "mail");
    let mail = scene.plan.gates[1].clone();
    let backends = mail.pools[0].backends.clone();
    scene.commit(&glacis_plan::gate_elements::backends_ops(&mail, &backends));
    let client = CLIENT4.parse().unwrap();
    scene.commit(&glacis_plan::gate_elements::clients_ops(&mail, client, None));
    assert_eq!(scene.answerer(CLIENT4, "192.0.2.1:25"), "mail");
    scene.apply(compiled(&two("other")));
    assert_eq!(scene.answerer(CLIENT4, "192.0.2.1:25"), "mail");
    assert_eq!(scene.counted(&mail.led_counter()).packets, 2);
    let listing = scene.router.stdout(["nft", "list", "ruleset"]);
    assert!(!listing.contains("gate_web_"), "{listing}");
}
