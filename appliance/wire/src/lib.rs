//! Codecs and protocol state machines driven by bytes and time.
//!
//! Owns what goes over a wire and what it means; never opens a socket, reads a clock or draws a
//! random number: the caller passes in bytes, `now` and a random word, and carries out the outputs.

pub mod client_hello;
pub mod denial;
pub mod dhcp4;
pub mod proxy_protocol;
pub mod proxy_speech;
pub mod token;
pub mod udp4;

#[cfg(test)]
mod hostile;
