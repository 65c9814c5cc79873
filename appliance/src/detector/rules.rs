//! What makes a source a scanner: limits over rolling windows, and how much of what was seen counts.

use super::window::Window;
use glacis_control::ScanShape;
use glacis_plan::{AutoBlock, EvidenceRule, Shapes, SourceGroup};
use ipnet::IpNet;
use std::net::IpAddr;
use std::time::Duration;

/// Rules that can hold at once: vertical, horizontal, slow, volume.
pub(super) const RULES_MAX: usize = 4;
/// Hits that one answered challenge vouches for. A block on the evidence of `n` hits takes `n / 16` answers, so whoever
/// touched one closed port honestly is not blocked for what others forge in his name.
const VOUCHED_HITS: u64 = 16;
/// Distinct ports and addresses that are told as evidence, where no limit asks for more.
const EVIDENCE_MAX: usize = 256;

/// One limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub shape: ScanShape,
    pub count: u64,
    pub window: Window,
}

/// Every limit of a policy, most telling first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rules {
    /// At most [`RULES_MAX`].
    list: Vec<Rule>,
    evidence: EvidenceRule,
    group: SourceGroup,
}

impl Rules {
    pub fn new(block: &AutoBlock, shapes: Shapes) -> Self {
        let shaped = [
            (ScanShape::Vertical, shapes.vertical),
            (ScanShape::Horizontal, shapes.horizontal),
            (ScanShape::Slow, shapes.slow),
        ];
        let mut list: Vec<Rule> = shaped
            .into_iter()
            .filter_map(|(shape, limit)| limit.map(|limit| (shape, limit)))
            .map(|(shape, limit)| Rule {
                shape,
                count: limit.count.into(),
                window: Window::new(limit.within),
            })
            .collect();
        let (count, window) = (block.threshold.into(), Window::new(block.window));
        list.push(Rule { shape: ScanShape::Volume, count, window });
        Self { list, evidence: block.evidence, group: block.group }
    }

    /// In the order in which they are asked.
    pub fn iter(&self) -> impl Iterator<Item = (usize, Rule)> {
        self.list.iter().copied().enumerate()
    }

    /// Whether what was counted under these rules means the same under others.
    pub fn count_alike(&self, other: &Self) -> bool {
        let spans =
            |rules: &Self| rules.list.iter().map(|rule| (rule.shape, rule.window)).collect::<Vec<_>>();
        self.group == other.group && spans(self) == spans(other)
    }

    pub fn longest(&self) -> Window {
        self.list.iter().map(|rule| rule.window).max().unwrap_or(Window::new(Duration::ZERO))
    }

    /// How much counts of what was seen, given the echoes within the same window.
    pub fn vouched(&self, seen: u64, echoes: u64) -> u64 {
        match self.evidence {
            EvidenceRule::Any => seen,
            EvidenceRule::SpoofProof => seen.min(echoes.saturating_mul(VOUCHED_HITS)),
        }
    }

    /// Distinct ports to keep per source.
    pub fn ports_max(&self) -> usize {
        self.most(&[ScanShape::Vertical, ScanShape::Slow])
    }

    /// Distinct addresses of ours to keep per source.
    pub fn hosts_max(&self) -> usize {
        self.most(&[ScanShape::Horizontal])
    }

    fn most(&self, shapes: &[ScanShape]) -> usize {
        let asked = self.list.iter().filter(|rule| shapes.contains(&rule.shape));
        asked.map(|rule| rule.count as usize).fold(EVIDENCE_MAX, usize::max)
    }

    /// The prefix by which an address is counted.
    pub fn group_of(&self, address: IpAddr) -> IpNet {
        let bits = match address {
            IpAddr::V4(_) => self.group.v4.min(32),
            IpAddr::V6(_) => self.group.v6.min(128),
        };
        IpNet::new(address, bits).expect("the prefix length is within the family's").trunc()
    }
}
