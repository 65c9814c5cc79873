//! The partitions of an image, as builder and PID 1 both name them.
//!
//! ```text
//! LBA 0      protective MBR, GPT
//! 1 MiB      ESP     FAT32   systemd-boot, unified kernel images
//!            POLICY  FAT16   policy.kdl; type "basic data", so that laptops mount it
//!            DATA    ext4    state; last on the disk, grown by PID 1 on the first boot
//! last MiB   backup GPT
//! ```

const MIB: u64 = 1 << 20;

/// GPT name (`PARTNAME` in the partition's uevent) of the EFI system partition.
pub const ESP_NAME: &str = "glacis-esp";
/// GPT name of the partition that holds the policy.
pub const POLICY_NAME: &str = "glacis-policy";
/// GPT name of the partition that holds state.
pub const DATA_NAME: &str = "glacis-data";

/// The policy's file name on the POLICY partition.
pub const POLICY_FILE: &str = "policy.kdl";

/// FAT volume label of the ESP.
pub const ESP_LABEL: &str = "GLACIS-ESP";
/// FAT volume label of POLICY: what a laptop shows.
pub const POLICY_LABEL: &str = "POLICY";
/// ext4 volume label of DATA.
pub const DATA_LABEL: &str = "glacis-data";

/// Room for three unified kernel images: the running one, its fallback, and one being written.
pub const ESP_BYTES: u64 = 128 * MIB;
/// Small, and still above the 4085 clusters that make a volume FAT16.
pub const POLICY_BYTES: u64 = 16 * MIB;
/// As shipped; PID 1 grows it to the end of the disk.
pub const DATA_BYTES: u64 = 64 * MIB;
