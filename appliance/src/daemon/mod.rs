//! The core: the one owner of the host's state, and the loop that everything passes through.
//!
//! Command lines, probe events, link changes, leases and worker exits arrive as messages and are handled one after the
//! other, so no two of them can race for the kernel or the store. What parses bytes from a network runs in workers.

mod apply;
mod blocking;
mod clock;
mod control_socket;
mod converge;
mod facts;
mod gates;
mod leases;
mod program;
mod report;
mod requests;
mod revisions;
mod ruleset;
mod scanning;
mod scans;
mod supervision;
mod troubles;
mod workers;

use crate::bans::{BanBook, OffenceBook};
use crate::cli::RunArgs;
use crate::detector::Detector;
use crate::dhcp::DhcpEvent;
use crate::geoip::GeoDatabases;
use crate::kernel::{Kernel, KernelError};
use crate::policy_file::Checked;
use crate::storage::{Storage, StorageError};
use clock::ClockWatch;
use control_socket::{Asked, SocketError};
use gates::{Gates, HEARD_MAX};
use glacis_control::report::{FirewallState, PolicySource};
use glacis_control::{EventKind, UnixMillis};
use glacis_gate::feed::FromWorker;
use glacis_netlink::links::{LinkHandle, LinksError};
use glacis_netlink::nft::Generation;
use glacis_plan::nft::Ruleset;
use glacis_plan::{ObservedLink, Plan};
use glacis_store::{Bounds, Store, StoreError};
use leases::Leases;
use revisions::{RevisionError, Revisions};
use scanning::{ProbeSource, Unrecorded};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval};
use troubles::{Trouble, Troubles};
use workers::StatusWorker;

/// How often time passes for bans, heartbeats and the status page.
const TICK: Duration = Duration::from_secs(1);
/// Ticks between looks for changes by others, and between sweeps of the kernel's probe counts.
const TICKS_PER_AUDIT: u64 = 10;
/// Ticks between runs of retention.
const TICKS_PER_RETENTION: u64 = 3_600;
/// Where an appliance keeps its state when the disk's cannot be used; gone with the next boot.
const VOLATILE_STATE: &str = "/run/glacis/state";
/// Command lines that may wait for the loop.
const ASKED_QUEUE: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("glacis needs root: it changes the firewall, interfaces and eBPF programs of this host")]
    NotRoot,
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Links(#[from] LinksError),
    #[error("cannot make the folder {}: {cause}", folder.display())]
    State { folder: PathBuf, cause: io::Error },
    #[error("cannot open the store in {}: {cause}", folder.display())]
    Store { folder: PathBuf, cause: StoreError },
    #[error(transparent)]
    Revisions(#[from] RevisionError),
    #[error(transparent)]
    Socket(#[from] SocketError),
}

/// A policy that runs: what it says, what it came to, where it came from.
struct Active {
    checked: Checked,
    source: PolicySource,
    revision: u64,
    applied: UnixMillis,
}

/// Everything the core knows. One task owns it.
struct Daemon {
    args: RunArgs,
    started: UnixMillis,
    kernel: Kernel,
    links: LinkHandle,
    store: Storage,
    /// Bans on their way to the disk.
    keeping: JoinSet<Result<(), StorageError>>,
    revisions: Revisions,
    bans: BanBook,
    /// What would be in `bans` if the policy did not only observe.
    would_block: BanBook,
    offences: OffenceBook,
    detector: Detector,
    clock: ClockWatch,
    geoip: GeoDatabases,
    probes: ProbeSource,
    unrecorded: Unrecorded,
    /// When the last sweep of the kernel's tables began, on the kernel's clock.
    swept_from: Duration,
    leases: Leases,
    status_worker: StatusWorker,
    gates: Gates,
    active: Option<Active>,
    /// What was asked of the kernel last: the policy's plan with the leases in it.
    wanted: Plan,
    /// What is in the kernel as far as this process loaded it and found it unchanged.
    loaded: Option<Ruleset>,
    /// Of the last state of all rulesets that was ours or was found to have ours in it.
    generation: Option<Generation>,
    firewall: FirewallState,
    observed: Vec<ObservedLink>,
    /// Why the newest policy is not the running one.
    refused: Option<glacis_control::Refusal>,
    /// What failed at the last convergence and is tried again.
    troubles: Troubles,
    ticks: u64,
}

/// Runs the core until it is told to stop.
pub fn main(args: RunArgs) -> ExitCode {
    crate::log::start();
    crate::memory::give_back_what_is_freed();
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("glacis: {}", crate::log::whole(&error));
            ExitCode::FAILURE
        }
    }
}

fn start(args: RunArgs) -> Result<(), StartError> {
    if !rustix::process::geteuid().is_root() {
        return Err(StartError::NotRoot);
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Runtime)?;
    runtime.block_on(async {
        let (mut daemon, inputs) = Daemon::open(args)?;
        daemon.begin().await;
        daemon.run(inputs).await;
        Ok(())
    })
}

/// Where messages come from.
struct Inputs {
    asked: mpsc::Receiver<Asked>,
    leases: mpsc::Receiver<DhcpEvent>,
    gates: mpsc::Receiver<FromWorker>,
    links: glacis_netlink::links::LinkWatch,
    reload: Signal,
    stop: Signal,
    interrupt: Signal,
    tick: Interval,
}

impl Daemon {
    fn open(mut args: RunArgs) -> Result<(Self, Inputs), StartError> {
        // Workers run in another folder.
        args.state = std::path::absolute(&args.state).unwrap_or(args.state);
        let now = now();
        let mut troubles = Troubles::default();
        let (store, revisions) = open_state_or_stand_in(&mut args, &mut troubles)?;
        let store_error = |cause| StartError::Store { folder: args.state.clone(), cause };
        let reader = store.reader();
        let (bans, offences) = (store.bans().map_err(store_error)?, reader.offences().map_err(store_error)?);
        let clients = reader.clients(now).map_err(store_error)?;
        let (gates, gates_heard) = Gates::new(&clients).map_err(StartError::Runtime)?;
        let clock = ClockWatch::start(reader.newest_day().map_err(store_error)?);
        let geoip = GeoDatabases::new(&args.state);
        let located = geoip.clone();
        let store = Storage::start(store, move |address| located.locate(address)).map_err(store_error)?;
        let (asked_in, asked) = mpsc::channel(ASKED_QUEUE);
        let socket = control_socket::listen(&args.socket)?;
        tokio::spawn(control_socket::serve(socket, asked_in));
        let (leases_kept, leases) = Leases::new();
        let links = LinkHandle::new()?;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let signals = |kind| signal(kind).map_err(StartError::Runtime);
        let inputs = Inputs {
            asked,
            leases,
            gates: gates_heard,
            links: links.watch()?,
            reload: signals(SignalKind::hangup())?,
            stop: signals(SignalKind::terminate())?,
            interrupt: signals(SignalKind::interrupt())?,
            tick,
        };
        let daemon = Self {
            started: now,
            kernel: Kernel::start()?,
            links,
            store,
            keeping: JoinSet::new(),
            revisions,
            bans: BanBook::new(bans),
            would_block: BanBook::default(),
            offences: OffenceBook::new(offences),
            detector: Detector::default(),
            clock,
            geoip,
            probes: ProbeSource::default(),
            unrecorded: Unrecorded::default(),
            swept_from: Duration::ZERO,
            leases: leases_kept,
            status_worker: StatusWorker::new(&args.state).map_err(StartError::Runtime)?,
            gates,
            active: None,
            wanted: Plan::default(),
            loaded: None,
            generation: None,
            firewall: FirewallState::DropAll,
            observed: vec![],
            refused: None,
            troubles,
            ticks: 0,
            args,
        };
        Ok((daemon, inputs))
    }

    /// The first policy: the file, else the last good one, else nothing passes.
    async fn begin(&mut self) {
        self.note(EventKind::CoreStarted { version: env!("CARGO_PKG_VERSION").to_owned() });
        // The verifier and the policy do not wait for each other.
        let program = self.begin_loading_program();
        self.first_policy().await;
        self.take_program(program.await).await;
        crate::log::milestone(match self.firewall {
            FirewallState::Applied => "ready with a policy in force",
            _ => "ready without a policy: nothing passes",
        });
    }

    async fn run(&mut self, mut inputs: Inputs) {
        loop {
            tokio::select! {
                _ = inputs.stop.recv() => break,
                _ = inputs.interrupt.recv() => break,
                _ = inputs.reload.recv() => { let _ = self.reload().await; }
                Some(asked) = inputs.asked.recv() => self.answer(asked).await,
                Some(lease) = inputs.leases.recv() => self.take_lease(lease).await,
                change = inputs.links.next() => self.take_link_change(change).await,
                Some(Ok(kept)) = self.keeping.join_next() => self.take_kept(kept),
                turn = self.probes.next() => self.take_turn(turn).await,
                exit = self.status_worker.exited() => self.take_worker_exit(exit),
                exit = self.gates.exited() => self.take_gate_worker_exit(exit).await,
                Some(first) = inputs.gates.recv() => {
                    let waiting = std::iter::from_fn(|| inputs.gates.try_recv().ok()).take(HEARD_MAX);
                    let messages = std::iter::once(first).chain(waiting).collect();
                    self.take_gate_messages(messages).await;
                }
                _ = inputs.tick.tick() => self.tick().await,
            }
        }
        tracing::info!("stopping; ruleset and TC program stay in the kernel");
        self.status_worker.stop();
        self.gates.stop();
        let _ = std::fs::remove_file(&self.args.socket);
    }

    async fn tick(&mut self) {
        self.ticks += 1;
        crate::heartbeat::beat();
        self.follow_clock().await;
        self.expire_bans().await;
        if self.ticks.is_multiple_of(TICKS_PER_AUDIT) {
            self.sweep_probes().await;
            self.refresh_geoip();
            self.audit().await;
        }
        if self.ticks % TICKS_PER_RETENTION == 1 {
            self.retain();
        }
        self.tick_gates().await;
        self.status_worker.revive();
        let report = self.report().await;
        if let Some(cause) = self.status_worker.feed(report).await {
            self.take_worker_exit(cause);
        }
    }

    /// Writes an event down. Losing one is counted by the store.
    fn note(&self, kind: EventKind) {
        self.store.note(kind, now());
    }
}

/// An appliance without its state is still a firewall, and says what it lacks.
fn open_state_or_stand_in(
    args: &mut RunArgs,
    troubles: &mut Troubles,
) -> Result<(Store, Revisions), StartError> {
    match open_state(&args.state) {
        Err(error) if args.appliance => {
            let error = crate::log::whole(&error);
            tracing::error!(error, "the state on disk is not used");
            troubles.add(Trouble::State, format!("blocks and scans are not kept: {error}"));
            args.state = PathBuf::from(VOLATILE_STATE);
            open_state(&args.state)
        }
        opened => opened,
    }
}

fn open_state(folder: &Path) -> Result<(Store, Revisions), StartError> {
    std::fs::create_dir_all(folder)
        .map_err(|cause| StartError::State { folder: folder.to_owned(), cause })?;
    let store = Store::open(folder, Bounds::default())
        .map_err(|cause| StartError::Store { folder: folder.to_owned(), cause })?;
    Ok((store, Revisions::open(folder)?))
}

fn now() -> UnixMillis {
    UnixMillis::from_system(SystemTime::now())
}
