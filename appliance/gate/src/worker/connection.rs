//! The life of a connection: whose it is, what is made of the client, and where it is led.

use super::backend::{Balance, Led, Member};
use super::counter::GateCounter;
use super::farewell;
use super::flight::{BOARDINGS_MAX, Boarding, Landed, Subject, board};
use super::listen::Lane;
use super::networks::is_nobody;
use super::peek::{self, Peeked};
use super::shared::{Shared, Slot, now};
use crate::book::judge;
use glacis_plan::gate::{Exhausted, GateMode, GateProtocol, ProxyVersion};
use glacis_probe::Claim;
use glacis_relay::{End, Side};
use glacis_wire::client_hello::{self, Hello};
use glacis_wire::denial::Reason;
use glacis_wire::proxy_protocol::{self, Parsed, Version};
use glacis_wire::token::FIND_BYTES_MAX;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// For the PROXY header of a front.
const HEADER_WAIT: Duration = Duration::from_secs(3);
/// For the first TLS message.
const HELLO_WAIT: Duration = Duration::from_secs(10);
/// For the first bytes of a client that is admitted already, while a proof may be under way to us.
const FIRST_BYTES_WAIT: Duration = Duration::from_millis(250);
/// For a backend to take a connection.
const CONNECT_WAIT: Duration = Duration::from_secs(3);
/// Backends that are tried for one connection.
const BACKENDS_TRIED_MAX: usize = 3;

/// Attends to a connection until it ends, and counts how it did.
///
/// Nearly all of a long connection's life is the relay: what came before is in a box of its own, and gone by then.
pub async fn attend(lane: Rc<Lane>, client: TcpStream, peer: SocketAddr, accepted: Instant, _slot: Slot) {
    let end = match Box::pin(lead(&lane, client, peer, accepted)).await {
        Ok(passage) => relay(&lane, passage).await,
        Err(end) => end,
    };
    lane.count(end);
}

/// Both ends of a connection, ready to be relayed.
struct Passage {
    client: TcpStream,
    server: TcpStream,
    /// For the server, before the client's own bytes.
    first: Vec<u8>,
    led: Led,
}

async fn relay(lane: &Lane, passage: Passage) -> GateCounter {
    let Passage { client, server, first, led: _led } = passage;
    let state = &lane.gate.state;
    let _relaying = state.relaying.enter();
    let tally = &state.tallies[lane.thread];
    match glacis_relay::relay(client, server, &lane.gate.relay, first, tally).await.how {
        End::Finished => GateCounter::Relayed,
        End::Idle => GateCounter::Idle,
        End::Broken { side: Side::Client, .. } => GateCounter::ClientBroke,
        End::Broken { side: Side::Server, .. } => GateCounter::BackendBroke,
    }
}

/// A connection and whose it is.
struct Guest {
    client: TcpStream,
    /// As far as we know from whom we hear of it: the socket, or a front.
    source: SocketAddr,
    /// By which address of ours, or of the front, the client came. `None`: the socket knows.
    reached: Option<SocketAddr>,
    accepted: Instant,
}

impl Guest {
    fn reached(&self) -> io::Result<SocketAddr> {
        self.reached.map_or_else(|| self.client.local_addr(), Ok)
    }
}

async fn lead(
    lane: &Rc<Lane>,
    client: TcpStream,
    peer: SocketAddr,
    accepted: Instant,
) -> Result<Passage, GateCounter> {
    let way = async {
        let guest = introduce(lane, client, peer, accepted).await?;
        let guest = admit(lane, guest).await?;
        lead_on(lane, guest).await
    };
    tokio::select! {
        biased;
        passage = way => passage,
        () = lane.gate.state.removed() => Err(GateCounter::GateRemoved),
    }
}

/// Finds out whose connection it is.
async fn introduce(
    lane: &Lane,
    client: TcpStream,
    peer: SocketAddr,
    accepted: Instant,
) -> Result<Guest, GateCounter> {
    let peer_ip = peer.ip().to_canonical();
    let Some(fronts) = &lane.gate.fronts else {
        return Ok(Guest { client, source: peer, reached: None, accepted });
    };
    if !fronts.contains(peer_ip) {
        return Err(GateCounter::Stranger);
    }
    let parse = |bytes: &[u8]| match proxy_protocol::parse(bytes) {
        Ok(Parsed::Incomplete) => None,
        Ok(Parsed::Complete { header, bytes }) => Some(Ok((header, bytes))),
        Err(wrong) => Some(Err(wrong)),
    };
    let peeked = timeout(HEADER_WAIT, peek::until(&client, proxy_protocol::V2_BYTES_MAX, parse));
    let (header, bytes) = match peeked.await {
        Err(_late) => return Err(GateCounter::HeaderSilent),
        Ok(Err(_reset)) => return Err(GateCounter::Left),
        Ok(Ok(Peeked::Told(Ok(header)))) => header,
        // A front that only tries whether somebody takes connections.
        Ok(Ok(Peeked::Ended { said: false })) => return Err(GateCounter::FrontCheck),
        Ok(Ok(Peeked::Told(Err(wrong)))) => {
            tracing::debug!(gate = lane.gate.plan.name, front = %peer_ip, %wrong, "PROXY header");
            return Err(GateCounter::HeaderWrong);
        }
        Ok(Ok(Peeked::Ended { said: true } | Peeked::Full)) => return Err(GateCounter::HeaderWrong),
    };
    peek::take(&client, bytes).map_err(|_reset| GateCounter::Left)?;
    let Some(header) = header else {
        farewell::close(client).await;
        return Err(GateCounter::FrontCheck);
    };
    if is_nobody(header.source.ip()) {
        tracing::debug!(gate = lane.gate.plan.name, front = %peer_ip, client = %header.source, "PROXY header");
        return Err(GateCounter::HeaderWrong);
    }
    Ok(Guest { client, source: header.source, reached: Some(header.destination), accepted })
}

/// Lets only those through whom the gate admits.
async fn admit(lane: &Rc<Lane>, guest: Guest) -> Result<Guest, GateCounter> {
    let (gate, shared) = (&lane.gate, &lane.shared);
    let client = guest.source.ip().to_canonical();
    let landed = match recall(lane, client) {
        Some(landed) => landed,
        None => wait(lane, &guest).await?,
    };
    if landed == Landed::Banned {
        return Err(GateCounter::Banned);
    }
    if brings_proof(lane, &guest.client).await? {
        return Err(GateCounter::Proof);
    }
    let (reason, end) = match landed {
        Landed::Clean => return Ok(guest),
        Landed::Denied { port, outcome } => {
            if gate.plan.mode == GateMode::Detect {
                lane.count(GateCounter::Detected);
                return Ok(guest);
            }
            let outcome_words = farewell::words(outcome);
            (Reason::Port { port, outcome_words }, GateCounter::Denied)
        }
        Landed::BudgetSpent => {
            lane.count(GateCounter::BudgetSpent);
            (Reason::NotLooked, GateCounter::RefusedBudget)
        }
        Landed::Failed => (Reason::NotLooked, GateCounter::RefusedTrouble),
        Landed::Banned => return Err(GateCounter::Banned),
    };
    let is_unjudged = reason == Reason::NotLooked;
    if is_unjudged && (gate.plan.budget.then == Exhausted::Admit || gate.plan.mode == GateMode::Detect) {
        return Ok(guest);
    }
    if let Some(_care) = shared.refused() {
        farewell::refuse(&gate.plan, guest.client, client, reason).await;
    }
    Err(end)
}

/// What is made of a client of whom enough is known. A ban comes before all else: also who is exempt has none of its
/// packets let through. `None`: it is to be looked at.
fn recall(lane: &Lane, client: IpAddr) -> Option<Landed> {
    let gate = &lane.gate;
    let is_exempt = gate.exempts(client).is_some();
    let known = lane.shared.known();
    if known.banned.contains(client) {
        return Some(Landed::Banned);
    }
    if is_exempt {
        lane.count(GateCounter::Exempt);
        return Some(Landed::Clean);
    }
    let landed = Landed::of(&judge(known.book.get(client), &gate.plan.ports, gate.plan.prove, now()))?;
    lane.count(GateCounter::Known);
    Some(landed)
}

/// Waits for the look at the client, with an eye on the connection.
async fn wait(lane: &Rc<Lane>, guest: &Guest) -> Result<Landed, GateCounter> {
    let reached = guest.reached().map_err(|_reset| GateCounter::Left)?;
    let subject = Subject::new(guest.source, reached, guest.accepted);
    let Some(_place) = lane.shared.waiting(subject.client) else { return Ok(Landed::BudgetSpent) };
    lane.gate.state.reached_at(subject.reached.ip());
    let _waiting = lane.gate.state.waiting.enter();
    for _ in 0..BOARDINGS_MAX {
        let mut ticket = match board(lane, subject) {
            Boarding::Known(landed) => return Ok(landed),
            Boarding::Full => return Err(GateCounter::WaitingFull),
            Boarding::Wait(ticket) => ticket,
        };
        let landed = tokio::select! {
            biased;
            landed = ticket.landed() => landed,
            end = watch(&lane.shared, &guest.client) => return Err(end),
        };
        if landed != Landed::BudgetSpent || !ticket.of_another_budget {
            return Ok(landed);
        }
    }
    Ok(Landed::BudgetSpent)
}

/// Ready when a client that waits has left, or when it is none but the proof that somebody is a proxy.
async fn watch(shared: &Shared, client: &TcpStream) -> GateCounter {
    match peek::until(client, FIND_BYTES_MAX, |bytes| claim(shared, bytes)).await {
        Ok(Peeked::Told(Carries::Proof)) => return GateCounter::Proof,
        Err(_) | Ok(Peeked::Ended { said: false }) => {}
        // It said something, and may have ended its side: it waits for an answer.
        Ok(Peeked::Told(Carries::OwnBytes) | Peeked::Full | Peeked::Ended { said: true }) => {
            peek::until_reset(client).await;
        }
    }
    GateCounter::Left
}

enum Carries {
    Proof,
    OwnBytes,
}

fn claim(shared: &Shared, bytes: &[u8]) -> Option<Carries> {
    match shared.proofs.claim(bytes) {
        Claim::Incomplete => None,
        Claim::Proved => Some(Carries::Proof),
        Claim::No => Some(Carries::OwnBytes),
    }
}

/// Whether a connection of a client whose verdict is known brings a proof, for a proxy's way out may be anybody's
/// address. Nobody is looked at, and nobody waits, while no proof is under way.
async fn brings_proof(lane: &Lane, client: &TcpStream) -> Result<bool, GateCounter> {
    // Of TLS, the first message is read all the same, and a proof is none.
    if lane.gate.plan.protocol == GateProtocol::Tls || lane.shared.proofs.in_flight() == 0 {
        return Ok(false);
    }
    let patience = FIRST_BYTES_WAIT.min(lane.gate.plan.timeout);
    let peeked = peek::until(client, FIND_BYTES_MAX, |bytes| claim(&lane.shared, bytes));
    match timeout(patience, peeked).await {
        Ok(Ok(Peeked::Told(Carries::Proof))) => Ok(true),
        Ok(Err(_reset)) => Err(GateCounter::Left),
        Ok(Ok(_)) | Err(_) => Ok(false),
    }
}

/// Finds a backend that takes the connection.
async fn lead_on(lane: &Lane, guest: Guest) -> Result<Passage, GateCounter> {
    let gate = &lane.gate;
    let pool = match gate.plan.protocol {
        GateProtocol::Tls => {
            let server_name = server_name(lane, &guest.client).await?;
            gate.route(server_name.as_deref())
        }
        GateProtocol::Tcp | GateProtocol::Http => gate.route(None),
    };
    let Some(pool) = pool else {
        farewell::close(guest.client).await;
        return Err(GateCounter::NoRoute);
    };
    // From here on they are the backend's. They also are more than a peek that found too few leaves to be noticed.
    let mut said = Vec::new();
    glacis_relay::take_said(&guest.client, &mut said).map_err(|_reset| GateCounter::Left)?;
    match connect(lane, pool, &said).await {
        Ok((server, member, led)) => {
            let first = match member.backend.proxy_protocol {
                None => said,
                Some(version) => {
                    let destination = guest.reached().map_err(|_reset| GateCounter::Left)?;
                    let mut first = proxy_protocol::encode(version_of(version), guest.source, destination);
                    first.append(&mut said);
                    first
                }
            };
            Ok(Passage { client: guest.client, server, first, led })
        }
        Err(end) => {
            if let Some(_care) = lane.shared.refused() {
                farewell::turn_away(gate.plan.protocol, guest.client, &said).await;
            }
            Err(end)
        }
    }
}

const fn version_of(version: ProxyVersion) -> Version {
    match version {
        ProxyVersion::V1 => Version::V1,
        ProxyVersion::V2 => Version::V2,
    }
}

/// The server that a TLS client asks for.
async fn server_name(lane: &Lane, client: &TcpStream) -> Result<Option<String>, GateCounter> {
    let read = |bytes: &[u8]| match client_hello::parse(bytes) {
        Ok(Hello::Incomplete) => None,
        Ok(Hello::Complete { server_name }) => Some(Ok(server_name)),
        Err(wrong) => match lane.shared.proofs.claim(bytes) {
            Claim::Proved => Some(Err(GateCounter::Proof)),
            Claim::Incomplete => None,
            Claim::No => {
                tracing::debug!(gate = lane.gate.plan.name, %wrong, "TLS hello");
                Some(Err(GateCounter::HelloWrong))
            }
        },
    };
    match timeout(HELLO_WAIT, peek::until(client, client_hello::BYTES_MAX, read)).await {
        Err(_late) => Err(GateCounter::HelloSilent),
        Ok(Err(_reset)) => Err(GateCounter::Left),
        Ok(Ok(Peeked::Told(told))) => told,
        Ok(Ok(Peeked::Ended { said: false })) => Err(GateCounter::Left),
        Ok(Ok(Peeked::Ended { said: true } | Peeked::Full)) => Err(GateCounter::HelloWrong),
    }
}

async fn connect<'a>(
    lane: &Lane,
    pool: &'a Balance,
    said: &[u8],
) -> Result<(TcpStream, &'a Member, Led), GateCounter> {
    let mut tried: Vec<SocketAddr> = Vec::new();
    let mut end = GateCounter::NoBackend;
    while tried.len() < BACKENDS_TRIED_MAX
        && let Some(member) = pool.choose(&tried)
    {
        let address = member.state.address;
        let led = Led::to(Arc::clone(&member.state));
        let connecting = async {
            // With a header, it always is us who speaks first.
            if !said.is_empty() || member.backend.proxy_protocol.is_some() {
                glacis_relay::connect_to_speak(address).await
            } else {
                glacis_relay::connect(address).await
            }
        };
        let why = match timeout(CONNECT_WAIT, connecting).await {
            Ok(Ok(server)) => {
                led.arrived();
                if let Some(check) = &lane.gate.plan.health {
                    lane.shared.backend_changed(member.state.succeeded(check));
                }
                return Ok((server, member, led));
            }
            Ok(Err(error)) if is_ours(&error) => {
                tracing::debug!(gate = lane.gate.plan.name, %address, %error, "connection to backend");
                end = GateCounter::Trouble;
                tried.push(address);
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_late) => format!("took no connection within {} s", CONNECT_WAIT.as_secs()),
        };
        if let Some(check) = &lane.gate.plan.health {
            lane.shared.backend_changed(member.state.failed(&why, check));
        }
        end = GateCounter::BackendFailed;
        tried.push(address);
    }
    Err(end)
}

/// Whether a connection failed for a reason that lies with us.
pub fn is_ours(error: &io::Error) -> bool {
    let ours = [
        libc::EMFILE,
        libc::ENFILE,
        libc::ENOBUFS,
        libc::ENOMEM,
        libc::EADDRNOTAVAIL,
        libc::EACCES,
        libc::EPERM,
    ];
    error.raw_os_error().is_some_and(|errno| ours.contains(&errno))
}
