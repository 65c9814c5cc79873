//! From TLS records to the handshake message that they carry (RFC 8446 sections 4 and 5.1).

use super::ClientHelloError;
use std::borrow::Cow;

/// Longest hello, with its header of four bytes. Those with post-quantum keys have 2 KiB.
pub const HELLO_BYTES_MAX: usize = 16 * 1024;
/// Most records of one hello. A split in two or three hides names from censors; a split into bytes hides nothing better.
pub const RECORDS_MAX: usize = 64;
/// So many bytes always tell what a connection begins with.
pub const BYTES_MAX: usize = HELLO_BYTES_MAX + RECORDS_MAX * RECORD_HEADER_BYTES;

/// First byte of every version from SSL 3 to TLS 1.3; the second one means nothing any more.
pub(super) const VERSION_MAJOR: u8 = 3;
const RECORD_HEADER_BYTES: usize = 5;
const RECORD_BYTES_MAX: usize = 16 * 1024;
const CONTENT_HANDSHAKE: u8 = 22;
const MESSAGE_HEADER_BYTES: usize = 4;
const MESSAGE_CLIENT_HELLO: u8 = 1;

pub(super) enum Message<'a> {
    Incomplete,
    /// The body, without its header.
    Complete(Cow<'a, [u8]>),
}

/// Puts the first message together; it is copied only when it is split.
pub(super) fn message(bytes: &[u8]) -> Result<Message<'_>, ClientHelloError> {
    let mut rest = bytes;
    let mut message = Cow::Borrowed(&[][..]);
    for _ in 0..RECORDS_MAX {
        let Some((fragment, length)) = fragment(rest)? else { return Ok(Message::Incomplete) };
        if message.is_empty() {
            message = Cow::Borrowed(fragment);
        } else {
            message.to_mut().extend_from_slice(fragment);
        }
        if let Some(body) = body_length(&message)? {
            let announced = message.len() - fragment.len() + length;
            if announced > MESSAGE_HEADER_BYTES + body {
                return Err(ClientHelloError::NotAlone);
            }
            if message.len() == MESSAGE_HEADER_BYTES + body {
                return Ok(Message::Complete(without_header(message)));
            }
        }
        if fragment.len() < length {
            return Ok(Message::Incomplete);
        }
        rest = &rest[RECORD_HEADER_BYTES + length..];
    }
    Err(ClientHelloError::TooManyRecords)
}

/// As much of the first record's content as is here, and its whole length. `None`: the header is not all here.
fn fragment(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, ClientHelloError> {
    if bytes.first().is_some_and(|kind| *kind != CONTENT_HANDSHAKE)
        || bytes.get(1).is_some_and(|major| *major != VERSION_MAJOR)
    {
        return Err(ClientHelloError::NotTls);
    }
    let Some((&[_, _, _, high, low], content)) = bytes.split_first_chunk::<RECORD_HEADER_BYTES>() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length == 0 || length > RECORD_BYTES_MAX {
        return Err(ClientHelloError::WrongRecord(length));
    }
    Ok(Some((&content[..content.len().min(length)], length)))
}

/// `None`: the header is not all here.
fn body_length(message: &[u8]) -> Result<Option<usize>, ClientHelloError> {
    match message.first() {
        None | Some(&MESSAGE_CLIENT_HELLO) => {}
        Some(other) => return Err(ClientHelloError::NotAHello(*other)),
    }
    let Some(&[_, high, middle, low]) = message.first_chunk::<MESSAGE_HEADER_BYTES>() else {
        return Ok(None);
    };
    let body = u32::from_be_bytes([0, high, middle, low]) as usize;
    if MESSAGE_HEADER_BYTES + body > HELLO_BYTES_MAX {
        return Err(ClientHelloError::TooLong(MESSAGE_HEADER_BYTES + body));
    }
    Ok(Some(body))
}

fn without_header(message: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    match message {
        Cow::Borrowed(message) => Cow::Borrowed(&message[MESSAGE_HEADER_BYTES..]),
        Cow::Owned(mut message) => {
            message.drain(..MESSAGE_HEADER_BYTES);
            Cow::Owned(message)
        }
    }
}
