//! Proxies, proven by the token that they carry.

use crate::harness::*;
use glacis_control::gate::{PortOutcome, Verdict};
use glacis_gate::GateCounter;
use glacis_plan::GatePlan;
use glacis_plan::gate::{GateProtocol, Prove};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

fn proving(protocol: GateProtocol) -> GatePlan {
    let mut plan = gate("web", 8443);
    plan.prove = Prove::Proxy;
    plan.timeout = Duration::from_millis(1_500);
    plan.protocol = protocol;
    plan
}

/// A program that ends with the test.
struct Running(Child);

impl Running {
    async fn start(line: &[&str], port: u16) -> Self {
        let child = Command::new(line[0])
            .args(&line[1..])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program is installed");
        let running = Self(child);
        for _ in 0..200 {
            if tokio::net::TcpStream::connect((address(CLIENT4), port)).await.is_ok() {
                return running;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{line:?} does not listen");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It fails if the program has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn b7_an_http_proxy_is_proven_whatever_the_gate_speaks() {
    alone(|| async {
        let _one = echo("one", 9000).await;
        let folder = std::env::temp_dir().join(format!("glacis-gate-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let config = folder.join("tinyproxy.conf");
        // It goes out from another address than the client's.
        let text = format!("Port 8080\nListen {CLIENT4}\nBind 203.0.113.99\nTimeout 10\nMaxClients 20\n");
        std::fs::write(&config, text).unwrap();
        let config = config.to_str().unwrap();
        let _proxy = Running::start(&["tinyproxy", "-d", "-c", config], 8080).await;
        for protocol in [GateProtocol::Tcp, GateProtocol::Tls, GateProtocol::Http] {
            let mut core = Core::start(&[proving(protocol)]).await;
            assert_closed(&mut connect(CLIENT4, 8443).await).await;
            let (_, _, verdict) = core
                .wait_for(|message| match message {
                    glacis_gate::feed::FromWorker::Judged { client, findings, verdict, .. }
                        if *client == address(CLIENT4) =>
                    {
                        Some((*client, findings.clone(), *verdict))
                    }
                    _ => None,
                })
                .await;
            assert_eq!(verdict, Verdict::Open { port: 8080, outcome: PortOutcome::HttpProxy });
            let status = core.status_with("web", |status| counted(status, GateCounter::Proof) > 0).await;
            assert_eq!(counted(&status, GateCounter::Denied), 1);
            core.end().unwrap();
        }
        std::fs::remove_dir_all(folder).unwrap();
    });
}

#[test]
fn b7_the_proof_is_seen_although_the_way_out_is_an_ignored_address() {
    alone(|| async {
        let _one = echo("one", 9000).await;
        // Everything comes out of an address that is never looked at.
        let _proxy =
            Running::start(&["microsocks", "-i", CLIENT4, "-p", "8080", "-b", "203.0.113.99"], 8080).await;
        let mut plan = proving(GateProtocol::Tcp);
        plan.ignore = vec!["203.0.113.99/32".parse().unwrap()];
        let mut core = Core::start(&[plan]).await;
        assert_closed(&mut connect(CLIENT4, 8443).await).await;
        let (_, _, verdict) = core.judged().await;
        assert_eq!(verdict, Verdict::Open { port: 8080, outcome: PortOutcome::Socks5Proxy });
        core.count("web", GateCounter::Proof, 1).await;
        core.end().unwrap();
    });
}

#[test]
fn b7_a_service_that_is_no_proxy_is_admitted() {
    alone(|| async {
        let _one = echo("one", 9000).await;
        let listener = open_port(CLIENT4, 22).await;
        let _ssh = tokio::spawn(async move {
            let mut talks = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                stream.try_write(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n").expect("it has room");
                talks.push(stream);
            }
        });
        let mut core = Core::start(&[proving(GateProtocol::Tcp)]).await;
        assert_echoed_by(&mut connect(CLIENT4, 8443).await, "one", "hello").await;
        let (_, findings, verdict) = core.judged().await;
        assert_eq!(verdict, Verdict::Clean);
        assert_eq!((findings[0].port, findings[0].outcome), (22, PortOutcome::Service));
        core.end().unwrap();
    });
}
