//! Services that a gate leads to, which remember who came and what was said.

use crate::scene::Scene;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// Connections that may wait to be accepted; the kernel's own bound is as high.
const BACKLOG: i32 = 4096;

/// What a visitor gets.
#[derive(Clone, Copy)]
pub enum Service {
    /// Its own bytes.
    Echo,
    /// A name, then its own bytes.
    Named(&'static str),
    /// Its own bytes, a pause before each piece.
    Slow(Duration),
    /// A reset after its first bytes.
    Reset,
    /// A page, once it has asked, and the end.
    Page(&'static str),
}

/// One connection to a backend.
#[derive(Debug, Clone)]
pub struct Visit {
    pub peer: SocketAddr,
    pub said: Vec<u8>,
}

/// A running service; ended on drop, with all its connections.
pub struct Backend {
    visits: Arc<Mutex<Vec<Visit>>>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    pub fn start(scene: &Scene, address: &str, service: Service) -> Self {
        let address: SocketAddr = address.parse().expect("written as an address");
        let listener = scene.inside.enter(|| std::net::TcpListener::bind(address));
        let listener = listener.unwrap_or_else(|e| panic!("{address}: {e}"));
        // The standard library lets 128 wait, which a thousand at once do not fit into.
        rustix::net::listen(&listener, BACKLOG).expect("it listens already");
        listener.set_nonblocking(true).expect("a socket can be made so");
        let visits = Arc::<Mutex<Vec<Visit>>>::default();
        let (end, ended) = oneshot::channel();
        let book = visits.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be built").block_on(async {
                let listener = TcpListener::from_std(listener).expect("it does not block");
                tokio::select! {
                    () = accept(&listener, service, &book) => {}
                    _ = ended => {}
                }
            });
        });
        Self { visits, end: Some(end), thread: Some(thread) }
    }

    /// Everyone who came, in the order of coming.
    pub fn visits(&self) -> Vec<Visit> {
        locked(&self.visits).clone()
    }

    pub fn count(&self) -> usize {
        locked(&self.visits).len()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn locked(visits: &Mutex<Vec<Visit>>) -> MutexGuard<'_, Vec<Visit>> {
    visits.lock().expect("nobody panics while holding it")
}

async fn accept(listener: &TcpListener, service: Service, visits: &Arc<Mutex<Vec<Visit>>>) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // Out of descriptors: those who left make room.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let number = {
            let mut visits = locked(visits);
            visits.push(Visit { peer, said: Vec::new() });
            visits.len() - 1
        };
        let visits = visits.clone();
        tokio::spawn(async move {
            // Clients end connections as they please; what they said counts.
            let _ = serve(stream, service, |bytes| {
                locked(&visits)[number].said.extend_from_slice(bytes);
            })
            .await;
        });
    }
}

async fn serve(mut stream: TcpStream, service: Service, heard: impl Fn(&[u8])) -> io::Result<()> {
    if let Service::Named(name) = service {
        stream.write_all(name.as_bytes()).await?;
    }
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).await?;
        heard(&buffer[..count]);
        match service {
            Service::Reset => {
                // A close with no time to linger sends a reset, socket(7).
                return rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))
                    .map_err(io::Error::from);
            }
            Service::Page(page) => {
                stream.write_all(page.as_bytes()).await?;
                return stream.shutdown().await;
            }
            Service::Slow(pause) => tokio::time::sleep(pause).await,
            Service::Echo | Service::Named(_) => {}
        }
        if count == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&buffer[..count]).await?;
    }
}
