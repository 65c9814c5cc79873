//! The kernel's modules: at boot, for the devices that are there, and when the kernel asks for one.
//!
//! Reads the three text files that `glacis_image::modules` describes and writes.

use super::console::say;
use glacis_image::modules::{ALIASES_PATH, DEPS_PATH, DIRECTORY, LOAD_PATH, XZ_SUFFIX};
use rustix::io::Errno;
use rustix::system::finit_module;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Needed by the drop-all ruleset. Absent from an image whose kernel has it built in.
const FIREWALL_MODULE: &str = "nf_tables";
/// `MODULE_INIT_COMPRESSED_FILE` of `linux/module.h`: the kernel decompresses.
const COMPRESSED: i32 = 4;
/// A driver makes new devices that want drivers: so often the devices are looked through again.
const COLDPLUG_PASSES: usize = 8;
/// How modaliases of every device begin.
pub const ALL_DEVICES: &str = "";
/// How modaliases of virtio devices begin.
const VIRTUAL_DEVICES: &str = "virtio:";
/// Depth of folders below `/sys/devices`; bridges behind bridges stay far below it.
const DEVICE_DEPTH_MAX: usize = 24;
/// Length of a chain of needs; softer than the stack.
const NEED_DEPTH_MAX: usize = 64;

/// One line of `deps`.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    file: String,
    /// To be loaded first, in this order.
    needed: Vec<String>,
}

/// The modules of the image, and which of them are in the kernel.
#[derive(Debug)]
pub struct Modules {
    root: PathBuf,
    entries: HashMap<String, Entry>,
    /// Pattern and module.
    aliases: Vec<(String, String)>,
    preload: Vec<String>,
    /// Loaded, or tried.
    visited: HashSet<String>,
}

/// Modules of nf_tables and connection tracking: wanted by rulesets, not by disks.
fn is_for_rules(name: &str) -> bool {
    name.starts_with("nf")
}

/// What one request came to.
#[derive(Debug, Default)]
struct Loaded {
    modules: usize,
    failures: Vec<String>,
}

/// The kernel's call for a module, `modprobe -q -- NAME`, made for a file system, a protocol or an nf_tables expression.
pub fn modprobe(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(asked) = arguments.last().and_then(|word| word.into_string().ok()) else {
        return ExitCode::FAILURE;
    };
    let mut modules = Modules::read(Path::new("/"));
    let wanted = modules.named(&asked);
    let loaded = modules.load(wanted.iter().map(String::as_str));
    // What was loaded already is a success as well; that the kernel asks for things that no image has is normal.
    if wanted.is_empty() || !loaded.failures.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

impl Modules {
    /// Files that are not there are empty: a kernel with everything built in needs none.
    pub fn read(root: &Path) -> Self {
        let text = |path: &str| fs::read_to_string(below(root, path)).unwrap_or_default();
        let in_kernel = text("/proc/modules");
        Self {
            root: root.to_owned(),
            entries: parse_deps(&text(DEPS_PATH)),
            aliases: parse_aliases(&text(ALIASES_PATH)),
            preload: text(LOAD_PATH).lines().map(str::to_owned).collect(),
            visited: in_kernel.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect(),
        }
    }

    /// What the drop-all ruleset needs, and nothing that takes time before it.
    pub fn load_for_firewall(&mut self) {
        if self.entries.contains_key(FIREWALL_MODULE) {
            self.load([FIREWALL_MODULE].into_iter()).report();
        }
    }

    /// What the partitions need: file systems, and the drivers of virtual disks and cards.
    pub fn load_for_disks(&mut self) {
        let preload = self.preload.clone();
        self.load(preload.iter().map(String::as_str).filter(|name| !is_for_rules(name))).report();
        self.coldplug(VIRTUAL_DEVICES);
    }

    /// Everything else, in a child: checking the signatures of modules is most of a boot's time, and neither the
    /// partitions nor the core have to wait for a chipset. A card that comes late is bound when it comes.
    pub fn load_rest_beside(&mut self) {
        // SAFETY: PID 1 has one thread at this point, so the child may do all that its parent could.
        match unsafe { libc::fork() } {
            -1 => {
                say(format_args!("modules are loaded one after the other: {}", io::Error::last_os_error()));
                self.load_rest();
            }
            0 => {
                self.load_rest();
                // SAFETY: ends the child at once, without what the parent registered for its own end.
                unsafe { libc::_exit(0) }
            }
            _ => {}
        }
    }

    fn load_rest(&mut self) {
        let preload = self.preload.clone();
        let listed = self.load(preload.iter().map(String::as_str).filter(|name| is_for_rules(name)));
        listed.report();
        let mut plugged = 0;
        for _ in 0..COLDPLUG_PASSES {
            match self.coldplug(ALL_DEVICES) {
                0 => break,
                loaded => plugged += loaded,
            }
        }
        say(format_args!("modules loaded: {} for rules, {plugged} for devices", listed.modules));
    }

    /// Loads drivers for the devices that are there now and whose modalias begins so. Returns how many modules went in.
    pub fn coldplug(&mut self, beginning: &str) -> usize {
        let mut modaliases = BTreeSet::new();
        collect_modaliases(&below(&self.root, "/sys/devices"), DEVICE_DEPTH_MAX, &mut modaliases);
        let mut modules = 0;
        for modalias in modaliases.into_iter().filter(|modalias| modalias.starts_with(beginning)) {
            let wanted = self.named(&modalias);
            let loaded = self.load(wanted.iter().map(String::as_str));
            loaded.report();
            modules += loaded.modules;
        }
        modules
    }

    /// The modules of a name or of a modalias.
    fn named(&self, asked: &str) -> Vec<String> {
        let name = asked.replace('-', "_");
        if self.entries.contains_key(&name) {
            return vec![name];
        }
        let matching =
            self.aliases.iter().filter(|(pattern, _)| matches(pattern.as_bytes(), asked.as_bytes()));
        matching.map(|(_, module)| module.clone()).collect()
    }

    fn load<'a>(&mut self, names: impl Iterator<Item = &'a str>) -> Loaded {
        let mut loaded = Loaded::default();
        for name in names {
            let mut order = Vec::new();
            self.order(name, NEED_DEPTH_MAX, &mut order);
            for (module, file) in order {
                match self.insert(&file) {
                    Ok(()) => loaded.modules += 1,
                    // Something else loaded it, or its code is built in.
                    Err(error) if error.raw_os_error() == Some(Errno::EXIST.raw_os_error()) => {}
                    // What is only softly needed may miss its hardware.
                    Err(_) if module != name => {}
                    Err(error) => loaded.failures.push(format!("{module}: {error}")),
                }
            }
        }
        loaded
    }

    /// Appends what is not yet visited of a module's needs, then the module, each with its file. Needs may form a ring.
    fn order(&mut self, name: &str, depth: usize, order: &mut Vec<(String, String)>) {
        if depth == 0 || !self.visited.insert(name.to_owned()) {
            return;
        }
        let Some(entry) = self.entries.get(name) else { return };
        let (file, needed) = (entry.file.clone(), entry.needed.clone());
        for need in needed {
            self.order(&need, depth - 1, order);
        }
        order.push((name.to_owned(), file));
    }

    fn insert(&self, file: &str) -> io::Result<()> {
        let module = File::open(below(&self.root, DIRECTORY).join(file))?;
        let flags = if file.ends_with(XZ_SUFFIX) { COMPRESSED } else { 0 };
        Ok(finit_module(&module, c"", flags)?)
    }
}

impl Loaded {
    fn report(&self) {
        for failure in &self.failures {
            say(format_args!("module not loaded: {failure}"));
        }
    }
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn parse_deps(text: &str) -> HashMap<String, Entry> {
    let parse = |line: &str| {
        let mut words = line.split(' ').map(str::to_owned);
        Some((words.next()?, Entry { file: words.next()?, needed: words.collect() }))
    };
    text.lines().filter_map(parse).collect()
}

fn parse_aliases(text: &str) -> Vec<(String, String)> {
    let parse =
        |line: &str| line.rsplit_once(' ').map(|(pattern, name)| (pattern.to_owned(), name.to_owned()));
    text.lines().filter_map(parse).collect()
}

/// Links are left alone: every device lies in one real folder.
fn collect_modaliases(folder: &Path, depth: usize, found: &mut BTreeSet<String>) {
    if let Ok(modalias) = fs::read_to_string(folder.join("modalias"))
        && !modalias.trim().is_empty()
    {
        found.insert(modalias.trim().to_owned());
    }
    let Some(depth) = depth.checked_sub(1) else { return };
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect_modaliases(&entry.path(), depth, found);
        }
    }
}

/// Whether a shell pattern (`*`, `?`, `[a-z]`) covers the whole text. `-` and `_` are the same, as in module names.
///
/// On a mismatch it goes back to the last `*` only, which is enough: time is at most the product of the lengths.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            retry = Some((p + 1, t));
            p += 1;
        } else if let Some(length) = matches_one(&pattern[p..], text[t]) {
            p += length;
            t += 1;
        } else if let Some((after_star, start)) = retry {
            retry = Some((after_star, start + 1));
            (p, t) = (after_star, start + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// How much of the pattern one byte of text is covered by.
fn matches_one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', rest @ ..] => {
            let end = rest.iter().position(|b| *b == b']')?;
            in_class(&rest[..end], byte).then_some(end + 2)
        }
        [b'-' | b'_', ..] => matches!(byte, b'-' | b'_').then_some(1),
        [literal, ..] => (*literal == byte).then_some(1),
        [] => None,
    }
}

fn in_class(mut class: &[u8], byte: u8) -> bool {
    loop {
        class = match class {
            [low, b'-', high, rest @ ..] => {
                if (*low..=*high).contains(&byte) {
                    return true;
                }
                rest
            }
            [single, rest @ ..] => {
                if *single == byte {
                    return true;
                }
                rest
            }
            [] => return false,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(deps: &str, aliases: &str) -> Modules {
        Modules {
            root: PathBuf::from("/nowhere"),
            entries: parse_deps(deps),
            aliases: parse_aliases(aliases),
            preload: Vec::new(),
            visited: HashSet::new(),
        }
    }

    fn order(modules: &mut Modules, name: &str) -> Vec<String> {
        let mut order = Vec::new();
        modules.order(name, NEED_DEPTH_MAX, &mut order);
        order.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn needs_come_first_in_their_order_and_once() {
        let deps = "nf_tables nf_tables.ko crc32c libcrc32c nfnetlink\nlibcrc32c libcrc32c.ko crc32c\n\
                    crc32c crc32c.ko\nnfnetlink nfnetlink.ko\nnft_ct nft_ct.ko nf_tables\n";
        let mut modules = modules(deps, "");
        assert_eq!(
            order(&mut modules, "nft_ct"),
            ["crc32c", "libcrc32c", "nfnetlink", "nf_tables", "nft_ct"]
        );
        assert!(order(&mut modules, "nf_tables").is_empty(), "loaded twice");
    }

    #[test]
    fn a_ring_of_needs_ends() {
        let mut modules = modules("a a.ko b\nb b.ko c\nc c.ko a\n", "");
        assert_eq!(order(&mut modules, "a"), ["c", "b", "a"]);
    }

    #[test]
    fn a_need_without_a_line_is_passed_over() {
        assert_eq!(order(&mut modules("a a.ko gone\n", ""), "a"), ["a"]);
    }

    #[test]
    fn a_name_is_found_with_either_dash_and_an_alias_by_its_pattern() {
        let modules = modules(
            "virtio_net virtio_net.ko\nvfat vfat.ko\n",
            "virtio:d00000001v* virtio_net\nfs-vfat vfat\nof:N*T*Cx y* virtio_net\n",
        );
        assert_eq!(modules.named("virtio-net"), ["virtio_net"]);
        assert_eq!(modules.named("virtio:d00000001v00001AF4"), ["virtio_net"]);
        assert_eq!(modules.named("fs-vfat"), ["vfat"]);
        assert_eq!(modules.named("of:NaTbCx yz"), ["virtio_net"]);
        assert!(modules.named("virtio:d00000002v00001AF4").is_empty());
    }

    #[test]
    fn patterns_match_as_the_shell_does() {
        let cases = [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*c", "abbbc", true),
            ("a*c", "abbbd", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*ab", "aab", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("pci:v*sv[0-9A]d", "pci:v00svAd", true),
            ("pci:v*sv[0-9A]d", "pci:v00svBd", false),
            ("[ab", "a", false),
            ("usb-storage", "usb_storage", true),
            (
                "cpu:type:x86,ven*fam*mod*:feature:*0081*",
                "cpu:type:x86,ven0000fam0006mod0055:feature:,0000,0081,",
                true,
            ),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_exponential_time() {
        let text = vec![b'a'; 4000];
        let pattern = b"*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b".to_vec();
        assert!(!matches(&pattern, &text));
    }

    #[test]
    fn devices_are_walked_without_following_links() {
        let root = tempfile::tempdir().unwrap();
        let device = root.path().join("sys/devices/pci0000:00/0000:00:01.0");
        fs::create_dir_all(&device).unwrap();
        fs::write(device.join("modalias"), "pci:v00001AF4\n").unwrap();
        std::os::unix::fs::symlink(root.path().join("sys/devices"), device.join("subsystem")).unwrap();
        let mut found = BTreeSet::new();
        collect_modaliases(&root.path().join("sys/devices"), DEVICE_DEPTH_MAX, &mut found);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["pci:v00001AF4"]);
    }
}
