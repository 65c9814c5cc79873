//! The committed corpus of the `dhcp` fuzz target keeps holding, without a fuzzer.

use std::collections::BTreeMap;
use std::path::Path;

/// The fuzz crate is built apart with sanitizers; the property is the same file.
#[path = "../../fuzz/fuzz_targets/dhcp_script.rs"]
mod dhcp_script;

#[test]
fn the_fuzz_corpus_is_survived_and_reaches_leases() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/dhcp");
    let leases: BTreeMap<String, usize> = std::fs::read_dir(corpus)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let script = std::fs::read(entry.path()).unwrap();
            (entry.file_name().into_string().unwrap(), dhcp_script::play(&script))
        })
        .collect();
    for (name, expected) in
        [("lease", 1), ("renew", 2), ("nak", 1), ("all-options", 1), ("hardware-length", 0)]
    {
        assert_eq!(leases.get(name), Some(&expected), "{name} in {leases:?}");
    }
    assert!(leases.len() >= 14, "the corpus is gone: {leases:?}");
}
