//! The cap of a namespace: it holds for every pod in it, as soon as the watch tells, and through an
//! API server that is away.
use fake_apiserver::Fault;
use kube::runtime::watcher::Event;
use paramedic_core::target::{Cap, Change, Target, cap::HEAL_AT_MOST};
use paramedic_host::instances::Unchanging;
use serde_json::json;
use tokio::sync::mpsc::{self, Receiver};

use super::*;
use crate::track_pods;

/// What the agent of `node1` hears of its pods.
struct Watch {
    scene: Scene,
    cluster: Arc<Cluster>,
    heard: Receiver<Change>,
}

impl Watch {
    fn begin(scene: Scene) -> Self {
        let (changes, heard) = mpsc::channel(256);
        let (notices, _) = mpsc::channel(8);
        let cluster = scene.new_agent("node1");
        let machine = Arc::new(Unchanging(|_: &str| 1));
        tokio::spawn(track_pods(Arc::clone(&cluster), machine, changes, notices));
        Self { scene, cluster, heard }
    }

    /// The targets that were found, or found again, within this many seconds.
    async fn found(&mut self, seconds: u64) -> Vec<Box<Target>> {
        sleep(Duration::from_secs(seconds)).await;
        let mut found = Vec::new();
        while let Ok(change) = self.heard.try_recv() {
            if let Change::Found(target) = change {
                found.push(target);
            }
        }
        found
    }

    /// Their ceilings.
    async fn ceilings(&mut self, seconds: u64) -> Vec<Remedy> {
        self.found(seconds).await.iter().map(|target| target.settings.ceiling).collect()
    }

    fn cap(&self, most: Option<&str>) {
        let labels = json!({ "metadata": { "labels": { HEAL_AT_MOST: most } } });
        self.scene.fake.patch(Kind::Namespace, "", "default", &labels).unwrap();
    }
}

/// One pod on `node1` that permits every remedy.
fn scene() -> Scene {
    Scene::new(2)
}

#[tokio::test(start_paused = true)]
async fn a_cap_lowers_the_ceilings_of_running_pods_and_gives_them_back() {
    let mut watch = Watch::begin(scene());
    assert_eq!(watch.ceilings(3).await, [Remedy::Evict], "found once, with its own");
    watch.cap(Some("soft"));
    let found = watch.found(3).await;
    let capped = found[0].settings.capped.unwrap();
    assert_eq!((found.len(), found[0].settings.ceiling), (1, Remedy::Soft));
    assert_eq!((capped.cap, capped.owner), (Cap::Named(Remedy::Soft), Remedy::Evict));
    watch.cap(Some("anything"));
    assert_eq!(watch.ceilings(3).await, [Remedy::Observe], "no remedy has this name");
    watch.cap(None);
    assert_eq!(watch.ceilings(3).await, [Remedy::Evict]);
    assert_eq!(watch.ceilings(600).await, [], "told once");
}

#[tokio::test(start_paused = true)]
async fn a_cap_that_is_there_holds_from_the_first_sight_of_a_pod() {
    let scene = scene();
    scene.fake.add_namespace("default", &[(HEAL_AT_MOST, "restart")], &[]);
    let mut watch = Watch::begin(scene);
    assert_eq!(watch.ceilings(10).await, [Remedy::Restart]);
    // Another namespace's cap does not matter.
    watch.scene.fake.add_namespace("other", &[(HEAL_AT_MOST, "observe")], &[]);
    assert_eq!(watch.ceilings(10).await, []);
}

#[tokio::test(start_paused = true)]
async fn pods_are_only_observed_until_the_caps_are_known() {
    let scene = scene();
    let namespaces = |request: &Logged| request.resource == "namespaces";
    scene.fake.fail_next(1000, namespaces, Fault::Status { code: 403, retry_after: None });
    let mut watch = Watch::begin(scene);
    assert_eq!(watch.ceilings(4).await, [], "the caps get some seconds");
    let found = watch.found(10).await;
    assert_eq!(found[0].settings.ceiling, Remedy::Observe);
    assert_eq!(found[0].settings.capped.unwrap().cap, Cap::Unknown);
    watch.scene.fake.forget_faults();
    assert_eq!(watch.ceilings(120).await, [Remedy::Evict]);
}

#[tokio::test(start_paused = true)]
async fn the_last_known_cap_holds_while_the_api_server_is_away() {
    let mut watch = Watch::begin(scene());
    watch.cap(Some("restart"));
    assert_eq!(watch.ceilings(3).await.last(), Some(&Remedy::Restart));
    watch.scene.fake.down(true);
    watch.cap(Some("observe"));
    watch.scene.fake.break_watches();
    assert_eq!(watch.ceilings(300).await, []);
    watch.scene.fake.down(false);
    assert_eq!(watch.ceilings(120).await, [Remedy::Observe], "made up for");
}

#[tokio::test(start_paused = true)]
async fn no_hard_remedy_is_cleared_above_the_cap() {
    let watch = Watch::begin(scene());
    sleep(Duration::from_secs(3)).await;
    let own = |name: &&String| {
        watch.scene.pod(name).full_name().contains("web")
            && watch.scene.fake.get(Kind::Pod, "default", name).unwrap()["spec"]["nodeName"]
                == "node1"
    };
    let name = watch.scene.pods.iter().find(own).unwrap();
    let pod = watch.scene.pod(name);
    watch.cap(Some("soft"));
    sleep(Duration::from_secs(3)).await;
    let (gate, why) = refused(&watch.cluster, &pod).await;
    assert_eq!(gate, "mode");
    assert!(why.contains("its namespace permits soft at most"), "{why}");
    // If the agent does not know it yet, the fence at the API server does.
    let user = format!("system:serviceaccount:{OWN}:paramedic-agent");
    let account = fake_apiserver::Identity::service_account(OWN, "paramedic-agent");
    watch.scene.fake.identity("node1", account.on_node("node1"));
    watch.scene.fake.fence(Some(&user));
    watch.cluster.caps.lock().take(Event::Init);
    watch.cluster.caps.lock().take(Event::InitDone);
    let (gate, why) = refused(&watch.cluster, &pod).await;
    assert_eq!(gate, "disruption_budget");
    assert!(why.contains("paramedic.dev/heal-at-most=soft"), "{why}");
    watch.cap(Some("restart"));
    clear(&watch.cluster, &pod).await.unwrap();
}
