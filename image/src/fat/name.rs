//! Short (8.3) and long names.

use std::collections::BTreeSet;

use crate::error::ImageError;

/// UTF-16 units in a long name.
const LONG_UNITS_MAX: usize = 255;
/// UTF-16 units that one entry of a long name holds.
pub(super) const LONG_UNITS_PER_ENTRY: usize = 13;
/// A directory ends at 65536 entries, the count that scan code of old systems can hold.
pub(super) const DIRECTORY_ENTRIES_MAX: usize = 65_536;

pub(super) type ShortName = [u8; 11];

/// The label's eleven bytes.
pub(super) fn label(text: &str) -> Result<ShortName, ImageError> {
    let valid = (1..=11).contains(&text.len())
        && text.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || b"-_ ".contains(&c));
    if !valid {
        let reason = "a label has 1 to 11 upper-case letters, digits, `-` and `_`";
        return Err(ImageError::FatName { volume: text.into(), name: text.into(), reason });
    }
    let mut label = [b' '; 11];
    label[..text.len()].copy_from_slice(text.as_bytes());
    Ok(label)
}

/// Why a path component cannot be a name, or nothing.
pub(super) fn defect(name: &str) -> Option<&'static str> {
    if name.is_empty() || name == "." || name == ".." {
        Some("empty, `.` and `..` are no names")
    } else if name.encode_utf16().count() > LONG_UNITS_MAX {
        Some("it is longer than 255 characters")
    } else if name.ends_with(['.', ' ']) {
        Some("it ends with a dot or a space, which Windows drops")
    } else if name.chars().any(|c| c.is_control() || r#""*/:<>?\|"#.contains(c)) {
        Some("it holds a control character or one of \" * / : < > ? \\ |")
    } else {
        None
    }
}

/// Whether the short name says all there is to say.
pub(super) fn is_short(name: &str) -> bool {
    let plain = |part: &str, most: usize| (1..=most).contains(&part.len()) && part.bytes().all(is_short_byte);
    match name.split_once('.') {
        Some((base, extension)) => plain(base, 8) && plain(extension, 3),
        None => plain(name, 8),
    }
}

fn is_short_byte(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"_-".contains(&byte)
}

/// Entries that the name takes in a directory: its short one, and before it the parts of the long one.
pub(super) fn entries(name: &str) -> usize {
    if is_short(name) { 1 } else { 1 + name.encode_utf16().count().div_ceil(LONG_UNITS_PER_ENTRY) }
}

/// A short name that no other entry of the directory has: the name itself, or its beginning with `~N`.
///
/// Names that are short already have to come first, so that invented ones go around them.
pub(super) fn short(name: &str, taken: &mut BTreeSet<ShortName>) -> ShortName {
    let (base, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let (base, extension) = (folded(base), folded(extension));
    let mut candidate = [b' '; 11];
    let extension = &extension[..extension.len().min(3)];
    candidate[8..8 + extension.len()].copy_from_slice(extension);
    if is_short(name) {
        candidate[..base.len()].copy_from_slice(&base);
        taken.insert(candidate);
        return candidate;
    }
    (1..=DIRECTORY_ENTRIES_MAX)
        .map(|number| {
            let tail = format!("~{number}");
            let kept = base.len().min(8 - tail.len());
            candidate[..8].fill(b' ');
            candidate[..kept].copy_from_slice(&base[..kept]);
            candidate[kept..kept + tail.len()].copy_from_slice(tail.as_bytes());
            candidate
        })
        .find(|candidate| taken.insert(*candidate))
        .expect("a directory has fewer names than there are numbers")
}

/// Upper case, without dots and spaces, `_` for what a short name cannot hold.
fn folded(part: &str) -> Vec<u8> {
    let fold = |c: char| match c.to_ascii_uppercase() {
        c if c.is_ascii() && is_short_byte(c as u8) => c as u8,
        _ => b'_',
    };
    part.chars().filter(|c| !matches!(c, '.' | ' ')).map(fold).collect()
}

/// The long name's UTF-16 units, filled up to whole entries with a zero and then 0xffff.
pub(super) fn long_units(name: &str) -> Vec<u16> {
    let mut units: Vec<u16> = name.encode_utf16().collect();
    if !units.len().is_multiple_of(LONG_UNITS_PER_ENTRY) {
        units.push(0);
        units.resize(units.len().next_multiple_of(LONG_UNITS_PER_ENTRY), 0xffff);
    }
    units
}

/// Ties the parts of a long name to its short name.
pub(super) fn checksum(short: &ShortName) -> u8 {
    short.iter().fold(0, |sum: u8, byte| sum.rotate_right(1).wrapping_add(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_upper_case_8_3_is_its_own_short_name() {
        for name in ["EFI", "BOOTX64.EFI", "A", "README.TXT", "A_B-C.1"] {
            assert!(is_short(name), "{name}");
        }
        for name in
            ["efi", "loader.conf", "TOOLONGNAME", "A.B.C", "A.LONG", "glacis_0.1.0.efi", "Ä", "A.", ".A"]
        {
            assert!(!is_short(name), "{name}");
        }
    }

    #[test]
    fn short_names_of_long_ones_are_numbered() {
        let mut taken = BTreeSet::new();
        let mut next = |name| String::from_utf8(short(name, &mut taken).to_vec()).unwrap();
        assert_eq!(next("glacis_0.1.0.efi"), "GLACIS~1EFI");
        assert_eq!(next("glacis_0.1.1.efi"), "GLACIS~2EFI");
        assert_eq!(next("README.TXT"), "README  TXT");
        assert_eq!(next("readme"), "README~1   ");
        assert_eq!(next("über.kdl"), "_BER~1  KDL");
        for number in 3..=10 {
            assert!(next("glacis_x.efi").contains(&format!("~{number}")));
        }
        assert_eq!(next("glacis_x.efi"), "GLACI~11EFI");
    }

    #[test]
    fn a_long_name_that_fills_its_entries_has_no_end_mark() {
        assert_eq!(long_units("thirteen_char").len(), 13);
        let units = long_units("fourteen_chars");
        assert_eq!((units.len(), units[14], units[15]), (26, 0, 0xffff));
    }

    #[test]
    fn names_that_fat_cannot_hold_have_a_reason() {
        for name in ["", ".", "..", "a:b", "a\n", "trailing.", "trailing ", &"x".repeat(256)] {
            assert!(defect(name).is_some(), "{name:?}");
        }
        for name in ["a", ".hidden", "a b", "ü", &"x".repeat(255)] {
            assert!(defect(name).is_none(), "{name:?}");
        }
    }
}
