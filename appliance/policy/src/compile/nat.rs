//! Address translation: port forwards, their hairpins, masquerading.

use super::CompileError;
use super::label::Label;
use super::matches::{
    address, address_type, daddr, destination_translated, devices, differs, equal, family_of, ports,
    to_ourselves,
};
use super::scope::Scope;
use crate::simulate::Network;
use crate::{Forward, Traffic};
use glacis_plan::nft::{
    Atom, Expr, FibFlags, Field, MetaKey, NatAddress, NatFlags, NatKind, NfProto, Operand, Rule, Statement,
};
use std::net::IpAddr;
use std::ops::RangeInclusive;

const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;

/// The rules of every translation, by the chain they belong in.
#[derive(Default)]
pub(super) struct Nat {
    pub(super) destination: Vec<Rule>,
    /// What lets translated connections through to their targets, and only there.
    pub(super) admission: Vec<Rule>,
    pub(super) source: Vec<Rule>,
}

pub(super) fn compile(scope: &Scope<'_>, network: &Network, errors: &mut Vec<CompileError>) -> Nat {
    let mut nat = Nat::default();
    for forward in &scope.policy.forwards {
        if let Err(error) = add_forward(scope, network, forward, &mut nat) {
            errors.push(error);
        }
    }
    for masquerade in &scope.policy.masquerades {
        let zones = scope.bindings.of_zones(masquerade.zones.iter().map(|zone| zone.as_str()));
        let from = devices(MetaKey::Iifname, &zones);
        let out = scope.bindings.device(&masquerade.out);
        let to = out.and_then(|device| devices(MetaKey::Oifname, &[device]));
        let (Some(from), Some(to)) = (from, to) else { continue };
        // IPv6 hosts have addresses of their own; translating them would only break what works.
        let family = nfproto(NfProto::Ipv4);
        let label = Label::node("masquerade", masquerade.line);
        nat.source.push(
            Rule::new([from, to, family, Statement::Counter, Statement::Masquerade(NatFlags::default())])
                .comment(label.to_string()),
        );
    }
    nat
}

/// Ports of one transport protocol that a forward takes.
struct Taken {
    field: Field,
    ports: Vec<RangeInclusive<u16>>,
}

fn add_forward(
    scope: &Scope<'_>,
    network: &Network,
    forward: &Forward,
    nat: &mut Nat,
) -> Result<(), CompileError> {
    let Some(input) = scope.bindings.device(&forward.input) else { return Ok(()) };
    let label = Label::node("forward", forward.line).to_string();
    // Hosts beside the target are on the device that leads to it; where no static route tells which,
    // every device but the forward's own may.
    let beside = if forward.hairpin { devices_beside(network, input, *forward.to) } else { vec![] };
    for taken in transports(forward)? {
        let arriving = ports(taken.field, &taken.ports);
        let family = nfproto(family_of(*forward.to));
        let translate = Statement::Nat {
            kind: NatKind::Dnat,
            family: family_of(*forward.to),
            address: NatAddress::Expr(Expr::Atom(address(*forward.to))),
            port: forward.to_port.map(|port| Expr::Atom(Atom::InetService(port))),
            flags: NatFlags::default(),
        };
        let ours = to_ourselves();
        let rule = |mut statements: Vec<Statement>| {
            statements.extend([Statement::Counter, translate.clone()]);
            Rule::new(statements).comment(label.clone())
        };
        if let Some(on) = devices(MetaKey::Iifname, &[input]) {
            nat.destination.push(rule(vec![on, family.clone(), ours.clone(), arriving.clone()]));
        }
        if let Some(on) = devices(MetaKey::Iifname, &beside) {
            // An address of ours, but not the one on this device: that one is for the host itself.
            let elsewhere = FibFlags { daddr: true, iif: true, ..FibFlags::default() };
            let elsewhere = address_type(elsewhere, differs);
            nat.destination.push(rule(vec![on, family, ours, elsewhere, arriving]));
        }
        add_admission(forward, &taken, input, &beside, &label, nat);
    }
    Ok(())
}

/// Lets the translated connection through to its target, and makes hairpins come back through us.
fn add_admission(forward: &Forward, taken: &Taken, input: &str, beside: &[&str], label: &str, nat: &mut Nat) {
    let kept = taken.ports.as_slice();
    let leaving = forward.to_port.map_or_else(|| ports(taken.field, kept), |p| ports(taken.field, &[p..=p]));
    let target = equal(Expr::Payload(daddr(family_of(*forward.to))), Operand::atom(address(*forward.to)));
    let inputs: Vec<&str> = std::iter::once(input).chain(beside.iter().copied()).collect();
    if let Some(on) = devices(MetaKey::Iifname, &inputs) {
        let statements = [on, target.clone(), leaving.clone(), Statement::Counter, Statement::ACCEPT];
        nat.admission.push(Rule::new(statements).comment(label));
    }
    for device in beside {
        // Without our address as the source, the target would answer its neighbour directly.
        let (Some(from), Some(to)) =
            (devices(MetaKey::Iifname, &[device]), devices(MetaKey::Oifname, &[device]))
        else {
            continue;
        };
        let masquerade = Statement::Masquerade(NatFlags::default());
        nat.source.push(
            Rule::new([
                from,
                to,
                destination_translated(),
                target.clone(),
                leaving.clone(),
                Statement::Counter,
                masquerade,
            ])
            .comment(label),
        );
    }
}

fn devices_beside<'n>(network: &'n Network, input: &str, target: IpAddr) -> Vec<&'n str> {
    let candidates = network.egress_candidates(target, Some(input));
    candidates.into_iter().filter(|device| *device != input).collect()
}

fn transports(forward: &Forward) -> Result<Vec<Taken>, CompileError> {
    let (mut tcp, mut udp) = (Vec::new(), Vec::new());
    for traffic in &forward.what {
        match traffic {
            Traffic::Tcp(ports) => tcp.push(ports.clone()),
            Traffic::Udp(ports) => udp.push(ports.clone()),
            Traffic::Ping => {
                return Err(CompileError::Ineffective {
                    why: "ping has no port to forward",
                    hint: "forward TCP and UDP ports only",
                    span: forward.span,
                });
            }
        }
    }
    let taken = |field, ports: Vec<_>| (!ports.is_empty()).then_some(Taken { field, ports });
    Ok([taken(Field::TcpDport, tcp), taken(Field::UdpDport, udp)].into_iter().flatten().collect())
}

fn nfproto(family: NfProto) -> Statement {
    let number = match family {
        NfProto::Ipv4 => NFPROTO_IPV4,
        NfProto::Ipv6 => NFPROTO_IPV6,
    };
    equal(Expr::Meta(MetaKey::NfProto), Operand::atom(Atom::NfProto(number)))
}
