//! A real status worker, started as the core starts it, and raw HTTP to ask it with.

mod gates;
pub mod story;

use glacis_control::frame::{self, HEADER_BYTES};
use glacis_control::message::{StatusFeed, WorkerReady};
use glacis_control::report::{
    AutoBlockStatus, FirewallState, GeoipStatus, InterfaceStatus, PolicySource, PolicyStatus, ScanStatus,
    StoreStatus, WorkerStatus,
};
use glacis_control::{StatusReport, UnixMillis};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, SystemTime};

/// No answer takes longer; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A worker with the core's end of its feed in the test's hands; killed on drop.
pub struct StatusWorker {
    child: Child,
    feed: UnixStream,
    address: SocketAddr,
}

/// One answer, taken apart.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Status line and headers, names in lower case.
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

impl StatusWorker {
    /// Starts a worker on a free port of loopback and waits until it has closed its sandbox.
    ///
    /// # Panics
    /// When it cannot start: it needs root.
    pub fn start(store: Option<&Path>) -> Self {
        Self::listen_on("127.0.0.1:0", store)
    }

    /// As [`Self::start`], on an address of the caller's choice.
    pub fn listen_on(address: &str, store: Option<&Path>) -> Self {
        let listener = TcpListener::bind(address).unwrap_or_else(|e| panic!("{address}: {e}"));
        let address = listener.local_addr().expect("a bound socket has an address");
        let (ours, theirs) = UnixStream::pair().expect("a socket pair can be made");
        ours.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        let mut command = Command::new(crate::bin::glacis());
        command.args(["worker", "status"]).env_clear().env("GLACIS_LISTEN_FDS", "1");
        if let Some(store) = store {
            command.env("GLACIS_STORE", store);
        }
        // Where nothing is overwritten when they move down to 3 and 4; they end with the execution.
        let sources = [raised(theirs.as_raw_fd()), raised(listener.as_raw_fd())];
        // SAFETY: only `dup2` is called between fork and exec.
        unsafe {
            command.pre_exec(move || {
                for (target, source) in (3..).zip(sources) {
                    if libc::dup2(source, target) < 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        let child = command.spawn().expect("the worker starts");
        for source in sources {
            // SAFETY: `raised` made it, and nothing owns it.
            unsafe { libc::close(source) };
        }
        drop(theirs);
        let mut worker = Self { child, feed: ours, address };
        worker.hear_ready();
        worker
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn hear_ready(&mut self) {
        let mut header = [0; HEADER_BYTES];
        self.feed.read_exact(&mut header).expect("the worker tells that it is ready");
        let mut body = vec![0; frame::body_length(header).expect("a short frame")];
        self.feed.read_exact(&mut body).expect("a whole frame");
        let _: WorkerReady = frame::decode(&body).expect("a frame of this version");
    }

    /// Sends a snapshot and waits until the worker shows it.
    pub fn tell(&mut self, report: &StatusReport) {
        self.tell_only(report);
        let taken = format!("\"taken\":{}", report.taken.0);
        let deadline = std::time::Instant::now() + PATIENCE;
        while !self.get("/api/v1/status").body.contains(&taken) {
            assert!(std::time::Instant::now() < deadline, "the worker does not take the snapshot");
        }
    }

    /// Sends a snapshot.
    pub fn tell_only(&mut self, report: &StatusReport) {
        let message = StatusFeed::Snapshot { report: Box::new(report.clone()) };
        let frame = frame::encode(&message).expect("a report fits a frame");
        self.feed.write_all(&frame).expect("the worker reads its feed");
    }

    /// Closes the feed, as a core that dies, and waits for the worker's end.
    pub fn hang_up(mut self) -> ExitStatus {
        self.feed.shutdown(std::net::Shutdown::Both).expect("the feed is open");
        self.child.wait().expect("a child can be waited for")
    }

    /// `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked after")
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the listener accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream
    }

    /// Sends these bytes on a connection of their own and reads to its end.
    pub fn ask(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect();
        // A server may answer and close before it has read all.
        let _ = stream.write_all(request);
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        Answer { status, head: head.replace("\r\n", "\n"), body: body.to_owned() }
    }

    /// A plain GET.
    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "127.0.0.1")
    }

    pub fn request(&self, method: &str, path: &str, host: &str) -> Answer {
        let text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        self.ask(text.as_bytes())
    }

    /// One line of `/proc/<pid>/status`.
    pub fn proc_status(&self, name: &str) -> String {
        let path = format!("/proc/{}/status", self.pid());
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("{path} has no {name}"))
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    }
}

impl Drop for StatusWorker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A duplicate far above the numbers that a worker sees.
fn raised(fd: RawFd) -> RawFd {
    const ABOVE: RawFd = 100;
    // SAFETY: takes no pointer.
    let raised = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, ABOVE) };
    assert!(raised >= ABOVE, "a descriptor can be duplicated: {}", std::io::Error::last_os_error());
    raised
}

pub fn now() -> UnixMillis {
    UnixMillis::from_system(SystemTime::now())
}

/// What a healthy appliance with some work tells.
pub fn report() -> StatusReport {
    let now = now();
    let earlier = |minutes: u64| UnixMillis(now.0 - minutes * 60_000);
    StatusReport {
        name: "edge-1".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        taken: now,
        started: earlier(18_075),
        firewall: FirewallState::Applied,
        policy: PolicyStatus {
            revision: 12,
            applied: Some(earlier(207)),
            source: PolicySource::File,
            rules: 23,
            refused: None,
        },
        interfaces: vec![
            interface("wan", "eth0", &["192.0.2.1/24", "2001:db8:1::1/64"], "internet"),
            interface("lan", "eth1", &["10.0.2.1/24"], "home"),
            InterfaceStatus { carrier: false, ..interface("guests", "eth2", &["10.0.9.1/24"], "guests") },
        ],
        scan: scan(now),
        bans_active: 0,
        gates: gates::gates(),
        gate_clients: story::clients(now).len() as u64,
        store: StoreStatus {
            bytes_used: 9 << 20,
            bytes_max: 64 << 20,
            scan_records: 41_873,
            events: 208,
            dropped: 0,
        },
        workers: vec![
            WorkerStatus { name: "status".into(), pid: Some(412), restarts: 0 },
            WorkerStatus { name: "gate".into(), pid: Some(413), restarts: 0 },
        ],
        status_listen: vec![],
        problems: vec![],
    }
}

fn scan(now: UnixMillis) -> ScanStatus {
    let built = UnixMillis(now.0 - 18 * 86_400_000);
    let geoip = |kind: &str| GeoipStatus {
        file: format!("{kind}.mmdb"),
        kind: kind.into(),
        built: Some(built),
        error: None,
    };
    ScanStatus {
        enabled: true,
        devices: vec!["eth0".into()],
        attachment: "tcx".into(),
        counters: [
            ("packets", 48_211_904),
            ("ban_drops", 233_640),
            ("syns", 963_490),
            ("probes", 74_357),
            ("challenges", 61_377),
            ("echoes", 58_112),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into(),
        lost: 0,
        sources: 1_382,
        sources_forgotten: 0,
        auto_block: Some(AutoBlockStatus {
            mode: "enforce".into(),
            evidence: "spoof-proof".into(),
            suspended: None,
        }),
        geoip: vec![geoip("city"), geoip("asn")],
    }
}

fn interface(name: &str, device: &str, addresses: &[&str], zone: &str) -> InterfaceStatus {
    InterfaceStatus {
        name: name.into(),
        device: device.into(),
        present: true,
        carrier: true,
        addresses: addresses.iter().map(|&text| text.to_owned()).collect(),
        zone: Some(zone.into()),
    }
}
