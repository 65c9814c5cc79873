//! Who reaches a gate's port, and what its worker may open.

use super::scene::*;
use glacis_plan::gate::GATE_UID;
use std::net::SocketAddr;

/// Whether a user of the router gets a connection. The kernel keeps trying where its output is dropped.
fn reaches(scene: &Scene, user: u32, to: &str) -> bool {
    let to: SocketAddr = to.parse().unwrap();
    let from = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
    scene.router.enter(|| {
        // SAFETY: the raw system call changes the calling thread alone, which ends with the closure.
        let code = unsafe { libc::syscall(libc::SYS_setresuid, user, user, user) };
        assert_eq!(code, 0);
        match dial(from, to, SILENCE) {
            Ok(_) => true,
            Err(error) if is_silence(&error) => false,
            Err(error) => panic!("user {user} to {to}: {error}"),
        }
    })
}

#[test]
fn the_worker_looks_at_probed_ports_and_reaches_backends_and_nothing_else() {
    let second =
        "reverse-scan mail {\n    listen tcp=25 on=wan\n    backend \"10.0.2.31:25\"\n    ports 1080\n}\n";
    let scene = Scene::new("uid", &(gate("ports 80 3128") + second));
    let client =
        [80, 81, 1080, 3128, 7000].map(|port| serve(&scene.client, &format!("[::]:{port}"), "client"));
    let servers = [25, 80, 8443, 8444].map(|port| serve(&scene.servers, &format!("[::]:{port}"), "server"));
    let cases = [
        ("203.0.113.9:80", true, false),
        ("203.0.113.9:3128", true, false),
        ("203.0.113.9:1080", true, false),
        ("[2001:db8:7::9]:80", true, false),
        ("203.0.113.9:81", false, false),
        ("[2001:db8:7::9]:81", false, false),
        // What the policy opens to the host is not the worker's.
        ("203.0.113.9:7000", false, true),
        ("10.0.2.30:8443", true, false),
        ("10.0.2.31:25", true, false),
        ("[fd00:2::30]:8443", true, false),
        ("10.0.2.31:8443", false, false),
        ("10.0.2.30:25", false, false),
        ("10.0.2.30:8444", false, false),
    ];
    for (to, worker, others) in cases {
        assert_eq!(reaches(&scene, GATE_UID, to), worker, "the worker to {to}");
        for user in [0, 65_530] {
            assert_eq!(reaches(&scene, user, to), others, "user {user} to {to}");
        }
    }
    drop((client, servers));
}

#[test]
fn a_gate_with_fronts_is_reached_by_them_alone() {
    let gate = policy(
        "reverse-scan web {
    listen tcp=443 on=wan
    backend \"10.0.2.30:8443\"
    accept-proxy from=\"203.0.113.7\"
    accept-proxy from=\"2001:db8:7::/125\"
}
rules from=internet to=self {
    allow tcp=443
}",
    );
    let scene = Scene::new("fronts", &gate);
    let _worker = serve(&scene.router, "[::]:443", "worker");
    assert_eq!(scene.answerer(CLIENT4, GATE4), "worker");
    assert_eq!(scene.answerer(CLIENT6, GATE6), "worker");
    for (stranger, to) in [(STRANGER4, GATE4), (STRANGER6, GATE6)] {
        assert!(scene.is_shut_out(stranger, to));
    }
}
