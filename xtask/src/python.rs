//! The tests of the Python package, in a virtual environment below the target directory.
//!
//! The machine's own Python is left as it is. The package itself is not installed but
//! found by its path, so that its build tool is not needed to test it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use warmpath_testbed::build;

/// Runs them, against the programs that were built for the other tests.
pub(crate) fn tests() -> Result<()> {
    let package = build::workspace_root().join("python");
    let requirements = package.join("requirements-test.txt");
    let python = environment(&requirements)?;
    let mut pytest = Command::new(python);
    pytest.args(["-m", "pytest", "--quiet", "-p", "no:cacheprovider"]).current_dir(&package);
    pytest.env("PYTHONPATH", package.join("src")).env("PYTHONDONTWRITEBYTECODE", "1");
    pytest.env("WARMPATH_INDEXER", build::indexer(build::Profile::Dev)?);
    pytest.env("WARMPATH_SIMWORKER", build::simworker()?);
    build::succeed(&mut pytest, "python tests")
}

/// A Python with what the tests need. It is made anew when the requirements change.
fn environment(requirements: &Path) -> Result<std::path::PathBuf> {
    let folder = build::scratch_dir("python")?;
    let (venv, stamp) = (folder.join("venv"), folder.join("installed.txt"));
    let wanted = std::fs::read(requirements)
        .with_context(|| format!("can not read {}", requirements.display()))?;
    let python = venv.join("bin/python");
    if python.exists() && std::fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let mut made = Command::new("python3");
    made.args(["-m", "venv", "--clear"]).arg(&venv);
    build::succeed(&mut made, "virtual environment")
        .context("install Python 3.10 or newer with its venv module (python3-venv)")?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]);
    build::succeed(pip.arg(requirements), "installing the test requirements")?;
    std::fs::write(&stamp, wanted).with_context(|| format!("can not write {}", stamp.display()))?;
    Ok(python)
}
