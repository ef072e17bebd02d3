//! Deletion: of a pod in its grace period, of a workload with everything it owns.
use serde_json::{Value, json};

use crate::{
    access::Identity,
    answer::{Answer, Asked},
    eviction::check_preconditions,
    json as j,
    kind::Kind,
    state::{PodRef, State},
    status::{About, Status, success},
    store::Object,
};

impl State {
    pub(crate) fn delete(
        &mut self,
        kind: Kind,
        who: &Identity,
        asked: &Asked,
    ) -> Result<Answer, Status> {
        let route = &asked.route;
        let about = About::new(kind, &route.name);
        let found = self.store.get(kind, &route.namespace, &route.name).cloned();
        let object = found.ok_or_else(|| Status::not_found(about))?;
        if kind == Kind::Pod {
            self.access.fence_deletion(who, &object)?;
        }
        let options = asked.options()?;
        check_preconditions(kind, &object, &options)?;
        let in_body = j::list(&options, "/dryRun").iter().any(|value| value == "All");
        if !route.is_dry_run() && !in_body {
            let grace = route.query("gracePeriodSeconds").parse().ok();
            self.remove(kind, &object, grace.or_else(|| j::int(&options, "/gracePeriodSeconds")));
        }
        let left = self.store.get(kind, &route.namespace, &route.name);
        if let Some(left) = left.filter(|_| kind == Kind::Pod) {
            return Ok(Answer::Json(200, Value::clone(left)));
        }
        let mut done = success(200);
        let mut details = about.details();
        details.insert("uid".to_owned(), json!(j::uid(&object)));
        done["details"] = Value::Object(details);
        Ok(Answer::Json(200, done))
    }

    /// Removes an object and what it owns: pods get their grace period.
    pub(crate) fn remove(&mut self, kind: Kind, object: &Object, grace: Option<i64>) {
        if kind == Kind::Pod {
            self.terminate(&PodRef::of(object), grace);
            return;
        }
        let key = (j::namespace(object).to_owned(), j::name(object).to_owned());
        self.erase(kind, &key);
        for pod in self.pods_of(object) {
            self.terminate(&PodRef::of(&pod), None);
        }
        for set in self.sets_of(object) {
            self.remove(Kind::ReplicaSet, &set, None);
        }
        self.collect_owned_by(object);
    }
}
