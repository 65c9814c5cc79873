//! Services that answer oddly, lie or say nothing: only a token that arrives proves a proxy.

mod bed;

use bed::{AT_ONCE, Bed, CLIENT, LONG, gate_of};
use glacis_control::gate::PortOutcome::{HttpProxy, Refused, Service};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(200);

#[test]
fn a_port_that_says_nothing_is_a_service_after_one_more_timeout() {
    let bed = Bed::new("mute");
    let _listener = bed.listen(80);
    for client in CLIENT {
        let looked = bed.prove(client, &[80], SHORT, &gate_of(client, 443));
        assert!(looked.took >= SHORT && looked.took < SHORT + AT_ONCE, "{:?}", looked.took);
        assert_eq!(looked.outcome(), Service);
    }
    assert_eq!(bed.sockets(), "");
}

#[test]
fn the_whole_look_takes_two_timeouts_at_the_most() {
    let bed = Bed::new("two");
    // The first SYN, of 60 bytes, is lost; the port is found open a second later and says nothing.
    bed.client_input("tcp dport 80 quota until 100 bytes drop");
    let _listener = bed.listen(80);
    let timeout = Duration::from_millis(1_200);
    let looked = bed.prove(CLIENT[0], &[80], timeout, &gate_of(CLIENT[0], 443));
    assert!(looked.took > timeout + SHORT && looked.took < 2 * timeout + AT_ONCE, "{:?}", looked.took);
    assert_eq!(looked.outcome(), Service);
}

#[test]
fn a_closed_port_is_not_asked() {
    let bed = Bed::new("closed");
    assert_eq!(bed.prove(CLIENT[0], &[80], LONG, &gate_of(CLIENT[0], 443)).outcome(), Refused);
}

/// The service says these words over and over until the connection ends.
fn repeats(words: &'static [u8]) -> impl Fn(TcpStream) + Send + Clone {
    move |mut stream| while stream.write_all(words).is_ok() {}
}

#[test]
fn garbage_without_end_is_a_service_at_once() {
    let bed = Bed::new("garbage");
    bed.serve(80, repeats(&[0xa5; 16 << 10]));
    bed.serve(81, repeats(b"HTTP/1.1 100 Continue\r\n\r\n"));
    for port in [80, 81] {
        let looked = bed.prove(CLIENT[0], &[port], LONG, &gate_of(CLIENT[0], 443));
        assert!(looked.took < LONG / 2, "port {port}: {:?}", looked.took);
        assert_eq!(looked.outcome(), Service);
    }
}

#[test]
fn consent_without_end_is_a_service_and_is_not_read_for_ever() {
    let bed = Bed::new("consent");
    bed.serve(80, repeats(b"HTTP/1.1 200 Connection established\r\n\r\n"));
    // Both versions of SOCKS understand this as "granted".
    bed.serve(1080, |mut stream| {
        let mut request = [0; 64];
        let version = stream.read(&mut request).map_or(0, |_| request[0]);
        let granted: &[u8] = if version == 5 { &[5, 0] } else { &[0, 90, 0, 0, 0, 0, 0, 0] };
        let _ = stream.write_all(granted);
        if version == 5 && stream.read(&mut request).is_ok() {
            let _ = stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        }
        repeats(&[0; 4096])(stream);
    });
    for port in [80, 1080] {
        let looked = bed.prove(CLIENT[0], &[port], SHORT, &gate_of(CLIENT[0], 443));
        assert!(looked.took >= SHORT && looked.took < 2 * SHORT + AT_ONCE, "port {port}: {:?}", looked.took);
        assert_eq!(looked.outcome(), Service);
    }
}

#[test]
fn an_echo_is_a_service() {
    let bed = Bed::new("echo");
    bed.serve(7, |mut stream| {
        let mut words = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut words) {
            if stream.write_all(&words[..read]).is_err() {
                return;
            }
        }
    });
    let looked = bed.prove(CLIENT[0], &[7], LONG, &gate_of(CLIENT[0], 443));
    assert!(looked.took < LONG / 2, "{:?}", looked.took);
    assert_eq!(looked.outcome(), Service);
}

#[test]
fn a_port_that_leads_straight_back_to_the_gate_is_a_service() {
    let bed = Bed::new("hairpin");
    bed.client.run(["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"]);
    let (dnat, snat) = ("tcp dport 443 dnat to 192.0.2.1:443", "masquerade");
    bed.client.run([
        "nft",
        &format!(
            "table ip nat {{\n\
         chain before {{ type nat hook prerouting priority dstnat; {dnat}\n}}\n\
         chain after {{ type nat hook postrouting priority srcnat; {snat}\n}}\n}}"
        ),
    ]);
    let looked = bed.prove(CLIENT[0], &[443], LONG, &gate_of(CLIENT[0], 443));
    assert!(looked.took < LONG / 2, "the gate closed every conversation: {:?}", looked.took);
    assert_eq!(looked.outcome(), Service);
}

/// The token goes out by the client's port alone, so whoever brings it controls that port, or it is a proxy.
#[test]
fn a_token_that_is_brought_by_another_way_proves_all_the_same() {
    let bed = Bed::new("courier");
    let (sender, tokens) = mpsc::channel();
    bed.serve(80, move |mut stream| {
        let mut words = [0; 4096];
        let request = stream.read(&mut words).unwrap_or(0);
        if words[..request].starts_with(b"CONNECT ") && stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").is_ok() {
            let token = stream.read(&mut words).unwrap_or(0);
            let _ = sender.send(words[..token].to_vec());
        }
        // Nothing is said in the other dialects, and this connection stays.
        thread::sleep(LONG);
    });
    let bed = &bed;
    thread::scope(|scope| {
        scope.spawn(move || {
            let token = tokens.recv_timeout(LONG).expect("the service was told a token");
            bed.gate.enter(|| {
                let mut courier = TcpStream::connect(gate_of(CLIENT[0], 443)).expect("the gate listens");
                courier.write_all(&token).expect("a fresh connection takes a line");
                // The gate says nothing and closes.
                assert_eq!(courier.read(&mut [0; 16]).unwrap_or(0), 0);
            });
        });
        let looked = bed.prove(CLIENT[0], &[80], LONG, &gate_of(CLIENT[0], 443));
        assert!(looked.took < LONG / 2, "{:?}", looked.took);
        assert_eq!(looked.outcome(), HttpProxy);
    });
}
