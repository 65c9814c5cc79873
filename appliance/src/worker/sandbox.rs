//! The one-way door: from a child of root to a process that can only talk through what it already holds.
//!
//! The order matters. Credentials belong to a thread, so the door is passed before there is a second one.
//! A change of credentials clears the parent-death signal and the dumpable flag, so both are set after it.
//! The seccomp filter comes last: it forbids every step before it.

use super::filter;
use super::profile::{Network, Profile};
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetError,
    RulesetStatus, Scope,
};
use rustix::process::{DumpableBehavior, Gid, Resource, Rlimit, Signal, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::fmt;
use std::io;

/// What was closed, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SandboxReport {
    pub landlock: Landlock,
}

/// How much of the file system and network rules the kernel enforces besides the seccomp filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landlock {
    Full,
    /// An older kernel: it knows some of the rules.
    Partial,
    /// Not in this kernel, or switched off at boot.
    Absent,
}

impl fmt::Display for Landlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Partial => "partial",
            Self::Absent => "absent",
        })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("{threads} threads run; the sandbox must be closed before a second one starts")]
    Threads { threads: usize },
    #[error("cannot {step}: {source}; workers need to be started by root")]
    Step { step: &'static str, source: io::Error },
    #[error("user 0 can be had back after it was given up")]
    StillRoot,
    #[error("capabilities are left after they were dropped")]
    StillCapable,
    #[error("cannot apply the Landlock rules: {0}")]
    Landlock(#[from] RulesetError),
    #[error("cannot compile the seccomp filter: {0}")]
    Compile(#[from] seccompiler::BackendError),
    #[error("cannot install the seccomp filter: {0}")]
    Install(#[from] seccompiler::Error),
}

/// Closes the sandbox for good; an error leaves it half closed, and the process must end.
pub fn enter(profile: &Profile) -> Result<SandboxReport, SandboxError> {
    let program = filter::compile(profile)?;
    let unknown = filter::compile_unknown(profile)?;
    let report = enter_unfiltered(profile)?;
    // The list forbids to install another filter, so it comes last.
    if let Some(unknown) = unknown {
        seccompiler::apply_filter(&unknown)?;
    }
    seccompiler::apply_filter(&program)?;
    Ok(report)
}

/// All but the seccomp filter; by itself only for the self-test, which shows that each layer holds alone.
pub(super) fn enter_unfiltered(profile: &Profile) -> Result<SandboxReport, SandboxError> {
    refuse_threads()?;
    limit(profile)?;
    drop_privileges(profile)?;
    seal()?;
    verify()?;
    Ok(SandboxReport { landlock: restrict_paths(profile.network)? })
}

/// Names the step of an error.
fn step<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> SandboxError {
    move |source| SandboxError::Step { step, source: source.into() }
}

fn refuse_threads() -> Result<(), SandboxError> {
    let threads =
        std::fs::read_dir("/proc/self/task").map_err(step("count threads in /proc/self/task"))?.count();
    if threads == 1 { Ok(()) } else { Err(SandboxError::Threads { threads }) }
}

fn limit(profile: &Profile) -> Result<(), SandboxError> {
    let limits = [
        (Resource::Nofile, profile.open_files_max, "limit open descriptors"),
        (Resource::Data, profile.data_bytes_max, "limit memory"),
        (Resource::Core, 0, "forbid core dumps"),
        (Resource::Memlock, 0, "forbid locked memory"),
        // Counts threads of the user, this one among them: with 0 none can be added.
        (Resource::Nproc, profile.threads_max, "limit threads"),
    ];
    for (resource, value, what) in limits {
        let limit = Rlimit { current: Some(value), maximum: Some(value) };
        match rustix::process::setrlimit(resource, limit) {
            Ok(()) => {}
            // Raising a limit takes a capability that root in a container may lack; what it has is less, and does.
            Err(rustix::io::Errno::PERM) => keep_hard_limit(resource).map_err(step(what))?,
            Err(error) => return Err(step(what)(error)),
        }
    }
    Ok(())
}

/// Uses all that may be used without raising anything, and no more from now on.
fn keep_hard_limit(resource: Resource) -> rustix::io::Result<()> {
    let maximum = rustix::process::getrlimit(resource).maximum;
    rustix::process::setrlimit(resource, Rlimit { current: maximum, maximum })
}

fn drop_privileges(profile: &Profile) -> Result<(), SandboxError> {
    let (uid, gid) = (Uid::from_raw(profile.uid), Gid::from_raw(profile.gid));
    drop_bounding_set()?;
    rustix::thread::clear_ambient_capability_set().map_err(step("clear the ambient capabilities"))?;
    rustix::thread::set_thread_groups(&[]).map_err(step("clear the supplementary groups"))?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(step("change the group"))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(step("change the user"))?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets).map_err(step("drop capabilities"))
}

/// Capabilities that no later execution could bring back, those that are newer than this program included.
fn drop_bounding_set() -> Result<(), SandboxError> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // Past the last one that the kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(step("drop the bounding set")(error)),
        }
    }
    Ok(())
}

/// No gain by execution, no look inside from outside, no life without the core.
fn seal() -> Result<(), SandboxError> {
    rustix::thread::set_no_new_privs(true).map_err(step("set no_new_privs"))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(step("forbid tracing"))?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(step("set the parent-death signal"))
}

fn verify() -> Result<(), SandboxError> {
    if rustix::thread::set_thread_uid(Uid::ROOT).is_ok() {
        return Err(SandboxError::StillRoot);
    }
    let left = rustix::thread::capabilities(None).map_err(step("read capabilities"))?;
    let all = left.effective | left.permitted | left.inheritable;
    if all.is_empty() { Ok(()) } else { Err(SandboxError::StillCapable) }
}

/// No path at all, no TCP bind, no connect unless the profile says so, no abstract socket or signal outside, as far as the
/// kernel knows them.
fn restrict_paths(network: Network) -> Result<Landlock, SandboxError> {
    const KNOWN: ABI = ABI::V6;
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(match network {
            Network::None => AccessNet::from_all(KNOWN),
            Network::Connect => AccessNet::BindTcp.into(),
        })?
        .scope(Scope::from_all(KNOWN))?
        .create()?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Landlock::Full,
        RulesetStatus::PartiallyEnforced => Landlock::Partial,
        RulesetStatus::NotEnforced => Landlock::Absent,
    })
}
