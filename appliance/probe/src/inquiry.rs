//! The question to an open port whether it is a proxy: one connection for each dialect, all at once.

use crate::ProbeError;
use crate::attempt::{Answer, Attempt};
use crate::proofs::Tokens;
use crate::watch::Watching;
use glacis_wire::proxy_speech::{ANSWER_BYTES_MAX, Conversation, Dialect, Step};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags};
use std::net::SocketAddr;
use tokio::time::Instant;

/// Most connections to one port of a client: one for each dialect.
pub const SOCKETS_PER_PORT_MAX: usize = Dialect::ALL.len();

/// Most bytes read from one connection. Beyond, nothing is read any more, and the token may still arrive.
const READ_BYTES_MAX: usize = 4 * ANSWER_BYTES_MAX;

/// An open port that is being asked.
pub(crate) struct Inquiry {
    talks: [Option<Talk>; SOCKETS_PER_PORT_MAX],
    /// When what was not proved counts as a mere service.
    pub(crate) until: Instant,
    /// A question could not be put because of an error of ours.
    flawed: bool,
}

/// One connection and what is said on it.
struct Talk {
    attempt: Attempt,
    conversation: Conversation,
    connected: bool,
    read_bytes: usize,
}

impl Inquiry {
    /// Asks a port in every dialect; `found` is the connection that found it open, and serves for the first of them. The
    /// keys of the others are those that follow `key`.
    pub(crate) fn begin(
        found: Attempt,
        target: SocketAddr,
        until: Instant,
        tokens: &mut Tokens<'_>,
        watch: &Watching,
        key: u64,
    ) -> (Self, Option<ProbeError>) {
        let (client, mut found) = (found.to(), Some(found));
        let mut trouble = None;
        let talks = std::array::from_fn(|index| {
            let dialect = Dialect::ALL[index];
            let mut ask = || {
                let token = tokens.issue(client.port(), dialect)?;
                let Some(conversation) = Conversation::new(dialect, target, token) else { return Ok(None) };
                if let Some(found) = found.take_if(|_| index == 0) {
                    return Ok(Talk::on(found, conversation));
                }
                let attempt = Attempt::begin(client)?;
                watch.add(&attempt, key + index as u64).map_err(ProbeError::Watch)?;
                Ok(Some(Talk { attempt, conversation, connected: false, read_bytes: 0 }))
            };
            ask().unwrap_or_else(|error| {
                trouble.get_or_insert(error);
                None
            })
        });
        (Self { talks, until, flawed: trouble.is_some() }, trouble)
    }

    /// Carries one conversation on.
    pub(crate) fn event(&mut self, talk: usize, flags: EventFlags) -> Option<ProbeError> {
        let place = self.talks.get_mut(talk)?;
        match place.as_mut()?.event(flags) {
            Ok(Progress::GoesOn) => None,
            Ok(Progress::Over) => {
                *place = None;
                None
            }
            Err(error) => {
                *place = None;
                self.flawed = true;
                Some(error)
            }
        }
    }

    /// Nothing that was asked can lead to a proof any more.
    pub(crate) fn is_over(&self) -> bool {
        self.talks.iter().all(Option::is_none)
    }

    /// Every question was put. Otherwise the port may be a proxy and nothing is known.
    pub(crate) fn is_whole(&self) -> bool {
        !self.flawed
    }
}

enum Progress {
    GoesOn,
    Over,
}

impl Talk {
    /// On a connection that is there. `None`: it ended at once.
    fn on(attempt: Attempt, conversation: Conversation) -> Option<Self> {
        let mut talk = Self { attempt, conversation, connected: false, read_bytes: 0 };
        // The port may have spoken first, and that event is spent.
        let goes_on = talk.connected() && matches!(talk.listen(), Progress::GoesOn);
        goes_on.then_some(talk)
    }

    fn event(&mut self, flags: EventFlags) -> Result<Progress, ProbeError> {
        if !self.connected {
            match self.attempt.answer(flags) {
                Answer::Nothing => return Ok(Progress::GoesOn),
                Answer::Told(_) => return Ok(Progress::Over),
                Answer::Ours(error) => return Err(error),
                Answer::Connected if !self.connected() => return Ok(Progress::Over),
                Answer::Connected => {}
            }
        }
        Ok(self.listen())
    }

    /// Says the first words; whether they could be said.
    fn connected(&mut self) -> bool {
        self.connected = true;
        self.say(&self.conversation.open())
    }

    /// A fresh connection takes a few hundred bytes at once, or it is none to talk on.
    fn say(&self, words: &[u8]) -> bool {
        net::send(&self.attempt, words, SendFlags::NOSIGNAL).is_ok_and(|sent| sent == words.len())
    }

    /// Reads all there is.
    fn listen(&mut self) -> Progress {
        let mut words = [0; ANSWER_BYTES_MAX];
        while self.read_bytes < READ_BYTES_MAX {
            let read = match net::recv(&self.attempt, &mut words[..], RecvFlags::empty()) {
                Ok((0, _)) => return Progress::Over,
                Ok((read, _)) => read,
                Err(Errno::AGAIN) => return Progress::GoesOn,
                Err(_) => return Progress::Over,
            };
            self.read_bytes += read;
            match self.conversation.received(&words[..read]) {
                Step::Wait => {}
                Step::Send(words) if self.say(&words) => {}
                Step::Send(_) | Step::Over => return Progress::Over,
            }
        }
        Progress::GoesOn
    }
}
