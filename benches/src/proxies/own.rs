//! A TCP proxy on the relay crate and nothing else, as the gate worker runs it: a runtime and a listener per processor.

use glacis_relay::{Settings, Tally, connect, connect_to_speak, relay, take_said};
use rustix::net::sockopt::{set_socket_reuseport, set_tcp_nodelay};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

const BACKLOG: i32 = 4096;
const SETTINGS: Settings = Settings { idle: Some(Duration::from_secs(3600)) };

/// Leads every connection at `at` to `server`, for ever.
pub(crate) fn run(at: SocketAddr, server: SocketAddr) -> io::Result<()> {
    let threads = thread::available_parallelism()?.get();
    let listeners = (0..threads).map(|_| listener(at)).collect::<io::Result<Vec<_>>>()?;
    thread::scope(|scope| {
        for listener in listeners {
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                tokio::task::LocalSet::new().block_on(&runtime, accept(listener, server))
            });
        }
    });
    Ok(())
}

fn listener(at: SocketAddr) -> io::Result<TcpListener> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    set_socket_reuseport(&socket, true)?;
    // Accepted sockets inherit it.
    set_tcp_nodelay(&socket, true)?;
    bind(&socket, &at)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

async fn accept(listener: TcpListener, server: SocketAddr) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let tally = Rc::new(Tally::new());
    loop {
        // A connection that is gone before it is taken is not this proxy's failure.
        let Ok((client, _)) = listener.accept().await else { continue };
        let tally = Rc::clone(&tally);
        tokio::task::spawn_local(async move {
            let mut first = Vec::new();
            if take_said(&client, &mut first).is_err() {
                return;
            }
            let server =
                if first.is_empty() { connect(server).await } else { connect_to_speak(server).await };
            if let Ok(server) = server {
                relay(client, server, &SETTINGS, first, &tally).await;
            }
        });
    }
}
