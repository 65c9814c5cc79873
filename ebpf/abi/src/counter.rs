//! What the program counts, one number per CPU.

/// Declares the counters with their public names, in map order.
macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// Index into the per-CPU counter map.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Counter {
            $($(#[$doc])* $variant,)+
        }

        impl Counter {
            /// Every counter, in map order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in metrics and in JSON.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

counters! {
    /// Every packet that came in.
    Packets = "packets",
    /// Packets of banned sources, dropped; forwarded ones too.
    BanDrops = "ban_drops",
    /// TCP packets to this host that ask for a connection: SYN without ACK.
    Syns = "syns",
    /// TCP packets to this host that would be stealth probes if they belonged to nothing.
    StealthLooks = "stealth_looks",
    /// UDP packets to this host that are no replies.
    Datagrams = "datagrams",
    /// SCTP packets to this host that ask for an association.
    Inits = "inits",
    /// UDP packets from a port that replies come from; never counted as probes.
    UdpReplies = "udp_replies",
    /// Packets that answer a flow of ours; never counted as probes.
    FlowReplies = "flow_replies",
    /// Probes of a port that a socket serves or that the policy exposes.
    Open = "open",
    /// Probes that this host routes onwards instead of receiving.
    Forwarded = "forwarded",
    /// SYN and ACK, or RST, that nobody waits for: answers to packets that others forged in our name.
    Backscatter = "backscatter",
    /// Probes of a closed port of this host.
    Probes = "probes",
    /// Those of them that came from a banned source.
    BannedProbes = "banned_probes",
    /// Source, port and protocol combinations not seen before, or seen again after eviction.
    NewKeys = "new_keys",
    /// Probes that found no slot in the table, or whose source had none made for it because too many unknown ones came
    /// at once: they are in `probes` and, if that, in an event of one hit.
    ProbesLost = "probes_lost",
    /// Packets of unknown sources not looked at while a flood of such lasted. Each would have been a probe, if nothing
    /// explained it; they are in no other counter of probes.
    ProbesShed = "probes_shed",
    /// Events written to a ring.
    Events = "events",
    /// Events that found the ring full; the next event of the key or a sweep makes up for them.
    EventsLost = "events_lost",
    /// Events not written because their source, or all sources that are not being challenged, had enough of them
    /// for the moment; made up for as above.
    EventsOverBudget = "events_over_budget",
    /// Challenges sent.
    Challenges = "challenges",
    /// Challenges not sent, because the source or all sources had enough of them for the moment.
    ChallengesOverBudget = "challenges_over_budget",
    /// Challenges that could not be made of the packet that came, or not be sent.
    ChallengesUnsent = "challenges_unsent",
    /// Challenges that came back.
    Echoes = "echoes",
    /// RSTs of challenged sources that held no cookie of ours.
    EchoesWrong = "echoes_wrong",
    /// RSTs of challenged sources not looked at, because too many were wrong before.
    EchoesRefused = "echoes_refused",
    /// Flows out of this host newly remembered.
    Flows = "flows",
    /// Fragments after the first: they carry no ports.
    LaterFragments = "later_fragments",
    /// Packets cut short, or with more extension headers than are followed.
    Malformed = "malformed",
}

#[cfg(test)]
mod tests {
    use super::Counter;

    #[test]
    fn every_counter_sits_at_its_own_index() {
        for (index, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, index);
        }
    }

    #[test]
    fn names_are_unique() {
        for (index, counter) in Counter::ALL.iter().enumerate() {
            assert!(Counter::ALL[..index].iter().all(|other| other.name() != counter.name()));
        }
    }
}
