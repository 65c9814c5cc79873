//! `make bench`: every figure beside its peer's, measured in one run, as a ratio and the bound it has to keep.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    glacis_benches::run(&arguments)
}
