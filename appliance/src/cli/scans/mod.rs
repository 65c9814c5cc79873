//! `glacis scans`: what was scanned, by whom, how often.

mod pages;
mod period;
mod person;
mod spreadsheet;

use super::client;
use super::commands::{CommandError, Outcome, odd};
use super::{Daemon, confirm};
use crate::words;
use clap::{Args, Subcommand};
use glacis_control::scan_query::{DayRange, PAGE_SIZES, ScanFilter};
use glacis_control::{Protocol, Reply, Request};
use pages::Pages;
use period::Period;
pub use period::PeriodError;
use serde::Serialize;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

/// Rows of a page unless told otherwise.
const PAGE_DEFAULT: u32 = PAGE_SIZES[0];
/// Rows that are asked for at a time when all are wanted.
const PAGE_LARGEST: u32 = PAGE_SIZES[PAGE_SIZES.len() - 1];

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_precedence_over_arg = true)]
pub struct Scans {
    #[command(subcommand)]
    question: Option<Question>,
    #[command(flatten)]
    summary: Asked,
}

#[derive(Subcommand)]
enum Question {
    /// Probes, ports and sources, beside the period before. The default.
    Summary(Asked),
    /// Probes and sources of each day.
    Trend(Asked),
    /// The sources with the most probes.
    Sources(AskedTop),
    /// The ports with the most probes.
    Ports(AskedTop),
    /// Single records: one per source, port, protocol and day, newest day first.
    Events(AskedEvents),
    /// Remove every scan record for good. Settings, blocks and happenings stay.
    Clear {
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        daemon: Daemon,
    },
}

#[derive(Args)]
struct Asked {
    #[command(flatten)]
    period: Period,
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Args)]
struct AskedTop {
    /// How many to show.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    limit: u32,
    #[command(flatten)]
    asked: Asked,
}

#[derive(Args)]
struct AskedEvents {
    /// Only sources with this in their address.
    #[arg(long, value_name = "PART", default_value = "", hide_default_value = true)]
    address: String,
    /// Only this port.
    #[arg(long)]
    port: Option<u16>,
    /// Only this protocol: tcp, udp or sctp.
    #[arg(long, value_parser = parse_protocol)]
    protocol: Option<Protocol>,
    /// Only sources with this in their country, region, city or provider.
    #[arg(long, value_name = "PART", default_value = "", hide_default_value = true)]
    location: String,
    /// Rows of a page: 20, 50 or 100.
    #[arg(long, default_value_t = PAGE_DEFAULT, value_parser = parse_page_size, conflicts_with = "all")]
    page_size: u32,
    /// The page that follows; the page before says how to ask for it.
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// All pages, one after the other.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    asked: Asked,
}

#[derive(Args)]
struct Machine {
    /// One JSON document.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Comma-separated values with a heading, as RFC 4180 has them.
    #[arg(long)]
    csv: bool,
}

fn parse_protocol(text: &str) -> Result<Protocol, String> {
    let known = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|p| p.to_string() == text);
    known.ok_or_else(|| format!("`{text}` is no protocol that is watched; write tcp, udp or sctp"))
}

fn parse_page_size(text: &str) -> Result<u32, String> {
    let size = text.parse().ok().filter(|size| PAGE_SIZES.contains(size));
    size.ok_or_else(|| format!("`{text}` is no size of a page; take 20, 50 or 100"))
}

/// Asks and prints the answer.
pub fn run(scans: Scans) -> Outcome {
    let out = &mut BufWriter::new(io::stdout().lock());
    match scans.question.unwrap_or(Question::Summary(scans.summary)) {
        Question::Summary(asked) => summary(out, &asked),
        Question::Trend(asked) => trend(out, &asked),
        Question::Sources(AskedTop { limit, asked }) => sources(out, &asked, limit),
        Question::Ports(AskedTop { limit, asked }) => ports(out, &asked, limit),
        Question::Events(asked) => events(out, asked),
        Question::Clear { yes, daemon } => return clear(&daemon.socket, yes),
    }?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// For a person.
    Table,
    Json,
    Csv,
}

impl Asked {
    fn days(&self) -> Result<DayRange, PeriodError> {
        self.period.range()
    }

    fn ask(&self, request: &Request) -> Result<Reply, CommandError> {
        Ok(client::ask(&self.daemon.socket, request)?)
    }

    fn form(&self) -> Form {
        match (self.machine.json, self.machine.csv) {
            (true, _) => Form::Json,
            (_, true) => Form::Csv,
            _ => Form::Table,
        }
    }
}

fn summary(out: &mut impl Write, asked: &Asked) -> Result<(), CommandError> {
    let summary = match asked.ask(&Request::ScanSummary { days: asked.days()? })? {
        Reply::ScanSummary { summary } => summary,
        reply => return Err(odd(reply)),
    };
    match asked.form() {
        Form::Table => Ok(person::summary(out, &summary)?),
        Form::Json => json(out, &summary),
        Form::Csv => Ok(spreadsheet::summary(out, &summary)?),
    }
}

fn trend(out: &mut impl Write, asked: &Asked) -> Result<(), CommandError> {
    let days = match asked.ask(&Request::ScanTrend { days: asked.days()? })? {
        Reply::ScanTrend { days } => days,
        reply => return Err(odd(reply)),
    };
    match asked.form() {
        Form::Table => Ok(person::trend(out, &days)?),
        Form::Json => json(out, &days),
        Form::Csv => Ok(spreadsheet::trend(out, &days)?),
    }
}

fn sources(out: &mut impl Write, asked: &Asked, limit: u32) -> Result<(), CommandError> {
    let sources = match asked.ask(&Request::ScanSources { days: asked.days()?, limit })? {
        Reply::ScanSources { sources } => sources,
        reply => return Err(odd(reply)),
    };
    match asked.form() {
        Form::Table => Ok(person::sources(out, &sources)?),
        Form::Json => json(out, &sources),
        Form::Csv => Ok(spreadsheet::sources(out, &sources)?),
    }
}

fn ports(out: &mut impl Write, asked: &Asked, limit: u32) -> Result<(), CommandError> {
    let ports = match asked.ask(&Request::ScanPorts { days: asked.days()?, limit })? {
        Reply::ScanPorts { ports } => ports,
        reply => return Err(odd(reply)),
    };
    match asked.form() {
        Form::Table => Ok(person::ports(out, &ports)?),
        Form::Json => json(out, &ports),
        Form::Csv => Ok(spreadsheet::ports(out, &ports)?),
    }
}

/// One page, or all of them as they come.
fn events(out: &mut impl Write, question: AskedEvents) -> Result<(), CommandError> {
    let AskedEvents { address, port, protocol, location, page_size, mut after, all, asked } = question;
    let filter = ScanFilter { days: asked.days()?, address, port, protocol, location };
    let limit = if all { PAGE_LARGEST } else { page_size };
    let mut pages = Pages::begin(out, asked.form());
    loop {
        let request = Request::ScanRecords { filter: filter.clone(), after, limit };
        let page = match asked.ask(&request)? {
            Reply::ScanRecords { page } => page,
            reply => return Err(odd(reply)),
        };
        pages.add(&page.rows)?;
        if !all || page.next.is_none() {
            return pages.finish(page.next.as_deref(), page.complete);
        }
        after = page.next;
    }
}

fn clear(socket: &Path, yes: bool) -> Outcome {
    if !yes {
        let records = match client::ask(socket, &Request::Status)? {
            Reply::Status { report } => report.store.scan_records,
            reply => return Err(odd(reply)),
        };
        let records = words::counted(records, "scan record", "scan records");
        let question = format!("This removes {records} for good. Settings and blocks stay.");
        if !confirm::asked(&question)?.ok_or(CommandError::NobodyToAsk { instead: "--yes" })? {
            eprintln!("glacis: nothing was removed");
            return Ok(ExitCode::FAILURE);
        }
    }
    match client::ask(socket, &Request::ScanClear)? {
        Reply::ScansCleared { records } => {
            println!("{} removed", words::counted(records, "scan record", "scan records"));
            Ok(ExitCode::SUCCESS)
        }
        reply => Err(odd(reply)),
    }
}

fn json(out: &mut impl Write, answer: &impl Serialize) -> Result<(), CommandError> {
    serde_json::to_writer_pretty(&mut *out, answer)?;
    Ok(writeln!(out)?)
}
