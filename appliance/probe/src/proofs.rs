//! Tokens on their way through what may be proxies, shared by those who send and those who see them arrive.

use crate::ProbeError;
use glacis_wire::proxy_speech::Dialect;
use glacis_wire::token::{self, Found, Token};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Most tokens on their way: as many as ten thousand ports take. Beyond, no port is asked, which is an error of ours.
pub const PROOFS_MAX: usize = 10_000 * Dialect::ALL.len();

/// Issues one-time tokens and learns of their arrival. All threads share one.
#[derive(Debug, Default)]
pub struct Proofs {
    live: Mutex<HashMap<Token, Sent>>,
}

/// What the begin of a connection to a gate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It may become a token: wait for more. Never said of [`glacis_wire::token::FIND_BYTES_MAX`] bytes or more.
    Incomplete,
    /// It carried a live token, which is spent now. The connection is nobody's request: close it.
    Proved,
    No,
}

/// The port and the dialect in which it was asked.
pub(crate) type Arrival = (u16, Dialect);

#[derive(Debug)]
struct Sent {
    arrival: Arrival,
    /// Of the look that sent it; holds the first arrival alone.
    look: mpsc::Sender<Arrival>,
}

impl Proofs {
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a connection, from whatever address, begins with a live token.
    ///
    /// A token under a whole URL is none: that is our own request led straight back to us, by a port forward, and no
    /// proxy's.
    pub fn claim(&self, first_bytes: &[u8]) -> Claim {
        let token = match token::find(first_bytes) {
            Found::Incomplete => return Claim::Incomplete,
            Found::Token(token) if !first_bytes.starts_with(b"GET http://") => token,
            Found::Token(_) | Found::No => return Claim::No,
        };
        let Some(sent) = self.live().remove(&token) else { return Claim::No };
        // Full: another token of the same look has arrived before. Closed: the look ended a moment ago.
        let _ = sent.look.try_send(sent.arrival);
        Claim::Proved
    }

    /// Tokens on their way.
    pub fn in_flight(&self) -> usize {
        self.live().len()
    }

    fn live(&self) -> MutexGuard<'_, HashMap<Token, Sent>> {
        // Every change is one insertion or removal, so a panic elsewhere leaves nothing half done.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tokens of one look; they die with it.
pub(crate) struct Tokens<'a> {
    proofs: &'a Proofs,
    sent: Vec<Token>,
    sender: mpsc::Sender<Arrival>,
    arrivals: mpsc::Receiver<Arrival>,
}

impl<'a> Tokens<'a> {
    pub(crate) fn new(proofs: &'a Proofs) -> Self {
        let (sender, arrivals) = mpsc::channel(1);
        Self { proofs, sent: Vec::with_capacity(Dialect::ALL.len()), sender, arrivals }
    }

    /// A fresh token for one question to one port.
    pub(crate) fn issue(&mut self, port: u16, dialect: Dialect) -> Result<Token, ProbeError> {
        let mut random = [0; 16];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .map_err(|cause| ProbeError::Random { port, cause: cause.into() })?;
        let token = Token::new(random);
        let mut live = self.proofs.live();
        if live.len() >= PROOFS_MAX {
            return Err(ProbeError::ProofsSpent { port });
        }
        live.insert(token, Sent { arrival: (port, dialect), look: self.sender.clone() });
        self.sent.push(token);
        Ok(token)
    }

    /// Waits for a token to arrive. Can be cancelled without losing anything.
    pub(crate) async fn arrived(&mut self) -> Arrival {
        self.arrivals.recv().await.expect("the channel is open as long as `self.sender` lives")
    }

    pub(crate) fn has_arrived(&mut self) -> Option<Arrival> {
        self.arrivals.try_recv().ok()
    }
}

impl Drop for Tokens<'_> {
    fn drop(&mut self) {
        let mut live = self.proofs.live();
        for token in &self.sent {
            live.remove(token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_counts_once_and_tells_port_and_dialect() {
        let proofs = Proofs::new();
        let mut tokens = Tokens::new(&proofs);
        let token = tokens.issue(1080, Dialect::Socks5).unwrap();
        tokens.issue(1080, Dialect::Socks4).unwrap();
        assert_eq!(proofs.claim(&token.line()[..20]), Claim::Incomplete);
        assert_eq!(proofs.claim(&token.line()), Claim::Proved);
        assert_eq!(proofs.claim(&token.line()), Claim::No);
        assert_eq!(tokens.has_arrived(), Some((1080, Dialect::Socks5)));
        assert_eq!(tokens.has_arrived(), None);
    }

    #[test]
    fn tokens_die_with_their_look() {
        let proofs = Proofs::new();
        let mut tokens = Tokens::new(&proofs);
        let token = tokens.issue(80, Dialect::HttpConnect).unwrap();
        drop(tokens);
        assert_eq!(proofs.claim(&token.line()), Claim::No);
        assert_eq!(proofs.in_flight(), 0);
    }

    #[test]
    fn two_tokens_of_one_look_arrive_and_the_first_one_counts() {
        let proofs = Proofs::new();
        let mut tokens = Tokens::new(&proofs);
        let first = tokens.issue(80, Dialect::HttpConnect).unwrap();
        let second = tokens.issue(1080, Dialect::Socks4).unwrap();
        assert_eq!(proofs.claim(&first.line()), Claim::Proved);
        assert_eq!(proofs.claim(&second.line()), Claim::Proved, "it is nobody's request either");
        assert_eq!(tokens.has_arrived(), Some((80, Dialect::HttpConnect)));
        assert_eq!(tokens.has_arrived(), None);
    }

    #[test]
    fn a_web_proxy_asks_by_path_and_a_port_forward_by_the_whole_address() {
        let proofs = Proofs::new();
        let mut tokens = Tokens::new(&proofs);
        let token = tokens.issue(80, Dialect::HttpGet).unwrap();
        let whole = format!("GET http://192.0.2.1:443/{token} HTTP/1.1\r\n");
        assert_eq!(proofs.claim(whole.as_bytes()), Claim::No);
        assert_eq!(tokens.has_arrived(), None);
        assert_eq!(proofs.claim(format!("GET /{token} HTTP/1.1\r\n").as_bytes()), Claim::Proved);
        assert_eq!(tokens.has_arrived(), Some((80, Dialect::HttpGet)));
    }

    #[test]
    fn what_nobody_sent_proves_nothing() {
        let proofs = Proofs::new();
        assert_eq!(proofs.claim(&Token::new([7; 16]).line()), Claim::No);
        assert_eq!(proofs.claim(b"SSH-2.0-OpenSSH_9.2\r\n"), Claim::No);
        assert_eq!(proofs.claim(b""), Claim::Incomplete);
    }

    #[test]
    fn at_the_bound_no_token_is_issued_until_some_are_back() {
        let proofs = Proofs::new();
        let mut tokens = Tokens::new(&proofs);
        for _ in 0..PROOFS_MAX {
            tokens.issue(80, Dialect::HttpGet).unwrap();
        }
        let mut late = Tokens::new(&proofs);
        let refused = late.issue(443, Dialect::HttpGet);
        assert!(matches!(refused, Err(ProbeError::ProofsSpent { port: 443 })), "{refused:?}");
        drop(tokens);
        assert!(late.issue(443, Dialect::HttpGet).is_ok());
    }
}
