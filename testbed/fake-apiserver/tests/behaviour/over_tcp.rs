//! Over a real connection, on the real clock: as a program with a kubeconfig meets the fake.
use std::time::Duration;

use fake_apiserver::{FakeApi, Identity, PodTemplate};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config, ResourceExt,
    api::{EvictParams, ListParams, WatchEvent, WatchParams},
};
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};

struct Served {
    fake: FakeApi,
    config: Config,
    server: JoinHandle<()>,
}

async fn served() -> Served {
    let fake = FakeApi::new();
    fake.add_node("node1");
    fake.add_deployment("default", "web", 2, &PodTemplate::new().grace(0), &[]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = Config::new(format!("http://{address}").parse().unwrap());
    let server = tokio::spawn(fake.clone().serve(listener));
    Served { fake, config, server }
}

fn client(config: &Config, token: &str) -> Client {
    let mut config = config.clone();
    config.auth_info.token = Some(token.to_owned().into());
    Client::try_from(config).unwrap()
}

#[tokio::test]
async fn a_program_lists_watches_and_evicts() {
    let Served { fake, config, server } = served().await;
    fake.identity("agent", Identity::service_account("kube-system", "paramedic").on_node("node1"));
    let pods = Api::<Pod>::default_namespaced(client(&config, "agent"));
    let list = pods.list(&ListParams::default()).await.unwrap();
    assert_eq!(list.items.len(), 2);

    let version = list.metadata.resource_version.unwrap();
    let mut watch = pods.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    let name = list.items[0].name_any();
    pods.evict(&name, &EvictParams::default()).await.unwrap();
    // Generous: only what hangs takes this long.
    let limit = Duration::from_secs(20);
    let mut events = Vec::new();
    while !matches!(events.last(), Some(WatchEvent::Added(_))) {
        events.push(timeout(limit, watch.try_next()).await.unwrap().unwrap().unwrap());
    }
    assert!(events.iter().any(|e| matches!(e, WatchEvent::Deleted(p) if p.name_any() == name)));
    assert_eq!(fake.evictions()[0].username, "system:serviceaccount:kube-system:paramedic");

    fake.cut_watches();
    // kube takes half a line before the end for no more than the end.
    while timeout(limit, watch.try_next()).await.unwrap().unwrap().is_some() {}

    fake.down(true);
    assert!(pods.get(&name).await.is_err());
    fake.down(false);
    assert_eq!(pods.list(&ListParams::default()).await.unwrap().items.len(), 2);
    server.abort();
}

#[tokio::test]
async fn a_program_must_say_who_it_is() {
    let Served { fake, config, server } = served().await;
    let code = |error: kube::Error| match error {
        kube::Error::Api(status) => status.code,
        other => panic!("{other}"),
    };
    let list = |client| async move {
        Api::<Pod>::all(client).list(&ListParams::default()).await.map(|list| list.items.len())
    };
    assert_eq!(code(list(client(&config, "stranger")).await.unwrap_err()), 401);
    let anonymous = Client::try_from(config.clone()).unwrap();
    assert_eq!(code(list(anonymous.clone()).await.unwrap_err()), 403);
    fake.open(true);
    assert_eq!(list(anonymous).await.unwrap(), 2);
    assert_eq!(list(client(&config, "stranger")).await.unwrap(), 2);
    server.abort();
}
