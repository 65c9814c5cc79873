//! A profile's system calls as a seccomp program.

use super::profile::{Argument, Profile, Syscall};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;

/// Compiles the allow-list; a call that is not on it ends the process, unless it is one of the unknown.
pub fn compile(profile: &Profile) -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for number in profile.unknown {
        // Refused by the other filter; this one must not end the process for it.
        rules.insert(*number, vec![]);
    }
    for row in profile.syscalls {
        let alternatives = rules.entry(row.number).or_default();
        // No alternative at all stands for any arguments.
        if !row.arguments.is_empty() {
            alternatives.push(rule(row)?);
        }
    }
    let filter =
        SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, TargetArch::x86_64)?;
    filter.try_into()
}

/// Compiles what answers calls that a profile takes for unknown; `None` when there are none. It goes in front of the list:
/// of several filters the sternest answer holds, and an error is sterner than permission.
pub fn compile_unknown(profile: &Profile) -> Result<Option<BpfProgram>, BackendError> {
    if profile.unknown.is_empty() {
        return Ok(None);
    }
    let rules = profile.unknown.iter().map(|number| (*number, vec![])).collect();
    let unknown = SeccompAction::Errno(libc::ENOSYS as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, unknown, TargetArch::x86_64)?;
    filter.try_into().map(Some)
}

fn rule(row: &Syscall) -> Result<SeccompRule, BackendError> {
    let conditions = row.arguments.iter().copied().map(condition).collect::<Result<_, _>>()?;
    SeccompRule::new(conditions)
}

fn condition(argument: Argument) -> Result<SeccompCondition, BackendError> {
    let (index, operator, value) = match argument {
        Argument::Is { index, value } => (index, SeccompCmpOp::Eq, value),
        Argument::Lacks { index, bits } => (index, SeccompCmpOp::MaskedEq(u64::from(bits)), 0),
        Argument::Has { index, bits } => (index, SeccompCmpOp::MaskedEq(u64::from(bits)), bits),
    };
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, u64::from(value))
}

#[cfg(test)]
mod tests {
    use super::super::profile::{GATE, STATUS};
    use super::*;

    /// Most instructions of a seccomp program (`BPF_MAXINSNS` in `linux/bpf_common.h`).
    const INSTRUCTIONS_MAX: usize = 4096;

    #[test]
    fn the_profiles_compile_within_the_kernel_s_bound() {
        for profile in [STATUS, GATE] {
            let program = compile(&profile).unwrap();
            assert!(program.len() > profile.syscalls.len() && program.len() <= INSTRUCTIONS_MAX);
        }
    }
}
