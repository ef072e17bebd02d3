//! The custom resource. Its doc comments are what `kubectl explain healingpolicy` prints.
//!
//! The schema refuses what the agents would call an invalid setting, as far as a schema can. What it
//! cannot (the names of time zones) the controller refuses: see the condition `Invalid`.
use k8s_openapi::apimachinery::pkg::{
    apis::meta::v1::{Condition, LabelSelector, Time},
    util::intstr::IntOrString,
};
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// What Paramedic may do to the pods that the selector matches, in the policy's own namespace.
///
/// The controller writes it on running pods as the label and annotations paramedic.dev/..., without
/// a rollout. What a pod's own template or a person has set there wins, key by key.
#[derive(Clone, Debug, PartialEq, CustomResource, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "paramedic.dev",
    version = "v1alpha1",
    kind = "HealingPolicy",
    plural = "healingpolicies",
    singular = "healingpolicy",
    shortname = "hp",
    namespaced,
    status = "HealingPolicyStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Ceiling","type":"string","jsonPath":".spec.ceiling"}"#,
    printcolumn = r#"{"name":"Matched","type":"integer","jsonPath":".status.matched"}"#,
    printcolumn = r#"{"name":"Applied","type":"integer","jsonPath":".status.applied"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct HealingPolicySpec {
    /// Which pods of this namespace the policy is for. An empty selector matches all of them. A pod
    /// that two policies match gets neither: see the condition Conflict.
    #[schemars(schema_with = "selector")]
    pub selector: LabelSelector,

    /// The strongest remedy permitted for these pods. Label paramedic.dev/heal.
    pub ceiling: Ceiling,

    /// What resets the app without an interruption: "http METHOD /path [body]" with POST, PUT, PATCH
    /// or DELETE, "signal HUP", "signal USR1", "signal USR2" or "signal WINCH" to its main process,
    /// or "none". Default: POST /heal. Annotation paramedic.dev/soft.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 2200),
        regex(
            pattern = r"^(none|signal (HUP|USR1|USR2|WINCH)|http (POST|PUT|PATCH|DELETE) /[!-\x22$-~]*( [^\x00-\x1f\x7f-\x9f]*)?)$"
        )
    )]
    pub soft: Option<String>,

    /// How much a container's limits may be raised, in place, before it is restarted. Annotation
    /// paramedic.dev/resize.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<Resize>,

    /// How long a pod stays out of its Services before a restart, so that requests in flight can
    /// end: from "1s" to "2m". Annotation paramedic.dev/drain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "drain_span")]
    pub drain: Option<String>,

    /// What happens to a pod that no restart has helped, if it may be evicted: evict, or quarantine,
    /// which takes it out of its Services and keeps it for people to look at. Annotation
    /// paramedic.dev/give-up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub give_up: Option<GiveUp>,

    /// How long a quarantine lasts; then the pod is evicted: "30m", "24h", at most "168h". Default: 24h.
    /// Annotation paramedic.dev/quarantine-ttl.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "quarantine_span")]
    pub quarantine_ttl: Option<String>,

    /// Times of the day without any remedy, each with an IANA time zone: "01:00-03:00
    /// Europe/Berlin". A span that ends before it begins goes on past midnight. Annotation
    /// paramedic.dev/not-between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 16),
        inner(
            length(max = 64),
            regex(
                pattern = r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)-(([01][0-9]|2[0-3]):[0-5][0-9]|24:00) [A-Za-z0-9_+/-]+$"
            )
        ),
        extend("x-kubernetes-validations" = [{
            "rule": "self.all(w, w.substring(0, 5) != w.substring(6, 11))",
            "message": "a span must not end where it begins: 01:00-03:00 Europe/Berlin",
        }])
    )]
    pub not_between: Option<Vec<String>>,

    /// The minimum calibrated confidence for a remedy, from 0.5 to 1. Default: 0.8. Annotation
    /// paramedic.dev/min-confidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.5, max = 1.0))]
    pub min_confidence: Option<f64>,

    /// The mildest hard remedy before which people are asked. Annotation paramedic.dev/ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<Ask>,

    /// The channels through which people are told of these pods, by the names that they have in the
    /// agents' settings, beside the channels that are told of all pods. Annotation
    /// paramedic.dev/notify.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 16),
        inner(length(max = 63), regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))
    )]
    pub notify: Option<Vec<String>>,

    /// How long a pod may fail to answer before that counts: "30s", "2m", at most "1h". Annotation
    /// paramedic.dev/patience.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "span")]
    pub patience: Option<String>,

    /// How long a new container may take before it answers well: "30s", "2m", at most "1h".
    /// Annotation paramedic.dev/warm-up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "span")]
    pub warm_up: Option<String>,

    /// The health check: a path such as "/healthz", or "grpc", or "grpc:SERVICE". Default: what the
    /// container's own probe asks, else the first known path that answers. Annotation
    /// paramedic.dev/health-path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), regex(pattern = r"^(/[!-\x22$-~]*|grpc(:[!-~]{0,256})?)$"))]
    pub health_path: Option<String>,

    /// The port of the app's HTTP server, by number or by the name of a container's port. Annotation
    /// paramedic.dev/port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "port")]
    pub port: Option<IntOrString>,

    /// A path at which the app tells its own state, such as its threads. It is read before a hard
    /// remedy and kept as evidence. Annotation paramedic.dev/dump.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), regex(pattern = r"^/[!-\x22$-~]*$"))]
    pub dump: Option<String>,

    /// Whether agents may attach to the functions of the app's TLS library, which takes CPU time of
    /// it. Annotation paramedic.dev/tls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<bool>,
}

/// A remedy, mildest first: observe (nothing is done) < soft < restart (in place) < evict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the words of the label, which docs explain together")]
pub enum Ceiling {
    Observe,
    Soft,
    Restart,
    Evict,
}

/// A remedy that interrupts service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the words of the annotation")]
pub enum Ask {
    Restart,
    Evict,
}

/// What takes the last place of the ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the words of the annotation")]
pub enum GiveUp {
    Evict,
    Quarantine,
}

/// Multiples of a container's limits as its template states them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.cpu) || has(self.memory)",
    "message": "name cpu, memory or both",
}]))]
pub struct Resize {
    /// How far the limit of CPU may go, such as "2x". At most "10x".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "factor")]
    pub cpu: Option<String>,
    /// How far the limit of memory may go, such as "1.5x". At most "10x".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "factor")]
    pub memory: Option<String>,
}

/// What the controller sees of a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealingPolicyStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many pods the selector matches, without those that have ended.
    #[serde(default)]
    pub matched: i32,
    /// How many of them carry what the policy says, or have keys of their own instead.
    #[serde(default)]
    pub applied: i32,
    /// Ready: every matched pod carries it. Conflict: another policy matches some of the same pods.
    /// Invalid: a setting that no agent would take.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// What agents last did to these pods, newest first, at most five.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_incidents: Vec<Incident>,
}

/// What an agent did to a pod, or what came of it: one of its Events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Incident {
    /// When.
    #[schemars(schema_with = "time")]
    pub time: Time,
    /// The pod.
    pub pod: String,
    /// The reason of the Event, such as Healing or Healed.
    pub reason: String,
    /// Its note, at most 256 characters.
    pub note: String,
}

/// Of a label selector, as the API of Kubernetes has it.
fn selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": {
                "description": "Labels that a pod must have, with these values.",
                "type": "object",
                "maxProperties": 64,
                "additionalProperties": { "type": "string" },
            },
            "matchExpressions": {
                "description": "Requirements that must all hold.",
                "type": "array",
                "maxItems": 64,
                "x-kubernetes-list-type": "atomic",
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": { "description": "The label.", "type": "string" },
                        "operator": {
                            "description": "How its value relates to the values.",
                            "type": "string",
                            "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
                        },
                        "values": {
                            "description": "The values: some for In and NotIn, else none.",
                            "type": "array",
                            "maxItems": 64,
                            "x-kubernetes-list-type": "atomic",
                            "items": { "type": "string" },
                        },
                    },
                    "x-kubernetes-validations": [{
                        "rule": "self.operator in ['In', 'NotIn'] ? has(self.values) && \
                                 size(self.values) > 0 : !has(self.values) || size(self.values) == 0",
                        "message": "In and NotIn need values, Exists and DoesNotExist have none",
                    }],
                },
            },
        },
    })
}

fn span(_: &mut SchemaGenerator) -> Schema {
    time_within("^[0-9]{1,4}[smh]?$", 0, 3600, "not a time from 0s to 1h, such as 30s or 2m")
}

fn drain_span(_: &mut SchemaGenerator) -> Schema {
    time_within("^[0-9]{1,4}[sm]?$", 1, 120, "not a time from 1s to 2m, such as 10s")
}

fn quarantine_span(_: &mut SchemaGenerator) -> Schema {
    time_within("^[0-9]{1,6}[smh]?$", 1, 604_800, "not a time from 1s to 168h, such as 24h")
}

/// A whole number of seconds, minutes or hours of this pattern, from `least` to `most` seconds.
fn time_within(pattern: &str, least: u32, most: u32, message: &str) -> Schema {
    let number = "self.substring(0, size(self) - 1)";
    let seconds = format!(
        "(self.endsWith('h') ? 3600 * int({number}) : self.endsWith('m') ? 60 * int({number}) \
         : int(self.endsWith('s') ? {number} : self))"
    );
    json_schema!({
        "type": "string",
        "maxLength": 8,
        "pattern": pattern,
        "x-kubernetes-validations": [{
            "rule": format!("{seconds} >= {least} && {seconds} <= {most}"),
            "message": message,
        }],
    })
}

fn factor(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 8,
        "pattern": "^([1-9]([.][0-9]{1,3})?|10)x$",
        "x-kubernetes-validations": [{
            "rule": "!self.matches('^1([.]0+)?x$')",
            "message": "not a factor above 1 and up to 10, such as 2x or 1.5x",
        }],
    })
}

fn port(_: &mut SchemaGenerator) -> Schema {
    // The bounds are for a number, the pattern for a name.
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "anyOf": [{ "type": "integer" }, { "type": "string" }],
        "minimum": 1,
        "maximum": 65535,
        "pattern": "^[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?$",
    })
}

fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": { "description": "What it is about.", "type": "string" },
                "status": {
                    "description": "True, False or Unknown.",
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                },
                "observedGeneration": {
                    "description": "The generation that it was set for.",
                    "type": "integer",
                    "format": "int64",
                },
                "lastTransitionTime": {
                    "description": "When its status last changed.",
                    "type": "string",
                    "format": "date-time",
                },
                "reason": { "description": "The reason, in one word.", "type": "string" },
                "message": { "description": "The reason, in words.", "type": "string" },
            },
        },
    })
}

fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time" })
}
