//! The kernels of the matrix: Debian's for clouds, which need no module and boot in a few seconds.
use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use xtask::apt::Apt;

use super::packages;

/// The series that Debian has: long-term kernels, the older one from before, the newer one from
/// after most of what differs.
pub(super) const SERIES: [&str; 2] = ["6.1", "6.12"];

/// A kernel to boot.
pub(super) struct Kernel {
    /// `6.1`; for a kernel file, the release in its header.
    pub(super) series: String,
    pub(super) image: PathBuf,
}

/// The kernel of one of [`SERIES`], or the one in a file.
pub(super) fn find(home: &Path, wanted: &str) -> Result<Kernel> {
    if SERIES.contains(&wanted) {
        return debian(home, wanted);
    }
    let image = PathBuf::from(wanted);
    let bytes = fs::read(&image).with_context(|| {
        format!("{wanted} is neither one of {} nor a readable kernel", SERIES.join(", "))
    })?;
    let release =
        release(&bytes).with_context(|| format!("{wanted} is no x86 kernel (bzImage)"))?;
    Ok(Kernel { series: series_of(&release), image })
}

fn debian(home: &Path, series: &str) -> Result<Kernel> {
    let folder = Apt::first_that_works(&home.join("apt"), |apt| {
        let package = packages::newest(apt, &format!("linux-image-{series}."), "-cloud-amd64")?;
        packages::unpacked(apt, home, &package, |_| false)
    })?;
    let boot = folder.join("boot");
    let mut files = fs::read_dir(&boot)?.filter_map(|file| Some(file.ok()?.path()));
    let image = files.find(|file| {
        file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"))
    });
    ensure!(image.is_some(), "no kernel in {}", boot.display());
    Ok(Kernel { series: series.to_owned(), image: image.unwrap_or_default() })
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

    #[test]
    fn a_kernel_says_what_it_is() {
        let mut image = vec![0; 0x400];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x100u16.to_le_bytes());
        image[0x300..0x30d].copy_from_slice(b"6.8.0-9 (b@c)");
        assert_eq!(release(&image).as_deref(), Some("6.8.0-9"));
        assert_eq!(series_of("6.8.0-9"), "6.8");
        assert_eq!(release(b"\x7fELF"), None);
    }
}
