//! The policy's own tests: statements about single packets, tried on the compiled ruleset.

use super::{Decision, Network, Outcome, Packet, Transport, Verdict, WalkError, walk};
use crate::compile::{Compiled, Label};
use crate::{Expect, ExpectKind, PacketSpec, PacketTarget, Policy, Problem, Traffic};
use miette::SourceSpan;
use std::fmt;
use std::net::IpAddr;

/// A port that no service is known by: where tried packets come from.
const SOURCE_PORT: u16 = 40_000;

/// An expectation that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct ExpectFailure {
    /// The `expect` node.
    pub span: SourceSpan,
    pub cause: ExpectCause,
    /// The rule of the policy that decided, if one did.
    pub decided_at: Option<SourceSpan>,
}

/// Why it does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpectCause {
    #[error("expected {}, but {} {by}", word(*.allow), said(*.got))]
    Verdict { allow: bool, got: Verdict, by: DecidedBy },
    #[error("expected rule `{rule}` to decide, but it is {by}")]
    Rule { rule: String, by: DecidedBy },
    #[error("{0} can be auto-blocked: no `never` set holds it, and no rule names it as an administrator")]
    CanBeBlocked(IpAddr),
    #[error("the packet cannot be tried: {0}")]
    Walk(WalkError),
}

/// What decided over a packet, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecidedBy(Decision);

impl fmt::Display for DecidedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Decision::Rule(step) => match &step.comment {
                Some(comment) => write!(f, "`{comment}` in chain {}", step.chain),
                None => write!(f, "rule {} of chain {}", step.index + 1, step.chain),
            },
            Decision::Policy(chain) => write!(f, "the policy of chain {chain}"),
            Decision::Unfiltered => f.write_str("nothing: no chain stands in its way"),
        }
    }
}

const fn word(allow: bool) -> &'static str {
    if allow { "allow" } else { "deny" }
}

const fn said(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Accept => "the packet is let through by",
        Verdict::Drop => "the packet is dropped by",
        Verdict::Reject(_) => "the packet is refused by",
    }
}

impl ExpectFailure {
    /// As it is shown beside the source, with the deciding rule marked.
    pub fn problem(&self) -> Problem {
        let problem = Problem::new(self.span, self.to_string()).label("does not hold");
        match self.decided_at {
            Some(span) => problem.related(span, "this decides"),
            None => problem,
        }
    }
}

/// Tries every `expect` of a policy.
///
/// A destination that no static route leads to may leave by any other interface, those with leased addresses
/// first: the expectation must hold for each. Expectations about interfaces that are not present are left out;
/// compiling warned of those.
pub fn run_expects(policy: &Policy, compiled: &Compiled) -> Vec<ExpectFailure> {
    policy.expects.iter().filter_map(|expect| try_one(policy, compiled, expect)).collect()
}

fn try_one(policy: &Policy, compiled: &Compiled, expect: &Expect) -> Option<ExpectFailure> {
    let (cause, decided_at) = match &expect.kind {
        ExpectKind::NeverBlocked(address) => (never_blocked(compiled, *address)?, None),
        ExpectKind::Packet { allow, packet, rule } => {
            packets(compiled, packet).into_iter().find_map(|(network, packet)| {
                let outcome = walk(&compiled.plan.ruleset, &network, packet);
                judge(policy, *allow, rule.as_deref(), outcome)
            })?
        }
    };
    Some(ExpectFailure { span: expect.span, cause, decided_at })
}

fn never_blocked(compiled: &Compiled, address: IpAddr) -> Option<ExpectCause> {
    let block = compiled.plan.scan.as_ref()?.auto_block.as_ref()?;
    let spared = address.is_loopback()
        || address.is_unspecified()
        || block.never.iter().any(|net| net.contains(&address));
    (!spared).then_some(ExpectCause::CanBeBlocked(address))
}

/// Every packet that an expectation speaks of: both ends of its ports, by every way it may leave.
fn packets(compiled: &Compiled, spec: &PacketSpec) -> Vec<(Network, Packet)> {
    let interfaces = &compiled.plan.interfaces;
    let Some(input) = interfaces.iter().find(|interface| interface.name == spec.input) else {
        return vec![];
    };
    let network = Network::new(interfaces);
    let destination = match spec.to {
        PacketTarget::Address(address) => address,
        PacketTarget::SelfHost => network.own_address(&input.device, spec.from),
    };
    let source = SOURCE_PORT;
    let mut transports = match &spec.traffic {
        Traffic::Tcp(ports) => {
            [*ports.start(), *ports.end()].map(|destination| Transport::Tcp { source, destination }).to_vec()
        }
        Traffic::Udp(ports) => {
            [*ports.start(), *ports.end()].map(|destination| Transport::Udp { source, destination }).to_vec()
        }
        Traffic::Ping => vec![Transport::Echo],
    };
    transports.dedup();
    let mut ways: Vec<Network> = interfaces
        .iter()
        .filter(|interface| interface.device != input.device)
        .map(|interface| network.clone().with_unknown_to(&interface.device))
        .collect();
    if ways.is_empty() {
        ways.push(network);
    }
    let packet =
        |transport| Packet { input: Some(input.device.clone()), source: spec.from, destination, transport };
    ways.iter().flat_map(|way| transports.iter().map(|transport| (way.clone(), packet(*transport)))).collect()
}

fn judge(
    policy: &Policy,
    allow: bool,
    rule: Option<&str>,
    outcome: Result<Outcome, WalkError>,
) -> Option<(ExpectCause, Option<SourceSpan>)> {
    let Outcome { verdict, decided, .. } = match outcome {
        Ok(outcome) => outcome,
        Err(error) => return Some((ExpectCause::Walk(error), None)),
    };
    let label = match &decided {
        Decision::Rule(step) => step.comment.as_deref().and_then(Label::parse),
        Decision::Policy(_) | Decision::Unfiltered => None,
    };
    let span = label.as_ref().and_then(|label| span_of(policy, label));
    if (verdict == Verdict::Accept) != allow {
        return Some((ExpectCause::Verdict { allow, got: verdict, by: DecidedBy(decided) }, span));
    }
    let rule = rule.filter(|rule| label.as_ref().is_none_or(|label| label.name != **rule))?;
    Some((ExpectCause::Rule { rule: rule.to_owned(), by: DecidedBy(decided) }, span))
}

fn span_of(policy: &Policy, label: &Label) -> Option<SourceSpan> {
    let rules = policy.rules.iter().flat_map(|block| &block.rules);
    let forwards = policy.forwards.iter().map(|forward| (forward.line, forward.span));
    let gates = policy.gates.iter().map(|gate| (gate.line, gate.name.span));
    rules
        .map(|rule| (rule.line, rule.span))
        .chain(forwards)
        .chain(gates)
        .find(|(line, _)| *line == label.line)
        .map(|(_, span)| span)
}
