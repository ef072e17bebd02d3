//! The `Status` objects in which a real server says no, word for word.
use serde_json::{Map, Value, json};

use super::kind::Kind;

/// A refusal.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Status {
    pub(crate) code: u16,
    /// Empty: the body has none.
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) details: Option<Value>,
    pub(crate) retry_after: Option<u32>,
    /// A fresh token for the rest of an expired list.
    pub(crate) next: Option<String>,
    /// Denied by authorization, which adds a header of its own.
    pub(crate) no_sniff: bool,
}

/// What a refusal is about: a resource with its group, and a name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About<'a> {
    pub(crate) group: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) name: &'a str,
}

impl<'a> About<'a> {
    pub(crate) const fn new(kind: Kind, name: &'a str) -> Self {
        Self { group: kind.group(), resource: kind.resource(), name }
    }

    /// `leases.coordination.k8s.io "name"`, as messages begin.
    pub(crate) fn title(self) -> String {
        let Self { group, resource, name } = self;
        let dot = if group.is_empty() { "" } else { "." };
        if name.is_empty() {
            format!("{resource}{dot}{group}")
        } else {
            format!("{resource}{dot}{group} \"{name}\"")
        }
    }

    pub(crate) fn details(self) -> Map<String, Value> {
        [("name", self.name), ("group", self.group), ("kind", self.resource)]
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| (key.to_owned(), json!(value)))
            .collect()
    }
}

impl Status {
    pub(crate) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), ..Self::default() }
    }

    fn about(code: u16, reason: &'static str, about: About<'_>, what: &str) -> Self {
        let details = Some(Value::Object(about.details()));
        Self { details, ..Self::new(code, reason, format!("{}{what}", about.title())) }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    pub(crate) fn forbidden(about: About<'_>, why: &str) -> Self {
        Self::about(403, "Forbidden", about, &format!(" is forbidden: {why}"))
    }

    pub(crate) fn not_found(about: About<'_>) -> Self {
        Self::about(404, "NotFound", about, " not found")
    }

    /// A path that the server does not serve.
    pub(crate) fn no_such_resource() -> Self {
        Self {
            details: Some(json!({})),
            ..Self::new(404, "NotFound", "the server could not find the requested resource")
        }
    }

    pub(crate) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self { details: Some(json!({})), ..Self::new(405, "MethodNotAllowed", message) }
    }

    pub(crate) fn already_exists(about: About<'_>) -> Self {
        Self::about(409, "AlreadyExists", about, " already exists")
    }

    pub(crate) fn conflict(about: About<'_>, why: &str) -> Self {
        let details = Some(Value::Object(about.details()));
        let message = format!("Operation cannot be fulfilled on {}: {why}", about.title());
        Self { details, ..Self::new(409, "Conflict", message) }
    }

    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    pub(crate) fn unsupported_media_type(given: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: \
             application/merge-patch+json (got {given})"
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    pub(crate) fn invalid(about: About<'_>, problems: &[Problem]) -> Self {
        let all: Vec<String> =
            problems.iter().map(|p| format!("{}: {}", p.field, p.message)).collect();
        let all = if all.len() == 1 { all.concat() } else { format!("[{}]", all.join(", ")) };
        let mut details = about.details();
        let causes = problems
            .iter()
            .map(|p| json!({"reason": p.reason, "message": p.message, "field": p.field}));
        details.insert("causes".to_owned(), causes.collect());
        let message = if about.name.is_empty() {
            format!("{} \"\" is invalid: {all}", about.title())
        } else {
            format!("{} is invalid: {all}", about.title())
        };
        Self { details: Some(Value::Object(details)), ..Self::new(422, "Invalid", message) }
    }

    /// A budget is spent, or still being looked at: then it says when to come back.
    pub(crate) fn budget(cause: &str, retry_after: Option<u32>) -> Self {
        let mut details = json!({"causes": [{"reason": "DisruptionBudget", "message": cause}]});
        if let Some(seconds) = retry_after {
            details["retryAfterSeconds"] = json!(seconds);
        }
        let message = "Cannot evict pod as it would violate the pod's disruption budget.";
        Self { details: Some(details), retry_after, ..Self::new(429, "TooManyRequests", message) }
    }

    pub(crate) fn version_too_large(wanted: u64, current: u64) -> Self {
        let cause = json!({"reason": "ResourceVersionTooLarge",
            "message": "Too large resource version"});
        let message = format!("Timeout: Too large resource version: {wanted}, current: {current}");
        Self {
            details: Some(json!({"causes": [cause], "retryAfterSeconds": 1})),
            retry_after: Some(1),
            ..Self::new(504, "Timeout", message)
        }
    }

    /// As the body of a response.
    pub(crate) fn body(&self) -> Value {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if let Some(token) = &self.next {
            body["metadata"]["continue"] = json!(token);
        }
        if !self.reason.is_empty() {
            body["reason"] = json!(self.reason);
        }
        if let Some(details) = &self.details {
            body["details"] = details.clone();
        }
        body
    }
}

/// One thing that is wrong with an object.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    field: String,
    reason: &'static str,
    message: String,
}

impl Problem {
    pub(crate) fn required(field: &str) -> Self {
        let message = "Required value".to_owned();
        Self { field: field.to_owned(), reason: "FieldValueRequired", message }
    }

    /// `value` as it is printed, with its quotes if it is a text.
    pub(crate) fn invalid(field: &str, value: &str, why: &str) -> Self {
        let message = format!("Invalid value: {value}: {why}");
        Self { field: field.to_owned(), reason: "FieldValueInvalid", message }
    }

    pub(crate) fn too_many(field: &str, found: usize, most: usize) -> Self {
        let message = format!("Too many: {found}: must have at most {most} items");
        Self { field: field.to_owned(), reason: "FieldValueTooMany", message }
    }

    pub(crate) fn forbidden(field: &str, why: &str) -> Self {
        let message = format!("Forbidden: {why}");
        Self { field: field.to_owned(), reason: "FieldValueForbidden", message }
    }
}

/// That something was done.
pub(crate) fn success(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code})
}
