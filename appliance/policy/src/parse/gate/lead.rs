//! Where a gate leads: `backend "10.10.0.30:443" weight=2`, `route "a.example.org" { … }`, `health`, `idle`.

use super::{Protocol, routes};
use crate::model::Spanned;
use crate::parse::decode::{Children, Fields, Scalar, head};
use crate::parse::problems::Problems;
use crate::parse::values;
use crate::report::Problem;
use glacis_plan::gate::{Backend, HealthCheck, NameRoute, POOL_BACKENDS_MAX, ProxyVersion};
use kdl::KdlNode;
use miette::SourceSpan;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

const WEIGHT: RangeInclusive<u32> = 1..=10;
const WEIGHT_DEFAULT: u8 = 1;
const PROXY_VERSION: RangeInclusive<u32> = 1..=2;

const EVERY: RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(300);
const CHECK_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(30);
const IN_A_ROW: RangeInclusive<u32> = 1..=10;
const HEALTH_DEFAULT: HealthCheck =
    HealthCheck { every: Duration::from_secs(2), timeout: Duration::from_secs(1), fall: 3, rise: 2 };

const IDLE: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(7 * 86_400);
const IDLE_DEFAULT: Duration = Duration::from_secs(3_600);

/// Backends among which connections are balanced.
pub(super) type Pool = Vec<Spanned<Backend>>;

pub(super) struct Lead {
    pub pools: Vec<Pool>,
    pub routes: Vec<NameRoute>,
    pub routes_only: bool,
    pub health: Option<HealthCheck>,
    pub idle: Duration,
}

/// `port`: the gate's own, which a backend has when it does not say another.
pub(super) fn decode(
    children: &Children<'_>,
    gate: SourceSpan,
    port: Option<u16>,
    protocol: &Protocol,
    problems: &Problems,
) -> Lead {
    let routed = routes::decode(children, port, protocol, problems);
    let routes_only = children.value("routes-only", "`#true` or `#false`", values::boolean);
    let only = routes_only.as_ref().is_some_and(|only| only.value);
    let backend = children.many("backend").next();
    match (routes_only.filter(|only| only.value), backend) {
        (Some(only), _) if children.many("route").next().is_none() => problems.add(
            Problem::new(only.span, "`routes-only` without a route lets nobody in")
                .hint("add `route \"www.example.org\" { backend \"10.10.0.30:443\" }`, or take it out"),
        ),
        (Some(only), Some(backend)) => problems.add(
            Problem::new(head(backend), "this backend is never used")
                .related(only.span, "what no route names is let go")
                .hint("put it into a route, or take `routes-only` out"),
        ),
        (None, None) => {
            let hint = "say where it leads: `backend \"10.10.0.30:443\"`";
            problems.add(Problem::new(gate, "a gate that leads nowhere").hint(hint));
        }
        _ => {}
    }
    let first = (!only).then(|| pool(children, port, problems));
    let offset = first.iter().len();
    let (pools, routes): (Vec<_>, Vec<_>) = routed
        .into_iter()
        .enumerate()
        .map(|(at, route)| (route.pool, NameRoute { names: route.names, pool: offset + at }))
        .unzip();
    let idle = values::duration(IDLE, "a duration from \"10s\" to \"7d\"");
    Lead {
        pools: first.into_iter().chain(pools).collect(),
        routes,
        routes_only: only,
        health: children.one("health").map_or(Some(HEALTH_DEFAULT), |node| health(node, problems)),
        idle: children.value("idle", "a duration", idle).map_or(IDLE_DEFAULT, |idle| idle.value),
    }
}

/// The backends of one block.
pub(super) fn pool(children: &Children<'_>, port: Option<u16>, problems: &Problems) -> Pool {
    let nodes = children.many("backend").take(POOL_BACKENDS_MAX);
    let backends: Pool = nodes.filter_map(|node| backend(node, port, problems)).collect();
    if let Some(surplus) = children.many("backend").nth(POOL_BACKENDS_MAX) {
        let message = format!("more than {POOL_BACKENDS_MAX} backends share connections");
        problems.add(Problem::new(head(surplus), message).hint("put a balancer behind the gate"));
    }
    for (at, second) in backends.iter().enumerate() {
        if let Some(first) = backends[..at].iter().find(|first| first.address == second.address) {
            problems.add(
                Problem::new(second.span, format!("the backend {} is given twice", second.address))
                    .label("second")
                    .related(first.span, "first")
                    .hint("give it a greater `weight=` instead"),
            );
        }
    }
    backends
}

/// `backend "10.10.0.30:443" weight=2 proxy-protocol=2`.
fn backend(node: &KdlNode, port: Option<u16>, problems: &Problems) -> Option<Spanned<Backend>> {
    let mut fields = Fields::new(node, problems);
    let address = fields.required_argument("an address with a port", backend_address);
    let weight = fields.property("weight", values::integer(WEIGHT));
    let proxy = fields.property("proxy-protocol", values::integer(PROXY_VERSION));
    let address = address?;
    let (ip, own_port) = address.value;
    let backend = Backend {
        address: SocketAddr::new(ip, own_port.or(port)?),
        weight: weight.map_or(WEIGHT_DEFAULT, |weight| weight.value as u8),
        proxy_protocol: proxy.map(|version| match version.value {
            1 => ProxyVersion::V1,
            _ => ProxyVersion::V2,
        }),
    };
    Some(Spanned { value: backend, span: address.span })
}

fn backend_address(scalar: &Scalar<'_>) -> Result<(IpAddr, Option<u16>), Problem> {
    let read = values::address_and_port(scalar).map_err(|problem| {
        let named = scalar.value.as_string().is_some_and(|text| text.starts_with(char::is_alphabetic));
        if named { problem.hint("names are not looked up: a backend is an address") } else { problem }
    })?;
    let (address, _) = read;
    let mapped = match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped(),
        IpAddr::V4(_) => None,
    };
    if let Some(v4) = mapped {
        let problem = scalar.problem(format!("{address} is an IPv4 address written as an IPv6 one"));
        return Err(problem.hint(format!("write {v4}")));
    }
    if matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
        let problem =
            scalar.problem(format!("{address} is known on one link only, and it does not say which"));
        return Err(problem.hint("give the backend an address that is routed"));
    }
    if address.is_unspecified() || address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Err(scalar.problem(format!("nothing can be led to {address}")));
    }
    Ok(read)
}

/// `health every="2s" timeout="1s" fall=3 rise=2`, or `health #false`.
fn health(node: &KdlNode, problems: &Problems) -> Option<HealthCheck> {
    let mut fields = Fields::new(node, problems);
    let on = fields.argument(values::boolean);
    let says = ["every", "timeout", "fall", "rise"].into_iter().any(|name| fields.has(name));
    let every =
        fields.property("every", values::short_duration(EVERY, "a duration from \"500ms\" to \"5m\""));
    let timeout = fields
        .property("timeout", values::short_duration(CHECK_TIMEOUT, "a duration from \"100ms\" to \"30s\""));
    let fall = fields.property("fall", values::integer(IN_A_ROW));
    let rise = fields.property("rise", values::integer(IN_A_ROW));
    if node.entries().is_empty() {
        let hint = "it is on without a word; write `health #false`, or what differs: `health every=\"5s\"`";
        problems.add(Problem::new(fields.span(), "`health` changes nothing").hint(hint));
    }
    if let Some(off) = on.filter(|on| !on.value) {
        if says {
            let problem = Problem::new(fields.span(), "how to look after backends, and that nobody does");
            problems.add(problem.related(off.span, "off").hint("take `#false` out, or all the rest"));
        }
        return None;
    }
    let every_value = every.as_ref().map_or(HEALTH_DEFAULT.every, |every| every.value);
    // One that could not be read was told, and says nothing of the other.
    let every_is_read = fields.has("every") == every.is_some();
    if let Some(timeout) = timeout.as_ref().filter(|timeout| every_is_read && timeout.value > every_value) {
        let problem = Problem::new(timeout.span, "the answer is still waited for when the next check is due");
        let problem = match every {
            Some(every) => problem.related(every.span, "as often as this"),
            None => problem,
        };
        problems.add(problem.hint("let `every=`, 2 s without a word, be as long as `timeout=` at least"));
    }
    Some(HealthCheck {
        every: every_value,
        timeout: timeout.map_or(HEALTH_DEFAULT.timeout.min(every_value), |timeout| timeout.value),
        fall: fall.map_or(HEALTH_DEFAULT.fall, |fall| fall.value as u8),
        rise: rise.map_or(HEALTH_DEFAULT.rise, |rise| rise.value as u8),
    })
}
