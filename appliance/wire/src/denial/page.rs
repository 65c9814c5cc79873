//! The answer with the page.

use super::Body;
use http::StatusCode;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use std::net::IpAddr;

/// The only content that the page's policy lets in, by its hash.
pub(super) const STYLE: &str =
    "body{font:1.1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem}";
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'sha256-noVp8gtKuAwHnjUkbGltswtY7kIGnXOhWgrw0szS5Jc='; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Who is refused, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denial<'a> {
    pub reason: Reason<'a>,
    pub client: IpAddr,
    /// Where the reason is explained; linked where it is an `http` or `https` URL.
    pub notice: Option<&'a str>,
    /// Whom to write to; linked where it is an address of mail or an `http` or `https` URL.
    pub contact: Option<&'a str>,
    /// The gate's name.
    pub gate: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason<'a> {
    /// A port of the client is open.
    Port {
        port: u16,
        /// What it was found to be, to stand behind "it": `is open`, `passes connections on (SOCKS 5)`.
        outcome_words: &'a str,
    },
    /// Nothing was found, because there was no time to look.
    NotLooked,
}

/// The whole answer, after which the connection is to be closed. A `status` that HTTP does not have (100 to 999) is 403.
pub fn page(status: u16, denial: &Denial<'_>, body: Body) -> Vec<u8> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
    let html = document(status, denial).into_string();
    let mut answer = format!(
        "HTTP/1.1 {} {}\r\n\
         Content-Type: text/html; charset=utf-8\r\n\
         Content-Length: {}\r\n\
         Content-Language: en\r\n\
         Content-Security-Policy: {CONTENT_SECURITY_POLICY}\r\n\
         X-Content-Type-Options: nosniff\r\n\
         Referrer-Policy: no-referrer\r\n\
         Cache-Control: no-store\r\n\
         Connection: close\r\n\
         \r\n",
        status.as_u16(),
        reason_phrase(status),
        html.len(),
    )
    .into_bytes();
    if body == Body::Sent {
        answer.extend_from_slice(html.as_bytes());
    }
    answer
}

/// Of a status that nobody registered, its class.
fn reason_phrase(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or(if status.is_server_error() { "Server Error" } else { "Refused" })
}

fn document(status: StatusCode, denial: &Denial<'_>) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Connection refused (" (status.as_u16()) ")" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { "Your connection was refused" }
                    (reason(denial))
                    @if let Some(notice) = denial.notice {
                        p { "More about this: " (linked(notice)) }
                    }
                    @if let Some(contact) = denial.contact {
                        p { "If you think that this is a mistake, write to " (linked(contact)) "." }
                    }
                    p { small { "Your address: " (denial.client) ". Gate: " (denial.gate) "." } }
                }
            }
        }
    }
}

fn reason(denial: &Denial<'_>) -> Markup {
    match denial.reason {
        Reason::Port { port, outcome_words } => html! {
            p {
                "Before this server takes a connection, it looks whether the address that it comes from can be "
                "misused by others. On yours (" (denial.client) ") we found TCP port "
                strong { (port) } ": it " (outcome_words) "."
            }
            h2 { "What you can do" }
            p {
                "Close port " (port) " to the Internet, or let only those reach it who need to. If you come by way "
                "of a proxy or a VPN, connect without it. Then try again; it can take a while until we look again."
            }
        },
        Reason::NotLooked => html! {
            p {
                "Before this server takes a connection, it looks whether the address that it comes from can be "
                "misused by others. Just now too many are waiting for that."
            }
            h2 { "What you can do" }
            p { "Try again in a minute." }
        },
    }
}

/// Only what is surely a link becomes one: anything else could be a script.
fn linked(text: &str) -> Markup {
    let is_mail = text.split_once('@').is_some_and(|(name, host)| {
        let plain =
            |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte));
        !name.is_empty() && !host.is_empty() && plain(name) && plain(host)
    });
    let target = if text.starts_with("https://") || text.starts_with("http://") {
        Some(text.to_owned())
    } else {
        is_mail.then(|| format!("mailto:{text}"))
    };
    html! {
        @match target {
            Some(target) => a href=(target) rel="noreferrer" { (text) },
            None => (text),
        }
    }
}
