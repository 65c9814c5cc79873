//! What the kernel holds of a gate's fast path, and the steps that fill it.
//!
//! The ruleset declares the sets and reads the mark; who is admitted and which backend serves, the gate's keeper knows.
//! Builds steps, and sends none. A gate without a fast path has nothing here: its steps are none.

use crate::closed::{TABLE, TABLE_FAMILY};
use crate::gate::{Backend, FAST_PATH_CLIENTS_MAX, FAST_PATH_PLACES, GatePlan};
use crate::nft::{
    Atom, Datatype, Element, ElementData, Elements, MapData, Name, NfProto, Object, ObjectKind, Op, Set,
    SetFlags,
};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Upper half of the connection mark of every flow that a gate led; the lower half is the gate's port.
///
/// Ports of gates differ, so that the mark of a flow names its gate as long as the gate stays on its port. Flows of
/// a gate that went, or moved to another port, go on like all that a reload finds.
pub const FLOW_MARK: u32 = 0x6761_0000;
/// The bits of [`FLOW_MARK`].
pub const FLOW_MARK_MASK: u32 = 0xffff_0000;

/// Room in a set of clients beyond [`FAST_PATH_CLIENTS_MAX`]: the kernel counts those whose time is over until it sweeps
/// them, within seconds, and the one that a removal adds to be sure of finding something.
const CLIENTS_SPARE: u32 = 4_096;

/// A timeout of zero would mean "for ever".
const TIMEOUT_MIN: Duration = Duration::from_millis(1);

const FAMILIES: [NfProto; 2] = [NfProto::Ipv4, NfProto::Ipv6];

/// The mark of the connections that the kernel led for a gate.
pub fn flow_mark(gate: &GatePlan) -> u32 {
    FLOW_MARK | u32::from(gate.port)
}

/// Sets and maps of a gate's fast path, without elements; none without a fast path.
pub fn sets(gate: &GatePlan) -> Vec<Set> {
    match gate.fast_path {
        None => vec![],
        Some(_) => {
            FAMILIES.into_iter().flat_map(|family| [clients(gate, family), backends(gate, family)]).collect()
        }
    }
}

/// Counters of a gate's fast path; none without one.
pub fn counters(gate: &GatePlan) -> Vec<Object> {
    let counter = |name| Object { name, kind: ObjectKind::Counter, comment: None };
    match gate.fast_path {
        None => vec![],
        Some(_) => [gate.led_counter(), gate.carried_counter()].map(counter).into(),
    }
}

/// Backends of one family to which the kernel can lead: clients that no route speaks of go to the first pool.
pub fn led_to(gate: &GatePlan, family: NfProto) -> Vec<SocketAddr> {
    let backends = gate.pools.first().map_or(&[][..], |pool| &pool.backends);
    backends.iter().map(|backend| backend.address).filter(|to| family_of(to.ip()) == family).collect()
}

/// Steps that admit a client until its verdict ends, whatever the kernel held of it before; `None`: for good.
///
/// An add alone would keep an older timeout; the first add makes the deletion sure to find something. Whoever admits no
/// more than [`FAST_PATH_CLIENTS_MAX`] to a gate never finds the set full, which the kernel would refuse with `ENFILE`.
pub fn clients_ops(gate: &GatePlan, client: IpAddr, left: Option<Duration>) -> Vec<Op> {
    let mut ops = remove_client_ops(gate, client);
    if gate.fast_path.is_some() {
        let client = client.to_canonical();
        ops.push(add(clients(gate, family_of(client)), vec![client_element(client, left)]));
    }
    ops
}

/// Steps after which a client is not admitted, whether it was or not.
pub fn remove_client_ops(gate: &GatePlan, client: IpAddr) -> Vec<Op> {
    if gate.fast_path.is_none() {
        return vec![];
    }
    let client = client.to_canonical();
    let set = clients(gate, family_of(client));
    let gone = vec![client_element(client, None)];
    let elements = Elements::List(gone.clone());
    vec![add(set.clone(), gone), Op::DeleteElements { family: TABLE_FAMILY, table: TABLE, set, elements }]
}

/// Steps after which exactly these clients are admitted, each with the time that is left to its verdict.
///
/// Of one family at most [`FAST_PATH_CLIENTS_MAX`]: those after them go by way of the worker.
pub fn fill_clients_ops(gate: &GatePlan, admitted: &[(IpAddr, Option<Duration>)]) -> Vec<Op> {
    if gate.fast_path.is_none() {
        return vec![];
    }
    let of_family = |family| {
        let clients = admitted.iter().map(|(client, left)| (client.to_canonical(), *left));
        let fitting = clients.filter(move |(client, _)| family_of(*client) == family);
        fitting.take(FAST_PATH_CLIENTS_MAX as usize).map(|(client, left)| client_element(client, left))
    };
    FAMILIES
        .into_iter()
        .flat_map(|family| refill(clients(gate, family), of_family(family).collect()))
        .collect()
}

/// Steps that lead the admitted clients to these backends of the first pool, in proportion to their weights.
///
/// A family without a backend in service has no place filled: its clients go by way of the worker. Backends beyond
/// the number of places are left out.
pub fn backends_ops(gate: &GatePlan, in_service: &[Backend]) -> Vec<Op> {
    if gate.fast_path.is_none() {
        return vec![];
    }
    let of_family = |family| {
        let fitting: Vec<Backend> =
            in_service.iter().filter(|b| family_of(b.address.ip()) == family).copied().collect();
        places(&fitting).into_iter().zip(0..).map(|(to, place)| place_element(place, to)).collect()
    };
    FAMILIES.into_iter().flat_map(|family| refill(backends(gate, family), of_family(family))).collect()
}

fn clients(gate: &GatePlan, family: NfProto) -> Set {
    Set {
        flags: SetFlags { timeout: true, ..SetFlags::default() },
        size: Some(FAST_PATH_CLIENTS_MAX + CLIENTS_SPARE),
        elements: Elements::Runtime,
        ..Set::new(gate.clients_set(family), [address_type(family)])
    }
}

fn backends(gate: &GatePlan, family: NfProto) -> Set {
    Set {
        data: Some(MapData::Value(vec![address_type(family), Datatype::InetService])),
        size: Some(FAST_PATH_PLACES),
        elements: Elements::Runtime,
        ..Set::new(gate.backends_map(family), [Datatype::HostInteger])
    }
}

const fn address_type(family: NfProto) -> Datatype {
    match family {
        NfProto::Ipv4 => Datatype::Ipv4Addr,
        NfProto::Ipv6 => Datatype::Ipv6Addr,
    }
}

fn client_element(client: IpAddr, left: Option<Duration>) -> Element {
    Element { timeout: left.map(|left| left.max(TIMEOUT_MIN)), ..Element::atom(address(client)) }
}

fn place_element(place: u32, to: SocketAddr) -> Element {
    let value = vec![address(to.ip()), Atom::InetService(to.port())];
    Element { data: Some(ElementData::Value(value)), ..Element::atom(Atom::U32(place)) }
}

fn add(set: Set, elements: Vec<Element>) -> Op {
    Op::AddElements { family: TABLE_FAMILY, table: TABLE, set, elements: Elements::List(elements) }
}

fn refill(set: Set, elements: Vec<Element>) -> Vec<Op> {
    let name: Name = set.name.clone();
    let mut ops = vec![Op::FlushSet { family: TABLE_FAMILY, table: TABLE, set: name }];
    if !elements.is_empty() {
        ops.push(add(set, elements));
    }
    ops
}

/// The backend of each place; empty without backends.
///
/// Each takes the places that it likes best, in the order of a hash over place and address: one that comes or goes
/// moves little more than its own share, and no order of backends matters.
fn places(backends: &[Backend]) -> Vec<SocketAddr> {
    let mut backends = backends.to_vec();
    backends.sort_unstable_by_key(|backend| backend.address);
    backends.truncate(FAST_PATH_PLACES as usize);
    let mut left = quotas(&backends);
    let mut likings: Vec<(u64, usize, u32)> = (0..FAST_PATH_PLACES)
        .flat_map(|place| backends.iter().enumerate().map(move |(i, b)| (liking(place, b.address), i, place)))
        .collect();
    likings.sort_unstable();
    let mut taken = vec![None; FAST_PATH_PLACES as usize];
    for (_, backend, place) in likings {
        let free = &mut taken[place as usize];
        if free.is_none() && left[backend] > 0 {
            left[backend] -= 1;
            *free = Some(backends[backend].address);
        }
    }
    taken.into_iter().flatten().collect()
}

/// Places of each backend: by weight, at least one, [`FAST_PATH_PLACES`] together.
fn quotas(backends: &[Backend]) -> Vec<u32> {
    let total: u32 = backends.iter().map(|backend| u32::from(backend.weight)).sum();
    let due = |i: usize| FAST_PATH_PLACES * u32::from(backends[i].weight);
    let mut quotas: Vec<u32> = (0..backends.len()).map(|i| (due(i) / total.max(1)).max(1)).collect();
    loop {
        let given: u32 = quotas.iter().sum();
        // Above what it is due, in parts of a place; the first of equals.
        let surplus = |i: &usize| i64::from(quotas[*i] * total) - i64::from(due(*i));
        let step = match given.cmp(&FAST_PATH_PLACES) {
            std::cmp::Ordering::Less => (0..quotas.len()).min_by_key(surplus).map(|i| (i, quotas[i] + 1)),
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => {
                let more = (0..quotas.len()).rev().filter(|i| quotas[*i] > 1);
                more.max_by_key(surplus).map(|i| (i, quotas[i] - 1))
            }
        };
        let Some((backend, quota)) = step else { return quotas };
        quotas[backend] = quota;
    }
}

/// Lower is better.
fn liking(place: u32, backend: SocketAddr) -> u64 {
    let mut hasher = DefaultHasher::new();
    (place, backend).hash(&mut hasher);
    hasher.finish()
}

const fn family_of(address: IpAddr) -> NfProto {
    match address {
        IpAddr::V4(_) => NfProto::Ipv4,
        IpAddr::V6(_) => NfProto::Ipv6,
    }
}

const fn address(address: IpAddr) -> Atom {
    match address {
        IpAddr::V4(address) => Atom::Ipv4(address),
        IpAddr::V6(address) => Atom::Ipv6(address),
    }
}

#[cfg(test)]
mod tests;
