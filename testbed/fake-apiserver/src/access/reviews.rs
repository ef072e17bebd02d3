//! Reviews: requests that are answered and not stored. Which user has this token, and may this
//! user do that?
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Access, Attributes, Rule};
use crate::{
    FakeApi,
    api::{
        json as j, make,
        status::{About, Problem, Status},
    },
    requests::{Answer, Asked, route::Route},
};

/// The audience of tokens for the API server itself.
const OWN_AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";
/// The group that may do everything, whatever the roles say.
const MASTERS: &str = "system:masters";

/// A kind of review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Review {
    Token,
    SubjectAccess,
}

impl Review {
    pub(crate) fn of(route: &Route) -> Option<Self> {
        let Route { group, version, resource, subresource, .. } = route;
        match (group.as_str(), version.as_str(), resource.as_str(), subresource.as_str()) {
            ("authentication.k8s.io", "v1", "tokenreviews", "") => Some(Self::Token),
            ("authorization.k8s.io", "v1", "subjectaccessreviews", "") => Some(Self::SubjectAccess),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Token => "TokenReview",
            Self::SubjectAccess => "SubjectAccessReview",
        }
    }

    /// The parts of a spec that are read, and shown again.
    const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Token => &["token", "audiences"],
            Self::SubjectAccess => {
                &["user", "groups", "uid", "extra", "resourceAttributes", "nonResourceAttributes"]
            }
        }
    }
}

/// The user behind a token in a review.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) audience: String,
    pub(crate) username: String,
    /// Empty: none.
    pub(crate) uid: String,
    pub(crate) extra: BTreeMap<String, Vec<String>>,
}

impl Access {
    pub(crate) fn review(&self, review: Review, asked: &Asked) -> Result<Answer, Status> {
        if asked.route.verb != "create" || !asked.route.name.is_empty() {
            return Err(Status::method_not_allowed());
        }
        let (name, body) = (review.name(), asked.json()?);
        let named = j::text(&body, "/kind");
        if !matches!(named, "") && named != name {
            return Err(Status::bad_request(format!(
                "{named} in version \"v1\" cannot be handled as a {name}"
            )));
        }
        let given = |field: &&str| {
            let value = body["spec"].get(*field).filter(|value| !value.is_null())?;
            // That attributes are there says something even if they are empty.
            let empty = field.ends_with("Attributes").then(|| json!({}));
            Some(((*field).to_owned(), filled(value).or(empty)?))
        };
        let spec = Value::Object(review.fields().iter().filter_map(given).collect());
        let status = match review {
            Review::Token => self.review_token(&spec)?,
            Review::SubjectAccess => {
                check_subject_access(&spec, &body["metadata"])?;
                self.review_subject(&spec)
            }
        };
        let body = json!({
            "kind": name, "apiVersion": format!("{}/v1", asked.route.group), "metadata": {},
            "spec": spec, "status": status,
        });
        Ok(Answer::Json(201, body))
    }
}

impl Access {
    fn known(&self, token: &str) -> Option<Known> {
        if let Some(known) = self.known.get(token) {
            return Some(known.clone());
        }
        let identity = self.identities.get(token)?;
        let node = identity.node.iter();
        let extra = node
            .map(|node| ("authentication.kubernetes.io/node-name".to_owned(), vec![node.clone()]));
        Some(Known {
            audience: OWN_AUDIENCE.to_owned(),
            username: identity.username.clone(),
            uid: String::new(),
            extra: extra.collect(),
        })
    }

    /// As the real one has it: of what is false or empty nothing is said.
    fn review_token(&self, spec: &Value) -> Result<Value, Status> {
        let token = j::text(spec, "/token");
        if token.is_empty() {
            let message = "token is required for TokenReview in authentication";
            return Err(Status::bad_request(message));
        }
        let refused = |why: String| Ok(json!({"user": {}, "error": why}));
        let Some(known) = self.known(token) else {
            return refused("invalid bearer token".to_owned());
        };
        let mut wanted: Vec<&str> =
            j::list(spec, "/audiences").iter().filter_map(Value::as_str).collect();
        if wanted.is_empty() {
            wanted.push(OWN_AUDIENCE);
        }
        if !wanted.contains(&known.audience.as_str()) {
            return refused(format!(
                "[invalid bearer token, token audiences [{:?}] is invalid for the target \
                 audiences [{}]]",
                known.audience,
                wanted.iter().map(|wanted| format!("{wanted:?}")).collect::<Vec<_>>().join(" ")
            ));
        }
        let mut user = json!({"username": known.username, "groups": groups_of(&known.username)});
        if !known.uid.is_empty() {
            user["uid"] = json!(known.uid);
        }
        if !known.extra.is_empty() {
            user["extra"] = json!(known.extra);
        }
        Ok(json!({"authenticated": true, "user": user, "audiences": [known.audience]}))
    }

    fn review_subject(&self, spec: &Value) -> Value {
        let user = j::text(spec, "/user");
        let groups: Vec<&str> = j::list(spec, "/groups").iter().filter_map(Value::as_str).collect();
        let unlimited = self
            .identities
            .values()
            .any(|identity| identity.username == user && identity.rules.is_none());
        if unlimited || groups.contains(&MASTERS) {
            return json!({"allowed": true});
        }
        let text = |field: &str| j::text(spec, &format!("/resourceAttributes/{field}"));
        let asked = Attributes {
            verb: text("verb"),
            group: text("group"),
            resource: text("resource"),
            subresource: text("subresource"),
            namespace: text("namespace"),
            name: text("name"),
        };
        // A path that is no resource is granted to no other user here.
        let asked = (!asked.resource.is_empty()).then_some(asked);
        let roles = self.identities.values().flat_map(|identity| {
            identity.rules.iter().flatten().map(|rule| (identity.username.as_str(), rule))
        });
        let granted = self.grants.iter().map(|(subject, rule)| (subject.as_str(), rule));
        let granted = roles.chain(granted).find(|(subject, rule)| {
            (*subject == user || groups.contains(subject))
                && asked.as_ref().is_some_and(|asked| rule.grants(asked))
        });
        match granted {
            Some((subject, rule)) => json!({
                "allowed": true, "reason": reason(subject, rule, subject == user),
            }),
            None => json!({"allowed": false}),
        }
    }
}

/// Reviews.
impl FakeApi {
    /// Lets a TokenReview know a token that is for this audience. The server itself does not
    /// accept it: that takes [`FakeApi::identity`], whose tokens are for the server alone, and
    /// reviews know them too. [`FakeApi::revoke`] forgets either.
    pub fn known_token(&self, token: &str, audience: &str, username: &str, extra: &[(&str, &str)]) {
        self.with(|state| {
            let mut known = Known {
                audience: audience.to_owned(),
                username: username.to_owned(),
                uid: make::uid(state.cluster.serial()),
                extra: BTreeMap::new(),
            };
            for (key, value) in extra {
                known.extra.entry((*key).to_owned()).or_default().push((*value).to_owned());
            }
            state.access.known.insert(token.to_owned(), known);
        });
    }

    /// Grants a user or group what a SubjectAccessReview will find. What
    /// [`Identity`](crate::Identity) grants to a user, it finds too.
    pub fn grant(&self, subject: &str, rule: Rule) {
        self.with(|state| state.access.grants.push((subject.to_owned(), rule)));
    }

    /// Takes back everything that was granted to a user or group.
    pub fn forget_grants(&self, subject: &str) {
        self.with(|state| state.access.grants.retain(|(granted, _)| granted != subject));
    }
}

/// The groups of a user with this name.
fn groups_of(username: &str) -> Vec<String> {
    let mut groups = Vec::new();
    if let Some((namespace, _)) = service_account(username) {
        groups.push("system:serviceaccounts".to_owned());
        groups.push(format!("system:serviceaccounts:{namespace}"));
    }
    groups.push("system:authenticated".to_owned());
    groups
}

fn service_account(username: &str) -> Option<(&str, &str)> {
    username.strip_prefix("system:serviceaccount:")?.split_once(':')
}

/// As if the rule stood in a role that is called like the last part of the subject.
fn reason(subject: &str, rule: &Rule, is_user: bool) -> String {
    let role = subject.rsplit(':').next().unwrap_or(subject);
    let binding = match &rule.namespace {
        Some(namespace) => format!("RoleBinding \"{role}/{namespace}\" of Role \"{role}\""),
        None => format!("ClusterRoleBinding \"{role}\" of ClusterRole \"{role}\""),
    };
    let subject = match service_account(subject) {
        Some((namespace, name)) => format!("ServiceAccount \"{name}/{namespace}\""),
        None if is_user => format!("User \"{subject}\""),
        None => format!("Group \"{subject}\""),
    };
    format!("RBAC: allowed by {binding} to {subject}")
}

fn check_subject_access(spec: &Value, metadata: &Value) -> Result<(), Status> {
    let has = |field: &str| !spec[field].is_null();
    let mut problems = Vec::new();
    match (has("resourceAttributes"), has("nonResourceAttributes")) {
        (true, true) => {
            let why = "cannot be specified in combination with resourceAttributes";
            let value = spec["nonResourceAttributes"].to_string();
            problems.push(Problem::invalid("spec.nonResourceAttributes", &value, why));
        }
        (false, false) => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be \
                       specified";
            problems.push(Problem::invalid("spec.resourceAttributes", "null", why));
        }
        _ => {}
    }
    if !has("user") && !has("groups") {
        let why = "at least one of user or group must be specified";
        problems.push(Problem::invalid("spec.user", "\"\"", why));
    }
    if filled(metadata).is_some() {
        problems.push(Problem::invalid("metadata", &metadata.to_string(), "must be empty"));
    }
    if problems.is_empty() {
        return Ok(());
    }
    let (group, resource) = ("authorization.k8s.io", "SubjectAccessReview");
    Err(Status::invalid(About { group, resource, name: "" }, &problems))
}

/// A value without its empty parts, if anything is left.
fn filled(value: &Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::String(text) if text.is_empty() => None,
        Value::Array(list) if list.is_empty() => None,
        Value::Object(map) => {
            let left = map.iter().filter_map(|(k, v)| Some((k.clone(), filled(v)?)));
            let left: Map<String, Value> = left.collect();
            (!left.is_empty()).then_some(Value::Object(left))
        }
        other => Some(other.clone()),
    }
}
