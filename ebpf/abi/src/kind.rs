//! What kinds of packets are probes.

/// What kind of packet a probe was.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProbeKind {
    /// TCP with SYN, without ACK and RST. ECE and CWR say nothing here nor below.
    Syn = 0,
    /// TCP with FIN alone.
    Fin = 1,
    /// TCP without any flag.
    Null = 2,
    /// TCP with FIN, PSH and URG and no other.
    Xmas = 3,
    /// TCP with FIN and ACK, of no connection (Uriel Maimon's scan).
    Maimon = 4,
    /// TCP with ACK and without SYN, FIN and RST, of no connection. ACK and window scans send the same packet.
    Ack = 5,
    /// TCP with any other flags that no connection begins or goes on with.
    OddFlags = 6,
    /// A first TCP fragment that ends before the flags; the stacks of hosts make none.
    Fragment = 7,
    /// A UDP datagram that answers nothing.
    Datagram = 8,
    /// An SCTP INIT chunk.
    Init = 9,
}

impl ProbeKind {
    /// Every kind, by ascending number.
    pub const ALL: [Self; 10] = [
        Self::Syn,
        Self::Fin,
        Self::Null,
        Self::Xmas,
        Self::Maimon,
        Self::Ack,
        Self::OddFlags,
        Self::Fragment,
        Self::Datagram,
        Self::Init,
    ];

    pub const fn from_number(number: u8) -> Option<Self> {
        if (number as usize) < Self::ALL.len() { Some(Self::ALL[number as usize]) } else { None }
    }

    /// Its bit in a set of kinds.
    #[inline]
    pub const fn bit(self) -> u16 {
        1 << self as u8
    }

    /// Its IANA protocol.
    pub const fn protocol(self) -> crate::Protocol {
        match self {
            Self::Datagram => crate::Protocol::Udp,
            Self::Init => crate::Protocol::Sctp,
            _ => crate::Protocol::Tcp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ProbeKind;

    #[test]
    fn kinds_round_trip_through_their_numbers_and_have_bits_of_their_own() {
        let mut all = 0_u16;
        for number in 0..=u8::MAX {
            match ProbeKind::from_number(number) {
                Some(kind) => {
                    assert_eq!(kind as u8, number);
                    assert_eq!(all & kind.bit(), 0);
                    all |= kind.bit();
                }
                None => assert!(number as usize >= ProbeKind::ALL.len()),
            }
        }
        assert_eq!(all.count_ones() as usize, ProbeKind::ALL.len());
    }
}
