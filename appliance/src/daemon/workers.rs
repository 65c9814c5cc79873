//! The status worker: its listening sockets, its process, its feed.
//!
//! The sockets stay open here when the worker dies, so visitors wait for the next one and are not refused.

use super::Daemon;
use crate::worker::spawn::OWN_PROGRAM;
use crate::worker::{Backoff, SpawnError, WorkerProcess, WorkerSpec, spawn};
use glacis_control::frame::HEADER_BYTES;
use glacis_control::message::{StatusFeed, WorkerReady};
use glacis_control::report::WorkerStatus;
use glacis_control::{EventKind, StatusReport, frame};
use glacis_plan::StatusPlan;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

/// Its name on the command line and in the status.
const WORKER: &str = "status";
/// Longest answer of a worker: it says one word.
const READY_BYTES_MAX: usize = 64;
/// A worker whose sandbox is not closed by then is replaced.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// A worker that does not take a snapshot for so long is stuck and is replaced.
const FEED_TIMEOUT: Duration = Duration::from_secs(2);

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
    children: Signal,
}

struct Running {
    process: WorkerProcess,
    feed: OwnedWriteHalf,
    /// Its sandbox is closed and it serves.
    ready: Arc<AtomicBool>,
    since: Instant,
}

impl StatusWorker {
    pub(super) fn new(state: &Path) -> io::Result<Self> {
        Ok(Self {
            state: state.to_owned(),
            listen: vec![],
            listeners: vec![],
            running: None,
            backoff: Backoff::default(),
            next_start: None,
            restarts: 0,
            children: signal(SignalKind::child())?,
        })
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
        let (answers, feed) = UnixStream::from_std(ours).map_err(WorkerError::Feed)?.into_split();
        let process = spawn(WorkerSpec {
            name: WORKER,
            program: Path::new(OWN_PROGRAM),
            args: &[],
            feed: theirs,
            listeners: &self.listeners,
            store: Some(&self.state),
        })?;
        let ready = Arc::new(AtomicBool::new(false));
        tokio::spawn(hear_ready(answers, Arc::clone(&ready)));
        self.running = Some(Running { process, feed, ready, since: Instant::now() });
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
            self.children.recv().await;
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

    /// Sends a snapshot. Returns why the worker has to be replaced, if it has to.
    pub(super) async fn feed(&mut self, report: StatusReport) -> Option<String> {
        let running = self.running.as_mut()?;
        if !running.ready.load(Ordering::Relaxed) && running.since.elapsed() > READY_TIMEOUT {
            return Some(format!("not ready after {READY_TIMEOUT:?}"));
        }
        let bytes = frame::encode(&StatusFeed::Snapshot { report: Box::new(report) }).ok()?;
        match timeout(FEED_TIMEOUT, running.feed.write_all(&bytes)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("hung up: {error}")),
            Err(_) => Some(format!("took no snapshot for {FEED_TIMEOUT:?}")),
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
        let serving = self.running.as_ref().filter(|running| running.ready.load(Ordering::Relaxed));
        let pid = serving.map(|running| running.process.pid());
        vec![WorkerStatus { name: WORKER.to_owned(), pid, restarts: self.restarts }]
    }

    pub(super) fn listen(&self) -> &[SocketAddr] {
        &self.listen
    }
}

/// Waits for the worker's one word.
async fn hear_ready(mut answers: OwnedReadHalf, ready: Arc<AtomicBool>) {
    let mut header = [0; HEADER_BYTES];
    if answers.read_exact(&mut header).await.is_err() {
        return;
    }
    let Ok(bytes @ 0..=READY_BYTES_MAX) = frame::body_length(header) else { return };
    let mut body = vec![0; bytes];
    if answers.read_exact(&mut body).await.is_ok() && frame::decode::<WorkerReady>(&body).is_ok() {
        ready.store(true, Ordering::Relaxed);
    }
}

impl Daemon {
    pub(super) fn take_worker_exit(&mut self, cause: String) {
        tracing::error!(worker = WORKER, cause, "a worker ended and is started again");
        self.status_worker.ended();
        self.note(EventKind::WorkerRestarted { worker: WORKER.to_owned(), cause });
    }
}
