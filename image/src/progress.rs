//! What a build reports while it runs.

use std::fmt;
use std::time::{Duration, Instant};

/// One report. The receiver decides what to print; nothing is printed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    Started(Step),
    Finished { step: Step, took: Duration },
}

/// A part of the work that can take long enough to be worth a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    FetchPackage { name: String, version: String },
    CheckPackages,
    ReadKernelPackage,
    PackModules { count: usize },
    PackInit,
    WriteImage,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FetchPackage { name, version } => write!(f, "fetching {name} {version} with apt"),
            Self::CheckPackages => f.write_str("checking the packages"),
            Self::ReadKernelPackage => f.write_str("reading the kernel package"),
            Self::PackModules { count } => write!(f, "compressing {count} kernel modules"),
            Self::PackInit => f.write_str("compressing the appliance"),
            Self::WriteImage => f.write_str("writing the image"),
        }
    }
}

/// Runs `work` between the two reports of `step`. A failed step does not report that it finished.
pub(crate) fn timed<T, E>(
    step: Step,
    progress: &mut dyn FnMut(Progress),
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    progress(Progress::Started(step.clone()));
    let begun = Instant::now();
    let result = work()?;
    progress(Progress::Finished { step, took: begun.elapsed() });
    Ok(result)
}
