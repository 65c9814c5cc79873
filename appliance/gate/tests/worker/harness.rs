//! A network without anybody else in it, a core for a worker, clients and backends.

use glacis_control::gate::{ClientRecord, Finding, GateStatus, Verdict};
use glacis_gate::feed::{FeedReader, FeedWriter, FromWorker, ToWorker};
use glacis_gate::{GateCounter, WorkerError, serve};
use glacis_plan::GatePlan;
use glacis_plan::gate::{Backend, Budget, Deny, Exhausted, GateMode, GateProtocol, Pool, Prove, Remember};
use ipnet::IpNet;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{Resource, Rlimit};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixStream};
use tokio::time::timeout;

/// Longer than anything that is waited for.
pub const SOON: Duration = Duration::from_secs(20);
/// Where gates are reached.
pub const GATE4: &str = "192.0.2.1";
pub const GATE6: &str = "2001:db8::1";
/// Where backends are.
pub const BACKEND: &str = "192.0.2.9";
/// A clean client and one with ports, of each family.
pub const CLIENT4: &str = "203.0.113.7";
pub const CLIENT6: &str = "2001:db8:7::7";

/// Runs a test on a thread and a runtime of its own, in a network of its own: 192.0.2.0/24, 203.0.113.0/24,
/// 198.18.0.0/15 and the IPv6 addresses above are this host's, as the kernel sees it.
pub fn alone<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    let most = Rlimit { current: maximum, maximum };
    rustix::process::setrlimit(Resource::Nofile, most).expect("anybody may take the most");
    let thread = std::thread::spawn(move || {
        // SAFETY: `unshare` of the network changes only this thread and those that it starts.
        let code = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        assert_eq!(code, 0, "a network namespace needs root: {}", io::Error::last_os_error());
        run("ip link set lo up");
        for network in ["192.0.2.1/24", "203.0.113.1/24", "198.18.0.1/15"] {
            run(&format!("ip addr add {network} dev lo"));
        }
        for address in [GATE6, CLIENT6, "2001:db8:8::8"] {
            run(&format!("ip addr add {address}/128 dev lo nodad"));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime can be built").block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a command in this thread's network.
pub fn run(line: &str) {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a command has a name");
    let output = Command::new(program).args(words).output().expect("the program is installed");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Drops what goes to this TCP port of anybody: a port that does not answer.
pub fn silence(port: u16) {
    run("nft add table inet silent");
    run("nft add chain inet silent input { type filter hook input priority 0 ; }");
    run(&format!("nft add rule inet silent input tcp dport {port} drop"));
}

pub fn address(text: &str) -> IpAddr {
    text.parse().expect("a test's address is one")
}

/// A gate that looks at ports 22 and 8080 within a second and leads to one backend on port 9000.
pub fn gate(name: &str, port: u16) -> GatePlan {
    GatePlan {
        name: name.to_owned(),
        line: 1,
        port,
        devices: vec!["lo".to_owned()],
        protocol: GateProtocol::Tcp,
        fronts: None,
        pools: vec![pool(&[9000])],
        routes: Vec::new(),
        routes_only: false,
        health: None,
        idle: Duration::from_secs(600),
        ports: vec![22, 8080],
        timeout: Duration::from_secs(1),
        prove: Prove::Open,
        mode: GateMode::Enforce,
        budget: Budget { in_flight: 200, per_second: 50, then: Exhausted::Refuse },
        remember: Remember { clean: Duration::from_secs(3600), open: Duration::from_secs(1800) },
        deny: Deny::Close,
        on_open: None,
        ignore: Vec::new(),
        ignore_countries: Vec::new(),
        private: false,
        fast_path: None,
    }
}

/// Backends at these ports.
pub fn pool(ports: &[u16]) -> Pool {
    let backends = ports.iter().map(|port| Backend {
        address: (address(BACKEND), *port).into(),
        weight: 1,
        proxy_protocol: None,
    });
    Pool { backends: backends.collect() }
}

/// The core's end of a feed, with the worker in threads of this process.
pub struct Core {
    socket: UnixStream,
    reader: FeedReader<FromWorker>,
    worker: JoinHandle<Result<(), WorkerError>>,
    threads: usize,
    /// By port; kept, as the core does.
    listening: Vec<(u16, Vec<OwnedFd>)>,
}

impl Core {
    /// Starts a worker that serves these gates on two threads.
    pub async fn start(gates: &[GatePlan]) -> Self {
        let mut core = Self::unconfigured(2);
        core.configure(gates).await;
        core.wait_for(|message| matches!(message, FromWorker::Ready).then_some(())).await;
        core
    }

    pub fn unconfigured(threads: usize) -> Self {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("sockets can be made");
        ours.set_nonblocking(true).expect("a socket can be made non-blocking");
        Self {
            socket: UnixStream::from_std(ours).expect("the runtime takes sockets"),
            reader: FeedReader::new(),
            worker: std::thread::spawn(move || serve(theirs)),
            threads,
            listening: Vec::new(),
        }
    }

    pub async fn configure(&mut self, gates: &[GatePlan]) {
        self.configure_with(gates, None).await;
    }

    pub async fn configure_with(&mut self, gates: &[GatePlan], countries: Option<OwnedFd>) {
        self.listening.retain(|(port, _)| gates.iter().any(|gate| gate.port == *port));
        for gate in gates {
            if !self.listening.iter().any(|(port, _)| *port == gate.port) {
                let sockets = (0..self.threads).map(|_| listen(gate.port)).collect();
                self.listening.push((gate.port, sockets));
            }
        }
        let message = ToWorker::Configure {
            gates: gates.to_vec(),
            threads: self.threads,
            own: vec![IpNet::from(address(GATE4)), IpNet::from(address(GATE6))],
            countries: countries.is_some(),
        };
        let of = |gate: &GatePlan| {
            let found = self.listening.iter().find(|(port, _)| *port == gate.port);
            found.map_or(&[][..], |(_, sockets)| sockets)
        };
        let sockets = gates.iter().flat_map(of).chain(&countries).map(AsFd::as_fd);
        let beside: Vec<_> = sockets.collect();
        FeedWriter::new().send(&self.socket, &message, &beside).await.expect("the worker reads");
    }

    pub async fn tell(&self, message: &ToWorker) {
        FeedWriter::new().send(&self.socket, message, &[]).await.expect("the worker reads");
    }

    pub async fn next(&mut self) -> FromWorker {
        let next = timeout(SOON, self.reader.next(&self.socket)).await.expect("the worker says something");
        next.expect("the feed is whole").0
    }

    /// Reads on until a message has what is waited for.
    pub async fn wait_for<T>(&mut self, mut wanted: impl FnMut(&FromWorker) -> Option<T>) -> T {
        let found = async {
            loop {
                let message = self.next().await;
                if let Some(found) = wanted(&message) {
                    return found;
                }
            }
        };
        timeout(SOON, found).await.expect("what is waited for comes")
    }

    /// Client, findings and verdict of the next look.
    pub async fn judged(&mut self) -> (IpAddr, Vec<Finding>, Verdict) {
        self.wait_for(|message| match message {
            FromWorker::Judged { client, findings, verdict, .. } => {
                Some((*client, findings.clone(), *verdict))
            }
            _ => None,
        })
        .await
    }

    /// Waits until a gate's status is as wanted.
    pub async fn status_with(&mut self, gate: &str, wanted: impl Fn(&GateStatus) -> bool) -> GateStatus {
        let mut last = None;
        let found = async {
            loop {
                let FromWorker::Status { gates } = self.next().await else { continue };
                last = gates.into_iter().find(|status| status.name == gate);
                if let Some(status) = last.as_ref().filter(|status| wanted(status)) {
                    return status.clone();
                }
            }
        };
        let found = timeout(SOON, found).await;
        found.unwrap_or_else(|_late| panic!("the status does not come to be as wanted: {last:#?}"))
    }

    /// Waits until a counter is so high.
    pub async fn count(&mut self, gate: &str, counter: GateCounter, wanted: u64) -> GateStatus {
        self.status_with(gate, |status| counted(status, counter) == wanted).await
    }

    pub async fn learn(&mut self, client: &str, findings: &[Finding]) {
        let record = ClientRecord { client: address(client), seen: now(), findings: findings.to_vec() };
        self.tell(&ToWorker::Learn { records: vec![record] }).await;
        self.heard().await;
    }

    /// Bans and lifts networks, one message each, and waits until that is minded.
    pub async fn ban(&mut self, added: &[&str], lifted: &[&str]) {
        let network = |text: &&str| text.parse::<IpNet>().expect("a test's network is one");
        let added = added.iter().map(|text| (network(text), now())).collect();
        self.tell(&ToWorker::Bans { added, lifted: vec![] }).await;
        let lifted = lifted.iter().map(network).collect();
        self.tell(&ToWorker::Bans { added: vec![], lifted }).await;
        self.heard().await;
    }

    /// Waits until the worker has done all that it was told.
    pub async fn heard(&mut self) {
        self.tell(&ToWorker::Test { id: u64::MAX, gate: String::new(), client: address(CLIENT4) }).await;
        self.wait_for(|message| matches!(message, FromWorker::Tested { id: u64::MAX, .. }).then_some(()))
            .await;
    }

    /// The same, without hearing of a look on the way.
    pub async fn heard_without_a_verdict(&mut self) {
        self.tell(&ToWorker::Test { id: u64::MAX, gate: String::new(), client: address(CLIENT4) }).await;
        self.wait_for(|message| match message {
            FromWorker::Tested { id: u64::MAX, .. } => Some(()),
            FromWorker::Judged { .. } => panic!("a look was told of: {message:?}"),
            _ => None,
        })
        .await;
    }

    /// Ends the feed; the worker has to end by itself.
    pub fn end(self) -> Result<(), WorkerError> {
        drop(self.socket);
        self.worker.join().expect("the worker does not panic")
    }
}

pub fn now() -> glacis_control::UnixMillis {
    glacis_control::UnixMillis::from_system(std::time::SystemTime::now())
}

pub fn counted(status: &GateStatus, counter: GateCounter) -> u64 {
    let found = status.counters.iter().find(|(name, _)| name == counter.name());
    found.expect("every counter is in the status").1
}

/// Every connection that was accepted is somewhere, and only there.
pub fn assert_all_accounted_for(status: &GateStatus) {
    let ends: u64 = GateCounter::ALL
        .iter()
        .filter(|counter| counter.is_end())
        .map(|counter| counted(status, *counter))
        .sum();
    let accepted = counted(status, GateCounter::Accepted);
    assert_eq!(accepted, ends + status.relaying + status.waiting, "{status:#?}");
}

/// As the core makes them.
fn listen(port: u16) -> OwnedFd {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET6, SocketType::STREAM, flags, None);
    let socket = socket.expect("a socket can be made");
    sockopt::set_ipv6_v6only(&socket, false).expect("a socket can be dual-stack");
    sockopt::set_socket_reuseport(&socket, true).expect("a port can be shared");
    let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    rustix::net::bind(&socket, &everywhere).expect("the port is free");
    rustix::net::listen(&socket, 4_096).expect("a socket can listen");
    socket
}

/// Connects from an address to a gate's port, over the address of the same family.
pub async fn connect(from: &str, port: u16) -> TcpStream {
    try_connect(from, port).await.expect("the gate is there")
}

pub async fn try_connect(from: &str, port: u16) -> io::Result<TcpStream> {
    let from = address(from);
    let (socket, to) = match from {
        IpAddr::V4(_) => (TcpSocket::new_v4()?, address(GATE4)),
        IpAddr::V6(_) => (TcpSocket::new_v6()?, address(GATE6)),
    };
    socket.bind((from, 0).into())?;
    socket.connect((to, port).into()).await
}

/// Says something and expects it back; the first time behind the name of the backend that echoes, then without.
pub async fn assert_echoed_by(client: &mut TcpStream, backend: &str, text: &str) {
    client.write_all(text.as_bytes()).await.expect("the gate takes bytes");
    let expected = if backend.is_empty() { text.to_owned() } else { format!("{backend}:{text}") };
    let mut answer = vec![0; expected.len()];
    let read = timeout(SOON, client.read_exact(&mut answer)).await.expect("an answer comes");
    read.expect("an answer comes whole");
    assert_eq!(String::from_utf8_lossy(&answer), expected);
}

/// Expects the end of the connection, without a byte before and without a reset.
pub async fn assert_closed(client: &mut TcpStream) {
    let mut rest = Vec::new();
    let read = timeout(SOON, client.read_to_end(&mut rest)).await.expect("the connection ends");
    read.expect("the connection ends without a reset");
    assert_eq!(String::from_utf8_lossy(&rest), "");
}

/// Expects the end of the connection, with a reset or without, and without a byte before.
pub async fn assert_gone(client: &mut TcpStream) {
    let mut rest = Vec::new();
    // Either is an end.
    let _ = timeout(SOON, client.read_to_end(&mut rest)).await.expect("the connection ends");
    assert_eq!(String::from_utf8_lossy(&rest), "");
}

/// Listens at an address of this host.
pub async fn listen_at(ip: &str, port: u16) -> TcpListener {
    TcpListener::bind((address(ip), port)).await.expect("the port is free")
}

/// A backend that says its name and then all that it hears.
pub async fn echo(name: &'static str, port: u16) -> tokio::task::JoinHandle<()> {
    let listener = listen_at(BACKEND, port).await;
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a backend can accept");
            tokio::spawn(async move {
                let mut chunk = [0; 4096];
                let mut greeted = false;
                while let Ok(count @ 1..) = stream.read(&mut chunk).await {
                    if !greeted {
                        greeted = true;
                        stream.write_all(format!("{name}:").as_bytes()).await?;
                    }
                    stream.write_all(&chunk[..count]).await?;
                }
                io::Result::Ok(())
            });
        }
    })
}

/// Whoever runs an open port.
pub async fn open_port(ip: &str, port: u16) -> TcpListener {
    listen_at(ip, port).await
}
