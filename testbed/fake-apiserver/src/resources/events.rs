//! Events: written through events.k8s.io/v1, and shown through core/v1 too.
use serde_json::{Map, Value, json};

use super::{
    leases::check_micro_time,
    objects::{create_unless_dry, name_new},
};
use crate::{
    api::{
        json as j,
        kind::Kind,
        status::{About, Problem, Status},
    },
    cluster::{Cluster, Due, store::Object},
    requests::{Answer, Asked},
};

pub(crate) fn create(cluster: &mut Cluster, asked: &Asked) -> Result<Answer, Status> {
    let mut event = asked.json()?;
    check_times(&event)?;
    name_new(cluster, Kind::Event, &mut event, asked)?;
    let name = j::name(&event).to_owned();
    refuse(&name, &problems(&event))?;
    if cluster.store.get(Kind::Event, &asked.route.namespace, &name).is_some() {
        return Err(Status::already_exists(About::new(Kind::Event, &name)));
    }
    event["deprecatedSource"] = json!({});
    event["deprecatedFirstTimestamp"] = Value::Null;
    event["deprecatedLastTimestamp"] = Value::Null;
    let created = create_unless_dry(cluster, Kind::Event, event, asked);
    if !asked.route.is_dry_run() {
        expire(cluster, &Object::new(created.clone()));
    }
    Ok(Answer::Json(201, created))
}

/// An Event goes when it has not been written to for its time.
pub(crate) fn expire(cluster: &mut Cluster, event: &Object) {
    let key = (j::namespace(event).to_owned(), j::name(event).to_owned());
    let due = Due::EventExpires { key, version: j::version(event) };
    cluster.schedule(cluster.timing.event_ttl, due);
}

/// Only the series of an Event may change.
pub(crate) fn check_update(old: &Value, new: &Value) -> Result<(), Status> {
    check_times(new)?;
    let fixed = [
        ("regarding", "involvedObject"),
        ("reason", "reason"),
        ("note", "message"),
        ("action", "action"),
        ("type", "type"),
        ("eventTime", "eventTime"),
        ("reportingController", "reportingController"),
        ("reportingInstance", "reportingInstance"),
        ("related", "related"),
    ];
    let changed = fixed.iter().filter(|(field, _)| old[field] != new[field]);
    let problems: Vec<Problem> = changed
        .map(|(field, named)| {
            Problem::invalid(named, &new[field].to_string(), "field is immutable")
        })
        .collect();
    refuse(j::name(new), &problems)
}

fn refuse(name: &str, problems: &[Problem]) -> Result<(), Status> {
    if problems.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(About { group: "", resource: "Event", name }, problems))
}

fn check_times(event: &Value) -> Result<(), Status> {
    for field in ["/eventTime", "/series/lastObservedTime"] {
        if let Some(time) = j::at(event, field).filter(|time| !time.is_null()) {
            check_micro_time("Event", time)?;
        }
    }
    Ok(())
}

/// What is wrong with a new Event. The names of the fields are those of the internal object.
fn problems(event: &Value) -> Vec<Problem> {
    if event["eventTime"].is_null() {
        return vec![Problem::required("eventTime")];
    }
    let mut problems = Vec::new();
    let namespace = j::namespace(event);
    if j::text(event, "/regarding/namespace").is_empty()
        && !matches!(namespace, "default" | "kube-system")
    {
        let why = "does not match event.namespace";
        problems.push(Problem::invalid("involvedObject.namespace", "\"\"", why));
    }
    for (field, most) in
        [("reportingController", 63), ("reportingInstance", 128), ("action", 128), ("reason", 128)]
    {
        let text = event[field].as_str().unwrap_or("");
        // The controller is a qualified name: what is before the slash does not count.
        let text = if most == 63 { text.rsplit('/').next().unwrap_or("") } else { text };
        if text.is_empty() {
            problems.push(Problem::required(field));
        } else if text.len() > most {
            let why = format!("can have at most {most} characters");
            problems.push(Problem::invalid(field, "\"\"", &why));
        }
    }
    if event["note"].as_str().unwrap_or("").len() > 1024 {
        problems.push(Problem::invalid("message", "\"\"", "can have at most 1024 characters"));
    }
    let kind = event["type"].as_str().unwrap_or("");
    if !matches!(kind, "Normal" | "Warning") {
        problems.push(Problem::invalid("type", "\"\"", &format!("has invalid value: {kind}")));
    }
    if let Some(series) = event.get("series").filter(|series| !series.is_null()) {
        if j::int(series, "/count").unwrap_or(0) < 2 {
            let why = "should be at least 2";
            problems.push(Problem::invalid("series.count", "\"\"", why));
        }
        if series["lastObservedTime"].is_null() {
            problems.push(Problem::required("series.lastObservedTime"));
        }
    }
    problems
}

/// The same Event as core/v1 shows it.
pub(crate) fn core_view(event: &Value) -> Value {
    let mut view = Map::new();
    view.insert("kind".to_owned(), json!("Event"));
    view.insert("apiVersion".to_owned(), json!("v1"));
    view.insert("firstTimestamp".to_owned(), Value::Null);
    view.insert("lastTimestamp".to_owned(), Value::Null);
    view.insert("source".to_owned(), json!({}));
    for (from, to) in [
        ("metadata", "metadata"),
        ("regarding", "involvedObject"),
        ("reason", "reason"),
        ("note", "message"),
        ("type", "type"),
        ("eventTime", "eventTime"),
        ("series", "series"),
        ("action", "action"),
        ("related", "related"),
        ("reportingController", "reportingComponent"),
        ("reportingInstance", "reportingInstance"),
    ] {
        if let Some(value) = event.get(from).filter(|value| !value.is_null()) {
            view.insert(to.to_owned(), value.clone());
        }
    }
    Value::Object(view)
}
