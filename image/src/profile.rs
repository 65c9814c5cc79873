//! Which modules a kind of machine needs: data files in `image/profiles/`, which explain their own syntax.

use crate::error::ImageError;

/// A parsed profile: what to include, what to leave out, what to load first.
#[derive(Debug, Clone)]
pub struct Profile {
    pub(crate) name: String,
    pub(crate) include: Vec<String>,
    pub(crate) exclude: Vec<String>,
    pub(crate) preload: Vec<String>,
    /// The text it came from: part of what the packed modules are cached under.
    pub(crate) text: String,
}

impl Profile {
    /// Virtual machines: the devices of hypervisors and clouds.
    pub fn vm() -> Result<Self, ImageError> {
        Self::parse("vm", include_str!("../profiles/vm.txt"))
    }

    pub fn parse(name: &str, text: &str) -> Result<Self, ImageError> {
        let mut profile = Self {
            name: name.into(),
            include: Vec::new(),
            exclude: Vec::new(),
            preload: Vec::new(),
            text: text.into(),
        };
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fail = |reason: String| ImageError::Profile { profile: name.into(), line: index + 1, reason };
            let (directive, argument) = line
                .split_once(' ')
                .map(|(directive, argument)| (directive, argument.trim()))
                .filter(|(_, argument)| !argument.contains(char::is_whitespace))
                .ok_or_else(|| fail(format!("`{line}` is not a directive and one argument")))?;
            let list = match directive {
                "include" => &mut profile.include,
                "exclude" => &mut profile.exclude,
                "preload" => &mut profile.preload,
                _ => return Err(fail(format!("`{directive}` is not include, exclude or preload"))),
            };
            if list.iter().any(|known| known == argument) {
                return Err(fail(format!("`{argument}` stands here twice")));
            }
            list.push(argument.into());
        }
        Ok(profile)
    }
}

/// Whether a pattern, where `*` stands for any run of characters, describes the whole of `path`.
pub(crate) fn matches(pattern: &str, path: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == path };
    let Some(mut path) = path.strip_prefix(start) else { return false };
    // Every part but the last may be taken where it is found first; the last has to be the end.
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = path.find(part) else { return false };
        path = &path[at + part.len()..];
    }
    path.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        for (pattern, path, expected) in [
            ("fs/ext4/ext4", "fs/ext4/ext4", true),
            ("fs/ext4/ext4", "fs/ext4/ext4x", false),
            ("net/*", "net/sched/sch_fq", true),
            ("net/nft_*_x", "net/nft_a_x", true),
            ("net/nft_*_x", "net/nft_x", false),
            ("*", "", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} on {path}");
        }
    }

    #[test]
    fn the_vm_profile_loads_the_checksum_before_nf_tables() {
        let profile = Profile::vm().unwrap();
        let place = |name: &str| profile.preload.iter().position(|n| n == name).unwrap();
        assert!(place("crc32c_generic") < place("nf_tables"));
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, line) in
            [("include a\ninclude", 2), ("load x", 1), ("include a b", 1), ("include a\ninclude a", 2)]
        {
            match Profile::parse("p", text) {
                Err(ImageError::Profile { line: found, .. }) => assert_eq!(found, line, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
