//! The HTML endpoints: each reads the question, gathers the answers and has them rendered.

use super::feed::{self, Snapshot};
use super::page::{self, BansPage, GatesPage, LogPage, Overview, Part, RecordsPage, Slice, Topic, View};
use super::query::{BadQuery, Period, Query};
use super::records::{BANS_MAX, CLIENTS_MAX, ClientQuestion, EVENTS_MAX, PageQuestion, Unavailable};
use super::routes::Shared;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{Html, IntoResponse, Response};
use glacis_control::scan_query::PAGE_SIZES;
use glacis_control::{Day, UnixMillis};
use maud::Markup;

/// Rows of the tables of tops on the page (A22).
const TOP_ROWS: usize = 10;

pub async fn overview(State(shared): State<Shared>, uri: Uri) -> Response {
    show(&shared, &uri, Query::period, |view, period| gather(&shared, view, period).render())
}

pub async fn scans(State(shared): State<Shared>, uri: Uri) -> Response {
    let parse = |query: &mut Query, today| {
        let period = query.period(today)?;
        let question = PageQuestion {
            filter: query.filter(period.range)?,
            after: query.after()?,
            limit: query.page_size()?,
        };
        match shared.records.page(question.clone()) {
            Err(Unavailable::Cursor) => {
                Err(BadQuery::Value { name: "after", why: "is no place in this listing".into() })
            }
            page => Ok((period, question, page)),
        }
    };
    show(&shared, &uri, parse, |view, (period, question, page)| {
        RecordsPage { view, period, question, page }.render()
    })
}

pub async fn bans(State(shared): State<Shared>, uri: Uri) -> Response {
    let parse = |query: &mut Query, _| slice(query, BANS_MAX);
    show(&shared, &uri, parse, |view, slice| {
        BansPage { view, slice, recent: shared.records.recent(view.now) }.render()
    })
}

pub async fn gates(State(shared): State<Shared>, uri: Uri) -> Response {
    let parse = |query: &mut Query, _| Ok((query.clients()?, slice(query, CLIENTS_MAX)?));
    show(&shared, &uri, parse, |view, (question, slice)| {
        let clients = shared.records.clients(question.clone(), view.now);
        GatesPage { view, slice, question, clients }.render()
    })
}

pub async fn log(State(shared): State<Shared>, uri: Uri) -> Response {
    let parse = |query: &mut Query, _| {
        let topic = query.word("show", &Topic::WORDS)?.unwrap_or_default();
        Ok((topic, slice(query, EVENTS_MAX)?))
    };
    show(&shared, &uri, parse, |view, (topic, slice)| {
        LogPage { view, topic, slice, recent: shared.records.recent(view.now) }.render()
    })
}

fn slice(query: &mut Query, most: usize) -> Result<Slice, BadQuery> {
    let (skip, limit) = (query.skip(most as u32)?, query.page_size()?);
    Ok(Slice { skip: skip as usize, limit: limit as usize })
}

/// Answers with a page, or with what is wrong with the question.
fn show<Q>(
    shared: &Shared,
    uri: &Uri,
    parse: impl FnOnce(&mut Query, Day) -> Result<Q, BadQuery>,
    render: impl FnOnce(View<'_>, Q) -> Markup,
) -> Response {
    let Some(snapshot) = shared.latest.get() else {
        return (StatusCode::SERVICE_UNAVAILABLE, Html(page::starting().into_string())).into_response();
    };
    let now = feed::now();
    let view = View::of(&snapshot, now);
    let question = Query::of(uri).and_then(|mut query| {
        let question = parse(&mut query, Day::of(now))?;
        query.finish().map(|()| question)
    });
    match question {
        Ok(question) => Html(render(view, question).into_string()).into_response(),
        Err(error) => {
            let page = page::refused(view, &error.to_string(), uri.path());
            (StatusCode::BAD_REQUEST, Html(page.into_string())).into_response()
        }
    }
}

fn gather<'a>(shared: &Shared, view: View<'a>, period: Period) -> Overview<'a> {
    let (records, days) = (&shared.records, period.range);
    Overview {
        view,
        period,
        summary: records.summary(days),
        trend: records.trend(days),
        sources: records.top_sources(days, TOP_ROWS),
        ports: records.top_ports(days, TOP_ROWS),
        recent: records.recent(view.now),
    }
}

/// A page whose parts the event stream keeps fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Live {
    Overview(Period),
    /// The first page.
    Bans,
    /// The first page, of every client.
    Gates,
    /// The first page, of every topic.
    Log,
}

impl Live {
    /// `parts`: the page's name, with the parameters of its period.
    pub fn take(query: &mut Query) -> Result<Option<Self>, BadQuery> {
        #[derive(Clone, Copy)]
        enum Name {
            Overview,
            Bans,
            Gates,
            Log,
        }
        let names = [
            ("overview", Name::Overview),
            ("bans", Name::Bans),
            ("gates", Name::Gates),
            ("events", Name::Log),
        ];
        Ok(match query.word("parts", &names)? {
            None => None,
            Some(Name::Overview) => Some(Self::Overview(query.period(Day::of(feed::now()))?)),
            Some(Name::Bans) => Some(Self::Bans),
            Some(Name::Gates) => Some(Self::Gates),
            Some(Name::Log) => Some(Self::Log),
        })
    }

    pub fn parts(self, shared: &Shared, snapshot: &Snapshot, now: UnixMillis) -> Vec<Part> {
        let view = View::of(snapshot, now);
        let slice = Slice { skip: 0, limit: PAGE_SIZES[0] as usize };
        let recent = || shared.records.recent(now);
        match self {
            Self::Overview(period) => gather(shared, view, period.as_of(Day::of(now))).parts().into(),
            Self::Bans => BansPage { view, slice, recent: recent() }.parts().into(),
            Self::Gates => {
                let question = ClientQuestion::default();
                let clients = shared.records.clients(question.clone(), now);
                GatesPage { view, slice, question, clients }.parts().into()
            }
            Self::Log => LogPage { view, slice, topic: Topic::All, recent: recent() }.parts().into(),
        }
    }
}
