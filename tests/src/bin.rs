//! The binary under test.

use std::path::PathBuf;

/// `$GLACIS_BIN`, else the one that cargo built beside this test.
///
/// # Panics
/// When there is none; the text says how to get one.
pub fn glacis() -> PathBuf {
    if let Some(path) = std::env::var_os("GLACIS_BIN") {
        return path.into();
    }
    // <target>/<triple>/<profile>/deps/<test>
    let test = std::env::current_exe().expect("a test has a path");
    let built = test.ancestors().nth(2).expect("cargo runs tests from <profile>/deps").join("glacis");
    assert!(
        built.is_file(),
        "{} is missing: run `cargo build -p glacis` first, or set GLACIS_BIN",
        built.display()
    );
    built
}
