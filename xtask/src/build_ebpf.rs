//! `cargo xtask build-ebpf`: compiles `agent-ebpf` with a toolchain that it finds or sets up.
//!
//! The object of each architecture has one place below the target directory, from which the agent's
//! build script embeds it. It is replaced only when its bytes change, so that the agent is not built again
//! without need. Cargo decides whether it is up to date.
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use object::{
    build::elf::{Builder, SectionData},
    elf::SHT_STRTAB,
};

use crate::{
    arch::Arch,
    ebpf::{self, Ready, TARGET, committed},
    process,
    workspace::{Workspace, write_if_changed},
};

/// The flags for every eBPF program. The kernel takes types and line information from
/// the BTF section, which the linker makes from the debug information. Atomic operations that
/// return a value need `-Ctarget-cpu=v3` here (and a kernel from 5.12 on); counters in per-CPU maps
/// do not need them.
const RUSTFLAGS: [&str; 2] = ["-Cdebuginfo=2", "-Clink-arg=--btf"];

/// Compile the eBPF programs, with a toolchain that is set up if there is none.
///
/// It takes the first compiler that can compile for the kernel:
///   1. EBPF_RUSTC=/path/to/rustc
///   2. rustup's nightly with the component rust-src
///   3. the workspace's own toolchain with the component rust-src
///   4. /usr/bin/rustc with a prebuilt core for BPF (Debian: libstd-rust-web-dev-bpf)
///   5. the same, unpacked below target/ebpf-toolchain
///
/// If there is none, it installs rust-src with rustup, or else unpacks Debian's packages, without
/// root. bpf-linker comes from PATH or is built below target/ebpf-toolchain, which takes minutes
/// once.
///
/// The objects of the present sources are committed too, so that you can try Paramedic without this
/// task: `cargo xtask demo` uses one. After a change of the sources, --commit replaces them, for each
/// architecture.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Replace the objects that are committed below crates/probes/object, too
    #[arg(long)]
    commit: bool,
}

impl Args {
    /// Writes only the object below the target directory.
    pub const PLAIN: Self = Self { commit: false };
}

/// Makes sure that there is an object of the present sources for this machine: the committed one,
/// unless it is stale or another was built before.
pub fn ensure(workspace: &Workspace) -> Result<()> {
    let here = Arch::here()?;
    if !place(workspace, here).exists() && committed::is_fresh(workspace, here)? {
        return Ok(());
    }
    run(workspace, &Args::PLAIN)
}

/// Makes the committed object the one that builds embed, even if another was built: what is released
/// does not depend on the eBPF toolchain of a machine.
pub(crate) fn take_committed(workspace: &Workspace, arch: Arch) -> Result<()> {
    let object = place(workspace, arch);
    write_if_changed(&object, &committed::read(workspace, arch)?)?;
    println!("{}: the committed one", object.display());
    Ok(())
}

/// Builds this machine's object; to commit them, all.
pub fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let archs = if args.commit { Arch::ALL.to_vec() } else { vec![Arch::here()?] };
    for arch in archs {
        let bytes = build(workspace, arch)?;
        if args.commit {
            println!("{}: to be committed", committed::replace(workspace, arch, &bytes)?.display());
        }
    }
    Ok(())
}

/// Builds an object, leaves it where the agent's build script takes it from, and returns its bytes.
pub fn build(workspace: &Workspace, arch: Arch) -> Result<Vec<u8>> {
    let ready = ebpf::get_ready(workspace)?;
    process::run(
        &format!("compile agent-ebpf for {} with {}", arch.name(), ready.compiler),
        &mut cargo(workspace, &ready, arch)?,
    )
    .context("agent-ebpf does not compile (EBPF_RUSTC=/path/to/rustc chooses another compiler)")?;
    let built = workspace.target.join("ebpf").join(TARGET).join("release/paramedic-ebpf");
    let object = place(workspace, arch);
    let bytes = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let bytes = without_debug(&bytes).context("the linker's object cannot be read")?;
    let written = write_if_changed(&object, &bytes)?;
    let news = if written { "new" } else { "unchanged" };
    println!("{}: {news}, {} bytes", object.display(), bytes.len());
    Ok(bytes)
}

fn place(workspace: &Workspace, arch: Arch) -> PathBuf {
    workspace.target.join("ebpf").join(arch.rust()).join("paramedic-ebpf")
}

/// The object without its debug information, from which the linker has made the kernel's BTF. It is
/// most of the bytes, and the only part that depends on the path of the checkout.
fn without_debug(object: &[u8]) -> Result<Vec<u8>> {
    let mut elf = Builder::read(object)?;
    for section in &mut elf.sections {
        let name = section.name.to_string();
        section.delete = [".debug_", ".rel.debug_"].iter().any(|debug| name.starts_with(debug));
    }
    elf.delete_orphans();
    // The linker writes one table for the names of symbols and of sections; this code writes two.
    if !elf.sections.iter().any(|section| matches!(section.data, SectionData::SectionString)) {
        let names = elf.sections.add();
        names.name = b".shstrtab".as_slice().into();
        names.sh_type = SHT_STRTAB;
        names.data = SectionData::SectionString;
    }
    let mut bytes = Vec::new();
    elf.write(&mut bytes)?;
    Ok(bytes)
}

fn cargo(workspace: &Workspace, ready: &Ready, arch: Arch) -> Result<Command> {
    let source = workspace.root.join("agent-ebpf");
    let mut command = Command::new(&ready.cargo);
    ebpf::clean(&mut command);
    command
        .env("PATH", path_with(&ready.programs)?)
        .env("RUSTC", ready.programs.join("rustc"))
        // `-Z build-std`, and aya-ebpf's `asm_experimental_arch`, on a stable compiler.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", workspace.target.join("ebpf"))
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(workspace, arch))
        .args(["build", "--release", "--target", TARGET]);
    if source.join("Cargo.lock").exists() {
        command.arg("--locked");
    }
    if ready.build_core {
        command.args(["-Z", "build-std=core"]);
    }
    command.current_dir(source);
    Ok(command)
}

/// The flags, with the architecture whose registers aya-ebpf's contexts describe.
fn rustflags(workspace: &Workspace, arch: Arch) -> String {
    let mut flags = RUSTFLAGS.map(str::to_owned).to_vec();
    flags.push(format!("--cfg=bpf_target_arch=\"{}\"", arch.rust()));
    flags.extend(workspace.without_paths());
    flags.join("\x1f")
}

fn path_with(first: &Path) -> Result<std::ffi::OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(first.to_owned()).chain(env::split_paths(&path));
    env::join_paths(folders).context("the target directory's path cannot stand in PATH")
}

#[cfg(test)]
mod tests {
    use object::{
        Endianness,
        elf::{SHF_ALLOC, SHT_PROGBITS},
    };

    use super::*;

    #[test]
    fn debug_information_goes_and_what_the_kernel_takes_stays() {
        let mut elf = Builder::new(Endianness::Little, true);
        for name in ["maps", ".BTF", ".debug_str"] {
            let section = elf.sections.add();
            section.name = name.as_bytes().into();
            section.sh_type = SHT_PROGBITS;
            section.sh_flags = if name == "maps" { SHF_ALLOC.into() } else { 0 };
            section.data = SectionData::Data(b"/src/paramedic".as_slice().into());
        }
        let names = elf.sections.add();
        names.name = b".shstrtab".as_slice().into();
        names.sh_type = SHT_STRTAB;
        names.data = SectionData::SectionString;
        let mut object = Vec::new();
        elf.write(&mut object).unwrap();

        let small = without_debug(&object).unwrap();
        let read = Builder::read(small.as_slice()).unwrap();
        let left: Vec<_> = read.sections.iter().map(|section| section.name.to_string()).collect();
        assert_eq!(left, ["maps", ".BTF", ".shstrtab"]);
    }
}
