//! Chooses compiler and linker from facts. Pure.
use std::{fmt, ops::RangeInclusive, path::PathBuf};

/// The LLVM versions for which the bpf-linker that is built here has a feature.
pub(super) const BUILDABLE: RangeInclusive<u32> = 21..=23;

/// Where a compiler's core library for the target comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Core {
    /// Compiled with the program, from the component rust-src.
    Source,
    /// Delivered with the compiler.
    Prebuilt,
}

/// Facts about one rustc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Compiler {
    /// Its description, for people: `rustup's nightly`.
    pub(super) name: &'static str,
    /// The user demands it, so no other is used.
    pub(super) explicit: bool,
    /// The program itself, not rustup's proxy.
    pub(super) rustc: PathBuf,
    /// The cargo that goes with it.
    pub(super) cargo: PathBuf,
    /// Where its shared libraries were unpacked, if they are not where the system looks.
    pub(super) libraries: Option<PathBuf>,
    /// Its LLVM's major version.
    pub(super) llvm: u32,
    /// Its shared LLVM library, against which a linker can be built.
    pub(super) libllvm: Option<PathBuf>,
    /// The source of core for the target, if there is one.
    pub(super) core: Option<Core>,
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, LLVM {})", self.name, self.rustc.display(), self.llvm)
    }
}

/// Facts about one bpf-linker that starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Linker {
    /// The program.
    pub(super) program: PathBuf,
    /// The newest LLVM whose bitcode it reads.
    pub(super) reads: u32,
}

/// The compilers that can be used, in the order given: a linker that reads them exists, or one can
/// be built.
pub(super) fn fitting<'a>(
    compilers: &'a [Compiler],
    linkers: &'a [Linker],
) -> impl Iterator<Item = &'a Compiler> {
    compilers.iter().filter(|compiler| obstacle(compiler, linkers).is_none())
}

/// The others, with the reason.
pub(super) fn unfit<'a>(
    compilers: &'a [Compiler],
    linkers: &'a [Linker],
) -> impl Iterator<Item = (&'a Compiler, String)> {
    compilers.iter().filter_map(|compiler| Some((compiler, obstacle(compiler, linkers)?)))
}

fn obstacle(compiler: &Compiler, linkers: &[Linker]) -> Option<String> {
    if compiler.core.is_none() {
        return Some("it has neither the component rust-src nor a core library for BPF".into());
    }
    if linker_for(compiler, linkers).is_some() {
        return None;
    }
    if !BUILDABLE.contains(&compiler.llvm) {
        let (first, last) = (BUILDABLE.start(), BUILDABLE.end());
        return Some(format!("bpf-linker can be built for LLVM {first} to {last} only"));
    }
    if compiler.libllvm.is_none() {
        return Some("no bpf-linker reads it, and it has no shared LLVM to build one with".into());
    }
    None
}

/// The first linker that reads what the compiler writes.
pub(super) fn linker_for<'a>(compiler: &Compiler, linkers: &'a [Linker]) -> Option<&'a Linker> {
    linkers.iter().find(|linker| linker.reads >= compiler.llvm)
}

/// The LLVM major version in the output of `rustc -vV`.
pub(super) fn llvm_of_rustc(verbose_version: &str) -> Option<u32> {
    let line = verbose_version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    line.split('.').next()?.parse().ok()
}

/// The LLVM major version that a bpf-linker reads, from `bpf-linker --version` and `ldd`: the
/// shared library that it is linked to, else the one that its release brings along. Versions
/// before 0.13 are not used.
pub(super) fn llvm_of_linker(version: &str, ldd: &str) -> Option<u32> {
    let mut parts = version.strip_prefix("bpf-linker ")?.split('.').map(str::parse::<u32>);
    let (major, minor) = (parts.next()?.ok()?, parts.next()?.ok()?);
    if (major, minor) < (0, 13) {
        return None;
    }
    let shared = ldd.split_whitespace().find_map(|word| {
        let rest = word.strip_prefix("libLLVM").map(|rest| rest.trim_start_matches(".so"))?;
        let digits = rest.trim_start_matches(['-', '.']);
        digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    });
    Some(shared.unwrap_or(*BUILDABLE.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiler(name: &'static str, llvm: u32, core: Option<Core>) -> Compiler {
        Compiler {
            name,
            explicit: false,
            rustc: name.into(),
            cargo: "cargo".into(),
            libraries: None,
            llvm,
            libllvm: Some("libLLVM.so".into()),
            core,
        }
    }

    fn names(compilers: &[Compiler], linkers: &[Linker]) -> Vec<&'static str> {
        fitting(compilers, linkers).map(|compiler| compiler.name).collect()
    }

    #[test]
    fn the_first_with_a_core_is_taken() {
        let compilers = [
            compiler("nightly", 23, None),
            compiler("own", 22, Some(Core::Source)),
            compiler("distribution", 22, Some(Core::Prebuilt)),
        ];
        assert_eq!(names(&compilers, &[]), ["own", "distribution"]);
        let (unfit, reason) = unfit(&compilers, &[]).next().unwrap();
        assert_eq!(unfit.name, "nightly");
        assert!(reason.contains("rust-src"), "{reason}");
    }

    #[test]
    fn a_compiler_beyond_every_linker_is_passed_over() {
        let compilers = [
            compiler("nightly", 24, Some(Core::Source)),
            compiler("ancient", 19, Some(Core::Prebuilt)),
            compiler("own", 22, Some(Core::Source)),
        ];
        assert_eq!(names(&compilers, &[]), ["own"]);
        let newer = [Linker { program: "bpf-linker".into(), reads: 24 }];
        assert_eq!(names(&compilers, &newer), ["nightly", "ancient", "own"]);
    }

    #[test]
    fn without_a_shared_llvm_a_linker_must_be_there() {
        let mut bare = compiler("bare", 22, Some(Core::Prebuilt));
        bare.libllvm = None;
        let old = Linker { program: "old".into(), reads: 21 };
        let new = Linker { program: "new".into(), reads: 23 };
        assert_eq!(names(std::slice::from_ref(&bare), std::slice::from_ref(&old)), [""; 0]);
        assert_eq!(linker_for(&bare, &[old, new.clone()]), Some(&new));
    }

    #[test]
    fn versions_are_read_from_what_the_programs_print() {
        let printed = "rustc 1.95.0 (5980 2026-04-14)\nrelease: 1.95.0\nLLVM version: 22.1.2";
        assert_eq!(llvm_of_rustc(printed), Some(22));
        assert_eq!(llvm_of_rustc("rustc 1.95.0"), None);
        let debian = "\tlibLLVM.so.22.1 => /p/libLLVM.so.22.1 (0x00007f2941400000)\n\tlibc.so.6";
        let rustup = "\tlibLLVM.so.23.1-rust-1.101.0-nightly => /p/l (0x0)";
        assert_eq!(llvm_of_linker("bpf-linker 0.13.0", debian), Some(22));
        assert_eq!(llvm_of_linker("bpf-linker 0.13.0", rustup), Some(23));
        assert_eq!(llvm_of_linker("bpf-linker 0.13.0", "libLLVM-21.so => /p"), Some(21));
        assert_eq!(llvm_of_linker("bpf-linker 0.13.0", "not a dynamic executable"), Some(23));
        assert_eq!(llvm_of_linker("bpf-linker 0.12.9", debian), None);
        assert_eq!(llvm_of_linker("bpf-linker 1.0.0", debian), Some(22));
    }
}
