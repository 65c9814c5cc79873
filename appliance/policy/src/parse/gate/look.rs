//! How a gate looks at a client: `preset comprehensive`, `ports 22 80`, `timeout "500ms"`, `prove`, `budget`, `remember`.

use crate::model::Spanned;
use crate::parse::decode::{Children, Fields, head};
use crate::parse::problems::Problems;
use crate::parse::values;
use crate::report::Problem;
use glacis_plan::gate::{Budget, Exhausted, GATE_PORTS_MAX, Prove, Remember};
use kdl::KdlNode;
use std::ops::RangeInclusive;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// Ports that are looked at together, and for how long.
#[derive(Clone, Copy)]
struct Preset {
    ports: &'static [u16],
    timeout: Duration,
}

const DEFAULT: Preset =
    Preset { ports: &[22, 80, 443, 3128, 8000, 8080], timeout: Duration::from_millis(500) };
const PRESETS: &[(&str, Preset)] = &[
    ("basic", Preset { ports: &[80, 443, 8080], timeout: Duration::from_millis(500) }),
    (
        "comprehensive",
        Preset {
            ports: &[22, 80, 443, 3128, 8080, 8000, 8888, 1080, 3333, 8081],
            timeout: Duration::from_millis(1_000),
        },
    ),
    ("fast", Preset { ports: &[80, 443, 8080], timeout: Duration::from_millis(250) }),
    (
        "high",
        Preset {
            ports: &[
                22, 25, 80, 443, 1080, 3128, 3333, 4444, 5555, 6588, 6666, 7777, 8000, 8080, 8081, 8800,
                8888, 9999,
            ],
            timeout: Duration::from_millis(1_500),
        },
    ),
];

const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(10);
const PROVE: &[(&str, Prove)] = &[("open", Prove::Open), ("proxy", Prove::Proxy)];
const PROVE_DEFAULT: Prove = Prove::Open;

/// The least lets one client's ports be looked at together, however many the gate has.
const IN_FLIGHT: RangeInclusive<u32> = GATE_PORTS_MAX as u32..=10_000;
const PER_SECOND: RangeInclusive<u32> = 1..=10_000;
const THEN: &[(&str, Exhausted)] = &[("admit", Exhausted::Admit), ("refuse", Exhausted::Refuse)];
const BUDGET_DEFAULT: Budget = Budget { in_flight: 200, per_second: 50, then: Exhausted::Admit };

const REMEMBERED: RangeInclusive<Duration> = MINUTE..=Duration::from_secs(30 * DAY.as_secs());
const REMEMBERED_WANTED: &str = "a duration from \"1m\" to \"30d\"";
const REMEMBER_DEFAULT: Remember = Remember { clean: DAY, open: DAY };

pub(super) struct Look {
    /// Ascending.
    pub ports: Vec<u16>,
    pub timeout: Duration,
    pub prove: Prove,
    pub budget: Budget,
    pub remember: Remember,
}

pub(super) fn decode(children: &Children<'_>, problems: &Problems) -> Look {
    let (preset, ports) = (children.one("preset"), children.one("ports"));
    if let (Some(preset), Some(ports)) = (preset, ports) {
        problems.add(
            Problem::new(head(ports), "`preset` and `ports` both say which ports to look at")
                .related(head(preset), "the preset")
                .hint("take one of them out"),
        );
    }
    let preset = preset.and_then(|node| {
        Fields::new(node, problems).required_argument("the name of a preset", values::choice(PRESETS))
    });
    let ports = ports.map(|node| self::ports(node, problems));
    let read = values::short_duration(TIMEOUT, "a duration from \"10ms\" to \"10s\"");
    let timeout = children.value("timeout", "a duration", read);
    let preset = preset.map_or(DEFAULT, |preset| preset.value);
    let mut ports = ports.unwrap_or_else(|| preset.ports.to_vec());
    ports.sort_unstable();
    let prove = children.value("prove", "`open` or `proxy`", values::choice(PROVE));
    Look {
        ports,
        timeout: timeout.map_or(preset.timeout, |timeout| timeout.value),
        prove: prove.map_or(PROVE_DEFAULT, |prove| prove.value),
        budget: children.one("budget").map_or(BUDGET_DEFAULT, |node| budget(node, problems)),
        remember: children.one("remember").map_or(REMEMBER_DEFAULT, |node| remember(node, problems)),
    }
}

/// `ports 22 80 443`: of the client.
fn ports(node: &KdlNode, problems: &Problems) -> Vec<u16> {
    let mut fields = Fields::new(node, problems);
    let given = fields.argument_count();
    let ports: Vec<Spanned<u16>> = fields.required_arguments("ports of the client", values::port);
    if given > GATE_PORTS_MAX {
        let message = format!("{given} ports, and {GATE_PORTS_MAX} are the most");
        let hint = "each costs every new client a packet and the gate a descriptor: name the likely ones";
        problems.add(Problem::new(fields.span(), message).hint(hint));
        return vec![];
    }
    for (at, port) in ports.iter().enumerate() {
        if let Some(first) = ports[..at].iter().find(|first| first.value == port.value) {
            problems.add(
                Problem::new(port.span, format!("the port {} is given twice", port.value))
                    .label("second")
                    .related(first.span, "first")
                    .hint("take one of them out"),
            );
        }
    }
    ports.into_iter().map(|port| port.value).collect()
}

/// `budget in-flight=200 per-second=50 then=admit`.
fn budget(node: &KdlNode, problems: &Problems) -> Budget {
    let mut fields = Fields::new(node, problems);
    let says_nothing = ["in-flight", "per-second", "then"].into_iter().all(|name| !fields.has(name));
    let in_flight = fields.property("in-flight", values::integer(IN_FLIGHT));
    let per_second = fields.property("per-second", values::integer(PER_SECOND));
    let then = fields.property("then", values::choice(THEN));
    if says_nothing {
        let hint = "budget in-flight=200 per-second=50 then=admit";
        problems.add(Problem::new(fields.span(), "a `budget` of nothing").hint(hint));
    }
    Budget {
        in_flight: in_flight.map_or(BUDGET_DEFAULT.in_flight, |ports| ports.value),
        per_second: per_second.map_or(BUDGET_DEFAULT.per_second, |clients| clients.value),
        then: then.map_or(BUDGET_DEFAULT.then, |then| then.value),
    }
}

/// `remember clean="24h" open="24h"`.
fn remember(node: &KdlNode, problems: &Problems) -> Remember {
    let mut fields = Fields::new(node, problems);
    let says_nothing = !fields.has("clean") && !fields.has("open");
    let clean = fields.property("clean", values::duration(REMEMBERED, REMEMBERED_WANTED));
    let open = fields.property("open", values::duration(REMEMBERED, REMEMBERED_WANTED));
    if says_nothing {
        let problem = Problem::new(fields.span(), "`remember` needs `clean=` or `open=`");
        problems.add(problem.hint("remember clean=\"24h\" open=\"24h\""));
    }
    Remember {
        clean: clean.map_or(REMEMBER_DEFAULT.clean, |clean| clean.value),
        open: open.map_or(REMEMBER_DEFAULT.open, |open| open.value),
    }
}
