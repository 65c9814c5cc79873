//! Gates, with every name resolved.

use super::scope::Scope;
use super::{CompileError, Warning};
use crate::Facts;
use glacis_plan::GatePlan;

pub(super) fn compile(
    _scope: &Scope<'_>,
    _facts: &Facts,
    _errors: &mut Vec<CompileError>,
    _warnings: &mut Vec<Warning>,
) -> Vec<GatePlan> {
    vec![]
}
