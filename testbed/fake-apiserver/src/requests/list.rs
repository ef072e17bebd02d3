//! Lists: at which version, which objects, and page by page.
use serde_json::{Value, json};

use super::{Answer, route::Route};
use crate::{
    api::{
        json as j,
        kind::Kind,
        selector::{Fields, Labels},
        status::{About, Problem, Status},
    },
    cluster::store::{Key, Store},
    resources::objects::view,
};

const CONTINUE_EXPIRED: &str = "The provided continue parameter is too old to display a \
    consistent list result. You can start a new list without the continue parameter, or use the \
    continue token in this response to retrieve the remainder of the results. Continuing with \
    the provided token results in an inconsistent list - objects that were created, modified, or \
    deleted between the time the first chunk was returned and now may show up in the list.";

/// What objects a list or watch is about.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    kind: Kind,
    group: String,
    namespace: String,
    labels: Labels,
    fields: Fields,
}

impl Filter {
    pub(crate) fn new(kind: Kind, route: &Route) -> Result<Self, Status> {
        let namespace = if kind.is_namespaced() { route.namespace.clone() } else { String::new() };
        Ok(Self {
            kind,
            group: route.group.clone(),
            namespace,
            labels: Labels::parse(route.query("labelSelector"))?,
            fields: Fields::parse(kind, route.query("fieldSelector"))?,
        })
    }

    /// Whether an object is meant.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        (self.namespace.is_empty() || self.namespace == j::namespace(object))
            && self.labels.matches(object)
            && (self.fields.is_empty() || self.fields.matches(&self.shown(object)))
    }

    /// An object as it is shown.
    pub(crate) fn shown(&self, object: &Value) -> Value {
        view(object, self.kind, &self.group)
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    /// Group and version as they are shown.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { "v1".to_owned() } else { self.kind.api_version() }
    }
}

/// Which version of the past or present is wanted.
enum At {
    Now,
    Exactly(u64),
}

pub(crate) fn list(store: &Store, kind: Kind, route: &Route) -> Result<Answer, Status> {
    check_options(route)?;
    let filter = Filter::new(kind, route)?;
    let limit = match number(route, "limit")? {
        // From the cache, which knows no pages.
        Some(_) if route.query("resourceVersion") == "0" => usize::MAX,
        Some(limit) if limit > 0 => usize::try_from(limit).unwrap_or(usize::MAX),
        _ => usize::MAX,
    };
    let (at, after) = match route.query("continue") {
        "" => match version_of(store, route, limit)? {
            Ok(at) => (at, None),
            Err(not_yet) => return Ok(Answer::NotYet(not_yet)),
        },
        token => resume(store, token)?,
    };
    let (version, objects) = match at {
        At::Now => (store.version(), store.at(kind, store.version())),
        At::Exactly(version) => (version, store.at(kind, version)),
    };
    let rest = objects.iter().filter(|(key, _)| after.as_ref().is_none_or(|a| *key > a));
    let mut rest = rest.filter(|(_, object)| filter.matches(object)).peekable();
    let page: Vec<_> = rest.by_ref().take(limit).collect();
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if rest.peek().is_some()
        && let Some((last, _)) = page.last()
    {
        metadata["continue"] = json!(token(&version.to_string(), "/", last));
        if filter.labels.is_empty() && filter.fields.is_empty() {
            metadata["remainingItemCount"] = json!(rest.count());
        }
    }
    let items = page.into_iter().map(|(_, object)| {
        let mut item = filter.shown(object);
        if let Some(item) = item.as_object_mut() {
            item.remove("kind");
            item.remove("apiVersion");
        }
        item
    });
    let body = json!({
        "kind": format!("{}List", kind.name()), "apiVersion": filter.api_version(),
        "metadata": metadata, "items": items.collect::<Vec<_>>(),
    });
    Ok(Answer::Json(200, body))
}

/// The version that a list is wanted at, or the one to wait for.
fn version_of(store: &Store, route: &Route, limit: usize) -> Result<Result<At, u64>, Status> {
    let wanted = version(route)?.unwrap_or(0);
    if wanted > store.version() {
        return Ok(Err(wanted));
    }
    let exact = match route.query("resourceVersionMatch") {
        "Exact" => true,
        "" => limit != usize::MAX,
        _ => false,
    };
    if wanted == 0 || !exact {
        return Ok(Ok(At::Now));
    }
    if wanted < store.listable_from() {
        let message = "The resourceVersion for the provided list is too old.";
        return Err(Status::expired(message));
    }
    Ok(Ok(At::Exactly(wanted)))
}

/// Where a list goes on.
fn resume(store: &Store, given: &str) -> Result<(At, Option<Key>), Status> {
    let Some((version, key)) = read_token(given) else {
        return Err(Status::bad_request("continue key is not valid: encoded value is not"));
    };
    match u64::try_from(version) {
        Err(_) => Ok((At::Now, Some(key))),
        Ok(version) if version < store.listable_from() => {
            let next = Some(token("-1", "", &key));
            Err(Status { next, ..Status::expired(CONTINUE_EXPIRED) })
        }
        Ok(version) => Ok((At::Exactly(version), Some(key))),
    }
}

/// The `resourceVersion` of a request, if it has one.
pub(crate) fn version(route: &Route) -> Result<Option<u64>, Status> {
    number(route, "resourceVersion")
}

/// A number in the query.
pub(crate) fn number(route: &Route, key: &str) -> Result<Option<u64>, Status> {
    match route.query(key) {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            Status::bad_request(format!("{key}: Invalid value: \"{text}\": not a number"))
        }),
    }
}

/// Options that contradict each other or are not for lists.
fn check_options(route: &Route) -> Result<(), Status> {
    let mut problems = Vec::new();
    let (version, wanted) = (route.query("resourceVersion"), route.query("resourceVersionMatch"));
    if !wanted.is_empty() {
        let field = "resourceVersionMatch";
        if version.is_empty() {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            problems.push(Problem::forbidden(field, why));
        }
        if !route.query("continue").is_empty() {
            let why = "resourceVersionMatch is forbidden when continue is provided";
            problems.push(Problem::forbidden(field, why));
        }
        if wanted == "Exact" && version == "0" {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            problems.push(Problem::forbidden(field, why));
        }
    }
    if !route.query("sendInitialEvents").is_empty() {
        let why = "sendInitialEvents is forbidden for list";
        problems.push(Problem::forbidden("sendInitialEvents", why));
    }
    refuse(&problems)
}

/// Refuses options with problems.
pub(crate) fn refuse(problems: &[Problem]) -> Result<(), Status> {
    if problems.is_empty() {
        return Ok(());
    }
    let about = About { group: "meta.k8s.io", resource: "ListOptions", name: "" };
    Err(Status::invalid(about, problems))
}

/// The token with which a list goes on after `last`.
fn token(version: &str, slash: &str, last: &Key) -> String {
    let start = json!(format!("{slash}{}/{}\0", last.0, last.1));
    encode(format!("{{\"v\":\"meta.k8s.io/v1\",\"rv\":{version},\"start\":{start}}}").as_bytes())
}

fn read_token(token: &str) -> Option<(i64, Key)> {
    let token: Value = serde_json::from_slice(&decode(token)?).ok()?;
    let start = j::text(&token, "/start").trim_start_matches('/').trim_end_matches('\0');
    let (namespace, name) = start.split_once('/')?;
    Some((j::int(&token, "/rv")?, (namespace.to_owned(), name.to_owned())))
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Base64 for URLs, without padding.
fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let all =
            chunk.iter().fold(0_u32, |all, &b| all << 8 | u32::from(b)) << (24 - 8 * chunk.len());
        for i in 0..=chunk.len() {
            text.push(char::from(BASE64[(all >> (18 - 6 * i) & 63) as usize]));
        }
    }
    text
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for chunk in text.trim_end_matches('=').as_bytes().chunks(4) {
        let digit = |&c: &u8| BASE64.iter().position(|&b| b == c);
        let digits: Vec<usize> = chunk.iter().map(digit).collect::<Option<_>>()?;
        let all = digits.iter().fold(0, |all, digit| all << 6 | digit) << (24 - 6 * digits.len());
        let count = chunk.len().checked_sub(1)?;
        bytes.extend((0..count).map(|i| (all >> (16 - 8 * i) & 255) as u8));
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_as_recorded_and_can_be_read() {
        let key = ("default".to_owned(), "web".to_owned());
        let recorded = "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6NTMzLCJzdGFydCI6Ii9kZWZhdWx0L3dlYlx1MDA\
                        wMCJ9";
        assert_eq!(token("533", "/", &key), recorded);
        assert_eq!(read_token(recorded), Some((533, key.clone())));
        let fresh =
            "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6LTEsInN0YXJ0IjoiZGVmYXVsdC93ZWJcdTAwMDAifQ";
        assert_eq!(token("-1", "", &key), fresh);
        assert_eq!(read_token(fresh), Some((-1, key)));
        assert_eq!(read_token("nonsense!"), None);
        for text in ["", "a", "ab", "abc", "abcd"] {
            assert_eq!(decode(&encode(text.as_bytes())).unwrap(), text.as_bytes());
        }
    }
}
