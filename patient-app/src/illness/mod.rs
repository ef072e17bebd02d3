//! The illnesses: their names, effects and parameters.
//!
//! They affect the two routes on which the app does its work, `/data` and `/health`, and the
//! process itself. They never affect `/illness` and `/clock`, so that each one can be seen, timed
//! and ended.
mod burn;
mod leak;
mod parameters;
mod registry;

use std::str::FromStr;

use serde::Serialize;
use serde_json::{Map, Value};

pub(crate) use parameters::{
    Burn, ClearedBy, Disguise, Errors, Hang, Leak, Lie, Ratio, Resets, Slow, Stuck,
};
pub(crate) use registry::{Registry, StartError};

/// The name of an illness in paths and on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Name {
    Errors,
    Stuck,
    Hang,
    Leak,
    Burn,
    Slow,
    Resets,
    Lie,
}

impl Name {
    pub(crate) const COUNT: usize = 8;

    pub(crate) const ALL: [Self; Self::COUNT] = [
        Self::Errors,
        Self::Stuck,
        Self::Hang,
        Self::Leak,
        Self::Burn,
        Self::Slow,
        Self::Resets,
        Self::Lie,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Stuck => "stuck",
            Self::Hang => "hang",
            Self::Leak => "leak",
            Self::Burn => "burn",
            Self::Slow => "slow",
            Self::Resets => "resets",
            Self::Lie => "lie",
        }
    }

    /// Its effect, in one line.
    pub(crate) const fn summary(self) -> &'static str {
        match self {
            Self::Errors => "a share of /data answers 500, in place of --data-failure-ratio",
            Self::Stuck => "the workers hang: /data and /health answer when it ends",
            Self::Hang => "a share of /data answers only when it ends; /health answers",
            Self::Leak => "memory grows page by page, and is freed when it ends",
            Self::Burn => "threads spin on the CPU",
            Self::Slow => "/data and /health answer late",
            Self::Resets => "a share of /data closes the connection with a TCP reset",
            Self::Lie => "/health reports invented numbers",
        }
    }

    /// Its parameters, each with its meaning, bounds and default.
    pub(crate) const fn expects(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Errors => &[
                ("ratio", "share of failing requests, 0 to 1, default 0.5"),
                (
                    "cleared_by",
                    "\"reset_errors\" (POST /heal ends it, default) or \"restart\" (POST /heal \
                     says 200 and changes nothing, not even the error count)",
                ),
                (
                    "spell_ms",
                    "milliseconds for which it is active, then inactive, in turn; 0 keeps it \
                     active, 0 to 600000, default 0",
                ),
            ],
            Self::Stuck => &[("healthz", "whether /healthz hangs too, default false")],
            Self::Hang => &[
                ("ratio", "share of hanging requests, 0 to 1, default 0.5"),
                ("cleared_by", "\"restart\" (default) or \"reset_errors\" (POST /heal)"),
            ],
            Self::Leak => &[
                ("mib_per_second", "growth per second, 1 to 4096, default 16"),
                ("max_mib", "upper limit, 1 to 1048576, default 256"),
            ],
            Self::Burn => &[
                ("threads", "number of threads, 1 to 256, default 2"),
                ("percent", "share of a core that each takes, 1 to 100, default 100"),
                ("cleared_by", "\"restart\" (default) or \"reset_errors\" (POST /heal)"),
            ],
            Self::Slow => &[
                ("milliseconds", "delay, 1 to 600000, default 500"),
                ("health", "whether /health is late too, default true"),
                ("cleared_by", "\"restart\" (default) or \"reset_errors\" (POST /heal)"),
            ],
            Self::Resets => &[("ratio", "share of reset connections, 0 to 1, default 1")],
            Self::Lie => &[(
                "as",
                "\"healthy\" (all zero, default) or \"critical\" (cpu and memory 97, 25 errors)",
            )],
        }
    }
}

/// No illness has this name.
#[derive(Debug, thiserror::Error)]
#[error(
    "no illness is called {0:?}; there are: errors, stuck, hang, leak, burn, slow, resets, lie"
)]
pub(crate) struct UnknownName(String);

impl FromStr for Name {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let known = Self::ALL.into_iter().find(|name| name.as_str() == text);
        known.ok_or_else(|| UnknownName(text.to_owned()))
    }
}

/// An illness with its parameters; serialized as the parameters alone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Illness {
    Errors(Errors),
    Stuck(Stuck),
    Hang(Hang),
    Leak(Leak),
    Burn(Burn),
    Slow(Slow),
    Resets(Resets),
    Lie(Lie),
}

/// The parameters are invalid for the illness.
#[derive(Debug, thiserror::Error)]
#[error("bad parameters for {}: {cause}", name.as_str())]
pub(crate) struct BadParameters {
    name: Name,
    cause: serde_json::Error,
}

impl Illness {
    /// Parses parameters: a JSON object, or nothing for the defaults.
    ///
    /// # Errors
    /// If it is not a JSON object, names a parameter that the illness does not have, or gives one
    /// of the wrong type or out of bounds.
    pub(crate) fn parse(name: Name, json: &[u8]) -> Result<Self, BadParameters> {
        let json = if json.trim_ascii().is_empty() { b"{}" } else { json };
        Self::read(name, json).map_err(|cause| BadParameters { name, cause })
    }

    fn read(name: Name, json: &[u8]) -> serde_json::Result<Self> {
        // Parsed into a map first, because a derived struct would also accept an array.
        let map: Map<String, Value> = serde_json::from_slice(json)?;
        let object = Value::Object(map);
        Ok(match name {
            Name::Errors => Self::Errors(serde_json::from_value(object)?),
            Name::Stuck => Self::Stuck(serde_json::from_value(object)?),
            Name::Hang => Self::Hang(serde_json::from_value(object)?),
            Name::Leak => Self::Leak(serde_json::from_value(object)?),
            Name::Burn => Self::Burn(serde_json::from_value(object)?),
            Name::Slow => Self::Slow(serde_json::from_value(object)?),
            Name::Resets => Self::Resets(serde_json::from_value(object)?),
            Name::Lie => Self::Lie(serde_json::from_value(object)?),
        })
    }

    /// What ends it.
    pub(crate) const fn cleared_by(&self) -> ClearedBy {
        match self {
            Self::Errors(Errors { cleared_by, .. })
            | Self::Hang(Hang { cleared_by, .. })
            | Self::Burn(Burn { cleared_by, .. })
            | Self::Slow(Slow { cleared_by, .. }) => *cleared_by,
            Self::Stuck(_) | Self::Leak(_) | Self::Resets(_) | Self::Lie(_) => ClearedBy::Restart,
        }
    }

    pub(crate) const fn name(&self) -> Name {
        match self {
            Self::Errors(_) => Name::Errors,
            Self::Stuck(_) => Name::Stuck,
            Self::Hang(_) => Name::Hang,
            Self::Leak(_) => Name::Leak,
            Self::Burn(_) => Name::Burn,
            Self::Slow(_) => Name::Slow,
            Self::Resets(_) => Name::Resets,
            Self::Lie(_) => Name::Lie,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back_and_are_in_order() {
        for (i, name) in Name::ALL.into_iter().enumerate() {
            assert_eq!(name as usize, i);
            assert_eq!(name.as_str().parse::<Name>().unwrap(), name);
            assert!("plague".parse::<Name>().unwrap_err().to_string().contains(name.as_str()));
        }
    }

    #[test]
    fn the_defaults_equal_the_documented_ones() {
        for name in Name::ALL {
            let illness = Illness::parse(name, b"").unwrap();
            assert_eq!(illness.name(), name);
            let value = serde_json::to_value(illness).unwrap();
            let Value::Object(parameters) = value else { panic!("{value} is no object") };
            let told: Vec<_> = name.expects().iter().map(|(parameter, _)| *parameter).collect();
            assert!(parameters.keys().all(|key| told.contains(&key.as_str())));
            assert_eq!(parameters.len(), told.len());
            for (parameter, meaning) in name.expects() {
                let default = match &parameters[*parameter] {
                    Value::String(word) => format!("\"{word}\""),
                    Value::Bool(yes) => format!("default {yes}"),
                    Value::Number(n) => format!("default {}", n.as_f64().unwrap()),
                    other => format!("default {other}"),
                };
                assert!(meaning.contains(&default), "{name:?} {parameter}: {default}");
            }
        }
    }

    #[test]
    fn bad_parameters_are_refused() {
        for (name, json) in [
            (Name::Errors, r#"{"ratio":1.1}"#),
            (Name::Errors, r#"{"ratio":-0.1}"#),
            (Name::Errors, r#"{"ratio":"half"}"#),
            (Name::Errors, r#"{"cleared_by":"prayer"}"#),
            (Name::Errors, r#"{"ration":0.5}"#),
            (Name::Errors, r#"[0.5,"restart"]"#),
            (Name::Errors, "null"),
            (Name::Errors, "{"),
            (Name::Hang, r#"{"ratio":2}"#),
            (Name::Leak, r#"{"max_mib":0}"#),
            (Name::Leak, r#"{"mib_per_second":-1}"#),
            (Name::Leak, r#"{"max_mib":1e30}"#),
            (Name::Burn, r#"{"threads":257}"#),
            (Name::Slow, r#"{"milliseconds":600001}"#),
            (Name::Slow, r#"{"health":1}"#),
            (Name::Stuck, r#"{"healthz":"yes"}"#),
            (Name::Lie, r#"{"as":"degraded"}"#),
        ] {
            assert!(Illness::parse(name, json.as_bytes()).is_err(), "{name:?} {json}");
        }
    }
}
