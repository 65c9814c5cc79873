//! The one thread that touches nf_tables and the TC program.
//!
//! Netlink answers a batch inside `send`, and a million elements take seconds there, so this work has a thread of
//! its own. Jobs run one after the other: a ban and a reload cannot race.

use glacis_loader::TcProgram;
use glacis_netlink::nft::{Connection, NftError};
use std::collections::BTreeSet;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How often a sign of life is given while a job runs.
const BEAT: Duration = Duration::from_secs(1);
/// A job that takes longer is taken for stuck, and the silence tells.
const JOB_MAX: Duration = Duration::from_secs(120);

/// What only the kernel thread holds.
pub struct KernelState {
    pub nft: Connection,
    /// `None` until the program was loaded.
    pub tc: Option<TcProgram>,
    /// Devices that this process attached the program to.
    pub attached: BTreeSet<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error(transparent)]
    Nft(#[from] NftError),
    #[error("cannot start the kernel thread")]
    Thread(#[source] std::io::Error),
}

type Job = Box<dyn FnOnce(&mut KernelState) + Send>;

/// A handle to the kernel thread; the thread ends when the handle does.
pub struct Kernel {
    jobs: mpsc::Sender<Job>,
}

impl Kernel {
    pub fn start() -> Result<Self, KernelError> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let mut state = KernelState { nft: Connection::open()?, tc: None, attached: BTreeSet::new() };
        thread::Builder::new()
            .name("kernel".to_owned())
            .spawn(move || {
                for job in queue {
                    job(&mut state);
                }
            })
            .map_err(KernelError::Thread)?;
        Ok(Self { jobs })
    }

    /// Runs a job on the kernel thread and waits for its result. The daemon awaits each job before the next, so at
    /// most one is ever queued.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut KernelState) -> T + Send + 'static,
    ) -> T {
        let (reply, result) = oneshot::channel();
        let job: Job = Box::new(move |state| {
            let _ = reply.send(job(state));
        });
        self.jobs.send(job).expect("the kernel thread lives as long as its handle");
        let mut result = std::pin::pin!(result);
        let mut waited = Duration::ZERO;
        loop {
            match timeout(BEAT, &mut result).await {
                Ok(result) => return result.expect("a job sends its result, and a panic ends the process"),
                // The kernel works on a large transaction; who watches the loop should know.
                Err(_) if waited < JOB_MAX => {
                    waited += BEAT;
                    crate::heartbeat::beat();
                }
                Err(_) => {}
            }
        }
    }
}
