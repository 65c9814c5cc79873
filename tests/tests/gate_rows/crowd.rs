//! Many connections at once, from one address or from many.

use crate::scene::{Scene, firewall};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

/// Nobody waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(90);

/// Tests share this process's descriptors: those that want thousands of them take turns.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // A test that failed has left nothing behind it.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What became of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// Every byte came back.
    Served,
    /// Ended before a byte came back.
    Closed,
    /// Ended when some of the bytes had come back, or others.
    Cut,
    /// It did not come about.
    Unconnected,
    /// Nothing happened for too long.
    Stuck,
}

/// Connects from each address at once, says something, ends its side and listens; how many met which fate.
pub fn all_at_once(
    scene: &Scene,
    from: impl Iterator<Item = IpAddr> + Send,
    port: u16,
    text: &'static [u8],
) -> BTreeMap<Fate, usize> {
    let to = firewall("", port);
    scene.outside.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime can be built").block_on(async {
            let visitors: Vec<_> = from.map(|from| tokio::spawn(fate(from, to, text))).collect();
            let mut fates = BTreeMap::new();
            for visitor in visitors {
                *fates.entry(visitor.await.expect("a visitor does not panic")).or_default() += 1;
            }
            fates
        })
    })
}

/// Connections from one address, open, without a word.
pub fn wordless(scene: &Scene, from: &str, port: u16, count: usize) -> Vec<std::net::TcpStream> {
    (0..count).map(|_| scene.connect(from, port)).collect()
}

async fn fate(from: IpAddr, to: SocketAddr, text: &[u8]) -> Fate {
    tokio::time::timeout(PATIENCE, visit(from, to, text)).await.unwrap_or(Fate::Stuck)
}

async fn visit(from: IpAddr, to: SocketAddr, text: &[u8]) -> Fate {
    let connect = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(from, 0))?;
        socket.connect(to).await
    };
    let Ok(mut stream) = connect.await else { return Fate::Unconnected };
    let mut heard = Vec::new();
    let converse: io::Result<()> = async {
        stream.write_all(text).await?;
        stream.shutdown().await?;
        stream.read_to_end(&mut heard).await.map(drop)
    }
    .await;
    match converse {
        Ok(()) if heard == text => Fate::Served,
        _ if heard.is_empty() => Fate::Closed,
        _ => Fate::Cut,
    }
}
