//! `glacis gate`: what the reverse-scan gates do, and what they know of clients.

mod learn;
mod person;

use super::client;
use super::commands::{CommandError, Outcome, odd};
use super::{Daemon, parse_source};
use crate::words;
use clap::{Args, Subcommand};
use glacis_control::gate::{ClientRecord, GateStatus, GateTest, Verdict};
use glacis_control::{Reply, Request, StatusReport};
use ipnet::IpNet;
pub use learn::LearnError;
use serde::Serialize;
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Most records of one listing.
const VERDICTS_MAX: i64 = 10_000;
/// `glacis gate test`: the look speaks against the client. 1 is a failure and 2 a wrong command line, as everywhere.
const DENIED: u8 = 3;

#[derive(Subcommand)]
pub enum Gate {
    /// What each gate does and did.
    Status {
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// What gates found at clients, looked at last first.
    Verdicts(Verdicts),
    /// Forget what is known of clients: their next connection is looked at anew.
    Forget {
        /// An address or a prefix.
        #[arg(value_parser = parse_source, required_unless_present = "all")]
        client: Option<IpNet>,
        /// Every client.
        #[arg(long, conflicts_with = "client")]
        all: bool,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Look at an address now, as a gate would; nothing is remembered. Ends with 3 when the gate would turn it away.
    Test {
        client: IpAddr,
        /// As which gate; not needed where there is only one.
        #[arg(long, value_name = "NAME")]
        gate: Option<String>,
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Take over what another appliance's gates know: what `glacis gate verdicts --json` or `--jsonl` printed there.
    Learn {
        /// A file, or `-` for standard input.
        file: PathBuf,
        #[command(flatten)]
        daemon: Daemon,
    },
}

#[derive(Args)]
pub struct Verdicts {
    /// Only clients with this address or in this prefix.
    #[arg(long, value_name = "NET", value_parser = parse_source)]
    within: Option<IpNet>,
    /// How many to show.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=VERDICTS_MAX))]
    limit: u32,
    /// One JSON document.
    #[arg(long, conflicts_with = "jsonl")]
    json: bool,
    /// One JSON document for each client, on a line of its own.
    #[arg(long)]
    jsonl: bool,
    #[command(flatten)]
    daemon: Daemon,
}

/// Asks and prints the answer.
pub fn run(gate: Gate) -> Outcome {
    let out = &mut BufWriter::new(io::stdout().lock());
    let code = match gate {
        Gate::Status { json, daemon } => status(out, &daemon.socket, json),
        Gate::Verdicts(question) => verdicts(out, &question),
        Gate::Forget { client, daemon, .. } => forget(out, &daemon.socket, client),
        Gate::Test { client, gate, json, daemon } => test(out, &daemon.socket, client, gate, json),
        Gate::Learn { file, daemon } => take_over(out, &daemon.socket, &file),
    }?;
    out.flush()?;
    Ok(code)
}

fn report(socket: &Path) -> Result<Box<StatusReport>, CommandError> {
    match client::ask(socket, &Request::Status)? {
        Reply::Status { report } => Ok(report),
        reply => Err(odd(reply)),
    }
}

/// As JSON.
#[derive(Serialize)]
struct Gates<'a> {
    gates: &'a [GateStatus],
    /// Clients that gates know.
    clients: u64,
}

fn status(out: &mut impl Write, socket: &Path, json: bool) -> Outcome {
    let report = report(socket)?;
    if json {
        document(out, &Gates { gates: &report.gates, clients: report.gate_clients })?;
    } else {
        person::status(out, &report.gates, report.gate_clients)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// As JSON, and as [`learn`] reads it.
#[derive(Serialize)]
struct Records<'a> {
    records: &'a [ClientRecord],
    /// Clients that gates know, listed or not.
    clients: u64,
}

fn verdicts(out: &mut impl Write, question: &Verdicts) -> Outcome {
    let request = Request::GateVerdicts { within: question.within, limit: question.limit };
    let (records, clients) = match client::ask(&question.daemon.socket, &request)? {
        Reply::GateVerdicts { records, clients } => (records, clients),
        reply => return Err(odd(reply)),
    };
    if question.json {
        document(out, &Records { records: &records, clients })?;
    } else if question.jsonl {
        for record in &records {
            serde_json::to_writer(&mut *out, record)?;
            writeln!(out)?;
        }
    } else {
        person::verdicts(out, &records)?;
        out.flush()?;
        // Beside the table, so that what reads it is not disturbed.
        let listed = records.len() as u64;
        if question.within.is_none() && listed < clients {
            eprintln!(
                "{} of {}: more with --limit",
                words::count(listed),
                words::counted(clients, "client", "clients")
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn forget(out: &mut impl Write, socket: &Path, within: Option<IpNet>) -> Outcome {
    let clients = match client::ask(socket, &Request::GateForget { within })? {
        Reply::GateForgotten { clients } => clients,
        reply => return Err(odd(reply)),
    };
    if let (Some(within), 0) = (within, clients) {
        eprintln!(
            "glacis: nothing was known of {}; `glacis gate verdicts` lists what is",
            words::source(within)
        );
        return Ok(ExitCode::FAILURE);
    }
    writeln!(out, "{} forgotten", words::counted(clients, "client", "clients"))?;
    Ok(ExitCode::SUCCESS)
}

fn test(out: &mut impl Write, socket: &Path, client: IpAddr, gate: Option<String>, json: bool) -> Outcome {
    let test = match client::ask(socket, &Request::GateTest { gate, client })? {
        Reply::GateTested { test } => test,
        reply => return Err(odd(reply)),
    };
    if json {
        document(out, &test)?;
    } else {
        let report = report(socket)?;
        let gate = report.gates.iter().find(|gate| gate.name == test.gate);
        person::test(out, &test, gate.is_some_and(|gate| gate.mode == "detect"))?;
    }
    Ok(test_code(&test))
}

fn test_code(test: &GateTest) -> ExitCode {
    match (&test.ignored, test.verdict) {
        (None, Verdict::Open { .. }) => ExitCode::from(DENIED),
        _ => ExitCode::SUCCESS,
    }
}

fn take_over(out: &mut impl Write, socket: &Path, file: &Path) -> Outcome {
    let records = learn::read(file)?;
    let sent = records.len() as u64;
    let mut news = 0;
    for part in glacis_control::gate::parts(records) {
        match client::ask(socket, &Request::GateLearn { records: part })? {
            Reply::GateLearned { clients } => news += clients,
            reply => return Err(odd(reply)),
        }
    }
    writeln!(out, "{} of {} were news", words::count(news), words::counted(sent, "client", "clients"))?;
    Ok(ExitCode::SUCCESS)
}

fn document(out: &mut impl Write, answer: &impl Serialize) -> Result<(), CommandError> {
    serde_json::to_writer_pretty(&mut *out, answer)?;
    Ok(writeln!(out)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use glacis_control::UnixMillis;
    use glacis_control::frame::{self, HEADER_BYTES};
    use glacis_control::gate::{Finding, PortOutcome};
    use std::io::Read;
    use std::os::unix::net::UnixListener;
    use std::thread::{self, JoinHandle};

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        gate: Gate,
    }

    fn parsed(words: &str) -> Result<Gate, String> {
        let words = std::iter::once("gate").chain(words.split(' '));
        Line::try_parse_from(words).map(|line| line.gate).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_forgotten_must_be_said() {
        let forgotten = |words: &str| match parsed(words) {
            Ok(Gate::Forget { client, all, .. }) => Ok((client, all)),
            Ok(_) => panic!("{words} is another command"),
            Err(error) => Err(error),
        };
        assert_eq!(forgotten("forget 203.0.113.9"), Ok((Some("203.0.113.9/32".parse().unwrap()), false)));
        assert_eq!(forgotten("forget 2001:db8::/64"), Ok((Some("2001:db8::/64".parse().unwrap()), false)));
        assert_eq!(forgotten("forget --all"), Ok((None, true)));
        for (words, why) in [
            ("forget", "required"),
            ("forget --all 203.0.113.9", "cannot be used with"),
            ("forget 203.0.113.9/24", "did you mean 203.0.113.0/24?"),
            ("forget all", "give an address"),
        ] {
            let error = forgotten(words).unwrap_err();
            assert!(error.contains(why), "{words}: {error}");
        }
    }

    #[test]
    fn a_listing_has_a_bound_and_one_form() {
        let Ok(Gate::Verdicts(question)) = parsed("verdicts --within 192.0.2.0/24 --limit 10000 --jsonl")
        else {
            panic!("not taken");
        };
        assert_eq!((question.limit, question.jsonl), (10_000, true));
        assert_eq!(question.within, Some("192.0.2.0/24".parse().unwrap()));
        for words in ["verdicts --limit 0", "verdicts --limit 10001", "verdicts --json --jsonl"] {
            assert!(parsed(words).is_err(), "{words}");
        }
        assert!(parsed("test 203.0.113.9/32").is_err(), "one address at a time");
    }

    /// Answers one question after the other, and gives them back.
    struct Daemon {
        _dir: tempfile::TempDir,
        socket: PathBuf,
        thread: JoinHandle<Vec<Request>>,
    }

    impl Daemon {
        fn answering(replies: Vec<Reply>) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let socket = dir.path().join("control.sock");
            let listener = UnixListener::bind(&socket).unwrap();
            let thread = thread::spawn(move || {
                let answer = |reply| {
                    let (mut stream, _) = listener.accept().unwrap();
                    let mut header = [0; HEADER_BYTES];
                    stream.read_exact(&mut header).unwrap();
                    let mut body = vec![0; frame::body_length(header).unwrap()];
                    stream.read_exact(&mut body).unwrap();
                    stream.write_all(&frame::encode(&reply).unwrap()).unwrap();
                    frame::decode(&body).unwrap()
                };
                replies.into_iter().map(answer).collect()
            });
            Self { _dir: dir, socket, thread }
        }

        fn asked(self) -> Vec<Request> {
            self.thread.join().unwrap()
        }
    }

    fn printed(out: Vec<u8>) -> String {
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn b16_what_one_appliance_lists_another_takes_over() {
        let finding = Finding { port: 3128, outcome: PortOutcome::HttpProxy, until: UnixMillis(9) };
        let record = |client: &str| ClientRecord {
            client: client.parse().unwrap(),
            seen: UnixMillis(5),
            findings: vec![finding],
        };
        let records = vec![record("203.0.113.9"), record("2001:db8::9")];
        for form in ["--json", "--jsonl"] {
            let here = Daemon::answering(vec![Reply::GateVerdicts { records: records.clone(), clients: 9 }]);
            let words = format!("verdicts --limit 2 {form} --socket {}", here.socket.display());
            let Ok(Gate::Verdicts(question)) = parsed(&words) else { panic!("not taken: {words}") };
            let mut out = vec![];
            verdicts(&mut out, &question).unwrap();
            assert_eq!(here.asked(), [Request::GateVerdicts { within: None, limit: 2 }]);

            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &out).unwrap();
            let there = Daemon::answering(vec![Reply::GateLearned { clients: 1 }]);
            let mut out = vec![];
            take_over(&mut out, &there.socket, file.path()).unwrap();
            assert_eq!(printed(out), "1 of 2 clients were news\n");
            assert_eq!(there.asked(), [Request::GateLearn { records: records.clone() }]);
        }
    }

    #[test]
    fn to_forget_somebody_unknown_is_said_and_fails() {
        let forgotten = |within: Option<&str>, clients| {
            let within = within.map(|net| net.parse().unwrap());
            let daemon = Daemon::answering(vec![Reply::GateForgotten { clients }]);
            let mut out = vec![];
            let code = forget(&mut out, &daemon.socket, within).unwrap();
            assert_eq!(daemon.asked(), [Request::GateForget { within }]);
            (code, printed(out))
        };
        assert_eq!(forgotten(Some("203.0.113.9/32"), 0), (ExitCode::FAILURE, String::new()));
        assert_eq!(forgotten(Some("203.0.113.0/24"), 1), (ExitCode::SUCCESS, "1 client forgotten\n".into()));
        assert_eq!(forgotten(None, 0), (ExitCode::SUCCESS, "0 clients forgotten\n".into()));
    }

    #[test]
    fn a_test_ends_as_the_gate_would_decide() {
        let test = |ignored: Option<&str>, verdict| GateTest {
            gate: "web".into(),
            client: "203.0.113.9".parse().unwrap(),
            ignored: ignored.map(str::to_owned),
            ports: vec![],
            verdict,
            micros: 1,
        };
        let open = Verdict::Open { port: 22, outcome: PortOutcome::Open };
        assert_eq!(test_code(&test(None, open)), ExitCode::from(3));
        assert_eq!(test_code(&test(Some("on the ignore list"), open)), ExitCode::SUCCESS);
        assert_eq!(test_code(&test(None, Verdict::Clean)), ExitCode::SUCCESS);
    }
}
