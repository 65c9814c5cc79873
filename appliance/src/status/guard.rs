//! What a request must be before anything answers it, and what every answer carries.

use super::feed::Latest;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::uri::Authority;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::{IpAddr, Ipv6Addr};

/// Longest path and query, in bytes.
const URI_BYTES_MAX: usize = 1024;

/// On every answer. No script runs but the one that this host serves, nothing is loaded from or sent elsewhere,
/// nobody frames or caches the page.
const ANSWER_HEADERS: [(HeaderName, HeaderValue); 8] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
             base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        ),
    ),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("permissions-policy"), HeaderValue::from_static("interest-cohort=()")),
];

/// Names that a browser may call this host by.
///
/// A page of a stranger that makes its own name resolve to this host (DNS rebinding) would read the status as
/// its own origin; its name is none of these. Addresses cannot be rebound and are always accepted.
#[derive(Debug, Clone)]
pub struct HostNames {
    /// In lower case.
    names: Vec<String>,
}

impl HostNames {
    /// `localhost` and the kernel's name of this host; call it before the sandbox is closed.
    pub fn of_this_host() -> Self {
        let name = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
        Self { names: vec!["localhost".into(), name] }
    }

    /// `also`: the name that the policy gives this host.
    fn accept(&self, host: &str, also: Option<&str>) -> bool {
        is_address(host)
            || self.names.iter().map(String::as_str).chain(also).any(|name| name.eq_ignore_ascii_case(host))
    }
}

/// IPv6 literals stand in brackets (RFC 3986, section 3.2.2).
fn is_address(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(literal) => literal.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<IpAddr>().is_ok_and(|address| address.is_ipv4()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Method,
    Uri,
    Body,
    NoHost,
    StrangeHost,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Method => {
                let allow = [(header::ALLOW, "GET, HEAD")];
                (StatusCode::METHOD_NOT_ALLOWED, allow, "this endpoint only reads\n").into_response()
            }
            Self::Uri => (StatusCode::URI_TOO_LONG, "the path is too long\n").into_response(),
            // The body is not read, so nothing can follow it on this connection.
            Self::Body => {
                let close = [(header::CONNECTION, "close")];
                (StatusCode::PAYLOAD_TOO_LARGE, close, "a request carries no body here\n").into_response()
            }
            Self::NoHost => {
                (StatusCode::BAD_REQUEST, "the Host header is missing or malformed\n").into_response()
            }
            Self::StrangeHost => {
                let text = "this host does not go by that name; use its address or the name in its policy\n";
                (StatusCode::MISDIRECTED_REQUEST, text).into_response()
            }
        }
    }
}

/// What [`guard`] needs.
#[derive(Clone)]
pub struct Guard {
    pub host_names: HostNames,
    /// The policy names this host, and may rename it.
    pub latest: Latest,
}

/// The outermost layer: refuses what is not a plain read of this host, and completes every answer.
pub async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let mut response = match check(&guard, &request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    response.headers_mut().extend(ANSWER_HEADERS);
    response
}

fn check(guard: &Guard, request: &Request) -> Result<(), Refusal> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Refusal::Method);
    }
    if request.uri().path_and_query().is_some_and(|text| text.as_str().len() > URI_BYTES_MAX) {
        return Err(Refusal::Uri);
    }
    let headers = request.headers();
    let has_length = headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    if has_length || headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Refusal::Body);
    }
    let host = host_of(request)?;
    let latest = guard.latest.get();
    let policy_name = latest.as_ref().map(|snapshot| snapshot.report.name.as_str());
    if guard.host_names.accept(host.host(), policy_name) { Ok(()) } else { Err(Refusal::StrangeHost) }
}

/// Exactly one Host header; an absolute target must name the same host (RFC 9112, section 3.2).
fn host_of(request: &Request) -> Result<Authority, Refusal> {
    let mut values = request.headers().get_all(header::HOST).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Refusal::NoHost);
    };
    let host = Authority::try_from(value.as_bytes()).map_err(|_| Refusal::NoHost)?;
    match request.uri().authority() {
        Some(target) if *target != host => Err(Refusal::StrangeHost),
        _ => Ok(host),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use axum::body::Body;
    use glacis_control::StatusReport;

    fn guard_of(policy_name: Option<&str>) -> Guard {
        let latest = Latest::default();
        if let Some(name) = policy_name {
            latest.set(StatusReport { name: name.into(), ..sample::report() });
        }
        Guard { host_names: HostNames { names: vec!["localhost".into(), "box".into()] }, latest }
    }

    fn get(uri: &str, host: Option<&str>) -> Request {
        let builder = Request::builder().uri(uri);
        let builder = if let Some(host) = host { builder.header("host", host) } else { builder };
        builder.body(Body::empty()).unwrap()
    }

    #[test]
    fn addresses_and_own_names_are_accepted_strangers_are_not() {
        let guard = guard_of(Some("Edge-1"));
        for host in ["192.0.2.1", "192.0.2.1:9777", "[2001:db8::1]:9777", "localhost", "BOX:9777", "edge-1"] {
            assert_eq!(check(&guard, &get("/", Some(host))), Ok(()), "{host}");
        }
        for host in ["evil.example", "edge-1.evil.example", "192.0.2.1.evil.example", "2001:db8::1", "[::1"] {
            assert!(check(&guard, &get("/", Some(host))).is_err(), "{host}");
        }
        assert_eq!(check(&guard_of(None), &get("/", Some("edge-1"))), Err(Refusal::StrangeHost));
    }

    #[test]
    fn the_host_is_there_once_and_agrees_with_the_target() {
        let guard = guard_of(None);
        assert_eq!(check(&guard, &get("/", None)), Err(Refusal::NoHost));
        let mut twice = get("/", Some("box"));
        twice.headers_mut().append("host", HeaderValue::from_static("localhost"));
        assert_eq!(check(&guard, &twice), Err(Refusal::NoHost));
        assert_eq!(check(&guard, &get("http://box/", Some("box"))), Ok(()));
        assert_eq!(check(&guard, &get("http://evil.example/", Some("box"))), Err(Refusal::StrangeHost));
    }

    #[test]
    fn only_bodiless_reads_of_bounded_paths_pass() {
        let guard = guard_of(None);
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "BREW"] {
            let mut request = get("/", Some("box"));
            *request.method_mut() = method.parse().unwrap();
            assert_eq!(check(&guard, &request), Err(Refusal::Method), "{method}");
        }
        let longest = format!("/{}", "a".repeat(URI_BYTES_MAX - 1));
        assert_eq!(check(&guard, &get(&longest, Some("box"))), Ok(()));
        assert_eq!(check(&guard, &get(&format!("{longest}a"), Some("box"))), Err(Refusal::Uri));
        for (name, value, expected) in [
            ("content-length", "1", Err(Refusal::Body)),
            ("transfer-encoding", "chunked", Err(Refusal::Body)),
            ("content-length", "0", Ok(())),
        ] {
            let mut request = get("/", Some("box"));
            request.headers_mut().insert(name, HeaderValue::from_static(value));
            assert_eq!(check(&guard, &request), expected, "{name}: {value}");
        }
    }
}
