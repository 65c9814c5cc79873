//! A gate of the real daemon, with and without the kernel's way past it, against the proxies and plain DNAT.
//!
//! Peers are measured twice: behind the same ruleset as the gate, which a firewall with a proxy or a port forward on it has,
//! too, and without, where nobody looks for banned or forged sources. `HAProxy` is then in a namespace where the kernel does
//! not even follow connections.

use crate::proxies::{FRONT, Load, Peer, Road, Running, SERVER, compare, idle_kibibytes};
use crate::{Bound, Figure, Outcome, Unit};
use glacis_tests::daemon::Daemon;
use std::net::SocketAddr;

const RELAYED_PORT: u16 = 7004;
const LED_PORT: u16 = 7005;
/// Forwarded by the same policy without a gate.
const FORWARDED_PORT: u16 = 7007;
/// Of `HAProxy`.
const CONNECTIONS_MIN: f64 = 1.2;
const BULK_MIN: f64 = 1.2;
const BULK_PROCESSOR_MAX: f64 = 0.7;
/// Of plain DNAT.
const LED_MIN: f64 = 0.98;
const IDLE_KIBIBYTES_MAX: f64 = 8.0;

fn policy() -> String {
    format!(
        r#"
policy version=1 name="gate"
interface g0 {{ address "198.51.100.1/24" }}
interface g1 {{ address "192.0.2.1/24" }}
zone clients {{ from g0; default drop }}
zone servers {{ from g1; default reject }}
rules from=clients to=self {{ allow tcp={haproxy}; allow tcp={nginx} }}
rules from=self to=servers {{ allow tcp={server} }}
nat {{
    forward tcp={FORWARDED_PORT} in=g0 to="{server_ip}" to-port={server}
    masquerade clients out=g1
}}
reverse-scan relayed {{
    listen tcp={RELAYED_PORT} on=g0
    backend "{SERVER}"
    ports 22 1080
    fast-path #false
}}
reverse-scan led {{
    listen tcp={LED_PORT} on=g0
    backend "{SERVER}"
    ports 22 1080
    fast-path #true
}}
"#,
        haproxy = Peer::Haproxy.port(),
        nginx = Peer::Nginx.port(),
        server = SERVER.port(),
        server_ip = SERVER.ip(),
    )
}

pub(crate) fn figures() -> Outcome<Vec<Figure>> {
    let (walled, bare) = (Road::new()?, Road::new()?);
    let daemon = Daemon::start(&walled.proxy, &policy());
    let (gate, _) = gates(&walled, &daemon)?;
    let (haproxy, nginx) = (Peer::Haproxy.start(&walled)?, Peer::Nginx.start(&walled)?);
    let bare_haproxy = Peer::Haproxy.start(&bare)?.named("HAProxy, no ruleset");

    // Each of its own: the server would take a led client's port for one that another proxy had a moment ago.
    let (led_road, forward_road, dnat_road) = (Road::new()?, Road::new()?, Road::new()?);
    let leading = Daemon::start(&led_road.proxy, &policy());
    let (_, led) = gates(&led_road, &leading)?;
    let _forwarding = Daemon::start(&forward_road.proxy, &policy());
    let forward = Running::by("forward", &forward_road, SocketAddr::new(FRONT.into(), FORWARDED_PORT));
    forward_road.wait_for(forward.name, forward.target)?;
    let dnat = Peer::Dnat.start(&dnat_road)?.named("DNAT, no ruleset");

    let relayed = [&gate, &haproxy, &nginx, &bare_haproxy];
    let connections = compare(&relayed, Load::Connections)?;
    let requests = compare(&relayed, Load::Requests)?;
    let bulk = compare(&relayed, Load::Bulk)?;
    let told = Bound::Told;
    let mut figures = vec![
        connections.rate("gate: ", &gate, &haproxy, Bound::AtLeast(CONNECTIONS_MIN))?,
        connections.rate("gate: ", &gate, &bare_haproxy, Bound::AtLeast(CONNECTIONS_MIN))?,
        connections.rate("gate: ", &gate, &nginx, told)?,
        connections.processor("gate: ", &gate, &haproxy, told)?,
        requests.rate("gate: ", &gate, &haproxy, told)?,
        requests.rate("gate: ", &gate, &bare_haproxy, told)?,
        requests.rate("gate: ", &gate, &nginx, told)?,
        bulk.rate("gate: ", &gate, &haproxy, Bound::AtLeast(BULK_MIN))?,
        bulk.rate("gate: ", &gate, &bare_haproxy, Bound::AtLeast(BULK_MIN))?,
        bulk.processor("gate: ", &gate, &haproxy, Bound::AtMost(BULK_PROCESSOR_MAX))?,
        bulk.processor("gate: ", &gate, &bare_haproxy, Bound::AtMost(BULK_PROCESSOR_MAX))?,
        idle(&gate, walled.connections)?,
    ];
    for load in [Load::Connections, Load::Requests, Load::Bulk] {
        let compared = compare(&[&led, &forward, &dnat], load)?;
        for peer in [&forward, &dnat] {
            figures.push(compared.rate("fast path: ", &led, peer, Bound::AtLeast(LED_MIN))?);
        }
    }
    Ok(figures)
}

/// Both, once the client is known and the kernel leads it.
fn gates<'a>(road: &'a Road, daemon: &Daemon<'_>) -> Outcome<(Running<'a>, Running<'a>)> {
    let at = |port| SocketAddr::new(FRONT.into(), port);
    for port in [RELAYED_PORT, LED_PORT] {
        road.wait_for("the gate", at(port))?;
    }
    let status = daemon.wait_for("the kernel leads the client", |status| {
        status["gates"]
            .as_array()
            .is_some_and(|gates| gates.iter().any(|gate| gate["fast_path"]["clients"] == 1))
    });
    let workers = status["workers"].as_array().ok_or("the status names no workers")?;
    let worker = workers.iter().find(|worker| worker["name"] == "gate").ok_or("there is no gate worker")?;
    let pid = worker["pid"].as_u64().ok_or("a worker without a pid in the status")?.try_into()?;
    Ok((Running::by("gate", road, at(RELAYED_PORT)).of(pid), Running::by("fast path", road, at(LED_PORT))))
}

fn idle(gate: &Running<'_>, connections: usize) -> Outcome<Figure> {
    // The worker lets go those for whom it would need more than three quarters of its descriptors.
    let count = connections / 10 * 7;
    Ok(Figure {
        what: "gate: memory of an idle connection".to_owned(),
        ours: format!("{count} connections"),
        peer: String::new(),
        value: idle_kibibytes(gate, count)?,
        unit: Unit::Kibibytes,
        bound: Bound::AtMost(IDLE_KIBIBYTES_MAX),
    })
}
