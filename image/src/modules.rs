//! Kernel modules: which an image carries, and the index by which PID 1 loads them.
//!
//! The kernel package has no `modules.dep`; everything is read from the modules' own `.modinfo` sections.
//!
//! # What PID 1 finds
//!
//! All modules lie in one flat folder, [`DIRECTORY`]. Three text files beside them are the index; each line ends
//! with a newline, words are separated by one space, there are no comments and no empty lines:
//!
//! ```text
//! deps      NAME FILE [NEEDED…]   NEEDED are module names to load first, in this order
//! aliases   PATTERN NAME          PATTERN may hold spaces: NAME is what follows the last one
//! load      NAME                  load these at boot, in this order
//! ```
//!
//! - NAME is written with `_`; a module is asked for with `-` or `_`, they are the same.
//! - FILE is a name in [`DIRECTORY`]. One that ends in [`XZ_SUFFIX`] is loaded with `finit_module` flag 4
//!   (`MODULE_INIT_COMPRESSED_FILE`), any other with flag 0.
//! - PATTERN is a shell pattern (`*`, `?`, `[…]`) for a modalias or for a name the kernel asks `modprobe` for.
//!   Several lines may match one modalias; all of their modules are wanted.
//! - NEEDED holds soft dependencies too, which may fail (`crc32c_intel` on a processor without the instruction):
//!   go on, and let the module itself report what it misses. Soft dependencies can form a ring: note a module as
//!   visited before following what it needs.
//! - Every NAME in `load`, in `aliases` and among NEEDED has its line in `deps`.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::ImageError;
use crate::modinfo::Module;
use crate::profile::{Profile, matches};

/// Where modules and index lie in the initramfs.
pub const DIRECTORY: &str = "/lib/modules";
/// The dependency index.
pub const DEPS_PATH: &str = "/lib/modules/deps";
/// The alias index.
pub const ALIASES_PATH: &str = "/lib/modules/aliases";
/// The ordered preload list.
pub const LOAD_PATH: &str = "/lib/modules/load";
/// Ends the name of a module file that the kernel has to decompress.
pub const XZ_SUFFIX: &str = ".xz";

/// A module file as the kernel package holds it.
pub(crate) struct PackedModule {
    /// Path below `lib/modules/<release>/kernel/`, without `.ko` and compression.
    pub(crate) path: String,
    pub(crate) xz: Vec<u8>,
}

/// All modules of a kernel package by name, and the paths of those that are built in.
#[derive(Default)]
pub(crate) struct Catalogue {
    pub(crate) modules: BTreeMap<String, PackedModule>,
    pub(crate) builtin: BTreeSet<String>,
}

/// The modules that an image carries, by name.
#[derive(Debug)]
pub(crate) struct Selection {
    pub(crate) modules: BTreeMap<String, Module>,
    preload: Vec<String>,
}

/// The three files of the index.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) deps: String,
    pub(crate) aliases: String,
    pub(crate) load: String,
}

/// The name by which the kernel knows a module file: the last part of its path, `-` as `_`.
pub(crate) fn name_of(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).replace('-', "_")
}

impl Selection {
    /// What the profile includes and everything that needs: hard dependencies must exist, soft ones are taken
    /// when they do. Each module of the catalogue is looked at once.
    pub(crate) fn choose(catalogue: &Catalogue, profile: &Profile) -> Result<Self, ImageError> {
        let excluded = |path: &str| profile.exclude.iter().any(|pattern| matches(pattern, path));
        let mut pending = included(catalogue, profile)?;
        let mut modules = BTreeMap::new();
        while let Some(name) = pending.pop() {
            let Some(packed) = catalogue.modules.get(&name) else { continue };
            if modules.contains_key(&name) || excluded(&packed.path) {
                continue;
            }
            let module = Module::unpack(&name, &packed.xz)?;
            for needed in &module.depends {
                let reason = match catalogue.modules.get(needed) {
                    Some(packed) if !excluded(&packed.path) => continue,
                    Some(_) => format!("it needs {needed}, which the profile {} excludes", profile.name),
                    None => format!("it needs {needed}, which the package does not hold"),
                };
                return Err(ImageError::Module { module: name, reason });
            }
            pending
                .extend(module.depends.iter().chain(&module.soft_before).chain(&module.soft_after).cloned());
            modules.insert(name, module);
        }
        let preload = preload(catalogue, profile, &modules)?;
        Ok(Self { modules, preload })
    }

    pub(crate) fn index(&self) -> Index {
        let mut index = Index { deps: String::new(), aliases: String::new(), load: String::new() };
        for (name, module) in &self.modules {
            index.deps.extend([name, " ", &module.file_name()]);
            for needed in self.needed_first(module) {
                index.deps.extend([" ", needed]);
            }
            index.deps.push('\n');
            for alias in &module.aliases {
                index.aliases.extend([alias, " ", name, "\n"]);
            }
        }
        for name in &self.preload {
            index.load.extend([name, "\n"]);
        }
        index
    }

    /// Soft dependencies, by name or alias, then hard ones.
    fn needed_first<'a>(&'a self, module: &'a Module) -> Vec<&'a str> {
        let mut needed: Vec<&str> = Vec::new();
        for soft in &module.soft_before {
            let named =
                |other: &&Module| other.name == *soft || other.aliases.iter().any(|alias| alias == soft);
            needed.extend(self.modules.values().filter(named).map(|other| other.name.as_str()));
        }
        needed.extend(module.depends.iter().map(String::as_str));
        let mut seen = BTreeSet::from([module.name.as_str()]);
        needed.retain(|name| seen.insert(name));
        needed
    }
}

/// Names of the modules that the profile's patterns pick; every pattern has to pick something or be built in.
fn included(catalogue: &Catalogue, profile: &Profile) -> Result<Vec<String>, ImageError> {
    let mut names = Vec::new();
    for pattern in profile.include.iter().chain(&profile.exclude) {
        let before = names.len();
        let picked = |packed: &&PackedModule| matches(pattern, &packed.path);
        names.extend(catalogue.modules.values().filter(picked).map(|packed| name_of(&packed.path)));
        if names.len() == before && !catalogue.builtin.iter().any(|path| matches(pattern, path)) {
            return Err(ImageError::ProfileUnmatched {
                profile: profile.name.clone(),
                pattern: pattern.clone(),
            });
        }
    }
    Ok(names)
}

/// The profile's preload list without what is built into the kernel.
fn preload(
    catalogue: &Catalogue,
    profile: &Profile,
    modules: &BTreeMap<String, Module>,
) -> Result<Vec<String>, ImageError> {
    let mut order = Vec::new();
    for name in &profile.preload {
        if modules.contains_key(name) {
            order.push(name.clone());
        } else if !catalogue.builtin.iter().any(|path| name_of(path) == *name) {
            return Err(ImageError::ProfilePreload { profile: profile.name.clone(), name: name.clone() });
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modinfo::tests::packed;

    fn catalogue(modules: &[(&str, &[&str])], builtin: &[&str]) -> Catalogue {
        let packed = |(path, info): &(&str, &[&str])| {
            (name_of(path), PackedModule { path: (*path).into(), xz: packed(info) })
        };
        Catalogue {
            modules: modules.iter().map(packed).collect(),
            builtin: builtin.iter().map(|path| (*path).into()).collect(),
        }
    }

    fn firewall() -> Catalogue {
        catalogue(
            &[
                ("net/nf_tables", &["depends=nfnetlink,libcrc32c", "alias=nfnetlink-subsys-10"]),
                ("net/nfnetlink", &["depends="]),
                ("lib/libcrc32c", &["depends=", "softdep=pre: crc32c"]),
                ("crypto/crc32c-intel", &["depends=", "alias=crc32c"]),
                ("crypto/crc32c_generic", &["depends=", "alias=crc32c"]),
                ("drivers/other", &["depends="]),
            ],
            &["fs/fuse"],
        )
    }

    fn choose(text: &str) -> Result<Selection, ImageError> {
        Selection::choose(&firewall(), &Profile::parse("test", text).unwrap())
    }

    #[test]
    fn the_closure_is_indexed_with_soft_dependencies_first() {
        let selection = choose("include net/nf_*\ninclude crypto/*\npreload nf_tables").unwrap();
        let index = selection.index();
        assert_eq!(
            index.deps,
            "crc32c_generic crc32c_generic.ko\n\
             crc32c_intel crc32c_intel.ko\n\
             libcrc32c libcrc32c.ko crc32c_generic crc32c_intel\n\
             nf_tables nf_tables.ko nfnetlink libcrc32c\n\
             nfnetlink nfnetlink.ko\n"
        );
        assert_eq!(
            index.aliases,
            "crc32c crc32c_generic\ncrc32c crc32c_intel\nnfnetlink-subsys-10 nf_tables\n"
        );
        assert_eq!(index.load, "nf_tables\n");
    }

    #[test]
    fn built_in_modules_need_no_file() {
        let selection =
            choose("include fs/fuse\ninclude net/nfnetlink\npreload fuse\npreload nfnetlink").unwrap();
        assert_eq!(selection.index().load, "nfnetlink\n");
    }

    #[test]
    fn a_profile_that_does_not_fit_the_kernel_is_refused() {
        let error = |text: &str| choose(text).unwrap_err().to_string();
        assert_eq!(
            error("include net/nft_gone"),
            "profile test: nothing in the kernel package matches `net/nft_gone`"
        );
        assert_eq!(
            error("include net/nfnetlink\npreload other"),
            "profile test: `other` is to be preloaded but is not included"
        );
        assert_eq!(
            error("include net/nf_tables\nexclude net/nfnetlink"),
            "kernel module nf_tables: it needs nfnetlink, which the profile test excludes"
        );
    }

    #[test]
    fn a_hard_dependency_that_is_missing_is_an_error() {
        let catalogue = catalogue(&[("net/a", &["depends=b"])], &[]);
        let profile = Profile::parse("test", "include net/a").unwrap();
        let error = Selection::choose(&catalogue, &profile).unwrap_err();
        assert_eq!(error.to_string(), "kernel module a: it needs b, which the package does not hold");
    }
}
