//! The life of pods and containers, as a kubelet reports it.
use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use super::{
    Due, PodRef, Pods, resize,
    status::{
        container_status, end_container, finish, is_active, is_ended, refresh_conditions, set_ready,
    },
};
use crate::{
    api::{json as j, kind::Kind, make},
    cluster::{self, Cluster, clock},
};

/// How far back-offs grow.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(300);
/// How long before a restart a back-off shows as the reason for waiting.
const BACK_OFF_SHOWS: Duration = Duration::from_millis(100);

/// What the kubelet remembers of a container.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Container {
    started: Duration,
    /// Deaths that count for the back-off.
    deaths: u32,
    dead: bool,
}

/// By pod uid and container name.
pub(crate) type Containers = BTreeMap<(String, String), Container>;

impl Pods {
    /// A pod is created, and started in its own time.
    pub(crate) fn start(&self, cluster: &mut Cluster, mut pod: Value) -> PodRef {
        make::fill_pod(&mut pod);
        resize::default_requests(&mut pod);
        pod["status"] = json!({"phase": "Pending", "qosClass": resize::qos_of(&pod)});
        let created = cluster.create(Kind::Pod, pod);
        let pod = PodRef::of(&created);
        if !j::text(&created, "/spec/nodeName").is_empty() {
            update_at_node(cluster, &pod, |pod, cluster| accept(cluster, pod));
            schedule(cluster, cluster.timing.start, Due::Runs(pod.clone()));
        }
        pod
    }

    /// A pod is there, and runs and is ready already.
    pub(crate) fn add_running(&mut self, cluster: &mut Cluster, mut pod: Value) -> PodRef {
        make::fill_pod(&mut pod);
        resize::default_requests(&mut pod);
        let mut pod = cluster.complete(Kind::Pod, pod);
        if pod["status"].is_null() {
            pod["status"] = json!({"phase": "Pending", "qosClass": resize::qos_of(&pod)});
            if !j::text(&pod, "/spec/nodeName").is_empty() {
                accept(cluster, &mut pod);
                self.run(cluster, &mut pod);
                set_ready(cluster, &mut pod, None, true);
            }
        }
        PodRef::of(&cluster.write(Kind::Pod, pod))
    }

    /// Takes one step that is due.
    pub(crate) fn step(&mut self, cluster: &mut Cluster, due: Due) {
        match due {
            Due::Runs(pod) => self.pod_runs(cluster, &pod),
            Due::Ready { pod, container_id } => container_ready(cluster, &pod, &container_id),
            Due::Died { pod, container, exit_code, at } => {
                self.container_died(cluster, &pod, &container, exit_code, at);
            }
            Due::BackingOff { pod, container, seconds } => {
                container_backs_off(cluster, &pod, &container, seconds);
            }
            Due::Restarted { pod, container } => {
                self.container_restarted(cluster, &pod, &container);
            }
            Due::Resized { pod, room } => resize::applied(cluster, &pod, room),
            Due::Gone(pod) => self.pod_gone(cluster, &pod),
        }
    }

    /// The containers of a pod run.
    fn pod_runs(&mut self, cluster: &mut Cluster, pod: &PodRef) {
        let ready_at_once = cluster.timing.ready.is_zero();
        update_at_node(cluster, pod, |pod, cluster| {
            self.run(cluster, pod);
            if ready_at_once {
                set_ready(cluster, pod, None, true);
            }
        });
        if !ready_at_once {
            for id in container_ids(cluster, pod) {
                let due = Due::Ready { pod: pod.clone(), container_id: id };
                schedule(cluster, cluster.timing.ready, due);
            }
        }
    }

    /// Ends the process of a container, if it has one.
    pub(crate) fn kill(
        &mut self,
        cluster: &mut Cluster,
        pod: &PodRef,
        container: &str,
        exit_code: i64,
    ) {
        let Some(object) = pod.find(cluster) else { return };
        let statuses = j::list(object, "/status/containerStatuses");
        let status = statuses.iter().find(|c| j::text(c, "/name") == container);
        if !status.is_some_and(|c| c["state"]["running"].is_object()) {
            return;
        }
        let known = self.containers.entry((pod.uid.clone(), container.to_owned())).or_default();
        if std::mem::replace(&mut known.dead, true) {
            return;
        }
        let container = container.to_owned();
        let due = Due::Died { pod: pod.clone(), container, exit_code, at: cluster.now };
        schedule(cluster, cluster.timing.notice, due);
    }

    /// The kubelet sees that a container is dead. It runs again later, if its pod wants that.
    fn container_died(
        &mut self,
        cluster: &mut Cluster,
        pod: &PodRef,
        container: &str,
        exit_code: i64,
        at: Duration,
    ) {
        let Some(object) = pod.find(cluster) else { return };
        if j::is_terminating(object) {
            return;
        }
        let again = match j::text(object, "/spec/restartPolicy") {
            "Never" => false,
            "OnFailure" => exit_code != 0,
            _ => true,
        };
        update_at_node(cluster, pod, |pod, cluster| {
            end_container(pod, container, exit_code, at);
            set_ready(cluster, pod, Some(container), false);
            if !again {
                finish(pod);
                refresh_conditions(cluster, pod);
            }
        });
        if again {
            self.back_off(cluster, pod, container, at);
        }
    }

    fn back_off(&mut self, cluster: &mut Cluster, pod: &PodRef, container: &str, died: Duration) {
        let timing = cluster.timing;
        let known = self.containers.entry((pod.uid.clone(), container.to_owned())).or_default();
        if died.saturating_sub(known.started) >= timing.forget {
            known.deaths = 0;
        }
        let doublings = known.deaths.checked_sub(1);
        known.deaths += 1;
        let back_off = doublings
            .map(|n| (timing.back_off * 2_u32.saturating_pow(n.min(10))).min(LONGEST_BACK_OFF));
        let wait = back_off.map_or(timing.restart, |back_off| back_off + timing.resync);
        let left = (died + wait).saturating_sub(cluster.now);
        let (pod, container) = (pod.clone(), container.to_owned());
        if let Some(back_off) = back_off {
            let seconds = back_off.as_secs();
            let (pod, container) = (pod.clone(), container.clone());
            let due = Due::BackingOff { pod, container, seconds };
            schedule(cluster, left.saturating_sub(BACK_OFF_SHOWS), due);
        }
        schedule(cluster, left, Due::Restarted { pod, container });
    }

    /// A container runs again, with another id.
    fn container_restarted(&mut self, cluster: &mut Cluster, pod: &PodRef, container: &str) {
        let id = make::container_id(cluster.serial());
        let (date, now) = (cluster.date(), cluster.now);
        let ready_at_once = cluster.timing.ready.is_zero();
        let mut restarted = false;
        update_at_node(cluster, pod, |pod, cluster| {
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
                set_ready(cluster, pod, Some(container), true);
            }
        });
        if !restarted {
            return;
        }
        let known = self.containers.entry((pod.uid.clone(), container.to_owned())).or_default();
        (known.started, known.dead) = (now, false);
        if !ready_at_once {
            let due = Due::Ready { pod: pod.clone(), container_id: id };
            schedule(cluster, cluster.timing.ready, due);
        }
    }

    /// A pod is asked to go, as `kubectl delete` does.
    pub(crate) fn terminate(&mut self, cluster: &mut Cluster, pod: &PodRef, grace: Option<i64>) {
        let Some(object) = pod.find(cluster) else { return };
        let spec = j::int(object, "/spec/terminationGracePeriodSeconds").unwrap_or(30);
        let grace = grace.unwrap_or(spec).max(0);
        let left = j::int(object, "/metadata/deletionGracePeriodSeconds");
        let nowhere = j::text(object, "/spec/nodeName").is_empty();
        if grace == 0 || nowhere || is_ended(object) {
            self.forget(cluster, pod);
            return;
        }
        if left.is_some_and(|left| left <= grace) {
            return;
        }
        let grace_time = Duration::from_secs(grace.unsigned_abs());
        let date = clock::rfc3339(cluster.now + grace_time);
        pod.update(cluster, |pod| {
            let generation = j::int(pod, "/metadata/generation").unwrap_or(0);
            let metadata = &mut pod["metadata"];
            metadata["generation"] = json!(generation + i64::from(left.is_none()));
            metadata["deletionTimestamp"] = json!(date);
            metadata["deletionGracePeriodSeconds"] = json!(grace);
        });
        let exits = cluster.timing.termination.unwrap_or(grace_time).min(grace_time);
        schedule(cluster, exits, Due::Gone(pod.clone()));
    }

    /// The processes of a terminating pod are gone, and so is the pod.
    fn pod_gone(&mut self, cluster: &mut Cluster, pod: &PodRef) {
        let Some(object) = pod.find(cluster) else { return };
        let mut object = Value::clone(object);
        let exit_code = if cluster.timing.termination.is_none() { 137 } else { 143 };
        let statuses = j::list(&object, "/status/containerStatuses").iter();
        let running = statuses.filter(|c| c["state"]["running"].is_object());
        let names: Vec<String> = running.map(|c| j::text(c, "/name").to_owned()).collect();
        for name in names {
            end_container(&mut object, &name, exit_code, cluster.now);
        }
        finish(&mut object);
        refresh_conditions(cluster, &mut object);
        cluster.write(Kind::Pod, object);
        self.forget(cluster, pod);
    }

    fn forget(&mut self, cluster: &mut Cluster, pod: &PodRef) {
        if pod.find(cluster).is_some() {
            cluster.erase(Kind::Pod, &(pod.namespace.clone(), pod.name.clone()));
            self.containers.retain(|(uid, _), _| *uid != pod.uid);
        }
    }

    /// Containers are created and run, but are not ready.
    fn run(&mut self, cluster: &mut Cluster, pod: &mut Value) {
        let (uid, date, now) = (j::uid(pod).to_owned(), cluster.date(), cluster.now);
        let n = cluster.serial();
        let ip = format!("10.88.{}.{}", n / 250 % 250, n % 250 + 2);
        pod["status"]["phase"] = json!("Running");
        if j::text(pod, "/status/podIP").is_empty() {
            pod["status"]["podIP"] = json!(ip);
            pod["status"]["podIPs"] = json!([{"ip": ip}]);
        }
        let statuses = pod["status"]["containerStatuses"].as_array_mut();
        for status in statuses.into_iter().flatten() {
            status["containerID"] = json!(make::container_id(cluster.serial()));
            status["imageID"] = json!("sha256:d4a71c1701c42272bb1a45a1f6e3865f");
            status["state"] = json!({"running": {"startedAt": date}});
            status["started"] = json!(true);
            let key = (uid.clone(), j::text(status, "/name").to_owned());
            self.containers.insert(key, Container { started: now, ..Container::default() });
        }
        refresh_conditions(cluster, pod);
    }
}

fn schedule(cluster: &mut Cluster, after: Duration, due: Due) {
    cluster.schedule(after, cluster::Due::Pod(due));
}

/// A container is ready, unless it is another one by now.
fn container_ready(cluster: &mut Cluster, pod: &PodRef, container_id: &str) {
    update_at_node(cluster, pod, |pod, cluster| {
        let running =
            |c: &Value| c["containerID"] == container_id && c["state"]["running"].is_object();
        let statuses = j::list(pod, "/status/containerStatuses");
        let name = statuses.iter().find(|c| running(c)).map(|c| j::text(c, "/name").to_owned());
        if let Some(name) = name {
            set_ready(cluster, pod, Some(&name), true);
        }
    });
}

/// For a short moment a back-off is the reason to wait.
fn container_backs_off(cluster: &mut Cluster, pod: &PodRef, container: &str, seconds: u64) {
    let message = format!(
        "back-off {seconds}s restarting failed container={container} pod={}_{}({})",
        pod.name, pod.namespace, pod.uid
    );
    update_at_node(cluster, pod, |pod, _| {
        if let Some(status) = container_status(pod, container) {
            status["lastState"] = status["state"].take();
            let waiting = json!({"reason": "CrashLoopBackOff", "message": message});
            status["state"] = json!({"waiting": waiting});
        }
    });
}

/// A change by the kubelet, which a pod on its way out no longer gets.
fn update_at_node(
    cluster: &mut Cluster,
    pod: &PodRef,
    change: impl FnOnce(&mut Value, &mut Cluster),
) {
    let Some(object) = pod.find(cluster) else { return };
    if !is_active(object) {
        return;
    }
    let mut object = Value::clone(object);
    change(&mut object, cluster);
    cluster.write(Kind::Pod, object);
}

/// The kubelet of its node has seen a pod, and creates its containers.
fn accept(cluster: &Cluster, pod: &mut Value) {
    let names: Vec<Value> =
        j::list(pod, "/spec/containers").iter().map(|c| c["name"].clone()).collect();
    let images: Vec<(Value, Value)> = j::list(pod, "/spec/containers")
        .iter()
        .map(|c| (c["image"].clone(), c["resources"].clone()))
        .collect();
    let creating = |(name, (image, resources))| {
        json!({
            "name": name, "image": image, "imageID": "", "ready": false, "started": false,
            "restartCount": 0, "lastState": {}, "resources": resources,
            "state": {"waiting": {"reason": "ContainerCreating"}},
        })
    };
    let host = address_of(cluster, j::text(pod, "/spec/nodeName"));
    let status = &mut pod["status"];
    status["containerStatuses"] = names.into_iter().zip(images).map(creating).collect();
    status["startTime"] = cluster.date();
    status["hostIP"] = json!(host);
    status["hostIPs"] = json!([{"ip": host}]);
    refresh_conditions(cluster, pod);
}

fn address_of(cluster: &Cluster, node: &str) -> String {
    let address = |node: &Value| j::text(node, "/status/addresses/0/address").to_owned();
    let found = cluster.store.get(Kind::Node, "", node);
    found.map_or_else(|| "10.99.0.1".to_owned(), |node| address(node))
}

fn container_ids(cluster: &Cluster, pod: &PodRef) -> Vec<String> {
    let statuses = pod.find(cluster).map(|pod| j::list(pod, "/status/containerStatuses"));
    statuses.unwrap_or(&[]).iter().map(|c| j::text(c, "/containerID").to_owned()).collect()
}
