//! Bounds on what strangers can make the program do, per span of time.

/// What is rationed over all CPUs; index into `BUDGETS`.
///
/// A budget is so much per [`Spent::WINDOW_NS`]. Windows are taken as they come, so a burst over the border of two may
/// be of both; CPUs that enter a window together may each grant one more.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Budget {
    /// Sources newly let into `SOURCES`: a flood of forged ones must not push the others out.
    Admissions,
    /// Challenges sent.
    Challenges,
    /// Events of sources that are not in `SOURCES`.
    Events,
    /// New keys in `PROBES` of sources that are not in `SOURCES`. A table that turns over faster than it is swept tells
    /// nothing, and forgets what it knew of others. Once they are spent, such sources are not looked at.
    Keys,
}

impl Budget {
    pub const ALL: &'static [Self] = &[Self::Admissions, Self::Challenges, Self::Events, Self::Keys];

    /// What a window allows: about 7 600, 15 200, 15 200 and 61 000 a second.
    #[inline]
    pub const fn per_window(self) -> u64 {
        match self {
            Self::Admissions => 128,
            Self::Challenges | Self::Events => 256,
            Self::Keys => 1024,
        }
    }
}

/// How much of a [`Budget`] is spent: 64 bytes, a cache line of its own.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Spent {
    /// Time in units of [`Self::WINDOW_NS`].
    pub window: u64,
    pub units: u64,
    pub reserved: [u64; 6],
}

impl Spent {
    /// 17 ms.
    pub const WINDOW_NS: u64 = 1 << 24;
}

/// A source that is being challenged: 40 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Source {
    /// Time in units of [`Self::WINDOW_NS`].
    pub window: u64,
    /// In this window.
    pub window_challenges: u32,
    pub window_events: u32,
    /// Since the entry was made, as the next.
    pub challenges: u64,
    /// Right answers; never more than challenges are counted.
    pub echoes: u64,
    /// RSTs without ACK that held no cookie of ours.
    pub wrong: u64,
}

impl Source {
    /// 1.07 s.
    pub const WINDOW_NS: u64 = 1 << 30;
    /// Challenges sent to one source in a window.
    pub const CHALLENGES_PER_WINDOW: u32 = 32;
    /// Events of one source in a window.
    pub const EVENTS_PER_WINDOW: u32 = 4096;
    /// Wrong answers looked at beyond as many as there were challenges. Each is a guess at one of 2³² cookies.
    pub const WRONG_SPARE: u64 = 8;
}

const _: () = {
    assert!(size_of::<Spent>() == 8 * 8);
    assert!(size_of::<Source>() == 8 + 2 * 4 + 3 * 8);
};

#[cfg(feature = "user")]
mod pod {
    // SAFETY: `repr(C)`, no padding (asserted above), made of integers only.
    unsafe impl aya::Pod for super::Source {}
}

#[cfg(test)]
mod tests {
    use super::Budget;

    #[test]
    fn every_budget_sits_at_its_own_index_and_grants_something() {
        for (index, budget) in Budget::ALL.iter().enumerate() {
            assert_eq!(*budget as usize, index);
            assert!(budget.per_window() > 0);
        }
    }
}
