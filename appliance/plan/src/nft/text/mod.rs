//! A ruleset as `nft` reads it: declarations here, rules in [`rule`], constants in [`value`].
//!
//! The same ruleset always gives the same text, so two texts can be compared line by line.

mod rule;
mod value;

pub use rule::{render_rule, render_statement};
pub use value::render_element;

use super::{
    BasePolicy, Chain, ChainType, Elements, Family, Flowtable, Hook, HookPoint, L4Proto, NfProto, Object,
    ObjectKind, Ruleset, Set, Table,
};
use rule::{limit, quota, synproxy};
use std::fmt::{self, Display, Write};
use value::{comment, seconds, types};

/// Writes the ruleset as text that `nft -c -f -` accepts.
///
/// Sets with a state of their own are declared without elements.
pub fn render(ruleset: &Ruleset) -> String {
    let mut out = String::new();
    for table in &ruleset.tables {
        write(&mut out, |out| render_table(out, table));
    }
    out
}

/// Runs a writer on a `String`.
fn write(out: &mut String, writer: impl FnOnce(&mut String) -> fmt::Result) {
    writer(out).expect("writing to a String cannot fail");
}

/// Shows a value by a function, so that writers compose in format strings.
fn shown(writer: impl Fn(&mut fmt::Formatter<'_>) -> fmt::Result) -> impl Display {
    struct Shown<F>(F);
    impl<F: Fn(&mut fmt::Formatter<'_>) -> fmt::Result> Display for Shown<F> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0(f)
        }
    }
    Shown(writer)
}

/// Items with a separator between them.
fn joined<T>(
    items: &[T],
    separator: &str,
    show: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> impl Display {
    shown(move |f| {
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                f.write_str(separator)?;
            }
            show(f, item)?;
        }
        Ok(())
    })
}

fn render_table(out: &mut String, table: &Table) -> fmt::Result {
    writeln!(out, "table {} {} {{", family(table.family), table.name)?;
    for object in &table.objects {
        render_object(out, object)?;
    }
    for set in &table.sets {
        render_set(out, set)?;
    }
    for flowtable in &table.flowtables {
        render_flowtable(out, flowtable)?;
    }
    for chain in &table.chains {
        render_chain(out, chain)?;
    }
    writeln!(out, "}}")
}

/// The family as nft(8) names it.
pub const fn family(family: Family) -> &'static str {
    match family {
        Family::Inet => "inet",
        Family::Ip => "ip",
        Family::Ip6 => "ip6",
        Family::Netdev => "netdev",
    }
}

const fn l4(protocol: L4Proto) -> &'static str {
    match protocol {
        L4Proto::Tcp => "tcp",
        L4Proto::Udp => "udp",
    }
}

const fn l3(protocol: NfProto) -> &'static str {
    match protocol {
        NfProto::Ipv4 => "ip",
        NfProto::Ipv6 => "ip6",
    }
}

fn render_object(out: &mut String, object: &Object) -> fmt::Result {
    let name = &object.name;
    match &object.kind {
        ObjectKind::Counter => write!(out, "  counter {name} {{")?,
        ObjectKind::Quota(q) => write!(out, "  quota {name} {{ {};", quota(*q))?,
        ObjectKind::Limit(l) => write!(out, "  limit {name} {{ {};", limit(*l))?,
        ObjectKind::CtHelper { helper, protocol, l3: layer3 } => {
            write!(out, "  ct helper {name} {{ type \"{helper}\" protocol {};", l4(*protocol))?;
            if let Some(layer3) = layer3 {
                write!(out, " l3proto {};", l3(*layer3))?;
            }
        }
        ObjectKind::CtTimeout(policy) => {
            write!(
                out,
                "  ct timeout {name} {{ protocol {}; l3proto {};",
                l4(policy.protocol),
                l3(policy.l3)
            )?;
            let states =
                joined(&policy.states, ", ", |f, (state, after)| write!(f, "{state}: {}", after.as_secs()));
            write!(out, " policy = {{ {states} }};")?;
        }
        ObjectKind::Synproxy(s) => write!(out, "  synproxy {name} {{ {};", synproxy(*s, "; "))?,
    }
    if let Some(text) = &object.comment {
        write!(out, " {};", comment(text))?;
    }
    writeln!(out, " }}")
}

fn render_set(out: &mut String, set: &Set) -> fmt::Result {
    let word = if set.data.is_some() { "map" } else { "set" };
    writeln!(out, "  {word} {} {{", set.name)?;
    writeln!(out, "    {};", types(&set.key, set.data.as_ref()))?;
    let flags = [
        (set.flags.constant, "constant"),
        (set.flags.dynamic, "dynamic"),
        (set.flags.interval, "interval"),
        (set.flags.timeout, "timeout"),
    ];
    let flags: Vec<&str> = flags.into_iter().filter_map(|(on, word)| on.then_some(word)).collect();
    if !flags.is_empty() {
        writeln!(out, "    flags {};", flags.join(", "))?;
    }
    if let Some(timeout) = set.timeout {
        writeln!(out, "    timeout {};", seconds(timeout))?;
    }
    if let Some(size) = set.size {
        writeln!(out, "    size {size};")?;
    }
    if set.flags.auto_merge {
        writeln!(out, "    auto-merge;")?;
    }
    if set.counter {
        writeln!(out, "    counter;")?;
    }
    if let Some(text) = &set.comment {
        writeln!(out, "    {};", comment(text))?;
    }
    render_elements(out, &set.elements)?;
    writeln!(out, "  }}")
}

/// `elements = { … }`, nothing for an empty set.
fn render_elements(out: &mut String, elements: &Elements) -> fmt::Result {
    const BETWEEN: &str = ",\n      ";
    fn range<A: Display + PartialEq>(f: &mut fmt::Formatter<'_>, (low, high): &(A, A)) -> fmt::Result {
        if low == high { write!(f, "{low}") } else { write!(f, "{low}-{high}") }
    }
    match elements {
        Elements::List(list) if !list.is_empty() => {
            let all = joined(list, BETWEEN, |f, element| f.write_str(&render_element(element)));
            writeln!(out, "    elements = {{\n      {all}\n    }}")
        }
        Elements::Ipv4Ranges(list) if !list.is_empty() => {
            writeln!(out, "    elements = {{\n      {}\n    }}", joined(list, BETWEEN, range))
        }
        Elements::Ipv6Ranges(list) if !list.is_empty() => {
            writeln!(out, "    elements = {{\n      {}\n    }}", joined(list, BETWEEN, range))
        }
        _ => Ok(()),
    }
}

fn render_flowtable(out: &mut String, flowtable: &Flowtable) -> fmt::Result {
    let devices = joined(&flowtable.devices, ", ", |f, device| write!(f, "\"{device}\""));
    write!(out, "  flowtable {} {{ hook ingress priority {};", flowtable.name, flowtable.priority)?;
    write!(out, " devices = {{ {devices} }};")?;
    if flowtable.counter {
        write!(out, " counter;")?;
    }
    writeln!(out, " }}")
}

fn render_chain(out: &mut String, chain: &Chain) -> fmt::Result {
    writeln!(out, "  chain {} {{", chain.name)?;
    if let Some(hook) = &chain.hook {
        writeln!(out, "    {}", render_hook(hook))?;
    }
    for rule in &chain.rules {
        writeln!(out, "    {}", render_rule(rule))?;
    }
    writeln!(out, "  }}")
}

/// The line that hooks a chain: `type filter hook input priority 0; policy drop;`.
pub fn render_hook(hook: &Hook) -> String {
    let kind = match hook.kind {
        ChainType::Filter => "filter",
        ChainType::Nat => "nat",
        ChainType::Route => "route",
    };
    let point = match hook.point {
        HookPoint::Prerouting => "prerouting",
        HookPoint::Input => "input",
        HookPoint::Forward => "forward",
        HookPoint::Output => "output",
        HookPoint::Postrouting => "postrouting",
        HookPoint::Ingress => "ingress",
        HookPoint::Egress => "egress",
    };
    let device = hook.device.as_ref().map_or_else(String::new, |device| format!(" device \"{device}\""));
    let policy = match hook.policy {
        BasePolicy::Accept => "accept",
        BasePolicy::Drop => "drop",
    };
    format!("type {kind} hook {point}{device} priority {}; policy {policy};", hook.priority)
}
