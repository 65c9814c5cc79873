//! Connections to servers, and what clients said before there was one.

use crate::direction::receive;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::SocketAddr;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Most bytes that [`take_said`] takes: a request, or a TLS client's first message.
const SAID_BYTES_MAX: usize = 4 << 10;

/// Connects with as few system calls as it takes, `TCP_NODELAY` set: what a client sends is passed on at once.
///
/// The caller bounds the wait. Dropping the future closes the socket.
pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    establish(address, Handshake::Whole).await
}

/// Connects to a server to which [`relay`](crate::relay()) has first bytes to send at once.
///
/// They travel with the last part of the handshake, which saves a packet. A server would wait for that part, so this is
/// not for a connection on which it may speak first.
pub async fn connect_to_speak(address: SocketAddr) -> io::Result<TcpStream> {
    establish(address, Handshake::WithFirstBytes).await
}

/// Takes what a client has said by now, as first bytes for [`relay`](crate::relay()); does not wait.
///
/// The runtime need not have heard of the socket yet. The client's end is left for the relay to meet.
pub fn take_said(client: &TcpStream, first: &mut Vec<u8>) -> io::Result<()> {
    let mut said = [0; SAID_BYTES_MAX];
    let count = match receive(client, &mut said)? {
        Some(count) => count,
        None => match rustix::net::recv(client, &mut said[..], RecvFlags::DONTWAIT) {
            Ok((_, count)) => count,
            Err(Errno::AGAIN) => 0,
            Err(errno) => return Err(errno.into()),
        },
    };
    first.extend_from_slice(&said[..count]);
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Handshake {
    Whole,
    WithFirstBytes,
}

async fn establish(address: SocketAddr, handshake: Handshake) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    if handshake == Handshake::WithFirstBytes {
        // Until the first bytes are out; then the relay sets it again.
        sockopt::set_tcp_quickack(&socket, false)?;
    }
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(errno) => return Err(errno.into()),
    }
    let stream = TcpStream::from_std(socket.into())?;
    let ready = stream.ready(Interest::WRITABLE | Interest::ERROR).await?;
    if ready.is_error() || ready.is_write_closed() {
        stream.take_error()?.map_or(Ok(()), Err)?;
    }
    Ok(stream)
}
