//! Follows the ConfigMap that says how the API server proves itself.
use std::{pin::pin, sync::Arc};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    runtime::watcher::{self, Event},
};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::{
    front_proxy::{CONFIG_MAP, FrontProxy},
    readiness::{Need, Readiness},
};
use crate::cluster::follow;

/// Hands on what it says, for ever. What cannot be read changes nothing: what was known stays.
pub(super) async fn watch(
    client: Client,
    out: watch::Sender<Option<Arc<FrontProxy>>>,
    readiness: &Readiness,
) {
    let (namespace, name) = CONFIG_MAP;
    let api: Api<ConfigMap> = Api::namespaced(client, namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = pin!(follow(api, config));
    let mut known = None;
    let mut away = false;
    while let Some(event) = events.next().await {
        let map = match event {
            Ok(Event::Apply(map) | Event::InitApply(map)) => map,
            Ok(_) => continue,
            Err(error @ (watcher::Error::WatchError(_) | watcher::Error::WatchFailed(_))) => {
                debug!(%error, "the watch of {namespace}/{name} has ended and is begun anew");
                continue;
            }
            Err(error) => {
                if !std::mem::replace(&mut away, true) {
                    warn!(%error, "the ConfigMap {namespace}/{name} cannot be watched");
                }
                continue;
            }
        };
        away = false;
        let data = map.data.unwrap_or_default();
        if known.as_ref() == Some(&data) {
            continue;
        }
        match FrontProxy::parse(&data) {
            Ok(proxy) => {
                info!("the API server's authority for requests on behalf of others is known");
                out.send_replace(Some(Arc::new(proxy)));
                readiness.met(Need::FrontProxy);
                known = Some(data);
            }
            Err(error) => warn!(%error, "the ConfigMap {namespace}/{name} is of no use"),
        }
    }
}
