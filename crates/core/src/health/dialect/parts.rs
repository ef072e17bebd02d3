//! The parts that a report names.
use super::{Tree, Word};

/// One part of an app, or one of its dependencies.
#[derive(Debug)]
pub(super) struct Part {
    /// As the target wrote it.
    pub(super) name: String,
    pub(super) nature: Nature,
    word: Word,
}

/// To what a part belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nature {
    /// The app itself, which a restart may repair.
    Own,
    /// Whether it takes traffic, which the app decides.
    Readiness,
    /// Something that a restart does not repair: a database, a disk.
    Foreign,
}

impl Nature {
    /// The nature of a part by its name, without separators and without what follows a colon
    /// (`memory:utilization`).
    fn of(name: &str) -> Self {
        let name = name.split(':').next().unwrap_or_default();
        let plain: String = name.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
        match plain.to_ascii_lowercase().as_str() {
            "deadlock" | "deadlocks" | "eventloop" | "heap" | "heapmemory" | "live"
            | "liveness" | "livenessstate" | "memory" | "memoryheap" | "memoryrss" | "process"
            | "self" | "threads" => Self::Own,
            "readiness" | "readinessstate" | "ready" => Self::Readiness,
            _ => Self::Foreign,
        }
    }
}

impl Part {
    fn new(name: &str, word: Word) -> Self {
        Self { name: name.to_owned(), nature: Nature::of(name), word }
    }

    pub(super) fn is_down(&self) -> bool {
        matches!(self.word, Word::Bad | Word::Later)
    }
}

/// Keys under which dialects list their parts.
const KEPT_IN: [&str; 10] = [
    "checks",
    "components",
    "dependencies",
    "details",
    "entries",
    "error",
    "healthchecks",
    "info",
    "results",
    "services",
];
/// Key that lists only the parts that are down: go-healthz, hellofresh.
const FAILURES: &str = "failures";
/// Keys that are not parts, although their values may be known words.
const NO_PARTS: [&str; 9] =
    ["detail", "error", "message", "msg", "outcome", "reason", "state", "status", "title"];

/// All parts, in the order of the document.
pub(super) fn of(object: &[(String, Tree)]) -> Vec<Part> {
    let mut parts = Vec::new();
    for (name, value) in object {
        let is = |other: &&str| name.eq_ignore_ascii_case(other);
        if is(&FAILURES) {
            failures(value, &mut parts);
        } else if KEPT_IN.iter().any(is) {
            collect(value, &mut parts);
        } else if let (Tree::Map(_), Some(word)) = (value, word(value)) {
            // Spring Boot 1 and Dropwizard list them at the top level.
            parts.push(Part::new(name, word));
        }
    }
    if parts.is_empty() { of_strings(object) } else { parts }
}

/// django-health-check: only names with their words.
fn of_strings(object: &[(String, Tree)]) -> Vec<Part> {
    let part = |(name, value): &(String, Tree)| match value {
        Tree::Text(text) if !NO_PARTS.iter().any(|other| name.eq_ignore_ascii_case(other)) => {
            Word::before_colon(text).map(|word| Part::new(name, word))
        }
        _ => None,
    };
    object.iter().map(part).collect::<Option<_>>().unwrap_or_default()
}

fn failures(value: &Tree, parts: &mut Vec<Part>) {
    match value {
        Tree::Map(map) => parts.extend(map.iter().map(|(name, _)| Part::new(name, Word::Bad))),
        Tree::List(list) => {
            let names = list.iter().filter_map(|item| match item {
                Tree::Text(name) => Some(name.as_str()),
                item => item.is_map().then(|| name(item)),
            });
            parts.extend(names.map(|name| Part::new(name, Word::Bad)));
        }
        _ => {}
    }
}

/// The depth is that of the tree, which is bounded.
fn collect(value: &Tree, parts: &mut Vec<Part>) {
    match value {
        Tree::Map(map) => {
            for (name, value) in map {
                match word(value) {
                    Some(word) => parts.push(Part::new(name, word)),
                    // A group without its own word.
                    None => KEPT_IN.iter().filter_map(|key| value.get(key)).for_each(|within| {
                        collect(within, parts);
                    }),
                }
            }
        }
        Tree::List(list) => {
            for item in list.iter().filter(|item| item.is_map()) {
                parts.extend(word(item).map(|word| Part::new(name(item), word)));
            }
        }
        _ => {}
    }
}

/// The word for one part; for several measurements of it, as in the IETF's draft, the worst.
fn word(value: &Tree) -> Option<Word> {
    match value {
        Tree::Map(_) => ["status", "state", "healthy", "ok"]
            .iter()
            .find_map(|key| value.get(key).and_then(Word::of_value)),
        Tree::List(list) => list.iter().filter(|item| item.is_map()).filter_map(word).max(),
        value => Word::of_value(value),
    }
}

/// The name of a part in a list.
fn name(item: &Tree) -> &str {
    let named = ["name", "component", "componentId", "key", "id", "service"].iter();
    let mut names = named.filter_map(|key| match item.get(key) {
        Some(Tree::Text(name)) if !name.is_empty() => Some(name.as_str()),
        _ => None,
    });
    names.next().unwrap_or("unnamed")
}
