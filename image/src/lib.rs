//! Builds the bootable image: no root, no mounts, no loop devices, the same inputs give the same bytes.
//!
//! One builder phase is one file:
//!
//! ```text
//! lock       which packages, fetched through apt, pinned by SHA-256
//! package    files out of a .deb
//! profile    which modules a kind of machine needs
//! modules    their closure, and the index PID 1 reads
//! kernel     kernel and packed modules, kept between builds
//! initramfs  the archive the kernel unpacks as its root
//! uki        kernel, initramfs and command line as one EFI program
//! fat, ext4  the file systems
//! disk       partition table and sparse file
//! builder    all of it in order
//! ```
//!
//! This crate reads plain files and writes plain files. It must not know the policy language, look at the
//! machine it runs on, or take a time, a random number or a directory order into its output.

mod builder;
mod bytes;
mod disk;
mod error;
pub mod ext4;
pub mod fat;
mod identity;
mod initramfs;
mod kernel;
mod lock;
mod modinfo;
pub mod modules;
mod package;
pub mod partition;
mod profile;
mod progress;
mod uki;

pub use builder::{Built, Inputs, Sizes, build};
pub use error::ImageError;
pub use lock::{Lock, Packages, cache_dir, fetch};
pub use profile::Profile;
pub use progress::{Progress, Step};

/// Temporary files are private by default; an image is not, save for what the user's umask takes away.
fn readable_by_all() -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    std::fs::Permissions::from_mode(0o666)
}
