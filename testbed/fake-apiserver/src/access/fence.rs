//! The policy `paramedic-agent-pods` of `manifests/20-fence.yaml`: of a pod of its own node an agent
//! changes only what a drain, its end and a quarantine change.
use serde_json::{Map, Value};

use super::{Access, CONSENT, Identity, denied, node_of};
use crate::{
    api::{json as j, status::Status},
    requests::route::Route,
};

const POLICY: &str = "paramedic-agent-pods";
const SERVING: &str = "paramedic.dev/serving";
const DRAINED_UNTIL: &str = "paramedic.dev/drained-until";
const QUARANTINED: &str = "paramedic.dev/quarantined";
const GIVE_UP: &str = "paramedic.dev/give-up";

/// A pod before and after a change.
struct Change<'a> {
    before: &'a Map<String, Value>,
    after: &'a Map<String, Value>,
    notes_before: &'a Map<String, Value>,
    notes_after: &'a Map<String, Value>,
}

fn text<'a>(map: &'a Map<String, Value>, key: &str) -> &'a str {
    map.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Whether two maps are the same, apart from some keys.
fn same_but(old: &Map<String, Value>, new: &Map<String, Value>, but: &[&str]) -> bool {
    let kept = |key: &String| !but.contains(&key.as_str());
    new.iter().all(|(key, value)| !kept(key) || old.get(key) == Some(value))
        && old.keys().all(|key| !kept(key) || new.contains_key(key))
}

impl Change<'_> {
    fn consent(&self) -> &str {
        text(self.before, CONSENT)
    }

    fn give_up(&self) -> &str {
        match text(self.before, GIVE_UP) {
            "" => text(self.notes_before, GIVE_UP),
            label => label,
        }
    }

    fn same_note(&self, key: &str) -> bool {
        text(self.notes_before, key) == text(self.notes_after, key)
    }

    fn only_serving(&self) -> bool {
        same_but(self.before, self.after, &[SERVING]) && self.same_note(QUARANTINED)
    }

    fn serving(&self) -> (&str, &str) {
        (text(self.before, SERVING), text(self.after, SERVING))
    }

    fn is_drain(&self) -> bool {
        matches!(self.consent(), "restart" | "evict")
            && self.only_serving()
            && self.serving() == ("true", "false")
            && self.notes_after.contains_key(DRAINED_UNTIL)
    }

    fn is_return(&self) -> bool {
        let (served, serves) = self.serving();
        self.only_serving()
            && self.notes_before.contains_key(DRAINED_UNTIL)
            && !self.notes_after.contains_key(DRAINED_UNTIL)
            && (served == serves || (served, serves) == ("false", "true"))
    }

    fn is_quarantine(&self) -> bool {
        let taken = |key: &String| !self.after.contains_key(key);
        self.consent() == "evict"
            && self.give_up() == "quarantine"
            && self.after.iter().all(|(key, value)| self.before.get(key) == Some(value))
            && self.before.keys().all(|key| !taken(key) || !key.starts_with("paramedic.dev/"))
            && self.same_note(DRAINED_UNTIL)
            && !self.notes_before.contains_key(QUARANTINED)
            && self.notes_after.contains_key(QUARANTINED)
    }
}

impl Access {
    /// Whether the fence lets a change of a pod through.
    pub(crate) fn fence_change(
        &self,
        identity: &Identity,
        route: &Route,
        old: &Value,
        new: &Value,
    ) -> Result<(), Status> {
        if !self.is_fenced(identity) {
            return Ok(());
        }
        let Route { namespace, name, .. } = route;
        let deny = |why: &str| Err(denied(POLICY, name, why, 403));
        let Some(own) = &identity.node else {
            return deny("paramedic: the token is not bound to a pod on a node");
        };
        let node = node_of(old);
        if node != own {
            let why =
                format!("paramedic: pod {namespace}/{name} runs on {node}, the agent on {own}");
            return deny(&why);
        }
        let map = |pod: &Value, field: &str| {
            pod["metadata"][field].as_object().cloned().unwrap_or_default()
        };
        let [before, after] = [old, new].map(|pod| map(pod, "labels"));
        let [notes_before, notes_after] = [old, new].map(|pod| map(pod, "annotations"));
        let list = |pod: &Value, field: &str| j::list(&pod["metadata"], field).to_vec();
        let same = old["spec"] == new["spec"]
            && ["/ownerReferences", "/finalizers"].iter().all(|f| list(old, f) == list(new, f))
            && same_but(&notes_before, &notes_after, &[DRAINED_UNTIL, QUARANTINED]);
        if !same {
            return deny(&format!(
                "paramedic: pod {namespace}/{name} may only be drained, put back or quarantined, and \
                 nothing else of it changed"
            ));
        }
        let change = Change {
            before: &before,
            after: &after,
            notes_before: &notes_before,
            notes_after: &notes_after,
        };
        if change.is_drain() || change.is_return() || change.is_quarantine() {
            return Ok(());
        }
        deny(&format!(
            "paramedic: pod {namespace}/{name} carries paramedic.dev/heal={} and \
             paramedic.dev/give-up={}: a drain takes restart or evict and the label \
             paramedic.dev/serving, a quarantine takes evict and give-up=quarantine",
            change.consent(),
            change.give_up()
        ))
    }
}
