//! Tests that the Dockerfile agrees with the image writer. Its own build cannot be tested without a
//! registry.
use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value, json};

use super::*;

/// The instructions of the stages, by the stages' names.
type Stages = BTreeMap<String, Vec<(String, String)>>;

fn stages() -> Stages {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Dockerfile");
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    let (mut stages, mut stage) = (Stages::new(), String::new());
    for line in lines.replace("\\\n", " ").lines() {
        let Some((instruction, rest)) = line.split_once(' ') else { continue };
        if instruction == "FROM" {
            stage = rest.rsplit_once(" AS ").unwrap().1.to_owned();
        }
        let words = rest.split_whitespace().collect::<Vec<_>>().join(" ");
        stages.entry(stage.clone()).or_default().push((instruction.to_owned(), words));
    }
    stages
}

/// What follows the instruction, which must be there once.
fn only<'a>(stage: &'a [(String, String)], instruction: &str) -> &'a str {
    let mut found = stage.iter().filter(|(name, _)| name == instruction).map(|(_, rest)| rest);
    let rest = found.next().unwrap_or_else(|| panic!("no {instruction}"));
    assert_eq!(found.next(), None, "{instruction}");
    rest
}

/// The default values of the arguments.
fn defaults(stages: &Stages) -> Origin {
    let values: BTreeMap<_, _> = stages[""]
        .iter()
        .map(|(instruction, rest)| {
            assert_eq!(instruction, "ARG");
            rest.split_once('=').unwrap()
        })
        .collect();
    Origin { created: values["CREATED"].to_owned(), revision: Some(values["REVISION"].to_owned()) }
}

fn labels(text: &str, origin: &Origin) -> Value {
    let revision = origin.revision.as_deref().unwrap();
    let text = text.replace("$CREATED", &origin.created).replace("$REVISION", revision);
    let pairs = text.split_terminator('"').collect::<Vec<_>>();
    let pair = |pair: &[&str]| {
        (pair[0].trim().strip_suffix('=').unwrap().to_owned(), Value::from(pair[1]))
    };
    Value::Object(pairs.chunks(2).map(pair).collect())
}

#[test]
fn both_ways_give_an_image_the_same_configuration() {
    let stages = stages();
    let origin = defaults(&stages);
    for image in Image::ALL {
        let name = image.name();
        let stage = &stages[name];
        let says = |instruction| only(stage, instruction);
        let config = json!({
            "User": says("USER"),
            "ExposedPorts": { says("EXPOSE"): {} },
            "Env": [says("ENV")],
            "Entrypoint": serde_json::from_str::<Value>(says("ENTRYPOINT")).unwrap(),
            "WorkingDir": says("WORKDIR"),
            "Labels": labels(says("LABEL"), &origin),
        });
        let content = image.content(Arch::here().unwrap(), b"", Vec::new()).unwrap();
        assert_eq!(config, archive::config(&content, &origin, "")["config"], "{name}");
        assert_eq!(says("FROM"), format!("scratch AS {name}"));
        assert_eq!(says("COPY"), format!("--from=build-{name} /out/{name}/ /"));
        let build = only(&stages[&format!("build-{name}")], "RUN");
        assert!(build.ends_with(&format!("cargo xtask image --root /out {name}")), "{build}");
    }
}

#[test]
fn it_builds_with_the_pinned_toolchain_and_what_the_task_needs() {
    let pin =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../rust-toolchain.toml"));
    let pin = pin.unwrap();
    let channel = pin.lines().find_map(|line| line.strip_prefix("channel = ")).unwrap();
    let image = format!("rust:{}-bookworm AS build", channel.trim_matches('"'));
    assert_eq!(only(&stages()["build"], "FROM"), image);
}
