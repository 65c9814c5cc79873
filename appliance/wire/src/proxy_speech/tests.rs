use super::*;
use crate::hostile;
use crate::token;

const TOKEN: Token = Token::new([0xa5; 16]);

fn conversation(dialect: Dialect, target: &str) -> Conversation {
    let target = target.parse().expect("an address of a test");
    Conversation::new(dialect, target, TOKEN).expect("the dialect has a word for it")
}

fn line() -> Step {
    Step::Send(TOKEN.line())
}

/// What a proxy that connects says, in the order of the steps.
fn agreements() -> Vec<(Dialect, Vec<&'static [u8]>)> {
    vec![
        (Dialect::HttpConnect, vec![b"HTTP/1.1 200 Connection established\r\n\r\n"]),
        (Dialect::HttpConnect, vec![b"HTTP/1.0 200 \r\n\r\n"]),
        (Dialect::HttpConnect, vec![b"HTTP/1.1 200\r\n\r\n"]),
        (Dialect::HttpConnect, vec![b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 204 \r\n\r\n"]),
        (Dialect::Socks4, vec![&[0, 90, 0, 0, 0, 0, 0, 0]]),
        (Dialect::Socks4, vec![&[4, 90, 1, 187, 192, 0, 2, 1]]),
        (Dialect::Socks5, vec![&[5, 0], &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]]),
        (Dialect::Socks5, vec![&[5, 0], &[5, 0, 0, 3, 1, b'h', 0, 80]]),
    ]
}

#[test]
fn each_dialect_asks_as_specified() {
    let (v4, v6) = ("192.0.2.1:443", "[2001:db8::1]:443");
    assert_eq!(
        conversation(Dialect::HttpConnect, v4).open(),
        b"CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: 192.0.2.1:443\r\n\r\n"
    );
    assert_eq!(
        conversation(Dialect::HttpConnect, v6).open(),
        b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n\r\n"
    );
    assert_eq!(conversation(Dialect::Socks4, v4).open(), [4, 1, 1, 187, 192, 0, 2, 1, 0]);
    assert_eq!(conversation(Dialect::Socks4, "[::ffff:192.0.2.1]:443").open().len(), 9);
    let mut socks5 = conversation(Dialect::Socks5, v4);
    assert_eq!(socks5.open(), [5, 1, 0]);
    assert_eq!(socks5.received(&[5, 0]), Step::Send(vec![5, 1, 0, 1, 192, 0, 2, 1, 1, 187]));
    let Step::Send(request) = conversation(Dialect::Socks5, v6).received(&[5, 0]) else {
        panic!("the request follows the method")
    };
    assert_eq!(request[..6], [5, 1, 0, 4, 0x20, 0x01]);
    assert_eq!((request.len(), &request[20..]), (22, &[1, 187][..]));
}

#[test]
fn the_request_in_absolute_form_carries_the_token() {
    for target in ["192.0.2.1:443", "[2001:db8::1]:65535"] {
        let request = conversation(Dialect::HttpGet, target).open();
        assert!(request.starts_with(format!("GET http://{target}/glacis-a5").as_bytes()));
        assert_eq!(token::find(&request), token::Found::Token(TOKEN), "as a proxy before a proxy sends it");
        let mut headers = [httparse::EMPTY_HEADER; 4];
        let mut parsed = httparse::Request::new(&mut headers);
        assert_eq!(parsed.parse(&request), Ok(httparse::Status::Complete(request.len())));
    }
}

#[test]
fn socks4_has_no_word_for_ipv6() {
    let target = "[2001:db8::1]:443".parse().expect("an address");
    assert!(Conversation::new(Dialect::Socks4, target, TOKEN).is_none());
}

#[test]
fn a_proxy_that_connected_is_given_the_token_once() {
    for (dialect, answers) in agreements() {
        let mut conversation = conversation(dialect, "192.0.2.1:443");
        let (last, before) = answers.split_last().expect("an answer");
        for answer in before {
            assert!(matches!(conversation.received(answer), Step::Send(_)), "{dialect:?}");
        }
        assert_eq!(conversation.received(last), line(), "{dialect:?}: {last:?}");
        assert_eq!(conversation.received(b"HTTP/1.1 403 \r\n\r\n"), Step::Wait, "{dialect:?}");
    }
}

#[test]
fn an_answer_may_come_byte_by_byte() {
    for (dialect, answers) in agreements() {
        let mut conversation = conversation(dialect, "192.0.2.1:443");
        let steps = answers.concat().iter().map(|byte| conversation.received(&[*byte])).collect::<Vec<_>>();
        let sent = steps.iter().filter(|step| matches!(step, Step::Send(_))).count();
        assert_eq!(sent, answers.len(), "{dialect:?}: {steps:?}");
        assert!(steps.contains(&line()) && !steps.contains(&Step::Over), "{dialect:?}: {steps:?}");
    }
}

#[test]
fn a_refusal_ends_the_conversation() {
    let refusals: [(Dialect, &[&[u8]]); 12] = [
        (Dialect::HttpConnect, &[b"HTTP/1.1 403 "]),
        (Dialect::HttpConnect, &[b"HTTP/1.1 407 Proxy Authentication Required\r\n"]),
        (Dialect::HttpConnect, &[b"HTTP/1.1 301 Moved\r\n"]),
        (Dialect::HttpConnect, &[b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 502 "]),
        (Dialect::HttpGet, &[b"HTTP/1.1 200 OK\r\n"]),
        (Dialect::HttpGet, &[b"HTTP/1.1 404 Not Found\r\n"]),
        (Dialect::Socks4, &[&[0, 91]]),
        (Dialect::Socks4, &[&[0, 0]]),
        (Dialect::Socks5, &[&[5, 0xff]]),
        (Dialect::Socks5, &[&[5, 2]]),
        (Dialect::Socks5, &[&[5, 0], &[5, 1]]),
        (Dialect::Socks5, &[&[5, 0, 5, 0]]),
    ];
    for (dialect, answers) in refusals {
        let mut conversation = conversation(dialect, "192.0.2.1:443");
        let (last, before) = answers.split_last().expect("an answer");
        for answer in before {
            assert!(matches!(conversation.received(answer), Step::Send(_)), "{dialect:?}");
        }
        assert_eq!(conversation.received(last), Step::Over, "{dialect:?}: {last:?}");
        assert_eq!(conversation.received(b"HTTP/1.1 200 OK\r\n"), Step::Over, "{dialect:?}: for good");
    }
}

#[test]
fn other_services_are_known_by_their_first_bytes() {
    let services: [&[u8]; 6] = [
        b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
        b"220 mail.example.org ESMTP\r\n",
        b"+OK ready\r\n",
        b"RFB 003.008\n",
        // A TLS alert.
        &[21, 3, 1, 0, 2, 2, 10],
        &[0xff, 0xfd, 0x18],
    ];
    for service in services {
        for dialect in Dialect::ALL {
            let step = conversation(dialect, "192.0.2.1:443").received(service);
            assert_eq!(step, Step::Over, "{dialect:?}: {service:?}");
        }
    }
}

#[test]
fn an_answer_without_an_end_is_not_waited_for() {
    let mut conversation = conversation(Dialect::HttpConnect, "192.0.2.1:443");
    assert_eq!(conversation.received(b"HTTP/1.1 100 Continue\r\n"), Step::Wait);
    let steps: Vec<_> = (0..ANSWER_BYTES_MAX).map(|_| conversation.received(b"x")).collect();
    let waited = steps.iter().take_while(|step| **step == Step::Wait).count();
    assert_eq!(waited, ANSWER_BYTES_MAX - b"HTTP/1.1 100 Continue\r\n".len() - 1);
    assert!(steps[waited..].iter().all(|step| *step == Step::Over));
    assert!(conversation.answer.len() <= ANSWER_BYTES_MAX);
}

#[test]
fn changed_answers_never_bring_the_token_twice() {
    for (dialect, answers) in agreements() {
        for mutation in hostile::mutations(&answers.concat()) {
            let mut conversation = conversation(dialect, "192.0.2.1:443");
            let steps = mutation.chunks(3).map(|chunk| conversation.received(chunk));
            assert!(steps.filter(|step| *step == line()).count() <= 1, "{dialect:?}: {mutation:?}");
        }
    }
}
