//! Distinct elements of many days together, estimated in fixed memory.
//!
//! `HyperLogLog` with 4096 registers of a byte: the standard error is 1.04 / √4096 = 1.63 %. The estimator is Otmar Ertl's
//! ("New cardinality estimation algorithms for `HyperLogLog` sketches", 2017, algorithm 6), which needs no correction for
//! small numbers. Sketches of several days merge by the greatest register of each.
//!
//! The hash has no key: who can forge sources at will can push an estimate, as he can push the number itself.

use crate::layout::Target;
use std::net::IpAddr;

/// Registers in one part of a sketch, which is one value in the store.
pub(crate) const PART_REGISTERS: usize = 1024;
pub(crate) const PARTS: usize = 4;
const REGISTERS: usize = PARTS * PART_REGISTERS;
/// Bits of a hash that choose the register.
const INDEX_BITS: u32 = REGISTERS.ilog2();
/// Bits of a hash whose leading zeros a register remembers.
const RANK_BITS: u32 = u64::BITS - INDEX_BITS;

/// Where an element goes and what the register there must reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub part: u8,
    pub register: u16,
    pub rank: u8,
}

impl Mark {
    fn of_hash(hash: u64) -> Self {
        let index = (hash >> RANK_BITS) as usize;
        let rank = (hash << INDEX_BITS).leading_zeros().min(RANK_BITS) + 1;
        let (part, register) = (index / PART_REGISTERS, index % PART_REGISTERS);
        Self { part: part as u8, register: register as u16, rank: rank as u8 }
    }

    pub fn of_source(source: IpAddr) -> Self {
        let bits = match source {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        Self::of_hash(mixed(mixed((bits >> 64) as u64) ^ bits as u64))
    }

    pub fn of_target(target: Target) -> Self {
        Self::of_hash(mixed(u64::from(target.protocol.number()) << 16 | u64::from(target.port)))
    }
}

/// Sebastiano Vigna's splitmix64.
fn mixed(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sketch([[u8; PART_REGISTERS]; PARTS]);

impl Default for Sketch {
    fn default() -> Self {
        Self([[0; PART_REGISTERS]; PARTS])
    }
}

impl Sketch {
    pub fn insert(&mut self, mark: Mark) {
        let register = &mut self.0[usize::from(mark.part)][usize::from(mark.register)];
        *register = (*register).max(mark.rank);
    }

    /// `None` when there is no such part.
    pub fn merge_part(&mut self, part: u8, registers: &[u8]) -> Option<()> {
        for (mine, other) in self.0.get_mut(usize::from(part))?.iter_mut().zip(registers) {
            *mine = (*mine).max(*other);
        }
        Some(())
    }

    pub fn estimate(&self) -> u64 {
        let mut counts = [0u32; RANK_BITS as usize + 2];
        for register in self.0.as_flattened() {
            // A rank is at most RANK_BITS + 1; a foreign byte counts as that.
            counts[usize::from(*register).min(RANK_BITS as usize + 1)] += 1;
        }
        let m = REGISTERS as f64;
        let mut z = m * tau(1.0 - f64::from(counts[RANK_BITS as usize + 1]) / m);
        for count in counts[1..=RANK_BITS as usize].iter().rev() {
            z = 0.5 * (z + f64::from(*count));
        }
        z += m * sigma(f64::from(counts[0]) / m);
        (m * m / (2.0 * std::f64::consts::LN_2 * z)).round() as u64
    }
}

/// x + Σ x^(2^k) · 2^(k−1), for 0 ≤ x ≤ 1.
fn sigma(x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut x, mut y, mut z) = (x, 1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z <= before {
            return z;
        }
    }
}

/// ⅓ · (1 − x − Σ (1 − x^(2^−k))² · 2^−k), for 0 ≤ x ≤ 1.
fn tau(x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut x, mut y, mut z) = (x, 1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if z >= before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// Twice the standard error holds for 95 of 100; these are fixed, so the bound is what they keep.
    const ERROR_MAX: f64 = 3.0 * 1.04 / 64.0;

    fn assert_near(sketch: &Sketch, truth: u64) {
        let error = (sketch.estimate() as f64 - truth as f64).abs() / truth as f64;
        assert!(error <= ERROR_MAX, "{} for {truth}", sketch.estimate());
    }

    #[test]
    fn an_empty_sketch_is_zero_and_a_few_are_exact() {
        let mut sketch = Sketch::default();
        assert_eq!(sketch.estimate(), 0);
        for number in 0..20u32 {
            sketch.insert(Mark::of_source(Ipv4Addr::from_bits(number).into()));
            assert_eq!(sketch.estimate(), u64::from(number) + 1);
        }
    }

    #[test]
    fn the_mean_error_over_many_sketches_is_the_standard_one() {
        const SKETCHES: u32 = 60;
        const ELEMENTS: u32 = 12_000;
        let mut squares = 0.0;
        for number in 0..SKETCHES {
            let mut sketch = Sketch::default();
            for element in 0..ELEMENTS {
                sketch.insert(Mark::of_source(Ipv4Addr::from_bits(number * ELEMENTS + element).into()));
            }
            squares += (sketch.estimate() as f64 / f64::from(ELEMENTS) - 1.0).powi(2);
        }
        let error = (squares / f64::from(SKETCHES)).sqrt();
        assert!(error < 0.0163 * 1.3, "{error}");
    }

    #[test]
    fn neighbouring_addresses_and_ports_are_told_apart_at_every_size() {
        let (mut v4, mut v6, mut targets) = (Sketch::default(), Sketch::default(), Sketch::default());
        for number in 0..300_000u32 {
            v4.insert(Mark::of_source(Ipv4Addr::from_bits(number).into()));
            v6.insert(Mark::of_source(Ipv6Addr::from_bits(u128::from(number) << 64).into()));
            let protocol = glacis_control::Protocol::Tcp;
            targets.insert(Mark::of_target(Target { protocol, port: number as u16 }));
            if (number + 1).is_power_of_two() {
                assert_near(&v4, (number + 1).into());
                assert_near(&v6, (number + 1).into());
            }
        }
        assert_near(&targets, 65_536);
    }

    #[test]
    fn merged_parts_count_the_union() {
        let (mut all, mut merged) = (Sketch::default(), Sketch::default());
        for half in 0..2u32 {
            let mut sketch = Sketch::default();
            for number in 0..30_000 {
                let mark = Mark::of_source(Ipv4Addr::from_bits(half * 10_000 + number).into());
                sketch.insert(mark);
                all.insert(mark);
            }
            for (part, registers) in sketch.0.iter().enumerate() {
                merged.merge_part(part as u8, registers).unwrap();
            }
        }
        assert_eq!(merged, all);
        assert_near(&merged, 40_000);
    }
}
