//! A relay between two connections over loopback, whose far ends are plain blocking sockets.
#![expect(dead_code, reason = "each test file takes what it needs")]

use glacis_relay::{Ended, Settings, Tally, relay};
use rustix::net::sockopt::set_socket_linger;
use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

/// Whatever takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Rig {
    pub visitor: TcpStream,
    pub backend: TcpStream,
    pub tally: Arc<Tally>,
    ended: Receiver<Ended>,
}

impl Rig {
    pub fn new() -> Self {
        Self::with(Settings::default(), Vec::new())
    }

    pub fn with(settings: Settings, first: Vec<u8>) -> Self {
        let ((visitor, client), (backend, server)) = (pair(), pair());
        Self::between(visitor, client, backend, server, settings, first)
    }

    /// The relay runs on a thread of its own.
    pub fn between(
        visitor: TcpStream,
        client: TcpStream,
        backend: TcpStream,
        server: TcpStream,
        settings: Settings,
        first: Vec<u8>,
    ) -> Self {
        let (tell, ended) = channel();
        let tally = Arc::new(Tally::new());
        let counted = Arc::clone(&tally);
        thread::spawn(move || {
            let end = runtime().block_on(async {
                relay(tokio_stream(client), tokio_stream(server), &settings, first, &counted).await
            });
            let _ = tell.send(end);
        });
        Self { visitor, backend, tally, ended }
    }

    /// How the relay ended, which it must have or be about to.
    pub fn ended(&self) -> Ended {
        self.ended.recv_timeout(PATIENCE).expect("the relay ends")
    }

    pub fn has_ended(&self) -> bool {
        self.ended.try_recv().is_ok()
    }
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be had")
}

pub fn tokio_stream(stream: TcpStream) -> tokio::net::TcpStream {
    stream.set_nonblocking(true).expect("a socket can be made non-blocking");
    tokio::net::TcpStream::from_std(stream).expect("the runtime takes sockets")
}

/// A far end that waits no longer than [`PATIENCE`], and its near end.
pub fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    let far = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
    let near = listener.accept().expect("somebody has come").0;
    far.set_nodelay(true).expect("TCP has it");
    far.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    far.set_write_timeout(Some(PATIENCE)).expect("it is not zero");
    near.set_nodelay(true).expect("TCP has it");
    (far, near)
}

/// Closes with a reset.
pub fn reset(stream: TcpStream) {
    set_socket_linger(&stream, Some(Duration::ZERO)).expect("TCP has it");
    drop(stream);
}

/// What a socket's end is: so many bytes and then `Ok`, or the error.
pub fn read_to_end(stream: &mut TcpStream) -> (usize, io::Result<()>) {
    let (mut total, mut chunk) = (0, vec![0; 64 << 10]);
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return (total, Ok(())),
            Ok(count) => total += count,
            Err(error) => return (total, Err(error)),
        }
    }
}
