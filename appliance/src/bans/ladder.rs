//! How long a block lasts: longer for sources that come back, until that is forgiven.

use glacis_control::{Offences, UnixMillis};
use glacis_plan::{AutoBlock, Ladder};
use ipnet::IpNet;

/// What the next block of a source comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sentence {
    /// End of the block; `None`: permanent.
    pub until: Option<UnixMillis>,
    /// Blocks before this one that are not forgiven.
    pub earlier_blocks: u32,
    /// What is to be remembered of the source; `None` without a ladder.
    pub offences: Option<Offences>,
}

/// The next block of a source, given what is remembered of it.
pub fn sentence(block: &AutoBlock, source: IpNet, earlier: Option<&Offences>, now: UnixMillis) -> Sentence {
    let end = |duration: Option<_>| duration.map(|span| now.plus(span));
    let Some(ladder) = &block.ladder else {
        return Sentence { until: end(block.duration), earlier_blocks: 0, offences: None };
    };
    let earlier_blocks =
        earlier.filter(|offences| !is_forgiven(offences, ladder, now)).map_or(0, |offences| offences.count);
    let step = ladder.steps.get(earlier_blocks as usize).or(ladder.steps.last());
    let until = end(*step.expect("a ladder has at least one step"));
    let offences = Offences { source, count: earlier_blocks.saturating_add(1), until };
    Sentence { until, earlier_blocks, offences: Some(offences) }
}

/// Whether offences need not be remembered any more: the newest block has been over for long enough. One that has no
/// end is never over.
pub fn is_forgiven(offences: &Offences, ladder: &Ladder, now: UnixMillis) -> bool {
    offences.until.is_some_and(|until| until.plus(ladder.forgive) <= now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use glacis_plan::{AutoBlockMode, EstablishedFlows, EvidenceRule, SourceGroup};
    use std::time::Duration;

    const HOUR_MS: u64 = 3_600_000;
    const NOW: UnixMillis = UnixMillis(1_000 * HOUR_MS);

    fn hours(hours: u64) -> Duration {
        Duration::from_secs(hours * 3_600)
    }

    fn block(steps: Option<Vec<Option<Duration>>>) -> AutoBlock {
        AutoBlock {
            mode: AutoBlockMode::Enforce,
            evidence: EvidenceRule::SpoofProof,
            threshold: 100,
            window: hours(1),
            duration: Some(hours(5)),
            ladder: steps.map(|steps| Ladder { steps, forgive: hours(48) }),
            group: SourceGroup::default(),
            never: vec![],
            established: EstablishedFlows::Drop,
        }
    }

    fn source() -> IpNet {
        "192.0.2.1/32".parse().expect("a prefix")
    }

    /// Ends of the blocks of a source that comes back as soon as the one before is over.
    fn climb(block: &AutoBlock, times: usize) -> Vec<Option<u64>> {
        let (mut now, mut earlier, mut spans) = (NOW, None, vec![]);
        for count in 0..times {
            let sentence = sentence(block, source(), earlier.as_ref(), now);
            assert_eq!(sentence.earlier_blocks as usize, if block.ladder.is_some() { count } else { 0 });
            spans.push(sentence.until.map(|until| (until.0 - now.0) / HOUR_MS));
            now = sentence.until.unwrap_or(now);
            earlier = sentence.offences;
        }
        spans
    }

    #[test]
    fn a31_each_block_is_a_step_and_the_last_one_stays() {
        let steps = vec![Some(hours(1)), Some(hours(24)), Some(hours(168))];
        assert_eq!(climb(&block(Some(steps)), 5), [Some(1), Some(24), Some(168), Some(168), Some(168)]);
        assert_eq!(climb(&block(Some(vec![Some(hours(1)), None])), 3), [Some(1), None, None]);
        assert_eq!(climb(&block(None), 3), [Some(5), Some(5), Some(5)], "off: every block is the same");
    }

    #[test]
    fn a31_offences_are_forgiven_when_the_block_was_over_for_long_enough() {
        let block = block(Some(vec![Some(hours(1)), Some(hours(24))]));
        let ended = |hours_ago: u64, less_ms: u64| Offences {
            source: source(),
            count: 7,
            until: Some(UnixMillis(NOW.0 - hours_ago * HOUR_MS + less_ms)),
        };
        let earlier = |offences: Offences| sentence(&block, source(), Some(&offences), NOW).earlier_blocks;
        assert_eq!((earlier(ended(48, 0)), earlier(ended(48, 1)), earlier(ended(0, 5))), (0, 7, 7));
        let permanent = Offences { source: source(), count: 2, until: None };
        assert_eq!(earlier(permanent), 2);
        let most = Offences { source: source(), count: u32::MAX, until: None };
        assert_eq!(sentence(&block, source(), Some(&most), NOW).offences.map(|o| o.count), Some(u32::MAX));
    }
}
