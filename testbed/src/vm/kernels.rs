//! The kernels: Debian's for clouds, which need no module and boot in a few seconds.
use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use xtask::{
    apt::{Apt, Release},
    arch::Arch,
};

use super::packages;

/// The series of the matrix: long-term kernels, the older one from before, the newer one from after
/// most of what differs.
pub(super) const SERIES: [&str; 2] = ["6.1", "6.12"];

/// A kernel in Debian's pool.
pub(super) struct Pooled {
    /// Its series, or `newest`.
    pub(super) name: &'static str,
    release: &'static str,
    /// What the name of its package begins with.
    package: &'static str,
}

/// Every series that can be had, the oldest first.
pub(super) const POOL: [Pooled; 4] = [
    Pooled { name: "5.10", release: "bullseye", package: "linux-image-5.10." },
    Pooled { name: "6.1", release: "bookworm", package: "linux-image-6.1." },
    Pooled { name: "6.12", release: "bookworm", package: "linux-image-6.12." },
    Pooled { name: "newest", release: "sid", package: "linux-binary-" },
];

/// A kernel to boot.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    /// As it was asked for: `6.1`, `newest`; for a kernel file, its series.
    pub(super) name: String,
    /// `6.1`
    pub(super) series: String,
    pub(super) arch: Arch,
    pub(super) image: PathBuf,
}

impl Kernel {
    /// `6.1`; with its architecture if that is not amd64.
    pub(super) fn title(&self) -> String {
        match self.arch {
            Arch::Amd64 => self.series.clone(),
            Arch::Arm64 => format!("{} {}", self.series, self.arch.name()),
        }
    }
}

/// The kernel of one of [`POOL`], or the one in a file.
pub(super) fn find(home: &Path, wanted: &str, arch: Arch) -> Result<Kernel> {
    if let Some(pooled) = POOL.iter().find(|pooled| pooled.name == wanted) {
        return debian(home, pooled, arch);
    }
    let image = PathBuf::from(wanted);
    let names = POOL.map(|pooled| pooled.name).join(", ");
    let bytes = fs::read(&image)
        .with_context(|| format!("{wanted} is neither one of {names} nor a readable kernel"))?;
    let release =
        release(&bytes).with_context(|| format!("{wanted} is no x86 kernel (bzImage)"))?;
    let series = series_of(&release);
    Ok(Kernel { name: series.clone(), series, arch: Arch::Amd64, image })
}

fn debian(home: &Path, pooled: &Pooled, arch: Arch) -> Result<Kernel> {
    let release = Release { name: pooled.release, arch };
    let ending = format!("-cloud-{}", arch.name());
    let (package, folder) = Apt::of_release(&home.join("apt"), release, |apt| {
        let package = packages::newest(apt, pooled.package, &ending)?;
        let folder = packages::unpacked(apt, home, &package, |_| false)?;
        Ok((package, folder))
    })?;
    let image = image(&folder).with_context(|| format!("no kernel in {}", folder.display()))?;
    let numbers = package.trim_start_matches(|c: char| !c.is_ascii_digit());
    let series = series_of(numbers);
    Ok(Kernel { name: pooled.name.to_owned(), series, arch, image })
}

/// Where a package has its kernel: in `/boot`, or beside the modules.
fn image(folder: &Path) -> Option<PathBuf> {
    let names = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten();
        entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
    };
    let modules = names(&folder.join("usr/lib/modules"));
    let places = modules.into_iter().chain([folder.join("boot")]);
    let mut files = places.flat_map(|place| names(&place));
    files.find(|file| {
        file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"))
    })
}

/// The release in the header of the boot protocol.
fn release(image: &[u8]) -> Option<String> {
    const MAGIC: usize = 0x202;
    const VERSION: usize = 0x20e;
    if image.get(MAGIC..MAGIC + 4)? != b"HdrS" {
        return None;
    }
    let at = usize::from(u16::from_le_bytes(*image.get(VERSION..)?.first_chunk()?)) + 0x200;
    let text = image.get(at..)?.split(|byte| *byte == 0).next()?;
    let text = String::from_utf8_lossy(text);
    text.split(' ').next().map(str::to_owned)
}

/// `6.12` of `6.12.117+deb12-cloud-amd64`.
fn series_of(release: &str) -> String {
    release.split('.').take(2).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Kernel {
        pub(in crate::vm) fn for_tests(series: &str, arch: Arch) -> Self {
            let name = series.to_owned();
            Self { series: name.clone(), name, arch, image: PathBuf::new() }
        }
    }

    #[test]
    fn a_kernel_says_what_it_is() {
        let mut image = vec![0; 0x400];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x100u16.to_le_bytes());
        image[0x300..0x30d].copy_from_slice(b"6.8.0-9 (b@c)");
        assert_eq!(release(&image).as_deref(), Some("6.8.0-9"));
        assert_eq!(series_of("6.8.0-9"), "6.8");
        assert_eq!(series_of("7.2.13+deb14-cloud-arm64"), "7.2");
        assert_eq!(release(b"\x7fELF"), None);
    }

    #[test]
    fn a_kernel_is_where_its_package_has_it() {
        for place in ["boot/vmlinuz-6.1.0-9", "usr/lib/modules/7.2.13/vmlinuz"] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join(place);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "").unwrap();
            assert_eq!(image(folder.path()), Some(file));
        }
    }

    #[test]
    fn the_matrix_is_of_kernels_in_the_pool() {
        assert!(SERIES.iter().all(|series| POOL.iter().any(|pooled| pooled.name == *series)));
    }
}
