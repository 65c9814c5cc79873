//! The one-time token that a proxy is made to carry: what is written, and how it is known again.

use std::fmt;

/// Before the digits, so that a log of somebody else's proxy tells what went through it.
const PREFIX: &str = "glacis-";
/// Of the text form: lower-case hexadecimal digits behind [`PREFIX`].
const TEXT_BYTES: usize = PREFIX.len() + 32;
const LINE_END: u8 = b'\n';
const METHOD: &[u8] = b"GET ";
const SCHEME: &[u8] = b"http://";
const VERSION: &[u8] = b" HTTP/1.";
/// Longest host and port in a whole URL; `[` IPv6 `]:65535` has 47.
const AUTHORITY_BYTES_MAX: usize = 64;

/// So many bytes always tell whether a connection carries a token.
pub const FIND_BYTES_MAX: usize =
    METHOD.len() + SCHEME.len() + AUTHORITY_BYTES_MAX + 1 + TEXT_BYTES + VERSION.len();

/// One time's secret. Whoever says it was told it by a port that was asked to pass it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token([u8; 16]);

impl Token {
    /// Of 128 random bits, so that nobody guesses one.
    pub const fn new(random: [u8; 16]) -> Self {
        Self(random)
    }

    /// What is written through a tunnel: the text form and a line end.
    pub fn line(&self) -> Vec<u8> {
        format!("{self}\n").into_bytes()
    }

    /// Upper-case digits are somebody else's.
    fn read(text: &[u8]) -> Option<Self> {
        let digits: &[u8; 32] = text.strip_prefix(PREFIX.as_bytes())?.try_into().ok()?;
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(bytes))
    }
}

/// The text form: `glacis-` and 32 hexadecimal digits, which is also a path segment that no proxy rewrites.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{:032x}", u128::from_be_bytes(self.0))
    }
}

const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

/// What the begin of a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It may become one of the two forms; never with [`FIND_BYTES_MAX`] bytes or more.
    Incomplete,
    Token(Token),
    No,
}

/// Whether a connection begins with a token: as its line, or as the path of an HTTP request.
pub fn find(bytes: &[u8]) -> Found {
    if bytes.starts_with(METHOD) { in_request(&bytes[METHOD.len()..]) } else { in_line(bytes) }
}

fn in_line(bytes: &[u8]) -> Found {
    if is_cut(bytes, METHOD) {
        return Found::Incomplete;
    }
    match text(bytes) {
        Text::Incomplete => Found::Incomplete,
        Text::No => Found::No,
        Text::Token(token, rest) => match rest.first() {
            None => Found::Incomplete,
            Some(&LINE_END) => Found::Token(token),
            Some(_) => Found::No,
        },
    }
}

/// A proxy asks in origin form; one behind another proxy, or a careless one, with the whole URL.
fn in_request(target: &[u8]) -> Found {
    let path = if is_cut(target, SCHEME) {
        return Found::Incomplete;
    } else if let Some(rest) = target.strip_prefix(SCHEME) {
        let authority = rest.iter().take_while(|byte| is_authority(**byte)).count();
        if authority > AUTHORITY_BYTES_MAX || rest.first() == Some(&b'/') {
            return Found::No;
        }
        &rest[authority..]
    } else {
        target
    };
    match path.split_first() {
        None => Found::Incomplete,
        Some((b'/', segment)) => match text(segment) {
            Text::Incomplete => Found::Incomplete,
            Text::Token(token, rest) if rest.starts_with(VERSION) => Found::Token(token),
            Text::Token(_, rest) if is_cut(rest, VERSION) => Found::Incomplete,
            Text::Token(..) | Text::No => Found::No,
        },
        Some(_) => Found::No,
    }
}

enum Text<'a> {
    Incomplete,
    /// With what follows it.
    Token(Token, &'a [u8]),
    No,
}

fn text(bytes: &[u8]) -> Text<'_> {
    if let Some((text, rest)) = bytes.split_at_checked(TEXT_BYTES) {
        return Token::read(text).map_or(Text::No, |token| Text::Token(token, rest));
    }
    let digits = match bytes.strip_prefix(PREFIX.as_bytes()) {
        Some(digits) => digits,
        None if is_cut(bytes, PREFIX.as_bytes()) => return Text::Incomplete,
        None => return Text::No,
    };
    if digits.iter().all(|byte| digit(*byte).is_some()) { Text::Incomplete } else { Text::No }
}

/// Whether `bytes` are the begin of `whole` without being all of it.
fn is_cut(bytes: &[u8], whole: &[u8]) -> bool {
    bytes.len() < whole.len() && whole.starts_with(bytes)
}

/// Letters of an address with a port, or of a name (RFC 3986 section 3.2).
const fn is_authority(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']')
}

#[cfg(test)]
mod tests;
