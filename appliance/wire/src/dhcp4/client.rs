//! The state machine.

use super::lease::{Lease, LeaseError};
use super::message::{self, Envelope, Question, Reply, Verdict};
use super::timing;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Requests for one offer before another is sought.
const REQUESTS_MAX: u32 = 4;
/// Requests to confirm a held lease after the link came up before it is used as it is
/// (RFC 2131 section 3.2 step 4).
const REBOOT_REQUESTS_MAX: u32 = 2;

/// No input makes more outputs than this.
pub const OUTPUTS_MAX: usize = 4;

/// What the client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input<'a> {
    /// The UDP payload of a packet to port 68.
    Packet(&'a [u8]),
    /// The time last asked for by [`Output::SetTimer`] has come, or the client is to begin.
    Timer,
    /// The interface has carrier again, perhaps on another network.
    LinkUp,
    /// Extend the lease now and not at T1.
    Renew,
}

/// What the caller is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this UDP payload from port 68 to port 67.
    Send { payload: Vec<u8>, to: Destination },
    /// Use this lease in place of any earlier one; also after each renewal.
    Configure(Lease),
    /// Stop using the lease.
    Deconfigure(Loss),
    /// Come back at this time with [`Input::Timer`]; replaces the time asked for before.
    SetTimer(Duration),
    /// A packet was not taken.
    Ignored(Rejection),
}

/// Where a message goes, always to port 67.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// To 255.255.255.255 from 0.0.0.0, or from the held address while rebinding.
    Broadcast { source: Ipv4Addr },
    /// To the server that gave the lease, from the held address.
    Unicast { source: Ipv4Addr, server: Ipv4Addr },
}

/// Why a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    #[error("no server extended the lease before its end")]
    Expired,
    #[error("server {0} refused the address")]
    Refused(Ipv4Addr),
}

/// Why a packet was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("not a DHCP message of a server")]
    Malformed,
    #[error("answers another exchange")]
    OtherExchange,
    #[error("is for another client")]
    OtherClient,
    #[error("comes from another server than the one asked")]
    OtherServer,
    #[error("names another address than the one asked for")]
    OtherAddress,
    #[error("names no usable server identifier")]
    NoServer,
    #[error("is of a type not awaited now")]
    UnexpectedType,
    #[error("offers an unusable lease: {0}")]
    Lease(#[from] LeaseError),
}

/// A lease and the moments at which it changes state.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    lease: Lease,
    renew_at: Duration,
    rebind_at: Duration,
    expires_at: Duration,
}

impl Held {
    fn new(lease: Lease, asked_at: Duration) -> Self {
        Self {
            renew_at: asked_at + lease.renew_after,
            rebind_at: asked_at + lease.rebind_after,
            expires_at: asked_at + lease.duration,
            lease,
        }
    }

    fn address(&self) -> Ipv4Addr {
        self.lease.address.addr()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Silent until the timer: at the beginning, and for a while after a NAK.
    Waiting,
    Selecting,
    Requesting {
        address: Ipv4Addr,
        server: Ipv4Addr,
    },
    /// The link came up while a lease was held, which is used on meanwhile.
    Rebooting(Held),
    Bound(Held),
    Renewing(Held),
    Rebinding(Held),
}

/// One question and its repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Exchange {
    xid: u32,
    started_at: Duration,
    asked_at: Duration,
    sent: u32,
}

/// A DHCPv4 client for one interface.
#[derive(Debug, Clone)]
pub struct Client {
    mac: [u8; 6],
    state: State,
    exchange: Exchange,
    /// When [`Input::Timer`] is due; an earlier one is a mistake of the caller and changes nothing.
    deadline: Duration,
    /// NAKs since the last lease.
    naks: u32,
}

impl Client {
    /// A client that has not begun: the first [`Input::Timer`] sends a DISCOVER.
    pub fn new(mac: [u8; 6]) -> Self {
        Self { mac, state: State::Waiting, exchange: Exchange::default(), deadline: Duration::ZERO, naks: 0 }
    }

    /// The lease in use.
    pub fn lease(&self) -> Option<&Lease> {
        self.held().map(|held| &held.lease)
    }

    /// Takes one step.
    ///
    /// `now` is a clock that never goes back, from any origin. `random` is a fresh unpredictable
    /// word: its lower half becomes a transaction id, its upper half moves waits.
    pub fn handle(&mut self, input: Input<'_>, now: Duration, random: u64) -> Vec<Output> {
        let mut outputs = Vec::with_capacity(OUTPUTS_MAX);
        match input {
            Input::Packet(bytes) => self.packet(bytes, now, random, &mut outputs),
            Input::Timer if now < self.deadline => outputs.push(Output::SetTimer(self.deadline)),
            Input::Timer => self.timer(now, random, &mut outputs),
            Input::LinkUp => self.link_up(now, random, &mut outputs),
            Input::Renew => self.renew(now, random, &mut outputs),
        }
        outputs
    }

    fn held(&self) -> Option<&Held> {
        match &self.state {
            State::Rebooting(held) | State::Bound(held) | State::Renewing(held) | State::Rebinding(held) => {
                Some(held)
            }
            State::Waiting | State::Selecting | State::Requesting { .. } => None,
        }
    }

    fn timer(&mut self, now: Duration, random: u64, outputs: &mut Vec<Output>) {
        if self.held().is_some_and(|held| now >= held.expires_at) {
            outputs.push(Output::Deconfigure(Loss::Expired));
            return self.begin(State::Selecting, now, random, outputs);
        }
        match &self.state {
            State::Selecting => self.ask(now, random, outputs),
            State::Requesting { .. } if self.exchange.sent < REQUESTS_MAX => self.ask(now, random, outputs),
            State::Waiting | State::Requesting { .. } => self.begin(State::Selecting, now, random, outputs),
            State::Rebooting(held) => {
                let held = held.clone();
                if self.exchange.sent < REBOOT_REQUESTS_MAX {
                    self.ask(now, random, outputs);
                } else {
                    self.resume(held, now, random, outputs);
                }
            }
            State::Bound(held) | State::Renewing(held) | State::Rebinding(held) => {
                let held = held.clone();
                self.resume(held, now, random, outputs);
            }
        }
    }

    /// Does what a held, unexpired lease asks for at this time.
    fn resume(&mut self, held: Held, now: Duration, random: u64, outputs: &mut Vec<Output>) {
        if now < held.renew_at {
            self.deadline = held.renew_at;
            self.state = State::Bound(held);
            outputs.push(Output::SetTimer(self.deadline));
        } else if now < held.rebind_at {
            self.extend(State::Renewing(held), now, random, outputs);
        } else {
            self.extend(State::Rebinding(held), now, random, outputs);
        }
    }

    /// Sends again in the state the client is already in, or begins in the next one.
    fn extend(&mut self, next: State, now: Duration, random: u64, outputs: &mut Vec<Output>) {
        if std::mem::discriminant(&self.state) == std::mem::discriminant(&next) {
            self.ask(now, random, outputs);
        } else {
            self.begin(next, now, random, outputs);
        }
    }

    fn link_up(&mut self, now: Duration, random: u64, outputs: &mut Vec<Output>) {
        match self.held().cloned() {
            Some(held) if now >= held.expires_at => self.timer(now, random, outputs),
            Some(held) => self.begin(State::Rebooting(held), now, random, outputs),
            // An offer of the network that the link may have left is worth nothing.
            None => self.begin(State::Selecting, now, random, outputs),
        }
    }

    fn renew(&mut self, now: Duration, random: u64, outputs: &mut Vec<Output>) {
        match &self.state {
            State::Bound(held) if now < held.expires_at => {
                let held = held.clone();
                self.begin(State::Renewing(held), now, random, outputs);
            }
            // Already asking, or nothing to extend.
            _ => outputs.push(Output::SetTimer(self.deadline)),
        }
    }

    /// Enters a state that asks, with a transaction id of its own, and sends its first message.
    fn begin(&mut self, state: State, now: Duration, random: u64, outputs: &mut Vec<Output>) {
        self.state = state;
        self.exchange = Exchange { xid: random as u32, started_at: now, asked_at: now, sent: 0 };
        self.ask(now, random, outputs);
    }

    /// Sends the message of the current state and sets the timer for its repetition.
    fn ask(&mut self, now: Duration, random: u64, outputs: &mut Vec<Output>) {
        let unbound = Destination::Broadcast { source: Ipv4Addr::UNSPECIFIED };
        let retry_at = now + timing::retry_after(self.exchange.sent, random);
        let (question, to, retry_at) = match &self.state {
            State::Selecting => (Question::Discover, unbound, retry_at),
            State::Requesting { address, server } => {
                (Question::Select { address: *address, server: *server }, unbound, retry_at)
            }
            State::Rebooting(held) => {
                (Question::Reboot { address: held.address() }, unbound, retry_at.min(held.expires_at))
            }
            State::Renewing(held) => (
                Question::Extend { address: held.address() },
                Destination::Unicast { source: held.address(), server: held.lease.server },
                // A renewal asked for before T1 still rebinds no earlier than T2.
                timing::renewal_retry_at(now, held.rebind_at),
            ),
            State::Rebinding(held) => (
                Question::Extend { address: held.address() },
                Destination::Broadcast { source: held.address() },
                timing::renewal_retry_at(now, held.expires_at),
            ),
            State::Waiting | State::Bound(_) => return,
        };
        let envelope = Envelope {
            mac: self.mac,
            xid: self.exchange.xid,
            elapsed_seconds: u16::try_from(now.saturating_sub(self.exchange.started_at).as_secs())
                .unwrap_or(u16::MAX),
        };
        self.exchange.asked_at = now;
        self.exchange.sent = self.exchange.sent.saturating_add(1);
        self.deadline = retry_at;
        outputs.push(Output::Send { payload: message::encode(&envelope, question), to });
        outputs.push(Output::SetTimer(retry_at));
    }

    fn packet(&mut self, bytes: &[u8], now: Duration, random: u64, outputs: &mut Vec<Output>) {
        let taken = match self.state {
            State::Waiting | State::Bound(_) => Err(Rejection::UnexpectedType),
            _ => message::decode(bytes, self.mac, self.exchange.xid)
                .and_then(|reply| self.reply(&reply, now, random, outputs)),
        };
        if let Err(rejection) = taken {
            outputs.push(Output::Ignored(rejection));
        }
    }

    fn reply(
        &mut self,
        reply: &Reply,
        now: Duration,
        random: u64,
        outputs: &mut Vec<Output>,
    ) -> Result<(), Rejection> {
        if let (State::Selecting, Verdict::Offer) = (&self.state, reply.verdict) {
            // Judged already here: an offer that could not be used must not end the search.
            Lease::from_reply(reply)?;
            self.state = State::Requesting { address: reply.address, server: reply.server };
            self.exchange.started_at = now;
            self.exchange.sent = 0;
            self.ask(now, random, outputs);
            return Ok(());
        }
        let (asked_for, asked_server) = match &self.state {
            State::Requesting { address, server } => (*address, Some(*server)),
            State::Renewing(held) => (held.address(), Some(held.lease.server)),
            State::Rebooting(held) | State::Rebinding(held) => (held.address(), None),
            State::Waiting | State::Selecting | State::Bound(_) => return Err(Rejection::UnexpectedType),
        };
        if asked_server.is_some_and(|server| server != reply.server) {
            return Err(Rejection::OtherServer);
        }
        match reply.verdict {
            Verdict::Offer => Err(Rejection::UnexpectedType),
            Verdict::Nak => {
                self.refused(reply.server, now, random, outputs);
                Ok(())
            }
            Verdict::Ack if reply.address != asked_for => Err(Rejection::OtherAddress),
            Verdict::Ack => {
                let lease = Lease::from_reply(reply)?;
                // A lease runs from its request, not from its answer (RFC 2131 section 4.4.5).
                let held = Held::new(lease, self.exchange.asked_at);
                outputs.push(Output::Configure(held.lease.clone()));
                self.naks = 0;
                self.deadline = held.renew_at;
                self.state = State::Bound(held);
                outputs.push(Output::SetTimer(self.deadline));
                Ok(())
            }
        }
    }

    fn refused(&mut self, server: Ipv4Addr, now: Duration, random: u64, outputs: &mut Vec<Output>) {
        if self.held().is_some() {
            outputs.push(Output::Deconfigure(Loss::Refused(server)));
        }
        self.naks = self.naks.saturating_add(1);
        self.state = State::Waiting;
        self.deadline = now + timing::pause_after_nak(self.naks, random);
        outputs.push(Output::SetTimer(self.deadline));
    }
}
