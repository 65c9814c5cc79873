//! Row B18 at the bound of open files. A process of its own, because the bound is the process's: one test alone.

#![expect(clippy::unwrap_used, reason = "a test panics when its ground gives way")]

mod bed;

use bed::{AT_ONCE, Bed, CLIENT, LONG, Looked};
use glacis_control::gate::PortOutcome::{Refused, Service};
use glacis_probe::{Look, Proofs, Stop, look};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::future::Future;
use std::path::Path;
use std::time::Duration;

const PORTS: [u16; 6] = [22, 80, 443, 3128, 8000, 8080];

/// Leaves so many descriptors free for as long as a look takes.
async fn with_files_left<T>(left: usize, look: impl Future<Output = T>) -> T {
    let before = getrlimit(Resource::Nofile);
    let bound = (0..).filter(|number| !Path::new(&format!("/proc/self/fd/{number}")).exists()).nth(left);
    setrlimit(Resource::Nofile, Rlimit { current: bound, maximum: before.maximum }).unwrap();
    let result = look.await;
    setrlimit(Resource::Nofile, before).unwrap();
    result
}

#[test]
fn b18_too_few_descriptors_are_no_outcome() {
    let bed = Bed::new("emfile");
    let quiet = bed.listen(9000);
    bed.run(|| async {
        let client = bed::address(CLIENT[0]);
        // One descriptor is the look's own.
        for left in 0..=PORTS.len() {
            let looking = look(Look { client, scope: 0, ports: &PORTS, timeout: LONG, stop: Stop::Open });
            let seen = with_files_left(left, looking).await;
            let told = left.saturating_sub(1);
            assert_eq!(seen.outcomes.len(), told, "{left} left: {seen:?}");
            assert!(seen.outcomes.iter().all(|(_, outcome)| *outcome == Refused), "{left} left: {seen:?}");
            assert!(seen.trouble.is_some(), "{left} left: {seen:?}");
        }

        // A port that could not be asked in every way is not known to be a mere service.
        let proofs = Proofs::new();
        let stop = Stop::Proxy { proofs: &proofs, target: "192.0.2.1:443".parse().unwrap() };
        let asking = Look { client, scope: 0, ports: &[9000], timeout: Duration::from_millis(100), stop };
        for left in 2..5 {
            let seen = with_files_left(left, look(asking)).await;
            assert!(seen.outcomes.is_empty() && seen.trouble.is_some(), "{left} left: {seen:?}");
        }
        let seen = with_files_left(5, look(asking)).await;
        assert!(seen.trouble.is_none(), "{seen:?}");
        assert_eq!(seen.outcomes, [(9000, Service)]);
    });
    drop(quiet);

    let Looked { seen, took } = bed.look(CLIENT[0], &PORTS, LONG);
    assert!(took < AT_ONCE && seen.trouble.is_none() && seen.outcomes.len() == PORTS.len(), "{seen:?}");
}
