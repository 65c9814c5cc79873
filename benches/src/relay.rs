//! The relay by itself, as a small proxy without policy, against `HAProxy` and nginx.

use crate::proxies::{Load, Peer, Road, compare, idle_kibibytes};
use crate::{Bound, Figure, Outcome, Unit};

/// Of `HAProxy`.
const CONNECTIONS_MIN: f64 = 1.2;
const BULK_MIN: f64 = 1.2;
const BULK_PROCESSOR_MAX: f64 = 0.7;
const IDLE_KIBIBYTES_MAX: f64 = 8.0;

pub(crate) fn figures() -> Outcome<Vec<Figure>> {
    let road = Road::new()?;
    let ours = Peer::Own.start(&road)?;
    let haproxy = Peer::Haproxy.start(&road)?;
    let nginx = Peer::Nginx.start(&road)?;
    let direct = Peer::Direct.start(&road)?;
    let all = [&ours, &haproxy, &nginx, &direct];
    let connections = compare(&all, Load::Connections)?;
    let requests = compare(&all, Load::Requests)?;
    let bulk = compare(&all, Load::Bulk)?;
    let prefix = "relay: ";
    let idle_of = |proxy| idle_kibibytes(proxy, road.connections);
    let each = idle_of(&ours)?;
    let idle = Figure {
        what: format!("{prefix}memory of an idle connection"),
        ours: format!("{} connections", road.connections),
        peer: format!("HAProxy {:.1}, nginx {:.1} KiB", idle_of(&haproxy)?, idle_of(&nginx)?),
        value: each,
        unit: Unit::Kibibytes,
        bound: Bound::AtMost(IDLE_KIBIBYTES_MAX),
    };
    Ok(vec![
        connections.rate(prefix, &ours, &haproxy, Bound::AtLeast(CONNECTIONS_MIN))?,
        connections.processor(prefix, &ours, &haproxy, Bound::Told)?,
        connections.rate(prefix, &ours, &nginx, Bound::Told)?,
        connections.rate(prefix, &ours, &direct, Bound::Told)?,
        requests.rate(prefix, &ours, &haproxy, Bound::Told)?,
        requests.rate(prefix, &ours, &nginx, Bound::Told)?,
        bulk.rate(prefix, &ours, &haproxy, Bound::AtLeast(BULK_MIN))?,
        bulk.processor(prefix, &ours, &haproxy, Bound::AtMost(BULK_PROCESSOR_MAX))?,
        bulk.rate(prefix, &ours, &nginx, Bound::Told)?,
        bulk.rate(prefix, &ours, &direct, Bound::Told)?,
        idle,
    ])
}
