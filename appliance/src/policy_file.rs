//! From a policy file on disk to a compiled plan: the I/O around the pure crate.

use glacis_plan::Plan;
use glacis_policy::compile::{CompileError, Warning};
use glacis_policy::simulate::{ExpectFailure, run_expects};
use glacis_policy::{Facts, InterfaceFact, Policy, Report, Source, Theme};
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

/// Largest policy file that is read at all; the parser's own bound is lower and gives the better message.
const POLICY_BYTES_MAX: u64 = 15 << 20;
/// Largest blocklist file. A million IPv6 ranges take about 80 MB.
const LIST_BYTES_MAX: u64 = 128 << 20;

#[derive(Debug, thiserror::Error)]
pub enum PolicyFileError {
    #[error("cannot read the policy {}: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: io::Error },
    #[error("the policy {} is over {} MiB", path.display(), POLICY_BYTES_MAX >> 20)]
    TooLarge { path: PathBuf },
    #[error("the policy {} is not UTF-8", path.display())]
    NotText { path: PathBuf },
    #[error("{}", for_terminal(.0))]
    Wrong(Box<Report>),
}

impl PolicyFileError {
    /// What went wrong, in one line.
    pub fn summary(&self) -> String {
        let Self::Wrong(report) = self else { return self.to_string() };
        let first = report.problems().first().map_or("", |problem| problem.message());
        match report.count() {
            0 | 1 => format!("the policy is wrong: {first}"),
            n => format!("the policy has {n} errors, the first is: {first}"),
        }
    }

    /// The diagnostics as plain text, if it is the policy's text that is wrong.
    pub fn detail(&self) -> String {
        match self {
            Self::Wrong(report) => report.render(Theme::Plain),
            _ => String::new(),
        }
    }
}

fn for_terminal(report: &Report) -> String {
    let theme = if io::stderr().is_terminal() { Theme::Colour } else { Theme::Plain };
    let errors = if report.count() == 1 { "error" } else { "errors" };
    format!("{} {errors} in the policy\n{}", report.count(), report.render(theme))
}

/// A policy without an error, and what it comes to on this host.
pub struct Checked {
    /// The file's name, for messages.
    pub file: String,
    pub text: Vec<u8>,
    pub policy: Policy,
    pub plan: Plan,
    pub warnings: Vec<String>,
    /// The interfaces it was bound to; empty when it was compiled for no particular host.
    pub bound_to: Vec<InterfaceFact>,
}

/// Reads a policy's bytes, whatever they are.
pub fn read(path: &Path) -> Result<Vec<u8>, PolicyFileError> {
    let unreadable = |cause| PolicyFileError::Unreadable { path: path.to_owned(), cause };
    let text = read_bounded(path, POLICY_BYTES_MAX).map_err(unreadable)?;
    text.ok_or_else(|| PolicyFileError::TooLarge { path: path.to_owned() })
}

/// Reads a policy that is to travel as text.
pub fn read_text(path: &Path) -> Result<String, PolicyFileError> {
    String::from_utf8(read(path)?).map_err(|_| PolicyFileError::NotText { path: path.to_owned() })
}

/// Reads a list file for [`Facts`]; the error is for the policy's report.
pub fn read_list(path: &Path) -> Result<Vec<u8>, String> {
    match read_bounded(path, LIST_BYTES_MAX) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(format!("{} is over {} MiB", path.display(), LIST_BYTES_MAX >> 20)),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// `None` when there is more than the bound.
fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![];
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= bytes_max).then_some(bytes))
}

/// Reads, compiles and tries a policy for no particular host; list files are read from beside it.
pub fn check(path: &Path) -> Result<Checked, PolicyFileError> {
    let folder = path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
    compile(&path.display().to_string(), read(path)?, |policy| Facts {
        interfaces: None,
        lists: read_lists(policy, &folder),
        never_block: vec![],
    })
}

/// The list files that a policy names, by the name as written.
pub fn read_lists(
    policy: &Policy,
    folder: &Path,
) -> std::collections::BTreeMap<String, Result<Vec<u8>, String>> {
    let lists = policy.blocklists.iter();
    lists.map(|list| (list.file.value.clone(), read_list(&folder.join(&list.file.value)))).collect()
}

/// Parses, gathers facts, compiles, and tries the policy's own tests.
pub fn compile(
    file: &str,
    text: Vec<u8>,
    gather: impl FnOnce(&Policy) -> Facts,
) -> Result<Checked, PolicyFileError> {
    let wrong = |report| PolicyFileError::Wrong(Box::new(report));
    let policy = glacis_policy::parse(file, &text).map_err(wrong)?;
    let source = Source::new(file, &String::from_utf8_lossy(&text));
    let facts = gather(&policy);
    let compiled = glacis_policy::compile(&policy, &facts).map_err(|errors| {
        wrong(Report::new(source.clone(), errors.iter().map(CompileError::problem).collect()))
    })?;
    let failures = run_expects(&policy, &compiled);
    if !failures.is_empty() {
        let problems = failures.iter().map(ExpectFailure::problem).collect();
        return Err(wrong(Report::new(source, problems)));
    }
    let warnings = compiled.warnings.iter().map(|warning| line(&source, warning)).collect();
    let bound_to = facts.interfaces.unwrap_or_default();
    Ok(Checked { file: file.to_owned(), text, policy, plan: compiled.plan, warnings, bound_to })
}

fn line(source: &Source, warning: &Warning) -> String {
    let problem = warning.problem();
    format!("{}:{}: {}", source.name(), source.line_of(problem.span()), problem.message())
}
