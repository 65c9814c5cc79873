//! Clients and the server behind the proxies: threads that block, the same for all.

use super::processes::ProcessorTime;
use crate::Outcome;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Clients that exchange requests, or open connections, at the same time.
pub(crate) const CLIENTS: usize = 32;
/// Downloads at the same time.
pub(crate) const STREAMS: usize = 4;
const REQUEST_BYTES: usize = 128;
const ANSWER_BYTES: usize = 1024;
const CHUNK_BYTES: usize = 256 << 10;
/// Nothing here takes so long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(10);
/// Before the clock starts: connections stand, windows have grown.
const WARM_UP: Duration = Duration::from_millis(200);
/// Threads of the server; each has one connection at a time.
const SERVER_THREADS: usize = 2 * CLIENTS;

/// What the first byte of a request asks for.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum Asks {
    /// An answer, then the end.
    Once = b'o',
    /// An answer to each request.
    Ever = b'e',
    /// Bytes without end.
    Bulk = b'b',
    /// An answer, then nothing more.
    Idle = b'i',
    /// An answer, once those that were idle are closed.
    Forget = b'f',
}

/// What happened in a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Window {
    /// Connections, requests or bytes.
    pub(crate) count: u64,
    pub(crate) seconds: f64,
    /// Seconds of a processor that the proxy took.
    pub(crate) processor: f64,
}

impl Window {
    pub(crate) fn rate(&self) -> f64 {
        self.count as f64 / self.seconds
    }

    /// Of the proxy, for each connection, request or byte.
    pub(crate) fn processor_each(&self) -> f64 {
        self.processor / self.count as f64
    }
}

/// Each connection: one request, one answer, the server ends it.
pub(crate) fn connections(target: SocketAddr, time: Duration, proxy: &ProcessorTime<'_>) -> Outcome<Window> {
    crowd(CLIENTS, time, proxy, |count, stop| {
        while !stop.load(Ordering::Relaxed) {
            let mut stream = open(target)?;
            exchange(&mut stream, Asks::Once)?;
            if stream.read(&mut [0])? != 0 {
                return Err(io::ErrorKind::InvalidData.into());
            }
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    })
}

/// One connection for each client, one request at a time.
pub(crate) fn requests(target: SocketAddr, time: Duration, proxy: &ProcessorTime<'_>) -> Outcome<Window> {
    crowd(CLIENTS, time, proxy, |count, stop| {
        let mut stream = open(target)?;
        while !stop.load(Ordering::Relaxed) {
            exchange(&mut stream, Asks::Ever)?;
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    })
}

/// Downloads side by side; the count is of bytes.
pub(crate) fn bulk(target: SocketAddr, time: Duration, proxy: &ProcessorTime<'_>) -> Outcome<Window> {
    crowd(STREAMS, time, proxy, |count, stop| {
        let mut stream = open(target)?;
        stream.write_all(&[Asks::Bulk as u8; REQUEST_BYTES])?;
        let mut chunk = vec![0; CHUNK_BYTES];
        while !stop.load(Ordering::Relaxed) {
            let received = stream.read(&mut chunk)?;
            if received == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            count.fetch_add(received as u64, Ordering::Relaxed);
        }
        Ok(())
    })
}

/// So many connections, each after one exchange.
pub(crate) fn idle(target: SocketAddr, connections: usize) -> io::Result<Vec<TcpStream>> {
    let open_one = |_| {
        let mut stream = open(target)?;
        exchange(&mut stream, Asks::Idle)?;
        Ok(stream)
    };
    (0..connections).map(open_one).collect()
}

/// Has the server close its side of those.
pub(crate) fn forget_idle(server: SocketAddr) -> io::Result<()> {
    exchange(&mut open(server)?, Asks::Forget)
}

/// Whether an exchange with the server comes about.
pub(crate) fn is_reached(target: SocketAddr) -> bool {
    open(target).and_then(|mut stream| exchange(&mut stream, Asks::Once)).is_ok()
}

fn open(target: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(target)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn exchange(stream: &mut TcpStream, asks: Asks) -> io::Result<()> {
    stream.write_all(&[asks as u8; REQUEST_BYTES])?;
    stream.read_exact(&mut [0; ANSWER_BYTES])
}

/// Runs `work` in so many threads, and counts while they are at it.
fn crowd(
    size: usize,
    time: Duration,
    proxy: &ProcessorTime<'_>,
    work: impl Fn(&AtomicU64, &AtomicBool) -> io::Result<()> + Sync,
) -> Outcome<Window> {
    let (count, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let threads: Vec<_> = (0..size).map(|_| scope.spawn(|| work(&count, &stop))).collect();
        thread::sleep(WARM_UP);
        let (start, before, spent) = (Instant::now(), count.load(Ordering::Relaxed), proxy.now());
        thread::sleep(time);
        let (seconds, after, spent_then) =
            (start.elapsed().as_secs_f64(), count.load(Ordering::Relaxed), proxy.now());
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_| "a client panicked")??;
        }
        Ok(Window { count: after - before, seconds, processor: spent_then? - spent? })
    })
}

/// The server, for ever.
pub(crate) fn serve(at: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(at)?;
    let idle = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..SERVER_THREADS {
            scope.spawn(|| {
                loop {
                    // A client that goes away in the middle is not the server's concern.
                    let _ = listener.accept().and_then(|(stream, _)| answer(stream, &idle));
                }
            });
        }
    });
    Ok(())
}

fn answer(mut stream: TcpStream, idle: &Mutex<Vec<TcpStream>>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = [0; REQUEST_BYTES];
    loop {
        stream.read_exact(&mut request)?;
        match request[0] {
            asks if asks == Asks::Bulk as u8 => {
                let chunk = vec![0; CHUNK_BYTES];
                loop {
                    stream.write_all(&chunk)?;
                }
            }
            asks => {
                if asks == Asks::Forget as u8 {
                    idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
                }
                stream.write_all(&[asks; ANSWER_BYTES])?;
                if asks == Asks::Idle as u8 {
                    idle.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
                    return Ok(());
                }
                if asks != Asks::Ever as u8 {
                    return Ok(());
                }
            }
        }
    }
}
