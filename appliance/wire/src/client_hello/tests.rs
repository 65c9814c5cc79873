use super::*;
use crate::hostile;
use records::BYTES_MAX;

const CAPTURED: [(&str, &[u8], Option<&str>); 6] = [
    ("OpenSSL", include_bytes!("../../fixtures/client_hello/openssl-tls13"), Some("www.example.org")),
    (
        "OpenSSL, TLS 1.2",
        include_bytes!("../../fixtures/client_hello/openssl-tls12"),
        Some("mail.example.org"),
    ),
    ("OpenSSL, no name", include_bytes!("../../fixtures/client_hello/openssl-no-name"), None),
    (
        "OpenSSL, three records",
        include_bytes!("../../fixtures/client_hello/openssl-split"),
        Some("split.example.org"),
    ),
    ("curl", include_bytes!("../../fixtures/client_hello/curl"), Some("shop.example.org")),
    ("Chromium", include_bytes!("../../fixtures/client_hello/chromium"), Some("www.example.org")),
];

fn complete(server_name: Option<&str>) -> Hello {
    Hello::Complete { server_name: server_name.map(str::to_owned) }
}

fn behind_u16(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

fn extension(kind: u16, value: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &behind_u16(value)].concat()
}

fn server_name(name: &[u8]) -> Vec<u8> {
    extension(0, &behind_u16(&[&[0], &behind_u16(name)[..]].concat()))
}

/// A handshake message with its header.
fn message(body: &[u8]) -> Vec<u8> {
    [&[1], &(body.len() as u32).to_be_bytes()[1..], body].concat()
}

fn record(fragment: &[u8]) -> Vec<u8> {
    [&[22, 3, 1], &behind_u16(fragment)[..]].concat()
}

/// The smallest body, with `rest` where the extensions lie.
fn body(rest: &[u8]) -> Vec<u8> {
    [&[3, 3], &[7; 32][..], &[0], &[0, 2, 0x13, 0x01], &[1, 0], rest].concat()
}

fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
    record(&message(&body(&behind_u16(&extensions.concat()))))
}

#[test]
fn what_real_clients_send_is_read() {
    for (client, bytes, name) in CAPTURED {
        assert_eq!(parse(bytes), Ok(complete(name)), "{client}");
    }
}

#[test]
fn every_beginning_of_a_hello_is_incomplete() {
    for (client, bytes, _) in CAPTURED {
        for prefix in hostile::prefixes(bytes) {
            assert_eq!(parse(prefix), Ok(Hello::Incomplete), "{client}: {} bytes", prefix.len());
        }
    }
}

#[test]
fn a_hello_is_the_same_however_it_is_split_over_records() {
    let (_, bytes, name) = CAPTURED[0];
    let message = &bytes[5..];
    for size in message.len().div_ceil(RECORDS_MAX)..message.len() {
        let split: Vec<u8> = message.chunks(size).flat_map(record).collect();
        assert_eq!(parse(&split), Ok(complete(name)), "records of {size} bytes");
        if size % 50 == 0 {
            for prefix in hostile::prefixes(&split) {
                assert_eq!(parse(prefix), Ok(Hello::Incomplete), "records of {size} bytes");
            }
        }
    }
    let bytewise: Vec<u8> = message.chunks(1).flat_map(record).collect();
    assert_eq!(parse(&bytewise), Err(ClientHelloError::TooManyRecords));
}

#[test]
fn what_a_beginning_says_no_further_byte_changes() {
    for (client, bytes, _) in [CAPTURED[1], CAPTURED[3]] {
        for mutation in hostile::mutations(bytes) {
            let whole = parse(&mutation);
            for prefix in hostile::prefixes(&mutation).step_by(1 + bytes.len() / 16) {
                let early = parse(prefix);
                assert!(early == Ok(Hello::Incomplete) || early == whole, "{client}: {mutation:?}");
            }
        }
    }
}

#[test]
fn what_follows_the_hello_in_another_record_is_not_looked_at() {
    let early_data = [&hello(&[server_name(b"a.example")])[..], &[23, 3, 3, 0, 1, 0]].concat();
    assert_eq!(parse(&early_data), Ok(complete(Some("a.example"))));
    let alone = message(&body(&[]));
    let not_alone = record(&[&alone[..], &[20]].concat());
    assert_eq!(parse(&not_alone), Err(ClientHelloError::NotAlone));
    assert_eq!(
        parse(&not_alone[..not_alone.len() - 1]),
        Err(ClientHelloError::NotAlone),
        "it says so before"
    );
}

#[test]
fn a_hello_without_a_name_is_one() {
    assert_eq!(parse(&record(&message(&body(&[])))), Ok(complete(None)), "without extensions, as in TLS 1.0");
    assert_eq!(parse(&hello(&[])), Ok(complete(None)));
    let grease = [extension(0x0a0a, &[]), extension(0xfafa, &[0])];
    assert_eq!(parse(&hello(&grease)), Ok(complete(None)));
}

#[test]
fn names_are_host_names_in_lower_case() {
    let label = "l".repeat(63);
    let longest = [&label[..], &label, &label, &label[..61]].join(".");
    assert_eq!(longest.len(), 253);
    for (name, read) in [
        ("EXAMPLE.org", "example.org"),
        ("localhost", "localhost"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("_dmarc.a_b.example", "_dmarc.a_b.example"),
        ("1.2.3.example", "1.2.3.example"),
        (&longest, &longest),
    ] {
        assert_eq!(parse(&hello(&[server_name(name.as_bytes())])), Ok(complete(Some(read))), "{name}");
    }
    for address in ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"] {
        assert_eq!(parse(&hello(&[server_name(address.as_bytes())])), Ok(complete(None)), "{address}");
    }
    let too_long = format!("{longest}l");
    let label_too_long = format!("{label}l.example");
    for name in [
        "",
        ".",
        "example.org.",
        ".example.org",
        "a..b",
        "-a.example",
        "a-.example",
        "a b",
        "a\0.example",
        "*.example.org",
        "b\u{fc}cher.example",
        "[::1]",
        "example.org:443",
        &too_long,
        &label_too_long,
    ] {
        let hello = hello(&[server_name(name.as_bytes())]);
        assert_eq!(parse(&hello), Err(ClientHelloError::WrongServerName), "{name:?}");
    }
    assert_eq!(parse(&hello(&[server_name(b"\xff\xfe")])), Err(ClientHelloError::WrongServerName));
}

#[test]
fn a_second_name_is_refused() {
    use ClientHelloError::{DuplicateExtension, Malformed, WrongServerName};
    let one = [&[0][..], &behind_u16(b"a.example")].concat();
    let other = [&[1][..], &behind_u16(b"b.example")].concat();
    for (extensions, error) in [
        (vec![server_name(b"a.example"), server_name(b"b.example")], DuplicateExtension(0)),
        (vec![extension(16, &[]), server_name(b"a.example"), extension(16, &[])], DuplicateExtension(16)),
        (vec![extension(0, &behind_u16(&[&one[..], &one].concat()))], WrongServerName),
        (vec![extension(0, &behind_u16(&[&one[..], &other].concat()))], WrongServerName),
        (vec![extension(0, &behind_u16(&other))], WrongServerName),
        (vec![extension(0, &[])], Malformed),
        (vec![extension(0, &[0, 0])], Malformed),
        (vec![extension(0, &[&behind_u16(&one)[..], &[0]].concat())], Malformed),
    ] {
        assert_eq!(parse(&hello(&extensions)), Err(error), "{extensions:?}");
    }
}

#[test]
fn lengths_that_contradict_each_other_are_refused() {
    let malformed = [
        vec![],
        vec![3],
        body(&[])[..33].to_vec(),
        // Session identifier, cipher suites, compressions.
        [&[3, 3], &[7; 32][..], &[33], &[7; 33], &[0, 2, 0x13, 0x01, 1, 0]].concat(),
        [&[3, 3], &[7; 32][..], &[0], &[0, 0], &[1, 0]].concat(),
        [&[3, 3], &[7; 32][..], &[0], &[0, 3, 1, 2, 3], &[1, 0]].concat(),
        [&[3, 3], &[7; 32][..], &[0], &[0, 2, 1, 2], &[0]].concat(),
        // Extensions.
        body(&[0]),
        body(&[0, 1]),
        body(&[0, 0, 0]),
        body(&[0, 3, 0, 16, 0]),
        body(&[0, 4, 0, 16, 0, 1]),
    ];
    for body in malformed {
        assert_eq!(parse(&record(&message(&body))), Err(ClientHelloError::Malformed), "{body:?}");
    }
}

#[test]
fn other_protocols_are_known_by_their_first_bytes() {
    use ClientHelloError::{NotAHello, NotTls, WrongRecord};
    for (bytes, error) in [
        (&b"GET / HTTP/1.1\r\n"[..], NotTls),
        (b"SSH-2.0", NotTls),
        // A hello of SSL 2: length, kind 1, version 3.1.
        (&[0x80, 0x2e, 1, 3, 1], NotTls),
        (&[23, 3, 3], NotTls),
        (&[22, 2], NotTls),
        (&[22, 3, 1, 0, 0], WrongRecord(0)),
        (&[22, 3, 1, 0x40, 1], WrongRecord(16385)),
        (&[22, 3, 1, 0, 4, 2], NotAHello(2)),
        (&[22, 3, 1, 0, 4, 0], NotAHello(0)),
    ] {
        assert_eq!(parse(bytes), Err(error), "{bytes:?}");
        assert_eq!(parse(&bytes[..0]), Ok(Hello::Incomplete));
    }
}

#[test]
fn the_longest_hello_fits_the_bound() {
    let padding = |bytes: usize| hello_of_many_records(&body(&behind_u16(&extension(21, &vec![0; bytes]))));
    let empty = message(&body(&behind_u16(&extension(21, &[])))).len();
    let longest = padding(HELLO_BYTES_MAX - empty);
    assert_eq!(longest.len(), BYTES_MAX);
    assert_eq!(parse(&longest), Ok(complete(None)));
    assert_eq!(parse(&longest[..BYTES_MAX - 1]), Ok(Hello::Incomplete));
    let beyond = padding(HELLO_BYTES_MAX - empty + 1);
    let error = ClientHelloError::TooLong(HELLO_BYTES_MAX + 1);
    assert_eq!(parse(&beyond[..9]), Err(error), "its header says so");
}

fn hello_of_many_records(body: &[u8]) -> Vec<u8> {
    let message = message(body);
    message.chunks(message.len().div_ceil(RECORDS_MAX)).flat_map(record).collect()
}

#[test]
fn a_pattern_stands_for_all_names_below_it() {
    for (pattern, name, expected) in [
        ("example.org", "example.org", true),
        ("example.org", "www.example.org", false),
        ("*.example.org", "www.example.org", true),
        ("*.example.org", "a.b.example.org", true),
        ("*.example.org", "example.org", false),
        ("*.example.org", "notexample.org", false),
        ("*.example.org", ".example.org", false),
        ("*", "example.org", false),
        ("*example.org", "www.example.org", false),
    ] {
        assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
    }
}
