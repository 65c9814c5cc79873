//! Looks that are asked for by hand.

use super::flight::{self, Subject};
use super::listen::Lane;
use super::shared::now;
use crate::book::{Book, Judgement, judge};
use glacis_control::gate::{Finding, GateTest, Verdict};
use glacis_plan::gate::Prove;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::time::Instant;

/// Findings of a test hold until it is judged.
const HOLDS: Duration = Duration::from_secs(60);

/// Looks at a client as the gate would, whatever is known, and remembers nothing. It takes no budget: the number of
/// tests at a time is bounded instead. `Err`: why there is no verdict.
pub async fn test(lane: &Lane, client: IpAddr) -> Result<GateTest, String> {
    let plan = &lane.gate.plan;
    let begun = Instant::now();
    let mut told = GateTest {
        gate: plan.name.clone(),
        client,
        ignored: lane.gate.exempts(client).map(|why| why.why().to_owned()),
        ports: Vec::new(),
        verdict: Verdict::Clean,
        micros: 0,
    };
    if told.ignored.is_some() {
        return Ok(told);
    }
    let subject = Subject::new((client, 0).into(), reached(lane, client)?, begun);
    check_banned(lane, client)?;
    let seen = flight::look(lane, subject, &plan.ports).await;
    check_banned(lane, client)?;
    told.micros = begun.elapsed().as_micros() as u64;

    let at = now();
    let finding =
        |(port, outcome): &(u16, _)| Finding { port: *port, outcome: *outcome, until: at.plus(HOLDS) };
    let findings: Vec<Finding> = seen.outcomes.iter().map(finding).collect();
    let mut book = Book::new();
    book.learn(client, &findings, at);
    told.verdict = match judge(book.get(client), &plan.ports, plan.prove, at) {
        Judgement::Clean { .. } => Verdict::Clean,
        Judgement::Denied { port, outcome, .. } => Verdict::Open { port, outcome },
        Judgement::Unknown { missing } => {
            return Err(seen.trouble.map_or_else(
                || format!("nothing is known of {} ports", missing.len()),
                |error| error.to_string(),
            ));
        }
    };
    told.ports = seen.outcomes;
    told.ports.sort_unstable();
    Ok(told)
}

/// Answers of a banned client do not arrive.
fn check_banned(lane: &Lane, client: IpAddr) -> Result<(), String> {
    if lane.shared.known().banned.contains(client) {
        return Err(format!("{client} is blocked; a look would see nothing"));
    }
    Ok(())
}

/// An address of ours that a proxy could be asked to connect to.
fn reached(lane: &Lane, client: IpAddr) -> Result<SocketAddr, String> {
    let plan = &lane.gate.plan;
    match (lane.gate.state.reached(client), plan.prove) {
        (Some(address), _) => Ok((address, plan.port).into()),
        // Nobody is asked.
        (None, Prove::Open) => Ok((client, plan.port).into()),
        (None, Prove::Proxy) => {
            Err("no client of this address family has come yet, so it is not known what to ask a proxy for"
                .to_owned())
        }
    }
}
