//! The core is pure: this test lists its dependencies, and checks that it uses no file, socket,
//! process, thread or clock. `clippy.toml` beside `Cargo.toml` lists the same items for the linter.
#![expect(clippy::disallowed_methods, reason = "this test reads the sources")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::{fs, path::Path};

/// Pure libraries: types, numbers, JSON, gzip, time zones, Protocol Buffers, a hash.
const DEPENDENCIES: [&str; 11] = [
    "agent-common",
    "flate2",
    "http",
    "jiff",
    "paramedic-pod-metrics",
    "paramedic-protocol",
    "prost",
    "serde",
    "serde_json",
    "sha2",
    "thiserror",
];

/// Names of I/O, threads and clocks.
const FORBIDDEN: [&str; 12] = [
    "std::env",
    "std::fs",
    "std::process",
    "std::thread",
    "Instant",
    "SystemTime",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "tokio",
    "async fn",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn it_depends_only_on_pure_crates() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, rest) = manifest.split_once("\n[dependencies]\n").unwrap();
    let (dependencies, _) = rest.split_once("\n[").unwrap();
    let names = dependencies.lines().filter(|line| !line.trim().is_empty());
    let names: Vec<_> = names.map(|line| line.split(['.', ' ', '=']).next().unwrap()).collect();
    assert_eq!(names, DEPENDENCIES);
    let features = dependencies.lines().filter(|line| line.contains("features"));
    assert_eq!(features.count(), 0, "a feature may bring in more: name it here");
}

#[test]
fn it_uses_no_io_threads_or_clocks() {
    let mut files = 0;
    check(&root().join("src"), &mut files);
    assert!(files > 50, "{files} files");
}

fn check(folder: &Path, files: &mut usize) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            check(&path, files);
            continue;
        }
        if path.extension().is_none_or(|extension| extension != "rs") {
            // Small models, for tests.
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for (number, line) in code.enumerate() {
            let found = FORBIDDEN.iter().find(|name| line.contains(**name));
            assert!(found.is_none(), "{}, about line {number}: {line}", path.display());
        }
        *files += 1;
    }
}
