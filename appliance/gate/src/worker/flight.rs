//! Looks under way: one for each client and kind of look, whoever waits for it.

use super::budget::Budget;
use super::counter::GateCounter;
use super::gate::LookId;
use super::listen::Lane;
use super::networks::is_link_local;
use super::shared::{Slot, now};
use crate::book::{Book, Judgement, judge};
use crate::feed::FromWorker;
use glacis_control::UnixMillis;
use glacis_control::gate::{ClientRecord, Finding, PortOutcome, Verdict};
use glacis_plan::gate::{GatePlan, Prove};
use glacis_probe::{Look, Seen, Stop};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio::time::Instant;

/// Looks under way and waiting for their budget. Beyond, there is no budget for another.
const FLIGHTS_MAX: usize = 16_384;
/// Connections of one client that wait for one look. More are let go: where a spent budget admits, nobody is to get past
/// its own look by coming often.
const WAITING_PER_CLIENT_MAX: usize = 1_024;
/// Looks that one connection waits for, one after another, where other gates' budgets were spent.
pub const BOARDINGS_MAX: usize = 3;

/// What came of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landed {
    Clean,
    Denied {
        port: u16,
        outcome: PortOutcome,
    },
    /// It never began.
    BudgetSpent,
    /// An error of ours kept it from a verdict.
    Failed,
    /// The client is banned, or was while it was looked at: what was seen proves nothing.
    Banned,
}

impl Landed {
    /// `None`: there is more to be known.
    pub const fn of(judgement: &Judgement) -> Option<Self> {
        match judgement {
            Judgement::Clean { .. } => Some(Self::Clean),
            Judgement::Denied { port, outcome, .. } => Some(Self::Denied { port: *port, outcome: *outcome }),
            Judgement::Unknown { .. } => None,
        }
    }
}

/// Somebody to look at.
#[derive(Debug, Clone, Copy)]
pub struct Subject {
    pub client: IpAddr,
    /// Of a link-local client; otherwise 0.
    pub scope: u32,
    /// By which address the client reached the gate.
    pub reached: SocketAddr,
    pub accepted: Instant,
}

impl Subject {
    pub fn new(source: SocketAddr, reached: SocketAddr, accepted: Instant) -> Self {
        let scope = match source {
            SocketAddr::V6(v6) if is_link_local(*v6.ip()) => v6.scope_id(),
            _ => 0,
        };
        let reached = SocketAddr::new(reached.ip().to_canonical(), reached.port());
        Self { client: source.ip().to_canonical(), scope, reached, accepted }
    }
}

/// Client, scope and kind of look.
type Key = (IpAddr, u32, LookId);

#[derive(Debug, Default)]
pub struct Flights {
    under_way: Mutex<HashMap<Key, Arc<Flight>>>,
}

#[derive(Debug)]
struct Flight {
    key: Key,
    /// What it takes its turn from. Other gates that look in the same way may have more left.
    budget: Arc<Budget>,
    landed: watch::Sender<Option<Landed>>,
    waiting: Arc<AtomicUsize>,
}

/// How a connection comes to a verdict.
pub enum Boarding {
    /// It is known by now.
    Known(Landed),
    Wait(Ticket),
    /// Too many connections of this client wait already.
    Full,
}

/// A place among those who wait for a look.
pub struct Ticket {
    landed: watch::Receiver<Option<Landed>>,
    /// Whether another gate began it: that its budget is spent says nothing of one's own.
    pub of_another_budget: bool,
    _place: Slot,
}

impl Ticket {
    pub async fn landed(&mut self) -> Landed {
        match self.landed.wait_for(Option::is_some).await {
            Ok(landed) => landed.unwrap_or(Landed::Failed),
            // Its thread ends.
            Err(_) => Landed::Failed,
        }
    }
}

impl Flights {
    /// Ends the looks at clients who are banned now. Whoever waits hears of it at once, and nothing is learnt, also if
    /// the ban is lifted before a look would have ended.
    pub fn ground(&self, is_banned: impl Fn(IpAddr) -> bool) {
        self.under_way().retain(|(client, ..), flight| {
            let stays = !is_banned(*client);
            if !stays {
                flight.land(Landed::Banned);
            }
            stays
        });
    }

    /// Ends a look that nobody waits for any more. Whoever comes next begins another one.
    fn leave_if_deserted(&self, flight: &Arc<Flight>) -> bool {
        let mut under_way = self.under_way();
        // Who joins does so under this lock.
        let is_deserted = flight.waiting.load(Ordering::Relaxed) == 0;
        if is_deserted {
            remove(&mut under_way, flight);
        }
        is_deserted
    }

    fn leave(&self, flight: &Arc<Flight>) {
        remove(&mut self.under_way(), flight);
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<Key, Arc<Flight>>> {
        // A panic ends the process.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Another one may have taken the place of a flight that was grounded.
fn remove(under_way: &mut HashMap<Key, Arc<Flight>>, flight: &Arc<Flight>) {
    if under_way.get(&flight.key).is_some_and(|known| Arc::ptr_eq(known, flight)) {
        under_way.remove(&flight.key);
    }
}

impl Flight {
    fn board(&self, own: &Arc<Budget>) -> Boarding {
        match Slot::take(&self.waiting, WAITING_PER_CLIENT_MAX) {
            Some(place) => Boarding::Wait(Ticket {
                landed: self.landed.subscribe(),
                of_another_budget: !Arc::ptr_eq(&self.budget, own),
                _place: place,
            }),
            None => Boarding::Full,
        }
    }

    /// Tells those who wait. Only the first word counts.
    fn land(&self, landed: Landed) {
        self.landed.send_if_modified(|told| {
            let is_first = told.is_none();
            if is_first {
                *told = Some(landed);
            }
            is_first
        });
    }

    fn has_landed(&self) -> bool {
        self.landed.borrow().is_some()
    }

    async fn grounded(&self) {
        // It cannot fail: the sender lives as long as `self`.
        let _ = self.landed.subscribe().wait_for(Option::is_some).await;
    }
}

/// Joins the look at a client, or begins it on this thread.
pub fn board(lane: &Rc<Lane>, subject: Subject) -> Boarding {
    let gate = &lane.gate;
    let key = (subject.client, subject.scope, gate.look);
    let mut under_way = lane.shared.flights.under_way();
    if let Some(flight) = under_way.get(&key) {
        let boarding = flight.board(&gate.budget);
        if matches!(boarding, Boarding::Wait(_)) {
            lane.count(GateCounter::Joined);
        }
        return boarding;
    }
    // What a look learns is in the book before the look is no more under way, and a ban is minded before looks are
    // grounded: asked in this order, nothing slips through.
    let known = {
        let known = lane.shared.known();
        if known.banned.contains(subject.client) {
            return Boarding::Known(Landed::Banned);
        }
        known.book.get(subject.client).cloned()
    };
    let missing = match judge(known.as_ref(), &gate.plan.ports, gate.plan.prove, now()) {
        Judgement::Unknown { missing } => missing,
        Judgement::Clean { .. } => return Boarding::Known(Landed::Clean),
        Judgement::Denied { port, outcome, .. } => return Boarding::Known(Landed::Denied { port, outcome }),
    };
    if under_way.len() >= FLIGHTS_MAX {
        return Boarding::Known(Landed::BudgetSpent);
    }
    let flight = Arc::new(Flight {
        key,
        budget: Arc::clone(&gate.budget),
        landed: watch::Sender::new(None),
        waiting: Arc::default(),
    });
    let boarding = flight.board(&gate.budget);
    under_way.insert(key, Arc::clone(&flight));
    drop(under_way);
    let lane = Rc::clone(lane);
    tokio::task::spawn_local(async move {
        tokio::select! {
            biased;
            () = flight.grounded() => {}
            () = fly(&lane, &flight, subject, known, &missing) => {}
        }
    });
    boarding
}

async fn fly(
    lane: &Lane,
    flight: &Arc<Flight>,
    subject: Subject,
    known: Option<ClientRecord>,
    missing: &[u16],
) {
    let flights = &lane.shared.flights;
    let Some(permit) = flight.budget.claim(subject.client, missing.len()).await else {
        // Gone first: who boards another one is not to meet it again.
        flights.leave(flight);
        flight.land(Landed::BudgetSpent);
        return;
    };
    if flights.leave_if_deserted(flight) {
        return;
    }
    lane.count(GateCounter::Looks);
    let seen = look(lane, subject, missing).await;
    drop(permit);
    land(lane, flight, subject, known, &seen);
    flights.leave(flight);
}

/// Learns what was seen, and tells it to the core and to those who wait.
fn land(lane: &Lane, flight: &Flight, subject: Subject, known: Option<ClientRecord>, seen: &Seen) {
    let (gate, shared, client) = (&lane.gate, &lane.shared, subject.client);
    // Not before what is known, even if the clock was set back: what was seen just now is newer.
    let at = known.as_ref().map_or(now(), |known| now().max(known.seen));
    let findings = findings(&gate.plan, seen, at);
    let judgement = judgement(&gate.plan, known, &findings, client, at);
    let landed = Landed::of(&judgement).unwrap_or(Landed::Failed);
    {
        // Until all is told, no ban comes in between.
        let mut known = shared.known_mut();
        if known.banned.contains(client) {
            flight.land(Landed::Banned);
        }
        // Perhaps by a ban that was lifted since.
        if flight.has_landed() {
            return;
        }
        gate.state.looked(&seen.outcomes, subject.accepted.elapsed());
        if is_lasting(client) {
            known.book.learn(client, &findings, at);
            if let Some(verdict) = verdict(landed) {
                let gate_name = gate.plan.name.clone();
                let message = FromWorker::Judged { gate: gate_name, client, findings, verdict };
                shared.judged(lane.thread, gate, message);
            }
        }
        flight.land(landed);
    }
    if landed == Landed::Failed {
        lane.count(GateCounter::LooksFailed);
        if let Some(error) = &seen.trouble {
            shared.trouble(gate, error);
        }
    }
}

/// Whether an address says whose it is: a link-local one is somebody else's behind each interface.
fn is_lasting(client: IpAddr) -> bool {
    !matches!(client, IpAddr::V6(v6) if is_link_local(v6))
}

const fn verdict(landed: Landed) -> Option<Verdict> {
    match landed {
        Landed::Clean => Some(Verdict::Clean),
        Landed::Denied { port, outcome } => Some(Verdict::Open { port, outcome }),
        Landed::BudgetSpent | Landed::Failed | Landed::Banned => None,
    }
}

/// Looks at these ports of a client, and tells nobody.
pub async fn look(lane: &Lane, subject: Subject, ports: &[u16]) -> Seen {
    let (plan, shared) = (&lane.gate.plan, &lane.shared);
    let stop = match plan.prove {
        Prove::Open => Stop::Open,
        Prove::Proxy => Stop::Proxy { proofs: &shared.proofs, target: subject.reached },
    };
    let look = Look { client: subject.client, scope: subject.scope, ports, timeout: plan.timeout, stop };
    glacis_probe::look(look).await
}

/// What was seen, with the time until which it holds.
fn findings(plan: &GatePlan, seen: &Seen, at: UnixMillis) -> Vec<Finding> {
    let mut findings: Vec<Finding> = seen
        .outcomes
        .iter()
        .map(|(port, outcome)| {
            let holds = match outcome {
                // Good or bad, as the gate sees it.
                PortOutcome::Service => plan.remember.clean.min(plan.remember.open),
                outcome if outcome.is_open() => plan.remember.open,
                _ => plan.remember.clean,
            };
            Finding { port: *port, outcome: *outcome, until: at.plus(holds) }
        })
        .collect();
    findings.sort_unstable_by_key(|finding| finding.port);
    findings
}

/// By what was known before and what was found now, whether or not the book has room for it.
fn judgement(
    plan: &GatePlan,
    known: Option<ClientRecord>,
    findings: &[Finding],
    client: IpAddr,
    at: UnixMillis,
) -> Judgement {
    let mut both = Book::new();
    if let Some(known) = known {
        both.learn_record(&known);
    }
    both.learn(client, findings, at);
    judge(both.get(client), &plan.ports, plan.prove, at)
}
