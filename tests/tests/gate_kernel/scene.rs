//! A client, the router with a gate in force, and backends behind it.
//!
//! ```text
//! client ── wan [router] dmz ── servers
//! ```
//! A listener on the router stands in for the gate worker: whoever reaches it was not led by the kernel.

use glacis_netlink::nft::{Connection, Count};
use glacis_plan::closed::{TABLE, TABLE_FAMILY};
use glacis_plan::gate::Backend;
use glacis_plan::gate_elements::{backends_ops, clients_ops, remove_client_ops};
use glacis_plan::nft::{Name, NfProto, Op, between};
use glacis_plan::{GatePlan, Plan};
use glacis_policy::{Facts, compile, parse};
use glacis_tests::netns::Namespace;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// How long silence lasts until it counts as a drop, where one is expected.
pub const SILENCE: Duration = Duration::from_millis(400);
/// How long an expected answer may take.
pub const ANSWER_MAX: Duration = Duration::from_secs(5);

pub const CLIENT4: &str = "203.0.113.7";
pub const STRANGER4: &str = "203.0.113.9";
pub const CLIENT6: &str = "2001:db8:7::7";
pub const STRANGER6: &str = "2001:db8:7::9";
pub const GATE4: &str = "192.0.2.1:443";
pub const GATE6: &str = "[2001:db8::1]:443";

/// A policy whose gate has these lines.
pub fn policy(gate: &str) -> String {
    format!(
        r#"policy version=1 name="t"
interface wan {{
    address "192.0.2.1/24"
    address "2001:db8::1/64"
    route default via="192.0.2.2"
    route default via="2001:db8::2"
}}
interface dmz {{
    address "10.0.2.1/24"
    address "fd00:2::1/64"
}}
zone internet {{
    from wan
    default drop
}}
zone servers {{
    from dmz
    default reject
}}
rules from=self to=internet {{
    allow tcp=7000
}}
{gate}
"#
    )
}

/// A gate with one backend a family, and further lines.
pub fn gate(lines: &str) -> String {
    policy(&format!(
        "reverse-scan web {{
    listen tcp=443 on=wan
    backend \"10.0.2.30:8443\"
    backend \"[fd00:2::30]:8443\"
    {lines}
}}"
    ))
}

pub struct Scene {
    pub client: Namespace,
    pub router: Namespace,
    pub servers: Namespace,
    pub nft: Connection,
    pub plan: Plan,
}

impl Scene {
    /// Three hosts with the policy in force on the one between, every backend in service.
    pub fn new(label: &str, policy: &str) -> Self {
        let (client, router, servers) = (Namespace::new(label), Namespace::new(label), Namespace::new(label));
        router.veth("wan", &client, "eth0");
        router.veth("dmz", &servers, "eth0");
        for address in ["192.0.2.1/24", "2001:db8::1/64"] {
            router.address("wan", address);
        }
        for address in ["10.0.2.1/24", "fd00:2::1/64"] {
            router.address("dmz", address);
        }
        let clients = ["203.0.113.7/32", "203.0.113.9/32", "2001:db8:7::7/128", "2001:db8:7::9/128"];
        for address in ["192.0.2.2/24", "192.0.2.50/24", "2001:db8::2/64"].iter().chain(&clients) {
            client.address("eth0", address);
        }
        for address in ["10.0.2.30/24", "10.0.2.31/24", "fd00:2::30/64"] {
            servers.address("eth0", address);
        }
        router.run(["ip", "route", "add", "default", "via", "192.0.2.2"]);
        router.run(["ip", "-6", "route", "add", "default", "via", "2001:db8::2"]);
        servers.run(["ip", "route", "add", "default", "via", "10.0.2.1"]);
        servers.run(["ip", "-6", "route", "add", "default", "via", "fd00:2::1"]);
        let plan = compiled(policy);
        let nft = router.enter(|| Connection::open().unwrap());
        let mut scene = Self { client, router, servers, nft, plan: Plan::default() };
        scene.apply(plan);
        if let Some(first) = scene.plan.gates.first() {
            scene.serve_with(&first.pools[0].backends.clone());
        }
        scene
    }

    /// Loads a plan as a reload does, and reads it back.
    pub fn apply(&mut self, plan: Plan) {
        for sysctl in &plan.sysctls {
            let path = format!("/proc/sys/{}", sysctl.path);
            self.router
                .enter(|| std::fs::write(&path, &sysctl.value).unwrap_or_else(|e| panic!("{path}: {e}")));
        }
        let loaded = (!self.plan.ruleset.tables.is_empty()).then_some(&self.plan.ruleset);
        self.nft.commit(&between(loaded, &plan.ruleset), None).unwrap();
        assert_eq!(self.nft.verify(&plan.ruleset).unwrap(), []);
        self.plan = plan;
    }

    pub fn gate(&self) -> GatePlan {
        self.plan.gates[0].clone()
    }

    pub fn commit(&mut self, ops: &[Op]) {
        self.nft.commit(ops, None).unwrap();
    }

    pub fn serve_with(&mut self, in_service: &[Backend]) {
        self.commit(&backends_ops(&self.gate(), in_service));
    }

    pub fn admit(&mut self, client: &str) {
        self.admit_for(client, Duration::from_secs(600));
    }

    pub fn admit_for(&mut self, client: &str, left: Duration) {
        self.commit(&clients_ops(&self.gate(), client.parse().unwrap(), Some(left)));
    }

    pub fn forget(&mut self, client: &str) {
        self.commit(&remove_client_ops(&self.gate(), client.parse().unwrap()));
    }

    pub fn counted(&mut self, name: &Name) -> Count {
        let counters = self.nft.counters(TABLE_FAMILY, &TABLE).unwrap();
        let counter = counters.named.into_iter().find(|(found, _)| found == name);
        counter.unwrap_or_else(|| panic!("no counter {name}")).1
    }

    pub fn led(&mut self) -> u64 {
        self.counted(&self.gate().led_counter()).packets
    }

    /// How many clients the kernel admits, of one family.
    pub fn admitted(&mut self, family: NfProto) -> usize {
        let name = self.gate().clients_set(family);
        let set = self.plan.ruleset.tables[0].set(&name).unwrap();
        self.nft.set_elements(TABLE_FAMILY, &TABLE, set).unwrap().len()
    }

    /// Opens a connection from an address of the client; who answers says so in the first line.
    pub fn talk(&self, from: &str, to: &str) -> Talk {
        let opened = self.client.enter(|| Talk::open(from, to, ANSWER_MAX));
        opened.unwrap_or_else(|e| panic!("{from} to {to}: {e}"))
    }

    /// Whether an address of the client gets no answer.
    pub fn is_shut_out(&self, from: &str, to: &str) -> bool {
        match self.client.enter(|| Talk::open(from, to, SILENCE)) {
            Ok(_) => false,
            Err(error) if is_silence(&error) => true,
            Err(error) => panic!("{from} to {to}: {error}"),
        }
    }

    /// Who answers a new connection.
    pub fn answerer(&self, from: &str, to: &str) -> String {
        self.talk(from, to).who
    }
}

pub fn compiled(policy: &str) -> Plan {
    let policy = parse("t.kdl", policy.as_bytes()).unwrap_or_else(|report| panic!("{report}"));
    compile(&policy, &Facts::default()).unwrap_or_else(|errors| panic!("{errors:?}")).plan
}

/// An open connection to somebody who greeted, and sends back what comes.
#[derive(Debug)]
pub struct Talk {
    stream: BufReader<TcpStream>,
    pub who: String,
    /// Our address, as the other side sees it.
    pub seen_as: IpAddr,
}

impl Talk {
    fn open(from: &str, to: &str, patience: Duration) -> io::Result<Self> {
        let (from, to): (IpAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
        let stream = dial(SocketAddr::new(from, 0), to, patience)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        let mut stream = BufReader::new(stream);
        let mut greeting = String::new();
        stream.read_line(&mut greeting)?;
        let (who, seen_as) = greeting.trim().split_once(' ').expect("a greeting has two words");
        let seen_as = seen_as.parse().expect("an address");
        Ok(Self { stream, who: who.to_owned(), seen_as })
    }

    /// Sends a line and reads it back.
    pub fn echo(&mut self, line: &str, patience: Duration) -> io::Result<()> {
        self.stream.get_ref().set_read_timeout(Some(patience))?;
        writeln!(self.stream.get_mut(), "{line}")?;
        let mut back = String::new();
        match self.stream.read_line(&mut back)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ if back.trim_end() == line => Ok(()),
            _ => Err(io::Error::other(back)),
        }
    }

    /// Sends a line without waiting for what comes back.
    pub fn say(&mut self, line: &str) {
        writeln!(self.stream.get_mut(), "{line}").unwrap();
    }
}

/// Whether nothing came back, which is how a dropped packet looks from its sender's side.
pub fn is_silence(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINPROGRESS | libc::ETIMEDOUT))
}

/// Connects from the namespace of the calling thread; no answer within `patience` is an error.
pub fn dial(from: SocketAddr, to: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let family = if from.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fd = socket(family, SocketType::STREAM, None)?;
    sockopt::set_socket_timeout(&fd, sockopt::Timeout::Send, Some(patience))?;
    bind(&fd, &from)?;
    connect(&fd, &to)?;
    Ok(TcpStream::from(fd))
}

/// Greets whoever comes with a name and the address that it sees, and sends lines back until the test ends; a line
/// `later` only after [`SILENCE`]. Tells how each connection ended: closed, or the error.
pub fn serve(namespace: &Namespace, on: &str, name: &'static str) -> Receiver<Option<io::ErrorKind>> {
    let on: SocketAddr = on.parse().unwrap();
    let listener = namespace.enter(|| TcpListener::bind(on).unwrap_or_else(|e| panic!("{on}: {e}")));
    let (tell, told) = channel();
    std::thread::spawn(move || {
        while let Ok((stream, peer)) = listener.accept() {
            let tell: Sender<_> = tell.clone();
            std::thread::spawn(move || {
                let ended = echo(stream, name, peer.ip().to_canonical()).err().map(|error| error.kind());
                let _ = tell.send(ended);
            });
        }
    });
    told
}

fn echo(mut stream: TcpStream, name: &str, peer: IpAddr) -> io::Result<()> {
    writeln!(stream, "{name} {peer}")?;
    let mut lines = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while lines.read_line(&mut line)? > 0 {
        if line == "later\n" {
            std::thread::sleep(SILENCE);
        }
        stream.write_all(line.as_bytes())?;
        line.clear();
    }
    Ok(())
}
