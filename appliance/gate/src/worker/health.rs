//! Checking whether backends serve, by connecting to them.

use super::backend::{BackendState, Change};
use super::connection::is_ours;
use super::shared::Shared;
use glacis_plan::gate::HealthCheck;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// The first check comes within this time, or within `every` if that is shorter.
const FIRST_WITHIN: Duration = Duration::from_secs(1);
/// A check comes up to one part in so many of `every` earlier, so that checks of many backends drift apart.
const JITTER: u32 = 8;

/// Checks a backend until it is dropped.
pub async fn check(shared: Arc<Shared>, gate: Arc<str>, backend: Arc<BackendState>, check: HealthCheck) {
    tokio::time::sleep(part(check.every.min(FIRST_WITHIN))).await;
    let mut is_told = false;
    loop {
        let failure = match timeout(check.timeout, glacis_relay::connect(backend.address)).await {
            Ok(Ok(_connection)) => None,
            Ok(Err(error)) if is_ours(&error) => {
                // Once, until it can be checked again.
                if !is_told {
                    tracing::warn!(%gate, backend = %backend.address, %error, "backend cannot be checked");
                }
                is_told = true;
                tokio::time::sleep(check.every).await;
                continue;
            }
            Ok(Err(error)) => Some(error.to_string()),
            Err(_late) => Some(format!("took no connection within {} ms", check.timeout.as_millis())),
        };
        is_told = false;
        let change = match &failure {
            None => backend.succeeded(&check),
            Some(why) => backend.failed(why, &check),
        };
        if change == Change::Turned {
            tracing::info!(%gate, backend = %backend.address, down = failure, "backend turned");
        }
        shared.backend_changed(change);
        tokio::time::sleep(check.every.saturating_sub(part(check.every / JITTER))).await;
    }
}

/// A random part of a duration.
fn part(of: Duration) -> Duration {
    // Each state of the hasher is another one, from the system's random numbers.
    let random = RandomState::new().hash_one(0) >> 32;
    of.mul_f64(random as f64 / f64::from(u32::MAX))
}
