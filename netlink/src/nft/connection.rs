//! The conversation with the kernel: transactions, and dumps of what is there.

use super::batch::Batch;
use super::buffer::{Attributes, Buffer, HEADER_BYTES, Header, Message, Messages};
use super::encode::{describe, encode};
use super::error::NftError;
use super::socket::{DATAGRAM_BYTES, Socket, Wait};
use super::uapi::{
    NFNL_SUBSYS_NFTABLES, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST,
    NLMSG_DONE, NLMSG_ERROR, NLMSGERR_ATTR_MSG, attr, message,
};
use super::{Committed, Generation};
use glacis_plan::nft::{Family, Name, Op, Table};
use std::io;

/// How often a dump is begun anew because the tables changed under it.
pub const DUMP_TRIES: u32 = 8;

/// A blocking connection to nf_tables in the network namespace of the thread that opened it.
///
/// A large transaction blocks for as long as the kernel works on it: call from a thread that may wait.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    sequence: u32,
    received: Box<[u8]>,
}

/// What the kernel said about a batch.
#[derive(Default)]
struct Answers {
    acknowledged: bool,
    refusal: Option<Refusal>,
}

struct Refusal {
    sequence: u32,
    errno: i32,
    detail: Option<String>,
}

/// Why a dump has to be begun anew, or cannot be.
pub enum DumpError {
    Interrupted,
    Failed(NftError),
}

impl From<NftError> for DumpError {
    fn from(error: NftError) -> Self {
        Self::Failed(error)
    }
}

impl Connection {
    pub fn open() -> Result<Self, NftError> {
        let socket = Socket::open().map_err(NftError::Open)?;
        Ok(Self { socket, sequence: 1, received: vec![0; DATAGRAM_BYTES].into_boxed_slice() })
    }

    /// The generation of all rulesets in this namespace: it goes up with every transaction, whoever makes it.
    pub fn generation(&mut self) -> Result<Generation, NftError> {
        let sequence = self.request(message::GET_GENERATION, 0, 0, |_| ())?;
        loop {
            let length = self.receive(Wait::Yes)?.unwrap_or_default();
            if let Some(message) = Messages(&self.received[..length]).find(|m| m.sequence == sequence) {
                if message.kind == NLMSG_ERROR {
                    let source = io::Error::from_raw_os_error(-message.code().unwrap_or_default());
                    return Err(NftError::Query { what: "its generation", source });
                }
                return message
                    .attributes()
                    .u32(attr::GEN_ID)
                    .map(Generation)
                    .ok_or(NftError::Malformed("its generation"));
            }
        }
    }

    /// Applies all steps or none.
    ///
    /// With `based_on`, the kernel refuses when its generation is another ([`NftError::Stale`]): whoever computed
    /// the steps from what was read at that generation reads again and decides anew. No steps, no transaction.
    pub fn commit(&mut self, ops: &[Op], based_on: Option<Generation>) -> Result<Committed, NftError> {
        if ops.is_empty() {
            return Ok(Committed { generation: self.generation()?, bytes: 0 });
        }
        let batch = encode(ops, self.sequence, based_on)?;
        self.sequence = batch.next_sequence();
        let bytes = batch.bytes().len();
        self.socket.send(batch.bytes()).map_err(|source| NftError::Send { bytes, source })?;
        let answers = self.answers(&batch)?;
        if let Some(refusal) = answers.refusal {
            return Err(refused(refusal, &batch, ops, based_on));
        }
        if !answers.acknowledged {
            return Err(NftError::Unacknowledged);
        }
        let generation = match based_on {
            Some(generation) => generation.next(),
            None => self.generation()?,
        };
        Ok(Committed { generation, bytes })
    }

    /// Deletes a table with everything in it; no error when it is not there.
    pub fn destroy_table(&mut self, family: Family, table: &Name) -> Result<Committed, NftError> {
        let (add, delete) =
            (Op::AddTable { family, table: table.clone() }, Op::DeleteTable { family, table: table.clone() });
        self.commit(&[add, delete], None)
    }

    /// All answers are queued when `send` returns. The first refusal counts: later ones follow from it.
    fn answers(&mut self, batch: &Batch) -> Result<Answers, NftError> {
        let mut answers = Answers::default();
        loop {
            let length = match self.receive(Wait::No) {
                Ok(Some(length)) => length,
                Ok(None) => return Ok(answers),
                // More answers than fit; those that did are read on.
                Err(NftError::Receive(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => continue,
                Err(error) => return Err(error),
            };
            for message in Messages(&self.received[..length]) {
                if message.kind != NLMSG_ERROR || !batch.holds(message.sequence) {
                    continue;
                }
                match message.code() {
                    Some(0) => answers.acknowledged = true,
                    Some(code) if answers.refusal.is_none() => {
                        answers.refusal = Some(Refusal {
                            sequence: message.sequence,
                            errno: -code,
                            detail: extended_text(&message),
                        });
                    }
                    _ => {}
                }
            }
        }
    }

    /// Asks for a list and shows each of its messages to `visit`.
    pub fn dump(
        &mut self,
        kind: u16,
        family: u8,
        what: &'static str,
        ask: impl FnOnce(&mut Buffer),
        mut visit: impl FnMut(Attributes<'_>) -> Result<(), NftError>,
    ) -> Result<(), DumpError> {
        let sequence = self.request(kind, NLM_F_DUMP, family, ask)?;
        let mut interrupted = false;
        loop {
            let length = self.receive(Wait::Yes)?.unwrap_or_default();
            for message in Messages(&self.received[..length]).filter(|m| m.sequence == sequence) {
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                match (message.kind, message.code()) {
                    (NLMSG_DONE | NLMSG_ERROR, Some(code)) if code < 0 => {
                        return match -code {
                            libc::EINTR => Err(DumpError::Interrupted),
                            // No such table or set: an empty list.
                            libc::ENOENT => Ok(()),
                            errno => {
                                let source = io::Error::from_raw_os_error(errno);
                                Err(NftError::Query { what, source }.into())
                            }
                        };
                    }
                    (NLMSG_DONE | NLMSG_ERROR, _) => {
                        return if interrupted { Err(DumpError::Interrupted) } else { Ok(()) };
                    }
                    _ => visit(message.attributes())?,
                }
            }
        }
    }

    /// Repeats a read until the tables stood still during it, at most [`DUMP_TRIES`] times.
    pub fn steadily<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, DumpError>,
    ) -> Result<T, NftError> {
        for _ in 0..DUMP_TRIES {
            let before = self.generation()?;
            match read(self) {
                Ok(value) if self.generation()? == before => return Ok(value),
                Ok(_) | Err(DumpError::Interrupted) => {}
                Err(DumpError::Failed(error)) => return Err(error),
            }
        }
        Err(NftError::Unsteady { tries: DUMP_TRIES })
    }

    fn request(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        ask: impl FnOnce(&mut Buffer),
    ) -> Result<u32, NftError> {
        let sequence = self.sequence;
        self.sequence = self.sequence.wrapping_add(1);
        let kind = NFNL_SUBSYS_NFTABLES << 8 | kind;
        let mut buffer = Buffer::default();
        let header = Header { kind, flags: NLM_F_REQUEST | flags, sequence, family, resource: 0 };
        let at = buffer.begin_message(header);
        ask(&mut buffer);
        buffer.end_message(at);
        let bytes = buffer.len();
        self.socket.send(buffer.bytes()).map_err(|source| NftError::Send { bytes, source })?;
        Ok(sequence)
    }

    fn receive(&mut self, wait: Wait) -> Result<Option<usize>, NftError> {
        self.socket.receive(&mut self.received, wait).map_err(NftError::Receive)
    }
}

fn refused(refusal: Refusal, batch: &Batch, ops: &[Op], based_on: Option<Generation>) -> NftError {
    let source = io::Error::from_raw_os_error(refusal.errno);
    let detail = refusal.detail;
    match (refusal.errno, based_on, batch.step_of(refusal.sequence)) {
        (libc::ERESTART, Some(generation), _) => NftError::Stale(generation),
        (_, _, Some(op)) => NftError::Refused { op, step: describe(&ops[op]), detail, source },
        (_, _, None) => NftError::Aborted { detail, source },
    }
}

/// The text of an extended acknowledgment, which follows the header of the refused message, or all of it.
fn extended_text(message: &Message<'_>) -> Option<String> {
    if message.flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let quoted = message.payload.get(4..)?;
    let quoted_bytes = if message.flags & NLM_F_CAPPED == 0 {
        u32::from_ne_bytes(*quoted.first_chunk::<4>()?) as usize
    } else {
        HEADER_BYTES
    };
    let attributes = Attributes(quoted.get(quoted_bytes.next_multiple_of(4)..)?);
    attributes.text(NLMSGERR_ATTR_MSG).map(str::to_owned)
}

/// Whether a table is the one that is asked about.
pub fn is_of(attributes: Attributes<'_>, kind: u16, table: &Table) -> bool {
    attributes.text(kind) == Some(table.name.as_str())
}
