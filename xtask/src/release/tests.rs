//! The packages, read back, and that the same content gives the same bytes.
use std::{io::Read as _, process::Command};

use flate2::read::GzDecoder;
use tar::EntryType;

use super::{
    content::{UNIT, example},
    *,
};

/// The entries of a compressed archive: path, mode, what a link points to. All are root's, of the
/// example's time, and each folder comes before what is in it.
fn entries(gz: &[u8]) -> Vec<(String, u32, Option<String>)> {
    let mut archive = tar::Archive::new(GzDecoder::new(gz));
    let mut found: Vec<(String, u32, Option<String>)> = Vec::new();
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        let owner = (header.uid().unwrap(), header.gid().unwrap());
        assert_eq!((owner, header.mtime().unwrap()), ((0, 0), 1_700_000_000));
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        assert!(found.last().is_none_or(|(last, ..)| *last < path), "{path}: no order");
        if header.entry_type() != EntryType::Directory {
            let target = entry.link_name().unwrap().map(|to| to.to_str().unwrap().to_owned());
            found.push((path, header.mode().unwrap(), target));
        }
    }
    found
}

fn paths(gz: &[u8]) -> Vec<String> {
    entries(gz).into_iter().map(|(path, ..)| path).collect()
}

#[test]
fn the_same_content_gives_the_same_bytes() {
    for arch in Arch::ALL {
        let (one, two) = (example(arch), example(arch));
        assert!(deb(&one).unwrap() == deb(&two).unwrap());
        assert!(tarball::of_program(&one).unwrap() == tarball::of_program(&two).unwrap());
    }
    let workspace = Workspace::find().unwrap();
    assert!(kubernetes(&workspace, 7).unwrap() == kubernetes(&workspace, 7).unwrap());
}

#[test]
fn names_tell_version_and_architecture() {
    let [amd, arm] = Arch::ALL.map(example);
    assert_eq!(deb::name(&amd), "paramedic_0.2.0~rc.1-1_amd64.deb");
    assert_eq!(deb::name(&arm), "paramedic_0.2.0~rc.1-1_arm64.deb");
    assert_eq!(tarball::name(&arm), "paramedic-0.2.0-rc.1-linux-aarch64");
}

#[test]
fn the_archive_has_the_program_and_its_papers_in_one_folder() {
    let content = example(Arch::Amd64);
    let root = tarball::name(&content);
    let found = entries(&tarball::of_program(&content).unwrap());
    for path in [
        "LICENSE",
        "completions/paramedic.zsh",
        "man1/paramedic-watch.1",
        "systemd/paramedic.service",
    ] {
        assert!(found.contains(&(format!("{root}/{path}"), 0o644, None)), "{path}: {found:?}");
    }
    assert!(found.contains(&(format!("{root}/paramedic"), 0o755, None)));
    assert!(found.iter().all(|(path, ..)| path.starts_with(&format!("{root}/"))));
}

/// The members of a package.
fn members(deb: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut rest = deb.strip_prefix(b"!<arch>\n").unwrap();
    let mut members = Vec::new();
    while !rest.is_empty() {
        let (header, after) = rest.split_at(60);
        let header = str::from_utf8(header).unwrap();
        assert!(header.ends_with("`\n"), "{header:?}");
        let length: usize = header[48..58].trim().parse().unwrap();
        members.push((header[..16].trim().to_owned(), after[..length].to_vec()));
        rest = &after[(length + length % 2).min(after.len())..];
    }
    members
}

#[test]
fn the_debian_package_installs_where_debian_expects_it() {
    let members = members(&deb(&example(Arch::Arm64)).unwrap());
    let names: Vec<_> = members.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["debian-binary", "control.tar.gz", "data.tar.gz"]);
    assert_eq!(members[0].1, b"2.0\n");
    let control = entries(&members[1].1);
    let of = |name: &str, mode| (name.to_owned(), mode, None);
    let scripts = ["postinst", "postrm", "prerm"].map(|name| of(name, 0o755));
    assert_eq!(control[..2], [of("conffiles", 0o644), of("control", 0o644)]);
    assert_eq!(control[2..], scripts);
    let data = entries(&members[2].1);
    for (path, mode) in [
        ("etc/default/paramedic", 0o644),
        ("usr/bin/paramedic", 0o755),
        ("usr/lib/systemd/system/paramedic.service", 0o644),
        ("usr/share/bash-completion/completions/paramedic", 0o644),
        ("usr/share/doc/paramedic/changelog.Debian.gz", 0o644),
        ("usr/share/fish/vendor_completions.d/paramedic.fish", 0o644),
        ("usr/share/man/man1/paramedic-watch.1.gz", 0o644),
        ("usr/share/zsh/vendor-completions/_paramedic", 0o644),
    ] {
        assert!(data.contains(&of(path, mode)), "{path}: {data:?}");
    }
    let plugin = ("usr/bin/kubectl-paramedic".to_owned(), 0o777, Some("paramedic".to_owned()));
    assert!(data.contains(&plugin));
}

#[test]
fn control_tells_version_and_architecture() {
    let members = members(&deb(&example(Arch::Arm64)).unwrap());
    let mut archive = tar::Archive::new(GzDecoder::new(members[1].1.as_slice()));
    let mut control = String::new();
    let mut entries = archive.entries().unwrap().map(Result::unwrap);
    let mut entry = entries.find(|entry| entry.path().unwrap().ends_with("control")).unwrap();
    entry.read_to_string(&mut control).unwrap();
    for line in ["Package: paramedic", "Version: 0.2.0~rc.1-1", "Architecture: arm64"] {
        assert!(control.lines().any(|found| found == line), "{control}");
    }
    // A field, or the continuation of one: nothing else.
    assert!(control.lines().all(|line| line.starts_with(' ') || line.contains(": ")), "{control}");
}

/// The values of a setting in the unit, of all its lines.
fn unit(setting: &str) -> Vec<String> {
    let file = Workspace::find().unwrap().root.join(UNIT);
    let text = fs::read_to_string(file).unwrap();
    let value = |line: &str| Some(line.strip_prefix(setting)?.strip_prefix('=')?.to_owned());
    text.lines().filter_map(value).collect()
}

#[test]
fn the_unit_has_few_rights() {
    let capabilities =
        "CAP_BPF CAP_PERFMON CAP_NET_ADMIN CAP_SYS_PTRACE CAP_DAC_READ_SEARCH CAP_KILL";
    assert_eq!(unit("CapabilityBoundingSet"), [capabilities]);
    assert_eq!(unit("AmbientCapabilities"), [""; 0]);
    assert_eq!(unit("StateDirectory"), ["paramedic"]);
    assert_eq!(unit("StateDirectoryMode"), ["0700"]);
    assert_eq!(unit("ProtectSystem"), ["strict"]);
    assert_eq!(unit("SystemCallFilter"), ["@system-service bpf perf_event_open"]);
    for setting in [
        "NoNewPrivileges",
        "ProtectControlGroups",
        "ProtectKernelLogs",
        "ProtectKernelModules",
        "ProtectKernelTunables",
        "MemoryDenyWriteExecute",
        "PrivateDevices",
        "PrivateTmp",
        "RestrictNamespaces",
        "RestrictSUIDSGID",
    ] {
        assert_eq!(unit(setting), ["yes"], "{setting}");
    }
}

#[test]
fn the_scripts_are_shell() {
    for name in ["postinst", "prerm", "postrm"] {
        let script = Workspace::find().unwrap().root.join("packaging/deb").join(name);
        process::capture(Command::new("sh").arg("-n").arg(script)).unwrap();
    }
}

#[test]
fn the_charts_link_leads_to_the_manifests_of_the_archive() {
    let archive = kubernetes(&Workspace::find().unwrap(), 1_700_000_000).unwrap();
    let root = format!("paramedic-kubernetes-{VERSION}");
    let all = paths(&archive);
    for path in [
        "manifests/30-agent.yaml",
        "manifests/overlays/tls/kustomization.yaml",
        "charts/paramedic/Chart.yaml",
    ] {
        assert!(all.contains(&format!("{root}/{path}")), "{path}: {all:?}");
    }
    let link = format!("{root}/charts/paramedic/manifests");
    assert!(entries(&archive).contains(&(link, 0o777, Some("../../manifests".to_owned()))));
}

#[test]
fn this_version_could_be_released() {
    let changelog = fs::read_to_string(Workspace::find().unwrap().root.join("CHANGELOG.md"));
    version::notes(&changelog.unwrap(), VERSION).unwrap();
}

/// Whether a word names a file or an image of a version that is not this one.
fn is_of_another_version(word: &str) -> bool {
    let named = ["paramedic-", "paramedic_", "agent:", "metrics-api:", "policy:", "patient:"];
    let digits =
        word.split('.').filter(|part| part.ends_with(|c: char| c.is_ascii_digit())).count();
    named.iter().any(|name| word.starts_with(name)) && digits >= 2 && !word.contains(VERSION)
}

#[test]
fn files_and_images_are_named_by_this_version() {
    assert!(is_of_another_version("paramedic_0.0.9-1_amd64.deb"));
    assert!(is_of_another_version("agent:0.0.9") && !is_of_another_version("paramedic-system"));
    let root = Workspace::find().unwrap().root;
    let guides = below(&root.join("docs")).unwrap().into_iter();
    let guides = guides.filter(|path| path.parent().is_some_and(|folder| folder.ends_with("docs")));
    for file in
        guides.chain(["README.md", "compose.yaml", "Dockerfile"].map(|name| root.join(name)))
    {
        let text = fs::read_to_string(&file).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && !"._:-".contains(c));
        let other: Vec<_> = words.filter(|word| is_of_another_version(word)).collect();
        assert!(other.is_empty(), "{}: {other:?}", file.display());
    }
    for (file, line) in [
        ("agent-ebpf/Cargo.toml", format!("version = \"{VERSION}\"")),
        ("charts/paramedic/Chart.yaml", format!("version: {VERSION}")),
        ("charts/paramedic/Chart.yaml", format!("appVersion: {VERSION}")),
    ] {
        let text = fs::read_to_string(root.join(file)).unwrap();
        assert!(text.lines().any(|found| found == line), "{file}: {line}");
    }
}
