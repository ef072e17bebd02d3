//! A client of the Kubernetes API server: timeouts, one error type, watches that restart, and what
//! scales a pod.
use std::time::Duration;

use kube::{
    Config,
    api::PatchParams,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use tokio::time::timeout;

mod follow;
mod workload;

pub use follow::{follow, follow_through, is_renewal};
pub use workload::{Kind, Workload};

/// Request timeout. One network separates the agent from its API server.
const LIMIT: Duration = Duration::from_secs(5);
/// A connection is broken if expected data does not arrive within this time.
const SILENCE: Duration = Duration::from_secs(300);

/// The client's configuration, from the pod's service account or from `KUBECONFIG`.
///
/// # Errors
/// If there is neither.
pub async fn config() -> Result<Config, kube::config::InferConfigError> {
    Ok(with_our_limits(Config::infer().await?))
}

/// The configuration of one context of a kubeconfig.
///
/// # Errors
/// If it does not have this context, or what the context needs.
pub async fn config_of(
    kubeconfig: Kubeconfig,
    context: &KubeConfigOptions,
) -> Result<Config, KubeconfigError> {
    Ok(with_our_limits(Config::from_custom_kubeconfig(kubeconfig, context).await?))
}

fn with_our_limits(mut config: Config) -> Config {
    // The server answers 429 when it is overloaded, and also when a disruption budget is spent. The
    // caller decides whether to ask again.
    config.default_retry = false;
    config.connect_timeout = Some(LIMIT);
    // A watch receives a bookmark at least once a minute. A connection without data for longer than
    // a watch lasts is dead.
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    config
}

/// Why the API server did not answer a request.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// It does not respond.
    #[error("no answer in time")]
    TimedOut,
    /// All responses together took so long that the first may be out of date.
    #[error("its responses arrive too late to be acted on")]
    TooSlow,
    /// It refuses, or is unreachable.
    #[error("{}", brief(.0))]
    Refused(#[from] kube::Error),
    /// It sends no time, which shares and locks depend on.
    #[error("it sends no Date header: a proxy on the way probably removes it")]
    NoClock,
}

/// One line of what kube prints on many lines.
fn brief(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => other.to_string().lines().next().unwrap_or_default().to_owned(),
    }
}

/// Parameters of a patch, whose fields the API server then attributes to this manager.
#[must_use]
pub fn patch_by(manager: &str) -> PatchParams {
    PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() }
}

/// Applies the request timeout.
///
/// # Errors
/// The server refused, or did not respond in time.
pub async fn within<T>(
    answer: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ApiError> {
    match timeout(LIMIT, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(ApiError::TimedOut),
    }
}
