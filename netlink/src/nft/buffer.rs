//! Netlink messages and attributes, written and read.

use super::uapi::{NLA_F_NESTED, NLA_TYPE_MASK};

/// Bytes of a `struct nlmsghdr`.
pub const HEADER_BYTES: usize = 16;
/// Bytes of a `struct nlattr`.
const ATTRIBUTE_BYTES: usize = 4;
/// Longest attribute, header included: its length field has 16 bits.
pub const ATTRIBUTE_BYTES_MAX: usize = u16::MAX as usize;

/// What a message's headers say.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    /// `nlmsg_type`, subsystem included.
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    /// `nfgen_family`.
    pub family: u8,
    /// `res_id` of `struct nfgenmsg`, host order.
    pub resource: u16,
}

/// Bytes on their way to the kernel.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    overflowed: bool,
}

impl Buffer {
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), overflowed: false }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether an attribute grew past [`ATTRIBUTE_BYTES_MAX`]; the message that holds it is not to be sent.
    pub const fn overflowed(&self) -> bool {
        self.overflowed
    }

    pub fn append(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
        self.overflowed |= other.overflowed;
    }

    /// Starts a message; returns where it starts, for [`Self::end_message`].
    pub fn begin_message(&mut self, header: Header) -> usize {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&0_u32.to_ne_bytes());
        self.bytes.extend_from_slice(&header.kind.to_ne_bytes());
        self.bytes.extend_from_slice(&header.flags.to_ne_bytes());
        self.bytes.extend_from_slice(&header.sequence.to_ne_bytes());
        // The port: the kernel knows ours.
        self.bytes.extend_from_slice(&0_u32.to_ne_bytes());
        self.bytes.extend_from_slice(&[header.family, 0]);
        self.bytes.extend_from_slice(&header.resource.to_be_bytes());
        at
    }

    pub fn end_message(&mut self, at: usize) {
        let length = (self.bytes.len() - at) as u32;
        self.bytes[at..at + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Adds flags to the header of a message that was written.
    pub fn add_flags(&mut self, at: usize, flags: u16) {
        let field = &mut self.bytes[at + 6..at + 8];
        let flags = u16::from_ne_bytes([field[0], field[1]]) | flags;
        field.copy_from_slice(&flags.to_ne_bytes());
    }

    /// Starts a nested attribute; returns where it starts, for [`Self::end_nest`].
    pub fn begin_nest(&mut self, kind: u16) -> usize {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&0_u16.to_ne_bytes());
        self.bytes.extend_from_slice(&(kind | NLA_F_NESTED).to_ne_bytes());
        at
    }

    pub fn end_nest(&mut self, at: usize) {
        let length = u16::try_from(self.bytes.len() - at).unwrap_or_else(|_| {
            self.overflowed = true;
            u16::MAX
        });
        self.bytes[at..at + 2].copy_from_slice(&length.to_ne_bytes());
    }

    pub fn nest<R>(&mut self, kind: u16, inside: impl FnOnce(&mut Self) -> R) -> R {
        let at = self.begin_nest(kind);
        let result = inside(self);
        self.end_nest(at);
        result
    }

    pub fn put(&mut self, kind: u16, payload: &[u8]) {
        self.begin_attribute(kind, payload.len());
        self.bytes.extend_from_slice(payload);
        self.pad();
    }

    /// Text with its final NUL.
    pub fn put_text(&mut self, kind: u16, text: &str) {
        self.begin_attribute(kind, text.len() + 1);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        self.pad();
    }

    pub fn put_u8(&mut self, kind: u16, value: u8) {
        self.put(kind, &[value]);
    }

    pub fn put_u16(&mut self, kind: u16, value: u16) {
        self.put(kind, &value.to_be_bytes());
    }

    pub fn put_u32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    pub fn put_u64(&mut self, kind: u16, value: u64) {
        self.put(kind, &value.to_be_bytes());
    }

    fn begin_attribute(&mut self, kind: u16, payload_bytes: usize) {
        let length = u16::try_from(payload_bytes + ATTRIBUTE_BYTES).unwrap_or_else(|_| {
            self.overflowed = true;
            u16::MAX
        });
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// The attributes in a message's payload or in a nest; stops at the first that is cut short.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a>(pub &'a [u8]);

#[expect(clippy::copy_iterator, reason = "each look-up walks a copy of two words from the start")]
impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (header, _) = self.0.split_first_chunk::<ATTRIBUTE_BYTES>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & NLA_TYPE_MASK;
        let payload = self.0.get(ATTRIBUTE_BYTES..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    }
}

impl<'a> Attributes<'a> {
    pub fn find(mut self, kind: u16) -> Option<&'a [u8]> {
        Iterator::find(&mut self, |(found, _)| *found == kind).map(|(_, payload)| payload)
    }

    pub fn nest(self, kind: u16) -> Option<Self> {
        self.find(kind).map(Attributes)
    }

    pub fn text(self, kind: u16) -> Option<&'a str> {
        let payload = self.find(kind)?;
        std::str::from_utf8(payload.strip_suffix(b"\0").unwrap_or(payload)).ok()
    }

    pub fn u8(self, kind: u16) -> Option<u8> {
        self.find(kind)?.first().copied()
    }

    pub fn u16(self, kind: u16) -> Option<u16> {
        Some(u16::from_be_bytes(self.find(kind)?.try_into().ok()?))
    }

    pub fn u32(self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.find(kind)?.try_into().ok()?))
    }

    pub fn u64(self, kind: u16) -> Option<u64> {
        Some(u64::from_be_bytes(self.find(kind)?.try_into().ok()?))
    }
}

/// One message of what a socket gave.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    /// All that follows the `nlmsghdr`.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes behind the `nfgenmsg` of an nf_tables message.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes(self.payload.get(4..).unwrap_or_default())
    }

    /// The number that opens the payload of an error or of a dump's end: zero or a negated errno.
    pub fn code(&self) -> Option<i32> {
        self.payload.first_chunk::<4>().map(|bytes| i32::from_ne_bytes(*bytes))
    }
}

/// The messages of one datagram; stops at the first that is cut short.
#[derive(Debug)]
pub struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let (header, _) = self.0.split_first_chunk::<HEADER_BYTES>()?;
        let word =
            |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let length = word(0) as usize;
        let payload = self.0.get(HEADER_BYTES..length)?;
        let message = Message { kind: half(4), flags: half(6), sequence: word(8), payload };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let mut buffer = Buffer::default();
        let header = Header { kind: 7, flags: 1, sequence: 9, family: 2, resource: 10 };
        let at = buffer.begin_message(header);
        buffer.put_text(1, "abc");
        buffer.nest(2, |b| b.put_u32(3, 0x0102_0304));
        buffer.end_message(at);
        buffer.add_flags(at, 4);
        let message = Messages(buffer.bytes()).next().unwrap();
        assert_eq!((message.kind, message.flags, message.sequence), (7, 5, 9));
        assert_eq!(message.attributes().text(1), Some("abc"));
        assert_eq!(message.attributes().nest(2).unwrap().u32(3), Some(0x0102_0304));
    }

    #[test]
    fn an_attribute_past_its_length_field_is_told() {
        let mut buffer = Buffer::default();
        // Two headers of four bytes, and the payload is padded to four.
        let most = ATTRIBUTE_BYTES_MAX - 8 - 3;
        buffer.nest(1, |b| b.put(2, &vec![0; most]));
        assert!(!buffer.overflowed());
        buffer.nest(1, |b| b.put(2, &vec![0; most + 1]));
        assert!(buffer.overflowed());
    }

    #[test]
    fn bytes_cut_short_end_the_walk() {
        for bytes in [&[][..], &[3, 0, 1, 0], &[9, 0, 1, 0, 0], &[0; 3]] {
            assert_eq!(Attributes(bytes).count(), 0, "{bytes:?}");
        }
        assert_eq!(Messages(&[255; 20]).count(), 0);
        assert_eq!(Messages(&[0; 20]).count(), 0);
    }
}
