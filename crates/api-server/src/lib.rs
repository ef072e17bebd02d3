//! A client of the Kubernetes API server: time limits, one kind of error, and watches that are kept
//! alive.
use std::time::Duration;

use kube::Config;
use tokio::time::timeout;

mod follow;

pub use follow::{follow, follow_through, is_renewal};

/// No answer within this is none. Between the agent and its API server lies one network.
const LIMIT: Duration = Duration::from_secs(5);
/// A connection on which nothing comes for this long while something should is broken.
const SILENCE: Duration = Duration::from_secs(300);

/// The client's configuration, from the pod's service account or from `KUBECONFIG`.
///
/// # Errors
/// If there is neither.
pub async fn config() -> Result<Config, kube::config::InferConfigError> {
    let mut config = Config::infer().await?;
    // A spent budget answers 429, like an overloaded server: asking again is our own decision.
    config.default_retry = false;
    config.connect_timeout = Some(LIMIT);
    // A watch hears at least a bookmark a minute; what says nothing for longer than a watch lasts is
    // dead.
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    Ok(config)
}

/// What the API server could not, or would not, answer.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// It does not answer.
    #[error("no answer in time")]
    TimedOut,
    /// All its answers together took so long that the first is no longer true for sure.
    #[error("its responses arrive too late to be acted on")]
    TooSlow,
    /// It says no, or cannot be reached.
    #[error("{}", brief(.0))]
    Refused(#[from] kube::Error),
    /// It does not tell the time, on which shares and locks rest.
    #[error("it sends no Date header: a proxy on the way probably removes it")]
    NoClock,
}

/// One line of what kube prints on many.
fn brief(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => other.to_string().lines().next().unwrap_or_default().to_owned(),
    }
}

/// The answer, if it comes in time.
///
/// # Errors
/// The refusal, or that none came.
pub async fn within<T>(
    answer: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ApiError> {
    match timeout(LIMIT, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(ApiError::TimedOut),
    }
}
