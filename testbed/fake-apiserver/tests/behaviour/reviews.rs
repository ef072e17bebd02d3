use std::collections::BTreeMap;

use fake_apiserver::{FakeApi, Identity, Rule};
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus},
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, api::PostParams};
use serde_json::{Value, json};

use crate::behaviour::{ask, ask_as};

const TOKENS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const ACCESS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
const AGENT: &str = "system:serviceaccount:paramedic:agent";
const NODE: &str = "authentication.kubernetes.io/node-name";

async fn whose(fake: &FakeApi, token: &str, audiences: &[&str]) -> TokenReviewStatus {
    let spec = TokenReviewSpec {
        token: token.to_owned(),
        audiences: Some(audiences.iter().map(|&a| a.to_owned()).collect()),
    };
    let review = TokenReview { spec, ..TokenReview::default() };
    let reviews = Api::<TokenReview>::all(fake.client("api"));
    reviews.create(&PostParams::default(), &review).await.unwrap().status.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_token_is_known_to_its_audience() {
    let fake = FakeApi::new();
    fake.known_token(
        "secret",
        "paramedic-metrics",
        AGENT,
        &[(NODE, "node1"), ("x", "1"), ("x", "2")],
    );
    let status = whose(&fake, "secret", &["other", "paramedic-metrics"]).await;
    assert_eq!(status.authenticated, Some(true));
    assert_eq!(status.audiences, Some(vec!["paramedic-metrics".to_owned()]));
    let user = status.user.unwrap();
    assert_eq!(user.username.as_deref(), Some(AGENT));
    assert_eq!(user.uid.map(|uid| uid.len()), Some(36));
    let groups =
        ["system:serviceaccounts", "system:serviceaccounts:paramedic", "system:authenticated"];
    assert_eq!(user.groups.unwrap(), groups);
    let expected = [(NODE, vec!["node1"]), ("x", vec!["1", "2"])];
    let expected: BTreeMap<String, Vec<String>> = expected
        .into_iter()
        .map(|(key, all)| (key.to_owned(), all.into_iter().map(str::to_owned).collect()))
        .collect();
    assert_eq!(user.extra.unwrap(), expected);

    let wrong = whose(&fake, "secret", &["other"]).await;
    assert_eq!((wrong.authenticated, wrong.audiences), (None, None));
    assert_eq!(
        wrong.error.unwrap(),
        "[invalid bearer token, token audiences [\"paramedic-metrics\"] is invalid for the \
         target audiences [\"other\"]]"
    );
    let unknown = whose(&fake, "nonsense", &["paramedic-metrics"]).await;
    assert_eq!(unknown.authenticated, None);
    assert_eq!(unknown.error.as_deref(), Some("invalid bearer token"));
    assert_eq!(unknown.user.unwrap().username, None);
    fake.revoke("secret");
    assert_eq!(whose(&fake, "secret", &["paramedic-metrics"]).await.authenticated, None);
}

#[tokio::test(start_paused = true)]
async fn a_token_for_the_server_is_known_to_it_alone() {
    let fake = FakeApi::new();
    fake.identity("own", Identity::service_account("paramedic", "agent").on_node("node1"));
    let status = whose(&fake, "own", &[]).await;
    assert_eq!(status.user.as_ref().unwrap().username.as_deref(), Some(AGENT));
    assert_eq!(status.user.unwrap().extra.unwrap()[NODE], ["node1"]);
    assert_eq!(whose(&fake, "own", &["paramedic-metrics"]).await.authenticated, None);
    // And the other way round: a token for another audience does not open the server. (A client in
    // the process would register it.)
    fake.known_token("other", "paramedic-metrics", AGENT, &[]);
    let client = fake.client("other");
    fake.revoke("other");
    fake.known_token("other", "paramedic-metrics", AGENT, &[]);
    assert!(client.apiserver_version().await.is_err());
    assert_eq!(whose(&fake, "other", &["paramedic-metrics"]).await.authenticated, Some(true));
}

async fn may(fake: &FakeApi, user: &str, groups: &[&str], attributes: ResourceAttributes) -> bool {
    let spec = SubjectAccessReviewSpec {
        user: (!user.is_empty()).then(|| user.to_owned()),
        groups: Some(groups.iter().map(|&group| group.to_owned()).collect()),
        resource_attributes: Some(attributes),
        ..SubjectAccessReviewSpec::default()
    };
    let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    let reviews = Api::<SubjectAccessReview>::all(fake.client("api"));
    reviews.create(&PostParams::default(), &review).await.unwrap().status.unwrap().allowed
}

fn get_metric(namespace: &str, metric: &str) -> ResourceAttributes {
    let owned = |text: &str| Some(text.to_owned());
    ResourceAttributes {
        group: owned("custom.metrics.k8s.io"),
        version: owned("v1beta2"),
        resource: owned("pods"),
        subresource: owned(metric),
        verb: owned("get"),
        namespace: owned(namespace),
        name: owned("*"),
        ..ResourceAttributes::default()
    }
}

#[tokio::test(start_paused = true)]
async fn access_is_what_was_granted() {
    let fake = FakeApi::new();
    let rule = |metric| Rule::new("custom.metrics.k8s.io", &[metric], &["get"]);
    fake.grant("ann", rule("pods/rps").in_namespace("a"));
    fake.grant("readers", rule("pods/rps"));
    fake.identity("bob", Identity::new("bob").may([rule("*")]));
    fake.identity("root", Identity::new("root"));
    for (user, groups, namespace, metric, allowed) in [
        ("ann", vec![], "a", "rps", true),
        ("ann", vec![], "b", "rps", false),
        ("ann", vec![], "a", "other", false),
        ("ann", vec!["readers"], "b", "rps", true),
        ("", vec!["readers"], "b", "rps", true),
        ("eve", vec!["system:authenticated"], "a", "rps", false),
        ("eve", vec!["system:masters"], "a", "rps", true),
        ("bob", vec![], "b", "other", true),
        ("root", vec![], "b", "other", true),
    ] {
        let got = may(&fake, user, &groups, get_metric(namespace, metric)).await;
        assert_eq!(got, allowed, "{user} {groups:?} {namespace} {metric}");
    }
    let list = ResourceAttributes { verb: Some("list".to_owned()), ..get_metric("a", "rps") };
    assert!(!may(&fake, "ann", &[], list).await);
    fake.forget_grants("ann");
    assert!(!may(&fake, "ann", &[], get_metric("a", "rps")).await);
    let reviews = |r: &fake_apiserver::Logged| r.resource == "subjectaccessreviews";
    assert_eq!(fake.requests().iter().filter(|r| reviews(r)).count(), 11);
}

#[tokio::test(start_paused = true)]
async fn reviews_are_refused_to_those_without_the_right_and_to_nonsense() {
    let fake = FakeApi::new();
    let rule = Rule::new("authentication.k8s.io", &["tokenreviews"], &["create"]);
    fake.identity("api", Identity::new("api").may([rule]));
    let token = json!({"spec": {"token": "x"}});
    let (status, body) = ask_as(&fake, "api", "POST", TOKENS, token.clone()).await;
    assert_eq!((status, &body["status"]["error"]), (201, &json!("invalid bearer token")));
    assert_eq!(body["spec"], token["spec"]);
    let access = json!({"spec": {"user": "a", "resourceAttributes": {"verb": "get"}}});
    let (status, body) = ask_as(&fake, "api", "POST", ACCESS, access.clone()).await;
    assert_eq!(status, 403);
    assert!(body["message"].as_str().unwrap().contains("cannot create"), "{body}");

    for (method, path, body, status) in [
        ("POST", ACCESS, access, 201),
        ("GET", TOKENS, Value::Null, 405),
        ("POST", "/apis/authentication.k8s.io/v1beta1/tokenreviews", token, 404),
        ("POST", TOKENS, json!({}), 400),
        ("POST", TOKENS, json!([]), 400),
        ("POST", TOKENS, json!({"spec": {"token": 5}}), 400),
        ("POST", TOKENS, json!({"kind": "Pod", "spec": {"token": "x"}}), 400),
        ("POST", ACCESS, json!({"spec": {"user": "a"}}), 422),
        ("POST", ACCESS, json!({"spec": {"user": "a", "resourceAttributes": {}}}), 201),
        ("POST", ACCESS, json!({"spec": {"resourceAttributes": {"verb": "get"}}}), 422),
        (
            "POST",
            ACCESS,
            json!({"metadata": {"name": "x"},
                "spec": {"user": "a", "resourceAttributes": {"verb": "get"}}}),
            422,
        ),
        (
            "POST",
            ACCESS,
            json!({"spec": {"user": "a", "resourceAttributes": {"verb": "get"},
                "nonResourceAttributes": {"path": "/", "verb": "get"}}}),
            422,
        ),
    ] {
        let (got, answer) = ask(&fake, method, path, body.clone()).await;
        assert_eq!(got, status, "{method} {path} {body}: {answer}");
    }
}
