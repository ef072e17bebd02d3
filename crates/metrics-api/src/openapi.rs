//! OpenAPI documents, for client generators and `kubectl explain`.
//!
//! kube-apiserver merges these documents into its own. The names of the definitions contain group
//! and version, so that they do not collide with others.
use paramedic_api_server::Kind;
use paramedic_pod_metrics::Metric;
use serde_json::{Value, json};

use super::{FORECAST, GROUP, Version};

/// `/openapi/v2`: both versions in one document of Swagger 2.0.
pub(super) fn v2() -> Value {
    let mut paths = serde_json::Map::new();
    let mut definitions = serde_json::Map::new();
    for version in Version::ALL {
        let list = format!("#/definitions/{}", list_name(version));
        let parameter = |at, name, about| {
            json!({"name": name, "in": at, "type": "string", "required": at == "path",
                   "description": about})
        };
        for endpoint in endpoints() {
            let parameters: Vec<Value> =
                PARAMETERS.iter().map(|&(at, name, about)| parameter(at, name, about)).collect();
            let answer = json!({"description": "OK", "schema": {"$ref": list}});
            let get = json!({
                "description": endpoint.about,
                "operationId": endpoint.operation(version),
                "produces": ["application/json"],
                "schemes": ["https"],
                "tags": [tag(version)],
                "parameters": parameters,
                "responses": {"200": answer, "401": {"description": "Unauthorized"}},
            });
            paths.insert(endpoint.path(version), json!({"get": get}));
        }
        definitions.extend(schemas(version, "#/definitions/"));
    }
    json!({
        "swagger": "2.0",
        "info": info(),
        "paths": paths,
        "definitions": definitions,
    })
}

/// `/openapi/v3`: lists the document of each version.
pub(super) fn v3() -> Value {
    let paths: serde_json::Map<String, Value> = Version::ALL
        .into_iter()
        .map(|version| {
            let group = format!("apis/{}", version.api_version());
            // The document changes only with the program.
            let hash = env!("CARGO_PKG_VERSION");
            let url = json!({"serverRelativeURL": format!("/openapi/v3/{group}?hash={hash}")});
            (group, url)
        })
        .collect();
    json!({"paths": paths})
}

/// `/openapi/v3/apis/custom.metrics.k8s.io/v1beta2`: one version in OpenAPI 3.0.
pub(super) fn v3_of(version: Version) -> Value {
    let list = format!("#/components/schemas/{}", list_name(version));
    let paths: serde_json::Map<String, Value> = endpoints()
        .map(|endpoint| {
            let parameters: Vec<Value> = PARAMETERS
                .iter()
                .map(|&(at, name, about)| {
                    json!({"name": name, "in": at, "schema": {"type": "string"},
                           "required": at == "path", "description": about})
                })
                .collect();
            let content = json!({"application/json": {"schema": {"$ref": list}}});
            let get = json!({
                "description": endpoint.about,
                "operationId": endpoint.operation(version),
                "tags": [tag(version)],
                "parameters": parameters,
                "responses": {"200": {"description": "OK", "content": content}},
            });
            (endpoint.path(version), json!({"get": get}))
        })
        .collect();
    let schemas: serde_json::Map<String, Value> =
        schemas(version, "#/components/schemas/").into_iter().collect();
    json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

const PARAMETERS: [(&str, &str, &str); 4] = [
    ("path", "namespace", "The object's namespace."),
    ("path", "name", "The object's name, or * for all pods that labelSelector selects."),
    ("query", "labelSelector", "Selects pods if the name is *."),
    ("query", "metricLabelSelector", "Selects series of the metric, which have no labels."),
];

fn info() -> Value {
    json!({"title": "Paramedic metrics API", "version": env!("CARGO_PKG_VERSION")})
}

/// One metric of one resource.
struct Endpoint {
    resource: &'static str,
    metric: &'static str,
    about: &'static str,
}

fn endpoints() -> impl Iterator<Item = Endpoint> {
    let of_pods = Metric::ALL.into_iter().map(|metric| Endpoint {
        resource: "pods",
        metric: metric.name(),
        about: about(metric),
    });
    let of_workloads = Kind::ALL.into_iter().map(|kind| Endpoint {
        resource: kind.resource(),
        metric: FORECAST,
        about: "the most HTTP requests per second that are expected within minutes",
    });
    of_pods.chain(of_workloads)
}

impl Endpoint {
    fn path(&self, version: Version) -> String {
        let (group, Self { resource, metric, .. }) = (version.api_version(), self);
        format!("/apis/{group}/namespaces/{{namespace}}/{resource}/{{name}}/{metric}")
    }

    fn operation(&self, version: Version) -> String {
        let words = self.resource.split('.').chain(self.metric.split('_')).map(capital);
        let words: String = words.collect();
        format!("readCustomMetrics{}Namespaced{words}", capital(version.name()))
    }
}

fn about(metric: Metric) -> &'static str {
    match metric {
        Metric::HttpRequestsPerSecond => "HTTP responses per second that the kernel saw pods send",
        Metric::Http5xxRatio => "share of 5xx among the HTTP responses of pods, 0 to 1",
        Metric::CpuThrottledRatio => {
            "share of periods in which the CPU quota throttled pods, 0 to 1"
        }
        Metric::UnhealthyProbability => "probability that pods need a remedy, 0 to 1",
        Metric::HttpRequestDurationP95Seconds => {
            "seconds within which 95 % of the HTTP responses of pods came"
        }
        Metric::HttpRequestsInFlight => "HTTP requests to pods that have no response yet",
    }
}

fn tag(version: Version) -> String {
    format!("customMetrics_{}", version.name())
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

fn list_name(version: Version) -> String {
    format!("io.k8s.metrics.pkg.apis.custom_metrics.{}.MetricValueList", version.name())
}

fn schemas(version: Version, base: &str) -> [(String, Value); 2] {
    let list = list_name(version);
    let one = list.trim_end_matches("List").to_owned();
    let text = |about: &str| json!({"type": "string", "description": about});
    let object = |fields: Value| json!({"type": "object", "properties": fields});
    let described = object(json!({
        "kind": text("Pod, Deployment or StatefulSet."),
        "namespace": text("Its namespace."),
        "name": text("Its name."),
        "apiVersion": text("/v1 of a pod, apps/v1 of a workload."),
    }));
    let window = json!({"type": "integer", "format": "int64",
                        "description": "Length of the window, in seconds."});
    let mut fields = json!({
        "describedObject": described,
        "timestamp": text("End of the window in which the value was measured, RFC 3339."),
        "windowSeconds": window,
        "value": text("A quantity."),
    });
    match version {
        Version::V1beta1 => fields["metricName"] = text("The metric."),
        Version::V1beta2 => fields["metric"] = object(json!({"name": text("The metric.")})),
    }
    let items = json!({"type": "array", "items": {"$ref": format!("{base}{one}")}});
    let mut whole = object(json!({
        "kind": text("MetricValueList."),
        "apiVersion": text(version.api_version()),
        "metadata": {"type": "object"},
        "items": items,
    }));
    whole["description"] = json!("One value for each object with a known value.");
    whole["required"] = json!(["items"]);
    let kind = json!({"group": GROUP, "version": version.name(), "kind": "MetricValueList"});
    whole["x-kubernetes-group-version-kind"] = json!([kind]);
    let mut value = object(fields);
    value["description"] = json!("The value of a metric for one object.");
    [(list, whole), (one, value)]
}
