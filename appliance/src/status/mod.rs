//! The read-only status endpoint, as a worker.
//!
//! Owns the pages, the JSON, the event stream, the metrics and the HTTP server around them. It hears snapshots from the core and
//! reads the store; it holds no handle that can change anything, and nothing that a visitor sends reaches the
//! core. docs/status.md lists the endpoints.

mod api;
mod feed;
mod guard;
mod metrics;
mod page;
mod pages;
mod places;
mod query;
mod ration;
mod records;
mod routes;
#[cfg(test)]
mod sample;
mod server;
mod stream;

use crate::worker::inherited::{InheritError, Inherited};
use crate::worker::profile::STATUS;
use crate::worker::sandbox::{self, SandboxError};
use feed::{FeedError, Latest};
use guard::HostNames;
use records::Records;
use routes::Shared;
use server::{Counters, Server};
use std::io;
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
enum StatusError {
    #[error(transparent)]
    Inherit(#[from] InheritError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error("cannot start the event loop: {0}")]
    EventLoop(#[source] io::Error),
    #[error(transparent)]
    Feed(#[from] FeedError),
}

/// Serves until the core closes the feed. The sandbox is closed before the first visitor is heard.
pub fn run() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "status worker ends");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), StatusError> {
    let inherited = Inherited::take()?;
    let records = Records::open_from_environment();
    let host_names = HostNames::of_this_host();
    // One thread, and its event loop is made before the sandbox forbids making one.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(StatusError::EventLoop)?;
    runtime.block_on(async {
        let mut feed = feed::Feed::new(inherited.feed).map_err(StatusError::EventLoop)?;
        let server = Server::new(inherited.listeners).map_err(StatusError::EventLoop)?;
        let report = sandbox::enter(&STATUS)?;
        tracing::info!(worker = STATUS.name, landlock = %report.landlock, "sandbox closed");
        feed.tell_ready().await?;

        let latest = Latest::default();
        let counters = Arc::new(Counters::default());
        let shared = Shared::new(latest.clone(), records, host_names, counters.clone());
        tokio::select! {
            ended = feed.follow(&latest) => Ok(ended?),
            never = server.run(routes::router(shared), counters) => match never {},
        }
    })
}
