//! The cookie of a challenge: what only who receives our packets can send back.
//!
//! A challenge is a bare ACK whose acknowledgment number is the cookie. RFC 9293 section 3.10.7 has whoever gets one,
//! without a connection or while its SYN is unanswered, send a RST with exactly that number as its sequence. Nothing
//! is kept for a cookie: it is computed again when it comes back.

use crate::SourceKey;

/// A slot lasts 2³⁴ ns, 17 s. The cookies of the current slot and of the one before it are good.
const SLOT_SHIFT: u32 = 34;

/// What a cookie vouches for: 48 bytes, everything as it stood in the packet that was challenged.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CookieInput {
    pub source: SourceKey,
    pub destination: SourceKey,
    /// Network order, as the next.
    pub source_port: [u8; 2],
    pub destination_port: [u8; 2],
    /// The frame's sender, zeros without a link layer: who forges a neighbour's or the gateway's address on its own
    /// wire is not vouched for by what the true owner answers.
    pub link_source: [u8; 6],
    /// Always zero.
    pub reserved: [u8; 2],
    pub slot: u32,
}

impl CookieInput {
    /// The slot of a time in nanoseconds of `CLOCK_MONOTONIC`.
    pub const fn slot_at(nanoseconds: u64) -> u32 {
        (nanoseconds >> SLOT_SHIFT) as u32
    }

    /// SipHash-2-4 of the 48 bytes under the secret, its lower half.
    #[inline]
    pub fn cookie(&self, secret: [u64; 2]) -> u32 {
        // SAFETY: both are 48 bytes without padding, and any bits are integers.
        let words = unsafe { core::mem::transmute::<Self, [u64; 6]>(*self) };
        siphash(secret, words) as u32
    }
}

/// SipHash-2-4 (Aumasson and Bernstein, 2012) of 48 bytes, as the six little-endian words that they are.
#[inline]
fn siphash(secret: [u64; 2], words: [u64; 6]) -> u64 {
    const LENGTH: u64 = 48 << 56;
    let mut state = [
        secret[0] ^ 0x736f_6d65_7073_6575,
        secret[1] ^ 0x646f_7261_6e64_6f6d,
        secret[0] ^ 0x6c79_6765_6e65_7261,
        secret[1] ^ 0x7465_6462_7974_6573,
    ];
    for word in words {
        compress(&mut state, word);
    }
    compress(&mut state, LENGTH);
    state[2] ^= 0xff;
    for _ in 0..4 {
        round(&mut state);
    }
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

#[inline]
fn compress(state: &mut [u64; 4], word: u64) {
    state[3] ^= word;
    round(state);
    round(state);
    state[0] ^= word;
}

#[inline]
fn round(state: &mut [u64; 4]) {
    let [mut a, mut b, mut c, mut d] = *state;
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    *state = [a, b, c, d];
}

const _: () = assert!(size_of::<CookieInput>() == 16 + 16 + 2 + 2 + 6 + 2 + 4);

#[cfg(test)]
mod tests {
    use super::*;
    use core::hash::Hasher;

    fn input() -> CookieInput {
        CookieInput {
            source: SourceKey::from_v4([192, 0, 2, 7]),
            destination: SourceKey::from_v4([192, 0, 2, 1]),
            source_port: [1, 2],
            destination_port: [3, 4],
            link_source: [2, 0, 0, 0, 0, 9],
            reserved: [0; 2],
            slot: 77,
        }
    }

    #[test]
    #[expect(
        deprecated,
        reason = "the only SipHash-2-4 of the standard library: the reference to compare with"
    )]
    fn the_hash_is_siphash_2_4() {
        for (secret, seed) in [([0, 0], 0_u64), ([u64::MAX, 1], 9), ([0x0706_0504_0302_0100, 5], u64::MAX)] {
            let words = [1, 2, 3, 4, 5, 6].map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed);
            let mut reference = core::hash::SipHasher::new_with_keys(secret[0], secret[1]);
            for word in words {
                reference.write(&word.to_le_bytes());
            }
            assert_eq!(siphash(secret, words), reference.finish());
        }
    }

    #[test]
    fn every_field_and_the_secret_change_the_cookie() {
        let secret = [1, 2];
        let cookie = input().cookie(secret);
        assert_eq!(input().cookie(secret), cookie);
        assert_ne!(input().cookie([1, 3]), cookie);
        let others = [
            CookieInput { source: SourceKey::from_v4([192, 0, 2, 8]), ..input() },
            CookieInput { destination: SourceKey::from_v4([192, 0, 2, 2]), ..input() },
            CookieInput { source_port: [1, 3], ..input() },
            CookieInput { destination_port: [3, 5], ..input() },
            CookieInput { link_source: [2, 0, 0, 0, 0, 8], ..input() },
            CookieInput { slot: 78, ..input() },
        ];
        for other in others {
            assert_ne!(other.cookie(secret), cookie, "{other:?}");
        }
    }

    #[test]
    fn slots_follow_each_other() {
        assert_eq!(CookieInput::slot_at(0), 0);
        assert_eq!(CookieInput::slot_at((1 << 34) - 1), 0);
        assert_eq!(CookieInput::slot_at(1 << 34), 1);
    }
}
