//! Runs the program on a packet without a device (`BPF_PROG_TEST_RUN`): for tests and measurements.

use crate::attach::Direction;
use crate::{LoaderError, TcProgram};
use aya::programs::{TestRun, TestRunOptions};
use glacis_abi::DROP;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// What the program decided about a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// On to the next program and then the network stack.
    Next,
    Drop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    pub verdict: Verdict,
    /// Mean time of one run, the kernel's own overhead of about 25 ns included.
    pub per_packet: Duration,
}

impl TcProgram {
    /// The program that packets of Ethernet devices come in by, to be run in other ways than [`Self::try_frame`] does.
    pub fn ingress_fd(&self) -> Result<BorrowedFd<'_>, LoaderError> {
        let program = self.ethernet.program(Direction::Ingress)?;
        Ok(program.fd().map_err(|e| LoaderError::Trial(Box::new(e)))?.as_fd())
    }

    /// Gives the program an Ethernet frame `repeat` times, as if it had come in by the loopback device of this
    /// network namespace. Counts and events are as real as any.
    pub fn try_frame(&self, frame: &[u8], repeat: u32) -> Result<Trial, LoaderError> {
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.repeat = repeat;
        let ran = self
            .ethernet
            .program(Direction::Ingress)?
            .test_run(options)
            .map_err(|e| LoaderError::Trial(Box::new(e)))?;
        let verdict = if ran.return_value == DROP as u32 { Verdict::Drop } else { Verdict::Next };
        Ok(Trial { verdict, per_packet: ran.duration })
    }
}
