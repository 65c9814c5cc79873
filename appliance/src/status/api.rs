//! The JSON endpoints. docs/status.md describes each.

use super::feed::{self, Snapshot};
use super::query::{BadQuery, Query, ROWS_MAX};
use super::records::{Answer, BANS_MAX, EVENTS_MAX, NEWEST_MAX, PageQuestion, Unavailable};
use super::routes::{Shared, bad_query, failed};
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use glacis_control::gate::{ClientRecord, GateStatus};
use glacis_control::scan_query::{DayRange, ScanRow, TrendDay};
use glacis_control::{Ban, Day, Event, StatusReport};
use serde::Serialize;

/// Rows of a top list unless another number is asked for (A22).
const TOP_DEFAULT: u32 = 10;

/// Why an endpoint does not answer.
pub enum Refusal {
    Query(BadQuery),
    Unavailable(Unavailable),
}

impl From<BadQuery> for Refusal {
    fn from(error: BadQuery) -> Self {
        Self::Query(error)
    }
}

impl From<Unavailable> for Refusal {
    fn from(error: Unavailable) -> Self {
        Self::Unavailable(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Query(error) => bad_query(&error),
            Self::Unavailable(error @ Unavailable::Cursor) => {
                failed(StatusCode::BAD_REQUEST, &error.to_string())
            }
            Self::Unavailable(error) => {
                let retry = [(header::RETRY_AFTER, "5")];
                (retry, failed(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())).into_response()
            }
        }
    }
}

pub type Reply = Result<Response, Refusal>;

/// The core's report as it came, and how old it is.
#[derive(Serialize)]
struct StatusAnswer<'a> {
    age_ms: u64,
    /// The report says nothing about the present.
    stale: bool,
    #[serde(flatten)]
    report: &'a StatusReport,
}

pub async fn status(State(shared): State<Shared>) -> Response {
    match shared.latest.get().as_deref() {
        Some(snapshot @ Snapshot { report, .. }) => {
            let age_ms = snapshot.age().as_millis() as u64;
            Json(StatusAnswer { age_ms, stale: snapshot.is_stale(), report }).into_response()
        }
        None => failed(StatusCode::SERVICE_UNAVAILABLE, "the core has not reported yet"),
    }
}

#[derive(Serialize)]
struct Scans<'a> {
    scans: &'a [ScanRow],
}

#[derive(Serialize)]
struct Bans<'a> {
    bans: &'a [Ban],
}

#[derive(Serialize)]
struct Events<'a> {
    events: &'a [Event],
}

#[derive(Serialize)]
struct Trend<'a> {
    days: &'a [TrendDay],
}

#[derive(Serialize)]
struct Gates<'a> {
    gates: &'a [GateStatus],
    /// Clients that gates know.
    clients: u64,
}

#[derive(Serialize)]
struct Clients<'a> {
    clients: &'a [ClientRecord],
}

pub async fn gates(State(shared): State<Shared>, uri: Uri) -> Reply {
    Query::of(&uri)?.finish()?;
    Ok(match shared.latest.get().as_deref() {
        Some(Snapshot { report, .. }) => {
            Json(Gates { gates: &report.gates, clients: report.gate_clients }).into_response()
        }
        None => failed(StatusCode::SERVICE_UNAVAILABLE, "the core has not reported yet"),
    })
}

pub async fn gate_clients(State(shared): State<Shared>, uri: Uri) -> Reply {
    let mut query = Query::of(&uri)?;
    let (within, limit) = (query.within()?, query.limit(ROWS_MAX, ROWS_MAX)?);
    query.finish()?;
    let clients = shared.records.client_records(within, limit as usize, feed::now())?;
    Ok(Json(Clients { clients: &clients }).into_response())
}

pub async fn newest_scans(State(shared): State<Shared>, uri: Uri) -> Reply {
    let limit = only_limit(&uri, NEWEST_MAX, NEWEST_MAX)?;
    let newest = shared.records.newest()?;
    Ok(Json(Scans { scans: first(&newest, limit) }).into_response())
}

pub async fn bans(State(shared): State<Shared>, uri: Uri) -> Reply {
    let limit = only_limit(&uri, BANS_MAX, BANS_MAX)?;
    let recent = shared.records.recent(feed::now())?;
    Ok(Json(Bans { bans: first(&recent.bans, limit) }).into_response())
}

pub async fn events(State(shared): State<Shared>, uri: Uri) -> Reply {
    let limit = only_limit(&uri, ROWS_MAX as usize, EVENTS_MAX)?;
    let recent = shared.records.recent(feed::now())?;
    Ok(Json(Events { events: first(&recent.events, limit) }).into_response())
}

fn only_limit(uri: &Uri, default: usize, most: usize) -> Result<usize, BadQuery> {
    let mut query = Query::of(uri)?;
    let limit = query.limit(default as u32, most as u32)?;
    query.finish().map(|()| limit as usize)
}

fn first<T>(rows: &[T], limit: usize) -> &[T] {
    &rows[..rows.len().min(limit)]
}

pub async fn scan_summary(State(shared): State<Shared>, uri: Uri) -> Reply {
    json(shared.records.summary(only_period(&uri)?))
}

pub async fn scan_trend(State(shared): State<Shared>, uri: Uri) -> Reply {
    let days = shared.records.trend(only_period(&uri)?)?;
    Ok(Json(Trend { days: &days }).into_response())
}

pub async fn scan_sources(State(shared): State<Shared>, uri: Uri) -> Reply {
    let (days, limit) = period_and_limit(&uri)?;
    json(shared.records.top_sources(days, limit))
}

pub async fn scan_ports(State(shared): State<Shared>, uri: Uri) -> Reply {
    let (days, limit) = period_and_limit(&uri)?;
    json(shared.records.top_ports(days, limit))
}

pub async fn scan_records(State(shared): State<Shared>, uri: Uri) -> Reply {
    let mut query = Query::of(&uri)?;
    let period = query.period(today())?;
    let filter = query.filter(period.range)?;
    let question = PageQuestion { filter, after: query.after()?, limit: query.limit(ROWS_MAX, ROWS_MAX)? };
    query.finish()?;
    json(shared.records.page(question))
}

fn only_period(uri: &Uri) -> Result<DayRange, BadQuery> {
    let mut query = Query::of(uri)?;
    let period = query.period(today())?;
    query.finish().map(|()| period.range)
}

fn period_and_limit(uri: &Uri) -> Result<(DayRange, usize), BadQuery> {
    let mut query = Query::of(uri)?;
    let (period, limit) = (query.period(today())?, query.limit(TOP_DEFAULT, ROWS_MAX)?);
    query.finish().map(|()| (period.range, limit as usize))
}

fn today() -> Day {
    Day::of(feed::now())
}

fn json<A: Serialize>(answer: Answer<A>) -> Reply {
    Ok(Json(&*answer?).into_response())
}
