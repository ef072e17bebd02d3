//! Ordinary builds where there is nothing else, be it a virtual machine or an image: without their
//! debug information, which is most of them, and with the shared libraries that they ask for.
use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use xtask::process;

/// The program without its debug information, in the folder.
pub(crate) fn strip(program: &Path, folder: &Path) -> Result<PathBuf> {
    let name = program.file_name().context("a program without a name")?;
    let stripped = folder.join(name);
    let mut strip = Command::new("strip");
    process::capture(strip.arg("-o").arg(&stripped).arg(program))
        .context("strip (of binutils) makes the programs small")?;
    Ok(stripped)
}

/// The shared libraries of all of them, the loader among them, each once.
pub(crate) fn libraries<'a>(programs: impl IntoIterator<Item = &'a Path>) -> Result<Vec<PathBuf>> {
    let mut libraries = Vec::new();
    for program in programs {
        libraries.extend(named_by(&process::capture(Command::new("ldd").arg(program))?));
    }
    libraries.sort();
    libraries.dedup();
    Ok(libraries)
}

/// The paths in what `ldd` prints.
fn named_by(ldd: &str) -> Vec<PathBuf> {
    let path = |line: &str| {
        let words = line.split_whitespace();
        words.map(Path::new).find(|word| word.is_absolute()).map(Path::to_owned)
    };
    ldd.lines().filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_is_a_library_too() {
        let ldd = "\tlinux-vdso.so.1 (0x00007f)\n\
                   \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                   \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n\tstatically linked\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(named_by(ldd), expected.map(PathBuf::from));
    }
}
