//! A profile's system calls as a seccomp program.

use super::profile::{Argument, Profile, Syscall};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;

/// Compiles the allow-list; a call that is not on it ends the process.
pub fn compile(profile: &Profile) -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
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

fn rule(row: &Syscall) -> Result<SeccompRule, BackendError> {
    let conditions = row.arguments.iter().copied().map(condition).collect::<Result<_, _>>()?;
    SeccompRule::new(conditions)
}

fn condition(argument: Argument) -> Result<SeccompCondition, BackendError> {
    let (index, operator, value) = match argument {
        Argument::Is { index, value } => (index, SeccompCmpOp::Eq, value),
        Argument::Lacks { index, bits } => (index, SeccompCmpOp::MaskedEq(u64::from(bits)), 0),
    };
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, u64::from(value))
}

#[cfg(test)]
mod tests {
    use super::super::profile::STATUS;
    use super::*;

    /// Most instructions of a seccomp program (`BPF_MAXINSNS` in `linux/bpf_common.h`).
    const INSTRUCTIONS_MAX: usize = 4096;

    #[test]
    fn the_status_profile_compiles_within_the_kernel_s_bound() {
        let program = compile(&STATUS).unwrap();
        assert!(program.len() > STATUS.syscalls.len() && program.len() <= INSTRUCTIONS_MAX);
    }
}
