//! Kernel parameters below `/proc/sys`, in the network namespace of the calling thread.

use super::LinksError;
use glacis_plan::Sysctl;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

const ROOT: &str = "/proc/sys";
/// The parts of the tree that a policy has business in.
const BRANCHES: [&str; 4] = ["net", "kernel", "vm", "fs"];
const PATH_BYTES_MAX: usize = 255;
/// The kernel takes no more than a page in one write.
const VALUE_BYTES_MAX: usize = 4095;

/// Reads a parameter; runs of white space come as one space, so that lists compare as written.
pub fn read_sysctl(path: &str) -> Result<String, LinksError> {
    let file = parameter(path)?;
    let failed = |source| LinksError::Sysctl { path: path.to_owned(), step: "read it", source };
    let mut text = String::new();
    let opened = File::open(file).map_err(failed)?;
    opened.take(VALUE_BYTES_MAX as u64 + 1).read_to_string(&mut text).map_err(failed)?;
    Ok(normalised(&text))
}

/// Writes a parameter unless it already has the value.
pub fn write_sysctl(sysctl: &Sysctl) -> Result<(), LinksError> {
    let Sysctl { path, value } = sysctl;
    let file = parameter(path)?;
    let invalid = |reason| LinksError::SysctlValue { path: path.clone(), value: value.clone(), reason };
    if value.len() > VALUE_BYTES_MAX {
        return Err(invalid("longer than 4095 bytes"));
    }
    if value.chars().any(|c| c.is_control() && c != '\t') {
        return Err(invalid("it holds a control character"));
    }
    // Some parameters can only be written; for those the write decides.
    if read_sysctl(path).is_ok_and(|current| current == normalised(value)) {
        return Ok(());
    }
    fs::write(file, value).map_err(|source| LinksError::Sysctl {
        path: path.clone(),
        step: "write it",
        source,
    })
}

fn normalised(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The file of a parameter named with slashes (`net/ipv4/ip_forward`). An interface's name may
/// hold dots, so dots are no separators.
fn parameter(path: &str) -> Result<PathBuf, LinksError> {
    let invalid = |reason| LinksError::SysctlPath { path: path.to_owned(), reason };
    if path.len() > PATH_BYTES_MAX {
        return Err(invalid("longer than 255 bytes"));
    }
    let mut parts = path.split('/');
    let branch = parts.next().unwrap_or_default();
    if !BRANCHES.contains(&branch) {
        return Err(invalid("it must begin with net/, kernel/, vm/ or fs/"));
    }
    let mut depth = 0;
    for part in parts {
        if part.is_empty() || part == "." || part == ".." {
            return Err(invalid("it has an empty, `.` or `..` part"));
        }
        if part.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(invalid("it holds white space or a control character"));
        }
        depth += 1;
    }
    if depth == 0 { Err(invalid("it names a directory")) } else { Ok(Path::new(ROOT).join(path)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_their_branch() {
        for path in ["net/ipv4/ip_forward", "net/ipv4/conf/eth0.10/rp_filter", "kernel/panic"] {
            assert!(parameter(path).is_ok(), "{path}");
        }
        for path in [
            "",
            "net",
            "net/",
            "/net/ipv4/ip_forward",
            "net/../kernel/panic",
            "net/./ipv4",
            "net//ipv4",
            "net/ipv4/ip_forward\n",
            "net/ipv4/\0",
            "../../etc/passwd",
            "dev/cdrom/info",
            "net.ipv4.ip_forward",
        ] {
            assert!(matches!(parameter(path), Err(LinksError::SysctlPath { .. })), "{path:?}");
        }
        assert!(parameter(&format!("net/{}", "x".repeat(252))).is_err());
    }

    #[test]
    fn values_are_one_line() {
        for value in ["1\n0", "1\0", &"1".repeat(4096)] {
            let sysctl = Sysctl { path: "net/ipv4/ip_forward".into(), value: value.into() };
            assert!(matches!(write_sysctl(&sysctl), Err(LinksError::SysctlValue { .. })));
        }
    }

    #[test]
    fn lists_are_read_as_they_are_written() {
        assert_eq!(normalised("4096\t131072\t6291456\n"), "4096 131072 6291456");
    }

    #[test]
    fn a_missing_parameter_is_named_in_the_error() {
        let error = read_sysctl("net/ipv4/no_such_parameter").unwrap_err().to_string();
        assert!(error.contains("/proc/sys/net/ipv4/no_such_parameter: cannot read it"), "{error}");
    }
}
