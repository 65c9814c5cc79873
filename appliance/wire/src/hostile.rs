//! What a reader of foreign bytes has to stand, made from a message that it takes.

/// Fixed, so that a failure comes again.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const ROUNDS: usize = 1_000;

/// Every beginning, without the whole.
pub fn prefixes(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    (0..message.len()).map(|end| &message[..end])
}

/// Every byte changed in some ways, then several changes at once: bytes replaced, left out, doubled.
pub fn mutations(message: &[u8]) -> Vec<Vec<u8>> {
    let mut mutations = Vec::new();
    for at in 0..message.len() {
        for value in [0, 1, 0x7f, 0xff, message[at] ^ 1, message[at] ^ 0x20, message[at].wrapping_add(1)] {
            let mut changed = message.to_vec();
            changed[at] = value;
            mutations.push(changed);
        }
    }
    let mut state = SEED;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    for _ in 0..ROUNDS {
        let mut changed = message.to_vec();
        for _ in 0..=random(6) {
            let at = random(changed.len());
            match (random(4), changed.is_empty()) {
                (_, true) => changed.push(random(256) as u8),
                (0, _) => drop(changed.remove(at)),
                (1, _) => changed.insert(at, changed[at]),
                (2, _) => changed.truncate(at),
                _ => changed[at] = random(256) as u8,
            }
        }
        mutations.push(changed);
    }
    mutations
}
