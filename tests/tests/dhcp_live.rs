//! The shipped DHCP client against a real server (dnsmasq), beneath a ruleset that drops everything.

#![expect(clippy::unwrap_used, reason = "a test panics when its ground gives way")]

use glacis_netlink::links::LinkHandle;
use glacis_plan::{LinkChange, Mac};
use glacis_tests::netns::Namespace;
use glacis_wire::dhcp4::Lease;
use ipnet::IpNet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// The binary has no library target; this compiles the very files that it ships.
#[path = "../../appliance/src/dhcp/mod.rs"]
mod dhcp;

use dhcp::DhcpEvent;

const CLIENT: &str = "wan0";
const SERVER: &str = "lan0";
/// An exchange over a veth takes milliseconds; a first packet lost while the link settles, 5 s more.
const ANSWER_MAX: Duration = Duration::from_secs(20);

struct Server(Child);

impl Server {
    /// Serves from a namespace whose end of the pair has `address`; leases last two minutes (the
    /// least dnsmasq knows), renewal after 30 seconds.
    fn start(ns: &Namespace, state: &Path, range: &str, options: &[&str]) -> Self {
        let leases = state.join(format!("leases-{range}"));
        let mut arguments = vec!["dnsmasq".to_owned(), "--no-daemon".into(), "--conf-file=/dev/null".into()];
        arguments.extend(
            ["--port=0", "--user=root", "--bind-interfaces", "--no-ping", "--pid-file="].map(String::from),
        );
        arguments.push(format!("--interface={SERVER}"));
        arguments.push(format!("--dhcp-leasefile={}", leases.display()));
        arguments.push(format!("--dhcp-range={range},120"));
        arguments.extend(["--dhcp-authoritative", "--dhcp-option=58,30"].map(String::from));
        arguments.extend(options.iter().map(|option| format!("--dhcp-option={option}")));
        // `ip netns exec` replaces itself by the command, so the child is dnsmasq.
        let mut command: Command = ns.command(arguments);
        let log = std::fs::File::create(state.join("log")).unwrap();
        Self(command.stdout(Stdio::null()).stderr(log).spawn().expect("ip netns exec starts"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Bed {
    client: Namespace,
    server: Namespace,
    state: tempfile::TempDir,
}

impl Bed {
    fn new(label: &str) -> Self {
        let (client, server) = (Namespace::new(label), Namespace::new("srv"));
        client.veth(CLIENT, &server, SERVER);
        server.address(SERVER, "192.0.2.1/24");
        client.run(["nft", CLOSED]);
        Self { client, server, state: tempfile::tempdir().unwrap() }
    }

    fn serve(&self, range: &str, options: &[&str]) -> Server {
        Server::start(&self.server, self.state.path(), range, options)
    }

    /// Runs a client and hands its events to `inside`, which may run commands meanwhile.
    fn with_client<F>(&self, inside: impl FnOnce(mpsc::Receiver<DhcpEvent>) -> F + Send)
    where
        F: Future<Output = ()>,
    {
        self.client.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let links = LinkHandle::new().unwrap().observe().await.unwrap();
                let link = links.into_iter().find(|link| link.device == CLIENT).unwrap();
                let mac: Mac = link.mac.unwrap();
                let (events, received) = mpsc::channel(4);
                let task = dhcp::spawn(CLIENT, link.index, mac, events).unwrap();
                inside(received).await;
                task.abort();
            });
        });
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.state.path().join("log")).unwrap_or_default()
    }

    async fn bound(&self, events: &mut mpsc::Receiver<DhcpEvent>, within: Duration) -> Lease {
        match tokio::time::timeout(within, events.recv()).await {
            Ok(Some(DhcpEvent::Bound { device, lease })) if device == CLIENT => lease,
            other => panic!("{other:?} instead of a lease; the server says:\n{}", self.log()),
        }
    }
}

/// Drops every packet in and out, ARP aside: a packet socket must not care.
const CLOSED: &str = "table inet closed { \
    chain input { type filter hook input priority 0; policy drop; }; \
    chain output { type filter hook output priority 0; policy drop; }; \
    chain prerouting { type filter hook prerouting priority -400; policy drop; }; }";

#[test]
fn a_lease_is_obtained_and_renewed_beneath_a_ruleset_that_drops_everything() {
    let bed = &Bed::new("lease");
    let options = ["option:router,192.0.2.1", "option:dns-server,192.0.2.53", "option:mtu,1400"];
    let _server = bed.serve("192.0.2.50,192.0.2.60,255.255.255.0", &options);
    bed.with_client(|mut events| async move {
        let lease = bed.bound(&mut events, ANSWER_MAX).await;
        let asked = Instant::now();
        assert_eq!(lease.address.prefix_len(), 24);
        assert!((50..=60).contains(&lease.address.addr().octets()[3]), "{lease:?}");
        assert_eq!(lease.server.to_string(), "192.0.2.1");
        assert_eq!(lease.router(), Some(lease.server));
        assert_eq!(lease.dns.iter().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.53"]);
        assert_eq!(lease.mtu, Some(1400));
        assert_eq!((lease.duration.as_secs(), lease.renew_after.as_secs()), (120, 30));

        // As the daemon does; the server finds the client by ARP when it renews.
        let address = IpNet::V4(lease.address);
        let added = LinkChange::AddAddress { device: CLIENT.into(), address };
        LinkHandle::new().unwrap().apply(&added).await.unwrap();

        let renewed = bed.bound(&mut events, Duration::from_secs(45)).await;
        assert_eq!(renewed.address, lease.address);
        assert!(asked.elapsed() > Duration::from_secs(25), "renewed at T1 and not before");
        let log = bed.log();
        assert_eq!(log.matches("DHCPDISCOVER").count(), 1, "renewed without a new search:\n{log}");
        assert_eq!(log.matches("DHCPREQUEST").count(), 2, "{log}");
    });
}

#[test]
fn on_another_network_the_address_is_given_up_and_another_taken() {
    let bed = &Bed::new("nak");
    let first = bed.serve("192.0.2.50,192.0.2.60,255.255.255.0", &[]);
    bed.with_client(|mut events| async move {
        let lease = bed.bound(&mut events, ANSWER_MAX).await;
        assert!(lease.address.to_string().starts_with("192.0.2."), "{lease:?}");

        // The cable moves to another network: its server refuses the address that was held.
        drop(first);
        bed.server.run(["ip", "link", "set", SERVER, "down"]);
        tokio::time::sleep(Duration::from_secs(1)).await;
        bed.server.run(["ip", "address", "flush", "dev", SERVER]);
        bed.server.address(SERVER, "198.51.100.1/24");
        let _second = bed.serve("198.51.100.50,198.51.100.60,255.255.255.0", &[]);
        tokio::time::sleep(Duration::from_secs(1)).await;
        bed.server.run(["ip", "link", "set", SERVER, "up"]);

        let event = tokio::time::timeout(ANSWER_MAX, events.recv()).await;
        let lost = DhcpEvent::Lost { device: CLIENT.into() };
        assert_eq!(event, Ok(Some(lost)), "the server says:\n{}", bed.log());
        assert!(bed.log().contains("DHCPNAK"), "{}", bed.log());
        let lease = bed.bound(&mut events, ANSWER_MAX).await;
        assert!(lease.address.to_string().starts_with("198.51.100."), "{lease:?}");
    });
}
