//! Every figure that Glacis promises, beside its peer's, measured in one run.
//!
//! Ratios count, not times: both sides run on the same machine, in turn, in the same minutes. A missed bound is
//! printed and does not fail the run, because a busy machine misses bounds too; what cannot be measured does.

mod boot;
mod figure;
mod flood;
mod forged;
mod gate;
mod latency;
mod memory;
mod nft;
mod proxies;
mod queries;
mod relay;
mod store;
mod tc;
mod verdict;

pub use figure::{Bound, Figure, FigureTable, Unit};

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

/// What a measurement gives; its errors are only printed.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Figures that are measured together.
struct Topic {
    name: &'static str,
    what: &'static str,
    measure: fn() -> Outcome<Vec<Figure>>,
}

const TOPICS: [Topic; 12] = [
    Topic { name: "tc", what: "packets in the TC program", measure: tc::figures },
    Topic { name: "nft", what: "rulesets and bans against nft", measure: nft::figures },
    Topic { name: "store", what: "upserts against SQLite", measure: store::figures },
    Topic { name: "queries", what: "questions about ten million scans", measure: queries::figures },
    Topic { name: "memory", what: "memory of the idle daemon", measure: memory::figures },
    Topic { name: "flood", what: "a flood of forged sources against nft", measure: flood::figures },
    Topic { name: "forged", what: "memory under forged sources", measure: forged::figures },
    Topic { name: "latency", what: "from a probe to the kernel's ban", measure: latency::figures },
    Topic { name: "relay", what: "the relay against HAProxy and nginx", measure: relay::figures },
    Topic { name: "gate", what: "gates against HAProxy, nginx and DNAT", measure: gate::figures },
    Topic { name: "verdict", what: "judging clients by their ports", measure: verdict::figures },
    Topic { name: "boot", what: "image and boot", measure: boot::figures },
];

/// Measures the topics that are named, or all, and prints one table.
pub fn run(arguments: &[String]) -> ExitCode {
    if arguments.first().is_some_and(|argument| argument == nft::APPLY_ARGUMENT) {
        return match nft::apply_child() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail("loading the ruleset", &error),
        };
    }
    if let Some(result) = proxies::child(arguments) {
        return match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail("being a proxy or a server", &*error),
        };
    }
    if let Some(unknown) = arguments.iter().find(|name| TOPICS.iter().all(|topic| topic.name != **name)) {
        let names = TOPICS.map(|topic| topic.name).join(", ");
        eprintln!("there is no figure named `{unknown}`; there are {names}");
        return ExitCode::from(2);
    }
    measure(|topic| arguments.is_empty() || arguments.iter().any(|name| name == topic.name))
}

fn measure(wanted: impl Fn(&Topic) -> bool) -> ExitCode {
    let mut figures = Vec::new();
    let mut code = ExitCode::SUCCESS;
    for topic in TOPICS.iter().filter(|topic| wanted(topic)) {
        let start = Instant::now();
        eprintln!("measuring {}: {}", topic.name, topic.what);
        match (topic.measure)() {
            Ok(measured) => figures.extend(measured),
            Err(error) => code = fail(topic.what, &*error),
        }
        eprintln!("  took {:.0} s", start.elapsed().as_secs_f64());
    }
    println!("\n{}", FigureTable(&figures));
    let missed: Vec<&str> =
        figures.iter().filter(|f| f.reached() == Some(false)).map(|f| f.what.as_str()).collect();
    match missed.as_slice() {
        [] => println!("every bound was reached"),
        missed => println!("MISSED {}: {}", missed.len(), missed.join("; ")),
    }
    code
}

fn fail(what: &str, error: &dyn Error) -> ExitCode {
    eprintln!("{what}: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because {error}");
        cause = error.source();
    }
    ExitCode::FAILURE
}

/// The middle one; there is at least one.
fn median<T: Copy + PartialOrd>(mut values: Vec<T>) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).expect("no figure is NaN"));
    values[values.len() / 2]
}
