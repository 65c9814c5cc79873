//! Answers what command lines ask.

use super::control_socket::{Asked, refused};
use super::scans::Question;
use super::{Daemon, now};
use glacis_control::report::PolicySource;
use glacis_control::{Reply, Request};
use glacis_plan::nft::text;

/// Most events in one reply.
const EVENTS_MAX: u32 = 10_000;

impl Daemon {
    pub(super) async fn answer(&mut self, asked: Asked) {
        let Asked { request, author, reply } = asked;
        let answer = match request {
            Request::Status => Reply::Status { report: Box::new(self.report().await) },
            Request::Events { limit } => self.events(limit),
            Request::Blocks => Reply::Blocks { bans: self.bans.listed() },
            Request::Block { source, duration, note, force } => {
                self.block(source, duration, note, author, force).await
            }
            Request::Unblock { source } => self.unblock(source, author).await,
            Request::Plan { policy, file } => self.plan(&file, policy).await,
            Request::Apply { policy, file } => self.apply(&file, policy).await,
            Request::ScanSummary { days } => return self.answer_aside(Question::Summary(days), reply),
            Request::ScanTrend { days } => return self.answer_aside(Question::Trend(days), reply),
            Request::ScanSources { days, limit } => {
                return self.answer_aside(Question::Sources(days, limit), reply);
            }
            Request::ScanPorts { days, limit } => {
                return self.answer_aside(Question::Ports(days, limit), reply);
            }
            Request::ScanRecords { filter, after, limit } => {
                return self.answer_aside(Question::Records { filter, after, limit }, reply);
            }
            Request::ScanClear => return self.clear_scans(author, reply),
            Request::GateVerdicts { within, limit } => self.gate_verdicts(within, limit),
            Request::GateForget { within } => self.gate_forget(within, author).await,
            Request::GateTest { gate, client } => return self.gate_test(gate, client, reply),
            Request::GateLearn { records } => self.gate_learn(records).await,
            Request::Reload => match self.reload().await {
                Ok(done) => {
                    Reply::Applied { revision: done.revision, changes: done.changes, warnings: done.warnings }
                }
                Err(refusal) => Reply::Refused { refusal },
            },
        };
        // A command line that left does not wait for its answer.
        let _ = reply.send(answer);
    }

    fn events(&self, limit: u32) -> Reply {
        match self.store.events(limit.min(EVENTS_MAX) as usize) {
            Ok(events) => Reply::Events { events },
            Err(error) => refused(format!("the events could not be read: {error}")),
        }
    }

    async fn plan(&mut self, file: &str, policy: String) -> Reply {
        let checked = match self.compile(file, policy.into_bytes()).await {
            Ok(checked) => checked,
            Err(error) => {
                return Reply::Refused {
                    refusal: glacis_control::Refusal { message: error.summary(), detail: error.detail() },
                };
            }
        };
        match self.compare(&checked.plan).await {
            Ok((_, changes)) => {
                Reply::Plan { changes, warnings: checked.warnings, nft: text::render(&checked.plan.ruleset) }
            }
            Err(refusal) => Reply::Refused { refusal },
        }
    }

    async fn apply(&mut self, file: &str, policy: String) -> Reply {
        let own = std::path::absolute(&self.args.policy).is_ok_and(|own| own.display().to_string() == file);
        let source = if own { PolicySource::File } else { PolicySource::Command };
        match self.apply_text(file, policy.into_bytes(), source).await {
            Ok(done) => {
                Reply::Applied { revision: done.revision, changes: done.changes, warnings: done.warnings }
            }
            Err(refusal) => Reply::Refused { refusal },
        }
    }

    /// Bans in force, with the time that each has left.
    pub(super) fn bans_with_time_left(&self) -> Vec<(ipnet::IpNet, Option<std::time::Duration>)> {
        let now = now();
        self.bans.iter().filter(|ban| !ban.is_over(now)).map(|ban| (ban.source, ban.remaining(now))).collect()
    }
}
