use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
};

/// The API fuzzer that `cargo xtask setup` put beside the build, or one in `PATH`.
///
/// # Panics
/// When there is none.
pub fn schemathesis() -> PathBuf {
    // target/<profile>/deps/<this test>
    let here = std::env::current_exe().unwrap_or_default();
    let beside = here.ancestors().nth(3).map(|target| target.join("venv/bin/schemathesis"));
    beside.filter(|p| p.is_file()).unwrap_or_else(|| crate::binary("schemathesis"))
}

/// A folder of official test vectors: below `MAINSTAY_CONFORMANCE_DIR`, or `../shared/conformance` from the workspace.
/// `None` on a plain clone; then the test returns, and this has said on standard error (not captured) that it was skipped
/// and told `cargo xtask test`, which counts.
pub fn vectors(folder: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?;
    let base = std::env::var_os("MAINSTAY_CONFORMANCE_DIR").map(PathBuf::from);
    let path = base.unwrap_or_else(|| root.join("../shared/conformance")).join(folder);
    if path.is_dir() {
        return Some(path);
    }
    let line = format!("skipped for want of vectors: {folder}\n");
    std::io::stderr().write_all(line.as_bytes()).ok();
    if let Some(list) = std::env::var_os("MAINSTAY_SKIPPED_VECTORS")
        && let Ok(mut file) = OpenOptions::new().append(true).create(true).open(list)
    {
        file.write_all(line.as_bytes()).ok();
    }
    None
}
