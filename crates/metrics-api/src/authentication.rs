//! Watches the ConfigMap that holds the front-proxy CA of the API server.
use std::{pin::pin, sync::Arc};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    runtime::watcher::{self, Event},
};
use paramedic_api_server::follow_through;
use tokio::sync::watch;
use tracing::{info, warn};

use super::{
    front_proxy::{CONFIG_MAP, FrontProxy},
    readiness::{Need, Readiness},
};

/// Publishes the content of the ConfigMap, forever. If the content is unreadable, the previous one
/// stays in use.
pub(super) async fn watch(
    client: Client,
    out: watch::Sender<Option<Arc<FrontProxy>>>,
    readiness: &Readiness,
) {
    let (namespace, name) = CONFIG_MAP;
    let api: Api<ConfigMap> = Api::namespaced(client, namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let unheard = "cannot watch the front-proxy CA; the known one stays in use";
    let mut events = pin!(follow_through(api, config, unheard));
    let mut known = None;
    while let Some(event) = events.next().await {
        let (Event::Apply(map) | Event::InitApply(map)) = event else { continue };
        let data = map.data.unwrap_or_default();
        if known.as_ref() == Some(&data) {
            continue;
        }
        match FrontProxy::parse(&data) {
            Ok(proxy) => {
                info!("loaded the front-proxy CA of the API server");
                out.send_replace(Some(Arc::new(proxy)));
                readiness.met(Need::FrontProxy);
                known = Some(data);
            }
            Err(error) => warn!(%error, "cannot use the ConfigMap {namespace}/{name}"),
        }
    }
}
