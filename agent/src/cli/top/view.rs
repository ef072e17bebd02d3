//! The state of `top`: data and selection. Pure, so that keys are tested without a terminal.
use std::collections::{BTreeMap, HashSet};

use super::feed::{BuildInfo, Incident, Target, Update};

/// Keys with a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Up,
    Down,
    Enter,
    Escape,
    Backspace,
    Quit,
}

/// Maximum length of the filter: no name is longer.
const FILTER: usize = 253;

/// The state of a target, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cli) enum Standing {
    Exhausted,
    Healing,
    Verifying,
    Sick,
    Unknown,
    Absent,
    Well,
}

impl Standing {
    pub(in crate::cli) fn of(target: &Target) -> Self {
        match (target.state.as_str(), &target.decision) {
            ("healing", _) => Self::Healing,
            ("verifying", _) => Self::Verifying,
            _ if target.exhausted => Self::Exhausted,
            _ if target.absent => Self::Absent,
            (_, None) => Self::Unknown,
            (_, Some(decision)) if decision.action == "no_action" => Self::Well,
            _ => Self::Sick,
        }
    }

    pub(in crate::cli) const fn name(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::Healing => "healing",
            Self::Verifying => "verifying",
            Self::Sick => "sick",
            Self::Unknown => "unknown",
            Self::Absent => "absent",
            Self::Well => "well",
        }
    }
}

#[derive(Debug, Default)]
pub(in crate::cli) struct View {
    pub(super) about: Option<BuildInfo>,
    pub(super) incidents: Vec<Incident>,
    /// By uid.
    targets: BTreeMap<String, Target>,
    pub(super) filter: String,
    /// Whether keys go into the filter.
    pub(super) typing: bool,
    /// The uid of the selected target.
    chosen: Option<String>,
    /// Whether its reasons are shown.
    pub(super) open: bool,
    /// Why no events arrive, if so.
    pub(super) lost: Option<String>,
}

impl View {
    pub(super) fn take(&mut self, update: Update) {
        self.lost = None;
        for target in update.targets {
            self.targets.insert(target.id.uid.clone(), target);
        }
        if let Some(roster) = update.roster {
            let present: HashSet<String> = roster.into_iter().collect();
            self.targets.retain(|uid, _| present.contains(uid));
        }
        if update.about.is_some() {
            self.about = update.about;
        }
        if let Some(incidents) = update.incidents {
            self.incidents = incidents;
        }
    }

    pub(super) fn lost(&mut self, why: String) {
        self.lost = Some(why);
    }

    /// All known targets, whatever the filter.
    pub(super) fn all(&self) -> impl Iterator<Item = &Target> {
        self.targets.values()
    }

    /// The targets that match the filter, most urgent first.
    pub(super) fn shown(&self) -> Vec<&Target> {
        let wanted = self.filter.to_lowercase();
        let mut shown: Vec<&Target> = self
            .targets
            .values()
            .filter(|target| target.name.to_lowercase().contains(&wanted))
            .collect();
        shown.sort_by(|a, b| (Standing::of(a), &a.name).cmp(&(Standing::of(b), &b.name)));
        shown
    }

    /// The position of the selected target among those shown; the first, if it is not shown.
    pub(super) fn place(&self, shown: &[&Target]) -> Option<usize> {
        let at = shown.iter().position(|target| Some(&target.id.uid) == self.chosen.as_ref());
        at.or((!shown.is_empty()).then_some(0))
    }

    pub(super) fn press(&mut self, key: Key) {
        match key {
            Key::Enter | Key::Escape if self.typing => {
                self.typing = false;
                if key == Key::Escape {
                    self.filter.clear();
                }
            }
            Key::Backspace if self.typing => {
                self.filter.pop();
            }
            Key::Char(c) if self.typing => {
                if self.filter.len() < FILTER && !c.is_control() {
                    self.filter.push(c);
                }
            }
            Key::Char('/') => self.typing = true,
            Key::Up | Key::Char('k') => self.step(-1),
            Key::Down | Key::Char('j') => self.step(1),
            Key::Enter => {
                self.step(0);
                self.open = !self.open;
            }
            Key::Escape if self.open => self.open = false,
            Key::Escape => self.filter.clear(),
            Key::Char(_) | Key::Backspace | Key::Quit => {}
        }
    }

    /// Whether the key quits.
    pub(super) fn ends_with(&self, key: Key) -> bool {
        key == Key::Quit || (key == Key::Char('q') && !self.typing)
    }

    /// Moves the selection by this many rows. The selection follows its target.
    fn step(&mut self, by: isize) {
        let shown = self.shown();
        let Some(place) = self.place(&shown) else { return };
        let next = place.saturating_add_signed(by).min(shown.len() - 1);
        self.chosen = shown.get(next).map(|target| target.id.uid.clone());
    }
}

#[cfg(test)]
pub(in crate::cli) mod tests {
    use serde_json::{Value, json};

    use super::*;

    pub(in crate::cli) fn target(name: &str, action: &str) -> Value {
        json!({
            "id": { "uid": format!("uid-{name}"), "instance": "1" }, "name": name,
            "ceiling": "restart", "state": "watching", "shared": false,
            "features": {
                "cpu_usage": 42.5, "memory_usage": 61.0, "error_count": 7.0,
                "http_request_rate": 12.0, "http_5xx_ratio": 0.25, "uptime": 100.0,
            },
            "decision": { "action": action, "confidence": 0.93, "source": "model" },
            "reasons": [{ "feature": "error_count", "value": 7.0, "share": 0.4 }],
            "absent": false, "exhausted": false,
            "refused_by": null, "refused_why": null, "left_alone": null,
        })
    }

    pub(in super::super) fn update(targets: &[Value]) -> Update {
        let roster: Vec<&Value> = targets.iter().map(|target| &target["id"]["uid"]).collect();
        let about = json!({ "node": "node1", "version": "0.1.0", "dry_run": false });
        let event = json!({ "at": 1, "about": about, "roster": roster, "targets": targets });
        serde_json::from_value(event).unwrap()
    }

    fn names(view: &View) -> Vec<&str> {
        view.shown().iter().map(|target| target.name.as_str()).collect()
    }

    fn three() -> View {
        let mut view = View::default();
        view.take(update(&[
            target("a", "no_action"),
            target("b", "reset_errors"),
            target("c", "no_action"),
        ]));
        view
    }

    #[test]
    fn targets_are_sorted_by_urgency() {
        let mut view = three();
        assert_eq!(names(&view), ["b", "a", "c"]);
        let mut exhausted = target("c", "restart_service");
        exhausted["exhausted"] = true.into();
        view.take(Update {
            targets: vec![serde_json::from_value(exhausted).unwrap()],
            ..Update::default()
        });
        assert_eq!(names(&view), ["c", "b", "a"]);
    }

    #[test]
    fn a_target_missing_from_the_roster_is_removed() {
        let mut view = three();
        view.take(update(&[target("a", "no_action")]));
        assert_eq!(names(&view), ["a"]);
    }

    #[test]
    fn the_selection_follows_a_target_that_moves() {
        let mut view = three();
        view.press(Key::Down);
        view.press(Key::Down);
        let chosen = |view: &View| {
            let shown = view.shown();
            view.place(&shown).map(|place| shown[place].name.clone())
        };
        assert_eq!(chosen(&view).as_deref(), Some("c"));
        view.take(Update {
            targets: vec![serde_json::from_value(target("c", "restart_service")).unwrap()],
            ..Update::default()
        });
        assert_eq!(names(&view), ["b", "c", "a"]);
        assert_eq!(chosen(&view).as_deref(), Some("c"));
        for _ in 0..5 {
            view.press(Key::Up);
        }
        assert_eq!(chosen(&view).as_deref(), Some("b"));
    }

    #[test]
    fn q_is_a_letter_while_the_filter_is_typed() {
        let mut view = three();
        assert!(view.ends_with(Key::Char('q')));
        view.press(Key::Char('/'));
        assert!(!view.ends_with(Key::Char('q')) && view.ends_with(Key::Quit));
        view.press(Key::Char('q'));
        assert!(names(&view).is_empty());
        view.press(Key::Enter);
        view.press(Key::Down);
        view.press(Key::Enter);
        view.press(Key::Escape);
        view.press(Key::Escape);
        assert_eq!(names(&view).len(), 3);
    }
}
