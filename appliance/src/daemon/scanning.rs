//! Probes as the TC program tells them: turned into what the detector takes, in turns that leave time for everything
//! else.

use super::{Daemon, now};
use crate::detector::{Echoes, Findings, Observation, Trigger};
use crate::log::whole;
use glacis_control::{ProbeKinds, Protocol, UnixMillis};
use glacis_loader::{
    Counter, Event, EventStream, LoaderError, MonotonicTime, ProbeCount, ProbeEvent, ProbeKey, Proof,
    TcProgram,
};
use std::io;
use std::net::IpAddr;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// Messages taken in one turn of the loop, so that a flood leaves time for everything else.
const MESSAGES_PER_TURN: usize = 1_024;

/// The program's clock lags by a tick, and by as much as a packet takes on its way through it.
const CLOCK_LAG: Duration = Duration::from_secs(1);

/// What the program has to say of a source.
#[derive(Debug, Clone, Copy)]
pub(super) enum Message {
    Probes(Observation),
    Echoes(Echoes),
}

impl Message {
    fn at(&self) -> Duration {
        match self {
            Self::Probes(probes) => probes.at,
            Self::Echoes(echoes) => echoes.at,
        }
    }

    /// `None` for what this version does not know.
    fn of_event(event: &Event) -> Option<Self> {
        let event = match event {
            Event::Echo { source, echoes, at, .. } => {
                let at = Duration::from_nanos(at.0);
                return Some(Self::Echoes(Echoes { source: *source, echoes: *echoes, at }));
            }
            Event::Probe(probe) => probe,
        };
        let (source, at, kind) = (event.key.source(), Duration::from_nanos(event.at), event.kind()?);
        let kinds = ProbeKinds::from_bits(kind.bit());
        Some(Self::Probes(Observation {
            source,
            port: event.key.port(),
            protocol: Protocol::from_number(event.key.protocol)?,
            kind: kinds.iter().next()?,
            kinds: ProbeKinds::from_bits(event.kinds),
            destination: Some(event.destination()),
            first: event.first,
            hits: event.hits,
            at,
            wall: UnixMillis::default(),
            banned: event.has(ProbeEvent::BANNED),
        }))
    }

    fn of_count(key: &ProbeKey, count: &ProbeCount) -> Option<Self> {
        let kinds = ProbeKinds::from_bits(count.kinds);
        Some(Self::Probes(Observation {
            source: key.source(),
            port: key.port(),
            protocol: Protocol::from_number(key.protocol)?,
            kind: kinds.iter().next()?,
            kinds,
            destination: None,
            first: count.first,
            hits: count.hits,
            at: Duration::from_nanos(count.last),
            wall: UnixMillis::default(),
            banned: false,
        }))
    }
}

/// What the kernel's tables hold; the echoes first, so that they vouch for the probes.
/// Without what has not changed since `since`.
pub(super) fn counted(program: &TcProgram, since: Duration) -> Result<Vec<Message>, LoaderError> {
    let mut messages = vec![];
    program.sweep_proofs(|source: IpAddr, proof: Proof| {
        let at = Duration::from_nanos(proof.last);
        if at >= since {
            messages.push(Message::Echoes(Echoes { source, echoes: proof.echoes, at }));
        }
    })?;
    program.sweep_counts(|key, count| {
        messages.extend(Message::of_count(&key, &count).filter(|message| message.at() >= since));
    })?;
    Ok(messages)
}

/// The program's own count of probes, whether user space learned of them or not.
pub(super) fn probes_counted(program: &TcProgram) -> Result<u64, LoaderError> {
    let counters = program.counters()?;
    let probes = counters.into_iter().find(|(name, _)| *name == Counter::Probes.name());
    Ok(probes.map_or(0, |(_, probes)| probes))
}

/// Hits that the program counted and that never came here: their keys were evicted before a sweep found them, which
/// only a flood brings about.
#[derive(Debug, Default)]
pub(super) struct Unrecorded {
    /// The program's count when this process took it over.
    base: u64,
    /// The program's count when the last sweep began.
    at_sweep: u64,
    /// Hits that came here.
    recorded: u64,
    lost: u64,
}

impl Unrecorded {
    pub(super) fn begin(&mut self, counted: u64) {
        *self = Self { base: counted, at_sweep: counted, ..Self::default() };
    }

    fn sweep_begins(&mut self, counted: u64) {
        self.at_sweep = counted;
    }

    /// Everything that the tables held has been taken in: what is missing now stays missing. Hits that came since the
    /// sweep began hide as many, until the next sweep.
    fn sweep_ends(&mut self) {
        let missing = self.at_sweep.saturating_sub(self.base).saturating_sub(self.recorded);
        self.lost = self.lost.max(missing);
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost
    }
}

/// What is taken in at once.
#[derive(Debug)]
pub(super) struct Turn {
    messages: Vec<Message>,
    /// These are the last ones of a sweep.
    ends_sweep: bool,
}

/// The rings of the program; empty until it is loaded.
#[derive(Default)]
pub(super) struct ProbeSource {
    rings: Option<AsyncFd<EventStream>>,
    /// What is left of the last sweep, the next on top.
    swept: Vec<Message>,
}

impl ProbeSource {
    pub(super) fn open(&mut self, events: EventStream) -> io::Result<()> {
        // SAFETY: the stream owns its descriptor for as long as it lives and never gives another.
        self.rings = Some(unsafe { AsyncFd::register(events) }?);
        Ok(())
    }

    /// Whether something of the last sweep is left.
    fn is_sweeping(&self) -> bool {
        !self.swept.is_empty()
    }

    /// Takes what a sweep found; it is handed out in turns, like what comes from the rings.
    fn swept(&mut self, mut messages: Vec<Message>) {
        messages.reverse();
        self.swept = messages;
    }

    /// Waits for messages, for ever while there is no program; at most [`MESSAGES_PER_TURN`] of them.
    pub(super) async fn next(&mut self) -> Turn {
        if !self.swept.is_empty() {
            let rest = self.swept.len().saturating_sub(MESSAGES_PER_TURN);
            let mut messages = self.swept.split_off(rest);
            messages.reverse();
            return Turn { messages, ends_sweep: self.swept.is_empty() };
        }
        let Some(rings) = &mut self.rings else { return std::future::pending().await };
        let Ok(mut ready) = rings.readable_mut().await else { return std::future::pending().await };
        let mut messages = vec![];
        let drained = ready.get_inner_mut().drain(MESSAGES_PER_TURN, |event| {
            messages.extend(Message::of_event(&event));
        });
        if drained < MESSAGES_PER_TURN {
            ready.clear_ready();
        }
        Turn { messages, ends_sweep: false }
    }
}

impl Daemon {
    /// Hits that came after a key's last event are only in the kernel's tables.
    pub(super) async fn sweep_probes(&mut self) {
        if self.probes.is_sweeping() {
            return;
        }
        let begun = Clock::now().kernel;
        let since = std::mem::replace(&mut self.swept_from, begun).saturating_sub(CLOCK_LAG);
        let swept = self.kernel.run(move |state| match &state.tc {
            Some(program) => Ok::<_, LoaderError>((probes_counted(program)?, counted(program, since)?)),
            None => Ok((0, vec![])),
        });
        match swept.await {
            Ok((counted, messages)) => {
                self.unrecorded.sweep_begins(counted);
                self.probes.swept(messages);
            }
            Err(error) => {
                self.swept_from = since;
                tracing::warn!(error = whole(&error), "probe counts could not be read");
            }
        }
    }

    /// Records what is new and blocks, together, whom it makes a scanner.
    pub(super) async fn take_turn(&mut self, turn: Turn) {
        if self.wanted.scan.is_none() {
            return;
        }
        let clock = Clock::now();
        let mut triggers: Vec<Trigger> = vec![];
        for message in turn.messages {
            let trigger = match message {
                Message::Probes(probes) => self.take_probes(probes, &clock),
                Message::Echoes(echoes) => self.detector.echoed(&echoes),
            };
            triggers.extend(trigger);
        }
        if turn.ends_sweep {
            self.unrecorded.sweep_ends();
        }
        if !triggers.is_empty() {
            self.take_triggers(triggers).await;
            // Each costs a write to disk: a flood of them must not look like a loop that stands still.
            crate::heartbeat::beat();
        }
    }

    fn take_probes(&mut self, probes: Observation, clock: &Clock) -> Option<Trigger> {
        // A sweep does not know, and a ban may be younger than the event.
        let banned = probes.banned || self.bans.covering(probes.source).is_some();
        let probes = Observation { banned, wall: clock.at(probes.at), ..probes };
        let Findings { hit, trigger } = self.detector.observe(&probes);
        if let Some(hit) = hit {
            self.store.record(&hit);
            self.unrecorded.recorded += hit.hits;
        }
        trigger
    }

    /// Takes over what was counted before this process began: it was recorded then, and still counts in the windows.
    pub(super) fn resume_detection(&mut self, known: &[Message]) {
        let kernel = Clock::now().kernel;
        for message in known {
            if let Message::Probes(probes) = message {
                let banned = self.bans.covering(probes.source).is_some();
                self.detector.resume(&Observation { banned, ..*probes }, kernel);
            }
        }
        for message in known {
            if let Message::Echoes(echoes) = message {
                self.detector.resume_echoes(echoes, kernel);
            }
        }
    }
}

/// Turns the kernel's clock into wall time.
struct Clock {
    wall: UnixMillis,
    kernel: Duration,
}

impl Clock {
    fn now() -> Self {
        Self { wall: now(), kernel: Duration::from_nanos(MonotonicTime::now().0) }
    }

    fn at(&self, at: Duration) -> UnixMillis {
        UnixMillis(self.wall.0.saturating_sub(self.kernel.saturating_sub(at).as_millis() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_program_become_wall_times() {
        let clock = Clock { wall: UnixMillis(1_000_000), kernel: Duration::from_secs(100) };
        assert_eq!(clock.at(Duration::from_secs(99)), UnixMillis(999_000));
        assert_eq!(clock.at(Duration::from_secs(101)), UnixMillis(1_000_000));
    }
}
