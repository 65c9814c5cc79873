//! Row B7: real proxies and real services, as Debian has them.

#![expect(clippy::unwrap_used, reason = "a test panics when its ground gives way")]

mod bed;

use bed::{Bed, CLIENT, LONG, gate_of};
use glacis_control::gate::PortOutcome::{self, HttpProxy, Service, Socks4Proxy, Socks5Proxy};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The one port to which web proxies connect by `CONNECT`, unless told otherwise; and one to which they do not.
const TARGETS: [u16; 2] = [443, 8443];
const START_TIME_MAX: Duration = Duration::from_secs(30);

/// A program in the client's namespace, with a folder of its own; ended on drop.
struct Program {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Program {
    /// `argv` names the folder `@`; `config` is its file `config`. Returns when the port is open.
    fn start(bed: &Bed, argv: &[&str], config: &str, port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        // Some programs give up root before they write.
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        fs::write(folder.path().join("config"), config.replace('@', &path)).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let mut command = bed.client.command(argv.iter().map(|word| word.replace('@', &path)));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        let mut program = Self { child: command.spawn().unwrap(), _folder: folder };
        let start = Instant::now();
        let port = SocketAddr::new(bed::address(CLIENT[0]), port);
        while bed.gate.enter(|| TcpStream::connect(port)).is_err() {
            let ended = program.child.try_wait().unwrap();
            if ended.is_some() || start.elapsed() > START_TIME_MAX {
                let log = fs::read_to_string(PathBuf::from(&path).join("log")).unwrap();
                panic!("{argv:?} does not serve ({ended:?}):\n{log}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        program
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: a process group that this process made and has not waited for.
        unsafe { libc::kill(-(self.child.id() as libc::pid_t), libc::SIGKILL) };
        let _ = self.child.wait();
    }
}

fn tinyproxy(bed: &Bed) -> Program {
    // As Debian ships it, but for whom it serves.
    let config = "Port 8888\nTimeout 600\nMaxClients 100\nConnectPort 443\nConnectPort 563\n";
    Program::start(bed, &["tinyproxy", "-d", "-c", "@/config"], config, 8888)
}

fn squid(bed: &Bed) -> Program {
    let stock = fs::read_to_string("/etc/squid/squid.conf").unwrap();
    assert!(
        stock.contains("\nhttp_access deny CONNECT !SSL_ports\n"),
        "Debian's squid has become another one"
    );
    let stock = stock.replace("\nhttp_access deny all\n", "\nhttp_access allow all\n");
    let config = format!(
        "{stock}\npid_filename none\ncache_log @/cache.log\naccess_log none\npinger_enable off\n\
         visible_hostname squid.invalid\ndns_nameservers 192.0.2.1\n"
    );
    Program::start(bed, &["squid", "-N", "-f", "@/config"], &config, 3128)
}

fn danted(bed: &Bed, rule: &str) -> Program {
    let config = format!(
        "logoutput: stderr\nexternal: client0\n\
         internal: 192.0.2.2 port = 1080\ninternal: 2001:db8::2 port = 1080\n\
         clientmethod: none\nsocksmethod: none\nuser.privileged: root\nuser.unprivileged: nobody\n\
         client pass {{ from: 0/0 to: 0/0 }}\nsocks pass {{ from: 0/0 to: 0/0 {rule} }}\n"
    );
    Program::start(bed, &["danted", "-f", "@/config", "-p", "@/pid"], &config, 1080)
}

fn assert_found(bed: &Bed, client: &str, port: u16, target: u16, expected: &[PortOutcome]) {
    let looked = bed.prove(client, &[port], LONG, &gate_of(client, target));
    assert!(looked.took < LONG, "a proof ends the look");
    let outcome = looked.outcome();
    assert!(expected.contains(&outcome), "{outcome:?} by way of {client} to port {target}");
}

#[test]
fn b07_tinyproxy_is_an_http_proxy() {
    let bed = Bed::new("tinyproxy");
    let _program = tinyproxy(&bed);
    for (client, target) in CLIENT.into_iter().flat_map(|client| TARGETS.map(|target| (client, target))) {
        assert_found(&bed, client, 8888, target, &[HttpProxy]);
    }
}

#[test]
fn b07_squid_is_an_http_proxy() {
    let bed = Bed::new("squid");
    let _program = squid(&bed);
    for (client, target) in CLIENT.into_iter().flat_map(|client| TARGETS.map(|target| (client, target))) {
        assert_found(&bed, client, 3128, target, &[HttpProxy]);
    }
}

#[test]
fn b07_danted_is_a_socks_proxy_of_both_versions() {
    let bed = Bed::new("danted");
    let both = danted(&bed, "");
    for target in TARGETS {
        assert_found(&bed, CLIENT[0], 1080, target, &[Socks4Proxy, Socks5Proxy]);
        // Version 4 has no word for an IPv6 address.
        assert_found(&bed, CLIENT[1], 1080, target, &[Socks5Proxy]);
    }
    drop(both);
    let four = danted(&bed, "proxyprotocol: socks_v4");
    assert_found(&bed, CLIENT[0], 1080, 443, &[Socks4Proxy]);
    drop(four);
    let _five = danted(&bed, "proxyprotocol: socks_v5");
    assert_found(&bed, CLIENT[0], 1080, 443, &[Socks5Proxy]);
}

#[test]
fn b07_microsocks_is_a_socks5_proxy() {
    let bed = Bed::new("microsocks");
    let _program = Program::start(&bed, &["microsocks", "-i", "::", "-p", "1080"], "", 1080);
    for (client, target) in CLIENT.into_iter().flat_map(|client| TARGETS.map(|target| (client, target))) {
        assert_found(&bed, client, 1080, target, &[Socks5Proxy]);
    }
}

#[test]
fn b07_a_proxy_that_asks_for_a_password_is_a_service() {
    let bed = Bed::new("password");
    let argv = ["microsocks", "-i", "::", "-p", "1080", "-u", "somebody", "-P", "secret"];
    let _program = Program::start(&bed, &argv, "", 1080);
    let looked = bed.prove(CLIENT[0], &[1080], LONG, &gate_of(CLIENT[0], 443));
    assert!(looked.took < LONG, "it said no in every dialect");
    assert_eq!(looked.outcome(), Service);
}

#[test]
fn b07_nginx_is_a_service() {
    let bed = Bed::new("nginx");
    let config = "daemon off; pid @/pid; error_log stderr; events {}\n\
        http { access_log off; server { listen [::]:80 ipv6only=off; location / { return 200 hello; } } }";
    let _program = Program::start(&bed, &["nginx", "-p", "@", "-c", "@/config"], config, 80);
    for client in CLIENT {
        let looked = bed.prove(client, &[80], LONG, &gate_of(client, 443));
        assert!(looked.took < LONG, "it said no in every dialect");
        assert_eq!(looked.outcome(), Service);
    }
}

#[test]
fn b07_sshd_is_a_service() {
    let bed = Bed::new("sshd");
    fs::create_dir_all("/run/sshd").unwrap();
    let keys = tempfile::tempdir().unwrap();
    let key = keys.path().join("key").to_str().unwrap().to_owned();
    bed.client.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", &key]);
    let config = "Port 22\nPidFile none\nUsePAM no\n";
    let _program =
        Program::start(&bed, &["/usr/sbin/sshd", "-D", "-e", "-f", "@/config", "-h", &key], config, 22);
    for client in CLIENT {
        let looked = bed.prove(client, &[22], LONG, &gate_of(client, 443));
        assert!(looked.took < LONG, "it said no in every dialect");
        assert_eq!(looked.outcome(), Service);
    }
}

#[test]
fn b05_a_proxy_ends_the_look_while_other_ports_are_silent_or_mute() {
    let bed = Bed::new("amid");
    bed.client_input("tcp dport { 22, 80 } drop");
    let _mute = bed.listen(443);
    let _program = tinyproxy(&bed);
    let looked = bed.prove(CLIENT[0], &[22, 80, 443, 8888], LONG, &gate_of(CLIENT[0], 443));
    assert!(looked.took < LONG / 2, "{:?}", looked.took);
    assert_eq!(looked.outcomes(), [(8888, HttpProxy)]);
}
