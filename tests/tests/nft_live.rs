//! Transactions against a live kernel: what a reload keeps, what it remakes, and how a refusal is told.

#![expect(clippy::unwrap_used, reason = "a test panics when its ground gives way")]

#[path = "../fixtures/nft/features.rs"]
mod features;
#[path = "../fixtures/nft/words.rs"]
mod words;

use glacis_netlink::nft::{Connection, NftError};
use glacis_plan::nft::*;
use glacis_tests::netns::Namespace;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use words::*;

const TABLE: Name = Name::literal("main");

fn bans() -> Set {
    Set { elements: Elements::Runtime, ..set("bans", [Datatype::Ipv4Addr], "timeout") }
}

fn nets() -> Set {
    Set { elements: Elements::Runtime, ..set("nets", [Datatype::Ipv4Addr], "interval timeout") }
}

/// Counts what comes to port 9000 and remembers who sent it.
fn ruleset(allowed: Vec<Rule>) -> Ruleset {
    let mut table = Table::new(Family::Inet, TABLE);
    table.objects = vec![object("hits", ObjectKind::Counter)];
    let seen = Set {
        timeout: Some(Duration::from_secs(3600)),
        size: Some(1024),
        elements: Elements::Runtime,
        ..set("seen", [Datatype::Ipv4Addr], "dynamic timeout")
    };
    table.sets = vec![bans(), nets(), seen];
    let remember = Statement::DynSet {
        op: DynSetOp::Update,
        set: name("seen"),
        key: field(Field::IpSaddr),
        timeout: None,
        statements: vec![],
    };
    let mut rules = vec![rule([in_set(field(Field::IpSaddr), "bans"), Statement::DROP]).comment("bans")];
    rules.extend(allowed);
    rules.push(
        rule([
            udp(9000),
            remember,
            Statement::CounterRef(name("hits")),
            Statement::Counter,
            Statement::ACCEPT,
        ])
        .comment("service"),
    );
    table.chains = vec![base("input", ChainType::Filter, HookPoint::Input, 0, BasePolicy::Drop, rules)];
    Ruleset { tables: vec![table] }
}

fn add(set: Set, elements: Vec<Element>) -> Op {
    Op::AddElements { family: Family::Inet, table: TABLE, set, elements: Elements::List(elements) }
}

fn send_to_itself(count: usize) {
    let receiver = UdpSocket::bind("127.0.0.1:9000").unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..count {
        sender.send_to(b"x", "127.0.0.1:9000").unwrap();
        receiver.recv_from(&mut [0; 8]).unwrap();
    }
}

#[test]
fn a_reload_keeps_bans_remaining_time_and_counters() {
    Namespace::new("keep").enter(|| {
        let mut connection = Connection::open().unwrap();
        let before = ruleset(vec![]);
        connection.commit(&between(None, &before), None).unwrap();
        let mut banned = timed(Element::atom(ip4("9.9.9.9")), 3600);
        banned.expires = Some(Duration::from_secs(100));
        let net = timed(element([KeyPart::Prefix(ip4("10.1.0.0"), 16)]), 600);
        connection.commit(&[add(bans(), vec![banned]), add(nets(), vec![net])], None).unwrap();
        send_to_itself(3);

        let after = ruleset(vec![rule([tcp(22), Statement::ACCEPT])]);
        connection.commit(&between(Some(&before), &after), None).unwrap();
        // A process that was restarted knows nothing; the reload keeps as much.
        let inventory = connection.inventory(&[(Family::Inet, TABLE)]).unwrap();
        assert_eq!(inventory.foreign, []);
        connection.commit(&onto(&inventory, &after), None).unwrap();
        assert_eq!(connection.verify(&after).unwrap(), []);

        let kept = connection.set_elements(Family::Inet, &TABLE, &bans()).unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].key, Key::Fields(vec![one(ip4("9.9.9.9"))]));
        assert_eq!(kept[0].timeout, Some(Duration::from_secs(3600)));
        let left = kept[0].expires.unwrap();
        assert!(left <= Duration::from_secs(100) && left > Duration::from_secs(60), "{left:?}");
        let kept = connection.set_elements(Family::Inet, &TABLE, &nets()).unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].key, Key::Fields(vec![KeyPart::Range(ip4("10.1.0.0"), ip4("10.1.255.255"))]));

        let counters = connection.counters(Family::Inet, &TABLE).unwrap();
        assert_eq!(counters.named.len(), 1);
        assert_eq!((counters.named[0].0.as_str(), counters.named[0].1.packets), ("hits", 3));
        send_to_itself(2);
        let counters = connection.counters(Family::Inet, &TABLE).unwrap();
        assert_eq!(counters.named[0].1.packets, 5);
        let service = counters.rules.iter().find(|rule| rule.comment.as_deref() == Some("service")).unwrap();
        assert_eq!(service.counter.unwrap().packets, 2, "rules and their own counters are made anew");
    });
}

#[test]
fn a_set_of_another_type_is_remade_and_told() {
    Namespace::new("type").enter(|| {
        let mut connection = Connection::open().unwrap();
        let before = ruleset(vec![]);
        connection.commit(&between(None, &before), None).unwrap();
        let mut after = before.clone();
        after.tables[0].sets[0].flags.interval = true;
        let declared_again = connection.commit(&between(None, &after), None);
        assert!(matches!(declared_again, Err(NftError::Refused { .. })), "{declared_again:?}");
        let mismatches = connection.verify(&after).unwrap();
        assert_eq!(mismatches.len(), 1, "{mismatches:#?}");

        let mut ops = between(Some(&before), &after);
        assert_eq!(emptied(&ops, &before.tables).len(), 1);
        let element = timed(element([KeyPart::Prefix(ip4("10.0.0.0"), 8)]), 60);
        ops.push(add(after.tables[0].sets[0].clone(), vec![element]));
        connection.commit(&ops, None).unwrap();
        assert_eq!(connection.verify(&after).unwrap(), []);
        let set = &after.tables[0].sets[0];
        assert_eq!(connection.set_elements(Family::Inet, &TABLE, set).unwrap().len(), 1);
    });
}

#[test]
fn a_stale_generation_is_refused_and_a_fresh_one_taken() {
    Namespace::new("stale").enter(|| {
        let (mut ours, mut other) = (Connection::open().unwrap(), Connection::open().unwrap());
        let read = ours.generation().unwrap();
        other.commit(&between(None, &ruleset(vec![])), None).unwrap();
        let ops = [add(bans(), vec![timed(Element::atom(ip4("9.9.9.9")), 60)])];
        let refused = ours.commit(&ops, Some(read));
        assert!(matches!(refused, Err(NftError::Stale(generation)) if generation == read), "{refused:?}");
        let fresh = ours.generation().unwrap();
        let committed = ours.commit(&ops, Some(fresh)).unwrap();
        assert_eq!(committed.generation, other.generation().unwrap());
    });
}

#[test]
fn a_refusal_names_its_step_and_applies_nothing() {
    Namespace::new("error").enter(|| {
        let mut connection = Connection::open().unwrap();
        connection.commit(&between(None, &ruleset(vec![])), None).unwrap();
        let before = connection.generation().unwrap();
        let absent = Op::DeleteElements {
            family: Family::Inet,
            table: TABLE,
            set: bans(),
            elements: Elements::List(atoms([ip4("1.2.3.4")])),
        };
        let ops = [add(bans(), vec![timed(Element::atom(ip4("9.9.9.9")), 60)]), absent];
        match connection.commit(&ops, None) {
            Err(NftError::Refused { op: 1, step, source, .. }) => {
                assert_eq!(source.raw_os_error(), Some(libc::ENOENT));
                assert!(step.contains("bans"), "{step}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(connection.generation().unwrap(), before);
        assert_eq!(connection.set_elements(Family::Inet, &TABLE, &bans()).unwrap(), []);
        let unknown = rule([in_set(field(Field::IpSaddr), "nowhere"), Statement::DROP]);
        let (table, chain) = (TABLE, name("input"));
        let op = Op::AddRule { family: Family::Inet, table, chain, rule: unknown };
        let refused = connection.commit(&[op], None);
        assert!(matches!(refused, Err(NftError::Encode { op: 0, .. })), "{refused:?}");
    });
}

#[test]
fn applying_twice_changes_nothing() {
    let ns = Namespace::new("twice");
    let ruleset = features::features();
    let load = |ops: &[Op]| ns.enter(|| Connection::open().unwrap().commit(ops, None).unwrap());
    load(&between(None, &ruleset));
    let first = ns.stdout(["nft", "-s", "list", "ruleset"]);
    load(&between(Some(&ruleset), &ruleset));
    load(&between(None, &ruleset));
    assert_eq!(ns.stdout(["nft", "-s", "list", "ruleset"]), first);
    let names: Vec<_> = ruleset.tables.iter().map(|t| (t.family, t.name.clone())).collect();
    let inventory = ns.enter(|| Connection::open().unwrap().inventory(&names).unwrap());
    load(&onto(&inventory, &ruleset));
    // The timeout policy is made anew, since the kernel tells also the states that it was not asked for, and so
    // moves to the end of the objects.
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&ns.stdout(["nft", "-s", "list", "ruleset"])), sorted(&first));
}

#[test]
fn what_someone_else_left_is_cleared_away() {
    let ns = Namespace::new("clear");
    ns.run([
        "nft",
        "add table inet main; add chain inet main old; add set inet main lost { type ipv4_addr; }; \
         add map inet main ways { type inet_service : verdict; elements = { 1 : jump old }; }; \
         add chain inet main input { type filter hook output priority 7; }; \
         add rule inet main input tcp dport vmap @ways",
    ]);
    ns.enter(|| {
        let mut connection = Connection::open().unwrap();
        let wanted = ruleset(vec![]);
        assert!(connection.verify(&wanted).unwrap().len() > 3);
        let inventory = connection.inventory(&[(Family::Inet, TABLE)]).unwrap();
        connection.commit(&onto(&inventory, &wanted), None).unwrap();
        assert_eq!(connection.verify(&wanted).unwrap(), []);
        connection.destroy_table(Family::Inet, &TABLE).unwrap();
        connection.destroy_table(Family::Inet, &TABLE).unwrap();
        assert_eq!(connection.inventory(&[(Family::Inet, TABLE)]).unwrap(), Inventory::default());
    });
}

#[test]
fn a_reload_under_a_flood_loses_no_allowed_packet() {
    const PACKETS: u32 = 40_000;
    let (sender, firewall) = (Namespace::new("sender"), Namespace::new("wall"));
    sender.veth("gl-s", &firewall, "gl-w");
    sender.address("gl-s", "10.250.1.1/24");
    firewall.address("gl-w", "10.250.1.2/24");
    let filler = |first: u16| (0..200).map(|i| rule([tcp(first + i), Statement::ACCEPT])).collect();
    let (a, b) = (ruleset(filler(10_000)), ruleset(filler(20_000)));
    let done = AtomicBool::new(false);
    firewall.enter(|| {
        let mut connection = Connection::open().unwrap();
        connection.commit(&between(None, &a), None).unwrap();
        let receiver = UdpSocket::bind("10.250.1.2:9000").unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let (received, reloads) = std::thread::scope(|scope| {
            let receiving = scope.spawn(|| {
                let mut count = 0_u32;
                while count < PACKETS && receiver.recv_from(&mut [0; 8]).is_ok() {
                    count += 1;
                }
                count
            });
            let sending = scope.spawn(|| {
                sender.enter(|| flood(PACKETS));
                done.store(true, Ordering::SeqCst);
            });
            let (mut loaded, mut next, mut reloads) = (&a, &b, 0_u32);
            while !done.load(Ordering::SeqCst) {
                connection.commit(&between(Some(loaded), next), None).unwrap();
                std::mem::swap(&mut loaded, &mut next);
                reloads += 1;
            }
            sending.join().unwrap();
            (receiving.join().unwrap(), reloads)
        });
        assert!(reloads >= 10, "only {reloads} reloads during the flood");
        let counted = connection.counters(Family::Inet, &TABLE).unwrap().named[0].1.packets;
        // The counter tells what the ruleset let pass; the socket may drop when its own queue is full.
        assert_eq!(
            counted,
            u64::from(PACKETS),
            "{reloads} reloads lost allowed packets; {received} were received"
        );
    });
}

/// Sends over two seconds, so that reloads fall into it.
fn flood(packets: u32) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("10.250.1.2:9000").unwrap();
    let start = Instant::now();
    for i in 0..packets {
        socket.send(&i.to_be_bytes()).unwrap();
        if i % 100 == 0 {
            let due = Duration::from_micros(u64::from(i) * 50);
            std::thread::sleep(due.saturating_sub(start.elapsed()));
        }
    }
}
