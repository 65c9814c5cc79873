//! The loopback device, which comes up down and which the core's own services expect.

use super::console::say;
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

pub fn bring_up() {
    if let Err(error) = set_up() {
        say(format_args!("loopback stays down: {error}"));
    }
}

fn set_up() -> io::Result<()> {
    // Any socket carries the request; this one has no address and never sends.
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: all bytes zero is a valid `ifreq`: a name without characters and flags without bits.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (target, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *target = *byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`, which lives until the call returns.
    let outcome = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
