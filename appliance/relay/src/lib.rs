//! Two sockets made one: bytes pass both ways, ends and resets too. Linux only.
//!
//! Bulk passes through pipes by `splice` and is never copied into this process; what fits a buffer is received and sent.
//! Both borrow per thread: an idle connection holds neither pipe nor buffer. Nothing is read that cannot be written on,
//! so a slow reader slows its writer, and what is in transit is bounded by a pipe or a buffer per direction.
//!
//! Knows nothing of policy, logs nothing, and runs on tokio's current-thread runtimes: each relay stays on its thread.

mod connect;
mod direction;
mod pipe;
mod relay;
mod tally;

pub use connect::{connect, connect_to_speak, take_said};
pub use pipe::{PIPE_BYTES, PIPES_MAX};
pub use relay::{End, Ended, Settings, Side, relay};
pub use tally::Tally;
