//! The definition of the custom resource, as `manifests/05-crds.yaml` holds it.
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use serde_json::{Value, json};

use crate::HealingPolicy;

/// What stands above the generated part of the manifest.
const HEAD: &str = "\
# The custom resources. Generated: paramedic-policy crd > manifests/05-crds.yaml
";

/// The definition of the resource.
#[must_use]
pub fn crd() -> CustomResourceDefinition {
    HealingPolicy::crd()
}

/// The manifest, as YAML.
///
/// # Errors
/// If the definition cannot be written as YAML, which a test excludes.
pub fn crd_yaml() -> anyhow::Result<String> {
    let mut definition = serde_json::to_value(crd())?;
    definition["metadata"]["labels"] = json!({
        "app.kubernetes.io/name": "paramedic",
        "app.kubernetes.io/component": "policy",
        "app.kubernetes.io/part-of": "paramedic",
    });
    // Helm would delete all policies with the definition.
    definition["metadata"]["annotations"] = json!({ "helm.sh/resource-policy": "keep" });
    let schema = "/spec/versions/0/schema/openAPIV3Schema";
    if let Some(schema) = definition.pointer_mut(schema) {
        let of_spec = schema.pointer("/properties/spec/description").cloned();
        schema["description"] = of_spec.unwrap_or_default();
        schema["properties"]["spec"]["description"] =
            json!("Which pods, and what may be done to them.");
        schema["properties"]["status"]["description"] =
            json!("What the controller sees. Only the controller writes it.");
        tidy(schema);
    }
    let options = serde_saphyr::ser_options! { folded_wrap_chars: 4000 };
    let text = serde_saphyr::to_string_with_options(&definition, options)?;
    Ok(format!("{HEAD}{text}"))
}

/// Makes a schema what people would write: descriptions in one line, since `kubectl explain` breaks
/// lines itself, and optional fields that are left out, not null.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("nullable");
            if fields.contains_key("x-kubernetes-int-or-string") {
                fields.remove("anyOf");
            }
            if let Some(Value::Array(values)) = fields.get_mut("enum") {
                values.retain(|value| !value.is_null());
            }
            for (name, field) in fields {
                match field {
                    Value::String(text) if name == "description" => {
                        *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
                    }
                    other => tidy(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        // A bound such as 1.0, which is read and written as 1 by others.
        Value::Number(number) => {
            let whole = number.as_f64().filter(|number| number.fract() == 0.0);
            if let Some(whole) = whole.filter(|_| number.is_f64()) {
                *value = json!(whole as i64);
            }
        }
        _ => {}
    }
}
