//! From a policy's spec to the label and annotations of its pods, by their keys, checked by the
//! very reader with which the agents read them.
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use paramedic_core::target::consent::{
    ASK, DRAIN, DUMP, GIVE_UP, HEAL_LABEL, HEALTH_PATH, MIN_CONFIDENCE, NOT_BETWEEN, NOTIFY,
    PATIENCE, PORT, Port, QUARANTINE_TTL, RESIZE, SOFT, SettingsReader, TLS, WARM_UP,
};

use crate::policy::{Ask, Ceiling, GiveUp, HealingPolicySpec, Resize};

/// Every key that a policy can set; the first is the label. The controller touches no other.
pub(crate) const KEYS: [&str; 16] = [
    HEAL_LABEL,
    SOFT,
    RESIZE,
    DRAIN,
    GIVE_UP,
    QUARANTINE_TTL,
    NOT_BETWEEN,
    MIN_CONFIDENCE,
    ASK,
    NOTIFY,
    PATIENCE,
    WARM_UP,
    HEALTH_PATH,
    PORT,
    DUMP,
    TLS,
];

/// The values by their keys.
pub(crate) type Settings = BTreeMap<&'static str, String>;

/// What a policy sets on each of its pods.
///
/// # Errors
/// What no agent would take, in words; then it sets nothing.
pub(crate) fn settings(spec: &HealingPolicySpec) -> Result<Settings, String> {
    let settings = unchecked(spec);
    let mut problems = problems(&settings);
    problems.extend(several_in_one(NOT_BETWEEN, spec.not_between.as_deref()));
    problems.extend(several_in_one(NOTIFY, spec.notify.as_deref()));
    if problems.is_empty() { Ok(settings) } else { Err(problems.join("; ")) }
}

fn unchecked(spec: &HealingPolicySpec) -> Settings {
    let mut settings = Settings::new();
    let ceiling = match spec.ceiling {
        Ceiling::Observe => "observe",
        Ceiling::Soft => "soft",
        Ceiling::Restart => "restart",
        Ceiling::Evict => "evict",
    };
    let ask = spec.ask.map(|ask| match ask {
        Ask::Restart => "restart".to_owned(),
        Ask::Evict => "evict".to_owned(),
    });
    let give_up = spec.give_up.map(|give_up| match give_up {
        GiveUp::Evict => "evict".to_owned(),
        GiveUp::Quarantine => "quarantine".to_owned(),
    });
    let port = spec.port.as_ref().map(|port| match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    });
    settings.insert(HEAL_LABEL, ceiling.to_owned());
    for (key, value) in [
        (SOFT, spec.soft.clone()),
        (RESIZE, spec.resize.as_ref().map(factors)),
        (DRAIN, spec.drain.clone()),
        (GIVE_UP, give_up),
        (QUARANTINE_TTL, spec.quarantine_ttl.clone()),
        (NOT_BETWEEN, spec.not_between.as_ref().map(|windows| windows.join(", "))),
        (MIN_CONFIDENCE, spec.min_confidence.map(|least| least.to_string())),
        (ASK, ask),
        (NOTIFY, spec.notify.as_ref().map(|names| names.join(", "))),
        (PATIENCE, spec.patience.clone()),
        (WARM_UP, spec.warm_up.clone()),
        (HEALTH_PATH, spec.health_path.clone()),
        (PORT, port),
        (DUMP, spec.dump.clone()),
        (TLS, spec.tls.map(|tls| tls.to_string())),
    ] {
        settings.extend(value.map(|value| (key, value)));
    }
    settings
}

fn factors(resize: &Resize) -> String {
    let named = |name: &str, factor: &Option<String>| Some(format!("{name}={}", factor.as_ref()?));
    let both = [named("cpu", &resize.cpu), named("memory", &resize.memory)];
    both.into_iter().flatten().collect::<Vec<_>>().join(",")
}

/// What the agents would call invalid.
fn problems(settings: &Settings) -> Vec<String> {
    let mut reader = SettingsReader::new(|key| settings.get(key).map(String::as_str));
    let ceiling = settings.get(HEAL_LABEL).map_or("", String::as_str);
    let _ = reader.remedy(ceiling);
    // Whether a container has a port of this name is for its agent to say.
    let _ = reader.port(Port::is_name);
    let _ = (reader.health_ask(), reader.soft(), reader.dump(), reader.tls_probes());
    let _ = (reader.patience(), reader.warm_up(), reader.not_between(), reader.ask_before());
    let _ = (reader.resize(), reader.drain(), reader.quarantine(), reader.min_confidence());
    let _ = reader.notify();
    reader
        .invalid_settings
        .into_iter()
        .map(|invalid| format!("{}: {:?} is {}", invalid.key, invalid.value, invalid.why))
        .collect()
}

/// An annotation separates items by commas; here each is an item of the list.
fn several_in_one(key: &str, items: Option<&[String]>) -> Option<String> {
    let several = items.into_iter().flatten().find(|item| item.contains(','))?;
    Some(format!("{key}: {several:?} is more than one: list each by itself"))
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    pub(crate) fn spec(value: Value) -> HealingPolicySpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_spec_becomes_what_the_agents_read() {
        let full = spec(json!({
            "selector": {}, "ceiling": "restart", "soft": "signal HUP",
            "resize": { "cpu": "2x", "memory": "1.5x" }, "drain": "10s", "giveUp": "quarantine",
            "quarantineTtl": "2h", "notify": ["shop", "on-call"],
            "notBetween": ["01:00-03:00 Europe/Berlin", "22:00-06:00 UTC"],
            "minConfidence": 0.9, "ask": "evict", "patience": "30s", "warmUp": "2m",
            "healthPath": "/up", "port": 8080, "dump": "/debug/threads", "tls": true,
        }));
        let settings = settings(&full).unwrap();
        let expected = [
            ("paramedic.dev/heal", "restart"),
            ("paramedic.dev/soft", "signal HUP"),
            ("paramedic.dev/resize", "cpu=2x,memory=1.5x"),
            ("paramedic.dev/drain", "10s"),
            ("paramedic.dev/give-up", "quarantine"),
            ("paramedic.dev/quarantine-ttl", "2h"),
            ("paramedic.dev/not-between", "01:00-03:00 Europe/Berlin, 22:00-06:00 UTC"),
            ("paramedic.dev/min-confidence", "0.9"),
            ("paramedic.dev/ask", "evict"),
            ("paramedic.dev/notify", "shop, on-call"),
            ("paramedic.dev/patience", "30s"),
            ("paramedic.dev/warm-up", "2m"),
            ("paramedic.dev/health-path", "/up"),
            ("paramedic.dev/port", "8080"),
            ("paramedic.dev/dump", "/debug/threads"),
            ("paramedic.dev/tls", "true"),
        ];
        let expected: Settings = expected.map(|(key, value)| (key, value.to_owned())).into();
        assert_eq!(settings, expected);
        assert!(settings.keys().all(|key| KEYS.contains(key)), "{settings:?}");
        assert_eq!(settings.len(), KEYS.len(), "each key can be set");
    }

    #[test]
    fn a_policy_sets_only_what_it_says() {
        let settings = settings(&spec(json!({ "selector": {}, "ceiling": "soft" }))).unwrap();
        assert_eq!(settings, [("paramedic.dev/heal", "soft".to_owned())].into());
    }

    /// The table that the schema is tested with too, by `cargo xtask test --only manifests`. What
    /// the type alone refuses never reaches the reader.
    #[test]
    fn schema_and_reader_take_the_same() {
        let table: Vec<(String, Value, bool)> =
            serde_json::from_str(include_str!("settings.json")).unwrap();
        for (field, value, good) in table {
            let mut whole = json!({ "selector": {}, "ceiling": "evict" });
            whole[&field] = value.clone();
            let read = serde_json::from_value(whole).ok().map(|spec| settings(&spec));
            assert_eq!(matches!(read, Some(Ok(_))), good, "{field}: {value}: {read:?}");
        }
    }

    #[test]
    fn what_no_agent_would_take_is_not_set() {
        for (field, value) in [
            ("soft", json!("http GET /shutdown")),
            ("soft", json!(format!("http POST /heal {}", "ü".repeat(600)))),
            ("notBetween", json!(["01:00-03:00 Middle/Earth"])),
            ("notBetween", json!([])),
            ("quarantineTtl", json!("169h")),
            ("notify", json!([])),
            ("notify", json!(["Shop"])),
            ("minConfidence", json!(0.2)),
            ("patience", json!("2h")),
            ("healthPath", json!("up")),
            ("port", json!(0)),
            ("port", json!(70000)),
            ("dump", json!("threads")),
            ("resize", json!({})),
            ("resize", json!({ "cpu": "1x" })),
            ("resize", json!({ "memory": "two" })),
        ] {
            let mut whole = json!({ "selector": {}, "ceiling": "evict" });
            whole[field] = value.clone();
            assert!(settings(&spec(whole)).is_err(), "{field}: {value}");
        }
    }
}
