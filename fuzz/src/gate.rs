//! Bytes of strangers at a gate: what they begin a connection with, and what their ports answer.
//!
//! A gate asks again whenever more bytes are there. So what the beginning of a connection says, no further byte may
//! change, and there is a number of bytes that always says something.

use glacis_wire::client_hello::{self, ClientHelloError, Hello};
use glacis_wire::denial::{self, Body, Denial, Head, Reason};
use glacis_wire::proxy_protocol::{self, Parsed, ProxyHeaderError, Version};
use glacis_wire::proxy_speech::{Conversation, Dialect, Step};
use glacis_wire::token::{self, Found, Token};
use std::fmt::Debug;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// Beginnings of a connection that are read, spread over its bytes.
const BEGINNINGS: usize = 64;
/// Parts of an answer.
const ANSWERS_MAX: usize = 64;
const TOKEN: Token = Token::new([0xa5; 16]);

/// What `read` says of all bytes.
fn settled<T: PartialEq + Debug>(
    bytes: &[u8],
    bytes_max: usize,
    incomplete: &T,
    read: impl Fn(&[u8]) -> T,
) -> T {
    let whole = read(bytes);
    assert!(whole != *incomplete || bytes.len() < bytes_max, "waits for more than {bytes_max} bytes");
    for end in (0..bytes.len()).step_by(1 + bytes.len() / BEGINNINGS) {
        let early = read(&bytes[..end]);
        assert!(early == *incomplete || early == whole, "{early:?} after {end} bytes, then {whole:?}");
    }
    whole
}

/// A header is within its connection, and what is written for it is read as the same.
pub fn proxy_protocol(bytes: &[u8]) -> Result<Parsed, ProxyHeaderError> {
    let parsed = settled(bytes, proxy_protocol::V2_BYTES_MAX, &Ok(Parsed::Incomplete), proxy_protocol::parse);
    let Ok(Parsed::Complete { header, bytes: length }) = parsed else { return parsed };
    assert!(length <= bytes.len() && proxy_protocol::starts_like_header(bytes));
    if let Some(header) = header {
        for version in [Version::V1, Version::V2] {
            let written = proxy_protocol::encode(version, header.source, header.destination);
            let expected = Parsed::Complete { header: Some(header), bytes: written.len() };
            assert_eq!(proxy_protocol::parse(&written), Ok(expected), "{version:?}");
        }
    }
    parsed
}

/// A name that is read can be routed by, and logged.
pub fn client_hello(bytes: &[u8]) -> Result<Hello, ClientHelloError> {
    let hello = settled(bytes, client_hello::BYTES_MAX, &Ok(Hello::Incomplete), client_hello::parse);
    if let Ok(Hello::Complete { server_name: Some(name) }) = &hello {
        assert!((1..=253).contains(&name.len()) && !name.ends_with('.'), "{name:?}");
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
        assert!(name.bytes().all(plain) && client_hello::matches(name, name), "{name:?}");
    }
    hello
}

/// A token that is found was there in its text form.
pub fn token(bytes: &[u8]) -> Found {
    let found = settled(bytes, token::FIND_BYTES_MAX, &Found::Incomplete, token::find);
    if let Found::Token(token) = found {
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(token::FIND_BYTES_MAX)]);
        assert!(start.contains(&token.to_string()));
        assert_eq!(token::find(&token.line()), found);
    }
    found
}

/// The first byte says the dialect and the family of the target, each other one how many bytes come at once, as far as
/// there are bytes. The token is sent once at the most, and the end is the end. Returns the steps.
pub fn proxy_speech(script: &[u8]) -> Vec<&'static str> {
    let Some((kind, mut script)) = script.split_first() else { return Vec::new() };
    let dialect = Dialect::ALL[usize::from(kind & 3)];
    let target = match kind & 4 {
        0 => SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 443)),
        _ => SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 443)),
    };
    let Some(mut conversation) = Conversation::new(dialect, target, TOKEN) else {
        assert!(dialect == Dialect::Socks4 && target.is_ipv6());
        return Vec::new();
    };
    assert!(!conversation.open().is_empty());
    let mut steps = Vec::new();
    for _ in 0..ANSWERS_MAX {
        let [length, rest @ ..] = script else { break };
        let (answer, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        script = rest;
        steps.push(match conversation.received(answer) {
            Step::Wait => "wait",
            Step::Send(bytes) if bytes == TOKEN.line() => "token",
            Step::Send(_) => "ask",
            Step::Over => "over",
        });
    }
    assert!(steps.iter().filter(|step| **step == "token").count() <= 1, "{steps:?}");
    assert!(dialect != Dialect::HttpGet || !steps.contains(&"token"), "{steps:?}");
    let ended = steps.iter().skip_while(|step| **step != "over");
    assert!(ended.into_iter().all(|step| *step == "over"), "{steps:?}");
    steps
}

/// A request's head is found; and the same bytes, as every text on the page, stay text.
pub fn denial(bytes: &[u8]) -> Head {
    let head = settled(bytes, denial::HEAD_BYTES_MAX, &Head::Incomplete, denial::request_end);
    let text = String::from_utf8_lossy(bytes);
    let status = bytes.first_chunk().map_or(403, |start| u16::from_be_bytes(*start));
    let (tags, links) = tags(status, &text);
    let (plain, _) = self::tags(status, "text");
    assert_eq!(tags - 2 * links, plain, "text became markup");
    head
}

/// Every `<` of the page, and the links among them.
fn tags(status: u16, text: &str) -> (usize, usize) {
    let reason = Reason::Port { port: 80, outcome_words: text };
    let client = Ipv4Addr::new(192, 0, 2, 7).into();
    let denial = Denial { reason, client, notice: Some(text), contact: Some(text), gate: text };
    let answer = denial::page(status, &denial, Body::Sent);
    let answer = String::from_utf8(answer).expect("what is made of text is text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("the head ends");
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
    (body.matches('<').count(), body.matches("<a href=").count())
}
