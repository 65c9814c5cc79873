//! The status worker: its listening sockets, its process, its feed.
//!
//! The sockets stay open here when the worker dies, so visitors wait for the next one and are not refused.

use super::Daemon;
use super::supervision::{Ready, Supervised};
use crate::worker::spawn::OWN_PROGRAM;
use crate::worker::{SpawnError, WorkerSpec, spawn};
use glacis_control::frame::HEADER_BYTES;
use glacis_control::message::{StatusFeed, WorkerReady};
use glacis_control::report::WorkerStatus;
use glacis_control::{EventKind, StatusReport, frame};
use glacis_plan::StatusPlan;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

/// Its name on the command line and in the status.
const WORKER: &str = "status";
/// Longest answer of a worker: it says one word.
const READY_BYTES_MAX: usize = 64;
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
    supervised: Supervised<OwnedWriteHalf>,
}

impl StatusWorker {
    pub(super) fn new(state: &Path) -> io::Result<Self> {
        Ok(Self {
            state: state.to_owned(),
            listen: vec![],
            listeners: vec![],
            supervised: Supervised::new(WORKER)?,
        })
    }

    /// Serves where the plan says; nowhere without one.
    pub(super) fn converge(&mut self, plan: Option<&StatusPlan>) -> Result<(), WorkerError> {
        let wanted = plan.map_or(&[][..], |plan| &plan.listen);
        if wanted == self.listen && (self.supervised.is_wanted() || wanted.is_empty()) {
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
        let ready = Ready::default();
        tokio::spawn(hear_ready(answers, ready.clone()));
        self.supervised.begin(process, feed, ready);
        Ok(())
    }

    /// Ends the worker; the listening sockets stay.
    pub(super) fn stop(&mut self) {
        self.supervised.stop();
    }

    /// Waits until the worker has ended; for ever while there is none.
    pub(super) async fn exited(&mut self) -> String {
        self.supervised.exited().await
    }

    /// Starts the worker again when its pause is over.
    pub(super) fn revive(&mut self) {
        if self.supervised.is_due()
            && let Err(error) = self.start()
        {
            tracing::error!(%error, "the status worker does not start");
            self.supervised.put_off();
        }
    }

    /// Sends a snapshot. Returns why the worker has to be replaced, if it has to.
    pub(super) async fn feed(&mut self, report: StatusReport) -> Option<String> {
        if let Some(cause) = self.supervised.overdue() {
            return Some(cause);
        }
        let feed = self.supervised.feed()?;
        let bytes = frame::encode(&StatusFeed::Snapshot { report: Box::new(report) }).ok()?;
        match timeout(FEED_TIMEOUT, feed.write_all(&bytes)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("hung up: {error}")),
            Err(_) => Some(format!("took no snapshot for {FEED_TIMEOUT:?}")),
        }
    }

    fn ended(&mut self) {
        self.supervised.ended();
    }

    /// `None`: there is nothing to serve.
    pub(super) fn status(&self) -> Option<WorkerStatus> {
        (!self.listeners.is_empty()).then(|| self.supervised.status())
    }

    pub(super) fn listen(&self) -> &[SocketAddr] {
        &self.listen
    }
}

/// Waits for the worker's one word.
async fn hear_ready(mut answers: OwnedReadHalf, ready: Ready) {
    let mut header = [0; HEADER_BYTES];
    if answers.read_exact(&mut header).await.is_err() {
        return;
    }
    let Ok(bytes @ 0..=READY_BYTES_MAX) = frame::body_length(header) else { return };
    let mut body = vec![0; bytes];
    if answers.read_exact(&mut body).await.is_ok() && frame::decode::<WorkerReady>(&body).is_ok() {
        ready.set();
    }
}

impl Daemon {
    pub(super) fn take_worker_exit(&mut self, cause: String) {
        tracing::error!(worker = WORKER, cause, "a worker ended and is started again");
        self.status_worker.ended();
        self.note(EventKind::WorkerRestarted { worker: WORKER.to_owned(), cause });
    }
}
