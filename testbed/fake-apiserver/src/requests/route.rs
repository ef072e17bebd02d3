//! What a request asks for: from method, path and query to verb, resource and name, as a real
//! server derives them for authorization.
use std::collections::BTreeMap;

/// A request, understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) verb: &'static str,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: String,
    pub(crate) resource: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
    pub(crate) query: BTreeMap<String, String>,
    /// Whether the path names an object or collection at all.
    pub(crate) is_resource: bool,
}

impl Route {
    pub(crate) fn new(method: &str, path: &str, query: Option<&str>) -> Self {
        let query = parse_query(query.unwrap_or(""));
        let parts: Vec<String> = path.split('/').filter(|p| !p.is_empty()).map(decode).collect();
        let mut parts = parts.into_iter();
        let mut route = Self { query, ..Self::default() };
        let group = match parts.next().as_deref() {
            Some("api") => Some(String::new()),
            Some("apis") => parts.next(),
            _ => None,
        };
        let (Some(group), Some(version)) = (group, parts.next()) else { return route };
        let rest: Vec<String> = parts.collect();
        if rest.is_empty() {
            return route;
        }
        route.group = group;
        route.version = version;
        route.is_resource = true;
        // `/namespaces/a` is about the namespace, and in it.
        let rest = match rest.as_slice() {
            [first, namespace, rest @ ..] if first == "namespaces" => {
                route.namespace.clone_from(namespace);
                let own = rest.first().is_none_or(|r| r == "status" || r == "finalize");
                if own { parts_of(&["namespaces", namespace], rest) } else { rest.to_vec() }
            }
            rest => rest.to_vec(),
        };
        let mut rest = rest.into_iter();
        route.resource = rest.next().unwrap_or_default();
        route.name = rest.next().unwrap_or_default();
        route.subresource = rest.next().unwrap_or_default();
        route.verb = route.verb_of(method);
        if matches!(route.verb, "list" | "watch")
            && let Some(name) = route.selected_name()
        {
            route.name = name;
        }
        route
    }

    fn verb_of(&self, method: &str) -> &'static str {
        let watch = self.query.get("watch").is_some_and(|w| w == "true" || w == "1");
        match method {
            "GET" | "HEAD" if self.name.is_empty() && watch => "watch",
            "GET" | "HEAD" if self.name.is_empty() => "list",
            "GET" | "HEAD" => "get",
            "POST" => "create",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" if self.name.is_empty() => "deletecollection",
            "DELETE" => "delete",
            _ => "",
        }
    }

    /// A list narrowed to one name is authorized as about that name.
    fn selected_name(&self) -> Option<String> {
        let terms = self.query.get("fieldSelector")?.split(',');
        let mut names = terms.filter_map(|term| {
            term.strip_prefix("metadata.name==").or_else(|| term.strip_prefix("metadata.name="))
        });
        names.next().map(str::to_owned)
    }

    /// A value of the query; empty if it is not there.
    pub(crate) fn query(&self, key: &str) -> &str {
        self.query.get(key).map_or("", String::as_str)
    }

    /// Whether the query asks for a dry run.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.query("dryRun") == "All"
    }
}

fn parts_of(first: &[&str], rest: &[String]) -> Vec<String> {
    first.iter().map(|&part| part.to_owned()).chain(rest.iter().cloned()).collect()
}

/// Reads `a=b&c=d`; of a key given twice the last value counts.
pub(crate) fn parse_query(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (decode(&key.replace('+', " ")), decode(&value.replace('+', " "))))
        .collect()
}

/// Undoes percent-encoding.
pub(crate) fn decode(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let hex = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        match (byte, hex(ahead.next()), hex(ahead.next())) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                bytes = ahead;
            }
            _ => decoded.push(byte),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brief(method: &str, path: &str) -> String {
        let (path, query) = path.split_once('?').map_or((path, None), |(p, q)| (p, Some(q)));
        let r = Route::new(method, path, query);
        format!(
            "{} {}/{} {}/{}/{}",
            r.verb, r.group, r.resource, r.namespace, r.name, r.subresource
        )
    }

    #[test]
    fn requests_are_understood() {
        for (method, path, expected) in [
            ("GET", "/api/v1/pods", "list /pods //"),
            ("GET", "/api/v1/pods?watch=true", "watch /pods //"),
            ("GET", "/api/v1/pods?watch=1&fieldSelector=metadata.name%3Dx", "watch /pods /x/"),
            ("GET", "/api/v1/namespaces/a/pods/b", "get /pods a/b/"),
            ("POST", "/api/v1/namespaces/a/pods/b/eviction", "create /pods a/b/eviction"),
            ("DELETE", "/api/v1/namespaces/a/pods/b", "delete /pods a/b/"),
            ("GET", "/api/v1/namespaces/a", "get /namespaces a/a/"),
            ("GET", "/api/v1/namespaces", "list /namespaces //"),
            ("PUT", "/api/v1/namespaces/a/status", "update /namespaces a/a/status"),
            (
                "PUT",
                "/apis/coordination.k8s.io/v1/namespaces/a/leases/b",
                "update coordination.k8s.io/leases a/b/",
            ),
            ("GET", "/apis/x/v1/namespaces/a/pods/%2A/m", "get x/pods a/*/m"),
            ("GET", "/version", " / //"),
            ("GET", "/apis/apps/v1", " / //"),
        ] {
            assert_eq!(brief(method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn queries_are_decoded() {
        let query = parse_query("a=b%3Dc&d+e=%2&f");
        assert_eq!(query["a"], "b=c");
        assert_eq!(query["d e"], "%2");
        assert_eq!(query["f"], "");
    }
}
