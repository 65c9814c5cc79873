//! One look: all ports of a client at once, to the first proof or to the last answer.

use crate::ProbeError;
use crate::attempt::{Answer, Attempt};
use crate::inquiry::Inquiry;
use crate::proofs::{Arrival, Proofs, Tokens};
use crate::watch::{Watch, Watching};
use glacis_control::gate::PortOutcome;
use glacis_wire::proxy_speech::Dialect;
use rustix::event::epoll::EventFlags;
use std::future;
use std::mem;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::pin::{Pin, pin};
use std::time::Duration;
use tokio::time::{self, Instant, Sleep};

/// What to look at, and when to stop.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    pub client: IpAddr,
    /// Index of the interface behind which a link-local IPv6 client is; otherwise 0.
    pub scope: u32,
    /// All at once, each once; the caller bounds them.
    pub ports: &'a [u16],
    /// For a connection to come about, and as long again for a proof.
    pub timeout: Duration,
    pub stop: Stop<'a>,
}

/// What ends a look before all ports have told.
#[derive(Debug, Clone, Copy)]
pub enum Stop<'a> {
    /// The first open port.
    Open,
    /// The first proxy. Every open port is asked, in all dialects at once, to connect to `target`, where somebody passes
    /// what connections begin with to [`Proofs::claim`]. A port that proved nothing within one timeout after it was found
    /// open, or before that has ended or refused all conversations, is a [`PortOutcome::Service`]. So a look takes at
    /// most two timeouts.
    Proxy { proofs: &'a Proofs, target: SocketAddr },
}

/// What came of a look.
#[derive(Debug, Default)]
pub struct Seen {
    /// In the order in which it was seen. After a proof, the ports that had not told yet are missing.
    pub outcomes: Vec<(u16, PortOutcome)>,
    /// The first error of ours; the ports where one happened have no outcome.
    pub trouble: Option<ProbeError>,
}

/// Looks at a client's ports.
pub async fn look(look: Look<'_>) -> Seen {
    let mut round = Round {
        look,
        ports: Vec::with_capacity(look.ports.len()),
        until: Instant::now(),
        tokens: None,
        found_open: false,
        seen: Seen { outcomes: Vec::with_capacity(look.ports.len()), trouble: None },
    };
    if let Err(error) = round.run().await {
        round.trouble(ProbeError::Watch(error));
    }
    round.seen
}

/// Talks of one port have the keys `index << PORT_SHIFT` and those that follow.
const PORT_SHIFT: u32 = 8;
const TALK_MASK: u64 = (1 << PORT_SHIFT) - 1;

struct Round<'a> {
    look: Look<'a>,
    /// As in [`Look::ports`].
    ports: Vec<State>,
    /// When a port without an answer counts as silent.
    until: Instant,
    /// From the first open port on that is asked.
    tokens: Option<Tokens<'a>>,
    found_open: bool,
    seen: Seen,
}

enum State {
    Connecting(Attempt),
    Asked(Box<Inquiry>),
    Done,
}

impl<'a> Round<'a> {
    async fn run(&mut self) -> std::io::Result<()> {
        let watch = self.set_out()?;
        let mut alarm = pin!(time::sleep_until(self.until));
        while let Some(next) = self.next_deadline() {
            if alarm.deadline() != next {
                alarm.as_mut().reset(next);
            }
            // Whatever woke us: what has come in counts before what is overdue, however late we are.
            let arrival = self.woken(&watch, alarm.as_mut()).await?;
            watch.events(|key, flags| self.event(&watch, key, flags))?;
            if let Some((port, dialect)) = arrival.or_else(|| self.tokens.as_mut()?.has_arrived()) {
                self.prove(port, dialect);
                return Ok(());
            }
            self.expire(&watch, Instant::now());
        }
        Ok(())
    }

    fn set_out(&mut self) -> std::io::Result<Watching> {
        let watch = Watch::new()?;
        for (index, port) in self.look.ports.iter().enumerate() {
            let attempt = Attempt::begin(self.address(*port)).and_then(|attempt| {
                watch.add(&attempt, (index as u64) << PORT_SHIFT).map_err(ProbeError::Watch)?;
                Ok(attempt)
            });
            let state = match attempt {
                Ok(attempt) => State::Connecting(attempt),
                Err(error) => {
                    self.trouble(error);
                    State::Done
                }
            };
            self.ports.push(state);
        }
        // From here on, so that the last port has as long as the first.
        self.until = Instant::now() + self.look.timeout;
        watch.begin()
    }

    fn address(&self, port: u16) -> SocketAddr {
        match self.look.client.to_canonical() {
            IpAddr::V4(client) => (client, port).into(),
            IpAddr::V6(client) => SocketAddrV6::new(client, port, 0, self.look.scope).into(),
        }
    }

    /// `None`: there is nothing left to wait for.
    fn next_deadline(&self) -> Option<Instant> {
        if self.found_open {
            return None;
        }
        let deadlines = self.ports.iter().filter_map(|state| match state {
            State::Connecting(_) => Some(self.until),
            State::Asked(inquiry) => Some(inquiry.until),
            State::Done => None,
        });
        deadlines.min()
    }

    async fn woken(&mut self, watch: &Watching, alarm: Pin<&mut Sleep>) -> std::io::Result<Option<Arrival>> {
        let arrived = async {
            match &mut self.tokens {
                Some(tokens) => tokens.arrived().await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = watch.changed() => changed.map(|()| None),
            arrival = arrived => Ok(Some(arrival)),
            () = alarm => Ok(None),
        }
    }

    fn event(&mut self, watch: &Watching, key: u64, flags: EventFlags) {
        let (index, talk) = ((key >> PORT_SHIFT) as usize, (key & TALK_MASK) as usize);
        match &mut self.ports[index] {
            State::Connecting(attempt) => {
                let answer = attempt.answer(flags);
                self.answered(watch, index, answer);
            }
            State::Asked(inquiry) => {
                if let Some(error) = inquiry.event(talk, flags) {
                    self.trouble(error);
                }
            }
            // Fetched together with the event that ended the port.
            State::Done => {}
        }
    }

    fn answered(&mut self, watch: &Watching, index: usize, answer: Answer) {
        match (answer, self.look.stop) {
            (Answer::Nothing, _) => {}
            (Answer::Told(outcome), _) => self.done(index, Some(outcome)),
            (Answer::Ours(error), _) => {
                self.trouble(error);
                self.done(index, None);
            }
            (Answer::Connected, Stop::Open) => self.done(index, Some(PortOutcome::Open)),
            (Answer::Connected, Stop::Proxy { proofs, target }) => {
                if let State::Connecting(found) = mem::replace(&mut self.ports[index], State::Done) {
                    self.ask(watch, index, found, proofs, target);
                }
            }
        }
    }

    fn ask(
        &mut self,
        watch: &Watching,
        index: usize,
        found: Attempt,
        proofs: &'a Proofs,
        target: SocketAddr,
    ) {
        let tokens = self.tokens.get_or_insert_with(|| Tokens::new(proofs));
        let until = Instant::now() + self.look.timeout;
        let key = (index as u64) << PORT_SHIFT;
        let (inquiry, trouble) = Inquiry::begin(found, target, until, tokens, watch, key);
        self.ports[index] = State::Asked(Box::new(inquiry));
        if let Some(error) = trouble {
            self.trouble(error);
        }
    }

    /// A token arrived, perhaps of a port whose conversations had ended already.
    fn prove(&mut self, port: u16, dialect: Dialect) {
        self.seen.outcomes.retain(|(told, _)| *told != port);
        self.seen.outcomes.push((port, outcome_of(dialect)));
    }

    fn expire(&mut self, watch: &Watching, now: Instant) {
        for index in 0..self.ports.len() {
            match &mut self.ports[index] {
                State::Connecting(attempt) if now >= self.until => {
                    let answer = attempt.give_up();
                    self.answered(watch, index, answer);
                }
                State::Asked(inquiry) if inquiry.is_over() || now >= inquiry.until => {
                    let outcome = inquiry.is_whole().then_some(PortOutcome::Service);
                    self.done(index, outcome);
                }
                State::Connecting(_) | State::Asked(_) | State::Done => {}
            }
        }
    }

    /// `None`: because of an error of ours, nothing is known.
    fn done(&mut self, index: usize, outcome: Option<PortOutcome>) {
        self.ports[index] = State::Done;
        if let Some(outcome) = outcome {
            self.seen.outcomes.push((self.look.ports[index], outcome));
            self.found_open |= outcome == PortOutcome::Open;
        }
    }

    fn trouble(&mut self, error: ProbeError) {
        self.seen.trouble.get_or_insert(error);
    }
}

const fn outcome_of(dialect: Dialect) -> PortOutcome {
    match dialect {
        Dialect::HttpConnect | Dialect::HttpGet => PortOutcome::HttpProxy,
        Dialect::Socks4 => PortOutcome::Socks4Proxy,
        Dialect::Socks5 => PortOutcome::Socks5Proxy,
    }
}
