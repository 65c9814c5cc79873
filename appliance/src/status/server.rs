//! The HTTP server: bounded in connections, in header bytes and in time.

use super::routes::AppRouter;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Visitors at the same time; more wait in the listener's queue.
const CONNECTIONS_MAX: usize = 256;
/// Visitors of one address at the same time; more are closed at once, so that none can take all places.
const CONNECTIONS_PER_SOURCE_MAX: u32 = 32;
/// For the whole head of a request, and for the pause before the next one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection this old finishes the answer it is giving and closes.
const CONNECTION_AGE_MAX: Duration = Duration::from_mins(1);
/// For that last answer; a reader that stalls is cut off.
const LAST_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Request line and headers together; more are answered with 431.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// What is buffered of one connection in each direction.
const BUFFER_BYTES_MAX: usize = 16 << 10;
/// Pause after a failed accept, when descriptors have run out: the failure would repeat at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Counts that only grow.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the server tells about itself.
#[derive(Debug, Default)]
pub struct Counters {
    pub accepted: Counter,
    /// Over [`CONNECTIONS_PER_SOURCE_MAX`].
    pub refused: Counter,
}

/// Listeners on the event loop.
pub struct Server {
    listeners: Vec<TcpListener>,
}

impl Server {
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn new(listeners: Vec<std::net::TcpListener>) -> io::Result<Self> {
        let listeners = listeners.into_iter().map(TcpListener::from_std).collect::<io::Result<_>>()?;
        Ok(Self { listeners })
    }

    /// Serves for ever.
    pub async fn run(self, router: AppRouter, counters: Arc<Counters>) -> Infallible {
        let places = Places::default();
        for listener in self.listeners {
            tokio::spawn(accept(listener, router.clone(), places.clone(), counters.clone()));
        }
        std::future::pending().await
    }
}

async fn accept(listener: TcpListener, router: AppRouter, places: Places, counters: Arc<Counters>) {
    loop {
        let place = places.any().await;
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        counters.accepted.add_one();
        match places.of_source(place, peer) {
            Some(seat) => {
                tokio::spawn(visit(stream, router.clone(), seat));
            }
            None => counters.refused.add_one(),
        }
    }
}

/// One connection, from its first request to its end.
async fn visit(stream: TcpStream, router: AppRouter, _seat: Seat) {
    // Only a delay is lost when it fails.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = tokio::time::sleep(CONNECTION_AGE_MAX) => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(LAST_ANSWER_TIMEOUT, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// Who may be here at the same time.
#[derive(Clone)]
struct Places {
    all: Arc<Semaphore>,
    by_source: Arc<Mutex<HashMap<IpAddr, u32>>>,
}

impl Default for Places {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(CONNECTIONS_MAX)), by_source: Arc::default() }
    }
}

impl Places {
    async fn any(&self) -> OwnedSemaphorePermit {
        self.all.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    /// `None` when the source has too many already.
    fn of_source(&self, place: OwnedSemaphorePermit, peer: SocketAddr) -> Option<Seat> {
        let source = peer.ip().to_canonical();
        let mut by_source = self.by_source.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = by_source.entry(source).or_default();
        if *taken == CONNECTIONS_PER_SOURCE_MAX {
            return None;
        }
        *taken += 1;
        Some(Seat { source, by_source: self.by_source.clone(), _place: place })
    }
}

/// One visitor's place; given back on drop.
struct Seat {
    source: IpAddr,
    by_source: Arc<Mutex<HashMap<IpAddr, u32>>>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut by_source = self.by_source.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = by_source.get_mut(&self.source) {
            *taken -= 1;
            if *taken == 0 {
                by_source.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn one_source_cannot_take_all_places_and_gives_them_back() {
        let places = Places::default();
        let peer: SocketAddr = "203.0.113.9:4000".parse().unwrap();
        let mut seats = Vec::new();
        for _ in 0..CONNECTIONS_PER_SOURCE_MAX {
            seats.push(places.of_source(places.any().await, peer).unwrap());
        }
        assert!(places.of_source(places.any().await, peer).is_none());
        let mapped: SocketAddr = "[::ffff:203.0.113.9]:4000".parse().unwrap();
        assert!(places.of_source(places.any().await, mapped).is_none(), "the same source by its other name");
        assert!(places.of_source(places.any().await, "203.0.113.10:1".parse().unwrap()).is_some());
        seats.pop();
        assert!(places.of_source(places.any().await, peer).is_some());
        seats.clear();
        assert!(places.by_source.lock().unwrap().is_empty());
        assert_eq!(places.all.available_permits(), CONNECTIONS_MAX);
    }
}
