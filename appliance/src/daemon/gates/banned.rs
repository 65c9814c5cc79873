//! What a ban means to gates.
//!
//! Packets of a banned client are dropped before anybody sees them, answers to a look among them: a look would see silence,
//! and silence would be remembered as clean. So banned clients are not looked at, also where a front names them, and what
//! was seen of them since is doubted.

use super::super::{Daemon, now};
use super::HEARD_MAX;
use glacis_control::{Ban, UnixMillis};
use glacis_plan::nft::Op;
use ipnet::IpNet;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// What a worker tells is heard by then.
const HEARD_WITHIN: Duration = Duration::from_secs(5);
/// Most lifted bans that are remembered; the oldest goes.
const LIFTED_MAX: usize = 1_024;

/// Bans that were lifted a moment ago: a finding that was on its way since before may be one of their silence.
#[derive(Debug, Default)]
pub(super) struct Lifted(VecDeque<(IpNet, Instant)>);

impl Lifted {
    fn remember(&mut self, sources: &[IpNet]) {
        let now = Instant::now();
        self.0.extend(sources.iter().map(|source| (*source, now)));
        let excess = self.0.len().saturating_sub(LIFTED_MAX);
        self.0.drain(..excess);
        while self.0.front().is_some_and(|(_, at)| at.elapsed() > HEARD_WITHIN) {
            self.0.pop_front();
        }
    }

    fn contains(&self, client: IpAddr) -> bool {
        self.0.iter().any(|(source, at)| at.elapsed() <= HEARD_WITHIN && source.contains(&client))
    }
}

impl Daemon {
    /// Takes banned clients out of the fast paths, by the steps that are returned, and tells the worker of them. Those that
    /// are `replaced` have a wider ban in their place.
    pub(in crate::daemon) fn gates_ban(&mut self, bans: &[Ban], replaced: &[IpNet]) -> Vec<Op> {
        let added: Vec<(IpNet, UnixMillis)> = bans.iter().map(|ban| (ban.source, ban.since)).collect();
        self.gates.tell_bans(&added, replaced);
        let doubted: Vec<IpAddr> =
            added.iter().flat_map(|(source, since)| self.gates.book.doubt(source, *since)).collect();
        let (kept, gone): (Vec<IpAddr>, Vec<IpAddr>) =
            doubted.into_iter().partition(|client| self.gates.book.get(*client).is_some());
        for record in kept.iter().filter_map(|client| self.gates.book.get(*client)) {
            self.store.learn_client(record.clone());
        }
        self.store.forget_clients(gone);
        self.gates.leave(bans)
    }

    /// Lets the worker look at them again, and the kernel lead those who were clean before. To be called when the kernel lets
    /// them through.
    pub(in crate::daemon) async fn gates_lift(&mut self, sources: &[IpNet]) {
        self.gates.lifted.remember(sources);
        self.gates.tell_bans(&[], sources);
        let known = sources.iter().flat_map(|source| self.gates.book.within(source));
        let known: Vec<IpAddr> = known.filter(|client| self.bans.covering(*client).is_none()).collect();
        for clients in known.chunks(HEARD_MAX) {
            let ops = self.gates.follow(clients, now());
            self.commit_gate_ops(ops).await;
        }
    }

    /// Whether the kernel may have dropped the answers of a client while it was looked at.
    pub(super) fn may_have_been_silenced(&self, client: IpAddr) -> bool {
        self.bans.covering(client).is_some() || self.gates.lifted.contains(client)
    }
}
