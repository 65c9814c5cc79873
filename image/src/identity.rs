//! Identifiers that other builders draw at random: here they follow from the content.

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Hash of everything that an image carries; the source of its UUIDs, serials and seeds.
///
/// Two different images differ in all of them, and the same image built twice differs in none.
pub(crate) struct Identity([u8; 32]);

impl Identity {
    pub(crate) fn of(contents: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for content in contents {
            // The length first: otherwise moving a byte from one input to the next would change nothing.
            hash.update((content.len() as u64).to_le_bytes());
            hash.update(content);
        }
        Self(hash.finalize().into())
    }

    fn derive(&self, purpose: &str) -> [u8; 16] {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(purpose);
        let digest: [u8; 32] = hash.finalize().into();
        digest[..16].try_into().expect("half of 32 bytes")
    }

    /// A version 8 UUID (RFC 9562, section 5.8: vendor specific, here derived from a hash).
    pub(crate) fn uuid(&self, purpose: &str) -> Uuid {
        let mut bytes = self.derive(purpose);
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Uuid::from_bytes(bytes)
    }

    /// A FAT volume serial.
    pub(crate) fn serial(&self, purpose: &str) -> u32 {
        let [a, b, c, d, ..] = self.derive(purpose);
        u32::from_le_bytes([a, b, c, d])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_follow_from_content_and_purpose() {
        let one = Identity::of(&[b"kernel", b"policy"]);
        assert_eq!(one.uuid("disk"), Identity::of(&[b"kernel", b"policy"]).uuid("disk"));
        assert_ne!(one.uuid("disk"), one.uuid("data"));
        assert_ne!(one.uuid("disk"), Identity::of(&[b"kernelp", b"olicy"]).uuid("disk"));
        assert_eq!(one.uuid("disk").get_version_num(), 8);
    }
}
