//! Embeds the eBPF object: the one of `cargo xtask build-ebpf`, else the committed one.
//!
//! A build without either is otherwise complete and says so at run time; nothing here builds or
//! fetches anything.
use std::{env, fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let target = env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| manifest.join("../../target"), |dir| manifest.join("../..").join(dir));
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    println!("cargo::rerun-if-env-changed=CARGO_TARGET_DIR");
    let made = target.join("ebpf").join(&arch).join("paramedic-ebpf");
    let committed = manifest.join("object").join(arch).join("paramedic-ebpf");
    let mut bytes = Vec::new();
    for object in [made, committed] {
        println!("cargo::rerun-if-changed={}", object.display());
        match fs::read(&object) {
            Ok(read) if bytes.is_empty() => bytes = read,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(out.join("paramedic-ebpf"), bytes)
}
