//! The parts of an image's binary as a CycloneDX document, for scanners that look for known
//! vulnerabilities: they cannot see what is in a static binary.
//!
//! `cargo tree` resolves features as the build does, for one package and one target, and so names
//! exactly the crates that are linked; macros and build scripts run while compiling and are left
//! out. cargo-cyclonedx names each crate by its path on this machine and takes the features of the
//! whole workspace, so it is not used. No serial number, and no date but the image's: the same
//! checkout gives the same bytes.
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Image, VERSION, archive};
use crate::{arch::Arch, cross, ebpf, process, workspace::Workspace};

/// One crate, by `NAME@VERSION`, which is its name in the document too.
type Crates = BTreeMap<String, Crate>;

#[derive(Default)]
struct Crate {
    license: String,
    depends_on: BTreeSet<String>,
}

/// The document for the binary.
pub(super) fn of(
    workspace: &Workspace,
    image: Image,
    arch: Arch,
    binary: &[u8],
    created: &str,
) -> Result<Value> {
    let mut crates = Crates::new();
    let mut checksums = BTreeMap::new();
    let mut add = |folder: &Path, target: &str, package: &str, above: Option<&str>| {
        let lock = folder.join("Cargo.lock");
        let text = fs::read_to_string(&lock);
        let text = text.with_context(|| format!("cannot read {}", lock.display()))?;
        checksums.extend(checksums_in(&text));
        read_tree(&tree(folder, target, package)?, above, &mut crates);
        anyhow::Ok(())
    };
    let root = format!("{}@{VERSION}", image.package());
    add(&workspace.root, &arch.target(), image.package(), None)?;
    if image == Image::Agent {
        // Embedded as an object of its own.
        let folder = workspace.root.join("agent-ebpf");
        add(&folder, ebpf::TARGET, "agent-ebpf", Some(&root))?;
    }
    let mut document = document(&root, &crates, &checksums)?;
    document["metadata"]["timestamp"] = created.into();
    let hash = archive::sha256(binary);
    document["metadata"]["component"]["hashes"] = json!([{ "alg": "SHA-256", "content": hash }]);
    let toolchain = [
        ("glibc", glibc(workspace, arch)?, "LGPL-2.1-or-later", "gnu:glibc"),
        ("rust-std", rust(workspace)?, "MIT OR Apache-2.0", "rust-lang:rust"),
    ];
    for (name, version, license, vendor) in toolchain {
        let cpe = format!("cpe:2.3:a:{vendor}:{version}:*:*:*:*:*:*:*");
        let mut component = component("library", &format!("{name}@{version}"), license)?;
        component["cpe"] = cpe.into();
        if let Some(components) = document["components"].as_array_mut() {
            components.push(component);
        }
    }
    Ok(document)
}

/// The crates that are linked into the package's binary, one per line: depth, crate, licence.
fn tree(folder: &Path, target: &str, package: &str) -> Result<String> {
    let mut cargo = Command::new("cargo");
    cargo.args(["tree", "--locked", "--package", package, "--target", target]);
    cargo.args(["--edges", "normal,no-proc-macro", "--prefix", "depth", "--format", "\t{p}\t{l}"]);
    process::capture(cargo.current_dir(folder))
}

/// Adds what `cargo tree` prints; its first crate is one that `above` depends on.
fn read_tree(printed: &str, above: Option<&str>, crates: &mut Crates) {
    let mut branch: Vec<String> = above.map(str::to_owned).into_iter().collect();
    let trunk = branch.len();
    for line in printed.lines() {
        // A crate whose dependencies were listed above ends with a star.
        let mut fields = line.trim_end_matches(" (*)").split('\t');
        let (Some(depth), Some(package)) = (fields.next(), fields.next()) else { continue };
        let mut words = package.split_whitespace();
        let (Some(name), Some(version)) = (words.next(), words.next()) else { continue };
        let name = format!("{name}@{}", version.trim_start_matches('v'));
        branch.truncate(trunk + depth.parse::<usize>().unwrap_or_default());
        if let Some(above) = branch.last() {
            crates.entry(above.clone()).or_default().depends_on.insert(name.clone());
        }
        // An old form.
        let license = fields.next().unwrap_or_default().replace('/', " OR ");
        crates.entry(name.clone()).or_default().license = license;
        branch.push(name);
    }
}

/// The SHA-256 of every crate that a registry has, from a lock file.
fn checksums_in(lock: &str) -> BTreeMap<String, String> {
    let of = |package: &str| {
        let value = |key: &str| {
            let values = package.lines().filter_map(|line| line.strip_prefix(key));
            values.map(|value| value.trim_matches([' ', '=', '"']).to_owned()).next()
        };
        Some((format!("{}@{}", value("name")?, value("version")?), value("checksum")?))
    };
    lock.split("[[package]]").skip(1).filter_map(of).collect()
}

fn document(root: &str, crates: &Crates, checksums: &BTreeMap<String, String>) -> Result<Value> {
    let described = |(name, one): (&String, &Crate)| {
        let mut found = component("library", name, &one.license)?;
        // A crate of ours has no other address, and another author's crate may have the same name.
        if let Some(checksum) = checksums.get(name) {
            found["purl"] = format!("pkg:cargo/{}", name.replace('+', "%2B")).into();
            found["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
        }
        Ok(found)
    };
    let parts = crates.iter().filter(|(name, _)| *name != root);
    let components = parts.map(described).collect::<Result<Vec<_>>>()?;
    let relation =
        |(name, one): (&String, &Crate)| json!({ "ref": name, "dependsOn": one.depends_on });
    let license =
        &crates.get(root).context("cargo tree does not name what it was asked for")?.license;
    Ok(json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "lifecycles": [{ "phase": "build" }],
            "tools": { "components": [component("application", &format!("xtask@{VERSION}"), "")?] },
            "component": component("application", root, license)?,
        },
        "components": components,
        "dependencies": crates.iter().map(relation).collect::<Vec<_>>(),
    }))
}

fn component(kind: &str, name_and_version: &str, license: &str) -> Result<Value> {
    let (name, version) = name_and_version.split_once('@').context("a crate without a version")?;
    let mut found = json!({
        "type": kind, "bom-ref": name_and_version, "name": name, "version": version,
    });
    if !license.is_empty() {
        found["licenses"] = json!([{ "expression": license }]);
    }
    Ok(found)
}

/// The version of the C library that is linked statically.
fn glibc(workspace: &Workspace, arch: Arch) -> Result<String> {
    if !arch.is_here() {
        return cross::glibc(workspace, arch);
    }
    let printed = process::capture(Command::new("getconf").arg("GNU_LIBC_VERSION"))?;
    let version = printed.strip_prefix("glibc ").context("the C library is not glibc")?;
    Ok(version.to_owned())
}

fn rust(workspace: &Workspace) -> Result<String> {
    let printed =
        process::capture(Command::new("rustc").arg("--version").current_dir(&workspace.root))?;
    let version = printed.split_whitespace().nth(1).context("rustc does not tell its version")?;
    Ok(version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(image: Image) -> Value {
        let workspace = Workspace::find().unwrap();
        of(&workspace, image, Arch::here().unwrap(), b"\x7fELF", "2023-11-14T22:13:20Z").unwrap()
    }

    fn lock(path: &str) -> String {
        fs::read_to_string(Workspace::find().unwrap().root.join(path)).unwrap()
    }

    fn names(document: &Value) -> BTreeSet<&str> {
        let components = document["components"].as_array().unwrap();
        components.iter().map(|one| one["name"].as_str().unwrap()).collect()
    }

    #[test]
    fn crates_are_those_of_the_lock_files() {
        let locks = [lock("Cargo.lock"), lock("agent-ebpf/Cargo.lock")].concat();
        let has = |key: &str, value: &Value| {
            locks.contains(&format!("\n{key} = \"{}\"\n", value.as_str().unwrap()))
        };
        for image in Image::ALL {
            let document = made(image);
            let mut own = BTreeSet::new();
            for one in document["components"].as_array().unwrap() {
                assert!(!one["licenses"][0]["expression"].as_str().unwrap().is_empty(), "{one}");
                if one["purl"].is_string() {
                    assert!(has("name", &one["name"]) && has("version", &one["version"]), "{one}");
                    assert!(has("checksum", &one["hashes"][0]["content"]), "{one}");
                } else {
                    own.insert(one["name"].as_str().unwrap().to_owned());
                }
            }
            let (crates, others): (Vec<_>, Vec<_>) =
                own.into_iter().partition(|name| name.starts_with("paramedic-"));
            let expected = match image {
                Image::Agent => ["agent-common", "agent-ebpf", "glibc", "rust-std"].as_slice(),
                // Of the judgement it links what reads settings.
                Image::Policy => &["agent-common", "glibc", "rust-std"],
                Image::MetricsApi | Image::Patient => &["glibc", "rust-std"],
            };
            assert_eq!(others, expected);
            let has_core = crates.iter().any(|name| name == "paramedic-core");
            assert_eq!(has_core, matches!(image, Image::Agent | Image::Policy), "{crates:?}");
        }
    }

    #[test]
    fn what_is_linked_is_there_and_nothing_else() {
        let agent = made(Image::Agent);
        let agent = names(&agent);
        for linked in ["tokio", "tract-core", "libsqlite3-sys", "kube", "aya", "aya-ebpf"] {
            assert!(agent.contains(linked), "{linked}");
        }
        // For tests, while compiling, on other systems, or with features that the agent does not
        // ask for.
        for other in
            ["fake-apiserver", "tempfile", "xtask", "serde_derive", "cc", "windows-sys", "openssl"]
        {
            assert!(!agent.contains(other), "{other}");
        }
        let patient = made(Image::Patient);
        assert!(!names(&patient).contains("aya-ebpf"));
    }

    #[test]
    fn it_is_the_same_on_every_machine() {
        for image in Image::ALL {
            let document = made(image).to_string();
            let root = Workspace::find().unwrap().root;
            for path in [root.to_str().unwrap(), "/home/", "/root/", ".cargo", "file:"] {
                assert!(!document.contains(path), "{path}");
            }
            assert!(!document.contains("serialNumber"));
            assert_eq!(document, made(image).to_string());
        }
    }

    #[test]
    fn the_schemas_required_fields_are_there() {
        let document = made(Image::Agent);
        let (format, version) = (&document["bomFormat"], &document["specVersion"]);
        assert_eq!((format.as_str(), version.as_str()), (Some("CycloneDX"), Some("1.6")));
        let main = &document["metadata"]["component"];
        let mut refs = BTreeSet::new();
        for one in document["components"].as_array().unwrap().iter().chain([main]) {
            for required in ["type", "name", "version", "bom-ref"] {
                assert!(one[required].as_str().is_some_and(|text| !text.is_empty()), "{one}");
            }
            for hash in one["hashes"].as_array().into_iter().flatten() {
                let content = hash["content"].as_str().unwrap();
                assert_eq!((hash["alg"].as_str(), content.len()), (Some("SHA-256"), 64), "{one}");
            }
            assert!(refs.insert(one["bom-ref"].as_str().unwrap()), "twice: {one}");
        }
        for relation in document["dependencies"].as_array().unwrap() {
            let to = relation["dependsOn"].as_array().unwrap();
            for one in to.iter().chain([&relation["ref"]]) {
                assert!(refs.contains(one.as_str().unwrap()), "{relation}");
            }
        }
    }

    #[test]
    fn a_tree_is_read_with_its_branches() {
        let printed = "0\ta v0.1.0 (/src/a)\tApache-2.0\n1\tb v1.2.3+4\tMIT/Apache-2.0\n\
                       2\tc v1.0.0\tMIT\n1\tc v1.0.0\tMIT (*)\n";
        let mut crates = Crates::new();
        read_tree(printed, Some("top@1.0.0"), &mut crates);
        let on = |name: &str| crates[name].depends_on.iter().cloned().collect::<Vec<_>>();
        assert_eq!(on("top@1.0.0"), ["a@0.1.0"]);
        assert_eq!(on("a@0.1.0"), ["b@1.2.3+4", "c@1.0.0"]);
        assert_eq!(on("b@1.2.3+4"), ["c@1.0.0"]);
        assert_eq!(crates["b@1.2.3+4"].license, "MIT OR Apache-2.0");
    }
}
