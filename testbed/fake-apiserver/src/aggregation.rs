//! What an aggregated API server finds in a cluster: whom to believe, whom to ask, and where the
//! pods of a Service are.
use serde_json::{Value, json};

use crate::{FakeApi, Kind, Rule, json as j, make, reviews::Known, state::State};

/// So many endpoints fit into one slice.
const SLICE: usize = 100;

/// The CA of users' certificates. It is another one than the front proxy's: who believes it lets
/// any user speak for all others.
const CLIENT_CA: &str = "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n";

/// One pod behind a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its IP address.
    pub address: String,
    /// The pod's name.
    pub pod: String,
    /// Its uid.
    pub uid: String,
    /// Its node.
    pub node: String,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether it is on its way out. Then it is not ready, but may still serve.
    pub terminating: bool,
}

impl Endpoint {
    /// A pod that is ready.
    #[must_use]
    pub fn new(address: &str, pod: &str, uid: &str, node: &str) -> Self {
        let [address, pod, uid, node] = [address, pod, uid, node].map(str::to_owned);
        Self { address, pod, uid, node, ready: true, terminating: false }
    }

    /// The same, not ready.
    #[must_use]
    pub fn unready(mut self) -> Self {
        self.ready = false;
        self
    }

    /// The same on its way out.
    #[must_use]
    pub fn terminating(mut self) -> Self {
        (self.ready, self.terminating) = (false, true);
        self
    }

    fn value(&self, namespace: &str) -> Value {
        let Self { address, pod, uid, node, ready, terminating } = self;
        json!({
            "addresses": [address], "nodeName": node,
            "conditions": {
                "ready": ready, "serving": *ready || *terminating, "terminating": terminating,
            },
            "targetRef": {"kind": "Pod", "namespace": namespace, "name": pod, "uid": uid},
        })
    }
}

impl State {
    /// The names of the slices of a Service.
    fn slices_of(&self, namespace: &str, service: &str) -> Vec<String> {
        let slices = self.store.in_namespace(Kind::EndpointSlice, namespace);
        let label = |o: &Value| o["metadata"]["labels"]["kubernetes.io/service-name"] == service;
        slices.filter(|o| label(o)).map(|slice| j::name(slice).to_owned()).collect()
    }

    fn new_slice(&mut self, namespace: &str, service: &str) -> Value {
        let name = format!("{service}-{}", make::suffix(self.serial()));
        let mut slice = json!({
            "metadata": {
                "name": name, "generateName": format!("{service}-"), "namespace": namespace,
                "labels": {
                    "endpointslice.kubernetes.io/managed-by":
                        "endpointslice-controller.k8s.io",
                    "kubernetes.io/service-name": service,
                },
            },
        });
        if let Some(service) = self.store.get(Kind::Service, namespace, service) {
            slice["metadata"]["ownerReferences"] = make::owned_by(service);
        }
        slice
    }
}

/// The aggregation layer.
impl FakeApi {
    /// Makes these the endpoints of a Service, as its controller would: in slices of at most 100,
    /// and in one slice with neither endpoints nor ports if there are none. Returns the slices'
    /// names.
    pub fn set_endpoints(
        &self,
        namespace: &str,
        service: &str,
        (port_name, port): (&str, u16),
        endpoints: &[Endpoint],
    ) -> Vec<String> {
        let (mut values, mut ports) = (vec![Value::Null], Value::Null);
        if !endpoints.is_empty() {
            let slice = |all: &[Endpoint]| all.iter().map(|one| one.value(namespace)).collect();
            values = endpoints.chunks(SLICE).map(slice).collect();
            ports = json!([{"name": port_name, "port": port, "protocol": "TCP"}]);
        }
        let is_v6 = endpoints.first().is_some_and(|one| one.address.contains(':'));
        let family = if is_v6 { "IPv6" } else { "IPv4" };
        self.with(|state| {
            state.ensure_namespace(namespace);
            let mut there = state.slices_of(namespace, service).into_iter();
            let mut names = Vec::new();
            for value in values {
                let old = there.next();
                let old = old.and_then(|n| state.store.get(Kind::EndpointSlice, namespace, &n));
                let mut slice = match old {
                    Some(old) => Value::clone(old),
                    None => state.new_slice(namespace, service),
                };
                slice["addressType"] = json!(family);
                slice["endpoints"] = value;
                slice["ports"] = ports.clone();
                let slice = state.create(Kind::EndpointSlice, slice);
                names.push(j::name(&slice).to_owned());
            }
            for surplus in there {
                state.erase(Kind::EndpointSlice, &(namespace.to_owned(), surplus));
            }
            names
        })
    }

    /// Writes `kube-system/extension-apiserver-authentication` as a server does that lets
    /// somebody with a certificate of this CA, and with one of these names if there are any,
    /// speak for its users.
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

    /// Lets a TokenReview know a token that is for this audience. To the server itself it says
    /// nothing, see [`FakeApi::identity`]; a token that is known there is for the server alone,
    /// and is known to reviews as well. [`FakeApi::revoke`] forgets either.
    pub fn known_token(&self, token: &str, audience: &str, username: &str, extra: &[(&str, &str)]) {
        self.with(|state| {
            let mut known = Known {
                audience: audience.to_owned(),
                username: username.to_owned(),
                uid: make::uid(state.serial()),
                extra: std::collections::BTreeMap::new(),
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
