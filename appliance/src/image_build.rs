//! `glacis image build`: fetches the pinned packages and hands everything to the image crate.

use glacis_image::{Built, ImageError, Inputs, Lock, Profile, Progress};
use std::path::Path;
use std::time::Duration;

/// Steps that take longer get a line.
const WORTH_A_LINE: Duration = Duration::from_millis(500);

/// Builds the image and prints what it came to.
pub fn build(binary: &Path, policy: &str, output: &Path, cmdline_extra: &str) -> Result<Built, ImageError> {
    let mut progress = |progress: Progress| match progress {
        Progress::Finished { step, took } if took >= WORTH_A_LINE => {
            println!("  {:5.1} s  {step}", took.as_secs_f64());
        }
        Progress::Started(_) | Progress::Finished { .. } => {}
    };
    println!("Building {}", output.display());
    let cache = glacis_image::cache_dir();
    let packages = glacis_image::fetch(&Lock::shipped()?, &cache, &mut progress)?;
    let inputs = Inputs {
        binary,
        policy,
        kernel_package: &packages.kernel,
        boot_package: &packages.boot,
        profile: &Profile::vm()?,
        version: env!("CARGO_PKG_VERSION"),
        cmdline_extra,
        output,
        cache: Some(&cache),
    };
    let built = glacis_image::build(&inputs, &mut progress)?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "{}: boot file {:.1} MiB, disk {:.0} MiB",
        output.display(),
        mib(built.sizes.uki),
        mib(built.sizes.image)
    );
    Ok(built)
}
