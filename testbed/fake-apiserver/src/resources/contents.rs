//! What a server wants of the contents of an object: the part of its validation that a client of
//! ours could run into. Each kind's own rules are in its module.
use serde_json::{Value, json};

use super::{apiservices, config, events, leases, services};
use crate::api::{
    json as j,
    kind::Kind,
    status::{About, Status},
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
        Kind::ConfigMap => config::check_map_readable(object),
        Kind::Secret => config::check_secret_readable(object),
        Kind::APIService => check_bytes(kind, j::text(object, "/spec/caBundle")),
        _ => Ok(()),
    }
}

/// What a server adds to an object, or does not let a client change.
pub(crate) fn prepare(kind: Kind, object: &mut Value, old: Option<&Value>) {
    match kind {
        Kind::APIService | Kind::Service => {
            // Only controllers write it.
            let fresh = if kind == Kind::Service { json!({"loadBalancer": {}}) } else { json!({}) };
            object["status"] = old.map_or(fresh, |old| old["status"].clone());
        }
        Kind::HealingPolicy => match old.and_then(|old| old.get("status")) {
            Some(status) => object["status"] = status.clone(),
            None => {
                if let Some(object) = object.as_object_mut() {
                    object.remove("status");
                }
            }
        },
        Kind::Secret if object["type"].is_null() => object["type"] = json!("Opaque"),
        Kind::EndpointSlice => services::prepare_slice(object),
        _ => {}
    }
}

/// Refuses an object with problems, new or in place of an old one.
pub(crate) fn check_valid(kind: Kind, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    let problems = match kind {
        Kind::Event => return old.map_or(Ok(()), |old| events::check_update(old, new)),
        Kind::Lease => leases::problems(new),
        Kind::ConfigMap => old.map_or_else(Vec::new, |old| config::frozen(new, old)),
        Kind::Secret => config::secret_problems(new, old),
        Kind::EndpointSlice => services::slice_problems(new, old),
        Kind::APIService => apiservices::problems(new),
        _ => Vec::new(),
    };
    if problems.is_empty() {
        return Ok(());
    }
    let about = About { group: kind.group(), resource: kind.name(), name: j::name(new) };
    Err(Status::invalid(about, &problems))
}

pub(crate) fn unreadable(kind: Kind, why: &str) -> Status {
    let (name, version) = (kind.name(), kind.version());
    Status::bad_request(format!(
        "{name} in version \"{version}\" cannot be handled as a {name}: {why}"
    ))
}

/// Bytes are Base64 with its padding.
pub(crate) fn check_bytes(kind: Kind, text: &str) -> Result<(), Status> {
    let digits = text.trim_end_matches('=');
    let strange = |c: &u8| !(c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/'));
    let fault = digits.bytes().position(|c| strange(&c));
    let padded = text.len().is_multiple_of(4) && text.len() - digits.len() <= 2;
    match fault.or_else(|| (!padded).then_some(text.len())) {
        None => Ok(()),
        Some(at) => Err(unreadable(kind, &format!("illegal base64 data at input byte {at}"))),
    }
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
