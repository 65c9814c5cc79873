//! The endpoints. Each answers from the newest snapshot and the newest records; none changes anything.

use super::feed::{Latest, not_ready};
use super::guard::{Guard, HostNames, guard};
use super::places::Places;
use super::query::BadQuery;
use super::records::Records;
use super::server::Counters;
use super::stream::{STREAMS_MAX, STREAMS_PER_SOURCE_MAX};
use super::{api, feed, metrics, pages, stream};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use serde::Serialize;
use std::sync::Arc;

pub type AppRouter = Router;

/// What every endpoint answers from.
#[derive(Clone)]
pub struct Shared {
    pub latest: Latest,
    pub records: Arc<Records>,
    pub host_names: HostNames,
    pub counters: Arc<Counters>,
    /// For event streams.
    pub streams: Places,
}

impl Shared {
    pub fn new(latest: Latest, records: Records, host_names: HostNames, counters: Arc<Counters>) -> Self {
        let streams = Places::new(STREAMS_MAX, STREAMS_PER_SOURCE_MAX);
        Self { latest, records: Arc::new(records), host_names, counters, streams }
    }
}

pub fn router(shared: Shared) -> AppRouter {
    let outermost = Guard { host_names: shared.host_names.clone(), latest: shared.latest.clone() };
    Router::new()
        .route("/", get(pages::overview))
        .route("/scans", get(pages::scans))
        .route("/bans", get(pages::bans))
        .route("/gates", get(pages::gates))
        .route("/events", get(pages::log))
        .route(
            "/style.css",
            get(|| async { asset("text/css; charset=utf-8", include_str!("assets/style.css")) }),
        )
        .route(
            "/live.js",
            get(|| async { asset("text/javascript; charset=utf-8", include_str!("assets/live.js")) }),
        )
        .route("/icon.svg", get(|| async { asset("image/svg+xml", include_str!("assets/icon.svg")) }))
        .route("/api/v1/status", get(api::status))
        .route("/api/v1/scans", get(api::newest_scans))
        .route("/api/v1/scans/summary", get(api::scan_summary))
        .route("/api/v1/scans/trend", get(api::scan_trend))
        .route("/api/v1/scans/sources", get(api::scan_sources))
        .route("/api/v1/scans/ports", get(api::scan_ports))
        .route("/api/v1/scans/records", get(api::scan_records))
        .route("/api/v1/bans", get(api::bans))
        .route("/api/v1/gates", get(api::gates))
        .route("/api/v1/gates/clients", get(api::gate_clients))
        .route("/api/v1/events", get(api::events))
        .route("/api/v1/events/stream", get(stream::open))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(show_metrics))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there is no such page\n") })
        .with_state(shared)
        .layer(middleware::from_fn_with_state(outermost, guard))
}

fn asset(content_type: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, content_type)], text)
}

#[derive(Serialize)]
struct Failure<'a> {
    error: &'a str,
}

/// An error of the API.
pub fn failed(code: StatusCode, error: &str) -> Response {
    (code, Json(Failure { error })).into_response()
}

pub fn bad_query(error: &BadQuery) -> Response {
    failed(StatusCode::BAD_REQUEST, &error.to_string())
}

async fn readyz(State(shared): State<Shared>) -> Response {
    match not_ready(shared.latest.get().as_deref()) {
        None => "ready\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn show_metrics(State(shared): State<Shared>) -> Response {
    let recent = shared.records.recent(feed::now()).ok();
    let moment = metrics::Moment {
        latest: shared.latest.get(),
        bans: recent.map(|recent| recent.bans_by_reason),
        streams: (STREAMS_MAX - shared.streams.free()) as u64,
    };
    let text = metrics::render(&moment, &shared.counters);
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}
