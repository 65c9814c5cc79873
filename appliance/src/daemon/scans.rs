//! Answers questions about scans. They are read aside, so that a slow one never delays a block.

use super::control_socket::refused;
use super::{Daemon, now};
use crate::storage::READINGS_MAX;
use glacis_control::Reply;
use glacis_control::scan_query::{DayRange, PAGE_SIZES, ScanFilter};
use glacis_store::{StoreError, StoreReader};
use tokio::sync::oneshot;

/// Most rows of a top.
const TOP_MAX: u32 = 100;
/// Most rows of a page.
const PAGE_MAX: u32 = PAGE_SIZES[PAGE_SIZES.len() - 1];
/// Longest part of an address or a location that is searched for, in bytes.
const PART_BYTES_MAX: usize = 100;

/// What is asked of the store.
pub(super) enum Question {
    Summary(DayRange),
    Trend(DayRange),
    Sources(DayRange, u32),
    Ports(DayRange, u32),
    Records { filter: ScanFilter, after: Option<String>, limit: u32 },
}

impl Question {
    /// What is wrong with it. A request is bytes of someone else: its fields went through no constructor.
    fn fault(&self) -> Option<String> {
        let days = match self {
            Self::Summary(days) | Self::Trend(days) | Self::Sources(days, _) | Self::Ports(days, _) => days,
            Self::Records { filter, .. } => &filter.days,
        };
        if DayRange::new(days.first, days.last).is_none() {
            return Some("a range of days is not empty and has at most 365 days".into());
        }
        match self {
            Self::Sources(_, limit) | Self::Ports(_, limit) if !(1..=TOP_MAX).contains(limit) => {
                Some(format!("a top has 1 to {TOP_MAX} rows"))
            }
            Self::Records { limit, .. } if !(1..=PAGE_MAX).contains(limit) => {
                Some(format!("a page has 1 to {PAGE_MAX} rows"))
            }
            Self::Records { filter, .. }
                if filter.address.len().max(filter.location.len()) > PART_BYTES_MAX =>
            {
                Some(format!("an address or a location has at most {PART_BYTES_MAX} bytes"))
            }
            _ => None,
        }
    }

    fn answer(&self, store: &StoreReader) -> Reply {
        self.read(store).unwrap_or_else(|error| refused(format!("the scans could not be read: {error}")))
    }

    fn read(&self, store: &StoreReader) -> Result<Reply, StoreError> {
        Ok(match self {
            Self::Summary(days) => Reply::ScanSummary { summary: store.summary(*days)? },
            Self::Trend(days) => Reply::ScanTrend { days: store.trend(*days)? },
            Self::Sources(days, n) => Reply::ScanSources { sources: store.top_sources(*days, *n as usize)? },
            Self::Ports(days, n) => Reply::ScanPorts { ports: store.top_ports(*days, *n as usize)? },
            Self::Records { filter, after, limit } => {
                Reply::ScanRecords { page: store.page(filter, after.as_deref(), *limit as usize)? }
            }
        })
    }
}

impl Daemon {
    /// Answers later, from another thread. A command line that left does not wait for its answer.
    pub(super) fn answer_aside(&self, question: Question, reply: oneshot::Sender<Reply>) {
        if let Some(fault) = question.fault() {
            let _ = reply.send(refused(fault));
            return;
        }
        match self.store.reading() {
            Some(reading) => reading.run(move |store| {
                let _ = reply.send(question.answer(store));
            }),
            None => {
                let _ = reply.send(refused(format!(
                    "{READINGS_MAX} questions about scans are being answered already; ask again in a moment"
                )));
            }
        }
    }

    /// Removes all scan records. What the detector has in its windows stays: clearing lets no scanner off.
    pub(super) fn clear_scans(&self, author: String, reply: oneshot::Sender<Reply>) {
        let cleared = self.store.clear_scans(author, now());
        tokio::spawn(async move {
            let _ = reply.send(match cleared.await {
                Ok(records) => Reply::ScansCleared { records },
                Err(error) => refused(format!("the scan records could not be removed: {error}")),
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glacis_control::Day;
    use glacis_control::scan_query::DAYS_MAX;

    #[test]
    fn questions_out_of_bounds_are_refused() {
        let days = DayRange::ending(Day(20_000), 7);
        let page = |address: &str, limit| Question::Records {
            filter: ScanFilter { address: address.into(), ..ScanFilter::all(days) },
            after: None,
            limit,
        };
        for good in
            [Question::Summary(days), Question::Sources(days, 1), Question::Ports(days, 100), page("", 20)]
        {
            assert_eq!(good.fault(), None);
        }
        // As JSON can say it, past the constructor.
        let backwards = DayRange { first: Day(2), last: Day(1) };
        let long = DayRange { first: Day(0), last: Day(DAYS_MAX) };
        for bad in [
            Question::Summary(backwards),
            Question::Trend(long),
            Question::Records { filter: ScanFilter::all(long), after: None, limit: 20 },
            Question::Sources(days, 0),
            Question::Ports(days, 101),
            page("", 101),
            page(&"1".repeat(101), 20),
        ] {
            assert!(bad.fault().is_some());
        }
    }
}
