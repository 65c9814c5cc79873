//! A gate and a client, each in a namespace of its own, joined by a veth.

#![expect(dead_code, reason = "every test file uses its own part of it")]

use glacis_control::gate::PortOutcome;
use glacis_probe::{Claim, Look, Proofs, Seen, Stop, look};
use glacis_tests::netns::Namespace;
use std::future::Future;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;

pub const GATE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
pub const CLIENT: [&str; 2] = ["192.0.2.2", "2001:db8::2"];
/// Longer than any test waits for an answer that comes.
pub const LONG: Duration = Duration::from_secs(5);
/// What "at once" means on a busy machine.
pub const AT_ONCE: Duration = Duration::from_secs(1);

pub struct Bed {
    pub gate: Namespace,
    pub client: Namespace,
}

/// A look, and how long it took.
pub struct Looked {
    pub seen: Seen,
    pub took: Duration,
}

impl Bed {
    pub fn new(label: &str) -> Self {
        let (gate, client) = (Namespace::new(label), Namespace::new("client"));
        gate.veth("gate0", &client, "client0");
        for (namespace, device, addresses) in [(&gate, "gate0", GATE), (&client, "client0", CLIENT)] {
            namespace.address(device, &format!("{}/24", addresses[0]));
            namespace.address(device, &format!("{}/64", addresses[1]));
            // Link-local addresses need no time to become usable.
            namespace.run(["sysctl", "-q", "-w", "net.ipv6.conf.all.accept_dad=0"]);
        }
        // The client's kernel answers as often as it is asked.
        client.run(["sysctl", "-q", "-w", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0"]);
        Self { gate, client }
    }

    /// Rules of the client's own input chain.
    pub fn client_input(&self, rules: &str) {
        let table = format!(
            "table inet client {{ chain input {{ type filter hook input priority 0; policy accept; {rules}\n}}\n}}"
        );
        self.client.run(["nft", &table]);
    }

    /// A listener of the client's, on all its addresses.
    pub fn listen(&self, port: u16) -> TcpListener {
        self.client.enter(|| TcpListener::bind(("::", port)).expect("the port is free in a fresh namespace"))
    }

    /// Serves every connection to a port of the client's on a thread of its own, until the test's process ends.
    pub fn serve(&self, port: u16, each: impl Fn(TcpStream) + Send + Clone + 'static) {
        let listener = self.listen(port);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let each = each.clone();
                thread::spawn(move || each(stream));
            }
        });
    }

    pub fn look(&self, client: &str, ports: &[u16], timeout: Duration) -> Looked {
        let client = address(client);
        self.run(|| async {
            let start = Instant::now();
            let seen = look(Look { client, scope: 0, ports, timeout, stop: Stop::Open }).await;
            Looked { seen, took: start.elapsed() }
        })
    }

    /// Looks for proxies, with a gate that listens at `target` and passes on what connections begin with.
    pub fn prove(&self, client: &str, ports: &[u16], timeout: Duration, target: &str) -> Looked {
        let (client, target) = (address(client), target.parse().expect("an address with a port"));
        self.run(|| async {
            let proofs = Proofs::new();
            let gate = tokio::net::TcpListener::bind(target).await.expect("the gate's port is free");
            let look =
                Look { client, scope: 0, ports, timeout, stop: Stop::Proxy { proofs: &proofs, target } };
            let start = Instant::now();
            let seen = tokio::select! {
                seen = glacis_probe::look(look) => seen,
                () = listen_for_tokens(&gate, &proofs) => unreachable!("a gate listens for ever"),
            };
            let looked = Looked { seen, took: start.elapsed() };
            assert_eq!(proofs.in_flight(), 0, "tokens outlive their look");
            looked
        })
    }

    /// Runs a future in the gate's namespace.
    pub fn run<T: Send, F: Future<Output = T>>(&self, inside: impl FnOnce() -> F + Send) -> T {
        self.gate.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(inside())
        })
    }

    /// TCP sockets in the gate's namespace that are not listening, in any state.
    pub fn sockets(&self) -> String {
        self.gate.stdout(["ss", "-Htan", "state", "all", "exclude", "listening"])
    }
}

impl Looked {
    /// Every outcome, ascending by port; there must have been no error of ours.
    pub fn outcomes(mut self) -> Vec<(u16, PortOutcome)> {
        assert!(self.seen.trouble.is_none(), "{:?}", self.seen);
        self.seen.outcomes.sort_unstable();
        self.seen.outcomes
    }

    /// The outcome at the only port.
    pub fn outcome(self) -> PortOutcome {
        let outcomes = self.outcomes();
        assert_eq!(outcomes.len(), 1, "{outcomes:?}");
        outcomes[0].1
    }

    /// Why nothing is known; there must be no outcome at all.
    pub fn trouble(self) -> String {
        assert!(self.seen.outcomes.is_empty(), "{:?}", self.seen);
        self.seen.trouble.expect("an error of ours").to_string()
    }
}

/// What a gate does: each connection on a task of its own is peeked until its begin tells what it is.
async fn listen_for_tokens(gate: &tokio::net::TcpListener, proofs: &Proofs) {
    let mut visitors = Vec::new();
    loop {
        // One at a time would do for a proxy, and would stall behind a visitor that says nothing.
        let accepted = tokio::select! {
            accepted = gate.accept() => accepted,
            () = served(&mut visitors, proofs), if !visitors.is_empty() => continue,
        };
        visitors.push(accepted.expect("a connection is there").0);
    }
}

/// Serves the visitors until one is done with, and closes that one.
async fn served(visitors: &mut Vec<tokio::net::TcpStream>, proofs: &Proofs) {
    loop {
        for (index, visitor) in visitors.iter_mut().enumerate() {
            let mut begin = [0; glacis_wire::token::FIND_BYTES_MAX];
            let peeked = tokio::time::timeout(Duration::from_millis(1), visitor.peek(&mut begin)).await;
            match peeked.map(|peeked| peeked.map(|bytes| proofs.claim(&begin[..bytes]))) {
                Err(_) | Ok(Ok(Claim::Incomplete)) => {}
                Ok(Err(_) | Ok(Claim::Proved | Claim::No)) => {
                    let _ = visitor.shutdown().await;
                    visitors.swap_remove(index);
                    return;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

pub fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The gate's address of the same family as the client's.
pub fn gate_of(client: &str, port: u16) -> String {
    let address = GATE[usize::from(client.contains(':'))];
    SocketAddr::new(self::address(address), port).to_string()
}
