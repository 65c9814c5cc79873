use super::*;
use crate::hostile;

const PAYLOAD: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

/// Name, bytes, and the ends of the connection if it is somebody else's.
type Captured = (&'static str, &'static [u8], Option<(&'static str, &'static str)>);

const HAPROXY: [Captured; 8] = [
    (
        "v1 IPv4",
        include_bytes!("../../fixtures/proxy_protocol/haproxy-v1-ipv4"),
        Some(("127.0.0.1:39286", "127.0.0.1:18501")),
    ),
    (
        "v1 IPv6",
        include_bytes!("../../fixtures/proxy_protocol/haproxy-v1-ipv6"),
        Some(("[::1]:38736", "[::1]:18501")),
    ),
    ("v1 unknown", include_bytes!("../../fixtures/proxy_protocol/haproxy-v1-unknown"), None),
    (
        "v2 IPv4",
        include_bytes!("../../fixtures/proxy_protocol/haproxy-v2-ipv4"),
        Some(("127.0.0.1:55994", "127.0.0.1:18502")),
    ),
    (
        "v2 IPv6",
        include_bytes!("../../fixtures/proxy_protocol/haproxy-v2-ipv6"),
        Some(("[::1]:42732", "[::1]:18502")),
    ),
    ("v2 local", include_bytes!("../../fixtures/proxy_protocol/haproxy-v2-local"), None),
    (
        "v2 IPv4 with extensions",
        include_bytes!("../../fixtures/proxy_protocol/haproxy-v2-extensions-ipv4"),
        Some(("127.0.0.1:35394", "127.0.0.1:18503")),
    ),
    (
        "v2 IPv6 with extensions",
        include_bytes!("../../fixtures/proxy_protocol/haproxy-v2-extensions-ipv6"),
        Some(("[::1]:33926", "[::1]:18503")),
    ),
];

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address of a test")
}

fn header(source: &str, destination: &str) -> Header {
    Header { source: address(source), destination: address(destination) }
}

/// A block of version 2 with a right length.
fn block(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = (rest.len() as u16).to_be_bytes();
    [v2::SIGNATURE, &[command, family][..], &length, rest].concat()
}

const TCP4_ADDRESSES: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x9c, 0x40, 1, 0xbb];

#[test]
fn what_haproxy_sends_is_read_up_to_the_payload() {
    for (name, bytes, ends) in HAPROXY {
        let payload = if bytes.ends_with(PAYLOAD) { PAYLOAD.len() } else { 0 };
        let header = ends.map(|(source, destination)| header(source, destination));
        let expected = Parsed::Complete { header, bytes: bytes.len() - payload };
        assert_eq!(parse(bytes), Ok(expected), "{name}");
    }
}

#[test]
fn every_beginning_of_a_header_is_incomplete() {
    for (name, bytes, _) in HAPROXY {
        let Ok(Parsed::Complete { bytes: length, .. }) = parse(bytes) else { panic!("{name} is a header") };
        for prefix in hostile::prefixes(&bytes[..length]) {
            assert_eq!(parse(prefix), Ok(Parsed::Incomplete), "{name}: {} bytes", prefix.len());
        }
    }
}

#[test]
fn what_a_beginning_says_no_further_byte_changes() {
    for (name, bytes, _) in HAPROXY {
        for mutation in hostile::mutations(bytes) {
            let whole = parse(&mutation);
            if let Ok(Parsed::Complete { bytes, .. }) = whole {
                assert!(bytes <= mutation.len(), "{name}: {mutation:?}");
            }
            for prefix in hostile::prefixes(&mutation) {
                let early = parse(prefix);
                assert!(early == Ok(Parsed::Incomplete) || early == whole, "{name}: {mutation:?}");
            }
        }
    }
}

#[test]
fn written_headers_are_read_again() {
    let ends = [
        ("192.0.2.1:40000", "198.51.100.2:443"),
        ("[2001:db8::1]:0", "[2001:db8::2]:65535"),
        ("192.0.2.1:40000", "[2001:db8::2]:443"),
        ("[2001:db8::1]:40000", "198.51.100.2:443"),
    ];
    for (source, destination) in ends {
        for version in [Version::V1, Version::V2] {
            let bytes = encode(version, address(source), address(destination));
            let expected = Parsed::Complete { header: Some(header(source, destination)), bytes: bytes.len() };
            assert_eq!(parse(&bytes), Ok(expected), "{version:?} {source} {destination}");
            assert!(starts_like_header(&bytes));
        }
    }
}

#[test]
fn headers_are_written_as_specified() {
    let (source, destination) = (address("192.0.2.1:40000"), address("198.51.100.2:443"));
    let mapped = address("[::ffff:192.0.2.1]:40000");
    let line = b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 443\r\n";
    assert_eq!(encode(Version::V1, source, destination), line);
    assert_eq!(encode(Version::V1, mapped, destination), line);
    assert_eq!(encode(Version::V2, mapped, destination), block(0x21, 0x11, &TCP4_ADDRESSES));
    assert_eq!(
        encode(Version::V1, source, address("[2001:db8::2]:443")),
        b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 40000 443\r\n"
    );
    let longest = address("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
    assert_eq!(encode(Version::V1, longest, longest).len(), 104);
}

#[test]
fn a_mapped_address_is_the_ipv4_address() {
    let line = b"PROXY TCP6 ::ffff:192.0.2.1 ::FFFF:c633:6402 40000 443\r\n";
    let expected = header("192.0.2.1:40000", "198.51.100.2:443");
    assert_eq!(parse(line), Ok(Parsed::Complete { header: Some(expected), bytes: line.len() }));
}

#[test]
fn whose_connection_it_is_may_be_left_open() {
    let addresses: &[u8] = &TCP4_ADDRESSES;
    for bytes in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN ffff::1 \x00\xff\rwhatever\r\n".to_vec(),
        block(0x20, 0x00, &[]),
        block(0x20, 0x11, addresses),
        block(0x20, 0xff, b"anything"),
        block(0x21, 0x00, b"anything"),
    ] {
        let expected = Parsed::Complete { header: None, bytes: bytes.len() };
        assert_eq!(parse(&bytes), Ok(expected), "{bytes:?}");
    }
}

#[test]
fn lines_that_are_not_exact_are_refused() {
    use ProxyHeaderError::{LineTooLong, NotAHeader, UnknownProtocol, WrongLine};
    for (line, error) in [
        ("GET / HTTP/1.1\r\n", NotAHeader),
        ("PROXY\r\n", NotAHeader),
        ("PROXX TCP4 ", NotAHeader),
        ("PROXY  TCP4 192.0.2.1 198.51.100.2 40000 443\r\n", UnknownProtocol),
        ("PROXY UDP4 ", UnknownProtocol),
        ("PROXY tcp4 ", UnknownProtocol),
        ("PROXY \r\n", UnknownProtocol),
        ("PROXY TCP4\r\n", UnknownProtocol),
        ("PROXY TCP\r\n", UnknownProtocol),
        ("PROXY UNKNOWNS\r\n", UnknownProtocol),
        ("PROXY TCP4 192.0.2.1  198.51.100.2 40000 443\r\n", WrongLine),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 40000 443 \r\n", WrongLine),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 40000 443 80\r\n", WrongLine),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 40000\r\n", WrongLine),
        ("PROXY TCP4 192.0.2.01 198.51.100.2 40000 443\r\n", WrongLine),
        ("PROXY TCP4 192.0.2 198.51.100.2 40000 443\r\n", WrongLine),
        ("PROXY TCP4 ::1 ::2 40000 443\r\n", WrongLine),
        ("PROXY TCP6 192.0.2.1 198.51.100.2 40000 443\r\n", WrongLine),
        ("PROXY TCP6 ::1%eth0 ::2 40000 443\r\n", WrongLine),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 040000 443\r\n", WrongLine),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 +4000 443\r\n", WrongLine),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n", WrongLine),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 40000 \r\n", WrongLine),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 40000 443\n", WrongLine),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 40000 443\rx", WrongLine),
        ("PROXY TCP4 192.0.2.1\t198.51.100.2 40000 443\r\n", WrongLine),
    ] {
        assert_eq!(parse(line.as_bytes()), Err(error), "{line:?}");
    }
    let (fits, beyond) = (format!("PROXY UNKNOWN {}\r\n", "f".repeat(91)), "f".repeat(107));
    assert_eq!(parse(fits.as_bytes()), Ok(Parsed::Complete { header: None, bytes: V1_BYTES_MAX }));
    let beyond = format!("PROXY UNKNOWN {beyond}");
    assert_eq!(parse(&beyond.as_bytes()[..V1_BYTES_MAX - 1]), Ok(Parsed::Incomplete));
    assert_eq!(parse(&beyond.as_bytes()[..V1_BYTES_MAX]), Err(LineTooLong));
}

#[test]
fn blocks_are_refused_at_the_byte_that_is_wrong() {
    use ProxyHeaderError::{
        ExtensionTooLong, NotAHeader, TooLong, TooShort, UnknownCommand, UnsupportedFamily,
    };
    assert_eq!(parse(b"\x16"), Err(NotAHeader));
    assert_eq!(parse(b"\r\n\r\n\0\r\nQUIT\r"), Err(NotAHeader));
    for command in [0x11, 0x22, 0x2f, 0x30] {
        assert_eq!(parse(&block(command, 0x11, &[])[..13]), Err(UnknownCommand(command)));
    }
    for family in [0x01, 0x10, 0x12, 0x22, 0x31, 0x32, 0x41] {
        assert_eq!(parse(&block(0x21, family, &[])[..14]), Err(UnsupportedFamily(family)));
    }
    assert_eq!(parse(&block(0x21, 0x11, &TCP4_ADDRESSES[..11])[..16]), Err(TooShort));
    assert_eq!(parse(&block(0x21, 0x21, &[0; 35])[..16]), Err(TooShort));
    let fits = vec![0; V2_BYTES_MAX - 16];
    let expected = Parsed::Complete { header: None, bytes: V2_BYTES_MAX };
    assert_eq!(parse(&block(0x20, 0, &fits)), Ok(expected));
    let beyond = vec![0; V2_BYTES_MAX - 15];
    assert_eq!(parse(&block(0x20, 0, &beyond)[..16]), Err(TooLong(V2_BYTES_MAX + 1)));
    for extension in [&[4][..], &[4, 0], &[4, 0, 2, 0], &[4, 0, 0, 4, 0xff, 0xff]] {
        let bytes = block(0x21, 0x11, &[&TCP4_ADDRESSES, extension].concat());
        assert_eq!(parse(&bytes), Err(ExtensionTooLong), "{extension:?}");
    }
}

#[test]
fn a_checksum_covers_every_byte_of_the_header() {
    let (_, bytes, _) = HAPROXY[6];
    // Behind the signature, the command and the family, whose change shows by itself, and the length.
    for at in 16..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[at] ^= 0x10;
        assert!(
            matches!(parse(&changed), Err(ProxyHeaderError::Checksum | ProxyHeaderError::ExtensionTooLong))
                // The kind of the checksum itself: without one, there is nothing to hold against.
                || at == 28,
            "byte {at}: {:?}",
            parse(&changed)
        );
    }
    let short = block(0x21, 0x11, &[&TCP4_ADDRESSES[..], &[3, 0, 2, 0, 0]].concat());
    assert_eq!(parse(&short), Err(ProxyHeaderError::Checksum));
}

#[test]
fn only_what_begins_like_a_header_is_taken_for_a_forged_one() {
    assert!(starts_like_header(b"PROXY nonsense"));
    assert!(starts_like_header(&block(0xff, 0xff, &[])));
    for other in [&b""[..], b"PROXY", b"PROPFIND / HTTP/1.1", b"\r\n\r\n", b"GET / HTTP/1.1"] {
        assert!(!starts_like_header(other), "{other:?}");
    }
}
