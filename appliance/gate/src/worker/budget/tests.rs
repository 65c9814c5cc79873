use super::*;
use glacis_plan::gate::Exhausted;
use std::net::Ipv4Addr;
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_millis(500);

fn budget(in_flight: u32, per_second: u32) -> Arc<Budget> {
    Arc::new(Budget::new(Limits { in_flight, per_second, then: Exhausted::Refuse }, PATIENCE))
}

/// Client `host` of network `net`.
fn client(net: u8, host: u8) -> IpAddr {
    Ipv4Addr::new(203, 0, net, host).into()
}

fn claim(budget: &Arc<Budget>, client: IpAddr, ports: usize) -> JoinHandle<Option<Permit>> {
    let budget = Arc::clone(budget);
    tokio::spawn(async move { budget.claim(client, ports).await })
}

/// Lets every task run that can.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn b9_who_finds_ports_left_begins_at_once_and_the_next_when_one_is_done() {
    let budget = budget(64, 1_000);
    let first = budget.claim(client(1, 1), 40).await.unwrap();
    let second = claim(&budget, client(2, 1), 40);
    settle().await;
    assert!(!second.is_finished());
    let begin = Instant::now();
    drop(first);
    let second = second.await.unwrap().unwrap();
    assert_eq!(Instant::now(), begin);
    assert_eq!(budget.state().in_flight, 40);
    drop(second);
    let state = budget.state();
    assert_eq!((state.in_flight, state.held.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn b9_nobody_waits_longer_than_the_timeout_and_who_gave_up_leaves_nothing_behind() {
    let budget = budget(64, 1_000);
    let _all = budget.claim(client(1, 1), 64).await.unwrap();
    let begin = Instant::now();
    assert!(budget.claim(client(2, 1), 6).await.is_none());
    assert_eq!(Instant::now() - begin, PATIENCE);
    // Met and forgotten when somebody else comes.
    assert!(budget.claim(client(3, 1), 6).await.is_none());
    let state = budget.state();
    assert_eq!((state.turns.len(), state.queues.len(), state.in_flight), (1, 1, 64));
}

#[tokio::test(start_paused = true)]
async fn b9_no_more_clients_begin_within_a_second_than_the_bucket_gives() {
    let budget = budget(10_000, 50);
    let begin = Instant::now();
    let claims: Vec<_> = (0..200).map(|n| claim(&budget, client(n, 1), 6)).collect();
    let mut waits = Vec::new();
    for claim in claims {
        if claim.await.unwrap().is_some() {
            waits.push(Instant::now() - begin);
        }
    }
    // What was in the bucket, and what half a second puts in.
    assert!((74..=75).contains(&waits.len()), "{}", waits.len());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!budget.state().is_filling);
    // Full again, and no fuller.
    let begin = Instant::now();
    for n in 0..50 {
        assert!(budget.claim(client(n, 1), 6).await.is_some());
    }
    assert_eq!(Instant::now(), begin);
    assert!(budget.claim(client(50, 1), 6).await.is_some());
    assert!(Instant::now() > begin);
}

#[tokio::test(start_paused = true)]
async fn a_network_with_many_clients_waits_for_itself() {
    let budget = budget(10_000, 10);
    let many: Vec<_> = (0..100).map(|n| claim(&budget, client(1, n), 6)).collect();
    settle().await;
    assert_eq!(budget.state().queues.len(), 1);
    // One comes later from elsewhere, and has its turn after one more of the many.
    let begin = Instant::now();
    assert!(budget.claim(client(2, 1), 6).await.is_some());
    assert!(Instant::now() - begin <= Duration::from_millis(201), "{:?}", Instant::now() - begin);
    drop(many);
}

#[tokio::test(start_paused = true)]
async fn a_network_holds_at_most_three_quarters_and_while_others_wait_one() {
    let budget = budget(96, 10_000);
    let mut many: Vec<_> = (0..16).map(|n| claim(&budget, client(1, n), 6)).collect();
    settle().await;
    // Nobody else was there: three quarters.
    assert_eq!(budget.state().held.get(&Network::of(client(1, 0))), Some(&72));
    let begin = Instant::now();
    let others: Vec<_> = (0..40).map(|n| claim(&budget, client(2 + n, 1), 6)).collect();
    settle().await;
    // Newcomers find the rest at once.
    assert_eq!(others.iter().filter(|claim| claim.is_finished()).count(), 4);
    // Half of what it holds is done. Others take it all, for the many still hold more than a quarter.
    for done in many.drain(..6) {
        drop(done.await.unwrap());
    }
    settle().await;
    assert_eq!(others.iter().filter(|claim| claim.is_finished()).count(), 10);
    assert_eq!(budget.state().held.get(&Network::of(client(1, 0))), Some(&36));
    assert_eq!(Instant::now(), begin);
}

#[tokio::test(start_paused = true)]
async fn a_network_alone_goes_on_when_its_own_looks_are_done() {
    let budget = budget(64, 10_000);
    let first = budget.claim(client(1, 1), 40).await.unwrap();
    let second = claim(&budget, client(1, 2), 9);
    settle().await;
    assert!(!second.is_finished(), "49 of 64 are more than three quarters");
    drop(first);
    assert!(second.await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_look_larger_than_a_share_is_taken_all_the_same() {
    let budget = budget(64, 10_000);
    let _waits = claim(&budget, client(2, 1), 64);
    assert!(budget.claim(client(1, 1), 64).await.is_some());
}
