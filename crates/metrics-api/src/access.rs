//! Whether a user may read a metric. The API server's authorizers decide; their answers are cached
//! for a few seconds.
use std::{collections::HashMap, time::Duration};

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::{Api, Client, api::PostParams};
use paramedic_api_server::{ApiError, within};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    FORECAST, GROUP, Version,
    front_proxy::User,
    path::{Forecast, Pods, Values},
};

/// Maximum time until a revoked right takes effect.
const ALLOWED: Duration = Duration::from_secs(10);
/// Maximum time until a granted right takes effect.
const DENIED: Duration = Duration::from_secs(5);
/// Maximum number of cached answers.
const MOST: usize = 4096;

/// A metric of an object, as roles name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Resource {
    /// The resource of the object, such as `pods`.
    of: &'static str,
    namespace: String,
    /// The name of the object; `*` for those that a selector selects.
    name: String,
    /// The metric's name, which is a subresource.
    metric: &'static str,
}

impl From<&Values> for Resource {
    fn from(values: &Values) -> Self {
        let name = match &values.pods {
            Pods::Selected(_) => "*",
            Pods::Named(name) => name,
        };
        let (namespace, name) = (values.namespace.clone(), name.to_owned());
        Self { of: "pods", namespace, name, metric: values.metric.name() }
    }
}

impl From<&Forecast> for Resource {
    fn from(forecast: &Forecast) -> Self {
        let Forecast { namespace, workload, .. } = forecast;
        let (namespace, name) = (namespace.clone(), workload.name.clone());
        Self { of: workload.kind.resource(), namespace, name, metric: FORECAST }
    }
}

/// A user and the metric that the user wants to read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Question {
    user: User,
    version: &'static str,
    resource: Resource,
}

/// The recent answers of the API server.
pub(super) struct Access {
    reviews: Api<SubjectAccessReview>,
    known: Mutex<HashMap<Question, (Verdict, Instant)>>,
}

/// Allowed, or the reason for the refusal.
pub(super) type Verdict = Result<(), String>;

impl Access {
    pub(super) fn new(client: Client) -> Self {
        Self { reviews: Api::all(client), known: Mutex::default() }
    }

    /// Whether `user` may read this metric.
    pub(super) async fn may(
        &self,
        user: &User,
        version: Version,
        resource: Resource,
    ) -> Result<Verdict, ApiError> {
        let question = Question { user: user.clone(), version: version.name(), resource };
        let now = Instant::now();
        if let Some((verdict, until)) = self.known.lock().get(&question)
            && now < *until
        {
            return Ok(verdict.clone());
        }
        let verdict = self.ask(&question).await?;
        // The age counts from the request, not from the response.
        let until = now + if verdict.is_ok() { ALLOWED } else { DENIED };
        let mut known = self.known.lock();
        if known.len() >= MOST {
            known.retain(|_, (_, until)| now < *until);
        }
        if known.len() < MOST {
            known.insert(question, (verdict.clone(), until));
        }
        Ok(verdict)
    }

    async fn ask(&self, question: &Question) -> Result<Verdict, ApiError> {
        let (user, review) = (&question.user, review(question));
        let answer = within(self.reviews.create(&PostParams::default(), &review)).await?;
        let status = answer.status.unwrap_or_default();
        if status.allowed && status.denied != Some(true) {
            return Ok(Ok(()));
        }
        let why = status.reason.filter(|why| !why.is_empty()).map(|why| format!(": {why}"));
        let Resource { of, namespace, name, metric } = &question.resource;
        Ok(Err(format!(
            "{of}.{GROUP} {name:?} is forbidden: User {:?} cannot get resource \"{of}/{metric}\" in \
             API group {GROUP:?} in the namespace {namespace:?}{}",
            user.name,
            why.unwrap_or_default()
        )))
    }
}

/// The request to the API server.
fn review(question: &Question) -> SubjectAccessReview {
    let (user, resource) = (&question.user, &question.resource);
    let of = |text: &str| Some(text.to_owned());
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: of(&user.name),
            uid: (!user.uid.is_empty()).then(|| user.uid.clone()),
            groups: Some(user.groups.clone()),
            extra: Some(user.extra.clone()),
            resource_attributes: Some(ResourceAttributes {
                verb: of("get"),
                group: of(GROUP),
                version: of(question.version),
                resource: of(resource.of),
                subresource: of(resource.metric),
                namespace: of(&resource.namespace),
                name: of(&resource.name),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}

#[cfg(test)]
mod tests {
    use fake_apiserver::{FakeApi, Rule};
    use paramedic_pod_metrics::Metric;
    use serde_json::{Value, json};
    use tokio::time::sleep;

    use super::*;
    use crate::selector::Selector;

    const HPA: &str = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";

    fn user(name: &str) -> User {
        let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system"];
        let groups = groups.into_iter().chain(["system:authenticated"]).map(str::to_owned);
        User { name: name.to_owned(), groups: groups.collect(), ..User::default() }
    }

    fn values() -> Values {
        Values {
            namespace: "default".to_owned(),
            pods: Pods::Selected(Selector::default()),
            metric: Metric::Http5xxRatio,
            of_series: Selector::default(),
        }
    }

    fn granting(fake: &FakeApi) {
        fake.grant(HPA, Rule::new(GROUP, &["*"], &["get"]));
    }

    async fn may(access: &Access) -> bool {
        access.may(&user(HPA), Version::V1beta2, (&values()).into()).await.unwrap().is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn an_allowed_answer_is_cached_for_ten_seconds() {
        let fake = FakeApi::new();
        granting(&fake);
        let access = Access::new(fake.client("a"));
        let asked = || fake.requests().len();
        assert!(may(&access).await);
        sleep(Duration::from_millis(9999)).await;
        assert_eq!((may(&access).await, asked()), (true, 1));
        sleep(Duration::from_millis(1)).await;
        assert_eq!((may(&access).await, asked()), (true, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_denied_answer_is_cached_for_five_seconds() {
        let fake = FakeApi::new();
        let access = Access::new(fake.client("a"));
        let asked = || fake.requests().len();
        assert!(!may(&access).await);
        granting(&fake);
        sleep(Duration::from_millis(4999)).await;
        assert_eq!((may(&access).await, asked()), (false, 1));
        sleep(Duration::from_millis(1)).await;
        assert_eq!((may(&access).await, asked()), (true, 2));
    }

    /// Removes empty fields, which carry no information.
    fn said(value: &Value) -> Value {
        let empty = |value: &Value| value.as_object().is_some_and(serde_json::Map::is_empty);
        match value {
            Value::Object(fields) => {
                let fields = fields.iter().map(|(key, value)| (key.clone(), said(value)));
                fields.filter(|(_, value)| !value.is_null() && !empty(value)).collect()
            }
            other => other.clone(),
        }
    }

    #[test]
    fn the_review_equals_the_recorded_one() {
        let question = Question {
            user: user(HPA),
            version: Version::V1beta2.name(),
            resource: (&values()).into(),
        };
        let file =
            "../../testbed/fixtures/kubernetes/aggregation/subject-access-review-allowed.json";
        let file = format!("{}/{file}", env!("CARGO_MANIFEST_DIR"));
        let recorded: Value =
            serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        let mut expected = recorded["request"]["body"].clone();
        expected["spec"]["resourceAttributes"]["subresource"] = json!("http_5xx_ratio");
        let posted = serde_json::to_value(review(&question)).unwrap();
        assert_eq!(said(&posted), expected);
    }
}
