//! Parses the path and query of a request into [`Asked`], or into a refusal that lists what exists.
use std::str::Utf8Error;

use hyper::Uri;
use paramedic_api_server::{Kind, Workload};
use paramedic_pod_metrics::Metric;
use percent_encoding::percent_decode_str;

use super::{
    FORECAST, GROUP, Version,
    selector::{self, Selector},
};

/// A parsed request.
#[derive(Debug)]
pub enum Asked {
    /// `/apis`: all groups, one of them ours.
    Groups,
    /// `/apis/custom.metrics.k8s.io`.
    Group,
    /// `/apis/custom.metrics.k8s.io/v1beta2`.
    Resources(Version),
    /// `/openapi/v2`.
    OpenApiV2,
    /// `/openapi/v3`.
    OpenApiV3,
    /// `/openapi/v3/apis/custom.metrics.k8s.io/v1beta2`.
    OpenApiV3Of(Version),
    /// A query for values.
    Values(Version, Box<Values>),
    /// A query for the forecast of a workload.
    Forecast(Version, Box<Forecast>),
}

/// A query for the values of one metric, for pods of one namespace.
#[derive(Debug)]
pub struct Values {
    /// The namespace of the pods.
    pub namespace: String,
    /// Which of its pods.
    pub pods: Pods,
    /// The metric.
    pub metric: Metric,
    /// Selector on the metric's own series, which have no labels.
    pub of_series: Selector,
}

/// A query for the load that is expected of one workload.
#[derive(Debug)]
pub struct Forecast {
    /// The namespace of the workload.
    pub namespace: String,
    /// The workload.
    pub workload: Workload,
    /// Selector on the metric's own series, which have no labels.
    pub of_series: Selector,
}

/// The selected pods.
#[derive(Debug)]
pub enum Pods {
    /// `*`, narrowed by a label selector.
    Selected(Selector),
    /// One pod by name.
    Named(String),
}

/// Why a request has no result.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Nothing {
    /// No such path.
    #[error("the server could not find the requested resource")]
    NoSuchPath,
    /// A metric of something that has none, or another.
    #[error(
        "the server could not find the metric {asked} for {resource}: Paramedic has metrics of \
         pods: {known}; and {FORECAST} of deployments.apps and statefulsets.apps", known = known()
    )]
    NotOfPods {
        /// What it would be a metric of.
        resource: String,
        /// The metric.
        asked: String,
    },
    /// A metric that no agent measures.
    #[error("the server could not find the metric {0} for pods: Paramedic knows {known}", known = known())]
    UnknownMetric(String),
    /// A selector that cannot be parsed.
    #[error("{0}")]
    BadSelector(#[from] selector::Malformed),
    /// Percent-encoded bytes that are not text.
    #[error("the path is not UTF-8: {0}")]
    NotText(#[from] Utf8Error),
}

/// The names of all metrics.
fn known() -> String {
    Metric::ALL.map(Metric::name).join(", ")
}

impl Asked {
    /// Parses the target of a request.
    ///
    /// # Errors
    /// If nothing is there.
    pub fn parse(uri: &Uri) -> Result<Self, Nothing> {
        // Each part is decoded separately: an encoded slash within a name does not separate.
        let path = uri.path().strip_prefix('/').ok_or(Nothing::NoSuchPath)?;
        let parts = path.split('/').map(decode).collect::<Result<Vec<_>, _>>()?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let version = |name| Version::from_name(name).ok_or(Nothing::NoSuchPath);
        match parts.as_slice() {
            ["apis"] => Ok(Self::Groups),
            ["apis", GROUP] => Ok(Self::Group),
            ["apis", GROUP, name] => Ok(Self::Resources(version(name)?)),
            ["openapi", "v2"] => Ok(Self::OpenApiV2),
            ["openapi", "v3"] => Ok(Self::OpenApiV3),
            ["openapi", "v3", "apis", GROUP, name] => Ok(Self::OpenApiV3Of(version(name)?)),
            ["apis", GROUP, name, "namespaces", namespace, "pods", pods, metric] => {
                let values = Values::parse(namespace, pods, metric, uri.query().unwrap_or(""))?;
                Ok(Self::Values(version(name)?, Box::new(values)))
            }
            ["apis", GROUP, name, "namespaces", namespace, resource, of, FORECAST]
                if let Some(kind) = Kind::from_resource(resource)
                    && !namespace.is_empty()
                    && !of.is_empty() =>
            {
                let [_, of_series] = selectors(uri.query().unwrap_or(""))?;
                let workload = Workload { kind, name: (*of).to_owned() };
                let forecast = Forecast { namespace: (*namespace).to_owned(), workload, of_series };
                Ok(Self::Forecast(version(name)?, Box::new(forecast)))
            }
            // `/namespaces/NAME/metrics/METRIC` asks for a namespace, and `/nodes/NAME/METRIC` for
            // an object without a namespace.
            ["apis", GROUP, name, "namespaces", _, resource, _, metric]
            | ["apis", GROUP, name, "namespaces", _, resource @ "metrics", metric]
            | ["apis", GROUP, name, resource, _, metric] => {
                version(name)?;
                let (resource, asked) = ((*resource).to_owned(), (*metric).to_owned());
                Err(Nothing::NotOfPods { resource, asked })
            }
            _ => Err(Nothing::NoSuchPath),
        }
    }
}

impl Values {
    fn parse(namespace: &str, pods: &str, metric: &str, query: &str) -> Result<Self, Nothing> {
        if namespace.is_empty() || pods.is_empty() {
            return Err(Nothing::NoSuchPath);
        }
        let metric =
            Metric::from_name(metric).ok_or_else(|| Nothing::UnknownMetric(metric.to_owned()))?;
        let [of_pods, of_series] = selectors(query)?;
        let pods = match pods {
            "*" => Pods::Selected(of_pods),
            name => Pods::Named(name.to_owned()),
        };
        Ok(Self { namespace: namespace.to_owned(), pods, metric, of_series })
    }
}

/// The selectors of a query: on objects, and on series.
fn selectors(query: &str) -> Result<[Selector; 2], Nothing> {
    let (mut of_objects, mut of_series) = (Selector::default(), Selector::default());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match decode(key)?.as_str() {
            "labelSelector" => of_objects = selector::parse(&form(value)?)?,
            "metricLabelSelector" => of_series = selector::parse(&form(value)?)?,
            // Ignores `timeout` and unknown parameters: they do not change the result.
            _ => {}
        }
    }
    Ok([of_objects, of_series])
}

fn decode(text: &str) -> Result<String, Utf8Error> {
    Ok(percent_decode_str(text).decode_utf8()?.into_owned())
}

/// In a query, a plus is a space.
fn form(text: &str) -> Result<String, Utf8Error> {
    decode(&text.replace('+', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(target: &str) -> Result<Asked, Nothing> {
        Asked::parse(&target.parse().unwrap())
    }

    const PODS: &str = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/pods";

    #[test]
    fn a_percent_encoded_star_selects_pods() {
        for star in ["*", "%2A", "%2a"] {
            let asked =
                parse(&format!("{PODS}/{star}/http_5xx_ratio?labelSelector=app%3Da%2Ctier%21%3Db"));
            let Ok(Asked::Values(Version::V1beta2, values)) = asked else { panic!("{asked:?}") };
            assert_eq!(
                (values.namespace.as_str(), values.metric),
                ("default", Metric::Http5xxRatio)
            );
            let Pods::Selected(selector) = values.pods else { panic!("named") };
            let terms: Vec<String> = selector.into_iter().map(|term| term.to_string()).collect();
            assert_eq!(terms, ["app=a", "tier!=b"]);
        }
    }

    #[test]
    fn a_pod_is_asked_for_by_name() {
        let asked = parse(&format!("{PODS}/web-0/unhealthy_probability"));
        let Ok(Asked::Values(_, values)) = asked else { panic!("{asked:?}") };
        assert!(matches!(values.pods, Pods::Named(name) if name == "web-0"));
    }

    #[test]
    fn an_unknown_metric_or_resource_lists_the_known_metrics() {
        let unknown = parse(&format!("{PODS}/%2A/cpu")).unwrap_err().to_string();
        assert!(unknown.contains("http_requests_per_second, http_5xx_ratio"), "{unknown}");
        let base = "/apis/custom.metrics.k8s.io/v1beta2";
        for path in ["namespaces/a/services/b/m", "namespaces/a/metrics/m", "nodes/b/m"] {
            let asked = parse(&format!("{base}/{path}"));
            assert!(matches!(asked, Err(Nothing::NotOfPods { .. })), "{path}: {asked:?}");
        }
    }

    #[test]
    fn other_paths_are_not_found() {
        for path in [
            "/",
            "//",
            "/apis/",
            "/apis/custom.metrics.k8s.io/v1",
            "/apis/custom.metrics.k8s.io/v1/namespaces/a/pods/b/http_5xx_ratio",
            "/apis/apps/v1",
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/pods//http_5xx_ratio",
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces//pods/%2A/http_5xx_ratio",
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/a%2Fpods/b/http_5xx_ratio/c/d/e",
            "/openapi/v3/apis/apps/v1",
            "/../etc/passwd",
        ] {
            assert!(matches!(parse(path), Err(Nothing::NoSuchPath)), "{path}");
        }
        assert!(matches!(parse(&format!("{PODS}/%ff/m")), Err(Nothing::NotText(_))));
        let bad = parse(&format!("{PODS}/%2A/http_5xx_ratio?labelSelector=%3D"));
        assert!(matches!(bad, Err(Nothing::BadSelector(_))));
    }

    /// Every path gets an answer.
    #[test]
    fn no_path_causes_a_panic() {
        let pieces = [
            "/",
            "%",
            "%2",
            "%2A",
            "*",
            "?",
            "&",
            "=",
            "+",
            "apis",
            "custom.metrics.k8s.io",
            "v1beta2",
            "namespaces",
            "pods",
            "http_5xx_ratio",
            "labelSelector",
            "(",
            ",",
            "!",
            "in",
            "%00",
            "%C3",
            "..",
            "a",
        ];
        let mut random = fastrand::Rng::with_seed(7);
        let mut understood = 0;
        for _ in 0..100_000 {
            let mut target = String::from("/");
            for _ in 0..random.usize(0..14) {
                target.push_str(pieces[random.usize(0..pieces.len())]);
            }
            if let Ok(uri) = target.parse() {
                understood += usize::from(Asked::parse(&uri).is_ok());
            }
        }
        assert!(understood > 0);
    }
}
