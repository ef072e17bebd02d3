//! Compares a model's metadata with what this agent measures.
//!
//! A model that was trained on other columns, or on the same columns in another order, answers
//! every row with confidence and wrongly. So the names are compared, not only counted.
use thiserror::Error;

use super::{
    CLASSES,
    calibrate::Calibration,
    ensemble::shown,
    familiar::{Familiar, Written},
    onnx::ModelProto,
};
use crate::features::schema::{FEATURES, SCHEMA_VERSION};

/// Maximum length of the provenance, in bytes.
const MAX_PROVENANCE: usize = 64 * 1024;

/// Why a model's metadata is refused.
#[derive(Debug, Error, PartialEq)]
pub enum MetadataError {
    /// A required entry is missing.
    #[error("no `{key}`: write it with onnx.helper.set_model_props, as model/paramedic_model does")]
    Missing {
        /// The entry.
        key: &'static str,
    },
    /// An entry is duplicated.
    #[error("`{key}` is there twice")]
    Twice {
        /// The entry.
        key: &'static str,
    },
    /// An entry that cannot be read.
    #[error("`{key}` cannot be read: {reason}")]
    Unreadable {
        /// The entry.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The list of names differs from the agent's.
    #[error("`{key}` differs from this agent's: {difference}; retrain with `cargo xtask train`")]
    Names {
        /// The entry.
        key: &'static str,
        /// What differs.
        difference: String,
    },
    /// Another version of the feature schema.
    #[error(
        "feature_schema_version is {found}, this agent's is {SCHEMA_VERSION}; retrain with `cargo xtask train`"
    )]
    Version {
        /// The model's version.
        found: u32,
    },
}

/// The metadata that the agent keeps.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Metadata {
    pub(super) calibration: Option<Calibration>,
    pub(super) provenance: Option<String>,
    pub(super) familiar: Option<Familiar>,
}

impl Metadata {
    pub(super) fn read(model: &ModelProto) -> Result<Self, MetadataError> {
        names(model, "feature_names", &FEATURES)?;
        names(model, "class_labels", &CLASSES)?;
        let key = "feature_schema_version";
        let found = need(model, key)?;
        let version = found.parse().map_err(|_| MetadataError::Unreadable {
            key,
            reason: format!("\"{}\" is not a whole number", shown(found)),
        })?;
        if version != SCHEMA_VERSION {
            return Err(MetadataError::Version { found: version });
        }
        Ok(Self {
            calibration: calibration(model)?,
            provenance: provenance(model)?,
            familiar: familiar(model)?,
        })
    }
}

fn entry<'a>(model: &'a ModelProto, key: &'static str) -> Result<Option<&'a str>, MetadataError> {
    let mut found = model.metadata_props.iter().filter(|p| p.key == key);
    match (found.next(), found.next()) {
        (_, Some(_)) => Err(MetadataError::Twice { key }),
        (first, None) => Ok(first.map(|p| p.value.as_str())),
    }
}

fn need<'a>(model: &'a ModelProto, key: &'static str) -> Result<&'a str, MetadataError> {
    entry(model, key)?.ok_or(MetadataError::Missing { key })
}

fn parse<T: serde::de::DeserializeOwned>(
    key: &'static str,
    json: &str,
) -> Result<T, MetadataError> {
    serde_json::from_str(json)
        .map_err(|e| MetadataError::Unreadable { key, reason: shown_long(&e.to_string()) })
}

fn shown_long(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_debug).collect()
}

fn names(model: &ModelProto, key: &'static str, own: &[&str]) -> Result<(), MetadataError> {
    let found: Vec<String> = parse(key, need(model, key)?)?;
    match difference(&found, own) {
        Some(difference) => Err(MetadataError::Names { key, difference }),
        None => Ok(()),
    }
}

/// The first position where two lists differ, and their lengths.
fn difference(found: &[String], own: &[&str]) -> Option<String> {
    let name =
        |i: usize| found.get(i).map_or("nothing".to_owned(), |n| format!("\"{}\"", shown(n)));
    let at = (0..own.len()).find(|&i| found.get(i).is_none_or(|n| n != own[i]));
    let lengths = if found.len() == own.len() {
        String::new()
    } else {
        format!(" ({} names instead of {})", found.len(), own.len())
    };
    match at {
        Some(i) => Some(format!("position {i} is {}, not \"{}\"{lengths}", name(i), own[i])),
        None if lengths.is_empty() => None,
        None => {
            Some(format!("position {} is {}, not nothing{lengths}", own.len(), name(own.len())))
        }
    }
}

fn calibration(model: &ModelProto) -> Result<Option<Calibration>, MetadataError> {
    let key = "calibration";
    let Some(json) = entry(model, key)? else { return Ok(None) };
    let calibration: Calibration = parse(key, json)?;
    if calibration.is_finite() {
        Ok(Some(calibration))
    } else {
        Err(MetadataError::Unreadable { key, reason: "a coefficient is not finite".to_owned() })
    }
}

fn familiar(model: &ModelProto) -> Result<Option<Familiar>, MetadataError> {
    let key = "familiarity";
    let Some(json) = entry(model, key)? else { return Ok(None) };
    let familiar = Familiar::try_from(parse::<Written>(key, json)?);
    familiar.map(Some).map_err(|reason| MetadataError::Unreadable { key, reason })
}

fn provenance(model: &ModelProto) -> Result<Option<String>, MetadataError> {
    let key = "provenance";
    match entry(model, key)? {
        Some(text) if text.len() > MAX_PROVENANCE => Err(MetadataError::Unreadable {
            key,
            reason: format!("{} bytes are more than {MAX_PROVENANCE}", text.len()),
        }),
        text => Ok(text.map(str::to_owned)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{metadata, set};
    use super::*;

    fn model() -> ModelProto {
        ModelProto { metadata_props: metadata(), ..ModelProto::default() }
    }

    fn refusal(key: &str, value: Option<&str>) -> String {
        let mut model = model();
        set(&mut model, key, value);
        Metadata::read(&model).unwrap_err().to_string()
    }

    #[test]
    fn own_metadata_is_accepted() {
        let mut model = model();
        set(&mut model, "provenance", Some("{\"rows\":20000}"));
        let read = Metadata::read(&model).unwrap();
        assert_eq!(read.provenance.as_deref(), Some("{\"rows\":20000}"));
        assert!(read.calibration.is_some());
        set(&mut model, "calibration", None);
        assert_eq!(Metadata::read(&model).unwrap().calibration, None);
    }

    #[test]
    fn missing_entries_are_named() {
        for key in ["feature_names", "class_labels", "feature_schema_version"] {
            assert!(refusal(key, None).contains(&format!("no `{key}`")));
        }
    }

    #[test]
    fn a_different_list_of_columns_is_refused_with_the_difference() {
        let mut names = FEATURES.to_vec();
        names.swap(2, 3);
        let text = refusal("feature_names", Some(&serde_json::to_string(&names).unwrap()));
        assert!(text.contains("position 2 is \"uptime\", not \"error_count\";"), "{text}");
        let text = refusal("feature_names", Some(&serde_json::to_string(&FEATURES[..5]).unwrap()));
        assert!(text.contains("position 5 is nothing, not \"http_5xx_rate\" (5 names"), "{text}");
        let mut names = FEATURES.to_vec();
        names.push("colour\n");
        let text = refusal("feature_names", Some(&serde_json::to_string(&names).unwrap()));
        assert!(text.contains("position 19 is \"colour\\n\", not nothing (20 names"), "{text}");
    }

    #[test]
    fn other_classes_and_versions_are_refused() {
        let text = refusal("class_labels", Some("[\"no_action\",\"evict\",\"restart_service\"]"));
        assert!(text.contains("position 1 is \"evict\""), "{text}");
        assert!(refusal("feature_schema_version", Some("1")).contains("is 1, this agent's is 2"));
        assert!(refusal("feature_schema_version", Some("one")).contains("not a whole number"));
    }

    #[test]
    fn broken_entries_are_refused() {
        for json in ["", "7", "[1,2]", "[\"a\"", "{}"] {
            assert!(refusal("feature_names", Some(json)).contains("cannot be read"), "{json}");
        }
        for json in [
            "{}",
            "{\"a\":[1,2],\"b\":[1,2,3]}",
            "{\"a\":[1,2,1e999],\"b\":[1,2,3]}",
            "{\"a\":[1,2,null],\"b\":[1,2,3]}",
            "{\"a\":[1,2,3],\"b\":[1,2,3],\"c\":1}",
        ] {
            assert!(refusal("calibration", Some(json)).contains("`calibration` cannot"), "{json}");
        }
        for json in ["[]", "{}", r#"{"columns":["x"],"ends":[[1]],"seen":[],"most":0}"#] {
            assert!(refusal("familiarity", Some(json)).contains("`familiarity` cannot"), "{json}");
        }
        let long = "x".repeat(MAX_PROVENANCE + 1);
        assert!(refusal("provenance", Some(&long)).contains("more than"));
    }

    #[test]
    fn a_double_entry_is_refused() {
        let mut model = model();
        model.metadata_props.extend(metadata());
        assert_eq!(Metadata::read(&model), Err(MetadataError::Twice { key: "feature_names" }));
    }
}
