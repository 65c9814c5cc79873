//! The event stream: what happens, told as it happens (Server-Sent Events, WHATWG HTML, section 9.2).
//!
//! A stream lives longer than other answers, so it has places and an age of its own. It ends at that age; a
//! browser asks again by itself and names the last event that it has, so that none is missed.

use super::feed::{self, Snapshot};
use super::query::{BadQuery, Query};
use super::records::Recent;
use super::routes::{Shared, bad_query, failed};
use super::server::Visit;
use super::{pages, places::Seat};
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use glacis_control::UnixMillis;
use glacis_control::report::FirewallState;
use hyper::body::{Bytes, Frame};
use serde::Serialize;
use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

/// Streams at the same time; more are refused.
pub const STREAMS_MAX: usize = 16;
/// Streams of one address at the same time; more are refused.
pub const STREAMS_PER_SOURCE_MAX: u32 = 2;
/// A stream ends at this age.
pub const STREAM_AGE_MAX: Duration = Duration::from_mins(5);
/// How soon a browser asks again when its stream has ended.
const RETRY: Duration = Duration::from_secs(2);
/// When a visitor for whom there is no place may try again.
const REFUSED_FOR_SECONDS: u16 = 30;
/// Between two messages.
const PULSE: Duration = Duration::from_secs(1);
/// Messages that wait for a slow reader; then the stream waits with it.
const WAITING_MAX: usize = 2;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

pub async fn open(
    State(shared): State<Shared>,
    Extension(visit): Extension<Arc<Visit>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let wanted = match wanted(&uri) {
        Ok(wanted) => wanted,
        Err(error) => return bad_query(&error),
    };
    let Some(seat) = shared.streams.now(visit.source) else {
        shared.counters.streams_refused.add_one();
        let error = format!(
            "all event streams are taken: there are {STREAMS_MAX}, and {STREAMS_PER_SOURCE_MAX} for one address"
        );
        let retry = [(header::RETRY_AFTER, HeaderValue::from(REFUSED_FOR_SECONDS))];
        return (retry, failed(StatusCode::SERVICE_UNAVAILABLE, &error)).into_response();
    };
    shared.counters.streams.add_one();
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let last_event = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()?.parse().ok());
    let teller = Teller { shared, wanted, last_event, shown: HashMap::new() };
    tokio::spawn(tokio::time::timeout(STREAM_AGE_MAX, teller.tell(sender)));
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))];
    (content_type, Body::new(Messages::new(receiver, visit, seat))).into_response()
}

/// Which page's parts are wanted besides happenings and status, if any.
fn wanted(uri: &Uri) -> Result<Option<pages::Live>, BadQuery> {
    let mut query = Query::of(uri)?;
    let wanted = pages::Live::take(&mut query)?;
    query.finish().map(|()| wanted)
}

/// The body of a stream. When it is dropped, its place is free, and its connection one like others.
struct Messages {
    receiver: mpsc::Receiver<Bytes>,
    visit: Arc<Visit>,
    _seat: Seat,
}

impl Messages {
    fn new(receiver: mpsc::Receiver<Bytes>, visit: Arc<Visit>, seat: Seat) -> Self {
        visit.streams.store(true, Ordering::Relaxed);
        Self { receiver, visit, _seat: seat }
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.visit.streams.store(false, Ordering::Relaxed);
    }
}

impl hyper::body::Body for Messages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.receiver.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// What one visitor has been told.
struct Teller {
    shared: Shared,
    wanted: Option<pages::Live>,
    /// `None` before the first look: only what happens from then on is told.
    last_event: Option<u64>,
    /// The page's parts as they were sent last.
    shown: HashMap<&'static str, String>,
}

impl Teller {
    /// Until the visitor is gone.
    async fn tell(mut self, messages: mpsc::Sender<Bytes>) {
        let mut pulse = tokio::time::interval(PULSE);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut text = format!("retry: {}\n\n", RETRY.as_millis());
        loop {
            pulse.tick().await;
            self.write(&mut text);
            if messages.send(Bytes::from(std::mem::take(&mut text))).await.is_err() {
                return;
            }
        }
    }

    fn write(&mut self, text: &mut String) {
        let now = feed::now();
        if let Ok(recent) = self.shared.records.recent(now) {
            self.write_happenings(&recent, text);
        }
        match self.shared.latest.get() {
            Some(snapshot) => {
                self.write_parts(&snapshot, now, text);
                message(text, None, "status", &Status::of(&snapshot));
            }
            // A comment: the connection lives, and there is nothing to say.
            None => text.push_str(":\n\n"),
        }
    }

    /// Oldest first.
    fn write_happenings(&mut self, recent: &Recent, text: &mut String) {
        let newest = recent.events.first().map_or(0, |event| event.id);
        let told = self.last_event.unwrap_or(newest);
        for event in recent.events.iter().rev().filter(|event| event.id > told) {
            message(text, Some(event.id), "log", event);
        }
        // A store that was made anew counts from the beginning.
        self.last_event = Some(newest);
    }

    /// Those that look different now.
    fn write_parts(&mut self, snapshot: &Snapshot, now: UnixMillis, text: &mut String) {
        let Some(live) = &self.wanted else { return };
        for part in live.parts(&self.shared, snapshot, now) {
            let html = part.content.into_string();
            if self.shown.get(part.id) != Some(&html) {
                message(text, None, "part", &ShownPart { id: part.id, html: &html });
                self.shown.insert(part.id, html);
            }
        }
    }
}

/// Appends one message; JSON has no line feed.
fn message(text: &mut String, id: Option<u64>, event: &str, data: &impl Serialize) {
    let Ok(data) = serde_json::to_string(data) else { return };
    if let Some(id) = id {
        text.push_str(&format!("id: {id}\n"));
    }
    text.push_str(&format!("event: {event}\ndata: {data}\n\n"));
}

/// A region of the page, as HTML.
#[derive(Serialize)]
struct ShownPart<'a> {
    id: &'a str,
    html: &'a str,
}

/// The core's report in short.
#[derive(Serialize)]
struct Status {
    taken: UnixMillis,
    age_ms: u64,
    stale: bool,
    firewall: FirewallState,
    policy_revision: u64,
    bans_active: u64,
    sources_watched: u64,
    hits_lost: u64,
    problems: usize,
}

impl Status {
    fn of(snapshot: &Snapshot) -> Self {
        let report = &snapshot.report;
        Self {
            taken: report.taken,
            age_ms: snapshot.age().as_millis() as u64,
            stale: snapshot.is_stale(),
            firewall: report.firewall,
            policy_revision: report.policy.revision,
            bans_active: report.bans_active,
            sources_watched: report.scan.sources,
            hits_lost: report.scan.lost,
            problems: report.problems.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use glacis_control::Event;

    fn teller(last_event: Option<u64>) -> Teller {
        Teller { shared: sample::shared(), wanted: None, last_event, shown: HashMap::new() }
    }

    fn told(teller: &mut Teller, recent: &Recent) -> Vec<u64> {
        let mut text = String::new();
        teller.write_happenings(recent, &mut text);
        text.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect()
    }

    #[test]
    fn a_new_visitor_hears_what_happens_from_now_on_and_one_who_returns_what_was_missed() {
        let recent = sample::recent();
        let (newest, older) = (recent.events[0].id, recent.events[1].id);
        let mut fresh = teller(None);
        assert_eq!(told(&mut fresh, &recent), [0; 0]);
        assert_eq!(told(&mut teller(Some(older)), &recent), [newest]);
        assert_eq!(told(&mut teller(Some(0)), &recent).first(), recent.events.last().map(|event| &event.id));
        let mut later = recent.clone();
        later.events.insert(0, Event { id: newest + 1, ..recent.events[0].clone() });
        assert_eq!(told(&mut fresh, &later), [newest + 1]);
        assert_eq!(told(&mut fresh, &later), [0; 0], "each once");
    }

    #[test]
    fn parts_are_sent_again_only_when_they_changed() {
        let mut teller = teller(None);
        teller.wanted = Some(pages::Live::Bans);
        teller.shared.latest.set(sample::report());
        let snapshot = teller.shared.latest.get().unwrap();
        let mut parts = |now| {
            let mut text = String::new();
            teller.write_parts(&snapshot, now, &mut text);
            text.matches("event: part\n").count()
        };
        assert!(parts(sample::NOW) > 0);
        assert_eq!(parts(sample::NOW), 0);
    }

    #[test]
    fn a_message_is_one_line_of_data() {
        let mut text = String::new();
        message(&mut text, Some(7), "log", &"a\nb");
        assert_eq!(text, "id: 7\nevent: log\ndata: \"a\\nb\"\n\n");
    }
}
