//! The endpoints. Each answers from the newest snapshot and the newest records; none changes anything.

use super::feed::{self, Latest, Snapshot, not_ready};
use super::guard::{Guard, HostNames, guard};
use super::metrics;
use super::page::{self, View};
use super::records::{BANS_MAX, ROWS_MAX, Recent, Records};
use super::server::Counters;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use glacis_control::{Ban, Event, ScanRecord, StatusReport};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub type AppRouter = Router;

/// What every endpoint answers from.
#[derive(Clone)]
pub struct Shared {
    latest: Latest,
    records: Arc<Records>,
    host_names: HostNames,
    counters: Arc<Counters>,
}

impl Shared {
    pub fn new(latest: Latest, records: Records, host_names: HostNames, counters: Arc<Counters>) -> Self {
        Self { latest, records: Arc::new(records), host_names, counters }
    }
}

pub fn router(shared: Shared) -> AppRouter {
    let outermost = Guard { host_names: shared.host_names.clone(), latest: shared.latest.clone() };
    Router::new()
        .route("/", get(show_page))
        .route(
            "/style.css",
            get(|| async { asset("text/css; charset=utf-8", include_str!("assets/style.css")) }),
        )
        .route("/icon.svg", get(|| async { asset("image/svg+xml", include_str!("assets/icon.svg")) }))
        .route("/api/v1/status", get(status))
        .route("/api/v1/scans", get(scans))
        .route("/api/v1/bans", get(bans))
        .route("/api/v1/events", get(events))
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

async fn show_page(State(shared): State<Shared>) -> Response {
    let now = feed::now();
    match shared.latest.get() {
        Some(snapshot) => {
            let recent = shared.records.recent(now);
            let view = View { report: &snapshot.report, recent: &recent, age: snapshot.age(), now };
            Html(page::render(&view).into_string()).into_response()
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, Html(page::starting().into_string())).into_response(),
    }
}

/// The core's report as it came, and how old it is.
#[derive(Serialize)]
struct StatusAnswer<'a> {
    age_ms: u64,
    /// The report says nothing about the present.
    stale: bool,
    #[serde(flatten)]
    report: &'a StatusReport,
}

async fn status(State(shared): State<Shared>) -> Response {
    match shared.latest.get().as_deref() {
        Some(snapshot @ Snapshot { report, .. }) => {
            let age_ms = snapshot.age().as_millis() as u64;
            Json(StatusAnswer { age_ms, stale: snapshot.is_stale(), report }).into_response()
        }
        None => failed(StatusCode::SERVICE_UNAVAILABLE, "the core has not reported yet"),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    limit: Option<usize>,
}

type PageQuery = Result<Query<Page>, QueryRejection>;

#[derive(Serialize)]
struct Scans<'a> {
    scans: &'a [ScanRecord],
}

#[derive(Serialize)]
struct Bans<'a> {
    bans: &'a [Ban],
}

#[derive(Serialize)]
struct Events<'a> {
    events: &'a [Event],
}

async fn scans(State(shared): State<Shared>, query: PageQuery) -> Response {
    list(&shared, query, ROWS_MAX, |recent, limit| {
        Json(Scans { scans: first(&recent.scans, limit) }).into_response()
    })
}

async fn bans(State(shared): State<Shared>, query: PageQuery) -> Response {
    list(&shared, query, BANS_MAX, |recent, limit| {
        Json(Bans { bans: first(&recent.bans, limit) }).into_response()
    })
}

async fn events(State(shared): State<Shared>, query: PageQuery) -> Response {
    list(&shared, query, ROWS_MAX, |recent, limit| {
        Json(Events { events: first(&recent.events, limit) }).into_response()
    })
}

/// Answers with the newest records: as many as the query asks for, else `most`.
fn list(
    shared: &Shared,
    query: PageQuery,
    most: usize,
    answer: impl FnOnce(&Recent, usize) -> Response,
) -> Response {
    let limit = query.ok().map(|Query(Page { limit })| limit.unwrap_or(most));
    let Some(limit) = limit.filter(|limit| (1..=most).contains(limit)) else {
        let error = format!("the only parameter is `limit`, from 1 to {most}");
        return failed(StatusCode::BAD_REQUEST, &error);
    };
    let recent = shared.records.recent(feed::now());
    match &recent.trouble {
        Some(trouble) => failed(StatusCode::SERVICE_UNAVAILABLE, trouble),
        None => answer(&recent, limit),
    }
}

fn first<T>(rows: &[T], limit: usize) -> &[T] {
    &rows[..rows.len().min(limit)]
}

#[derive(Serialize)]
struct Failure<'a> {
    error: &'a str,
}

fn failed(code: StatusCode, error: &str) -> Response {
    (code, Json(Failure { error })).into_response()
}

async fn readyz(State(shared): State<Shared>) -> Response {
    match not_ready(shared.latest.get().as_deref()) {
        None => "ready\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn show_metrics(State(shared): State<Shared>) -> Response {
    let text = metrics::render(shared.latest.get().as_deref(), &shared.counters);
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}
