//! What the command line asks of gates.

use super::super::control_socket::refused;
use super::super::{Daemon, now};
use super::HEARD_MAX;
use glacis_control::gate::{FINDINGS_PER_MESSAGE, GateTest, parts};
use glacis_control::{ClientRecord, EventKind, Reply};
use glacis_gate::feed::ToWorker;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Most records of one reply, and most findings of them together: a message has a bound. Who wants the rest asks by
/// network.
const RECORDS_MAX: usize = 20_000;
const FINDINGS_MAX: usize = 2 * FINDINGS_PER_MESSAGE;
/// Looks that are asked for by hand at once.
const TESTS_MAX: usize = 16;
/// A look is over by then: two times the longest timeout, and time to spare.
const TEST_TIMEOUT: Duration = Duration::from_secs(25);
/// What another appliance says holds no longer than this, whatever it says.
pub(super) const LEARNT_END_MAX: Duration = Duration::from_secs(30 * 86_400);

/// Looks whose results are awaited.
#[derive(Default)]
pub(super) struct Tests {
    next: u64,
    waiting: BTreeMap<u64, (Instant, oneshot::Sender<Reply>)>,
}

impl Tests {
    fn begin(&mut self, reply: oneshot::Sender<Reply>) -> u64 {
        self.next += 1;
        self.waiting.insert(self.next, (Instant::now(), reply));
        self.next
    }

    pub(super) fn answer(&mut self, id: u64, result: Result<GateTest, String>) {
        // One that was given up is not there any more.
        if let Some((_, reply)) = self.waiting.remove(&id) {
            let _ = reply.send(match result {
                Ok(test) => Reply::GateTested { test },
                Err(why) => refused(format!("the client could not be looked at: {why}")),
            });
        }
    }

    pub(super) fn give_up(&mut self) {
        let late = |(begun, _): &mut (Instant, _)| begun.elapsed() > TEST_TIMEOUT;
        for (_, (_, reply)) in self.waiting.extract_if(.., |_, test| late(test)) {
            let _ = reply.send(refused("the gate worker did not answer in time".to_owned()));
        }
    }

    pub(super) fn refuse_all(&mut self, why: &str) {
        for (_, reply) in std::mem::take(&mut self.waiting).into_values() {
            let _ = reply.send(refused(why.to_owned()));
        }
    }
}

impl Daemon {
    pub(in crate::daemon) fn gate_verdicts(&self, within: Option<IpNet>, limit: u32) -> Reply {
        let book = &self.gates.book;
        let is_asked_for = |record: &&ClientRecord| within.is_none_or(|net| net.contains(&record.client));
        let mut records: Vec<&ClientRecord> = book.records().filter(is_asked_for).collect();
        records.sort_unstable_by_key(|record| (Reverse(record.seen), record.client));
        records.truncate((limit as usize).min(RECORDS_MAX));
        let mut findings = 0;
        let fitting = records.into_iter().take_while(|record| {
            findings += record.findings.len();
            findings <= FINDINGS_MAX
        });
        Reply::GateVerdicts { records: fitting.cloned().collect(), clients: book.len() as u64 }
    }

    pub(in crate::daemon) async fn gate_forget(&mut self, within: Option<IpNet>, author: String) -> Reply {
        let all = || vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
        let within = within.map_or_else(all, |net| vec![net.trunc()]);
        let forgotten: Vec<IpAddr> = within.iter().flat_map(|net| self.gates.book.forget(net)).collect();
        // Also those that only the worker knows by now.
        self.gates.worker.tell(ToWorker::Forget { within }, vec![]);
        let ops = self.gates.follow(&forgotten, now());
        self.commit_gate_ops(ops).await;
        let clients = forgotten.len() as u64;
        if clients > 0 {
            self.store.forget_clients(forgotten);
            self.note(EventKind::ClientsForgotten { clients, author });
        }
        Reply::GateForgotten { clients }
    }

    pub(in crate::daemon) async fn gate_learn(&mut self, records: Vec<ClientRecord>) -> Reply {
        let at = now();
        let news = self.gates.learn_records(&self.store, records, at);
        let known = news.iter().filter_map(|client| self.gates.book.get(*client)).cloned();
        for records in parts(known) {
            self.gates.worker.tell(ToWorker::Learn { records }, vec![]);
        }
        for clients in news.chunks(HEARD_MAX) {
            let ops = self.gates.follow(clients, at);
            self.commit_gate_ops(ops).await;
        }
        Reply::GateLearned { clients: news.len() as u64 }
    }

    /// Answers when the worker has looked.
    pub(in crate::daemon) fn gate_test(
        &mut self,
        gate: Option<String>,
        client: IpAddr,
        reply: oneshot::Sender<Reply>,
    ) {
        let names: Vec<String> = self.wanted.gates.iter().map(|gate| gate.name.clone()).collect();
        let refusal = match (&gate, names.as_slice()) {
            (_, []) => Some("the policy has no `reverse-scan` gate".to_owned()),
            (Some(name), names) if !names.contains(name) => {
                Some(format!("there is no gate {name}; there are: {}", names.join(", ")))
            }
            (None, [_, _, ..]) => Some(format!("say which gate, with --gate: {}", names.join(", "))),
            _ if !self.gates.worker.is_running() => {
                Some("the gate worker is not running just now".to_owned())
            }
            _ if self.gates.tests.waiting.len() >= TESTS_MAX => {
                Some(format!("{TESTS_MAX} looks are under way already; try again in a moment"))
            }
            _ => None,
        };
        if let Some(message) = refusal {
            let _ = reply.send(refused(message));
            return;
        }
        let gate = gate.or_else(|| names.into_iter().next()).unwrap_or_default();
        let id = self.gates.tests.begin(reply);
        self.gates.worker.tell(ToWorker::Test { id, gate, client: client.to_canonical() }, vec![]);
    }
}
