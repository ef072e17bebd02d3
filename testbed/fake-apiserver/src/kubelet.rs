//! The life of pods and containers, as a kubelet reports it.
use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    clock, json as j,
    kind::Kind,
    make,
    pod::{container_status, end_container, finish, is_active, is_ended},
    state::{Due, PodRef, State},
};

/// How far back-offs grow.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(300);
/// How long before a restart a back-off shows as the reason for waiting.
const BACK_OFF_SHOWS: Duration = Duration::from_millis(100);

/// What the kubelet remembers of a container, by pod uid and container name.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Life {
    started: Duration,
    /// Deaths that count for the back-off.
    deaths: u32,
    dead: bool,
}

impl State {
    /// A pod is created, and started in its own time.
    pub(crate) fn start_pod(&mut self, mut pod: Value) -> PodRef {
        make::fill_pod(&mut pod);
        pod["status"] = json!({"phase": "Pending", "qosClass": "BestEffort"});
        let created = self.create(Kind::Pod, pod);
        let pod = PodRef::of(&created);
        if !j::text(&created, "/spec/nodeName").is_empty() {
            self.update_at_node(&pod, |pod, state| state.accept(pod));
            self.schedule(self.timing.start, Due::Runs(pod.clone()));
        }
        pod
    }

    /// A pod is there, and runs and is ready already.
    pub(crate) fn add_running_pod(&mut self, mut pod: Value) -> PodRef {
        make::fill_pod(&mut pod);
        let mut pod = self.complete(Kind::Pod, pod);
        if pod["status"].is_null() {
            pod["status"] = json!({"phase": "Pending", "qosClass": "BestEffort"});
            if !j::text(&pod, "/spec/nodeName").is_empty() {
                self.accept(&mut pod);
                self.run(&mut pod);
                self.set_ready_now(&mut pod, None, true);
            }
        }
        PodRef::of(&self.write(Kind::Pod, pod))
    }

    /// The containers of a pod run.
    pub(crate) fn pod_runs(&mut self, pod: &PodRef) {
        let ready_at_once = self.timing.ready.is_zero();
        self.update_at_node(pod, |pod, state| {
            state.run(pod);
            if ready_at_once {
                state.set_ready_now(pod, None, true);
            }
        });
        if !ready_at_once {
            for id in self.container_ids(pod) {
                let due = Due::Ready { pod: pod.clone(), container_id: id };
                self.schedule(self.timing.ready, due);
            }
        }
    }

    /// A container is ready, unless it is another one by now.
    pub(crate) fn container_ready(&mut self, pod: &PodRef, container_id: &str) {
        let id = container_id.to_owned();
        self.update_at_node(pod, |pod, state| {
            let running = |c: &Value| c["containerID"] == id && c["state"]["running"].is_object();
            let statuses = j::list(pod, "/status/containerStatuses");
            let name = statuses.iter().find(|c| running(c)).map(|c| j::text(c, "/name").to_owned());
            if let Some(name) = name {
                state.set_ready_now(pod, Some(&name), true);
            }
        });
    }

    /// The process of a container ends. Nothing happens if there is none.
    pub(crate) fn kill(&mut self, pod: &PodRef, container: &str, exit_code: i64) {
        let Some(object) = self.pod(pod) else { return };
        let statuses = j::list(object, "/status/containerStatuses");
        let status = statuses.iter().find(|c| j::text(c, "/name") == container);
        if !status.is_some_and(|c| c["state"]["running"].is_object()) {
            return;
        }
        let life = self.lives.entry((pod.uid.clone(), container.to_owned())).or_default();
        if std::mem::replace(&mut life.dead, true) {
            return;
        }
        let container = container.to_owned();
        let due = Due::Died { pod: pod.clone(), container, exit_code, at: self.now };
        self.schedule(self.timing.notice, due);
    }

    /// A container is seen to be dead; it runs again later, if its pod wants that.
    pub(crate) fn container_died(
        &mut self,
        pod: &PodRef,
        container: &str,
        exit_code: i64,
        at: Duration,
    ) {
        let Some(object) = self.pod(pod) else { return };
        if j::is_terminating(object) {
            return;
        }
        let again = match j::text(object, "/spec/restartPolicy") {
            "Never" => false,
            "OnFailure" => exit_code != 0,
            _ => true,
        };
        self.update_at_node(pod, |pod, state| {
            end_container(pod, container, exit_code, at);
            state.set_ready_now(pod, Some(container), false);
            if !again {
                finish(pod);
                state.refresh_conditions(pod);
            }
        });
        if again {
            self.back_off(pod, container, at);
        }
    }

    fn back_off(&mut self, pod: &PodRef, container: &str, died: Duration) {
        let timing = self.timing;
        let life = self.lives.entry((pod.uid.clone(), container.to_owned())).or_default();
        if died.saturating_sub(life.started) >= timing.forget {
            life.deaths = 0;
        }
        let doublings = life.deaths.checked_sub(1);
        life.deaths += 1;
        let back_off = doublings
            .map(|n| (timing.back_off * 2_u32.saturating_pow(n.min(10))).min(LONGEST_BACK_OFF));
        let wait = back_off.map_or(timing.restart, |back_off| back_off + timing.resync);
        let left = (died + wait).saturating_sub(self.now);
        let (pod, container) = (pod.clone(), container.to_owned());
        if let Some(back_off) = back_off {
            let seconds = back_off.as_secs();
            let (pod, container) = (pod.clone(), container.clone());
            let due = Due::BackingOff { pod, container, seconds };
            self.schedule(left.saturating_sub(BACK_OFF_SHOWS), due);
        }
        self.schedule(left, Due::Restarted { pod, container });
    }

    /// For a short moment a back-off is the reason to wait.
    pub(crate) fn container_backs_off(&mut self, pod: &PodRef, container: &str, seconds: u64) {
        let message = format!(
            "back-off {seconds}s restarting failed container={container} pod={}_{}({})",
            pod.name, pod.namespace, pod.uid
        );
        self.update_at_node(pod, |pod, _| {
            if let Some(status) = container_status(pod, container) {
                status["lastState"] = status["state"].take();
                let waiting = json!({"reason": "CrashLoopBackOff", "message": message});
                status["state"] = json!({"waiting": waiting});
            }
        });
    }

    /// A container runs again, with another id.
    pub(crate) fn container_restarted(&mut self, pod: &PodRef, container: &str) {
        let id = make::container_id(self.serial());
        let (date, now) = (self.date(), self.now);
        let ready_at_once = self.timing.ready.is_zero();
        let mut restarted = false;
        self.update_at_node(pod, |pod, state| {
            let Some(status) = container_status(pod, container) else { return };
            if status["state"]["terminated"].is_object() {
                status["lastState"] = status["state"].take();
            }
            let count = j::int(status, "/restartCount").unwrap_or(0);
            status["state"] = json!({"running": {"startedAt": date}});
            status["restartCount"] = json!(count + 1);
            status["containerID"] = json!(id);
            status["started"] = json!(true);
            restarted = true;
            if ready_at_once {
                state.set_ready_now(pod, Some(container), true);
            }
        });
        if !restarted {
            return;
        }
        let life = self.lives.entry((pod.uid.clone(), container.to_owned())).or_default();
        (life.started, life.dead) = (now, false);
        if !ready_at_once {
            let due = Due::Ready { pod: pod.clone(), container_id: id };
            self.schedule(self.timing.ready, due);
        }
    }

    /// A pod is asked to go, as `kubectl delete` does.
    pub(crate) fn terminate(&mut self, pod: &PodRef, grace: Option<i64>) {
        let Some(object) = self.pod(pod) else { return };
        let spec = j::int(object, "/spec/terminationGracePeriodSeconds").unwrap_or(30);
        let grace = grace.unwrap_or(spec).max(0);
        let left = j::int(object, "/metadata/deletionGracePeriodSeconds");
        let nowhere = j::text(object, "/spec/nodeName").is_empty();
        if grace == 0 || nowhere || is_ended(object) {
            self.forget_pod(pod);
            return;
        }
        if left.is_some_and(|left| left <= grace) {
            return;
        }
        let grace_time = Duration::from_secs(grace.unsigned_abs());
        let date = clock::rfc3339(self.now + grace_time);
        self.update_pod(pod, |pod| {
            let generation = j::int(pod, "/metadata/generation").unwrap_or(0);
            let metadata = &mut pod["metadata"];
            metadata["generation"] = json!(generation + i64::from(left.is_none()));
            metadata["deletionTimestamp"] = json!(date);
            metadata["deletionGracePeriodSeconds"] = json!(grace);
        });
        let exits = self.timing.termination.unwrap_or(grace_time).min(grace_time);
        self.schedule(exits, Due::Gone(pod.clone()));
    }

    /// The processes of a terminating pod are gone, and so is the pod.
    pub(crate) fn pod_gone(&mut self, pod: &PodRef) {
        let Some(object) = self.pod(pod) else { return };
        let mut object = Value::clone(object);
        let exit_code = if self.timing.termination.is_none() { 137 } else { 143 };
        let statuses = j::list(&object, "/status/containerStatuses").iter();
        let running = statuses.filter(|c| c["state"]["running"].is_object());
        let names: Vec<String> = running.map(|c| j::text(c, "/name").to_owned()).collect();
        for name in names {
            end_container(&mut object, &name, exit_code, self.now);
        }
        finish(&mut object);
        self.refresh_conditions(&mut object);
        self.write(Kind::Pod, object);
        self.forget_pod(pod);
    }

    fn forget_pod(&mut self, pod: &PodRef) {
        if self.pod(pod).is_some() {
            self.erase(Kind::Pod, &(pod.namespace.clone(), pod.name.clone()));
            self.lives.retain(|(uid, _), _| *uid != pod.uid);
        }
    }

    /// A change by the kubelet, which a pod on its way out no longer gets.
    fn update_at_node(&mut self, pod: &PodRef, change: impl FnOnce(&mut Value, &mut Self)) {
        let Some(object) = self.pod(pod) else { return };
        if !is_active(object) {
            return;
        }
        let mut object = Value::clone(object);
        change(&mut object, self);
        self.write(Kind::Pod, object);
    }

    /// The kubelet of its node has seen a pod, and creates its containers.
    fn accept(&self, pod: &mut Value) {
        let names: Vec<Value> =
            j::list(pod, "/spec/containers").iter().map(|c| c["name"].clone()).collect();
        let images: Vec<Value> =
            j::list(pod, "/spec/containers").iter().map(|c| c["image"].clone()).collect();
        let creating = |(name, image)| {
            json!({
                "name": name, "image": image, "imageID": "", "ready": false, "started": false,
                "restartCount": 0, "lastState": {}, "resources": {},
                "state": {"waiting": {"reason": "ContainerCreating"}},
            })
        };
        let host = self.address_of(j::text(pod, "/spec/nodeName"));
        let status = &mut pod["status"];
        status["containerStatuses"] = names.into_iter().zip(images).map(creating).collect();
        status["startTime"] = self.date();
        status["hostIP"] = json!(host);
        status["hostIPs"] = json!([{"ip": host}]);
        self.refresh_conditions(pod);
    }

    fn address_of(&self, node: &str) -> String {
        let address = |node: &Value| j::text(node, "/status/addresses/0/address").to_owned();
        self.store.get(Kind::Node, "", node).map_or_else(|| "10.99.0.1".to_owned(), |n| address(n))
    }

    /// Containers are created and run, but are not ready.
    fn run(&mut self, pod: &mut Value) {
        let (uid, date, now) = (j::uid(pod).to_owned(), self.date(), self.now);
        let n = self.serial();
        let ip = format!("10.88.{}.{}", n / 250 % 250, n % 250 + 2);
        pod["status"]["phase"] = json!("Running");
        if j::text(pod, "/status/podIP").is_empty() {
            pod["status"]["podIP"] = json!(ip);
            pod["status"]["podIPs"] = json!([{"ip": ip}]);
        }
        let statuses = pod["status"]["containerStatuses"].as_array_mut();
        for status in statuses.into_iter().flatten() {
            status["containerID"] = json!(make::container_id(self.serial()));
            status["imageID"] = json!("sha256:d4a71c1701c42272bb1a45a1f6e3865f");
            status["state"] = json!({"running": {"startedAt": date}});
            status["started"] = json!(true);
            let key = (uid.clone(), j::text(status, "/name").to_owned());
            self.lives.insert(key, Life { started: now, ..Life::default() });
        }
        self.refresh_conditions(pod);
    }

    fn container_ids(&self, pod: &PodRef) -> Vec<String> {
        let statuses = self.pod(pod).map(|pod| j::list(pod, "/status/containerStatuses"));
        statuses.unwrap_or(&[]).iter().map(|c| j::text(c, "/containerID").to_owned()).collect()
    }
}
