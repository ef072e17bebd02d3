//! Parses label selectors of a query: `app=web,tier in (a,b),!canary`.
//!
//! kube evaluates expressions but does not parse their text.
use kube::core::{Expression, SelectorExt};

pub use kube::core::Selector;

/// A selector that cannot be parsed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unable to parse requirement: {0:?} is no label selector")]
pub struct Malformed(String);

/// Parses a selector; an empty one selects everything.
///
/// # Errors
/// If a term of it is no requirement on labels.
pub fn parse(text: &str) -> Result<Selector, Malformed> {
    terms(text).map(|term| expression(term).ok_or_else(|| Malformed(term.to_owned()))).collect()
}

/// Whether it selects an object without labels.
#[must_use]
pub fn selects_unlabelled(selector: &Selector) -> bool {
    selector.matches(&std::collections::BTreeMap::new())
}

/// Splits at the commas outside parentheses.
fn terms(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    let split = move |c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    };
    let whole = (!text.trim().is_empty()).then_some(text);
    whole.into_iter().flat_map(move |text| text.split(split)).map(str::trim)
}

fn expression(term: &str) -> Option<Expression> {
    if let Some(key) = term.strip_prefix('!') {
        return Some(Expression::DoesNotExist(key_of(key)?));
    }
    if let Some(inner) = term.strip_suffix(')') {
        let (head, list) = inner.split_once('(')?;
        let (key, operator) = head.trim_end().rsplit_once(char::is_whitespace)?;
        let values = list.split(',').map(value_of).collect::<Option<_>>()?;
        let key = key_of(key)?;
        return match operator {
            "in" => Some(Expression::In(key, values)),
            "notin" => Some(Expression::NotIn(key, values)),
            _ => None,
        };
    }
    if let Some((key, value)) = term.split_once("!=") {
        return Some(Expression::NotEqual(key_of(key)?, value_of(value)?));
    }
    if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return Some(Expression::Equal(key_of(key)?, value_of(value)?));
    }
    Some(Expression::Exists(key_of(term)?))
}

/// Letters, digits and `-_.`; a key may have a prefix before a slash.
fn is_word(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

fn key_of(text: &str) -> Option<String> {
    let text = text.trim();
    let (prefix, name) = text.split_once('/').unwrap_or(("a", text));
    let good = |part: &str, most| !part.is_empty() && part.len() <= most && is_word(part);
    (good(prefix, 253) && good(name, 63)).then(|| text.to_owned())
}

fn value_of(text: &str) -> Option<String> {
    let text = text.trim();
    (text.len() <= 63 && is_word(text)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn selects(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels: BTreeMap<String, String> =
            labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        parse(selector).unwrap().matches(&labels)
    }

    #[test]
    fn selectors_match_like_kubernetes() {
        let web = [("app", "web"), ("tier", "a"), ("x.io/y", "")];
        for yes in [
            "",
            "app=web",
            "app == web",
            "app=web,tier=a",
            "app in (web, db)",
            "tier notin (b,c),app",
            "missing notin (b)",
            "missing!=x",
            "!missing",
            "x.io/y",
            "x.io/y=",
            "x.io/y in ()",
        ] {
            assert!(selects(yes, &web), "{yes}");
        }
        for no in ["app=db", "app!=web", "missing", "!app", "app in (db)", "missing in (a)"] {
            assert!(!selects(no, &web), "{no}");
        }
        assert!(selects_unlabelled(&parse("!a,b!=c").unwrap()));
        assert!(!selects_unlabelled(&parse("queue=in").unwrap()));
    }

    #[test]
    fn invalid_selectors_are_refused() {
        for bad in [
            "=",
            "a=b=c",
            "!",
            ",",
            "a,,b",
            "a in",
            "a in (b",
            "in (b)",
            "a of (b)",
            "a (b)",
            "a b",
            "a=(b)",
            "ä=b",
            "/a",
            "a/b/c",
            "a>1",
            "a in (b))",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}: {:?}", parse(bad));
        }
    }
}
