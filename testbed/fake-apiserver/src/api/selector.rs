//! Label and field selectors, as they stand in a query.
use serde_json::Value;

use super::{json as j, kind::Kind, status::Status};

/// A label selector; all requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Labels(Vec<(String, Requirement)>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    Exists,
    Absent,
    In(Vec<String>),
    /// Holds for objects without the label too.
    NotIn(Vec<String>),
}

impl Requirement {
    fn holds(&self, value: Option<&str>) -> bool {
        match self {
            Self::Exists => value.is_some(),
            Self::Absent => value.is_none(),
            Self::In(values) => value.is_some_and(|v| values.iter().any(|x| x == v)),
            Self::NotIn(values) => !value.is_some_and(|v| values.iter().any(|x| x == v)),
        }
    }
}

impl Labels {
    /// Reads `a,!b,c=d,e!=f,g in (h,i),j notin (k)`.
    pub(crate) fn parse(text: &str) -> Result<Self, Status> {
        let terms = split_outside_parentheses(text);
        terms.into_iter().map(requirement).collect::<Result<_, _>>().map(Self)
    }

    /// Reads the selector of an object: `matchLabels` and `matchExpressions`. Nothing at all
    /// selects nothing, an empty one everything.
    pub(crate) fn of_object(selector: &Value) -> Option<Self> {
        let selector = selector.as_object()?;
        let mut all = Vec::new();
        let labels = selector.get("matchLabels").and_then(Value::as_object);
        for (key, value) in labels.into_iter().flatten() {
            all.push((key.clone(), Requirement::In(vec![string(value)])));
        }
        let expressions = selector.get("matchExpressions").and_then(Value::as_array);
        for expression in expressions.into_iter().flatten() {
            let values = || j::list(expression, "/values").iter().map(string).collect();
            let requirement = match j::text(expression, "/operator") {
                "In" => Requirement::In(values()),
                "NotIn" => Requirement::NotIn(values()),
                "Exists" => Requirement::Exists,
                "DoesNotExist" => Requirement::Absent,
                _ => return None,
            };
            all.push((j::text(expression, "/key").to_owned(), requirement));
        }
        Some(Self(all))
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.0.iter().all(|(key, requirement)| {
            requirement.holds(labels.get(key.as_str()).and_then(Value::as_str))
        })
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or("").to_owned()
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut depth = 0;
    let split = text.split(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    });
    split.map(str::trim).filter(|term| !term.is_empty()).collect()
}

fn requirement(term: &str) -> Result<(String, Requirement), Status> {
    let one = |value: &str| vec![value.trim().to_owned()];
    let (key, requirement) = if let Some((key, value)) = term.split_once("!=") {
        (key, Requirement::NotIn(one(value)))
    } else if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        (key, Requirement::In(one(value)))
    } else if let Some((key, values)) = set(term, " notin ") {
        (key, Requirement::NotIn(values))
    } else if let Some((key, values)) = set(term, " in ") {
        (key, Requirement::In(values))
    } else if let Some(key) = term.strip_prefix('!') {
        (key, Requirement::Absent)
    } else {
        (term, Requirement::Exists)
    };
    let key = key.trim();
    let valid = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if key.is_empty() || !key.chars().all(valid) {
        return Err(Status::bad_request(format!("unable to parse requirement: {term:?}")));
    }
    Ok((key.to_owned(), requirement))
}

fn set<'a>(term: &'a str, word: &str) -> Option<(&'a str, Vec<String>)> {
    let (key, values) = term.split_once(word)?;
    let values = values.trim().strip_prefix('(')?.strip_suffix(')')?;
    Some((key, values.split(',').map(|value| value.trim().to_owned()).collect()))
}

/// A field selector; all terms must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields(Vec<(String, bool, String)>);

/// What objects can be selected by, beside their name and namespace.
fn fields_of(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Pod => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        Kind::Event => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "reason",
            "reportingController",
            "type",
        ],
        Kind::Node => &["spec.unschedulable"],
        Kind::Namespace => &["status.phase"],
        Kind::Job => &["status.successful"],
        Kind::Service => &["spec.clusterIP", "spec.type"],
        Kind::Secret => &["type"],
        _ => &[],
    }
}

impl Fields {
    /// Reads `spec.nodeName=node1,metadata.name!=x`.
    pub(crate) fn parse(kind: Kind, text: &str) -> Result<Self, Status> {
        let mut all = Vec::new();
        for term in text.split(',').map(str::trim).filter(|term| !term.is_empty()) {
            let (field, equal, value) = if let Some((field, value)) = term.split_once("!=") {
                (field, false, value)
            } else if let Some((field, value)) =
                term.split_once("==").or_else(|| term.split_once('='))
            {
                (field, true, value)
            } else {
                let message = format!("invalid selector: '{text}'; can't understand '{term}'");
                return Err(Status::bad_request(message));
            };
            let known = matches!(field, "metadata.name" | "metadata.namespace");
            if !known && !fields_of(kind).contains(&field) {
                return Err(Status::bad_request(format!("field label not supported: {field}")));
            }
            all.push((field.to_owned(), equal, value.to_owned()));
        }
        Ok(Self(all))
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|(field, equal, value)| {
            let path = format!("/{}", field.replace('.', "/"));
            let found = match j::at(object, &path) {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Null) | None if field.starts_with("spec.un") => "false".to_owned(),
                Some(Value::Null) | None => String::new(),
                Some(other) => other.to_string(),
            };
            (found == *value) == *equal
        })
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_select() {
        let pod = json!({"metadata": {"labels": {"app": "web", "paramedic.dev/heal": "evict"}}});
        for (selector, selects) in [
            ("", true),
            ("app", true),
            ("paramedic.dev/heal", true),
            ("tier", false),
            ("!tier", true),
            ("!app", false),
            ("app=web", true),
            ("app==web", true),
            ("app = web", true),
            ("app=db", false),
            ("app!=db", true),
            ("app!=web", false),
            ("tier!=x", true),
            ("app in (db, web)", true),
            ("app in (db)", false),
            ("tier in (x)", false),
            ("app notin (db)", true),
            ("app notin (web,db)", false),
            ("tier notin (x)", true),
            ("app in (web),paramedic.dev/heal=evict,!x", true),
            ("app in (web),paramedic.dev/heal=soft", false),
        ] {
            assert_eq!(Labels::parse(selector).unwrap().matches(&pod), selects, "{selector:?}");
        }
        for bad in ["a b", "=x", "!", "app in web", "(a)"] {
            assert_eq!(Labels::parse(bad).unwrap_err().code, 400, "{bad:?}");
        }
    }

    #[test]
    fn selectors_of_objects_select() {
        let pod = json!({"metadata": {"labels": {"app": "web"}}});
        let selects = |selector: Value| Labels::of_object(&selector).map(|s| s.matches(&pod));
        assert_eq!(selects(json!({})), Some(true));
        assert_eq!(selects(Value::Null), None);
        assert_eq!(selects(json!({"matchLabels": {"app": "web"}})), Some(true));
        assert_eq!(selects(json!({"matchLabels": {"app": "db"}})), Some(false));
        for (operator, values, expected) in [
            ("In", json!(["web"]), true),
            ("NotIn", json!(["web"]), false),
            ("Exists", json!([]), true),
            ("DoesNotExist", json!([]), false),
        ] {
            let e = json!({"key": "app", "operator": operator, "values": values});
            assert_eq!(selects(json!({"matchExpressions": [e]})), Some(expected), "{operator}");
        }
    }

    #[test]
    fn fields_select() {
        let pod = json!({"metadata": {"name": "a", "namespace": "n"},
            "spec": {"nodeName": "node1", "hostNetwork": true}, "status": {"phase": "Running"}});
        for (selector, selects) in [
            ("", true),
            ("spec.nodeName=node1", true),
            ("spec.nodeName==node2", false),
            ("spec.nodeName!=node2,metadata.name=a", true),
            ("metadata.namespace=m", false),
            ("status.phase=Running", true),
            ("status.podIP=", true),
            ("spec.hostNetwork=true", true),
        ] {
            let fields = Fields::parse(Kind::Pod, selector).unwrap();
            assert_eq!(fields.matches(&pod), selects, "{selector:?}");
        }
        let error = Fields::parse(Kind::Pod, "spec.colour=red").unwrap_err();
        assert_eq!(error.message, "field label not supported: spec.colour");
        assert_eq!(Fields::parse(Kind::Lease, "spec.nodeName=x").unwrap_err().code, 400);
        assert_eq!(Fields::parse(Kind::Pod, "nonsense").unwrap_err().code, 400);
    }
}
