//! Debian's packages, unpacked below some `packages`, one folder for each version.
use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use xtask::{
    apt::{self, Apt},
    process,
};

/// Fetches a package, and with it those that `with` picks from all that it depends on. Returns the
/// folder in which they are unpacked together.
pub(crate) fn unpacked(
    apt: &Apt,
    home: &Path,
    package: &str,
    with: fn(&str) -> bool,
) -> Result<PathBuf> {
    together(apt, home, package, || {
        let here = installed()?;
        let closure = apt.closure(&[package])?;
        let others = apt::names(&closure)
            .filter(|name| !name.contains(':'))
            .filter(|name| *name != package && with(name) && !here.contains(*name));
        Ok(others.map(str::to_owned).collect())
    })
}

/// The same with other named packages, which are fetched even if they are installed.
pub(crate) fn unpacked_with(
    apt: &Apt,
    home: &Path,
    package: &str,
    others: &[&str],
) -> Result<PathBuf> {
    together(apt, home, package, || Ok(others.iter().map(|&name| name.to_owned()).collect()))
}

fn together(
    apt: &Apt,
    home: &Path,
    package: &str,
    others: impl FnOnce() -> Result<Vec<String>>,
) -> Result<PathBuf> {
    let folder = home.join("packages").join(format!("{package}_{}", version(apt, package)?));
    if folder.exists() {
        return Ok(folder);
    }
    let wanted = [vec![package.to_owned()], others()?].concat();
    let debs = home.join("debs");
    apt.download(&format!("download {package}"), &wanted, &debs)?;
    apt::unpack(&debs, &folder)?;
    let _ = fs::remove_dir_all(&debs);
    Ok(folder)
}

fn version(apt: &Apt, package: &str) -> Result<String> {
    let mut show = apt.command("apt-cache");
    let shown = process::capture(show.args(["show", "--no-all-versions", package]))?;
    let version = shown.lines().find_map(|line| line.strip_prefix("Version: "));
    // An epoch's colon would end a folder's name in LD_LIBRARY_PATH.
    version
        .map(|version| version.replace(':', "_"))
        .with_context(|| format!("no package {package}"))
}

fn installed() -> Result<HashSet<String>> {
    let mut query = Command::new("dpkg-query");
    let list = process::capture(query.args(["-W", "-f", "${db:Status-Status} ${Package}\n"]))?;
    Ok(list.lines().filter_map(|line| line.strip_prefix("installed ")).map(str::to_owned).collect())
}

/// The newest package whose name begins and ends so: the one with the highest numbers between.
pub(crate) fn newest(apt: &Apt, prefix: &str, suffix: &str) -> Result<String> {
    let mut names = apt.command("apt-cache");
    let names = process::capture(names.args(["pkgnames", prefix]))?;
    let newest = newest_of(&names, prefix, suffix);
    ensure!(newest.is_some(), "apt knows no package {prefix}…{suffix}");
    Ok(newest.unwrap_or_default().to_owned())
}

fn newest_of<'a>(names: &'a str, prefix: &str, suffix: &str) -> Option<&'a str> {
    let numbers = |name: &str| -> Vec<u64> {
        name.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
    };
    names
        .lines()
        .filter(|name| name.starts_with(prefix) && name.ends_with(suffix))
        .max_by_key(|name| numbers(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_has_the_highest_numbers() {
        let names = "linux-image-6.1.0-9-cloud-amd64\nlinux-image-6.1.0-10-cloud-amd64\n\
                     linux-image-6.1.0-11-cloud-amd64-unsigned\nlinux-image-6.1.0-12-amd64\n\
                     linux-image-6.12.1+deb12-cloud-amd64\n";
        let newest = newest_of(names, "linux-image-6.1.", "-cloud-amd64");
        assert_eq!(newest, Some("linux-image-6.1.0-10-cloud-amd64"));
        assert_eq!(newest_of(names, "linux-image-5.", "-amd64"), None);
    }
}
