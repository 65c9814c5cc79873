use super::*;
use crate::hostile;

const TOKEN: Token = Token::new(*b"\x00\x01\x02\x03\x04\x05\x06\x07\x88\x99\xaa\xbb\xcc\xdd\xee\xff");
const TEXT: &str = "glacis-00010203040506078899aabbccddeeff";

/// In every form in which it may arrive.
fn forms() -> Vec<Vec<u8>> {
    [
        format!("{TEXT}\n"),
        format!("GET /{TEXT} HTTP/1.0"),
        format!("GET /{TEXT} HTTP/1.1"),
        format!("GET http://192.0.2.1:443/{TEXT} HTTP/1.1"),
        format!("GET http://[2001:db8::1]:443/{TEXT} HTTP/1.1"),
        format!("GET http://gate.example.org/{TEXT} HTTP/1.1"),
    ]
    .map(String::into_bytes)
    .to_vec()
}

#[test]
fn a_token_is_known_again_in_every_form() {
    assert_eq!(TOKEN.to_string(), TEXT);
    assert_eq!(TOKEN.line(), format!("{TEXT}\n").into_bytes());
    assert_eq!(find(&TOKEN.line()), Found::Token(TOKEN));
    for form in forms() {
        let followed = [&form, &b"\r\nHost: 192.0.2.1:443\r\nVia: 1.1 proxy\r\n\r\n"[..]].concat();
        assert_eq!(find(&followed), Found::Token(TOKEN), "{}", String::from_utf8_lossy(&followed));
    }
}

#[test]
fn every_beginning_of_a_form_is_incomplete() {
    for form in forms() {
        // The digit of the version is not waited for.
        let needed = if form.starts_with(b"GET") { form.len() - 1 } else { form.len() };
        for prefix in hostile::prefixes(&form[..needed]) {
            assert_eq!(find(prefix), Found::Incomplete, "{}", String::from_utf8_lossy(prefix));
        }
    }
}

#[test]
fn what_a_beginning_says_no_further_byte_changes() {
    for form in forms() {
        for mutation in hostile::mutations(&form) {
            let whole = find(&mutation);
            for prefix in hostile::prefixes(&mutation) {
                let early = find(prefix);
                assert!(early == Found::Incomplete || early == whole, "{mutation:?}");
            }
        }
    }
}

#[test]
fn other_connections_are_let_go_at_their_first_odd_byte() {
    for other in [
        "\x16",
        "S",
        "P",
        "GET /i",
        "GET /g/",
        "GET /glacis-x",
        "GET https",
        "GET http:///",
        "GET http://user@",
        "GET *",
        "glacis_",
        "glacis-0001020304050607X",
        "glacis-00010203040506078899A",
        "glacis-00010203040506078899aabbccddeeff\r",
        "glacis-00010203040506078899aabbccddeeff0",
        "GET /glacis-00010203040506078899aabbccddeeff?",
        "GET /glacis-00010203040506078899aabbccddeeff/",
        "GET /glacis-00010203040506078899aabbccddeeff HTTP/2",
    ] {
        assert_eq!(find(other.as_bytes()), Found::No, "{other:?}");
        let (before, _) = other.as_bytes().split_at(other.len() - 1);
        assert_eq!(find(before), Found::Incomplete, "{other:?} without its last byte");
    }
}

#[test]
fn no_beginning_is_waited_for_beyond_the_bound() {
    let host = "h".repeat(AUTHORITY_BYTES_MAX);
    let longest = format!("GET http://{host}/{TEXT} HTTP/1.");
    assert_eq!(longest.len(), FIND_BYTES_MAX);
    assert_eq!(find(longest.as_bytes()), Found::Token(TOKEN));
    assert_eq!(find(&longest.as_bytes()[..FIND_BYTES_MAX - 1]), Found::Incomplete);
    assert_eq!(find(format!("GET http://h{host}").as_bytes()), Found::No);
}
