//! What a ban means to gates.
//!
//! Packets of a banned client are dropped before anybody sees them, answers to a look among them: a look would see silence,
//! and silence would be remembered as clean. So banned clients are not looked at, also where a front names them, and what
//! was seen of them since is doubted.

use super::super::Daemon;
use glacis_control::{Ban, UnixMillis};
use glacis_plan::nft::Op;
use ipnet::IpNet;
use std::net::IpAddr;

impl Daemon {
    /// Takes banned clients out of the fast paths, by the steps that are returned, and tells the worker of them.
    pub(in crate::daemon) fn gates_ban(&mut self, bans: &[Ban]) -> Vec<Op> {
        let added: Vec<(IpNet, UnixMillis)> = bans.iter().map(|ban| (ban.source, ban.since)).collect();
        self.gates.tell_bans(&added, &[]);
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

    /// Lets the worker look at them again.
    pub(in crate::daemon) fn gates_lift(&mut self, sources: &[IpNet]) {
        self.gates.tell_bans(&[], sources);
    }
}
