//! Services and the EndpointSlices behind them.
use serde_json::{Value, json};

use crate::{
    FakeApi, Kind,
    api::{json as j, make, status::Problem},
    cluster::{Cluster, store::Store},
};

/// So many endpoints fit into one slice.
const SLICE: usize = 100;

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

/// What a server adds to a slice of endpoints.
pub(crate) fn prepare_slice(slice: &mut Value) {
    for port in slice["ports"].as_array_mut().into_iter().flatten() {
        if port.is_object() && port["protocol"].is_null() {
            port["protocol"] = json!("TCP");
        }
    }
}

/// What is wrong with a slice of endpoints.
pub(crate) fn slice_problems(new: &Value, old: Option<&Value>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let endpoints = j::list(new, "/endpoints");
    if endpoints.len() > 1000 {
        problems.push(Problem::too_many("endpoints", endpoints.len(), 1000));
    }
    if !matches!(j::text(new, "/addressType"), "IPv4" | "IPv6" | "FQDN") {
        problems.push(Problem::required("addressType"));
    } else if let Some(old) = old.filter(|old| new["addressType"] != old["addressType"]) {
        let why = "field is immutable";
        problems.push(Problem::invalid("addressType", &old["addressType"].to_string(), why));
    }
    for (i, endpoint) in endpoints.iter().enumerate() {
        if j::list(endpoint, "/addresses").is_empty() {
            problems.push(Problem::required(&format!("endpoints[{i}].addresses")));
        }
    }
    problems
}

/// The names of the slices of a Service.
fn slices_of(store: &Store, namespace: &str, service: &str) -> Vec<String> {
    let slices = store.in_namespace(Kind::EndpointSlice, namespace);
    let label = |o: &Value| o["metadata"]["labels"]["kubernetes.io/service-name"] == service;
    slices.filter(|o| label(o)).map(|slice| j::name(slice).to_owned()).collect()
}

fn new_slice(cluster: &mut Cluster, namespace: &str, service: &str) -> Value {
    let name = format!("{service}-{}", make::suffix(cluster.serial()));
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
    if let Some(service) = cluster.store.get(Kind::Service, namespace, service) {
        slice["metadata"]["ownerReferences"] = make::owned_by(service);
    }
    slice
}

/// Endpoints.
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
            state.cluster.ensure_namespace(namespace);
            let mut there = slices_of(&state.cluster.store, namespace, service).into_iter();
            let mut names = Vec::new();
            for value in values {
                let old = there.next();
                let old =
                    old.and_then(|n| state.cluster.store.get(Kind::EndpointSlice, namespace, &n));
                let mut slice = match old {
                    Some(old) => Value::clone(old),
                    None => new_slice(&mut state.cluster, namespace, service),
                };
                slice["addressType"] = json!(family);
                slice["endpoints"] = value;
                slice["ports"] = ports.clone();
                let slice = state.cluster.create(Kind::EndpointSlice, slice);
                names.push(j::name(&slice).to_owned());
            }
            for surplus in there {
                state.cluster.erase(Kind::EndpointSlice, &(namespace.to_owned(), surplus));
            }
            names
        })
    }
}
