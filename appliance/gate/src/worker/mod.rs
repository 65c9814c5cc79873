//! The worker's process: its threads, and what each part of it does.
//!
//! [`link`] speaks with the core and makes [`gate`]s of what it says. Each thread has a runtime of its own; a connection
//! stays on the thread that accepted it ([`listen`], [`connection`]). Shared by all are the book and the bans, the looks
//! under way ([`flight`]), budgets and counters ([`shared`]).

mod backend;
mod banned;
mod budget;
mod connection;
mod counter;
mod countries;
mod farewell;
mod flight;
mod gate;
mod health;
mod link;
mod listen;
mod networks;
mod peek;
mod places;
mod shared;
mod test;

pub use counter::GateCounter;
pub use countries::CountriesError;

use crate::feed::FeedError;
use gate::Gate;
use listen::Lane;
use shared::Shared;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// Most threads of the worker. With many gates there are fewer, because their sockets come beside one message.
pub const THREADS_MAX: usize = 64;
/// Configurations that wait for a thread.
const ORDERS_MAX: usize = 4;

#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("the runtime of thread {thread} cannot be built: {cause}")]
    Runtime { thread: usize, cause: io::Error },
    #[error("thread {thread} cannot be started: {cause}")]
    Thread { thread: usize, cause: io::Error },
    #[error("the feed's socket cannot be used: {0}")]
    Socket(#[source] io::Error),
    #[error(transparent)]
    Feed(#[from] FeedError),
    #[error("the core asks for {threads} threads; 1 to {THREADS_MAX} are possible, and their number stays")]
    Threads { threads: usize },
    #[error("{found} descriptors came with {gates} gates on {threads} threads; {expected} are expected")]
    Descriptors { gates: usize, threads: usize, expected: usize, found: usize },
    #[error(transparent)]
    Countries(#[from] CountriesError),
    #[error("a listening socket of gate {gate} cannot be used on thread {thread}: {cause}")]
    Listener { gate: String, thread: usize, cause: io::Error },
    #[error("thread {thread} has ended")]
    ThreadEnded { thread: usize },
}

/// Serves the gates that the core speaks of until the feed ends, which is no error.
///
/// To be called in a process that is sandboxed already and has no other thread: the threads that it makes inherit the
/// sandbox. All sockets that are passed, `feed` too, are best non-blocking; others are made so, which a sandbox may
/// forbid. Listening sockets stay open in the core when this process ends.
pub fn serve(feed: UnixStream) -> Result<(), WorkerError> {
    set_nonblocking(&feed).map_err(WorkerError::Socket)?;
    runtime(0)?.block_on(link::follow(feed))
}

fn runtime(thread: usize) -> Result<LocalRuntime, WorkerError> {
    Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .map_err(|cause| WorkerError::Runtime { thread, cause })
}

/// The gates that a thread is to serve from now on, in place of those before.
struct Order {
    gates: Vec<(Arc<Gate>, OwnedFd)>,
    done: oneshot::Sender<Result<(), WorkerError>>,
}

/// The threads of the worker.
struct Threads {
    orders: Vec<mpsc::Sender<Order>>,
    /// All but the first one, which is the caller's.
    handles: Vec<JoinHandle<Result<(), WorkerError>>>,
}

impl Threads {
    /// To be called on the runtime of the first thread.
    fn start(count: usize, shared: &Arc<Shared>) -> Result<Self, WorkerError> {
        let mut threads = Self { orders: Vec::with_capacity(count), handles: Vec::with_capacity(count) };
        for thread in 0..count {
            let (sender, orders) = mpsc::channel(ORDERS_MAX);
            threads.orders.push(sender);
            let shared = Arc::clone(shared);
            if thread == 0 {
                tokio::task::spawn_local(obey(shared, thread, orders));
                continue;
            }
            let run = move || {
                runtime(thread)?.block_on(obey(shared, thread, orders));
                Ok(())
            };
            let named = std::thread::Builder::new().name(format!("gate-{thread}"));
            threads.handles.push(named.spawn(run).map_err(|cause| WorkerError::Thread { thread, cause })?);
        }
        Ok(threads)
    }

    /// Returns when the thread serves these gates.
    async fn serve(&self, thread: usize, gates: Vec<(Arc<Gate>, OwnedFd)>) -> Result<(), WorkerError> {
        let (done, served) = oneshot::channel();
        let ended = || WorkerError::ThreadEnded { thread };
        self.orders[thread].send(Order { gates, done }).await.map_err(|_| ended())?;
        served.await.map_err(|_| ended())?
    }

    /// Ends all but the caller's, with all their connections.
    fn end(self) -> Result<(), WorkerError> {
        drop(self.orders);
        for (index, handle) in self.handles.into_iter().enumerate() {
            handle.join().map_err(|_panic| WorkerError::ThreadEnded { thread: index + 1 })??;
        }
        Ok(())
    }
}

/// Serves what is ordered until nobody can order any more.
async fn obey(shared: Arc<Shared>, thread: usize, mut orders: mpsc::Receiver<Order>) {
    // Listening ends when it is dropped; connections that were accepted go on.
    let mut listening = JoinSet::new();
    while let Some(Order { gates, done }) = orders.recv().await {
        let mut next = JoinSet::new();
        let mut result = Ok(());
        for (gate, socket) in gates {
            match listener(&gate, thread, socket) {
                Ok(listener) => {
                    let lane = Rc::new(Lane { gate, shared: Arc::clone(&shared), thread });
                    next.spawn_local(listen::listen(lane, listener));
                }
                Err(error) => result = Err(error),
            }
        }
        listening = next;
        // Nobody waits for it when the worker ends.
        let _ = done.send(result);
    }
    drop(listening);
}

fn listener(gate: &Gate, thread: usize, socket: OwnedFd) -> Result<TcpListener, WorkerError> {
    let usable = || {
        set_nonblocking(&socket)?;
        // Inherited by what is accepted: relayed bytes go out at once.
        rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
        Ok(())
    };
    usable().and_then(|()| TcpListener::from_std(socket.into())).map_err(|cause| WorkerError::Listener {
        gate: gate.plan.name.clone(),
        thread,
        cause,
    })
}

fn set_nonblocking(socket: impl std::os::fd::AsFd) -> io::Result<()> {
    use rustix::fs::OFlags;
    let flags = rustix::fs::fcntl_getfl(&socket)?;
    if !flags.contains(OFlags::NONBLOCK) {
        rustix::fs::fcntl_setfl(&socket, flags | OFlags::NONBLOCK)?;
    }
    Ok(())
}
