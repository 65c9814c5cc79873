//! The gate worker's process and its feed, both ways.
//!
//! A writer task sends what the loop queues; a reader task brings what the worker tells into the loop's queue. Neither
//! ever makes the loop wait: a worker that does not read fills its queue and is replaced.

use super::super::supervision::{Ready, Supervised};
use crate::worker::spawn::OWN_PROGRAM;
use crate::worker::{SpawnError, WorkerSpec, spawn};
use glacis_control::report::WorkerStatus;
use glacis_gate::feed::{FeedError, FeedReader, FeedWriter, FromWorker, ToWorker};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// Its name on the command line and in the status.
pub(in crate::daemon) const WORKER: &str = "gate";
/// Messages that may wait for the worker. A whole book is sixteen of them.
const ORDERS_MAX: usize = 256;
/// For the worker to serve a new policy, before whoever applied it is answered.
const SERVES_TIMEOUT: Duration = Duration::from_secs(2);
/// Messages of the worker that may wait for the loop; then the worker waits, and drops what it cannot tell.
pub(in crate::daemon) const HEARD_MAX: usize = 1_024;

#[derive(Debug, thiserror::Error)]
pub(in crate::daemon) enum GateWorkerError {
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error("cannot make the gate worker's feed: {0}")]
    Feed(io::Error),
}

/// A message with what travels beside it.
struct Order {
    message: ToWorker,
    descriptors: Vec<OwnedFd>,
}

pub(super) struct GateWorker {
    supervised: Supervised<Feed>,
    heard: mpsc::Sender<FromWorker>,
}

struct Feed {
    orders: mpsc::Sender<Order>,
    /// Configurations that were queued, and those of them that the worker serves.
    configured: u64,
    serves: watch::Receiver<u64>,
    tasks: [AbortHandle; 2],
}

impl Drop for Feed {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl GateWorker {
    pub(super) fn new(heard: mpsc::Sender<FromWorker>) -> io::Result<Self> {
        Ok(Self { supervised: Supervised::new(WORKER)?, heard })
    }

    pub(super) fn start(&mut self) -> Result<(), GateWorkerError> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(GateWorkerError::Feed)?;
        ours.set_nonblocking(true).map_err(GateWorkerError::Feed)?;
        let ours = Arc::new(UnixStream::from_std(ours).map_err(GateWorkerError::Feed)?);
        let process = spawn(WorkerSpec {
            name: WORKER,
            program: Path::new(OWN_PROGRAM),
            args: &[],
            feed: theirs,
            listeners: &[],
            store: None,
        })?;
        let ready = Ready::default();
        let (orders, queue) = mpsc::channel(ORDERS_MAX);
        let (served, serves) = watch::channel(0);
        let tell = tokio::spawn(tell(Arc::clone(&ours), queue));
        let hear = tokio::spawn(hear(ours, self.heard.clone(), ready.clone(), served));
        let tasks = [tell.abort_handle(), hear.abort_handle()];
        self.supervised.begin(process, Feed { orders, configured: 0, serves, tasks }, ready);
        Ok(())
    }

    /// Queues a message; nothing happens without a worker, which is told everything when it begins.
    /// A worker that leaves its queue full is stuck: it is ended, and the next one is told everything.
    pub(super) fn tell(&mut self, message: ToWorker, descriptors: Vec<OwnedFd>) {
        let Some(feed) = self.supervised.feed() else { return };
        feed.configured += u64::from(matches!(message, ToWorker::Configure { .. }));
        if feed.orders.try_send(Order { message, descriptors }).is_err() {
            tracing::error!("the gate worker does not listen any more and is replaced");
            self.supervised.ended();
        }
    }

    /// Waits until the worker serves what it was told last, but not for ever: a worker that is stuck is found out elsewhere.
    pub(super) async fn serves(&mut self) {
        let Some(feed) = self.supervised.feed() else { return };
        let configured = feed.configured;
        let served = feed.serves.wait_for(|served| *served >= configured);
        if timeout(SERVES_TIMEOUT, served).await.is_err() {
            tracing::warn!("the gate worker does not serve the newest policy yet");
        }
    }

    pub(super) fn is_running(&mut self) -> bool {
        self.supervised.feed().is_some()
    }

    pub(super) const fn is_wanted(&self) -> bool {
        self.supervised.is_wanted()
    }

    pub(super) fn stop(&mut self) {
        self.supervised.stop();
    }

    pub(super) async fn exited(&mut self) -> String {
        self.supervised.exited().await
    }

    pub(super) fn ended(&mut self) {
        self.supervised.ended();
    }

    pub(super) fn overdue(&self) -> Option<String> {
        self.supervised.overdue()
    }

    pub(super) fn is_due(&self) -> bool {
        self.supervised.is_due()
    }

    pub(super) fn put_off(&mut self) {
        self.supervised.put_off();
    }

    pub(super) fn status(&self) -> WorkerStatus {
        self.supervised.status()
    }
}

async fn tell(socket: Arc<UnixStream>, mut queue: mpsc::Receiver<Order>) {
    let writer = FeedWriter::new();
    while let Some(Order { message, descriptors }) = queue.recv().await {
        let beside: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        match writer.send(&socket, &message, &beside).await {
            Ok(()) => {}
            // Nothing was sent yet: what follows can be understood.
            Err(error @ (FeedError::Frame(_) | FeedError::Descriptors { .. })) => {
                tracing::error!(%error, "a message to the gate worker is too large");
            }
            Err(error) => {
                // Its exit is noticed elsewhere.
                tracing::debug!(%error, "the gate worker cannot be told anything");
                return;
            }
        }
    }
}

async fn hear(
    socket: Arc<UnixStream>,
    heard: mpsc::Sender<FromWorker>,
    ready: Ready,
    served: watch::Sender<u64>,
) {
    let mut reader = FeedReader::without_descriptors();
    loop {
        match reader.next(&socket).await {
            Ok((FromWorker::Ready, _)) => {
                ready.set();
                served.send_modify(|served| *served += 1);
            }
            Ok((message, _)) => {
                if heard.send(message).await.is_err() {
                    return;
                }
            }
            Err(FeedError::Ended) => return,
            Err(error) => {
                // What comes after garbage is garbage. The end of its feed ends the worker.
                tracing::error!(%error, "the gate worker is not understood");
                let _ = rustix::net::shutdown(&*socket, rustix::net::Shutdown::Both);
                return;
            }
        }
    }
}
