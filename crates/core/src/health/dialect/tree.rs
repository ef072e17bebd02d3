//! Parses JSON as targets write it: keeps the order of the document, bounds its depth, and rejects
//! what is not JSON.
use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::NotJson;

/// Maximum depth. Reports nest less: the whole, its parts, theirs, and their details. Deeper values
/// are skipped.
const DEEPEST: usize = 6;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) enum Tree {
    /// `null`, or a value that is too deep.
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

impl Tree {
    pub(super) const fn is_map(&self) -> bool {
        matches!(self, Self::Map(_))
    }

    /// The first member of this name, in any case.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        let Self::Map(map) = self else { return None };
        map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// Parses an object.
///
/// # Errors
/// If it is something else.
pub(super) fn read(text: &str) -> Result<Vec<(String, Tree)>, NotJson> {
    let text = loosened(text);
    let mut json = serde_json::Deserializer::from_str(&text);
    let tree = Depth(DEEPEST).deserialize(&mut json)?;
    json.end()?;
    match tree {
        Tree::Map(object) => Ok(object),
        _ => Err(NotJson::NotObject),
    }
}

/// Python writes `NaN` and `Infinity`, which JSON does not have, and any language may write a
/// number out of range. The former become an empty list, which has no meaning in any field, the
/// latter the greatest number. So each spoils its own field only.
fn loosened(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut loose = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(byte) = bytes.get(at) {
        let rest = &bytes[at..];
        let (length, instead) = match byte {
            b'"' => (string(rest), None),
            b'N' if rest.starts_with(b"NaN") => (3, Some("[]")),
            b'I' if rest.starts_with(b"Infinity") => (8, Some("[]")),
            b'-' if rest.starts_with(b"-Infinity") => (9, Some("[]")),
            b'-' | b'0'..=b'9' => number(rest),
            _ => (1, None),
        };
        if let Some(instead) = instead {
            // All of these start and end with ASCII.
            loose.push_str(&text[copied..at]);
            loose.push_str(instead);
            copied = at + length;
        }
        at += length;
    }
    if copied == 0 {
        return text.into();
    }
    loose.push_str(&text[copied..]);
    loose.into()
}

/// The length of a string, with its quotation marks as far as they exist.
fn string(bytes: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        at += match byte {
            b'"' => return at + 1,
            b'\\' => 2,
            _ => 1,
        };
    }
    bytes.len()
}

/// The length of a number, and its replacement if it is out of range.
fn number(bytes: &[u8]) -> (usize, Option<&'static str>) {
    let is_of_it = |b: &u8| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
    let length = bytes.iter().take_while(|b| is_of_it(b)).count();
    let number = str::from_utf8(&bytes[..length]).ok().and_then(|text| text.parse::<f64>().ok());
    let instead = match number {
        Some(f64::INFINITY) => Some("1e308"),
        Some(f64::NEG_INFINITY) => Some("-1e308"),
        _ => None,
    };
    (length, instead)
}

/// Parses a value of at most this depth.
#[derive(Clone, Copy)]
struct Depth(usize);

impl<'de> DeserializeSeed<'de> for Depth {
    type Value = Tree;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        if self.0 == 0 {
            // Skipped without recursion, whatever its depth.
            return deserializer.deserialize_ignored_any(IgnoredAny).map(|_| Tree::Null);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Depth {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Number(value as f64))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Number(value as f64))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Number(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(Self(self.0 - 1))? {
            values.push(value);
        }
        Ok(Tree::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut members = Vec::new();
        while let Some(name) = map.next_key()? {
            members.push((name, map.next_value_seed(Self(self.0 - 1))?));
        }
        Ok(Tree::Map(members))
    }
}
