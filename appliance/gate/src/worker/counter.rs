//! What becomes of connections, counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// Declares the counters once: the enum, its order and its names.
macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What is counted of a gate's connections.
        ///
        /// Every connection counts as [`Accepted`](Self::Accepted) and, at its end, under exactly one of the ends, which
        /// come up to [`GateCounter::LAST_END`]. Those behind it tell what happened on the way.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum GateCounter { $($(#[$doc])* $variant,)* }

        impl GateCounter {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// As in the status and in metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

counters! {
    Accepted = "accepted",

    /// Relayed until both sides had said all.
    Relayed = "relayed",
    /// Relayed until nothing passed for too long.
    Idle = "idle",
    /// Relayed until the client broke the connection.
    ClientBroke = "client-broke",
    /// Relayed until the backend broke the connection.
    BackendBroke = "backend-broke",
    /// Refused for an open port.
    Denied = "denied",
    /// Refused because there was no budget to look at the client, or no place to wait for the look.
    RefusedBudget = "refused-budget",
    /// Refused because an error of ours kept us from looking at the client.
    RefusedTrouble = "refused-trouble",
    /// The client is banned.
    Banned = "banned",
    /// It brought the proof that somebody is a proxy.
    Proof = "proof",
    /// The client left before it was led to a backend.
    Left = "left",
    /// Let go because as many connections are open as descriptors allow.
    Full = "full",
    /// Let go because too many of this client wait for its verdict.
    WaitingFull = "waiting-full",
    /// From somebody who is none of the gate's fronts.
    Stranger = "stranger",
    /// From a front, for itself: a check whether the gate is there.
    FrontCheck = "front-check",
    /// The front did not say in time whose connection it is.
    HeaderSilent = "header-silent",
    /// What the front said is no PROXY header.
    HeaderWrong = "header-wrong",
    /// The client did not send its first TLS message in time.
    HelloSilent = "hello-silent",
    /// What the client sent is no TLS hello that could be led anywhere.
    HelloWrong = "hello-wrong",
    /// The client asked for a name that leads nowhere.
    NoRoute = "no-route",
    /// No backend is in service.
    NoBackend = "no-backend",
    /// None of the backends that were tried took the connection.
    BackendFailed = "backend-failed",
    /// The gate was taken out of the policy while the connection waited.
    GateRemoved = "gate-removed",
    /// An error of ours in leading the connection on.
    Trouble = "trouble",

    /// Admitted without a look: ignored, private or of this host.
    Exempt = "exempt",
    /// The client's verdict was known.
    Known = "known",
    /// The client was being looked at already.
    Joined = "joined",
    /// Looks begun, one for all connections of a client that wait for it.
    Looks = "looks",
    /// Looks that an error of ours spoilt.
    LooksFailed = "looks-failed",
    /// Connections for whom there was no budget, or no place to wait, whatever became of them.
    BudgetSpent = "budget-spent",
    /// Connections whose client has an open port, admitted because the gate only detects.
    Detected = "detected",
    /// Times that no connection was accepted for a moment, because there were no descriptors.
    AcceptPaused = "accept-paused",
    /// Verdicts that the core was not told, because it did not keep up.
    JudgedLost = "judged-lost",
}

impl GateCounter {
    /// Of those in [`Self::ALL`] behind [`Self::Accepted`], the last that is an end of a connection.
    pub const LAST_END: Self = Self::Trouble;

    /// Whether it tells of a connection's end.
    pub fn is_end(self) -> bool {
        self > Self::Accepted && self <= Self::LAST_END
    }
}

const COUNTERS: usize = GateCounter::ALL.len();

/// The counters of one gate. Each thread has a line of its own, so that counting moves no memory between processors.
#[derive(Debug)]
pub struct Counters {
    threads: Vec<Line>,
}

#[derive(Debug)]
#[repr(align(128))]
struct Line([AtomicU64; COUNTERS]);

impl Counters {
    pub fn new(threads: usize) -> Self {
        Self { threads: (0..threads).map(|_| Line([const { AtomicU64::new(0) }; COUNTERS])).collect() }
    }

    pub fn add(&self, thread: usize, counter: GateCounter) {
        self.threads[thread].0[counter as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn total(&self, counter: GateCounter) -> u64 {
        self.threads.iter().map(|line| line.0[counter as usize].load(Ordering::Relaxed)).sum()
    }

    /// By name, in the order of [`GateCounter::ALL`].
    pub fn named(&self) -> Vec<(String, u64)> {
        GateCounter::ALL.iter().map(|counter| (counter.name().to_owned(), self.total(*counter))).collect()
    }
}
