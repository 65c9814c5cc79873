//! The binary under test.

use std::path::PathBuf;

/// `$GLACIS_BIN`, else the one that cargo built beside this test or tool.
///
/// # Panics
/// When there is none; the text says how to get one.
pub fn glacis() -> PathBuf {
    if let Some(path) = std::env::var_os("GLACIS_BIN") {
        return path.into();
    }
    // <target>/<triple>/<profile>/deps/<test> or <target>/<triple>/<profile>/<tool>
    let this = std::env::current_exe().expect("a process has a path");
    let beside = this.ancestors().skip(1).take(2).map(|folder| folder.join("glacis"));
    beside.into_iter().find(|path| path.is_file()).unwrap_or_else(|| {
        panic!("no `glacis` beside {}: run `cargo build -p glacis` first, or set GLACIS_BIN", this.display())
    })
}
