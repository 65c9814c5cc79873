//! What each command does.

use super::client::{self, AskError};
use super::gate::LearnError;
use super::scans::PeriodError;
use super::{confirm, output};
use crate::policy_file::{self, PolicyFileError};
use crate::words;
use glacis_control::{Reply, Request};
use glacis_image::ImageError;
use glacis_plan::nft::{Inventory, text};
use glacis_plan::{Changes, Observed};
use ipnet::IpNet;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Policy(#[from] PolicyFileError),
    #[error("the daemon answered something else than was asked: {0:?}; are both sides of the same version?")]
    OddReply(Box<Reply>),
    #[error("cannot find this binary's own file to pack: {0}. Name it with --binary")]
    OwnBinary(io::Error),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("cannot print: {0}")]
    Csv(#[from] csv::Error),
    #[error("cannot print or ask: {0}")]
    Terminal(#[from] io::Error),
    #[error(transparent)]
    Period(#[from] PeriodError),
    #[error(transparent)]
    Learn(#[from] LearnError),
    #[error(
        "this asks first, and nobody can be asked without a terminal; to do it all the same, add {instead}"
    )]
    NobodyToAsk { instead: &'static str },
    #[error("{source_net} is {why}; to block it all the same, add --force")]
    NeverBlocked { source_net: IpNet, why: String },
}

pub type Outcome = Result<ExitCode, CommandError>;

pub fn odd(reply: Reply) -> CommandError {
    CommandError::OddReply(Box::new(reply))
}

pub fn check(file: &Path) -> Outcome {
    let checked = policy_file::check(file)?;
    for warning in &checked.warnings {
        eprintln!("warning: {warning}");
    }
    let rules: usize =
        checked.plan.ruleset.tables.iter().flat_map(|t| &t.chains).map(|c| c.rules.len()).sum();
    println!("{}: {} expectations hold, {rules} kernel rules", file.display(), checked.policy.expects.len());
    Ok(ExitCode::SUCCESS)
}

pub fn plan_offline(file: &Path, nft: bool) -> Outcome {
    let checked = policy_file::check(file)?;
    if nft {
        print!("{}", text::render(&checked.plan.ruleset));
        return Ok(ExitCode::SUCCESS);
    }
    let changes = Changes::between(&checked.plan, &Observed::default(), &Inventory::default());
    let lines = glacis_plan::describe(&changes, None, &checked.plan);
    output::changes(&lines, &checked.warnings);
    Ok(ExitCode::SUCCESS)
}

pub fn plan(socket: &Path, file: &Path, nft: bool) -> Outcome {
    let policy = policy_file::read_text(file)?;
    match client::ask(socket, &Request::Plan { policy, file: absolute(file) })? {
        Reply::Plan { nft: ruleset, .. } if nft => print!("{ruleset}"),
        Reply::Plan { changes, warnings, .. } => output::changes(&changes, &warnings),
        reply => return Err(odd(reply)),
    }
    Ok(ExitCode::SUCCESS)
}

pub fn apply(socket: &Path, file: Option<&Path>) -> Outcome {
    let request = match file {
        Some(file) => Request::Apply { policy: policy_file::read_text(file)?, file: absolute(file) },
        None => Request::Reload,
    };
    match client::ask(socket, &request)? {
        Reply::Applied { revision, changes, warnings } => {
            output::changes(&changes, &warnings);
            println!("applied as revision {revision}");
            Ok(ExitCode::SUCCESS)
        }
        reply => Err(odd(reply)),
    }
}

pub fn status(socket: &Path, json: bool) -> Outcome {
    match client::ask(socket, &Request::Status)? {
        Reply::Status { report } if json => println!("{}", serde_json::to_string_pretty(&report)?),
        Reply::Status { report } => output::status(&report),
        reply => return Err(odd(reply)),
    }
    Ok(ExitCode::SUCCESS)
}

pub fn events(socket: &Path, limit: u32, json: bool) -> Outcome {
    match client::ask(socket, &Request::Events { limit })? {
        Reply::Events { events } if json => println!("{}", serde_json::to_string_pretty(&events)?),
        Reply::Events { events } => output::events(&events),
        reply => return Err(odd(reply)),
    }
    Ok(ExitCode::SUCCESS)
}

pub fn blocks(socket: &Path, json: bool) -> Outcome {
    match client::ask(socket, &Request::Blocks)? {
        Reply::Blocks { bans } if json => println!("{}", serde_json::to_string_pretty(&bans)?),
        Reply::Blocks { bans } => output::bans(&bans),
        reply => return Err(odd(reply)),
    }
    Ok(ExitCode::SUCCESS)
}

pub fn block(socket: &Path, source: IpNet, duration: Option<Duration>, note: &str, force: bool) -> Outcome {
    let own = ssh_client().is_some_and(|address| source.contains(&address));
    let mut force = force;
    if own && !force {
        force = block_all_the_same(source, "the address that you are connected from")?;
        if !force {
            return Ok(not_blocked());
        }
    }
    loop {
        match client::ask(socket, &Request::Block { source, duration, note: note.to_owned(), force })? {
            Reply::Blocked { ban } => {
                output::bans(&[ban]);
                return Ok(ExitCode::SUCCESS);
            }
            Reply::Confirm { why } if !force => {
                force = block_all_the_same(source, &why)?;
                if !force {
                    return Ok(not_blocked());
                }
            }
            reply => return Err(odd(reply)),
        }
    }
}

/// Asks, or says that it takes `--force` where nobody can be asked.
fn block_all_the_same(source: IpNet, why: &str) -> Result<bool, CommandError> {
    let question = format!("{} is {why}. Block it all the same?", words::source(source));
    confirm::asked(&question)?
        .ok_or_else(|| CommandError::NeverBlocked { source_net: source, why: why.to_owned() })
}

fn not_blocked() -> ExitCode {
    eprintln!("glacis: nothing was blocked");
    ExitCode::FAILURE
}

/// Where the operator sits, if this command runs in an OpenSSH session: `SSH_CONNECTION` is the client's address and
/// port, then the server's.
fn ssh_client() -> Option<IpAddr> {
    std::env::var("SSH_CONNECTION").ok()?.split(' ').next()?.parse().ok()
}

pub fn unblock(socket: &Path, source: IpNet) -> Outcome {
    match client::ask(socket, &Request::Unblock { source })? {
        Reply::Unblocked { was_blocked: true } => {
            println!("{source} is no longer blocked");
            Ok(ExitCode::SUCCESS)
        }
        Reply::Unblocked { was_blocked: false } => {
            eprintln!("glacis: {source} was not blocked; `glacis blocks` lists what is");
            Ok(ExitCode::FAILURE)
        }
        reply => Err(odd(reply)),
    }
}

pub fn build_image(policy: &Path, output: &Path, binary: Option<PathBuf>, cmdline: &str) -> Outcome {
    policy_file::check(policy)?;
    let text = policy_file::read_text(policy)?;
    let binary = match binary {
        Some(binary) => binary,
        None => std::env::current_exe().map_err(CommandError::OwnBinary)?,
    };
    crate::image_build::build(&binary, &text, output, cmdline)?;
    Ok(ExitCode::SUCCESS)
}

/// The daemon may run in another folder.
fn absolute(file: &Path) -> String {
    std::path::absolute(file).unwrap_or_else(|_| file.to_owned()).display().to_string()
}
