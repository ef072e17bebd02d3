//! The manifests agree with the code.
use std::{collections::BTreeSet, fs, path::Path};

use super::*;
use crate::{crd_yaml, record::FROM_POLICY};

fn manifest(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests");
    fs::read_to_string(folder.join(name)).unwrap()
}

#[test]
fn the_definition_is_the_one_of_the_manifest() {
    let written = crd_yaml().unwrap();
    assert!(
        written == manifest("05-crds.yaml"),
        "generate it again: paramedic-policy crd > manifests/05-crds.yaml"
    );
}

#[test]
fn every_field_is_explained_and_none_is_null() {
    fn check(place: &str, schema: &Value) {
        assert_eq!(schema.get("nullable"), None, "{place}");
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let place = format!("{place}.{name}");
            let text = field["description"].as_str().unwrap_or_default();
            assert!(
                text.len() > 3 && text.ends_with('.') && !text.contains('\n'),
                "{place}: {text:?}"
            );
            check(&place, field);
            check(&place, &field["items"]);
        }
    }
    let definition: Value = serde_saphyr::from_str(&crd_yaml().unwrap()).unwrap();
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    check("spec", &schema["properties"]["spec"]);
    check("status", &schema["properties"]["status"]);
    assert_eq!(schema["properties"]["spec"]["required"], json!(["ceiling", "selector"]));
}

/// The fence lists the keys by hand.
#[test]
fn the_fence_permits_the_keys_of_policies_and_no_others() {
    let objects: Vec<Value> =
        serde_saphyr::from_multiple(&manifest("55-policy-fence.yaml")).unwrap();
    let variables = objects[0]["spec"]["variables"].as_array().unwrap();
    let keys = variables.iter().find(|one| one["name"] == "keys").unwrap();
    let keys = keys["expression"].as_str().unwrap().trim_matches(['[', ']']).replace('\'', "");
    let fenced: BTreeSet<&str> = keys.split(',').map(str::trim).collect();
    let annotations = KEYS.into_iter().filter(|key| *key != "paramedic.dev/heal");
    assert_eq!(fenced, annotations.chain([FROM_POLICY]).collect());
}

/// Everything that was granted is asked for, and nothing else is.
#[tokio::test(start_paused = true)]
async fn what_rbac_grants_equals_what_the_controller_calls() {
    let scene = Scene::new();
    scene.fake.set_watch_lists(false);
    let one = scene.replica("one");
    scene.policy("web", "web", "restart");
    seconds(10).await;
    one.stops().await;
    let requests = scene.fake.requests();
    let denied: Vec<_> = requests.iter().filter(|asked| asked.status == Some(403)).collect();
    assert!(denied.is_empty(), "{denied:?}");
    let called: BTreeSet<_> = requests
        .iter()
        .map(|asked| {
            let slash = if asked.subresource.is_empty() { "" } else { "/" };
            let resource = format!("{}{slash}{}", asked.resource, asked.subresource);
            (asked.group.clone(), resource, asked.verb.to_owned())
        })
        .collect();
    let mut calls = BTreeSet::new();
    for rule in granted() {
        for group in &rule.api_groups {
            for resource in &rule.resources {
                for verb in &rule.verbs {
                    calls.insert((group.clone(), resource.clone(), verb.clone()));
                }
            }
        }
    }
    assert_eq!(called, calls);
}
