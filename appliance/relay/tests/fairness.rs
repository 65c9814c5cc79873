//! Relays of one thread share it.

mod rig;

use glacis_relay::{Settings, Tally, relay};
use rig::{pair, runtime, tokio_stream};
use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

const STREAMS: usize = 3;
const EXCHANGES: usize = 200;

#[test]
fn exchanges_go_on_beside_bulk_on_the_same_thread() {
    let pairs: Vec<_> = (0..=STREAMS).map(|_| (pair(), pair())).collect();
    let (fars, nears): (Vec<_>, Vec<_>) = pairs
        .into_iter()
        .map(|((visitor, client), (backend, server))| ((visitor, backend), (client, server)))
        .unzip();
    thread::spawn(move || {
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime(), async {
            let relays: Vec<_> = nears
                .into_iter()
                .map(|(client, server)| {
                    let (client, server) = (tokio_stream(client), tokio_stream(server));
                    tokio::task::spawn_local(async move {
                        relay(client, server, &Settings::default(), Vec::new(), &Tally::new()).await
                    })
                })
                .collect();
            for relay in relays {
                let _ = relay.await;
            }
        });
    });
    let mut fars = fars.into_iter();
    let (mut visitor, mut backend) = fars.next().unwrap();
    for (visitor, backend) in fars {
        // They end when the test drops what the exchange needs, by its process's end at the latest.
        thread::spawn(move || {
            let chunk = vec![0; 256 << 10];
            while (&visitor).write_all(&chunk).is_ok() {}
        });
        thread::spawn(move || {
            let mut chunk = vec![0; 256 << 10];
            while (&backend).read(&mut chunk).is_ok_and(|count| count > 0) {}
        });
    }
    thread::sleep(Duration::from_millis(300));
    let mut times = Vec::new();
    for _ in 0..EXCHANGES {
        let start = Instant::now();
        let mut byte = [0];
        visitor.write_all(b"?").unwrap();
        backend.read_exact(&mut byte).unwrap();
        backend.write_all(b"!").unwrap();
        visitor.read_exact(&mut byte).unwrap();
        times.push(start.elapsed());
    }
    times.sort();
    // Each turn of a bulk stream is a fraction of a millisecond; the rest is the machine's other work.
    assert!(times[EXCHANGES / 2] < Duration::from_millis(50), "{:?}", times[EXCHANGES / 2]);
}
