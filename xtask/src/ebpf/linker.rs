//! bpf-linker: found, or built against the compiler's own LLVM below the target directory.
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{
    ask,
    choice::{BUILDABLE, Compiler, Linker, linker_for, llvm_of_linker},
    debian,
};
use crate::{install::Tool, process, workspace::Workspace};

/// The release that is built if none is found.
pub(super) const VERSION: &str = "0.13.0";

/// The linkers that start: the one on `PATH`, then those built here.
pub(super) fn probe(workspace: &Workspace) -> Vec<Linker> {
    let built = BUILDABLE.map(|llvm| tool(workspace, llvm).program());
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

fn tool(workspace: &Workspace, llvm: u32) -> Tool {
    let home = workspace.target.join(format!("ebpf-toolchain/bpf-linker-llvm-{llvm}"));
    Tool { name: "bpf-linker", version: VERSION, home }
}

fn build(workspace: &Workspace, compiler: &Compiler) -> Result<PathBuf> {
    let tool = tool(workspace, compiler.llvm);
    let library = compiler.libllvm.as_deref().context("the compiler has no shared LLVM")?;
    let prefix = tool.home.join("llvm");
    copy_llvm(library, &prefix.join("lib")).with_context(|| {
        format!("cannot copy {} below {}", library.display(), tool.home.display())
    })?;
    let adapt = |install: &mut Command| {
        install.args(["--no-default-features", "--features", &format!("llvm-{}", compiler.llvm)]);
        install.env("LLVM_PREFIX", &prefix);
        if let Some(libraries) = &compiler.libraries {
            install.env("LD_LIBRARY_PATH", libraries);
        }
    };
    tool.build(workspace, adapt).with_context(|| format!("no linker for {compiler}"))?;
    Ok(tool.program())
}

/// bpf-linker's build needs only the shared library of LLVM. It is copied, since the linker keeps
/// using it after rustup has replaced its toolchains.
fn copy_llvm(library: &Path, folder: &Path) -> std::io::Result<()> {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder)?;
    let name = library.file_name().unwrap_or_default();
    fs::copy(library.canonicalize()?, folder.join(name))?;
    std::os::unix::fs::symlink(name, folder.join("libLLVM.so"))
}
