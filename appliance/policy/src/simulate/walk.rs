//! A packet's way through the hooks.

use super::Network;
use super::evaluate::{Context, Effect};
use super::network::AddressType;
use glacis_plan::nft::{
    BasePolicy, Chain, ChainType, Family, HookPoint, Name, Reject, Rule, Ruleset, Table,
    Verdict as RuleVerdict,
};
use std::net::IpAddr;

/// `NFT_JUMP_STACK_SIZE`: the kernel refuses deeper rulesets.
const JUMPS_MAX: usize = 16;

/// The first packet of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// The device it arrives on; `None` when the host sends it.
    pub input: Option<String>,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub transport: Transport,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A SYN.
    Tcp {
        source: u16,
        destination: u16,
    },
    Udp {
        source: u16,
        destination: u16,
    },
    /// An echo request.
    Echo,
}

/// What became of a packet, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub verdict: Verdict,
    pub path: Path,
    /// Rules that matched, in order.
    pub trail: Vec<Step>,
    pub decided: Decision,
    /// As it left or was delivered.
    pub packet: Packet,
    /// The device it left by, or would have.
    pub output: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    Drop,
    Reject(Reject),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// Delivered to the host, or stopped before that was known.
    In,
    Through,
    Out,
}

/// A rule that matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub chain: Name,
    /// Counted from 0.
    pub index: usize,
    pub comment: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The last rule with a comment on the way to the verdict, else the rule that gave it.
    Rule(Step),
    /// No rule did; the base chain's policy.
    Policy(Name),
    /// No base chain stands at the deciding hook.
    Unfiltered,
}

/// Why a ruleset cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WalkError {
    #[error("chain {chain} rule {index}: the simulator does not know {what}")]
    Unsupported { chain: Name, index: usize, what: String },
    #[error("the ruleset names `{0}`, which it does not have")]
    Missing(Name),
    #[error("chain {0} jumps deeper than the kernel allows")]
    TooDeep(Name),
    #[error("{destination} may leave by several devices: {}", devices.join(", "))]
    Ambiguous { destination: IpAddr, devices: Vec<String> },
}

/// Walks the first packet of a connection through a ruleset.
pub fn walk(ruleset: &Ruleset, network: &Network, packet: Packet) -> Result<Outcome, WalkError> {
    let context = Context { network, packet, output: None, status: 0, mark: 0 };
    let mut walker = Walker { ruleset, context, trail: Vec::new(), decided: Decision::Unfiltered };
    let (path, verdict) = walker.route()?;
    Ok(Outcome {
        verdict,
        path,
        trail: walker.trail,
        decided: walker.decided,
        packet: walker.context.packet,
        output: walker.context.output,
    })
}

struct Walker<'a> {
    ruleset: &'a Ruleset,
    context: Context<'a>,
    trail: Vec<Step>,
    decided: Decision,
}

/// How a chain ended.
enum End {
    /// Back to the chain that jumped here.
    Returned,
    Decided(Verdict),
}

impl Walker<'_> {
    fn route(&mut self) -> Result<(Path, Verdict), WalkError> {
        let Some(input) = self.context.packet.input.clone() else {
            self.find_output(None)?;
            return Ok((Path::Out, self.hooks(&[HookPoint::Output, HookPoint::Postrouting])?));
        };
        let verdict = self.hook(HookPoint::Prerouting)?;
        if verdict != Verdict::Accept {
            return Ok((Path::In, verdict));
        }
        if self.context.network.address_type(self.context.packet.destination, None) != AddressType::Unicast {
            return Ok((Path::In, self.hooks(&[HookPoint::Input])?));
        }
        self.find_output(Some(&input))?;
        Ok((Path::Through, self.hooks(&[HookPoint::Forward, HookPoint::Postrouting])?))
    }

    fn find_output(&mut self, input: Option<&str>) -> Result<(), WalkError> {
        let destination = self.context.packet.destination;
        let found = self.context.network.egress(destination, input);
        let found = found.map_err(|devices| WalkError::Ambiguous {
            destination,
            devices: devices.into_iter().map(str::to_owned).collect(),
        })?;
        self.context.output = Some(found.to_owned());
        Ok(())
    }

    fn hooks(&mut self, points: &[HookPoint]) -> Result<Verdict, WalkError> {
        for point in points {
            let verdict = self.hook(*point)?;
            if verdict != Verdict::Accept {
                return Ok(verdict);
            }
        }
        Ok(Verdict::Accept)
    }

    /// Every base chain of a hook, by priority; accepting in one leads to the next.
    fn hook(&mut self, point: HookPoint) -> Result<Verdict, WalkError> {
        let family = if self.context.packet.source.is_ipv4() { Family::Ip } else { Family::Ip6 };
        let mut chains: Vec<(&Table, &Chain, i32, ChainType, BasePolicy)> = Vec::new();
        for table in self.ruleset.tables.iter().filter(|t| t.family == Family::Inet || t.family == family) {
            for chain in &table.chains {
                if let Some(hook) = chain.hook.as_ref().filter(|hook| hook.point == point) {
                    chains.push((table, chain, hook.priority, hook.kind, hook.policy));
                }
            }
        }
        chains.sort_by_key(|(_, _, priority, ..)| *priority);
        let decides = matches!(point, HookPoint::Input | HookPoint::Forward | HookPoint::Output);
        let mut translated = false;
        for (table, chain, _, kind, policy) in chains {
            if kind == ChainType::Nat && translated {
                continue;
            }
            let (from, status) = (self.trail.len(), self.context.status);
            let end = self.chain(table, chain, 0)?;
            translated |= self.context.status != status;
            let (verdict, decision) = match end {
                End::Decided(verdict) => (verdict, self.decision_since(from)),
                End::Returned if policy == BasePolicy::Accept => (Verdict::Accept, None),
                End::Returned => (Verdict::Drop, None),
            };
            if decides || verdict != Verdict::Accept {
                self.decided = decision.unwrap_or_else(|| Decision::Policy(chain.name.clone()));
            }
            if verdict != Verdict::Accept {
                return Ok(verdict);
            }
        }
        Ok(Verdict::Accept)
    }

    fn decision_since(&self, from: usize) -> Option<Decision> {
        let steps = &self.trail[from..];
        let step = steps.iter().rfind(|step| step.comment.is_some()).or(steps.last())?;
        Some(Decision::Rule(step.clone()))
    }

    fn chain(&mut self, table: &Table, chain: &Chain, depth: usize) -> Result<End, WalkError> {
        if depth > JUMPS_MAX {
            return Err(WalkError::TooDeep(chain.name.clone()));
        }
        for (index, rule) in chain.rules.iter().enumerate() {
            let Some(effect) = self.rule(table, chain, index, rule)? else { continue };
            let target = match effect {
                Effect::None | Effect::Verdict(RuleVerdict::Continue) => continue,
                Effect::Refused(reject) => return Ok(End::Decided(Verdict::Reject(reject))),
                Effect::Translated | Effect::Verdict(RuleVerdict::Accept) => {
                    return Ok(End::Decided(Verdict::Accept));
                }
                Effect::Verdict(RuleVerdict::Drop) => return Ok(End::Decided(Verdict::Drop)),
                Effect::Verdict(RuleVerdict::Return) => return Ok(End::Returned),
                Effect::Verdict(RuleVerdict::Jump(ref name) | RuleVerdict::Goto(ref name)) => {
                    table.chain(name).ok_or_else(|| WalkError::Missing(name.clone()))?
                }
            };
            match self.chain(table, target, depth + 1)? {
                End::Returned if matches!(effect, Effect::Verdict(RuleVerdict::Jump(_))) => {}
                end => return Ok(end),
            }
        }
        Ok(End::Returned)
    }

    /// `None` when the rule does not match.
    fn rule(
        &mut self,
        table: &Table,
        chain: &Chain,
        index: usize,
        rule: &Rule,
    ) -> Result<Option<Effect>, WalkError> {
        for statement in &rule.statements {
            let effect = self.context.statement(table, statement);
            let effect = effect.map_err(|fault| fault.at(&chain.name, index))?;
            match effect {
                None => return Ok(None),
                Some(Effect::None) => {}
                Some(effect) => {
                    self.passed(chain, index, rule);
                    return Ok(Some(effect));
                }
            }
        }
        self.passed(chain, index, rule);
        Ok(Some(Effect::None))
    }

    fn passed(&mut self, chain: &Chain, index: usize, rule: &Rule) {
        self.trail.push(Step { chain: chain.name.clone(), index, comment: rule.comment.clone() });
    }
}
