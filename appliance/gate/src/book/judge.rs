//! From findings to what a gate makes of a client.

use glacis_control::UnixMillis;
use glacis_control::gate::{ClientRecord, Finding, PortOutcome};
use glacis_plan::gate::Prove;
use std::cmp::Reverse;

/// What a gate makes of what is known of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// Every port of the gate is known and none speaks against the client, until the first of these findings ends.
    Clean { until: UnixMillis },
    /// One port is enough. Of several the one that holds longest is named; of those a proxy, then the lowest.
    Denied { port: u16, outcome: PortOutcome, until: UnixMillis },
    Unknown {
        /// Ports to look at, ascending.
        missing: Vec<u16>,
    },
}

/// Judges by a gate's own ports (ascending) and by what it wants proven; findings that have ended count for nothing.
///
/// A port that is known to be open, asked nothing, is missing to a gate that wants a proxy proven.
pub fn judge(record: Option<&ClientRecord>, ports: &[u16], prove: Prove, now: UnixMillis) -> Judgement {
    let findings = record.map_or(&[][..], |record| &record.findings);
    let known = |port: &u16| find(findings, *port).filter(|finding| finding.until > now);
    let against = |outcome: PortOutcome| match prove {
        Prove::Open => outcome.is_open(),
        Prove::Proxy => outcome.is_proxy(),
    };
    let proof = ports
        .iter()
        .filter_map(known)
        .filter(|finding| against(finding.outcome))
        .max_by_key(|finding| (finding.until, finding.outcome.is_proxy(), Reverse(finding.port)));
    if let Some(Finding { port, outcome, until }) = proof.copied() {
        return Judgement::Denied { port, outcome, until };
    }
    let unasked = |outcome| prove == Prove::Proxy && outcome == PortOutcome::Open;
    let settled = |port: &u16| known(port).filter(|finding| !unasked(finding.outcome));
    // The way of an admitted client: no allocation.
    if let Some(until) = ports
        .iter()
        .map(|port| settled(port).map(|finding| finding.until))
        .try_fold(UnixMillis(u64::MAX), |first, until| until.map(|until| first.min(until)))
    {
        return Judgement::Clean { until };
    }
    Judgement::Unknown { missing: ports.iter().copied().filter(|port| settled(port).is_none()).collect() }
}

fn find(findings: &[Finding], port: u16) -> Option<&Finding> {
    findings.binary_search_by_key(&port, |finding| finding.port).ok().map(|at| &findings[at])
}
