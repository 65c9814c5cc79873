//! The worker's process: its threads and what it says to the core.

use crate::book::Book;
use crate::feed::{FeedError, FeedReader, ToWorker};
use std::io;
use std::os::unix::net::UnixStream;

#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("the runtime of thread {thread} cannot be built: {cause}")]
    Runtime { thread: usize, cause: io::Error },
    #[error("the feed's socket cannot be used: {0}")]
    Socket(#[source] io::Error),
    #[error(transparent)]
    Feed(#[from] FeedError),
}

/// Serves the gates that the core speaks of until the feed ends, which is no error.
///
/// To be called in a process that is sandboxed already and has no other thread: the threads that it makes inherit the
/// sandbox. It never gives up what the core keeps: listening sockets stay open there when this process ends.
pub fn serve(feed: UnixStream) -> Result<(), WorkerError> {
    feed.set_nonblocking(true).map_err(WorkerError::Socket)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| WorkerError::Runtime { thread: 0, cause })?;
    runtime.block_on(async {
        let feed = tokio::net::UnixStream::from_std(feed).map_err(WorkerError::Socket)?;
        let mut reader = FeedReader::<ToWorker>::new();
        let mut book = Book::new();
        loop {
            match reader.next(&feed).await {
                Ok((ToWorker::Learn { records }, _)) => {
                    for record in &records {
                        book.learn_record(record);
                    }
                }
                Ok(_) => {}
                Err(FeedError::Ended) => return Ok(()),
                Err(trouble) => return Err(trouble.into()),
            }
        }
    })
}
