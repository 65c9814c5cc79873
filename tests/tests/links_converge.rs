//! Links, addresses and routes converge in real namespaces, and nothing of others is touched.

#![expect(clippy::unwrap_used, reason = "a test panics when its ground gives way")]

use glacis_netlink::links::{LinkEvent, LinkHandle, LinksError, RTPROT_GLACIS, read_sysctl, write_sysctl};
use glacis_plan::nft::Inventory;
use glacis_plan::{
    Addressing, Changes, InterfacePlan, LinkChange, Observed, ObservedLink, Plan, RoutePlan, Sysctl,
};
use glacis_tests::netns::Namespace;
use std::future::Future;
use std::time::Duration;

const DEVICE: &str = "wan0";

/// A namespace with `wan0`, down, whose other end is in another one.
struct Bed {
    ns: Namespace,
    peer: Namespace,
}

impl Bed {
    fn new(label: &str) -> Self {
        let (ns, peer) = (Namespace::new(label), Namespace::new("peer"));
        ns.veth(DEVICE, &peer, "peer0");
        ns.run(["ip", "link", "set", DEVICE, "down"]);
        Self { ns, peer }
    }

    fn ip(&self, arguments: &str) {
        self.ns.run(["ip"].into_iter().chain(arguments.split(' ')));
    }

    fn shows(&self, arguments: &str) -> String {
        self.ns.stdout(["ip"].into_iter().chain(arguments.split(' ')))
    }

    /// Runs a future inside the namespace, on a runtime of its own.
    fn run<T: Send, F: Future<Output = T>>(&self, inside: impl FnOnce() -> F + Send) -> T {
        self.ns.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(inside())
        })
    }

    fn observe(&self) -> ObservedLink {
        self.run(|| async { find(LinkHandle::new().unwrap().observe().await.unwrap()) })
    }

    fn apply(&self, changes: &[LinkChange]) -> Result<(), LinksError> {
        self.run(|| async {
            let links = LinkHandle::new()?;
            for change in changes {
                links.apply(change).await?;
            }
            Ok(())
        })
    }

    /// Observes, finds the difference and walks it; returns what had to change.
    fn converge(&self, plan: &Plan) -> Vec<LinkChange> {
        let links = self.run(|| async { LinkHandle::new().unwrap().observe().await.unwrap() });
        let observed = Observed { links, ..Observed::default() };
        let changes = Changes::between(plan, &observed, &Inventory::default()).links;
        self.apply(&changes).unwrap();
        changes
    }
}

fn find(links: Vec<ObservedLink>) -> ObservedLink {
    links.into_iter().find(|link| link.device == DEVICE).expect("the veth pair was made")
}

fn route(destination: &str, gateway: Option<&str>, metric: Option<u32>) -> RoutePlan {
    RoutePlan {
        destination: destination.parse().unwrap(),
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        metric,
    }
}

fn plan(addresses: &[&str], routes: &[RoutePlan], mtu: Option<u32>) -> Plan {
    let interface = InterfacePlan {
        name: "wan".into(),
        device: DEVICE.into(),
        addressing: addresses.iter().map(|a| Addressing::Static(a.parse().unwrap())).collect(),
        mtu,
        routes: routes.to_vec(),
    };
    Plan { interfaces: vec![interface], ..Plan::default() }
}

fn full_plan() -> Plan {
    let routes = [
        route("0.0.0.0/0", Some("192.0.2.254"), None),
        route("198.51.100.0/24", None, Some(50)),
        route("::/0", Some("2001:db8::ffff"), None),
        route("2001:db8:1::/48", Some("2001:db8::fffe"), Some(7)),
        route("203.0.113.0/24", Some("2001:db8::ffff"), None),
    ];
    plan(&["192.0.2.1/24", "192.0.2.2/24", "2001:db8::1/64"], &routes, Some(1400))
}

#[test]
fn a_plan_is_reached_from_a_link_that_is_down_and_the_second_time_changes_nothing() {
    let bed = Bed::new("reach");
    assert!(!bed.observe().up);
    let changes = bed.converge(&full_plan());
    assert_eq!(changes.len(), 1 + 1 + 3 + 5, "{changes:?}");

    let link = bed.observe();
    assert!(link.up && link.carrier);
    assert_eq!(link.mtu, 1400);
    assert!(link.mac.is_some() && link.pci.is_none() && !link.loopback);
    assert!(link.addresses.iter().all(|a| a.ours) && link.addresses.len() == 3, "{link:?}");
    assert!(link.routes.iter().all(|r| r.ours) && link.routes.len() == 5, "{link:?}");

    let before = (bed.shows("address show"), bed.shows("route show"), bed.shows("-6 route show"));
    assert_eq!(bed.converge(&full_plan()), []);
    bed.apply(&changes).expect("every step may be taken twice");
    let after = (bed.shows("address show"), bed.shows("route show"), bed.shows("-6 route show"));
    let without_lifetimes = |text: &str| text.replace(" tentative", "");
    assert_eq!(without_lifetimes(&before.0), without_lifetimes(&after.0));
    assert_eq!((before.1, before.2), (after.1, after.2));

    let ours = format!("proto {RTPROT_GLACIS}");
    assert!(bed.shows("route show default").contains(&ours), "iproute2 sees our protocol too");
}

#[test]
fn what_the_plan_no_longer_names_goes_and_what_is_foreign_stays() {
    let bed = Bed::new("foreign");
    bed.converge(&full_plan());
    bed.ip(&format!("address add 192.0.2.77/24 dev {DEVICE}"));
    bed.ip(&format!("address add 2001:db8:7::1/64 dev {DEVICE} nodad"));
    bed.ip(&format!("route add 198.51.100.128/25 dev {DEVICE} proto static"));
    bed.ip(&format!("-6 route add 2001:db8:8::/48 dev {DEVICE} proto static"));

    let changes = bed.converge(&plan(&["10.9.0.1/24"], &[], None));
    assert_eq!(changes.len(), 5 + 3 + 1, "{changes:?}");

    let link = bed.observe();
    let addresses: Vec<_> = link.addresses.iter().map(|a| (a.net.to_string(), a.ours)).collect();
    let expected = [("10.9.0.1/24", true), ("192.0.2.77/24", false), ("2001:db8:7::1/64", false)];
    let mut expected = expected.map(|(net, ours)| (net.to_string(), ours)).to_vec();
    let mut sorted = addresses.clone();
    sorted.sort();
    expected.sort();
    assert_eq!(sorted, expected, "the first address of 192.0.2.0/24 went, the foreign second one stays");
    let routes: Vec<_> = link.routes.iter().map(|r| (r.route.destination.to_string(), r.ours)).collect();
    assert_eq!(routes, [("198.51.100.128/25".to_string(), false), ("2001:db8:8::/48".to_string(), false)]);
    assert_eq!(link.mtu, 1400, "an MTU that the plan leaves open is left alone");
}

#[test]
fn what_someone_removed_comes_back() {
    let bed = Bed::new("removed");
    bed.converge(&full_plan());
    let settled = bed.observe();
    bed.ip(&format!("address del 192.0.2.1/24 dev {DEVICE}"));
    bed.ip("-6 route del 2001:db8:1::/48");
    bed.ip(&format!("link set {DEVICE} mtu 1300"));
    assert!(!bed.converge(&full_plan()).is_empty());
    let sorted = |mut link: ObservedLink| {
        link.addresses.sort_by_key(|a| a.net.to_string());
        link.routes.sort_by_key(|r| format!("{:?}", r.route));
        link
    };
    assert_eq!(sorted(bed.observe()), sorted(settled.clone()));

    bed.ip(&format!("link set {DEVICE} down"));
    assert!(!bed.converge(&full_plan()).is_empty());
    assert_eq!(sorted(bed.observe()), sorted(settled), "routes that went with the link are back");
}

#[test]
fn only_what_is_ours_is_replaced() {
    let bed = Bed::new("replace");
    bed.converge(&plan(
        &["192.0.2.1/24", "2001:db8::1/64"],
        &[route("0.0.0.0/0", Some("192.0.2.254"), None)],
        None,
    ));

    // Added before its predecessor is removed: ours gives way.
    let change = |r: RoutePlan| LinkChange::AddRoute { device: DEVICE.into(), route: r };
    bed.apply(&[change(route("0.0.0.0/0", Some("192.0.2.253"), None))]).unwrap();
    assert!(bed.shows("route show default").contains("via 192.0.2.253"));
    bed.apply(&[LinkChange::AddAddress {
        device: DEVICE.into(),
        address: "2001:db8::1/48".parse().unwrap(),
    }])
    .unwrap();
    assert!(bed.shows("-6 address show").contains("2001:db8::1/48"));

    bed.ip("route replace default via 192.0.2.200 proto static");
    let error = bed.apply(&[change(route("0.0.0.0/0", Some("192.0.2.253"), None))]).unwrap_err();
    assert!(matches!(error, LinksError::Foreign { .. }), "{error}");
    assert!(error.to_string().contains("via 192.0.2.200"), "{error}");

    bed.ip(&format!("address add 10.5.0.1/24 dev {DEVICE}"));
    let address = "10.5.0.1/24".parse().unwrap();
    bed.apply(&[LinkChange::AddAddress { device: DEVICE.into(), address }]).expect("it is there");
    let error = bed.apply(&[LinkChange::RemoveAddress { device: DEVICE.into(), address }]).unwrap_err();
    assert!(matches!(error, LinksError::Foreign { .. }), "{error}");
    let foreign = route("0.0.0.0/0", Some("192.0.2.200"), None);
    let error = bed.apply(&[LinkChange::RemoveRoute { device: DEVICE.into(), route: foreign }]).unwrap_err();
    assert!(matches!(error, LinksError::Foreign { .. }), "{error}");
}

#[test]
fn removing_one_metric_leaves_the_other() {
    let bed = Bed::new("metric");
    let (plain, backup) = (route("198.51.100.0/24", None, None), route("198.51.100.0/24", None, Some(9)));
    bed.converge(&plan(&["192.0.2.1/24"], &[plain, backup], None));
    let remove = LinkChange::RemoveRoute { device: DEVICE.into(), route: plain };
    bed.apply(&[remove.clone(), remove]).unwrap();
    let left: Vec<_> = bed.observe().routes.iter().map(|r| r.route).collect();
    assert_eq!(left, [backup]);
}

#[test]
fn errors_name_the_device_the_step_and_a_way_out() {
    let bed = Bed::new("errors");
    let text = |change: LinkChange| bed.apply(&[change]).unwrap_err().to_string();
    let gone = text(LinkChange::SetUp { device: "eth9".into() });
    assert!(gone.contains("no interface is called eth9"), "{gone}");
    let gone = text(LinkChange::SetUp { device: "a-name-that-is-too-long".into() });
    assert!(gone.contains("no interface is called"), "{gone}");
    let mtu = text(LinkChange::SetMtu { device: DEVICE.into(), mtu: 67 });
    assert!(mtu.contains("wan0: cannot set the MTU to 67") && mtu.contains("68"), "{mtu}");
    let down = text(LinkChange::AddRoute { device: DEVICE.into(), route: route("10.0.0.0/8", None, None) });
    assert!(down.contains("bring it up first"), "{down}");
    bed.apply(&[LinkChange::SetUp { device: DEVICE.into() }]).unwrap();
    let far = route("10.0.0.0/8", Some("203.0.113.1"), None);
    let far = text(LinkChange::AddRoute { device: DEVICE.into(), route: far });
    assert!(far.contains("add route 10.0.0.0/8 via 203.0.113.1") && far.contains("not reachable"), "{far}");
}

#[test]
fn changes_by_others_are_told_folded_together() {
    let bed = Bed::new("watch");
    bed.ip(&format!("link set {DEVICE} up"));
    let mut events = bed.run(|| async {
        let mut watch = LinkHandle::new().unwrap().watch().unwrap();
        for n in 1..=50 {
            bed.ip(&format!("address add 10.1.0.{n}/32 dev {DEVICE}"));
            bed.ip(&format!("route add 10.2.0.{n}/32 dev {DEVICE}"));
        }
        bed.peer.run(["ip", "link", "set", "peer0", "down"]);
        let mut events = Vec::new();
        while let Ok(event) = tokio::time::timeout(Duration::from_secs(1), watch.next()).await {
            events.push(event.unwrap());
        }
        events
    });
    events.retain(|event| *event != LinkEvent::Routes);
    let index = bed.observe().index;
    assert!(events.contains(&LinkEvent::Addresses { index }), "{events:?}");
    let lost = LinkEvent::Link { index, device: DEVICE.into(), up: true, carrier: false };
    assert!(events.contains(&lost), "{events:?}");
    assert!(events.len() <= 4, "a hundred messages, folded: {events:?}");
}

#[test]
fn a_flood_that_overflows_the_kernels_buffer_is_told_as_an_overrun() {
    let bed = Bed::new("overrun");
    bed.ip(&format!("link set {DEVICE} up"));
    let routes: Vec<String> =
        (0..4000).map(|n| format!("route add 10.3.{}.{}/32 dev {DEVICE}", n / 250, n % 250)).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), routes.join("\n")).unwrap();
    let first = bed.run(|| async {
        let mut watch = LinkHandle::new().unwrap().watch().unwrap();
        bed.ns.run(["ip".as_ref(), "-batch".as_ref(), file.path().as_os_str()]);
        watch.next().await.unwrap()
    });
    assert_eq!(first, LinkEvent::Overrun);
}

#[test]
fn kernel_parameters_are_those_of_the_namespace() {
    let bed = Bed::new("sysctl");
    let path = format!("net/ipv4/conf/{DEVICE}/rp_filter");
    let (before, after) = bed.ns.enter(|| {
        write_sysctl(&Sysctl { path: path.clone(), value: "0".into() }).unwrap();
        let before = read_sysctl(&path).unwrap();
        write_sysctl(&Sysctl { path: path.clone(), value: "2".into() }).unwrap();
        (before, read_sysctl(&path).unwrap())
    });
    assert_eq!((before.as_str(), after.as_str()), ("0", "2"));
    assert!(read_sysctl(&path).is_err(), "wan0 is in no other namespace");
}
