use super::*;
use crate::hostile;
use sha2::{Digest, Sha256};
use std::net::IpAddr;

const REQUESTS: [&[u8]; 4] = [
    b"GET / HTTP/1.1\r\nHost: www.example.org\r\nAccept: */*\r\n\r\n",
    b"HEAD /a?b=c HTTP/1.0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
    b"OPTIONS * HTTP/1.1\nHost: a\n\n",
];

fn denial<'a>() -> Denial<'a> {
    Denial {
        reason: Reason::Port { port: 3128, outcome_words: "passes connections on (HTTP)" },
        client: IpAddr::from([192, 0, 2, 7]),
        notice: Some("https://www.example.org/why?a=1&b=2"),
        contact: Some("abuse@example.org"),
        gate: "web",
    }
}

/// Status line and headers, and the body.
fn parts(answer: &[u8]) -> (Vec<&str>, &str) {
    let answer = std::str::from_utf8(answer).expect("the answer is UTF-8");
    let (head, body) = answer.split_once("\r\n\r\n").expect("the head ends");
    (head.split("\r\n").collect(), body)
}

#[test]
fn a_request_is_complete_with_its_head() {
    for request in REQUESTS {
        let body = if request.starts_with(b"HEAD") { Body::LeftOut } else { Body::Sent };
        assert_eq!(request_end(request), Head::Complete(body));
        assert_eq!(request_end(&[request, b"12345"].concat()), Head::Complete(body));
        for prefix in hostile::prefixes(request) {
            assert_eq!(request_end(prefix), Head::Incomplete, "{}", String::from_utf8_lossy(prefix));
        }
    }
}

#[test]
fn other_protocols_are_not_http() {
    let others: [&[u8]; 7] = [
        b"\x16\x03\x01\x02\x00",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /\r\n",
        b"GET / HTTP/0.9\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 443\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n",
    ];
    for other in others {
        assert_eq!(request_end(other), Head::NotHttp, "{}", String::from_utf8_lossy(other));
    }
}

#[test]
fn a_head_beyond_the_bounds_is_answered_without_its_rest() {
    let long = [b"HEAD / HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; HEAD_BYTES_MAX]].concat();
    assert_eq!(request_end(&long[..HEAD_BYTES_MAX - 1]), Head::Incomplete);
    assert_eq!(request_end(&long[..HEAD_BYTES_MAX]), Head::Complete(Body::LeftOut));
    assert_eq!(request_end(&long), Head::Complete(Body::LeftOut));
    let path = [b"GET /".to_vec(), vec![b'x'; HEAD_BYTES_MAX]].concat();
    assert_eq!(request_end(&path), Head::NotHttp, "it never says that it is HTTP");
    let mut many = b"GET / HTTP/1.1\r\n".to_vec();
    for _ in 0..=HEADERS_MAX {
        assert_eq!(request_end(&many), Head::Incomplete);
        many.extend_from_slice(b"X: y\r\n");
    }
    assert_eq!(request_end(&many), Head::Complete(Body::Sent));
}

#[test]
fn changed_requests_are_survived_and_stay_what_they_were() {
    for request in REQUESTS {
        for mutation in hostile::mutations(request) {
            let whole = request_end(&mutation);
            for prefix in hostile::prefixes(&mutation) {
                let early = request_end(prefix);
                assert!(early == Head::Incomplete || early == whole, "{mutation:?}");
            }
        }
    }
}

#[test]
fn the_answer_is_complete_and_closes() {
    let answer = page(403, &denial(), Body::Sent);
    let (head, body) = parts(&answer);
    assert_eq!(head[0], "HTTP/1.1 403 Forbidden");
    for line in [
        "Content-Type: text/html; charset=utf-8",
        "Cache-Control: no-store",
        "Connection: close",
        &format!("Content-Length: {}", body.len()),
    ] {
        assert!(head.contains(&line), "{line} in {head:?}");
    }
    let mut headers = [EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut headers);
    assert_eq!(response.parse(&answer), Ok(Status::Complete(answer.len() - body.len())));
}

#[test]
fn the_page_tells_why_and_what_to_do() {
    let answer = page(403, &denial(), Body::Sent);
    let (_, body) = parts(&answer);
    for text in [
        "<html lang=\"en\">",
        "<title>Connection refused (403)</title>",
        "TCP port <strong>3128</strong>: it passes connections on (HTTP).",
        "192.0.2.7",
        "Close port 3128",
        "<a href=\"https://www.example.org/why?a=1&amp;b=2\"",
        "<a href=\"mailto:abuse@example.org\"",
        "Gate: web",
    ] {
        assert!(body.contains(text), "{text} in {body}");
    }
    let bare = Denial { reason: Reason::NotLooked, notice: None, contact: None, ..denial() };
    let answer = page(503, &bare, Body::Sent);
    let (head, body) = parts(&answer);
    assert_eq!(head[0], "HTTP/1.1 503 Service Unavailable");
    assert!(
        body.contains("Try again in a minute") && !body.contains("3128") && !body.contains("<a "),
        "{body}"
    );
}

#[test]
fn an_answer_to_head_has_the_same_head_alone() {
    let (whole, alone) = (page(403, &denial(), Body::Sent), page(403, &denial(), Body::LeftOut));
    assert_eq!(parts(&whole).0, parts(&alone).0);
    assert_eq!(parts(&alone).1, "");
}

#[test]
fn nothing_of_the_outside_becomes_markup() {
    let hostile = "<script>alert(1)</script>\"'&\r\nSet-Cookie: a=b";
    let answer = page(
        403,
        &Denial {
            reason: Reason::Port { port: 80, outcome_words: hostile },
            notice: Some(hostile),
            contact: Some("javascript:alert(1)//@example.org"),
            gate: hostile,
            ..denial()
        },
        Body::Sent,
    );
    let (head, body) = parts(&answer);
    assert!(!head.iter().any(|line| line.contains("Cookie") || line.contains("script")), "{head:?}");
    assert!(!body.contains("<script") && !body.contains("href"), "{body}");
    assert_eq!(body.matches("&lt;script&gt;").count(), 3, "{body}");
    let link = page(403, &Denial { notice: Some("https://a/\"><b>"), ..denial() }, Body::Sent);
    assert!(parts(&link).1.contains("<a href=\"https://a/&quot;&gt;&lt;b&gt;\""));
}

#[test]
fn every_status_has_a_reason() {
    for (status, line) in [
        (400, "HTTP/1.1 400 Bad Request"),
        (429, "HTTP/1.1 429 Too Many Requests"),
        (451, "HTTP/1.1 451 Unavailable For Legal Reasons"),
        (499, "HTTP/1.1 499 Refused"),
        (599, "HTTP/1.1 599 Server Error"),
        (7, "HTTP/1.1 403 Forbidden"),
    ] {
        assert_eq!(parts(&page(status, &denial(), Body::Sent)).0[0], line);
    }
}

#[test]
fn the_policy_lets_in_the_style_alone() {
    let answer = page(403, &denial(), Body::Sent);
    let (head, body) = parts(&answer);
    let policy =
        head.iter().find_map(|line| line.strip_prefix("Content-Security-Policy: ")).expect("a policy");
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    let (_, rest) = body.split_once("<style>").expect("a style");
    let (style, _) = rest.split_once("</style>").expect("its end");
    let hash = base64(&Sha256::digest(style));
    assert!(policy.contains(&format!("style-src 'sha256-{hash}';")), "{hash} in {policy}");
}

/// RFC 4648 section 4, with padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let groups = bytes.chunks(3).flat_map(|group| {
        let word = group.iter().chain(&[0, 0]).take(3).fold(0, |word, byte| word << 8 | usize::from(*byte));
        (0..4).map(move |place| {
            if place <= group.len() { char::from(LETTERS[word >> (18 - 6 * place) & 63]) } else { '=' }
        })
    });
    groups.collect()
}
