//! The gate worker's process: the sandbox around `glacis_gate`.

use crate::worker::inherited::{InheritError, Inherited};
use crate::worker::profile::GATE;
use crate::worker::sandbox::{self, SandboxError};
use glacis_gate::WorkerError;
use std::process::ExitCode;

#[derive(Debug, thiserror::Error)]
enum GateError {
    #[error(transparent)]
    Inherit(#[from] InheritError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Worker(#[from] WorkerError),
}

/// Serves until the core closes the feed. The sandbox is closed before a byte is read, and before there is a second
/// thread.
pub fn run() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = crate::log::whole(&error), "gate worker ends");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), GateError> {
    let inherited = Inherited::take()?;
    let report = sandbox::enter(&GATE)?;
    tracing::info!(worker = GATE.name, landlock = %report.landlock, "sandbox closed");
    Ok(glacis_gate::serve(inherited.feed)?)
}
