//! bpf-linker: found, or built against the compiler's own LLVM below the target directory.
use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{
    ask,
    choice::{BUILDABLE, Compiler, Linker, linker_for, llvm_of_linker},
    debian,
};
use crate::{install, process, workspace::Workspace};

/// What is built where none is found.
pub(super) const VERSION: &str = "0.13.0";

/// The linkers that start: the one on `PATH`, then those built here.
pub(super) fn probe(workspace: &Workspace) -> Vec<Linker> {
    let built = BUILDABLE.map(|llvm| home(workspace, llvm).join("bin/bpf-linker"));
    let libraries = libraries(workspace);
    process::on_path("bpf-linker")
        .into_iter()
        .chain(built)
        .filter(|program| program.exists())
        .filter_map(|program| {
            let version = ask(&program, libraries.as_deref(), &["--version"])?;
            let ldd = ask(Path::new("ldd"), libraries.as_deref(), &[program.to_str()?]);
            let reads = llvm_of_linker(&version, &ldd.unwrap_or_default())?;
            Some(Linker { program, reads })
        })
        .collect()
}

/// A linker that reads what this compiler writes, built if there is none.
pub(super) fn for_compiler(
    workspace: &Workspace,
    compiler: &Compiler,
    linkers: &[Linker],
) -> Result<PathBuf> {
    match linker_for(compiler, linkers) {
        Some(linker) => Ok(linker.program.clone()),
        None => build(workspace, compiler),
    }
}

/// The unpacked libraries that a linker built against Debian's LLVM needs; harmless to others.
pub(super) fn libraries(workspace: &Workspace) -> Option<PathBuf> {
    debian::unpacked(workspace).map(|(_, libraries)| libraries)
}

fn home(workspace: &Workspace, llvm: u32) -> PathBuf {
    workspace.target.join(format!("ebpf-toolchain/bpf-linker-llvm-{llvm}"))
}

fn build(workspace: &Workspace, compiler: &Compiler) -> Result<PathBuf> {
    let llvm = compiler.llvm;
    let home = home(workspace, llvm);
    let library = compiler.libllvm.as_deref().context("the compiler has no shared LLVM")?;
    let prefix = home.join("llvm");
    copy_llvm(library, &prefix.join("lib"))
        .with_context(|| format!("cannot copy {} below {}", library.display(), home.display()))?;
    let mut install = install::command(workspace, "bpf-linker", VERSION, &home);
    install
        .args(["--no-default-features", "--features", &format!("llvm-{llvm}")])
        .env("LLVM_PREFIX", &prefix);
    if let Some(libraries) = &compiler.libraries {
        install.env("LD_LIBRARY_PATH", libraries);
    }
    let step = format!("build bpf-linker {VERSION} for LLVM {llvm} (once, some minutes)");
    process::run(&step, &mut install)
        .with_context(|| format!("bpf-linker for {compiler} cannot be built"))?;
    Ok(home.join("bin/bpf-linker"))
}

/// All that bpf-linker's build wants of LLVM is the shared library. It is copied, since it stays the
/// linker's library for good while rustup replaces its toolchains.
fn copy_llvm(library: &Path, folder: &Path) -> std::io::Result<()> {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder)?;
    let name = library.file_name().unwrap_or_default();
    fs::copy(library.canonicalize()?, folder.join(name))?;
    std::os::unix::fs::symlink(name, folder.join("libLLVM.so"))
}
