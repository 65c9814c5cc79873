//! Looking at the first bytes of a connection without taking them, so that whoever has it next finds it whole.

use rustix::net::RecvFlags;
use std::cell::RefCell;
use std::io;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What is looked at in one place: a whole TLS hello with all its records, the longest of what is peeked for.
const SCRATCH_BYTES: usize = glacis_wire::client_hello::BYTES_MAX;

thread_local! {
    /// Bytes are understood as they are seen, so all connections of a thread share one buffer.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

/// How a peek ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peeked<T> {
    Told(T),
    /// The client said all that it had to say and it was not enough. `said`: whether it was anything.
    Ended {
        said: bool,
    },
    /// There are as many bytes as were asked for, and they were not enough.
    Full,
}

/// Waits until `read` makes something of a connection's first bytes, `bytes_max` of them at most. An error means that
/// the client has reset the connection.
///
/// Bytes that were peeked stay in the socket, and the socket stays readable: new ones show in their number alone.
pub async fn until<T>(
    stream: &TcpStream,
    bytes_max: usize,
    mut read: impl FnMut(&[u8]) -> Option<T>,
) -> io::Result<Peeked<T>> {
    let bytes_max = bytes_max.min(SCRATCH_BYTES);
    let mut before = 0;
    loop {
        let ready = stream.ready(Interest::READABLE).await?;
        let ended = ready.is_read_closed();
        let peeked = stream.try_io(Interest::READABLE, || {
            SCRATCH.with_borrow_mut(|scratch| {
                let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
                let (count, _) = rustix::net::recv(stream, &mut scratch[..bytes_max], flags)?;
                if count == before && count > 0 && !ended {
                    // Clears the readiness, so that the next bytes wake us.
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok((count, if count > before { read(&scratch[..count]) } else { None }))
            })
        });
        match peeked {
            Ok((_, Some(told))) => return Ok(Peeked::Told(told)),
            Ok((count, None)) if count == bytes_max => return Ok(Peeked::Full),
            // No byte more than before: the end has been reached.
            Ok((count, None)) if count == before => return Ok(Peeked::Ended { said: count > 0 }),
            Ok((count, None)) => before = count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Takes bytes that were peeked.
pub fn take(stream: &TcpStream, mut bytes: usize) -> io::Result<()> {
    while bytes > 0 {
        let taken = SCRATCH.with_borrow_mut(|scratch| {
            let wanted = bytes.min(scratch.len());
            stream.try_io(Interest::READABLE, || {
                Ok(rustix::net::recv(stream, &mut scratch[..wanted], RecvFlags::DONTWAIT)?.1)
            })
        })?;
        if taken == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes -= taken;
    }
    Ok(())
}

/// Waits until the client has reset the connection. Its end is none: it may wait for an answer.
pub async fn until_reset(stream: &TcpStream) {
    // An error of the runtime says that the thread ends.
    let _ = stream.ready(Interest::ERROR).await;
}

/// Throws away what comes until the client has ended the connection, or `bytes_max` bytes.
pub async fn drain(stream: &TcpStream, bytes_max: usize) {
    let mut drained = 0;
    while drained < bytes_max {
        let taken = stream
            .async_io(Interest::READABLE, || {
                SCRATCH.with_borrow_mut(|scratch| {
                    Ok(rustix::net::recv(stream, &mut scratch[..], RecvFlags::DONTWAIT)?.1)
                })
            })
            .await;
        match taken {
            Ok(count) if count > 0 => drained += count,
            Ok(_) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.set_nodelay(true).unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn bytes_in_pieces_are_seen_together_and_stay_where_they_are() {
        let (mut client, mut server) = pair().await;
        let sending = tokio::spawn(async move {
            for piece in 0..20_u8 {
                client.write_all(&[piece]).await.unwrap();
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            client
        });
        let mut calls = 0;
        let told = until(&server, 100, |bytes| {
            calls += 1;
            (bytes.len() == 20).then(|| bytes[19])
        });
        assert_eq!(told.await.unwrap(), Peeked::Told(19));
        assert!(calls <= 20, "{calls} calls for 20 pieces");
        let mut all = [0; 20];
        server.read_exact(&mut all).await.unwrap();
        assert_eq!(all[19], 19);
        drop(sending.await.unwrap());
    }

    #[tokio::test]
    async fn the_end_is_told_with_and_without_bytes_before_it() {
        for said in [false, true] {
            let (mut client, server) = pair().await;
            if said {
                client.write_all(b"half").await.unwrap();
            }
            client.shutdown().await.unwrap();
            let peeked = until::<()>(&server, 100, |_| None).await.unwrap();
            assert_eq!(peeked, Peeked::Ended { said });
        }
    }

    #[tokio::test]
    async fn an_end_that_comes_later_than_the_bytes_is_told() {
        let (mut client, server) = pair().await;
        client.write_all(b"half").await.unwrap();
        let ending = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            client.shutdown().await.unwrap();
            client
        });
        assert_eq!(until::<()>(&server, 100, |_| None).await.unwrap(), Peeked::Ended { said: true });
        drop(ending.await.unwrap());
    }

    #[tokio::test]
    async fn no_more_is_looked_at_than_asked_for() {
        let (mut client, server) = pair().await;
        client.write_all(&[7; 200]).await.unwrap();
        assert_eq!(until::<()>(&server, 100, |_| None).await.unwrap(), Peeked::Full);
        take(&server, 200).unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(until::<()>(&server, 100, |_| None).await.unwrap(), Peeked::Ended { said: false });
    }

    #[tokio::test]
    async fn a_reset_is_noticed_behind_bytes_and_behind_an_end() {
        for end_first in [false, true] {
            let (mut client, server) = pair().await;
            client.write_all(b"bytes").await.unwrap();
            if end_first {
                client.shutdown().await.unwrap();
            }
            let waiting = tokio::spawn(async move { until_reset(&server).await });
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(!waiting.is_finished());
            client.set_zero_linger().unwrap();
            drop(client);
            waiting.await.unwrap();
        }
    }
}
