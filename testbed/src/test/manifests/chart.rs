//! The Helm chart is the manifests with values: what it renders is compared with them, object by
//! object.
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xtask::process;

/// The manifests of the chart's defaults. Helm makes the namespace, and the patient is a demo.
const DEFAULT: [&str; 8] = [
    "05-crds.yaml",
    "10-rbac.yaml",
    "15-people.yaml",
    "20-fence.yaml",
    "30-agent.yaml",
    "50-metrics-api.yaml",
    "55-policy-fence.yaml",
    "60-policy.yaml",
];
const PATIENT: &str = "40-patient.yaml";
const NAMESPACE: &str = "paramedic-system";

/// The chart, and the program that renders it.
pub(super) struct Chart<'a> {
    pub(super) helm: &'a Path,
    pub(super) folder: &'a Path,
    pub(super) manifests: &'a Path,
    /// For what is rendered.
    pub(super) out: &'a Path,
}

/// Objects by kind, namespace and name.
type Objects = BTreeMap<String, Value>;

impl Chart<'_> {
    /// Checks it; returns what it renders, to be held against the API's schemas. `overlays` holds the
    /// rendered overlay of each name.
    pub(super) fn check(&self, overlays: &BTreeMap<String, PathBuf>) -> Result<Vec<PathBuf>> {
        process::run("helm lint", self.helm().args(["lint", "--strict"]).arg(self.folder))?;
        let mut files = Vec::new();
        let mut default = Objects::new();
        for file in DEFAULT {
            default.extend(objects(&self.manifests.join(file))?);
        }
        same("the defaults", &default, &self.objects("default", &[], &mut files)?)?;
        let mut all = default.clone();
        all.extend(objects(&self.manifests.join(PATIENT))?);
        same("patient", &all, &self.objects("patient", &["patient.enabled=true"], &mut files)?)?;
        for (name, file) in overlays {
            let value = if name == "dry-run" { "dryRun=true" } else { &format!("{name}=true") };
            let mut overlay = objects(file)?;
            overlay.retain(|name, _| default.contains_key(name));
            same(name, &overlay, &self.objects(name, &[value], &mut files)?)?;
        }
        self.values_take_effect(&default, &mut files)?;
        Ok(files)
    }

    fn values_take_effect(&self, default: &Objects, files: &mut Vec<PathBuf>) -> Result<()> {
        let digest = format!("sha256:{}", "0".repeat(64));
        let image = format!("agent.image.digest={digest}");
        let values = [
            &image,
            "agent.extraArgs={--max-remedy,soft}",
            "agent.resources.limits.memory=256Mi",
            "agent.nodeSelector.pool=a",
            "metricsApi.enabled=false",
            "policy.replicas=1",
            "fence.enabled=false",
            "imagePullSecrets[0].name=registry",
            "dashboard.enabled=true",
        ];
        let changed = self.objects("values", &values, files)?;
        let agent = &changed[&format!("DaemonSet {NAMESPACE}/paramedic-agent")];
        let pod = &agent["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let expected = format!("docker.io/paramedic/agent@{digest}");
        ensure!(container["image"] == expected, "image: {}", container["image"]);
        let arguments = serde_json::json!(["agent", "--max-remedy", "soft"]);
        ensure!(container["args"] == arguments, "args: {}", container["args"]);
        ensure!(container["resources"]["limits"]["memory"] == "256Mi", "no limit");
        ensure!(pod["nodeSelector"]["pool"] == "a", "nodeSelector: {}", pod["nodeSelector"]);
        ensure!(pod["imagePullSecrets"][0]["name"] == "registry", "no imagePullSecrets");
        let gone = |name: &&String| !changed.contains_key(*name);
        let without: Vec<&String> = default.keys().filter(gone).collect();
        let named = |name: &&&String| name.contains("metrics-api") || name.contains("Admission");
        ensure!(without.iter().all(|name| named(&name)), "also gone: {without:?}");
        ensure!(without.len() > 9, "only these are gone: {without:?}");
        let kept = format!("NetworkPolicy {NAMESPACE}/paramedic-agent");
        ensure!(changed.contains_key(&kept), "the agents' NetworkPolicy is gone");

        let replicas =
            &changed[&format!("Deployment {NAMESPACE}/paramedic-policy")]["spec"]["replicas"];
        ensure!(*replicas == 1, "replicas of the policy controller: {replicas}");
        let without = self.objects("no-policy", &["policy.enabled=false"], files)?;
        let gone: Vec<&String> =
            default.keys().filter(|name| !without.contains_key(*name)).collect();
        let named =
            |name: &&&String| name.contains("paramedic-policy") || name.contains("healingpolicies");
        ensure!(gone.iter().all(|name| named(&name)), "also gone: {gone:?}");
        ensure!(without.len() + gone.len() == default.len() && gone.len() > 10, "only {gone:?}");

        // No API server's schema knows the kinds of the Prometheus operator.
        let monitored = ["podMonitor.enabled=true", "prometheusRule.enabled=true"];
        let monitored = self.objects("monitored", &monitored, &mut Vec::new())?;
        let rules = &monitored[&format!("PrometheusRule {NAMESPACE}/paramedic")]["spec"];
        let file = self.manifests.join("observability/rules.yaml");
        let text = fs::read_to_string(&file)?;
        let written: Value = serde_saphyr::from_str(&text).context("the alerts")?;
        ensure!(*rules == written, "the PrometheusRule is not observability/rules.yaml");
        ensure!(monitored.contains_key(&format!("PodMonitor {NAMESPACE}/paramedic-agent")));

        let elsewhere = self.render("other", &[])?;
        ensure!(!elsewhere.contains(NAMESPACE), "another namespace is not taken everywhere");
        let typo = self.render(NAMESPACE, &["agent.imagee=x"]);
        let refused = typo.err().context("a value that the chart does not know was taken")?;
        ensure!(format!("{refused:#}").contains("imagee"), "{refused:#}");
        Ok(())
    }

    fn helm(&self) -> Command {
        let mut helm = Command::new(self.helm);
        // Nothing of the user's: no plugins, no repositories.
        let home = self.out.join("helm-home");
        for kind in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            helm.env(kind, &home);
        }
        helm
    }

    fn render(&self, namespace: &str, values: &[&str]) -> Result<String> {
        let mut helm = self.helm();
        helm.args(["template", "paramedic", "--namespace", namespace]).arg(self.folder);
        for value in values {
            helm.args(["--set", value]);
        }
        process::capture(&mut helm)
    }

    fn objects(&self, name: &str, values: &[&str], files: &mut Vec<PathBuf>) -> Result<Objects> {
        let file = self.out.join(format!("chart-{name}.yaml"));
        fs::write(&file, self.render(NAMESPACE, values)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        files.push(file.clone());
        objects(&file)
    }
}

fn objects(file: &Path) -> Result<Objects> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text)
        .with_context(|| format!("{} is no YAML", file.display()))?;
    let named = |object: Value| {
        let text = |place| object.pointer(place).and_then(Value::as_str).unwrap_or_default();
        let (kind, namespace) = (text("/kind"), text("/metadata/namespace"));
        (format!("{kind} {namespace}/{}", text("/metadata/name")), object)
    };
    Ok(objects.into_iter().filter(|object| !object.is_null()).map(named).collect())
}

fn same(what: &str, expected: &Objects, rendered: &Objects) -> Result<()> {
    let names = |objects: &Objects| objects.keys().cloned().collect::<Vec<_>>();
    ensure!(
        names(expected) == names(rendered),
        "{what}: the chart renders {:?} instead of {:?}",
        names(rendered),
        names(expected)
    );
    for (name, object) in expected {
        let other = &rendered[name];
        ensure!(object == other, "{what}: {name} differs:\n{object:#}\nin the chart:\n{other:#}");
    }
    Ok(())
}
