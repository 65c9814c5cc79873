//! What a refused HTTP client gets: when its request is there, and the page that tells why.

mod page;

#[cfg(test)]
mod tests;

pub use page::{Denial, Reason, page};

use httparse::{EMPTY_HEADER, Error, Request, Status};

/// So many bytes of a request are waited for at most.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Of a request; with more of them, the rest is not waited for.
pub const HEADERS_MAX: usize = 64;

/// How far the first request of a connection is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// An HTTP/1 request so far; never with [`HEAD_BYTES_MAX`] bytes or more.
    Incomplete,
    /// It can be answered: its head is here, or is longer than what is waited for.
    Complete(Body),
    /// Not HTTP/1: there is no answer that would be understood.
    NotHttp,
}

/// Whether an answer has its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    Sent,
    /// For `HEAD`: the headers speak of it, and that is all (RFC 9110 section 9.3.2).
    LeftOut,
}

/// Where the first request of a connection ends.
pub fn request_end(bytes: &[u8]) -> Head {
    let start = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    match request.parse(start) {
        Ok(Status::Complete(_)) | Err(Error::TooManyHeaders) => Head::Complete(body(&request)),
        Ok(Status::Partial) if start.len() < HEAD_BYTES_MAX => Head::Incomplete,
        // Whether this is HTTP shows at the end of the request line.
        Ok(Status::Partial) if request.version.is_some() => Head::Complete(body(&request)),
        Ok(Status::Partial) | Err(_) => Head::NotHttp,
    }
}

fn body(request: &Request<'_, '_>) -> Body {
    if request.method == Some("HEAD") { Body::LeftOut } else { Body::Sent }
}
