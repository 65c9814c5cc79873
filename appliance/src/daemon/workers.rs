//! The status worker: its listening sockets, its process, its feed.
//!
//! The sockets stay open here when the worker dies, so visitors wait for the next one and are not refused.

use super::Daemon;
use crate::worker::spawn::OWN_PROGRAM;
use crate::worker::{Backoff, SpawnError, WorkerProcess, WorkerSpec, spawn};
use glacis_control::message::StatusFeed;
use glacis_control::report::WorkerStatus;
use glacis_control::{EventKind, StatusReport, frame};
use glacis_plan::StatusPlan;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

/// Its name on the command line and in the status.
const WORKER: &str = "status";
/// A worker that does not take a snapshot for so long is stuck and is replaced.
const FEED_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub(super) enum WorkerError {
    #[error("cannot listen on {address} for the status page: {cause}")]
    Listen { address: SocketAddr, cause: io::Error },
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error("cannot make the status worker's feed: {0}")]
    Feed(io::Error),
}

pub(super) struct StatusWorker {
    state: PathBuf,
    listen: Vec<SocketAddr>,
    listeners: Vec<TcpListener>,
    running: Option<Running>,
    backoff: Backoff,
    next_start: Option<Instant>,
    restarts: u32,
    children: Option<Signal>,
}

struct Running {
    process: WorkerProcess,
    feed: UnixStream,
    since: Instant,
}

impl StatusWorker {
    pub(super) fn new(state: &Path) -> Self {
        Self {
            state: state.to_owned(),
            listen: vec![],
            listeners: vec![],
            running: None,
            backoff: Backoff::default(),
            next_start: None,
            restarts: 0,
            children: signal(SignalKind::child()).ok(),
        }
    }

    /// Serves where the plan says; nowhere without one.
    pub(super) fn converge(&mut self, plan: Option<&StatusPlan>) -> Result<(), WorkerError> {
        let wanted = plan.map_or(&[][..], |plan| &plan.listen);
        if wanted == self.listen && (self.running.is_some() || self.next_start.is_some() || wanted.is_empty())
        {
            return Ok(());
        }
        self.stop();
        self.listen.clear();
        self.listeners.clear();
        for address in wanted {
            let listen = || -> io::Result<TcpListener> {
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Ok(listener)
            };
            let listener = listen().map_err(|cause| WorkerError::Listen { address: *address, cause })?;
            self.listeners.push(listener);
            self.listen.push(*address);
        }
        if self.listeners.is_empty() { Ok(()) } else { self.start() }
    }

    fn start(&mut self) -> Result<(), WorkerError> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(WorkerError::Feed)?;
        ours.set_nonblocking(true).map_err(WorkerError::Feed)?;
        let feed = UnixStream::from_std(ours).map_err(WorkerError::Feed)?;
        let process = spawn(WorkerSpec {
            name: WORKER,
            program: Path::new(OWN_PROGRAM),
            args: &[],
            feed: theirs,
            listeners: &self.listeners,
            store: Some(&self.state),
        })?;
        self.running = Some(Running { process, feed, since: Instant::now() });
        self.next_start = None;
        Ok(())
    }

    /// Ends the worker; the listening sockets stay.
    pub(super) fn stop(&mut self) {
        self.running = None;
        self.next_start = None;
    }

    /// Waits until the worker has ended; for ever while there is none.
    pub(super) async fn exited(&mut self) -> String {
        loop {
            if let Some(running) = &mut self.running
                && let Ok(Some(status)) = running.process.try_wait()
            {
                return status.to_string();
            }
            match &mut self.children {
                Some(children) => {
                    children.recv().await;
                }
                None => return std::future::pending().await,
            }
        }
    }

    /// Starts the worker again when its pause is over.
    pub(super) fn revive(&mut self) {
        if self.next_start.is_some_and(|at| at <= Instant::now())
            && let Err(error) = self.start()
        {
            tracing::error!(%error, "the status worker does not start");
            self.next_start = Some(Instant::now() + self.backoff.delay(Duration::ZERO));
        }
    }

    pub(super) async fn feed(&mut self, report: StatusReport) {
        let Some(running) = &mut self.running else { return };
        let Ok(bytes) = frame::encode(&StatusFeed::Snapshot { report: Box::new(report) }) else { return };
        match timeout(FEED_TIMEOUT, running.feed.write_all(&bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the status worker hung up"),
            Err(_) => {
                tracing::error!("the status worker is stuck and is replaced");
                self.ended();
            }
        }
    }

    fn ended(&mut self) {
        if let Some(running) = self.running.take() {
            self.restarts += 1;
            self.next_start = Some(Instant::now() + self.backoff.delay(running.since.elapsed()));
        }
    }

    pub(super) fn status(&self) -> Vec<WorkerStatus> {
        if self.listeners.is_empty() {
            return vec![];
        }
        let pid = self.running.as_ref().map(|running| running.process.pid());
        vec![WorkerStatus { name: WORKER.to_owned(), pid, restarts: self.restarts }]
    }

    pub(super) fn listen(&self) -> &[SocketAddr] {
        &self.listen
    }
}

impl Daemon {
    pub(super) fn take_worker_exit(&mut self, cause: String) {
        tracing::error!(worker = WORKER, cause, "a worker ended and is started again");
        self.status_worker.ended();
        self.note(EventKind::WorkerRestarted { worker: WORKER.to_owned(), cause });
    }
}
