//! Which crates may not reach which: the seams of ARCHITECTURE.md, by what cargo links.
use std::{path::Path, process::Command};

/// What only an agent links: it acts on its node.
const OF_THE_AGENT: [&str; 10] = [
    "aya",
    "rusqlite",
    "tract-onnx",
    "paramedic-probes",
    "paramedic-record",
    "paramedic-notify",
    "paramedic-app",
    "paramedic-host",
    "bollard",
    "paramedic",
];

/// The packages that are linked into this one.
fn linked(package: &str) -> Vec<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none"]);
    cargo.args(["--format", "{p}", "--package", package]);
    cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect()
}

fn assert_without(package: &str, forbidden: &[&str]) {
    let linked = linked(package);
    assert!(linked.len() > 5, "{linked:?}");
    for name in forbidden {
        assert!(!linked.iter().any(|found| found == name), "{package} links {name}");
    }
}

#[test]
fn what_is_pure_links_no_runtime_and_no_system() {
    let forbidden =
        ["tokio", "kube", "k8s-openapi", "aya", "rusqlite", "hyper", "nix", "rustix", "libc"];
    for package in ["paramedic-core", "paramedic-forecast"] {
        assert_without(package, &forbidden);
    }
}

#[test]
fn the_metrics_api_links_no_probes_journal_model_or_judgement() {
    assert_without("paramedic-metrics-api", &[&OF_THE_AGENT[..], &["paramedic-core"]].concat());
}

#[test]
fn the_policy_controller_links_no_probes_journal_model_or_way_to_an_app() {
    assert_without("paramedic-policy", &[&OF_THE_AGENT[..], &["paramedic-kubernetes"]].concat());
}

/// Policies reach the agents through labels and annotations alone.
#[test]
fn the_agent_knows_no_policies() {
    assert_without("paramedic", &["paramedic-policy", "schemars", "kube-derive"]);
}

#[test]
fn the_agent_links_no_certificate_authority() {
    assert_without("paramedic", &["paramedic-metrics-api"]);
}

#[test]
fn the_probes_know_neither_cluster_nor_journal() {
    assert_without("paramedic-probes", &["kube", "rusqlite", "hyper", "bollard"]);
}

#[test]
fn what_tells_people_knows_no_way_to_a_target_or_a_cluster() {
    let forbidden = [
        "paramedic-app",
        "paramedic-kubernetes",
        "paramedic-docker",
        "paramedic-api-server",
        "kube",
        "bollard",
        "aws-lc-rs",
    ];
    assert_without("paramedic-notify", &forbidden);
}

#[test]
fn the_journal_and_the_metrics_link_no_client() {
    assert_without("paramedic-record", &["paramedic-notify", "rustls", "hyper-util", "kube"]);
}

/// Every task needs them, also the demo on a fresh clone.
#[test]
fn the_tasks_are_compiled_without_the_kernel_side() {
    for package in ["xtask", "testbed"] {
        assert_without(package, &["aya", "tokio", "paramedic-probes"]);
    }
}

#[test]
fn no_part_of_the_product_links_the_test_bed() {
    for package in ["paramedic", "paramedic-metrics-api", "paramedic-policy", "patient-app"] {
        assert_without(package, &["fake-apiserver", "kernel-counts", "testbed", "xtask"]);
    }
}
