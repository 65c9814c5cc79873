//! Takes in what the gate worker tells.

use super::super::{Daemon, now};
use super::{Gates, latest_end};
use crate::storage::Storage;
use glacis_control::gate::{Finding, PortOutcome, Verdict};
use glacis_control::{Ban, BanReason, ClientRecord, EventKind, UnixMillis};
use glacis_gate::book::{Book, Judgement, judge};
use glacis_gate::feed::FromWorker;
use glacis_plan::gate::{GateMode, GatePlan};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Who a ban is by, when a gate found an open port.
const AUTHOR: &str = "gate";

/// Longest reason that a backend is out of service.
const CAUSE_CHARS_MAX: usize = 200;

/// What a turn came to, beside what is in the book.
#[derive(Default)]
struct Turn {
    /// Of whom something else is known now.
    clients: Vec<IpAddr>,
    /// Those of them who had to make room.
    evicted: Vec<IpAddr>,
    found: Vec<EventKind>,
    bans: Vec<Ban>,
    backends: bool,
}

impl Daemon {
    /// All that waited, with one transaction for the kernel.
    pub(in crate::daemon) async fn take_gate_messages(&mut self, messages: Vec<FromWorker>) {
        let at = now();
        let mut turn = Turn::default();
        for message in messages {
            match message {
                // Heard by the feed already.
                FromWorker::Ready => {}
                FromWorker::Judged { gate, client, mut findings, verdict } => {
                    if self.may_have_been_silenced(client.to_canonical()) {
                        // Answers of a banned client are dropped before anybody sees them: silence says nothing. What was
                        // answered was let through.
                        findings.retain(|finding| finding.outcome != PortOutcome::Silent);
                    }
                    self.gates.take_judged(&self.store, &gate, client, findings, verdict, at, &mut turn);
                }
                FromWorker::Backend { gate, address, down } => {
                    self.take_backend(gate, address, down, &mut turn);
                }
                FromWorker::Status { gates } => self.gates.tallies.take(gates),
                FromWorker::Tested { id, result } => self.gates.tests.answer(id, result),
            }
        }
        self.store.forget_clients(std::mem::take(&mut turn.evicted));
        for event in turn.found {
            self.note(event);
        }
        if turn.backends {
            self.fill_backends().await;
        }
        let ops = self.gates.follow(&turn.clients, at);
        self.commit_gate_ops(ops).await;
        if !turn.bans.is_empty() {
            self.block_found(turn.bans).await;
        }
    }

    fn take_backend(&mut self, gate: String, address: SocketAddr, down: Option<String>, turn: &mut Turn) {
        let is_known = self.gates.plan(&gate).is_some_and(|plan| {
            plan.pools.iter().flat_map(|pool| &pool.backends).any(|backend| backend.address == address)
        });
        if !is_known {
            return;
        }
        let key = (gate.clone(), address);
        let down = down.map(|cause| cause.chars().take(CAUSE_CHARS_MAX).collect::<String>());
        turn.backends = true;
        // A backend that comes and goes all the time is told by the status.
        let is_told = may_tell(&mut self.gates.events_left);
        let event = if let Some(cause) = down {
            tracing::warn!(gate, %address, cause, "a backend is out of service");
            self.gates.down.insert(key, cause.clone());
            EventKind::BackendDown { gate, backend: address, cause }
        } else {
            tracing::info!(gate, %address, "a backend serves again");
            self.gates.down.remove(&key);
            EventKind::BackendUp { gate, backend: address }
        };
        turn.found.extend(is_told.then_some(event));
    }

    /// Blocks clients with an open port, unless they are never to be blocked.
    async fn block_found(&mut self, bans: Vec<Ban>) {
        if let Some(why) = self.auto_block_suspended() {
            tracing::warn!(clients = bans.len(), why, "clients with open ports are not blocked");
            return;
        }
        let host = self.host_addresses();
        let (spared, bans): (Vec<Ban>, Vec<Ban>) =
            bans.into_iter().partition(|ban| self.never_blocked(&ban.source, &host).is_some());
        for ban in spared {
            tracing::info!(source = %ban.source, "a client with an open port is never to be blocked");
        }
        self.block_scanners(bans, BTreeMap::new()).await;
    }
}

impl Gates {
    /// Learns what a look found, as far as the policy asked for it.
    #[expect(clippy::too_many_arguments, reason = "the parts of one message, and where they go")]
    fn take_judged(
        &mut self,
        store: &Storage,
        gate: &str,
        client: IpAddr,
        findings: Vec<Finding>,
        verdict: Verdict,
        at: UnixMillis,
        turn: &mut Turn,
    ) {
        // A reload may have taken the gate away meanwhile.
        let Some(plan) = self.configured.as_ref().and_then(|configured| configured.plan(gate)) else {
            return;
        };
        let client = client.to_canonical();
        let findings = credible(plan, findings, at);
        if findings.is_empty() || client.is_loopback() || client.is_unspecified() {
            return;
        }
        learn(&mut self.book, store, client, &findings, at, turn);
        // The core judges by itself; the worker's word only tells that it judged.
        let Judgement::Denied { port, outcome, .. } =
            judge(self.book.get(client), &plan.ports, plan.prove, at)
        else {
            return;
        };
        if !matches!(verdict, Verdict::Open { .. }) {
            return;
        }
        let admitted = plan.mode == GateMode::Detect;
        if may_tell(&mut self.events_left) {
            tracing::info!(gate, %client, port, outcome = outcome.name(), admitted, "client with an open port");
            turn.found.push(EventKind::ClientFound {
                gate: plan.name.clone(),
                client,
                port,
                outcome,
                admitted,
            });
        }
        let holds = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&client));
        // Whom the policy never has looked at cannot be found by looking.
        let on_open = plan
            .on_open
            .as_ref()
            .filter(|on_open| !admitted && !holds(&plan.ignore) && !holds(&on_open.never));
        if let Some(on_open) = on_open {
            turn.bans.push(Ban {
                source: IpNet::from(client),
                since: at,
                until: on_open.block.map(|span| at.plus(span)),
                reason: BanReason::Gate { gate: plan.name.clone(), port, outcome },
                author: AUTHOR.to_owned(),
            });
        }
    }

    /// Learns what another appliance knows. Returns whom it knows something new of.
    pub(super) fn learn_records(
        &mut self,
        store: &Storage,
        records: Vec<ClientRecord>,
        at: UnixMillis,
    ) -> Vec<IpAddr> {
        let mut turn = Turn::default();
        let mut news = vec![];
        for record in records {
            let latest = at.plus(super::requests::LEARNT_END_MAX);
            let findings: Vec<Finding> = record
                .findings
                .iter()
                .filter(|finding| finding.port > 0 && finding.until > at)
                .map(|finding| Finding { until: finding.until.min(latest), ..*finding })
                .collect();
            let client = record.client.to_canonical();
            let before = self.book.get(client).cloned();
            if findings.is_empty() || client.is_loopback() || client.is_unspecified() {
                continue;
            }
            learn(&mut self.book, store, client, &findings, record.seen.min(at), &mut turn);
            if self.book.get(client) != before.as_ref() {
                news.push(client);
            }
        }
        store.forget_clients(turn.evicted);
        news
    }
}

/// Into the book and the store; clients that had to make room are forgotten in both.
fn learn(
    book: &mut Book,
    store: &Storage,
    client: IpAddr,
    findings: &[Finding],
    seen: UnixMillis,
    turn: &mut Turn,
) {
    let evicted = book.learn(client, findings, seen);
    if let Some(record) = book.get(client) {
        store.learn_client(record.clone());
    }
    turn.clients.push(client);
    turn.clients.extend(&evicted);
    turn.evicted.extend(evicted);
}

/// Whether there is room for another event in this tick.
const fn may_tell(events_left: &mut u32) -> bool {
    let may = *events_left > 0;
    *events_left = events_left.saturating_sub(1);
    may
}

/// Findings at ports that the gate names, none of which holds longer than the policy says.
fn credible(plan: &GatePlan, mut findings: Vec<Finding>, at: UnixMillis) -> Vec<Finding> {
    let latest = latest_end(plan, at);
    findings.retain(|finding| plan.ports.binary_search(&finding.port).is_ok() && finding.until > at);
    for finding in &mut findings {
        finding.until = finding.until.min(latest);
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use std::time::Duration;

    const NOW: UnixMillis = UnixMillis(1_000_000_000);

    fn finding(port: u16, ahead: Duration) -> Finding {
        Finding { port, outcome: PortOutcome::Refused, until: NOW.plus(ahead) }
    }

    #[test]
    fn only_ports_and_times_of_the_policy_are_believed() {
        let plan = sample::gate("shop", &[80, 443]);
        let day = plan.remember.clean;
        let told = vec![
            finding(22, day),
            finding(80, day * 1_000),
            finding(443, Duration::ZERO),
            finding(443, Duration::from_secs(60)),
        ];
        assert_eq!(
            credible(&plan, told, NOW),
            [finding(80, day), finding(443, Duration::from_secs(60))],
            "a port that is not named and a time that is over go, a time too far ahead is cut"
        );
    }
}
