//! Ending connections that are not led anywhere, so that the other side understands.

use super::peek::{self, Peeked};
use glacis_control::gate::PortOutcome;
use glacis_plan::gate::{Deny, GatePlan, GateProtocol};
use glacis_wire::denial::{self, Body, Denial, Head, Reason};
use rustix::net::Shutdown;
use std::net::IpAddr;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For the head of a request, before which an answer would not be understood.
const HEAD_WAIT: Duration = Duration::from_secs(5);
/// For an answer to be taken.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// For the client to end its side, too. Bytes that are unread when a socket is closed make the kernel reset the
/// connection, and a reset can overtake the answer.
const LINGER: Duration = Duration::from_secs(1);
/// Thrown away meanwhile at the most.
const LINGER_BYTES_MAX: usize = 64 << 10;

const NO_BACKEND: &str = "HTTP/1.1 503 Service Unavailable\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 46\r\n\
    Cache-Control: no-store\r\n\
    Connection: close\r\n\
    \r\n";
const NO_BACKEND_BODY: &str = "The server is out of service. Try again later.";

/// Ends a connection with all that was sent, and not with a reset.
pub async fn close(client: TcpStream) {
    // It fails where the client has reset the connection.
    if rustix::net::shutdown(&client, Shutdown::Write).is_ok() {
        // Late clients are reset.
        let _ = timeout(LINGER, peek::drain(&client, LINGER_BYTES_MAX)).await;
    }
}

/// Refuses a client as the gate's settings say.
pub async fn refuse(plan: &GatePlan, client: TcpStream, address: IpAddr, reason: Reason<'_>) {
    let answer = |body| match (&plan.deny, plan.protocol) {
        (Deny::Page { status, notice, contact }, GateProtocol::Http) => {
            let denial = Denial {
                reason,
                client: address,
                notice: notice.as_deref(),
                contact: contact.as_deref(),
                gate: &plan.name,
            };
            Some(denial::page(*status, &denial, body))
        }
        _ => None,
    };
    let is_answered = plan.protocol == GateProtocol::Http && matches!(plan.deny, Deny::Page { .. });
    close_after(client, is_answered, &[], answer).await;
}

/// Ends a connection for which there is no backend. `said` was taken of it already.
pub async fn turn_away(protocol: GateProtocol, client: TcpStream, said: &[u8]) {
    let answer = |body| {
        let mut answer = NO_BACKEND.as_bytes().to_vec();
        if body == Body::Sent {
            answer.extend_from_slice(NO_BACKEND_BODY.as_bytes());
        }
        Some(answer)
    };
    close_after(client, protocol == GateProtocol::Http, said, answer).await;
}

async fn close_after(
    mut client: TcpStream,
    is_http: bool,
    said: &[u8],
    answer: impl Fn(Body) -> Option<Vec<u8>>,
) {
    if is_http
        && let Some(body) = request(&client, said).await
        && let Some(answer) = answer(body)
    {
        // Whether it was taken or not, the connection ends.
        let _ = timeout(ANSWER_WAIT, client.write_all(&answer)).await;
    }
    close(client).await;
}

/// Waits for the head of a request. `None`: there is none.
async fn request(client: &TcpStream, said: &[u8]) -> Option<Body> {
    let read = |bytes: &[u8]| match denial::request_end(bytes) {
        Head::Incomplete => None,
        Head::Complete(body) => Some(Some(body)),
        Head::NotHttp => Some(None),
    };
    if let Some(told) = read(said) {
        return told;
    }
    let more = |bytes: &[u8]| read(&[said, bytes].concat());
    match timeout(HEAD_WAIT, peek::until(client, denial::HEAD_BYTES_MAX, more)).await {
        Ok(Ok(Peeked::Told(body))) => body,
        _ => None,
    }
}

/// Behind "it", for the page.
pub const fn words(outcome: PortOutcome) -> &'static str {
    match outcome {
        PortOutcome::HttpProxy => "passes connections on (HTTP proxy)",
        PortOutcome::Socks4Proxy => "passes connections on (SOCKS 4)",
        PortOutcome::Socks5Proxy => "passes connections on (SOCKS 5)",
        _ => "is open",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_without_a_backend_tells_its_length() {
        assert!(NO_BACKEND.contains(&format!("Content-Length: {}\r\n", NO_BACKEND_BODY.len())));
    }
}
