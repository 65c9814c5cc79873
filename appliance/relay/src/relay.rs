//! Both directions together, until both have ended or a socket broke.

use crate::Tally;
use crate::direction::{Broken, Direction, Farewell, Socket};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{Interest, Ready};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// A relay without a byte in either direction for so long ends. `None`: it waits for ever.
    pub idle: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

/// How a relay ended.
#[derive(Debug)]
pub enum End {
    /// Both sides said all that they had to say, and it was passed on.
    Finished,
    /// This side's connection was reset or lost, and the other's was reset for it.
    Broken { side: Side, error: io::Error },
    /// No byte for as long as the settings allow. The connections were ended, or reset where bytes were still held.
    Idle,
}

/// What a relay did.
#[derive(Debug)]
pub struct Ended {
    /// Bytes that the server's socket took, the first ones included.
    pub to_server: u64,
    /// Bytes that the client's socket took.
    pub to_client: u64,
    pub how: End,
}

/// Passes bytes between two connections until it ends, and closes both.
///
/// One side's end is passed on when its bytes are, and the other direction goes on. A reset is passed on as a reset.
/// `first` goes to the server before the client's bytes: what was read of the client before, or a header. Dropping the
/// future closes both connections.
pub async fn relay(
    client: TcpStream,
    server: TcpStream,
    settings: &Settings,
    first: Vec<u8>,
    tally: &Tally,
) -> Ended {
    let mut to_server = Direction::new(first);
    let mut to_client = Direction::new(Vec::new());
    let how = {
        let mut pair =
            Pair { client: &client, server: &server, to_server: &mut to_server, to_client: &mut to_client };
        let mut client_error = pin!(Some(client.ready(Interest::ERROR)));
        let mut server_error = pin!(Some(server.ready(Interest::ERROR)));
        let mut active = Instant::now();
        let mut timer = pin!(settings.idle.map(|idle| sleep_until(active + idle)));
        poll_fn(|cx| {
            let mut end = pair.poll(cx);
            let (up, down) = (pair.to_server.progress(), pair.to_client.progress());
            if up + down > 0 {
                active = Instant::now();
                tally.add(up, down);
            }
            if end.is_pending() && (pair.to_server.has_ended() || pair.to_server.is_stalled()) {
                end = poll_error(cx, client_error.as_mut(), &client)
                    .map(|error| End::Broken { side: Side::Client, error });
            }
            if end.is_pending() && (pair.to_client.has_ended() || pair.to_client.is_stalled()) {
                end = poll_error(cx, server_error.as_mut(), &server)
                    .map(|error| End::Broken { side: Side::Server, error });
            }
            if let (true, Some(idle), Some(timer)) =
                (end.is_pending(), settings.idle, timer.as_mut().as_pin_mut())
            {
                end = poll_idle(cx, timer, active + idle).map(|()| End::Idle);
            }
            end
        })
        .await
    };
    let held = to_server.holds_bytes() || to_client.holds_bytes();
    if held || matches!(how, End::Broken { .. }) {
        // It fails on a socket that is broken already, which needs none.
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
    Ended { to_server: to_server.passed(), to_client: to_client.passed(), how }
}

struct Pair<'a> {
    client: &'a TcpStream,
    server: &'a TcpStream,
    to_server: &'a mut Direction,
    to_client: &'a mut Direction,
}

impl Pair<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let up = self.poll_to_server(cx);
        let down = self.poll_to_client(cx);
        if let Some(broken) = up {
            return Poll::Ready(broken_end(broken, Side::Client, Side::Server));
        }
        if let Some(broken) = down {
            // What the client sent before it broke the connection still is the server's.
            self.poll_to_server(cx);
            return Poll::Ready(broken_end(broken, Side::Server, Side::Client));
        }
        if self.to_server.has_ended() && self.to_client.has_ended() {
            return Poll::Ready(End::Finished);
        }
        Poll::Pending
    }

    fn poll_to_server(&mut self, cx: &mut Context<'_>) -> Option<Broken> {
        poll_direction(cx, self.to_server, self.client, self.server, self.to_client.has_ended())
    }

    fn poll_to_client(&mut self, cx: &mut Context<'_>) -> Option<Broken> {
        poll_direction(cx, self.to_client, self.server, self.client, self.to_server.has_ended())
    }
}

fn poll_direction(
    cx: &mut Context<'_>,
    direction: &mut Direction,
    from: &TcpStream,
    to: &TcpStream,
    last: bool,
) -> Option<Broken> {
    if direction.has_ended() {
        return None;
    }
    let farewell = if last { Farewell::Close } else { Farewell::Shutdown };
    match direction.poll(cx, from, to, farewell) {
        Poll::Ready(result) => result.err(),
        Poll::Pending => None,
    }
}

fn broken_end(broken: Broken, from: Side, to: Side) -> End {
    let side = match broken.socket {
        Socket::From => from,
        Socket::To => to,
    };
    End::Broken { side, error: broken.error }
}

/// Ready with what befell a socket from which nothing is being read. Reading and writing tell of it by themselves.
fn poll_error(
    cx: &mut Context<'_>,
    mut ready: Pin<&mut Option<impl Future<Output = io::Result<Ready>>>>,
    socket: &TcpStream,
) -> Poll<io::Error> {
    let Some(waiting) = ready.as_mut().as_pin_mut() else { return Poll::Pending };
    if waiting.poll(cx).is_pending() {
        return Poll::Pending;
    }
    ready.set(None);
    match socket.take_error() {
        Ok(Some(error)) | Err(error) => Poll::Ready(error),
        Ok(None) => Poll::Pending,
    }
}

/// Ready at the deadline. The timer is set anew only when it fires, not with each byte.
fn poll_idle(cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>, deadline: Instant) -> Poll<()> {
    while timer.as_mut().poll(cx).is_ready() {
        if timer.deadline() >= deadline {
            return Poll::Ready(());
        }
        timer.as_mut().reset(deadline);
    }
    Poll::Pending
}
