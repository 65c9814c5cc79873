//! Looks under way: one for each client and kind of look, whoever waits for it.

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
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio::time::Instant;

/// Connections of one client that wait for one look.
pub const WAITING_PER_CLIENT_MAX: usize = 1_024;

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

type Key = (IpAddr, LookId);

#[derive(Debug, Default)]
pub struct Flights {
    under_way: Mutex<HashMap<Key, Flight>>,
}

#[derive(Debug)]
struct Flight {
    landed: watch::Receiver<Option<Landed>>,
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
    fn under_way(&self) -> MutexGuard<'_, HashMap<Key, Flight>> {
        // A panic ends the process.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Joins the look at a client, or begins it on this thread.
pub fn board(lane: &Rc<Lane>, subject: Subject) -> Boarding {
    let gate = &lane.gate;
    let key = (subject.client, gate.look);
    let mut under_way = lane.shared.flights.under_way();
    if let Some(flight) = under_way.get(&key) {
        let Some(place) = Slot::take(&flight.waiting, WAITING_PER_CLIENT_MAX) else { return Boarding::Full };
        lane.count(GateCounter::Joined);
        return Boarding::Wait(Ticket { landed: flight.landed.clone(), _place: place });
    }
    // What a look learns is in the book before the look is no more under way: asked in this order, nothing slips through.
    let known = lane.shared.book().get(subject.client).cloned();
    let missing = match judge(known.as_ref(), &gate.plan.ports, gate.plan.prove, now()) {
        Judgement::Unknown { missing } => missing,
        Judgement::Clean { .. } => return Boarding::Known(Landed::Clean),
        Judgement::Denied { port, outcome, .. } => return Boarding::Known(Landed::Denied { port, outcome }),
    };
    let (sender, landed) = watch::channel(None);
    let waiting = Arc::default();
    let Some(place) = Slot::take(&waiting, WAITING_PER_CLIENT_MAX) else { return Boarding::Full };
    under_way.insert(key, Flight { landed: landed.clone(), waiting });
    drop(under_way);
    let lane = Rc::clone(lane);
    tokio::task::spawn_local(async move {
        let landed = fly(&lane, subject, known, &missing).await;
        lane.shared.flights.under_way().remove(&key);
        sender.send_replace(Some(landed));
    });
    Boarding::Wait(Ticket { landed, _place: place })
}

async fn fly(lane: &Lane, subject: Subject, known: Option<ClientRecord>, missing: &[u16]) -> Landed {
    let (gate, shared) = (&lane.gate, &lane.shared);
    let Some(permit) = gate.budget.claim(subject.client, missing.len()).await else {
        return Landed::BudgetSpent;
    };
    lane.count(GateCounter::Looks);
    let seen = look(lane, subject, missing).await;
    drop(permit);
    // Not before what is known, even if the clock was set back: what was seen just now is newer.
    let at = known.as_ref().map_or(now(), |known| now().max(known.seen));
    let findings = findings(&gate.plan, &seen, at);
    let judgement = judgement(&gate.plan, known, &findings, subject.client, at);
    shared.book_mut().learn(subject.client, &findings, at);
    gate.state.looked(&seen.outcomes, subject.accepted.elapsed());
    let (landed, verdict) = match judgement {
        Judgement::Clean { .. } => (Landed::Clean, Verdict::Clean),
        Judgement::Denied { port, outcome, .. } => {
            (Landed::Denied { port, outcome }, Verdict::Open { port, outcome })
        }
        Judgement::Unknown { .. } => {
            lane.count(GateCounter::LooksFailed);
            if let Some(error) = &seen.trouble {
                shared.trouble(gate, error);
            }
            return Landed::Failed;
        }
    };
    let gate_name = gate.plan.name.clone();
    let message = FromWorker::Judged { gate: gate_name, client: subject.client, findings, verdict };
    shared.judged(lane.thread, gate, message);
    landed
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
