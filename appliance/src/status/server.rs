//! The HTTP server: bounded in connections, in header bytes and in time.

use super::places::{Places, Seat};
use super::routes::AppRouter;
use super::stream::STREAM_AGE_MAX;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// Visitors at the same time; more wait in the listener's queue.
const CONNECTIONS_MAX: usize = 256;
/// Visitors of one address at the same time; more are closed at once, so that none can take all places.
const CONNECTIONS_PER_SOURCE_MAX: u32 = 32;
/// For the whole head of a request, and for the pause before the next one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection this old finishes the answer it is giving and closes.
const CONNECTION_AGE_MAX: Duration = Duration::from_mins(1);
/// For that last answer; a reader that stalls is cut off. An event stream has [`STREAM_AGE_MAX`] more.
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
    pub fn add_one(&self) {
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
    pub streams: Counter,
    /// Event streams for which there was no place.
    pub streams_refused: Counter,
}

/// The connection that a request came on; an extension of every request.
#[derive(Debug)]
pub struct Visit {
    pub source: IpAddr,
    /// Its answer is an event stream and may take [`STREAM_AGE_MAX`].
    pub streams: AtomicBool,
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
        let places = Places::new(CONNECTIONS_MAX, CONNECTIONS_PER_SOURCE_MAX);
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
        match places.of_source(place, peer.ip()) {
            Some(seat) => {
                let visit = Arc::new(Visit { source: peer.ip(), streams: AtomicBool::new(false) });
                tokio::spawn(receive(stream, router.clone(), visit, seat));
            }
            None => counters.refused.add_one(),
        }
    }
}

/// One connection, from its first request to its end.
async fn receive(stream: TcpStream, router: AppRouter, visit: Arc<Visit>, _seat: Seat) {
    // Only a delay is lost when it fails.
    let _ = stream.set_nodelay(true);
    let service = Introduced { visit: visit.clone(), router: TowerToHyperService::new(router) };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = tokio::time::sleep(CONNECTION_AGE_MAX) => {
            connection.as_mut().graceful_shutdown();
            let streams = visit.streams.load(Ordering::Relaxed);
            let rest = if streams { STREAM_AGE_MAX + LAST_ANSWER_TIMEOUT } else { LAST_ANSWER_TIMEOUT };
            tokio::time::timeout(rest, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// The router, told who asks.
struct Introduced {
    visit: Arc<Visit>,
    router: TowerToHyperService<AppRouter>,
}

impl Service<Request<Incoming>> for Introduced {
    type Response = <TowerToHyperService<AppRouter> as Service<Request<Incoming>>>::Response;
    type Error = Infallible;
    type Future = <TowerToHyperService<AppRouter> as Service<Request<Incoming>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.visit.clone());
        self.router.call(request)
    }
}
