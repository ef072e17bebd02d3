//! What a server wants of the contents of an object, kind by kind: the part of its validation
//! that a client of ours could run into.
use serde_json::{Value, json};

use crate::{
    events, json as j,
    kind::Kind,
    leases,
    status::{About, Problem, Status},
};

/// Whether an object can be read at all as one of its kind.
pub(crate) fn check_readable(kind: Kind, object: &Value) -> Result<(), Status> {
    let (named, version) = (j::text(object, "/kind"), j::text(object, "/apiVersion"));
    if !version.is_empty() && version != kind.api_version() {
        return Err(Status::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({})",
            kind.api_version()
        )));
    }
    if !named.is_empty() && named != kind.name() {
        return Err(unreadable(kind, &format!("it is a {named}")));
    }
    match kind {
        Kind::Lease => leases::check_readable(object),
        Kind::ConfigMap => check_texts(kind, object, "data").map(|_| ()),
        Kind::Secret => {
            if object.get("stringData").is_some_and(|data| !data.is_null()) {
                return Err(unreadable(kind, "stringData is not spoken here"));
            }
            let data = check_texts(kind, object, "data")?;
            data.iter().try_for_each(|text| check_bytes(kind, text))
        }
        Kind::APIService => check_bytes(kind, j::text(object, "/spec/caBundle")),
        _ => Ok(()),
    }
}

fn unreadable(kind: Kind, why: &str) -> Status {
    let (name, version) = (kind.name(), kind.version());
    Status::bad_request(format!(
        "{name} in version \"{version}\" cannot be handled as a {name}: {why}"
    ))
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

/// Bytes are Base64 with its padding.
fn check_bytes(kind: Kind, text: &str) -> Result<(), Status> {
    let digits = text.trim_end_matches('=');
    let strange = |c: &u8| !(c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/'));
    let fault = digits.bytes().position(|c| strange(&c));
    let padded = text.len().is_multiple_of(4) && text.len() - digits.len() <= 2;
    match fault.or_else(|| (!padded).then_some(text.len())) {
        None => Ok(()),
        Some(at) => Err(unreadable(kind, &format!("illegal base64 data at input byte {at}"))),
    }
}

/// What a server adds to an object, or does not let a client change.
pub(crate) fn prepare(kind: Kind, object: &mut Value, old: Option<&Value>) {
    match kind {
        Kind::APIService | Kind::Service => {
            // It is for others to write.
            let fresh = if kind == Kind::Service { json!({"loadBalancer": {}}) } else { json!({}) };
            object["status"] = old.map_or(fresh, |old| old["status"].clone());
        }
        Kind::Secret if object["type"].is_null() => object["type"] = json!("Opaque"),
        Kind::EndpointSlice => {
            for port in object["ports"].as_array_mut().into_iter().flatten() {
                if port.is_object() && port["protocol"].is_null() {
                    port["protocol"] = json!("TCP");
                }
            }
        }
        _ => {}
    }
}

/// Refuses an object with problems, new or in place of an old one.
pub(crate) fn check_valid(kind: Kind, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    let problems = match kind {
        Kind::Event => return old.map_or(Ok(()), |old| events::check_update(old, new)),
        Kind::Lease => leases::problems(new),
        Kind::ConfigMap => old.map_or_else(Vec::new, |old| frozen(new, old)),
        Kind::Secret => secret(new, old),
        Kind::EndpointSlice => endpoint_slice(new, old),
        Kind::APIService => api_service(new),
        _ => Vec::new(),
    };
    if problems.is_empty() {
        return Ok(());
    }
    let about = About { group: kind.group(), resource: kind.name(), name: j::name(new) };
    Err(Status::invalid(about, &problems))
}

/// What was declared immutable stays as it is.
fn frozen(new: &Value, old: &Value) -> Vec<Problem> {
    if old["immutable"] != true {
        return Vec::new();
    }
    let why = "field is immutable when `immutable` is set";
    let changed = ["immutable", "data", "binaryData"].into_iter().filter(|f| new[f] != old[f]);
    changed.map(|field| Problem::forbidden(field, why)).collect()
}

fn secret(new: &Value, old: Option<&Value>) -> Vec<Problem> {
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

fn endpoint_slice(new: &Value, old: Option<&Value>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let endpoints = j::list(new, "/endpoints");
    if endpoints.len() > 1000 {
        problems.push(Problem::too_many("endpoints", endpoints.len(), 1000));
    }
    if !matches!(j::text(new, "/addressType"), "IPv4" | "IPv6" | "FQDN") {
        problems.push(Problem::required("addressType"));
    } else if let Some(old) = old.filter(|old| new["addressType"] != old["addressType"]) {
        let why = "field is immutable";
        problems.push(Problem::invalid("addressType", &old["addressType"].to_string(), why));
    }
    for (i, endpoint) in endpoints.iter().enumerate() {
        if j::list(endpoint, "/addresses").is_empty() {
            problems.push(Problem::required(&format!("endpoints[{i}].addresses")));
        }
    }
    problems
}

fn api_service(new: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    let spec = &new["spec"];
    let (group, version) = (j::text(spec, "/group"), j::text(spec, "/version"));
    let wanted = format!("{version}.{group}");
    if j::name(new) != wanted {
        let why = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        let name = format!("{:?}", j::name(new));
        problems.push(Problem::invalid("metadata.name", &name, &why));
    }
    for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let priority = spec[field].as_i64().unwrap_or(0);
        if !(1..=most).contains(&priority) {
            let why = format!("must be positive and less than {most}");
            let field = format!("spec.{field}");
            problems.push(Problem::invalid(&field, &priority.to_string(), &why));
        }
    }
    let bundle = j::text(spec, "/caBundle");
    let skips = spec["insecureSkipTLSVerify"] == true;
    if spec["service"].is_null() {
        if !bundle.is_empty() {
            let why = "local APIServices may not have a caBundle";
            problems.push(Problem::invalid("spec.caBundle", &format!("{bundle:?}"), why));
        }
        return problems;
    }
    for field in ["namespace", "name"] {
        if j::text(&spec["service"], &format!("/{field}")).is_empty() {
            problems.push(Problem::required(&format!("spec.service.{field}")));
        }
    }
    if skips && !bundle.is_empty() {
        let why = "may not be true if caBundle is present";
        problems.push(Problem::invalid("spec.insecureSkipTLSVerify", "true", why));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_base64_with_its_padding() {
        for good in ["", "QQ==", "QUI=", "QUJD", "+/+/"] {
            check_bytes(Kind::Secret, good).unwrap();
        }
        for (bad, at) in
            [("Q", 1), ("QQ", 2), ("QQ=", 3), ("Q===", 4), ("QU-D", 2), ("QQ==QUJD", 2)]
        {
            let error = check_bytes(Kind::Secret, bad).unwrap_err();
            assert_eq!(error.code, 400);
            let why = format!("illegal base64 data at input byte {at}");
            assert!(error.message.ends_with(&why), "{bad}: {}", error.message);
        }
    }
}
