//! TLS goes through untouched; the server's name decides where to.

use crate::ask::*;
use crate::backend::{Backend, Service};
use crate::scene::*;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Names for two backends, and the first one for all others.
fn routed(more: &str) -> String {
    let [first, second, third] = BACKENDS;
    gate_at(
        "shop",
        GATE,
        &format!(
            "protocol tls; backend \"{first}\"; health #false; ports 7001; {more}
             route \"shop.example.org\" {{ backend \"{second}\" }}
             route \"*.example.net\" {{ backend \"{third}\" }}"
        ),
    )
}

/// What a real client says first, for a server name or for none.
pub fn hello_of(scene: &Scene, name: Option<&str>) -> Vec<u8> {
    let listener = scene.outside.enter(|| TcpListener::bind("127.0.0.1:0")).expect("a port is free");
    let to = listener.local_addr().expect("it is bound").to_string();
    let mut argv = vec!["openssl", "s_client", "-connect", &to];
    argv.extend(name.map_or(vec!["-noservername"], |name| vec!["-servername", name]));
    let mut command = scene.outside.command(argv);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut client = command.spawn().expect("openssl starts");
    let (mut stream, _) = listener.accept().expect("it connects");
    let mut record = vec![0; 5];
    stream.read_exact(&mut record).expect("a record has a header");
    let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
    record.resize(5 + length, 0);
    stream.read_exact(&mut record[5..]).expect("a record is as long as it says");
    drop(stream);
    let _ = client.kill();
    let _ = client.wait();
    record
}

fn named(scene: &Scene) -> [Backend; 3] {
    let names = ["first", "second", "third"].map(Service::Named);
    let mut names = names.into_iter();
    BACKENDS.map(|address| Backend::start(scene, address, names.next().expect("as many as backends")))
}

#[test]
fn b11_the_servers_name_leads_to_its_backend() {
    let scene = Scene::new();
    let backends = named(&scene);
    let daemon = daemon(&scene, &routed(""));
    for (name, expected) in [
        (Some("shop.example.org"), "second"),
        (Some("SHOP.example.org"), "second"),
        (Some("a.example.net"), "third"),
        (Some("a.b.example.net"), "third"),
        (Some("example.net"), "first"),
        (Some("elsewhere.example"), "first"),
        (None, "first"),
    ] {
        let hello = hello_of(&scene, name);
        let heard = converse(scene.connect(CLIENT, GATE), &hello);
        assert!(heard.starts_with(expected.as_bytes()), "{name:?}: {}", String::from_utf8_lossy(&heard));
        assert!(heard.ends_with(&hello), "{name:?}: the message is changed on the way");
    }
    let counts = backends.each_ref().map(Backend::count);
    assert_eq!(counts, [3, 2, 2]);
    wait_accepted(&daemon, "shop", 7);
}

#[test]
fn b11_names_without_a_route_are_let_go_where_the_policy_says_so() {
    let scene = Scene::new();
    let backends = named(&scene);
    let policy =
        routed("routes-only #true;").replace(&format!("backend \"{}\"; health", BACKENDS[0]), "health");
    let daemon = daemon(&scene, &policy);
    let talk = |name| converse(scene.connect(CLIENT, GATE), &hello_of(&scene, name));
    assert!(talk(Some("shop.example.org")).starts_with(b"second"));
    assert!(!talk(Some("elsewhere.example")).starts_with(b"first"));
    assert!(!talk(None).starts_with(b"first"));
    assert_eq!(backends.each_ref().map(Backend::count), [0, 1, 0]);
    wait_accepted(&daemon, "shop", 3);
}

/// A real TLS server; killed on drop.
struct Server(Child);

impl Server {
    fn start(scene: &Scene, folder: &Path, address: &str, name: &str) -> Self {
        let (key, certificate) = (folder.join(format!("{name}.key")), folder.join(format!("{name}.pem")));
        let subject = format!("/CN={name}");
        let mut make = Command::new("openssl");
        make.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        make.args(["-days", "2", "-subj", &subject]).arg("-keyout").arg(&key).arg("-out").arg(&certificate);
        glacis_tests::netns::run(&mut make);
        let mut serve = scene.inside.command(["openssl", "s_server", "-accept", address, "-www"]);
        serve.arg("-key").arg(&key).arg("-cert").arg(&certificate);
        let serve = serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Self(serve.spawn().expect("openssl starts"));
        let to: std::net::SocketAddr = address.parse().expect("written as an address");
        glacis_tests::daemon::eventually("openssl listens", SOON, || {
            scene.inside.enter(|| std::net::TcpStream::connect(to)).is_ok()
        });
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn b11_a_real_handshake_is_the_servers_own() {
    let scene = Scene::new();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let _servers = [
        Server::start(&scene, folder.path(), BACKENDS[0], "first.example"),
        Server::start(&scene, folder.path(), BACKENDS[1], "shop.example.org"),
    ];
    let _daemon = daemon(&scene, &routed(""));
    for name in ["shop.example.org", "first.example"] {
        let to = format!("{FIREWALL}:{GATE}");
        let authority = folder.path().join(format!("{name}.pem"));
        let authority = authority.to_str().expect("a temporary folder has a plain name");
        let argv = [
            "openssl",
            "s_client",
            "-connect",
            &to,
            "-servername",
            name,
            "-CAfile",
            authority,
            "-verify_return_error",
            "-verify_hostname",
            name,
            "-quiet",
            "-ign_eof",
        ];
        let mut command = scene.outside.command(argv);
        let client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut client = client.expect("openssl starts");
        let mut stdin = client.stdin.take().expect("stdin is a pipe");
        stdin.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("openssl reads");
        let output = client.wait_with_output().expect("openssl ends");
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(told.contains("200"), "{name}: {told}{}", String::from_utf8_lossy(&output.stderr));
    }
    drop(fs::remove_dir_all(folder.path()));
}

#[test]
fn b12_detecting_admits_tls_too_and_enforcing_closes() {
    for (mode, served) in [("detect", true), ("enforce", false)] {
        let scene = Scene::new();
        let backends = named(&scene);
        let daemon = daemon(&scene, &routed(&format!("mode {mode};")));
        let _open = scene.open_port(CLIENT, 7001);
        let heard = converse(scene.connect(CLIENT, GATE), &hello_of(&scene, Some("shop.example.org")));
        assert_eq!(heard.starts_with(b"second"), served, "{mode}");
        assert_eq!(wait_findings(&daemon, CLIENT)[&7001], "open");
        assert_eq!(backends[1].count(), usize::from(served));
    }
}

#[test]
fn load_a_hello_over_twenty_segments_is_read_as_one() {
    let scene = Scene::new();
    let backends = named(&scene);
    let _daemon = daemon(&scene, &routed(""));
    let hello = hello_of(&scene, Some("shop.example.org"));
    let mut stream = scene.connect(CLIENT, GATE);
    stream.set_nodelay(true).expect("a socket option");
    for piece in hello.chunks(hello.len().div_ceil(20)) {
        stream.write_all(piece).expect("the gate reads");
        // A segment of its own for each.
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    stream.shutdown(Shutdown::Write).expect("one side can end");
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).expect("an answer");
    assert!(heard.starts_with(b"second") && heard.ends_with(&hello), "{} bytes", heard.len());
    assert_eq!(backends.each_ref().map(Backend::count), [0, 1, 0]);
}

#[test]
fn load_a_client_that_never_ends_its_hello_is_not_waited_for_without_end() {
    let scene = Scene::new();
    let backends = named(&scene);
    let daemon = daemon(&scene, &routed(""));
    let hello = hello_of(&scene, Some("shop.example.org"));
    let mut silent = scene.connect(CLIENT, GATE);
    let mut halting = scene.connect(CLIENT, GATE);
    halting.write_all(&hello[..hello.len() / 2]).expect("the gate reads");
    for stream in [&mut silent, &mut halting] {
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)), "it is led on");
    }
    assert_eq!(counter(&wait_accepted(&daemon, "shop", 2), "hello-silent"), 2);
    assert_eq!(backends.each_ref().map(Backend::count), [0, 0, 0]);
}

#[test]
fn load_forged_hellos_end_within_a_bound_and_disturb_nobody() {
    let scene = Scene::new();
    let _backends = named(&scene);
    let daemon = daemon(&scene, &routed(""));
    let hello = hello_of(&scene, Some("shop.example.org"));
    let pid = worker_pid(&daemon);
    let mut sent = 0;
    // Each length field, each of the first bytes, and each place to break off, made wrong.
    for at in (0..hello.len()).step_by(3) {
        for forged in [0x00, 0xff, hello[at] ^ 0x80] {
            let mut bytes = hello.clone();
            bytes[at] = forged;
            converse(scene.connect(CLIENT, GATE), &bytes);
            sent += 1;
        }
        converse(scene.connect(CLIENT, GATE), &hello[..at]);
        sent += 1;
    }
    converse(scene.connect(CLIENT, GATE), &vec![0x16; 64 << 10]);
    assert!(converse(scene.connect(CLIENT, GATE), &hello).starts_with(b"second"));
    assert_eq!(worker_pid(&daemon), pid, "the worker died of it");
    wait_accepted(&daemon, "shop", sent + 2);
}
