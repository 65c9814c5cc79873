//! How long a boot takes beyond the kernel's own, and what lies on the disk.

use crate::{Bound, Figure, Outcome, Unit, median};
use glacis_tests::netns::Namespace;
use glacis_tests::vm::{Boot, Guest, GuestOptions, free_port, tool};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const ROUNDS: usize = 3;
const BOOT: Duration = Duration::from_secs(180);
const IMAGE_MEBIBYTES_MAX: f64 = 24.0;
const CLOSED_SECONDS_MAX: f64 = 0.5;
const READY_SECONDS_MAX: f64 = 2.0;

/// Seconds of the guest's clock, which starts with its kernel.
#[derive(Debug, Clone, Copy)]
struct Milestones {
    /// PID 1's first line: what a do-nothing init would take.
    kernel: f64,
    closed: f64,
    ready: f64,
}

/// Builds the image from the shipped policy, weighs it, and boots it by UEFI.
pub(crate) fn figures() -> Outcome<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let image = build(folder.path())?;
    let boot_file =
        mebibytes(&image.with_extension("img.vmlinuz"))? + mebibytes(&image.with_extension("img.initrd"))?;
    let compressed = mebibytes(&compress(&image, folder.path())?)?;
    let rounds = (0..ROUNDS)
        .map(|round| boot(&image, &folder.path().join(format!("guest{round}"))))
        .collect::<Outcome<Vec<Milestones>>>()?;
    let of = |time: fn(&Milestones) -> f64| median(rounds.iter().map(time).collect());
    let kernel = of(|m| m.kernel);
    let later = |what: &str, own: f64, most: f64| Figure {
        what: what.to_owned(),
        ours: format!("{:.2} s", kernel + own),
        peer: format!("kernel {kernel:.2} s"),
        value: own,
        unit: Unit::Seconds,
        bound: Bound::AtMost(most),
    };
    Ok(vec![
        Figure {
            what: "image, compressed by zstd -19".to_owned(),
            ours: format!("kernel + initramfs {boot_file:.1} MiB"),
            peer: String::new(),
            value: compressed,
            unit: Unit::Mebibytes,
            bound: Bound::AtMost(IMAGE_MEBIBYTES_MAX),
        },
        later(
            "boot to \"firewall closed\", beyond the kernel",
            of(|m| m.closed - m.kernel),
            CLOSED_SECONDS_MAX,
        ),
        later("boot to \"ready\", beyond the kernel", of(|m| m.ready - m.kernel), READY_SECONDS_MAX),
    ])
}

fn boot(image: &Path, work: &Path) -> Outcome<Milestones> {
    // Without its `wan` card the shipped policy does not apply.
    let wan = Namespace::new("wan");
    let mut guest = Guest::boot(&GuestOptions {
        image: image.to_owned(),
        work: work.to_owned(),
        boot: Boot::Uefi,
        memory_mib: 256,
        disk_mib: None,
        wan_namespace: Some(wan.name().to_owned()),
        status_port: free_port()?,
    })?;
    let mut at = |milestone: &str| -> Outcome<f64> {
        let line = guest.wait_for(&format!("] {milestone}"), BOOT)?;
        // A boot that ends without a policy says so in the same line, and is not what is to be measured.
        let seconds = since_boot(&line.text).filter(|_| !line.text.contains("nothing passes"));
        seconds.ok_or_else(|| format!("the console says `{}`", line.text).into())
    };
    Ok(Milestones { kernel: at("init started")?, closed: at("firewall closed")?, ready: at("ready")? })
}

fn build(folder: &Path) -> Outcome<PathBuf> {
    let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy.kdl");
    let image = folder.join("glacis.img");
    let mut command = Command::new(glacis_tests::bin::glacis());
    tool(command.args(["image", "build"]).arg(policy).arg("--output").arg(&image))?;
    Ok(image)
}

fn compress(image: &Path, folder: &Path) -> Outcome<PathBuf> {
    let packed = folder.join("glacis.img.zst");
    tool(Command::new("zstd").args(["-q", "-19", "-T0", "-o"]).arg(&packed).arg(image))?;
    Ok(packed)
}

fn mebibytes(file: &Path) -> Outcome<f64> {
    let bytes = file.metadata().map_err(|e| format!("{}: {e}", file.display()))?.len();
    Ok(bytes as f64 / f64::from(1 << 20))
}

/// `glacis[   812 ms] firewall closed` tells 0.812.
fn since_boot(line: &str) -> Option<f64> {
    let ms: f64 = line.split("glacis[").nth(1)?.split(" ms]").next()?.trim().parse().ok()?;
    Some(ms / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_console_line_is_in_its_brackets() {
        assert_eq!(since_boot("\u{1b}[0mglacis[   812 ms] firewall closed"), Some(0.812));
        assert_eq!(since_boot("[    0.000000] Linux version 6.12"), None);
    }
}
