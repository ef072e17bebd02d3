//! ConfigMaps and Secrets.
use serde_json::Value;

use super::contents::{check_bytes, unreadable};
use crate::api::{
    kind::Kind,
    status::{Problem, Status},
};

/// Whether a ConfigMap can be read at all.
pub(crate) fn check_map_readable(map: &Value) -> Result<(), Status> {
    check_texts(Kind::ConfigMap, map, "data").map(|_| ())
}

/// Whether a Secret can be read at all.
pub(crate) fn check_secret_readable(secret: &Value) -> Result<(), Status> {
    if secret.get("stringData").is_some_and(|data| !data.is_null()) {
        return Err(unreadable(Kind::Secret, "the fake knows no stringData"));
    }
    let data = check_texts(Kind::Secret, secret, "data")?;
    data.iter().try_for_each(|text| check_bytes(Kind::Secret, text))
}

/// The values of a map, which must all be texts.
fn check_texts<'a>(kind: Kind, object: &'a Value, field: &str) -> Result<Vec<&'a str>, Status> {
    let wrong = |found: &str| {
        let name = kind.name();
        let place = format!("Go struct field {name}.{field} of type string");
        Err(unreadable(kind, &format!("json: cannot unmarshal {found} into {place}")))
    };
    let map = match object.get(field) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(map)) => map,
        Some(other) => return wrong(type_of(other)),
    };
    let mut texts = Vec::new();
    for value in map.values() {
        match value {
            Value::String(text) => texts.push(text.as_str()),
            other => return wrong(type_of(other)),
        }
    }
    Ok(texts)
}

/// As Go calls it.
const fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// What was declared immutable stays as it is.
pub(crate) fn frozen(new: &Value, old: &Value) -> Vec<Problem> {
    if old["immutable"] != true {
        return Vec::new();
    }
    let why = "field is immutable when `immutable` is set";
    let changed = ["immutable", "data", "binaryData"].into_iter().filter(|f| new[f] != old[f]);
    changed.map(|field| Problem::forbidden(field, why)).collect()
}

/// What is wrong with a Secret.
pub(crate) fn secret_problems(new: &Value, old: Option<&Value>) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(old) = old {
        problems = frozen(new, old);
        if new["type"] != old["type"] {
            problems.push(Problem::invalid("type", &new["type"].to_string(), "field is immutable"));
        }
    }
    if new["type"] == "kubernetes.io/tls" {
        let missing = ["tls.crt", "tls.key"].into_iter().filter(|key| new["data"][key].is_null());
        problems.extend(missing.map(|key| Problem::required(&format!("data[{key}]"))));
    }
    problems
}
