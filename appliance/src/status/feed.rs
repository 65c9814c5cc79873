//! Snapshots from the core.

use glacis_control::frame::{self, FrameError, HEADER_BYTES};
use glacis_control::message::{StatusFeed, WorkerReady};
use glacis_control::report::FirewallState;
use glacis_control::{StatusReport, UnixMillis};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// The core tells once a second; a snapshot older than this says nothing about the present.
pub const STALE_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    #[error("cannot read the core's feed: {0}")]
    Read(#[source] io::Error),
    #[error("cannot tell the core that the worker is ready: {0}")]
    Ready(#[source] io::Error),
    #[error("the core's feed: {0}")]
    Frame(#[from] FrameError),
}

/// One report and when it came, by a clock that nobody sets.
#[derive(Debug)]
pub struct Snapshot {
    pub report: StatusReport,
    pub received: Instant,
}

impl Snapshot {
    pub fn age(&self) -> Duration {
        self.received.elapsed()
    }

    pub fn is_stale(&self) -> bool {
        self.age() > STALE_AFTER
    }
}

/// The newest snapshot; `None` before the first.
#[derive(Debug, Clone, Default)]
pub struct Latest(Arc<Mutex<Option<Arc<Snapshot>>>>);

impl Latest {
    pub fn get(&self) -> Option<Arc<Snapshot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set(&self, report: StatusReport) {
        let snapshot = Arc::new(Snapshot { report, received: Instant::now() });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(snapshot);
    }
}

/// Why the appliance is not ready, as one sentence; `None` when it is.
pub fn not_ready(latest: Option<&Snapshot>) -> Option<String> {
    let Some(snapshot) = latest else {
        return Some("the core has not reported yet".into());
    };
    if snapshot.is_stale() {
        return Some(format!("the core has not reported for {} s", snapshot.age().as_secs()));
    }
    match snapshot.report.firewall {
        FirewallState::Applied => None,
        FirewallState::DropAll => Some("no policy is applied: all traffic is dropped".into()),
        FirewallState::Tampered => Some("the kernel's ruleset is not the one that was loaded".into()),
    }
}

/// This moment, as records tell time.
pub fn now() -> UnixMillis {
    UnixMillis::from_system(SystemTime::now())
}

/// The worker's end of the socket pair.
pub struct Feed {
    stream: UnixStream,
    /// Reused between frames; at most [`frame::BODY_BYTES_MAX`].
    body: Vec<u8>,
}

impl Feed {
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn new(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        Ok(Self { stream: UnixStream::from_std(stream)?, body: Vec::new() })
    }

    pub async fn tell_ready(&mut self) -> Result<(), FeedError> {
        let frame = frame::encode(&WorkerReady)?;
        self.stream.write_all(&frame).await.map_err(FeedError::Ready)
    }

    /// Keeps `latest` fresh until the core closes the feed.
    pub async fn follow(&mut self, latest: &Latest) -> Result<(), FeedError> {
        while let Some(StatusFeed::Snapshot { report }) = self.next().await? {
            latest.set(*report);
        }
        Ok(())
    }

    /// `None` at the end of the feed, even in the middle of a frame: the core may be killed at any moment.
    async fn next(&mut self) -> Result<Option<StatusFeed>, FeedError> {
        let mut header = [0; HEADER_BYTES];
        if !self.fill(&mut header).await? {
            return Ok(None);
        }
        let mut body = std::mem::take(&mut self.body);
        body.resize(frame::body_length(header)?, 0);
        let whole = self.fill(&mut body).await?;
        self.body = body;
        if whole { Ok(Some(frame::decode(&self.body)?)) } else { Ok(None) }
    }

    /// Whether `buffer` could be filled before the end.
    async fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, FeedError> {
        match self.stream.read_exact(buffer).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(FeedError::Read(error)),
        }
    }
}
