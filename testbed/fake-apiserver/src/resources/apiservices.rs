//! The aggregation layer: APIServices, and how an aggregated API server recognises this one.
use serde_json::{Value, json};

use crate::{
    FakeApi, Kind,
    api::{json as j, status::Problem},
};

/// The CA of users' certificates. It differs from the front proxy's: a server that trusts it
/// there lets any user speak for all others.
const CLIENT_CA: &str = "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n";

/// What is wrong with an APIService.
pub(crate) fn problems(new: &Value) -> Vec<Problem> {
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

/// The aggregation layer.
impl FakeApi {
    /// Writes `kube-system/extension-apiserver-authentication` as a server does that lets a
    /// client with a certificate of this CA, and with one of these names if there are any, speak
    /// for its users.
    pub fn set_requestheader(&self, ca_pem: &str, allowed_names: &[&str]) {
        let list = |items: &[&str]| json!(items).to_string();
        self.put(
            Kind::ConfigMap,
            json!({
                "metadata": {
                    "name": "extension-apiserver-authentication", "namespace": "kube-system",
                },
                "data": {
                    "client-ca-file": CLIENT_CA,
                    "requestheader-allowed-names": list(allowed_names),
                    "requestheader-client-ca-file": ca_pem,
                    "requestheader-extra-headers-prefix": list(&["X-Remote-Extra-"]),
                    "requestheader-group-headers": list(&["X-Remote-Group"]),
                    "requestheader-username-headers": list(&["X-Remote-User"]),
                },
            }),
        );
    }
}
