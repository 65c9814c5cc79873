//! Real boots: one guest under QEMU, its console, its two networks.
//!
//! The guest's `lan` card is QEMU's user network, through which the status page is forwarded to loopback. Its `wan`
//! card is a tap that is moved into a network namespace, so that whoever scans from there has an address of its own.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// The card that `policy.kdl` calls `wan`.
pub const WAN_MAC: &str = "52:54:00:aa:00:01";
/// The card that `policy.kdl` calls `lan`.
pub const LAN_MAC: &str = "52:54:00:aa:00:02";
/// What QEMU's user network leases to its guest.
pub const LAN_ADDRESS: &str = "10.0.2.15";
/// Console lines kept.
const LINES_MAX: usize = 20_000;

const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

#[derive(Debug, thiserror::Error)]
pub enum VmError {
    #[error("{step}: {cause}")]
    Io { step: String, cause: io::Error },
    #[error("`{command}` failed: {output}")]
    Tool { command: String, output: String },
    #[error("the guest's console did not show `{needle}` within {seconds} s; it ended with:\n{tail}")]
    Silent { needle: String, seconds: u64, tail: String },
    #[error("QEMU ended ({status}) before the console showed `{needle}`; it ended with:\n{tail}")]
    Ended { needle: String, status: String, tail: String },
    #[error("the status endpoint at {address} answered: {answer}")]
    Http { address: SocketAddr, answer: String },
}

fn io_error(step: impl Into<String>) -> impl FnOnce(io::Error) -> VmError {
    let step = step.into();
    move |cause| VmError::Io { step, cause }
}

/// How the guest starts.
#[derive(Debug, Clone)]
pub enum Boot {
    /// OVMF, systemd-boot, UKI: what a real machine does.
    Uefi,
    /// The kernel and initramfs straight, for figures without firmware.
    Direct { kernel: PathBuf, initrd: PathBuf, cmdline: String },
}

#[derive(Debug, Clone)]
pub struct GuestOptions {
    /// Copied before the boot; the original stays as it is.
    pub image: PathBuf,
    /// Folder for the copy, the firmware's variables and the QMP socket.
    pub work: PathBuf,
    pub boot: Boot,
    pub memory_mib: u32,
    /// Grow the copy of the disk to this size, as a bigger disk would be.
    pub disk_mib: Option<u64>,
    /// Network namespace that gets the other end of the `wan` card.
    pub wan_namespace: Option<String>,
    /// Loopback port that leads to the guest's status endpoint.
    pub status_port: u16,
}

/// A running guest; it ends with its owner.
pub struct Guest {
    qemu: Child,
    console: Arc<Console>,
    status: SocketAddr,
    qmp: PathBuf,
    started: Instant,
}

/// A console line and when it came.
#[derive(Debug, Clone)]
pub struct ConsoleLine {
    /// Since QEMU was started.
    pub at: Duration,
    pub text: String,
}

#[derive(Default)]
struct Console {
    lines: Mutex<Lines>,
    grown: Condvar,
}

#[derive(Default)]
struct Lines {
    kept: VecDeque<ConsoleLine>,
    total: usize,
    closed: bool,
}

/// A name that no other guest uses, of this process or another, within the 15 bytes that a device's name may have.
fn tap_name() -> String {
    static GUESTS: AtomicU32 = AtomicU32::new(0);
    format!("glt{}-{}", std::process::id(), GUESTS.fetch_add(1, Ordering::Relaxed) % 1_000)
}

impl Guest {
    pub fn boot(options: &GuestOptions) -> Result<Self, VmError> {
        fs::create_dir_all(&options.work).map_err(io_error("make the guest's folder"))?;
        let disk = options.work.join("disk.img");
        copy_sparse(&options.image, &disk, options.disk_mib.map(|mib| mib << 20))
            .map_err(io_error(format!("copy {}", options.image.display())))?;
        let qmp = options.work.join("qmp.sock");
        let _ = fs::remove_file(&qmp);
        let tap = tap_name();
        let mut command = Command::new("qemu-system-x86_64");
        command.args(machine_arguments(options, &disk, &qmp, &tap)?);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = Instant::now();
        let mut qemu = command.spawn().map_err(io_error("start qemu-system-x86_64"))?;
        let console = Arc::new(Console::default());
        let output = qemu.stdout.take().expect("stdout is a pipe");
        let errors = qemu.stderr.take().expect("stderr is a pipe");
        follow(output, Arc::clone(&console), started);
        follow(errors, Arc::clone(&console), started);
        let status = SocketAddr::from(([127, 0, 0, 1], options.status_port));
        let guest = Self { qemu, console, status, qmp, started };
        if let Some(namespace) = &options.wan_namespace {
            guest.move_tap(&tap, namespace)?;
        }
        Ok(guest)
    }

    /// QEMU makes the tap within a moment of its start.
    fn move_tap(&self, tap: &str, namespace: &str) -> Result<(), VmError> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !Path::new("/sys/class/net").join(tap).exists() {
            if Instant::now() > deadline {
                return Err(VmError::Silent {
                    needle: format!("the tap {tap}"),
                    seconds: 10,
                    tail: self.console.tail(20),
                });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        tool(Command::new("ip").args(["link", "set", tap, "netns", namespace]))?;
        let inside = |argv: &[&str]| tool(Command::new("ip").args(["-n", namespace]).args(argv)).map(drop);
        inside(&["link", "set", tap, "name", "wan0"])?;
        inside(&["address", "add", "192.0.2.66/24", "dev", "wan0"])?;
        inside(&["link", "set", "wan0", "up"])
    }

    pub fn pid(&self) -> u32 {
        self.qemu.id()
    }

    pub fn status_address(&self) -> SocketAddr {
        self.status
    }

    /// Waits until a line of the console holds the text, from the first line on.
    pub fn wait_for(&mut self, needle: &str, at_most: Duration) -> Result<ConsoleLine, VmError> {
        self.wait_for_after(0, needle, at_most)
    }

    /// The same, from a line number on, as [`Self::lines_seen`] gave it: for a second boot of the same guest.
    pub fn wait_for_after(
        &mut self,
        from: usize,
        needle: &str,
        at_most: Duration,
    ) -> Result<ConsoleLine, VmError> {
        let deadline = Instant::now() + at_most;
        let mut lines = self.console.lines.lock().expect("no holder of the lock panics");
        loop {
            let skip = from.saturating_sub(lines.total - lines.kept.len());
            if let Some(line) = lines.kept.iter().skip(skip).find(|line| line.text.contains(needle)) {
                return Ok(line.clone());
            }
            if lines.closed {
                drop(lines);
                let status = self.qemu.wait().map_or_else(|e| e.to_string(), |s| s.to_string());
                return Err(VmError::Ended {
                    needle: needle.to_owned(),
                    status,
                    tail: self.console.tail(40),
                });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(lines);
                return Err(VmError::Silent {
                    needle: needle.to_owned(),
                    seconds: at_most.as_secs(),
                    tail: self.console.tail(40),
                });
            }
            lines = self.console.grown.wait_timeout(lines, left).expect("no holder of the lock panics").0;
        }
    }

    pub fn lines_seen(&self) -> usize {
        self.console.lines.lock().expect("no holder of the lock panics").total
    }

    /// The whole console, as far as it is kept.
    pub fn console_text(&self) -> String {
        self.console.tail(LINES_MAX)
    }

    /// Since QEMU was started.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// A GET of the status endpoint: status code and body.
    pub fn get(&self, path: &str) -> Result<(u16, String), VmError> {
        http_get(self.status, path)
    }

    /// A GET whose answer must be JSON with code 200.
    pub fn get_json(&self, path: &str) -> Result<serde_json::Value, VmError> {
        let (code, body) = self.get(path)?;
        let odd = |answer| VmError::Http { address: self.status, answer };
        if code != 200 {
            return Err(odd(format!("{code}: {body}")));
        }
        serde_json::from_str(&body).map_err(|e| odd(format!("no JSON ({e}): {body}")))
    }

    /// Sends one QMP command without arguments, such as `system_reset`.
    pub fn qmp(&self, command: &str) -> Result<(), VmError> {
        let step = || format!("send `{command}` to QEMU");
        let mut stream = UnixStream::connect(&self.qmp).map_err(io_error(step()))?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(io_error(step()))?;
        let mut answers = BufReader::new(stream.try_clone().map_err(io_error(step()))?);
        let mut line = String::new();
        answers.read_line(&mut line).map_err(io_error(step()))?;
        for message in [r#"{"execute":"qmp_capabilities"}"#.to_owned(), command.to_owned()] {
            stream.write_all(message.as_bytes()).map_err(io_error(step()))?;
            line.clear();
            answers.read_line(&mut line).map_err(io_error(step()))?;
        }
        Ok(())
    }

    /// Waits until QEMU itself ends.
    pub fn wait_exit(&mut self, at_most: Duration) -> Result<(), VmError> {
        let deadline = Instant::now() + at_most;
        while Instant::now() < deadline {
            if self.qemu.try_wait().map_err(io_error("wait for QEMU"))?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(VmError::Silent {
            needle: "the end of QEMU".to_owned(),
            seconds: at_most.as_secs(),
            tail: self.console.tail(40),
        })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

impl Console {
    fn tail(&self, most: usize) -> String {
        let lines = self.lines.lock().expect("no holder of the lock panics");
        let skip = lines.kept.len().saturating_sub(most);
        lines.kept.iter().skip(skip).fold(String::new(), |text, line| {
            text + &format!("{:8.3} {}\n", line.at.as_secs_f64(), line.text)
        })
    }
}

fn follow(from: impl Read + Send + 'static, console: Arc<Console>, started: Instant) {
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut bytes = vec![];
        while from.read_until(b'\n', &mut bytes).is_ok_and(|n| n > 0) {
            let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            bytes.clear();
            let mut lines = console.lines.lock().expect("no holder of the lock panics");
            lines.total += 1;
            lines.kept.push_back(ConsoleLine { at: started.elapsed(), text });
            if lines.kept.len() > LINES_MAX {
                lines.kept.pop_front();
            }
            console.grown.notify_all();
        }
        console.lines.lock().expect("no holder of the lock panics").closed = true;
        console.grown.notify_all();
    });
}

fn machine_arguments(
    options: &GuestOptions,
    disk: &Path,
    qmp: &Path,
    tap: &str,
) -> Result<Vec<String>, VmError> {
    // 6.12 under TCG wants a CPU without cmpxchg16b quirks; smm=off saves a second in OVMF.
    let mut arguments: Vec<String> = ["-M", "q35,accel=tcg,smm=off", "-cpu", "max,cx16=off", "-smp", "2"]
        .iter()
        .chain(&[
            "-display",
            "none",
            "-serial",
            "stdio",
            "-monitor",
            "none",
            "-no-user-config",
            "-nodefaults",
        ])
        .map(|s| (*s).to_owned())
        .collect();
    let mut push = |pair: [String; 2]| arguments.extend(pair);
    push(["-m".into(), options.memory_mib.to_string()]);
    push(["-qmp".into(), format!("unix:{},server=on,wait=off", qmp.display())]);
    push(["-device".into(), "i6300esb".into()]);
    push(["-drive".into(), format!("if=none,id=disk,format=raw,file={}", disk.display())]);
    push(["-device".into(), "virtio-blk-pci,drive=disk,bootindex=0".into()]);
    push(["-device".into(), "virtio-rng-pci".into()]);
    push(["-netdev".into(), {
        let port = options.status_port;
        format!("user,id=lan,hostfwd=tcp:127.0.0.1:{port}-{LAN_ADDRESS}:9777")
    }]);
    push(["-device".into(), format!("virtio-net-pci,netdev=lan,mac={LAN_MAC},romfile=")]);
    if options.wan_namespace.is_some() {
        push(["-netdev".into(), format!("tap,id=wan,ifname={tap},script=no,downscript=no")]);
        push(["-device".into(), format!("virtio-net-pci,netdev=wan,mac={WAN_MAC},romfile=")]);
    }
    match &options.boot {
        Boot::Uefi => {
            let variables = options.work.join("firmware-variables.fd");
            fs::copy(OVMF_VARS, &variables).map_err(io_error(format!("copy {OVMF_VARS}")))?;
            push(["-drive".into(), format!("if=pflash,format=raw,unit=0,readonly=on,file={OVMF_CODE}")]);
            push(["-drive".into(), format!("if=pflash,format=raw,unit=1,file={}", variables.display())]);
        }
        Boot::Direct { kernel, initrd, cmdline } => {
            push(["-kernel".into(), kernel.display().to_string()]);
            push(["-initrd".into(), initrd.display().to_string()]);
            push(["-append".into(), cmdline.clone()]);
        }
    }
    Ok(arguments)
}

/// A loopback port that nobody has right now.
pub fn free_port() -> Result<u16, VmError> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(io_error("find a free port"))?;
    Ok(listener.local_addr().map_err(io_error("find a free port"))?.port())
}

/// One GET over a connection of its own: status code and body.
pub fn http_get(address: SocketAddr, path: &str) -> Result<(u16, String), VmError> {
    let step = || format!("ask http://{address}{path}");
    let mut stream =
        TcpStream::connect_timeout(&address, Duration::from_secs(5)).map_err(io_error(step()))?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(io_error(step()))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(io_error(step()))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(io_error(step()))?;
    let code = answer.get(9..12).and_then(|code| code.parse().ok());
    match (code, answer.split_once("\r\n\r\n")) {
        (Some(code), Some((_, body))) => Ok((code, body.to_owned())),
        _ => Err(VmError::Http { address, answer }),
    }
}

/// Runs a tool to its end and returns what it printed.
pub fn tool(command: &mut Command) -> Result<String, VmError> {
    let shown = format!("{command:?}");
    let output = command.output().map_err(io_error(format!("start {shown}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(VmError::Tool { command: shown, output: String::from_utf8_lossy(&text).into_owned() })
}

/// Copies a file and leaves holes where it is zero.
fn copy_sparse(from: &Path, to: &Path, bytes: Option<u64>) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mut target = File::create(to)?;
    let mut chunk = vec![0; 1 << 20];
    let mut length = 0;
    loop {
        let n = source.read(&mut chunk)?;
        if n == 0 {
            break;
        }
        if chunk[..n].iter().any(|byte| *byte != 0) {
            target.seek(SeekFrom::Start(length))?;
            target.write_all(&chunk[..n])?;
        }
        length += n as u64;
    }
    target.set_len(bytes.unwrap_or(length).max(length))
}
