//! The first message of a TLS client, read for the server's name and passed on as it is.
//!
//! A strict reader of our own: `tls-parser` reads a record, not a message over several, takes duplicates, and brings a
//! parser generator for the one structure that is looked at here. What is refused is what RFC 8446 forbids a client to
//! send, so that a backend never understands another name than the one that led to it.

mod name;
mod records;

#[cfg(test)]
mod tests;

pub use name::matches;
pub use records::{BYTES_MAX, HELLO_BYTES_MAX, RECORDS_MAX};

use records::Message;

/// Extension `server_name` (RFC 6066 section 3).
const EXTENSION_SERVER_NAME: u16 = 0;
const RANDOM_BYTES: usize = 32;
const SESSION_ID_BYTES_MAX: usize = 32;

/// How far the bytes of a connection's begin go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hello {
    /// A hello so far; never with [`BYTES_MAX`] bytes or more.
    Incomplete,
    Complete {
        /// Lower case, at most 253 bytes. `None`: the client names no server, or names it by its address.
        server_name: Option<String>,
    },
}

/// Why bytes are no hello that can be led anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClientHelloError {
    #[error("the connection does not begin with a TLS handshake")]
    NotTls,
    #[error("the first TLS message is of kind {0}, not a client's hello")]
    NotAHello(u8),
    #[error("the hello has {0} bytes, more than {HELLO_BYTES_MAX}")]
    TooLong(usize),
    #[error("the hello is split over more than {RECORDS_MAX} TLS records")]
    TooManyRecords,
    #[error("a TLS record of {0} bytes; a handshake's have 1 to 16384")]
    WrongRecord(usize),
    #[error("something else follows the hello in its TLS record")]
    NotAlone,
    #[error("the lengths within the hello contradict each other")]
    Malformed,
    #[error("extension {0} is there twice")]
    DuplicateExtension(u16),
    #[error("the server's name is not one host name")]
    WrongServerName,
}

/// Reads the hello at the begin of a connection.
pub fn parse(bytes: &[u8]) -> Result<Hello, ClientHelloError> {
    match records::message(bytes)? {
        Message::Incomplete => Ok(Hello::Incomplete),
        Message::Complete(body) => Ok(Hello::Complete { server_name: read_body(&body)? }),
    }
}

/// RFC 8446 section 4.1.2; older versions have the same form.
fn read_body(body: &[u8]) -> Result<Option<String>, ClientHelloError> {
    let mut reader = Reader(body);
    let [major, _minor] = reader.array()?;
    if major != records::VERSION_MAJOR {
        return Err(ClientHelloError::Malformed);
    }
    reader.array::<RANDOM_BYTES>()?;
    let session_id = reader.block_u8()?;
    let cipher_suites = reader.block_u16()?;
    let compressions = reader.block_u8()?;
    if session_id.len() > SESSION_ID_BYTES_MAX
        || cipher_suites.is_empty()
        || cipher_suites.len() % 2 != 0
        || compressions.is_empty()
    {
        return Err(ClientHelloError::Malformed);
    }
    if reader.0.is_empty() {
        return Ok(None);
    }
    let extensions = reader.block_u16()?;
    reader.end()?;
    read_extensions(extensions)
}

fn read_extensions(extensions: &[u8]) -> Result<Option<String>, ClientHelloError> {
    let mut reader = Reader(extensions);
    let mut server_name = None;
    // At most one for every four bytes of a hello.
    let mut kinds = Vec::new();
    while !reader.0.is_empty() {
        let kind = u16::from_be_bytes(reader.array()?);
        let value = reader.block_u16()?;
        kinds.push(kind);
        if kind == EXTENSION_SERVER_NAME && server_name.is_none() {
            server_name = read_server_name(value)?;
        }
    }
    kinds.sort_unstable();
    match kinds.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(ClientHelloError::DuplicateExtension(pair[0])),
        None => Ok(server_name),
    }
}

/// A list by its form, but of one kind of name and one name of a kind: one name (RFC 6066 section 3).
fn read_server_name(value: &[u8]) -> Result<Option<String>, ClientHelloError> {
    const HOST_NAME: u8 = 0;
    let mut reader = Reader(value);
    let mut list = Reader(reader.block_u16()?);
    reader.end()?;
    let [kind] = list.array()?;
    let name = list.block_u16()?;
    if kind != HOST_NAME || !list.0.is_empty() {
        return Err(ClientHelloError::WrongServerName);
    }
    name::read(name)
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], ClientHelloError> {
        let (array, rest) = self.0.split_first_chunk().ok_or(ClientHelloError::Malformed)?;
        self.0 = rest;
        Ok(*array)
    }

    /// A block behind its length of one byte.
    fn block_u8(&mut self) -> Result<&'a [u8], ClientHelloError> {
        let [length] = self.array()?;
        self.take(usize::from(length))
    }

    /// A block behind its length of two bytes, big-endian.
    fn block_u16(&mut self) -> Result<&'a [u8], ClientHelloError> {
        let length = u16::from_be_bytes(self.array()?);
        self.take(usize::from(length))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ClientHelloError> {
        let (block, rest) = self.0.split_at_checked(length).ok_or(ClientHelloError::Malformed)?;
        self.0 = rest;
        Ok(block)
    }

    fn end(&self) -> Result<(), ClientHelloError> {
        if self.0.is_empty() { Ok(()) } else { Err(ClientHelloError::Malformed) }
    }
}
