//! One transaction as bytes: begin, the messages of each step, end.

use super::Generation;
use super::buffer::{Buffer, Header};
use super::uapi::{
    NFNL_BATCH_GENID, NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END, NFNL_SUBSYS_NFTABLES, NLM_F_ACK,
    NLM_F_REQUEST,
};

/// Messages under one transaction, sent together.
#[derive(Debug)]
pub struct Batch {
    buffer: Buffer,
    first: u32,
    next: u32,
    /// Sequence number of the first message of each step.
    steps: Vec<u32>,
    /// Where the last message of a step starts.
    last: Option<usize>,
}

impl Batch {
    /// `sequence` is the number of the first message. With `based_on`, the kernel refuses the transaction when
    /// its generation is another.
    pub fn new(capacity: usize, sequence: u32, based_on: Option<Generation>) -> Self {
        let mut batch = Self {
            buffer: Buffer::with_capacity(capacity),
            first: sequence,
            next: sequence,
            steps: vec![],
            last: None,
        };
        let at = batch.frame(NFNL_MSG_BATCH_BEGIN);
        if let Some(Generation(generation)) = based_on {
            batch.buffer.put_u32(NFNL_BATCH_GENID, generation);
        }
        batch.buffer.end_message(at);
        batch
    }

    /// The messages that follow belong to the next step.
    pub fn begin_step(&mut self) {
        self.steps.push(self.next);
    }

    pub fn message<R>(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        body: impl FnOnce(&mut Buffer) -> R,
    ) -> R {
        let at = self.begin(kind, flags, family);
        let result = body(&mut self.buffer);
        self.buffer.end_message(at);
        result
    }

    /// Starts a message that [`Self::buffer`] ends.
    pub fn begin(&mut self, kind: u16, flags: u16, family: u8) -> usize {
        let header = Header {
            kind: NFNL_SUBSYS_NFTABLES << 8 | kind,
            flags: NLM_F_REQUEST | flags,
            sequence: self.next,
            family,
            resource: 0,
        };
        self.next = self.next.wrapping_add(1);
        let at = self.buffer.begin_message(header);
        self.last = Some(at);
        at
    }

    pub const fn buffer(&mut self) -> &mut Buffer {
        &mut self.buffer
    }

    /// Asks for an acknowledgment of the last message, which is the sign of success, and ends the batch.
    pub fn finish(&mut self) {
        if let Some(at) = self.last {
            self.buffer.add_flags(at, NLM_F_ACK);
        }
        let at = self.frame(NFNL_MSG_BATCH_END);
        self.buffer.end_message(at);
    }

    pub fn bytes(&self) -> &[u8] {
        self.buffer.bytes()
    }

    /// The sequence number after this batch.
    pub const fn next_sequence(&self) -> u32 {
        self.next
    }

    /// Whether an answer with this number is about this batch.
    pub const fn holds(&self, sequence: u32) -> bool {
        sequence.wrapping_sub(self.first) < self.next.wrapping_sub(self.first)
    }

    /// The step that a message belongs to; `None` for the frame.
    pub fn step_of(&self, sequence: u32) -> Option<usize> {
        let distance = |of: u32| of.wrapping_sub(self.first);
        self.steps.partition_point(|step| distance(*step) <= distance(sequence)).checked_sub(1)
    }

    fn frame(&mut self, kind: u16) -> usize {
        let header = Header {
            kind,
            flags: NLM_F_REQUEST,
            sequence: self.next,
            family: 0,
            resource: NFNL_SUBSYS_NFTABLES,
        };
        self.next = self.next.wrapping_add(1);
        self.buffer.begin_message(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_by_step_even_when_numbers_wrap() {
        let mut batch = Batch::new(0, u32::MAX - 1, None);
        batch.begin_step();
        batch.message(1, 0, 0, |_| ());
        batch.message(1, 0, 0, |_| ());
        batch.begin_step();
        batch.message(1, 0, 0, |_| ());
        batch.finish();
        assert_eq!(batch.step_of(u32::MAX - 1), None);
        assert_eq!(batch.step_of(u32::MAX), Some(0));
        assert_eq!(batch.step_of(0), Some(0));
        assert_eq!(batch.step_of(1), Some(1));
        assert!(batch.holds(2) && !batch.holds(3) && !batch.holds(u32::MAX - 2));
    }
}
