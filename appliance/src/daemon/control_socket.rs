//! The unix socket on which the command line asks. Requests are parsed here and answered by the daemon's loop.

use glacis_control::frame::{self, HEADER_BYTES};
use glacis_control::{Refusal, Reply, Request};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

/// Command lines served at once; further ones wait in the listen queue.
const CONNECTIONS_MAX: usize = 16;
/// A client that says nothing for so long is left.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// A request, who asks, and where its reply goes.
pub struct Asked {
    pub request: Request,
    /// `uid N`, from the socket's credentials.
    pub author: String,
    pub reply: oneshot::Sender<Reply>,
}

#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("another glacis answers at {}; stop it first, or name another socket with --socket", .0.display())]
    Taken(PathBuf),
    #[error("cannot listen at {}: {cause}", path.display())]
    Listen { path: PathBuf, cause: io::Error },
}

/// Listens, root only. A socket that nobody answers is a leftover and is replaced.
pub fn listen(path: &Path) -> Result<UnixListener, SocketError> {
    let wrong = |cause| SocketError::Listen { path: path.to_owned(), cause };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(wrong)?;
    }
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(SocketError::Taken(path.to_owned()));
        }
        std::fs::remove_file(path).map_err(wrong)?;
    }
    let listener = UnixListener::bind(path).map_err(wrong)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(wrong)?;
    Ok(listener)
}

/// Takes connections until the daemon's loop is gone.
pub async fn serve(listener: UnixListener, asked: mpsc::Sender<Asked>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while !asked.is_closed() {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let asked = asked.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, asked).await {
                        tracing::debug!(%error, "a command line left");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot take a command line");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(mut stream: UnixStream, asked: mpsc::Sender<Asked>) -> io::Result<()> {
    let author = format!("uid {}", stream.peer_cred()?.uid());
    loop {
        let mut header = [0; HEADER_BYTES];
        match timeout(IDLE_TIMEOUT, stream.read_exact(&mut header)).await {
            Err(_) => return Ok(()),
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(read) => read?,
        };
        let body_bytes = match frame::body_length(header) {
            Ok(bytes) => bytes,
            Err(error) => return answer(&mut stream, &refused(error.to_string())).await,
        };
        let mut body = vec![0; body_bytes];
        timeout(IDLE_TIMEOUT, stream.read_exact(&mut body)).await.map_err(io::Error::other)??;
        let reply = match frame::decode::<Request>(&body) {
            Err(error) => refused(error.to_string()),
            Ok(request) => {
                let (reply, replied) = oneshot::channel();
                let question = Asked { request, author: author.clone(), reply };
                if asked.send(question).await.is_err() {
                    return Ok(());
                }
                replied.await.unwrap_or_else(|_| refused("the daemon is stopping".to_owned()))
            }
        };
        answer(&mut stream, &reply).await?;
    }
}

async fn answer(stream: &mut UnixStream, reply: &Reply) -> io::Result<()> {
    let bytes = match frame::encode(reply) {
        Ok(bytes) => bytes,
        Err(error) => frame::encode(&refused(error.to_string())).map_err(io::Error::other)?,
    };
    timeout(IDLE_TIMEOUT, stream.write_all(&bytes)).await.map_err(io::Error::other)?
}

/// A refusal without diagnostics.
pub fn refused(message: String) -> Reply {
    Reply::Refused { refusal: Refusal { message, detail: String::new() } }
}
