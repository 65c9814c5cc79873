//! Messages with descriptors beside them, over a unix stream socket.

use glacis_control::frame::{self, FrameError, HEADER_BYTES};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, IoSlice, IoSliceMut};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Most descriptors beside one message (`SCM_MAX_FD` in `include/net/scm.h`).
pub const MESSAGE_DESCRIPTORS_MAX: usize = 253;
/// Read at once.
const CHUNK_BYTES: usize = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    #[error("the other side of the feed has gone")]
    Ended,
    #[error("cannot write to the feed: {0}")]
    Write(#[source] io::Error),
    #[error("cannot read from the feed: {0}")]
    Read(#[source] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("{count} descriptors beside one message; {MESSAGE_DESCRIPTORS_MAX} are the most")]
    Descriptors { count: usize },
    #[error("{count} descriptors came beside a message that may have {most}")]
    Unwanted { count: usize, most: usize },
    #[error("descriptors beside a message were lost; is the limit of open files too low?")]
    DescriptorsLost,
}

/// One direction of a feed. Cancelling [`Self::send`] half-way leaves the feed unusable.
#[derive(Debug)]
pub struct FeedWriter<T> {
    messages: PhantomData<fn(T)>,
}

impl<T: Serialize> FeedWriter<T> {
    pub const fn new() -> Self {
        Self { messages: PhantomData }
    }

    /// Sends a message with descriptors beside it; they are duplicated, not given away.
    pub async fn send(
        &self,
        socket: &UnixStream,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), FeedError> {
        if descriptors.len() > MESSAGE_DESCRIPTORS_MAX {
            return Err(FeedError::Descriptors { count: descriptors.len() });
        }
        let bytes = frame::encode(message)?;
        let mut sent = 0;
        while sent < bytes.len() {
            // Descriptors travel with the first byte that gets through.
            let beside = if sent == 0 { descriptors } else { &[] };
            let send = || send_some(socket, &bytes[sent..], beside);
            sent += socket.async_io(Interest::WRITABLE, send).await.map_err(FeedError::Write)?;
        }
        Ok(())
    }
}

impl<T: Serialize> Default for FeedWriter<T> {
    fn default() -> Self {
        Self::new()
    }
}

fn send_some(socket: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE_DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    Ok(rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)?)
}

/// The other direction.
#[derive(Debug)]
pub struct FeedReader<T> {
    /// Received and not yet understood.
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
    descriptors_max: usize,
    messages: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> FeedReader<T> {
    pub const fn new() -> Self {
        Self::bounded(MESSAGE_DESCRIPTORS_MAX)
    }

    /// For a side that is never sent any: whoever sends one all the same is not heard any more.
    pub const fn without_descriptors() -> Self {
        Self::bounded(0)
    }

    const fn bounded(descriptors_max: usize) -> Self {
        Self { bytes: Vec::new(), descriptors: Vec::new(), descriptors_max, messages: PhantomData }
    }

    /// The next message and the descriptors beside it, close-on-exec. May be cancelled at any time: nothing is lost.
    pub async fn next(&mut self, socket: &UnixStream) -> Result<(T, Vec<OwnedFd>), FeedError> {
        loop {
            if let Some(message) = self.take()? {
                return Ok((message, std::mem::take(&mut self.descriptors)));
            }
            let (bytes, descriptors) = (&mut self.bytes, &mut self.descriptors);
            // What is beyond the message at hand waits in the socket, so that descriptors stay with theirs.
            let wanted = missing(bytes)?.min(CHUNK_BYTES);
            let received = socket
                .async_io(Interest::READABLE, || receive_some(socket, wanted, bytes, descriptors))
                .await
                .map_err(FeedError::Read)?;
            match received {
                Received::Bytes if self.descriptors.len() > self.descriptors_max => {
                    let count = std::mem::take(&mut self.descriptors).len();
                    return Err(FeedError::Unwanted { count, most: self.descriptors_max });
                }
                Received::Bytes => {}
                Received::End => return Err(FeedError::Ended),
                Received::DescriptorsLost => return Err(FeedError::DescriptorsLost),
            }
        }
    }

    fn take(&mut self) -> Result<Option<T>, FeedError> {
        if missing(&self.bytes)? > 0 || self.bytes.len() == HEADER_BYTES {
            return Ok(None);
        }
        let message = frame::decode(&self.bytes[HEADER_BYTES..])?;
        self.bytes.clear();
        self.bytes.shrink_to(CHUNK_BYTES);
        Ok(Some(message))
    }
}

impl<T: DeserializeOwned> Default for FeedReader<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Bytes until the header, then until the body is whole.
fn missing(bytes: &[u8]) -> Result<usize, FeedError> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Ok(HEADER_BYTES - bytes.len());
    };
    Ok(frame::body_length(*header)? + HEADER_BYTES - bytes.len())
}

enum Received {
    Bytes,
    End,
    DescriptorsLost,
}

fn receive_some(
    socket: &UnixStream,
    wanted: usize,
    bytes: &mut Vec<u8>,
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE_DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let before = bytes.len();
    bytes.resize(before + wanted, 0);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let result =
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut bytes[before..])], &mut control, flags);
    bytes.truncate(before + result.as_ref().map_or(0, |message| message.bytes));
    let message = result?;
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = part {
            descriptors.extend(passed);
        }
    }
    // The kernel drops descriptors that do not fit or cannot be opened, and says so.
    if message.flags.contains(rustix::net::ReturnFlags::CTRUNC) {
        return Ok(Received::DescriptorsLost);
    }
    Ok(if message.bytes == 0 { Received::End } else { Received::Bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    type Message = Vec<String>;

    fn pair() -> (UnixStream, UnixStream) {
        UnixStream::pair().unwrap()
    }

    #[tokio::test]
    async fn descriptors_stay_with_their_message() {
        let (core, worker) = pair();
        let (mut read_end, write_end) = io::pipe().unwrap();
        let writer = FeedWriter::<Message>::new();
        writer.send(&core, &vec!["first".into()], &[]).await.unwrap();
        writer.send(&core, &vec!["second".into()], &[write_end.as_fd()]).await.unwrap();
        writer.send(&core, &vec!["third".into()], &[]).await.unwrap();
        drop(write_end);
        let mut reader = FeedReader::<Message>::new();
        assert!(matches!(reader.next(&worker).await.unwrap(), (m, fds) if m == ["first"] && fds.is_empty()));
        let (message, mut passed) = reader.next(&worker).await.unwrap();
        assert_eq!((message.as_slice(), passed.len()), (&["second".to_owned()][..], 1));
        std::fs::File::from(passed.remove(0)).write_all(b"hello").unwrap();
        let mut text = String::new();
        read_end.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        assert!(matches!(reader.next(&worker).await.unwrap(), (m, fds) if m == ["third"] && fds.is_empty()));
        drop(core);
        assert!(matches!(reader.next(&worker).await, Err(FeedError::Ended)));
    }

    #[tokio::test]
    async fn a_message_larger_than_the_socket_s_buffer_arrives_whole_with_its_descriptors() {
        let (core, worker) = pair();
        let (_read_end, write_end) = io::pipe().unwrap();
        let sent: Message = (0..20_000).map(|n| format!("{n:0100}")).collect();
        let expected = sent.clone();
        let sending = tokio::spawn(async move {
            let beside = vec![write_end.as_fd(); MESSAGE_DESCRIPTORS_MAX];
            FeedWriter::<Message>::new().send(&core, &sent, &beside).await.unwrap();
        });
        let (message, passed) = FeedReader::<Message>::new().next(&worker).await.unwrap();
        assert!(message == expected);
        assert_eq!(passed.len(), MESSAGE_DESCRIPTORS_MAX);
        sending.await.unwrap();
    }

    #[tokio::test]
    async fn a_side_that_takes_no_descriptors_hears_nobody_who_sends_one() {
        let (core, worker) = pair();
        let (_read_end, write_end) = io::pipe().unwrap();
        let writer = FeedWriter::<Message>::new();
        writer.send(&worker, &vec!["status".into()], &[]).await.unwrap();
        writer.send(&worker, &vec!["status".into()], &[write_end.as_fd()]).await.unwrap();
        let mut reader = FeedReader::<Message>::without_descriptors();
        reader.next(&core).await.unwrap();
        assert!(matches!(reader.next(&core).await, Err(FeedError::Unwanted { count: 1, most: 0 })));
    }

    #[tokio::test]
    async fn too_many_descriptors_are_refused_before_a_byte_is_sent() {
        let (core, _worker) = pair();
        let (read_end, _write_end) = io::pipe().unwrap();
        let beside = vec![read_end.as_fd(); MESSAGE_DESCRIPTORS_MAX + 1];
        let result = FeedWriter::<Message>::new().send(&core, &vec![], &beside).await;
        assert!(
            matches!(result, Err(FeedError::Descriptors { count }) if count == MESSAGE_DESCRIPTORS_MAX + 1)
        );
    }
}
