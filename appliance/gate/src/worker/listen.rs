//! Accepting connections.

use super::connection;
use super::counter::GateCounter;
use super::gate::Gate;
use super::shared::Shared;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// For so long nothing is accepted where a descriptor or memory is missing. Connections wait in the kernel.
const PAUSE: Duration = Duration::from_millis(50);

/// A gate on one thread.
pub struct Lane {
    pub gate: Arc<Gate>,
    pub shared: Arc<Shared>,
    pub thread: usize,
}

impl Lane {
    pub fn count(&self, counter: GateCounter) {
        self.gate.state.count(self.thread, counter);
    }
}

/// Accepts and attends to connections until it is dropped; those that are attended to go on.
pub async fn listen(lane: Rc<Lane>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((client, peer)) => take(&lane, client, peer),
            Err(error) if is_of_one_connection(&error) => {}
            Err(_) => {
                lane.count(GateCounter::AcceptPaused);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn take(lane: &Rc<Lane>, client: TcpStream, peer: SocketAddr) {
    lane.count(GateCounter::Accepted);
    match lane.shared.connection() {
        Some(slot) => {
            let attending = connection::attend(Rc::clone(lane), client, peer, Instant::now(), slot);
            tokio::task::spawn_local(attending);
        }
        None => lane.count(GateCounter::Full),
    }
}

/// `accept` also tells what befell a connection before it was accepted (accept(2), "Error handling").
fn is_of_one_connection(error: &io::Error) -> bool {
    let own = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EBADF, libc::EINVAL];
    error.raw_os_error().is_some_and(|errno| !own.contains(&errno))
}
