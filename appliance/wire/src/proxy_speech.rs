//! How each kind of open proxy is asked to connect somewhere and to carry a token there.
//!
//! One [`Conversation`] is one connection to a port in one dialect. What comes back proves nothing: anybody can say that
//! it connected. The proof is the token arriving; an answer only tells when to send it, or that waiting is in vain.
//!
//! Nothing is sent before it is asked for. The token right behind the request would save a round trip, but proxies that
//! read one message at a time (`microsocks` does) throw away what came with it, and a strict one takes it for an error.

use crate::token::Token;
use std::net::SocketAddr;

/// Longest answer before the connection is said to be there. More is no answer of a proxy that wants to be understood.
pub const ANSWER_BYTES_MAX: usize = 4096;

/// A way to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dialect {
    /// `CONNECT host:port` (RFC 9110 section 9.3.6).
    HttpConnect,
    /// `GET http://host:port/token` (RFC 9112 section 3.2.2). The token is in the request.
    HttpGet,
    /// Without an identity; for IPv4 targets.
    Socks4,
    /// Without authentication (RFC 1928).
    Socks5,
}

impl Dialect {
    pub const ALL: [Self; 4] = [Self::HttpConnect, Self::HttpGet, Self::Socks4, Self::Socks5];
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The answer is not all here; or everything is said, and the token is under way.
    Wait,
    Send(Vec<u8>),
    /// The answer is a refusal or none of this dialect; nothing more comes of it. A token that was sent before may still
    /// arrive.
    Over,
}

/// One connection to what may be a proxy.
#[derive(Debug, Clone)]
pub struct Conversation {
    target: SocketAddr,
    token: Token,
    dialect: Dialect,
    state: State,
    /// Of the answer being read.
    answer: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// For SOCKS5: which way of authentication is taken.
    Method,
    /// Whether the proxy connected.
    Reply,
    /// The token was sent.
    Sent,
    Over,
}

impl Conversation {
    /// `None`: the dialect has no word for the target's family.
    pub fn new(dialect: Dialect, target: SocketAddr, token: Token) -> Option<Self> {
        let target = SocketAddr::new(target.ip().to_canonical(), target.port());
        if dialect == Dialect::Socks4 && target.is_ipv6() {
            return None;
        }
        let state = if dialect == Dialect::Socks5 { State::Method } else { State::Reply };
        Some(Self { target, token, dialect, state, answer: Vec::new() })
    }

    /// What to send first, as soon as the connection is there.
    pub fn open(&self) -> Vec<u8> {
        let target = self.target;
        match self.dialect {
            Dialect::HttpConnect => {
                format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").into_bytes()
            }
            Dialect::HttpGet => format!(
                "GET http://{target}/{} HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n",
                self.token
            )
            .into_bytes(),
            Dialect::Socks4 => self.socks4_request(),
            Dialect::Socks5 => SOCKS5_GREETING.to_vec(),
        }
    }

    /// Takes the bytes that came since the last call. After [`Step::Over`], every call says so again.
    pub fn received(&mut self, bytes: &[u8]) -> Step {
        let step = match self.state {
            State::Sent => return Step::Wait,
            State::Over => return Step::Over,
            State::Method | State::Reply => {
                let room = ANSWER_BYTES_MAX - self.answer.len();
                self.answer.extend_from_slice(&bytes[..bytes.len().min(room)]);
                self.read_answer()
            }
        };
        if step == Step::Wait && self.answer.len() == ANSWER_BYTES_MAX {
            self.state = State::Over;
            return Step::Over;
        }
        step
    }

    fn read_answer(&mut self) -> Step {
        let answer = match (self.dialect, self.state) {
            (Dialect::HttpConnect, _) => http_answer(&self.answer),
            (Dialect::HttpGet, _) => match http_answer(&self.answer) {
                // Whatever the answer to a request is, the request was carried before, or never will be.
                Answer::Yes => Answer::No,
                answer => answer,
            },
            (Dialect::Socks4, _) => socks4_answer(&self.answer),
            (Dialect::Socks5, State::Method) => socks5_method(&self.answer),
            (Dialect::Socks5, _) => socks5_answer(&self.answer),
        };
        match (answer, self.state) {
            (Answer::Incomplete, _) => Step::Wait,
            (Answer::No, _) => {
                self.state = State::Over;
                Step::Over
            }
            (Answer::Yes, State::Method) => {
                self.state = State::Reply;
                self.answer.clear();
                Step::Send(self.socks5_request())
            }
            (Answer::Yes, _) => {
                self.state = State::Sent;
                Step::Send(self.token.line())
            }
        }
    }

    fn socks4_request(&self) -> Vec<u8> {
        let mut request = vec![SOCKS4, CONNECT];
        request.extend_from_slice(&self.target.port().to_be_bytes());
        if let SocketAddr::V4(target) = self.target {
            request.extend_from_slice(&target.ip().octets());
        }
        // The end of an empty identity.
        request.push(0);
        request
    }

    fn socks5_request(&self) -> Vec<u8> {
        let mut request = vec![SOCKS5, CONNECT, 0];
        match self.target {
            SocketAddr::V4(target) => {
                request.push(SOCKS5_IPV4);
                request.extend_from_slice(&target.ip().octets());
            }
            SocketAddr::V6(target) => {
                request.push(SOCKS5_IPV6);
                request.extend_from_slice(&target.ip().octets());
            }
        }
        request.extend_from_slice(&self.target.port().to_be_bytes());
        request
    }
}

const SOCKS4: u8 = 4;
const SOCKS5: u8 = 5;
/// The command, in both versions.
const CONNECT: u8 = 1;
const SOCKS5_IPV4: u8 = 1;
const SOCKS5_IPV6: u8 = 4;
const SOCKS5_NO_AUTHENTICATION: u8 = 0;
/// One method is offered.
const SOCKS5_GREETING: [u8; 3] = [SOCKS5, 1, SOCKS5_NO_AUTHENTICATION];
const SOCKS5_SUCCEEDED: u8 = 0;
const SOCKS4_GRANTED: u8 = 90;

enum Answer {
    Incomplete,
    Yes,
    No,
}

/// An answer of SOCKS4 begins with version 0; some servers write their own. What follows the code means nothing.
fn socks4_answer(answer: &[u8]) -> Answer {
    match answer {
        [] | [0 | SOCKS4] => Answer::Incomplete,
        [0 | SOCKS4, SOCKS4_GRANTED, ..] => Answer::Yes,
        _ => Answer::No,
    }
}

/// More than the answer, before anything was asked, comes from something else.
fn socks5_method(answer: &[u8]) -> Answer {
    match answer {
        [] | [SOCKS5] => Answer::Incomplete,
        [SOCKS5, SOCKS5_NO_AUTHENTICATION] => Answer::Yes,
        _ => Answer::No,
    }
}

/// The address that the proxy connects from, which follows, is of no interest.
fn socks5_answer(answer: &[u8]) -> Answer {
    match answer {
        [] | [SOCKS5] => Answer::Incomplete,
        [SOCKS5, SOCKS5_SUCCEEDED, ..] => Answer::Yes,
        _ => Answer::No,
    }
}

/// Interim answers are passed over; the final one is known by its first line.
fn http_answer(mut answer: &[u8]) -> Answer {
    loop {
        match status(answer) {
            Status::Incomplete => return Answer::Incomplete,
            Status::Is(b'2') => return Answer::Yes,
            Status::Is(b'1') => {}
            Status::Is(_) | Status::None => return Answer::No,
        }
        match answer.windows(4).position(|end| end == b"\r\n\r\n") {
            Some(end) => answer = &answer[end + 4..],
            None => return Answer::Incomplete,
        }
    }
}

enum Status {
    Incomplete,
    /// Its first digit.
    Is(u8),
    None,
}

/// `HTTP/1.x NNN` and a space or, where the reason is left out, a line end (RFC 9112 section 4).
fn status(answer: &[u8]) -> Status {
    const FORM: &[u8; 13] = b"HTTP/1.d ddd_";
    let fits = answer.iter().zip(FORM).all(|(byte, form)| match form {
        b'd' => byte.is_ascii_digit(),
        b'_' => matches!(byte, b' ' | b'\r' | b'\n'),
        exact => byte == exact,
    });
    match (fits, answer.get(..FORM.len())) {
        (false, _) => Status::None,
        (true, None) => Status::Incomplete,
        (true, Some(line)) => Status::Is(line[9]),
    }
}

#[cfg(test)]
mod tests;
