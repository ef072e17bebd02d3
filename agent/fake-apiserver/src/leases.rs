//! Leases, with what a real server is particular about.
use serde_json::{Map, Value, json};

use crate::{
    access::Identity,
    answer::{Answer, Asked},
    json as j,
    kind::Kind,
    make,
    state::State,
    status::{About, Problem, Status},
};

/// What a writer is told whose version is not the latest.
pub(crate) const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

impl State {
    pub(crate) fn create_lease(&mut self, asked: &Asked) -> Result<Answer, Status> {
        let mut lease = asked.json()?;
        check(&lease)?;
        self.name_new(&mut lease, asked)?;
        let name = j::name(&lease).to_owned();
        let about = About::new(Kind::Lease, &name);
        check_spec(&lease, about)?;
        if self.store.get(Kind::Lease, &asked.route.namespace, &name).is_some() {
            return Err(Status::already_exists(about));
        }
        Ok(Answer::Json(201, self.create_unless_dry(Kind::Lease, lease, asked)))
    }

    /// PUT creates what is not there, whatever version the client believes in: a holder whose
    /// Lease was deleted brings it back to life by renewing it.
    pub(crate) fn put_lease(&mut self, who: &Identity, asked: &Asked) -> Result<Answer, Status> {
        let route = &asked.route;
        let mut lease = asked.json()?;
        check(&lease)?;
        if j::name(&lease) != route.name {
            return Err(Status::bad_request(format!(
                "the name of the object ({}) does not match the name on the URL ({})",
                j::name(&lease),
                route.name
            )));
        }
        self.name_new(&mut lease, asked)?;
        let about = About::new(Kind::Lease, &route.name);
        let Some(old) = self.store.get(Kind::Lease, &route.namespace, &route.name).cloned() else {
            who.check(route, "create")?;
            check_spec(&lease, about)?;
            return Ok(Answer::Json(201, self.create_unless_dry(Kind::Lease, lease, asked)));
        };
        let given: Value = asked.json()?;
        let version = j::text(&given, "/metadata/resourceVersion");
        if matches!(version, "" | "0") {
            let why = "must be specified for an update";
            let problem = Problem::invalid("metadata.resourceVersion", "0", why);
            return Err(Status::invalid(about, &[problem]));
        }
        let uid = j::text(&given, "/metadata/uid");
        if !uid.is_empty() && uid != j::uid(&old) {
            let why = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                j::uid(&old)
            );
            return Err(Status::conflict(about, &why));
        }
        if version != j::text(&old, "/metadata/resourceVersion") {
            return Err(Status::conflict(about, MODIFIED));
        }
        check_spec(&lease, about)?;
        for kept in ["uid", "creationTimestamp", "resourceVersion"] {
            lease["metadata"][kept] = old["metadata"][kept].clone();
        }
        lease["kind"] = old["kind"].clone();
        lease["apiVersion"] = old["apiVersion"].clone();
        if route.is_dry_run() {
            return Ok(Answer::Json(200, lease));
        }
        Ok(Answer::Json(200, Value::clone(&self.write(Kind::Lease, lease))))
    }

    /// Gives a new object its name and namespace, and leaves of its metadata what a client may
    /// set.
    pub(crate) fn name_new(&mut self, object: &mut Value, asked: &Asked) -> Result<(), Status> {
        let namespace = asked.route.namespace.as_str();
        self.require_namespace(namespace)?;
        if !matches!(j::namespace(object), "") && j::namespace(object) != namespace {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the \
                 request",
            ));
        }
        let prefix = j::text(object, "/metadata/generateName");
        let name = match j::name(object) {
            "" if prefix.is_empty() => {
                let problem = Problem::required("name or generateName");
                let kind = j::text(object, "/kind");
                let about = About { group: &asked.route.group, resource: kind, name: "" };
                return Err(Status::invalid(about, &[problem]));
            }
            "" => format!("{prefix}{}", make::suffix(self.serial())),
            name => name.to_owned(),
        };
        let given = object["metadata"].take();
        let mut metadata = Map::new();
        for key in ["labels", "annotations", "ownerReferences", "finalizers", "generateName"] {
            if let Some(value) = given.get(key).filter(|value| !value.is_null()) {
                metadata.insert(key.to_owned(), value.clone());
            }
        }
        metadata.insert("name".to_owned(), json!(name));
        metadata.insert("namespace".to_owned(), json!(namespace));
        object["metadata"] = Value::Object(metadata);
        Ok(())
    }

    pub(crate) fn create_unless_dry(&mut self, kind: Kind, object: Value, asked: &Asked) -> Value {
        if asked.route.is_dry_run() {
            return self.complete(kind, object);
        }
        Value::clone(&self.create(kind, object))
    }
}

/// Whether the times of a Lease can be read at all.
pub(crate) fn check(lease: &Value) -> Result<(), Status> {
    for field in ["/spec/acquireTime", "/spec/renewTime"] {
        if let Some(time) = j::at(lease, field).filter(|time| !time.is_null()) {
            check_micro_time("Lease", time)?;
        }
    }
    Ok(())
}

fn check_spec(lease: &Value, about: About<'_>) -> Result<(), Status> {
    let mut problems = Vec::new();
    let seconds = j::int(lease, "/spec/leaseDurationSeconds");
    if let Some(seconds) = seconds.filter(|&seconds| seconds <= 0) {
        let field = "spec.leaseDurationSeconds";
        problems.push(Problem::invalid(field, &seconds.to_string(), "must be greater than 0"));
    }
    if let Some(n) = j::int(lease, "/spec/leaseTransitions").filter(|&n| n < 0) {
        let why = "must be greater than or equal to 0";
        problems.push(Problem::invalid("spec.leaseTransitions", &n.to_string(), why));
    }
    if problems.is_empty() { Ok(()) } else { Err(Status::invalid(about, &problems)) }
}

/// A MicroTime has exactly six decimals; anything else makes the whole object unreadable.
pub(crate) fn check_micro_time(kind: &str, time: &Value) -> Result<(), Status> {
    const LAYOUT: &str = "2006-01-02T15:04:05.000000Z07:00";
    let text = time.as_str().unwrap_or("");
    let fault = |rest: &str, part: &str| {
        Err(Status::bad_request(format!(
            "{kind} in version \"v1\" cannot be handled as a {kind}: parsing time \"{text}\" as \
             \"{LAYOUT}\": cannot parse \"{rest}\" as \"{part}\""
        )))
    };
    let digits = |s: &str| s.chars().all(|c| c.is_ascii_digit());
    let (Some(date), Some(rest)) = (text.get(..19), text.get(19..)) else {
        return fault(text, "2006");
    };
    let separators = [(4, '-'), (7, '-'), (10, 'T'), (13, ':'), (16, ':')];
    let well_formed = date.chars().enumerate().all(|(i, c)| {
        separators.iter().find(|(at, _)| *at == i).map_or(c.is_ascii_digit(), |(_, s)| *s == c)
    });
    if !well_formed {
        return fault(text, "2006");
    }
    let fraction = rest.strip_prefix('.').and_then(|rest| rest.get(..6)).filter(|f| digits(f));
    if fraction.is_none() {
        return fault(rest, ".000000");
    }
    let zone = &rest[7..];
    let offset = zone.len() == 6 && zone.starts_with(['+', '-']) && zone.get(3..4) == Some(":");
    if zone == "Z" || offset { Ok(()) } else { fault(zone, "Z07:00") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn micro_time_has_six_decimals() {
        for good in ["2026-11-22T21:10:07.387985Z", "2026-11-22T21:10:07.387985+00:00"] {
            check_micro_time("Lease", &json!(good)).unwrap();
        }
        for (bad, why) in [
            ("2026-11-22T21:10:00Z", "cannot parse \"Z\" as \".000000\""),
            ("2026-11-22T21:10:00.123Z", "cannot parse \".123Z\" as \".000000\""),
            ("2026-11-22T21:10:00.123456789Z", "cannot parse \"789Z\" as \"Z07:00\""),
            ("yesterday", "cannot parse \"yesterday\" as \"2006\""),
            ("2026-11-22 21:10:00.123456Z", "as \"2006\""),
        ] {
            let error = check_micro_time("Lease", &json!(bad)).unwrap_err();
            assert_eq!(error.code, 400);
            assert!(error.message.ends_with(why), "{}", error.message);
        }
    }
}
