//! Descriptors: none stay behind, and relays go on without new ones. One test, because limits and counts are the process's.

mod rig;

use glacis_relay::Settings;
use rig::{Rig, pair, read_to_end, reset};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::Write;
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

const BULK_BYTES: usize = 8 << 20;

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc is mounted").count()
}

fn pass_bulk(rig: Rig) {
    let Rig { visitor, mut backend, .. } = rig;
    let sender = thread::spawn(move || {
        (&visitor).write_all(&vec![1; BULK_BYTES]).expect("the relay takes bytes");
        visitor.shutdown(Shutdown::Write).expect("it is connected");
        visitor
    });
    assert!(matches!(read_to_end(&mut backend), (BULK_BYTES, Ok(()))));
    drop((sender.join().expect("it did not panic"), backend));
}

fn wait_for(descriptors: usize) {
    let start = Instant::now();
    while open_descriptors() != descriptors {
        assert!(start.elapsed() < rig::PATIENCE, "{} descriptors, {descriptors} before", open_descriptors());
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn relays_leave_no_descriptor_behind_and_copy_where_there_is_none_for_a_pipe() {
    // The first runtime opens what all share and nobody closes.
    drop(rig::runtime());
    let before = open_descriptors();
    for turn in 0..60 {
        let rig = Rig::new();
        match turn % 3 {
            0 => pass_bulk(rig),
            1 => reset(rig.visitor),
            _ => drop((rig.visitor, rig.backend)),
        }
    }
    // Relays end a moment after their far ends.
    wait_for(before);

    let ((visitor, client), (backend, server)) = (pair(), pair());
    let rig = Rig::between(visitor, client, backend, server, Settings::default(), Vec::new());
    // The runtime on the relay's thread has opened what it needs once a byte has passed.
    (&rig.visitor).write_all(b"!").unwrap();
    let mut byte = [0];
    std::io::Read::read_exact(&mut (&rig.backend), &mut byte).unwrap();
    let limits = getrlimit(Resource::Nofile);
    let none_left = Rlimit { current: Some(3), maximum: limits.maximum };
    setrlimit(Resource::Nofile, none_left).unwrap();
    pass_bulk(rig);
    setrlimit(Resource::Nofile, limits).unwrap();
    wait_for(before);
}
