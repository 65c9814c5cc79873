//! What all workers have in common: a process that is started, noticed when it ends, and started again after a pause.

use crate::worker::{Backoff, WorkerProcess};
use glacis_control::report::WorkerStatus;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A worker whose sandbox is not closed by then is replaced.
pub(super) const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// One worker with its feed `F`, or the place where there will be one.
pub(super) struct Supervised<F> {
    name: &'static str,
    running: Option<Running<F>>,
    backoff: Backoff,
    next_start: Option<Instant>,
    restarts: u32,
    children: Signal,
}

struct Running<F> {
    process: WorkerProcess,
    feed: F,
    ready: Ready,
    since: Instant,
}

/// Set when the worker's sandbox is closed and it serves.
#[derive(Debug, Clone, Default)]
pub(super) struct Ready(Arc<AtomicBool>);

impl Ready {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl<F> Supervised<F> {
    pub(super) fn new(name: &'static str) -> io::Result<Self> {
        Ok(Self {
            name,
            running: None,
            backoff: Backoff::default(),
            next_start: None,
            restarts: 0,
            children: signal(SignalKind::child())?,
        })
    }

    /// Takes a process that was just started into its care.
    pub(super) fn begin(&mut self, process: WorkerProcess, feed: F, ready: Ready) {
        self.running = Some(Running { process, feed, ready, since: Instant::now() });
        self.next_start = None;
    }

    /// Ends the worker for as long as nobody begins another.
    pub(super) fn stop(&mut self) {
        self.running = None;
        self.next_start = None;
    }

    /// Whether a worker runs or will be started again.
    pub(super) const fn is_wanted(&self) -> bool {
        self.running.is_some() || self.next_start.is_some()
    }

    pub(super) const fn feed(&mut self) -> Option<&mut F> {
        match &mut self.running {
            Some(running) => Some(&mut running.feed),
            None => None,
        }
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

    /// Whether the pause before the next start is over.
    pub(super) fn is_due(&self) -> bool {
        self.next_start.is_some_and(|at| at <= Instant::now())
    }

    /// The worker could not even be started: another pause.
    pub(super) fn put_off(&mut self) {
        self.next_start = Some(Instant::now() + self.backoff.delay(Duration::ZERO));
    }

    /// The worker ended, or is ended now; the next one follows after a pause.
    pub(super) fn ended(&mut self) {
        if let Some(running) = self.running.take() {
            self.restarts += 1;
            self.next_start = Some(Instant::now() + self.backoff.delay(running.since.elapsed()));
        }
    }

    /// Why the worker has to be replaced, if it does not close its sandbox in time.
    pub(super) fn overdue(&self) -> Option<String> {
        let running = self.running.as_ref()?;
        (!running.ready.is_set() && running.since.elapsed() > READY_TIMEOUT)
            .then(|| format!("not ready after {READY_TIMEOUT:?}"))
    }

    pub(super) fn status(&self) -> WorkerStatus {
        let serving = self.running.as_ref().filter(|running| running.ready.is_set());
        let pid = serving.map(|running| running.process.pid());
        WorkerStatus { name: self.name.to_owned(), pid, restarts: self.restarts }
    }
}
