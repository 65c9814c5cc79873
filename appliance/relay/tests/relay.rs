//! What a relay passes on: bytes, ends, resets.

mod rig;

use glacis_relay::{End, Settings, Side};
use rig::{PATIENCE, Rig, pair, read_to_end, reset};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};
use sha2::{Digest, Sha256};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// Numbers in order, so that nothing can be lost, doubled or swapped unseen.
fn send_numbered(mut to: TcpStream, bytes: usize, seed: u64) -> [u8; 32] {
    let (mut hash, mut number, mut sent) = (Sha256::new(), seed, 0);
    // Odd, so that reads and writes never line up with buffers or pipes.
    let mut chunk = vec![0; 77_777];
    while sent < bytes {
        let length = chunk.len().min(bytes - sent);
        for word in chunk.chunks_mut(8) {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            word.copy_from_slice(&number.to_be_bytes()[..word.len()]);
        }
        to.write_all(&chunk[..length]).expect("the relay takes bytes");
        hash.update(&chunk[..length]);
        sent += length;
    }
    to.shutdown(Shutdown::Write).expect("it is connected");
    hash.finalize().into()
}

fn receive_hashed(mut from: TcpStream) -> (usize, [u8; 32]) {
    let (mut hash, mut total, mut chunk) = (Sha256::new(), 0, vec![0; 100_000]);
    loop {
        let count = from.read(&mut chunk).expect("the relay passes bytes");
        if count == 0 {
            return (total, hash.finalize().into());
        }
        hash.update(&chunk[..count]);
        total += count;
    }
}

#[test]
fn a_hundred_megabytes_pass_unchanged_both_ways_at_once() {
    const BYTES: usize = 100_000_000;
    let rig = Rig::new();
    let ends = [rig.visitor.try_clone().unwrap(), rig.backend.try_clone().unwrap()];
    let senders = ends.map(|end| {
        let seed = u64::from(end.local_addr().unwrap().port());
        thread::spawn(move || send_numbered(end, BYTES, seed))
    });
    let receivers = [rig.backend.try_clone().unwrap(), rig.visitor.try_clone().unwrap()]
        .map(|end| thread::spawn(move || receive_hashed(end)));
    for (sender, receiver) in senders.into_iter().zip(receivers) {
        assert_eq!((BYTES, sender.join().unwrap()), receiver.join().unwrap());
    }
    let ended = rig.ended();
    assert!(matches!(ended.how, End::Finished), "{ended:?}");
    assert_eq!((ended.to_server, ended.to_client), (BYTES as u64, BYTES as u64));
    assert_eq!((rig.tally.to_server(), rig.tally.to_client()), (BYTES as u64, BYTES as u64));
}

#[test]
fn a_client_that_has_ended_still_gets_its_answer() {
    let mut rig = Rig::new();
    rig.visitor.write_all(b"question").unwrap();
    rig.visitor.shutdown(Shutdown::Write).unwrap();
    let mut question = String::new();
    rig.backend.read_to_string(&mut question).unwrap();
    assert_eq!(question, "question");
    thread::sleep(Duration::from_millis(50));
    let answer = vec![7; 1_000_000];
    rig.backend.write_all(&answer).unwrap();
    rig.backend.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    rig.visitor.read_to_end(&mut got).unwrap();
    assert!(got == answer);
    assert!(matches!(rig.ended().how, End::Finished));
}

#[test]
fn a_server_that_has_ended_still_hears_its_client() {
    let mut rig = Rig::new();
    rig.backend.write_all(b"enough said").unwrap();
    rig.backend.shutdown(Shutdown::Write).unwrap();
    let mut greeting = String::new();
    rig.visitor.read_to_string(&mut greeting).unwrap();
    assert_eq!(greeting, "enough said");
    thread::sleep(Duration::from_millis(50));
    rig.visitor.write_all(&vec![9; 1_000_000]).unwrap();
    rig.visitor.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut rig.backend).0, 1_000_000);
    assert!(matches!(rig.ended().how, End::Finished));
}

#[test]
fn last_words_and_the_end_arrive_together_and_whole() {
    for length in [1, 1_000, 16_383, 16_384, 16_385, 40_000] {
        let mut rig = Rig::new();
        rig.backend.write_all(&vec![b'z'; length]).unwrap();
        drop(rig.backend);
        assert!(matches!(read_to_end(&mut rig.visitor), (count, Ok(())) if count == length));
    }
}

#[test]
fn a_client_s_reset_reaches_the_server_as_a_reset() {
    let Rig { visitor, mut backend, .. } = Rig::new();
    (&visitor).write_all(b"half a req").unwrap();
    let mut begun = [0; 10];
    backend.read_exact(&mut begun).unwrap();
    reset(visitor);
    assert_eq!(read_to_end(&mut backend).1.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_server_s_reset_reaches_the_client_as_a_reset() {
    let Rig { mut visitor, backend, .. } = Rig::new();
    (&backend).write_all(b"half an ans").unwrap();
    let mut begun = [0; 11];
    visitor.read_exact(&mut begun).unwrap();
    reset(backend);
    assert_eq!(read_to_end(&mut visitor).1.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_reset_is_noticed_while_the_other_side_reads_nothing() {
    let Rig { visitor, mut backend, tally, .. } = Rig::new();
    visitor.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let chunk = vec![1; 1 << 20];
    while (&visitor).write(&chunk).is_ok() {}
    reset(visitor);
    let start = Instant::now();
    let (count, end) = read_to_end(&mut backend);
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(count as u64 <= tally.to_server() && start.elapsed() < PATIENCE);
}

#[test]
fn a_reset_after_an_end_ends_the_relay() {
    let Rig { visitor, backend, .. } = Rig::new();
    backend.shutdown(Shutdown::Write).unwrap();
    let mut visitor = visitor;
    assert!(matches!(read_to_end(&mut visitor), (0, Ok(()))));
    reset(backend);
    // Nothing is sent to find it out.
    let start = Instant::now();
    while visitor.take_error().unwrap().is_none() {
        assert!(start.elapsed() < PATIENCE, "the reset did not pass");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_relay_tells_who_broke_it() {
    for side in [Side::Client, Side::Server] {
        let mut rig = Rig::new();
        let spare = pair().0;
        let broken = match side {
            Side::Client => std::mem::replace(&mut rig.visitor, spare),
            Side::Server => std::mem::replace(&mut rig.backend, spare),
        };
        reset(broken);
        let ended = rig.ended();
        assert!(
            matches!(&ended.how, End::Broken { side: told, error }
                if *told == side && error.kind() == ErrorKind::ConnectionReset),
            "{ended:?}"
        );
    }
}

#[test]
fn what_was_said_before_a_broken_receiver_was_met_still_arrives() {
    let Rig { mut visitor, mut backend, .. } = Rig::new();
    // It answers and goes away without reading the question, which makes its kernel reset the connection.
    backend.write_all(b"too large").unwrap();
    visitor.write_all(&[0; 4_096]).unwrap();
    thread::sleep(Duration::from_millis(50));
    drop(backend);
    let mut answer = [0; 9];
    visitor.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"too large");
}

#[test]
fn a_slow_reader_slows_the_writer_and_loses_nothing() {
    const SOCKET_BYTES: usize = 64 << 10;
    let ((visitor, client), (backend, server)) = (pair(), pair());
    for socket in [&visitor, &client, &backend, &server] {
        set_socket_recv_buffer_size(socket, SOCKET_BYTES).unwrap();
        set_socket_send_buffer_size(socket, SOCKET_BYTES).unwrap();
    }
    visitor.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut rig = Rig::between(visitor, client, backend, server, Settings::default(), Vec::new());
    let chunk = vec![5; 1 << 16];
    let mut written = 0;
    while let Ok(count) = rig.visitor.write(&chunk) {
        written += count;
    }
    // The kernel doubles what is asked for. Four buffers and a pipe are all that may be on the way.
    let most = 4 * 2 * SOCKET_BYTES + glacis_relay::PIPE_BYTES;
    assert!(written <= most, "{written} bytes were taken for a reader that reads none");
    rig.visitor.shutdown(Shutdown::Write).unwrap();
    assert!(matches!(read_to_end(&mut rig.backend), (count, Ok(())) if count == written));
}

#[test]
fn single_bytes_pass_at_once_and_in_order() {
    let mut rig = Rig::new();
    for number in 0..5_000u32 {
        let byte = [number.to_le_bytes()[0]];
        rig.visitor.write_all(&byte).unwrap();
        let mut got = [0];
        rig.backend.read_exact(&mut got).unwrap();
        assert_eq!(got, byte);
    }
}

#[test]
fn a_stream_of_single_bytes_is_whole() {
    let rig = Rig::new();
    let mut visitor = rig.visitor.try_clone().unwrap();
    let writer = thread::spawn(move || {
        for number in 0..50_000u32 {
            visitor.write_all(&[number.to_le_bytes()[0]]).unwrap();
        }
        visitor.shutdown(Shutdown::Write).unwrap();
    });
    let mut got = Vec::new();
    (&rig.backend).read_to_end(&mut got).unwrap();
    writer.join().unwrap();
    assert!(
        got.len() == 50_000
            && (0..50_000u32).zip(&got).all(|(number, byte)| number.to_le_bytes()[0] == *byte)
    );
}

#[test]
fn sides_that_close_at_once_end_the_relay() {
    let Rig { visitor, mut backend, .. } = Rig::new();
    drop(visitor);
    assert!(matches!(read_to_end(&mut backend), (0, Ok(()))));
    let rig = Rig::new();
    rig.visitor.shutdown(Shutdown::Both).unwrap();
    rig.backend.shutdown(Shutdown::Both).unwrap();
    let ended = rig.ended();
    assert!(matches!(ended.how, End::Finished), "{ended:?}");
    assert_eq!((ended.to_server, ended.to_client), (0, 0));
}

#[test]
fn first_bytes_go_before_the_client_s() {
    let mut rig = Rig::with(Settings::default(), b"PROXY UNKNOWN\r\n".to_vec());
    rig.visitor.write_all(b"GET /").unwrap();
    rig.visitor.shutdown(Shutdown::Write).unwrap();
    let mut got = String::new();
    rig.backend.read_to_string(&mut got).unwrap();
    assert_eq!(got, "PROXY UNKNOWN\r\nGET /");
    rig.backend.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rig.ended().to_server, 20);
}

#[test]
fn an_idle_relay_ends_at_its_time_and_not_before() {
    let idle = Duration::from_millis(300);
    let mut rig = Rig::with(Settings { idle: Some(idle) }, Vec::new());
    let mut byte = [0];
    for turn in 0..6 {
        thread::sleep(idle / 2);
        let (from, to) = if turn % 2 == 0 {
            (&mut rig.visitor, &mut rig.backend)
        } else {
            (&mut rig.backend, &mut rig.visitor)
        };
        from.write_all(&[turn]).unwrap();
        to.read_exact(&mut byte).unwrap();
    }
    let start = Instant::now();
    assert!(matches!(read_to_end(&mut rig.visitor), (0, Ok(()))));
    // The last byte passed a moment before the clock was read.
    assert!(start.elapsed() >= idle.mul_f64(0.9) && start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    assert!(matches!(read_to_end(&mut rig.backend), (0, Ok(()))));
    assert!(matches!(rig.ended().how, End::Idle));
}

#[test]
fn an_idle_relay_that_holds_bytes_resets_so_that_nobody_takes_them_for_whole() {
    let mut rig = Rig::with(Settings { idle: Some(Duration::from_millis(300)) }, Vec::new());
    rig.visitor.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let chunk = vec![3; 1 << 20];
    while rig.visitor.write(&chunk).is_ok() {}
    assert!(matches!(rig.ended().how, End::Idle));
    assert_eq!(read_to_end(&mut rig.backend).1.unwrap_err().kind(), ErrorKind::ConnectionReset);
}
