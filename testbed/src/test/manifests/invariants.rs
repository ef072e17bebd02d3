//! What must agree across the manifests, and with the rest of the repository.
use serde_json::{Value, json};

use super::*;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests")
}

fn objects_in(file: &Path) -> Vec<Value> {
    serde_saphyr::from_multiple(&fs::read_to_string(file).unwrap()).unwrap()
}

/// Every object of the base, in the order in which kubectl applies them.
fn base() -> Vec<Value> {
    yaml_files(&folder()).unwrap().iter().flat_map(|file| objects_in(file)).collect()
}

fn of_kind(kind: &str) -> Vec<Value> {
    base().into_iter().filter(|object| object["kind"] == kind).collect()
}

fn only(kind: &str) -> Value {
    let mut found = of_kind(kind);
    assert_eq!(found.len(), 1, "{kind}");
    found.remove(0)
}

/// The one of this kind and name.
fn named(kind: &str, name: &str) -> Value {
    let mut found = of_kind(kind);
    found.retain(|object| object["metadata"]["name"] == name);
    assert_eq!(found.len(), 1, "{kind} {name}");
    found.remove(0)
}

fn patient() -> Value {
    named("Deployment", "patient-app")
}

fn metrics_api() -> Value {
    named("Deployment", "paramedic-metrics-api")
}

fn policy() -> Value {
    named("Deployment", "paramedic-policy")
}

/// Agent, patient, metrics API and policy controller.
fn workloads() -> Vec<Value> {
    vec![only("DaemonSet"), patient(), metrics_api(), policy()]
}

fn container(workload: &Value) -> &Value {
    let containers = workload["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1);
    &containers[0]
}

fn overlays() -> Vec<PathBuf> {
    list(&folder().join("overlays")).unwrap()
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn the_folder_applies_as_it_is() {
    for path in list(&folder()).unwrap() {
        let yaml = path.extension().is_some_and(|end| end == "yaml");
        assert!(yaml || path.is_dir(), "{}", path.display());
        assert_ne!(path.file_stem().unwrap(), "kustomization");
    }
    assert_eq!(base()[0], only("Namespace"));
}

#[test]
fn everything_is_placed_and_labelled() {
    let cluster_wide = [
        "Namespace",
        "ClusterRole",
        "ClusterRoleBinding",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "CustomResourceDefinition",
    ];
    let namespace = only("Namespace");
    for object in base() {
        let placed = &object["metadata"]["namespace"];
        let kind = object["kind"].as_str().unwrap();
        let at_home = [&json!("default"), &namespace["metadata"]["name"]].contains(&placed);
        // Bindings of Kubernetes' own roles are listed separately.
        let beside_its_role = kind == "RoleBinding" && *placed == "kube-system";
        assert_ne!(at_home || beside_its_role, cluster_wide.contains(&kind), "{kind}");
        let labels = &object["metadata"]["labels"];
        assert_eq!(labels["app.kubernetes.io/part-of"], "paramedic", "{kind}");
    }
}

#[test]
fn hostpid_is_permitted_in_its_namespace() {
    let namespace = only("Namespace");
    let labels = &namespace["metadata"]["labels"];
    for mode in ["enforce", "audit", "warn"] {
        assert_eq!(labels[format!("pod-security.kubernetes.io/{mode}")], "privileged");
    }
}

#[test]
fn images_are_those_that_are_built_here() {
    for (workload, image) in workloads().iter().zip(["agent", "patient", "metrics-api", "policy"]) {
        let container = container(workload);
        assert_eq!(container["image"], format!("docker.io/paramedic/{image}:{VERSION}"));
        assert_eq!(container["imagePullPolicy"], "IfNotPresent");
        for labels in [&workload["metadata"], &workload["spec"]["template"]["metadata"]] {
            assert_eq!(labels["labels"]["app.kubernetes.io/version"], VERSION);
        }
    }
}

/// Whether a selector of labels meets the pods of a workload.
fn meets(selector: &Value, workload: &Value) -> bool {
    let labels = &workload["spec"]["template"]["metadata"]["labels"];
    let selector = selector.as_object().unwrap();
    !selector.is_empty() && selector.iter().all(|(name, value)| labels[name] == *value)
}

#[test]
fn selectors_meet_their_pods_and_no_others() {
    for workload in workloads() {
        let own = workload["metadata"]["name"].clone();
        let selector = &workload["spec"]["selector"]["matchLabels"];
        for other in workloads() {
            assert_eq!(meets(selector, &other), other["metadata"]["name"] == own);
        }
    }
    let target = |object: &Value, selector: &str| {
        let met = workloads().into_iter().filter(|w| meets(object.pointer(selector).unwrap(), w));
        met.map(|workload| workload["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let names = |objects: Vec<Value>, selector: &str| -> Vec<(String, Vec<String>)> {
        let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
        objects.iter().map(|object| (name(object), target(object, selector))).collect()
    };
    let pair = |a: &str, b: &str| (a.to_owned(), vec![b.to_owned()]);
    let (agent, api, policy) = ("paramedic-agent", "paramedic-metrics-api", "paramedic-policy");
    assert_eq!(
        names(of_kind("Service"), "/spec/selector"),
        [pair("patient-app-service", "patient-app"), pair(agent, agent), pair(api, api)]
    );
    assert_eq!(
        names(of_kind("PodDisruptionBudget"), "/spec/selector/matchLabels"),
        [pair("patient-app", "patient-app"), pair(api, api), pair(policy, policy)]
    );
    assert_eq!(
        names(of_kind("NetworkPolicy"), "/spec/podSelector/matchLabels"),
        [pair(agent, agent), pair(api, api), pair(policy, policy)]
    );
}

#[test]
fn services_lead_to_ports_that_are_there() {
    for service in of_kind("Service") {
        let selector = &service["spec"]["selector"];
        let workload = workloads().into_iter().find(|w| meets(selector, w)).unwrap();
        let ports = container(&workload)["ports"].as_array().unwrap().clone();
        let wanted = &service["spec"]["ports"][0]["targetPort"];
        assert!(ports.iter().any(|port| port["name"] == *wanted), "{wanted}");
    }
}

/// The names in the metrics API's flags and defaults must be those of the manifests.
#[test]
fn the_metrics_api_finds_what_it_looks_for() {
    let (api, agent) = (metrics_api(), only("DaemonSet"));
    let name = &api["metadata"]["name"];
    for kind in ["Service", "ClusterRole", "Role", "ServiceAccount"] {
        named(kind, name.as_str().unwrap());
    }
    let role = named("Role", name.as_str().unwrap());
    for rule in role["rules"].as_array().unwrap() {
        if rule["resourceNames"] != Value::Null {
            // Those of the forecasts end in a digit.
            let history = format!("{}-forecast-", name.as_str().unwrap());
            for object in strings(&rule["resourceNames"]) {
                let digit = object.strip_prefix(&history).filter(|digit| digit.len() == 1);
                assert!(object == name || digit.is_some(), "{rule}");
            }
        }
    }
    let service = named("Service", "paramedic-agent");
    assert_eq!(
        service["spec"]["ports"][0]["name"], "readings",
        "the agents' port is found by this name"
    );
    let volumes = agent["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
    let readings = volumes.iter().find(|volume| volume["name"] == "readings").unwrap();
    let sources = &readings["projected"]["sources"];
    assert_eq!(sources[0]["serviceAccountToken"]["audience"], "paramedic-metrics-api");
    assert_eq!(sources[1]["configMap"]["name"], *name);
    assert_eq!(sources[1]["configMap"]["optional"], true, "or no agent starts without it");
}

/// An applied APIService would take the group away from another adapter.
#[test]
fn no_manifest_has_an_apiservice() {
    assert!(of_kind("APIService").is_empty());
}

#[test]
fn the_hpa_is_of_the_patient_and_knows_its_metrics() {
    let hpa = only("HorizontalPodAutoscaler");
    assert_eq!(hpa["spec"]["scaleTargetRef"]["name"], patient()["metadata"]["name"]);
    let metrics = hpa["spec"]["metrics"].as_array().unwrap();
    let pods: Vec<_> = metrics.iter().filter(|metric| metric["type"] == "Pods").collect();
    assert_eq!(pods.len(), 1);
    assert_eq!(pods[0]["pods"]["metric"]["name"], "http_requests_per_second");
    assert_eq!(pods[0]["pods"]["target"]["averageValue"], "50");
}

#[test]
fn no_role_has_more_rights_than_needed() {
    for workload in workloads() {
        let pod = &workload["spec"]["template"]["spec"];
        for given in ["hostNetwork", "hostIPC"] {
            assert_eq!(pod[given], Value::Null, "{given}");
        }
        let rights = &container(&workload)["securityContext"];
        assert_eq!(rights["privileged"], Value::Null);
        assert_eq!(rights["allowPrivilegeEscalation"], false);
        assert_eq!(rights["readOnlyRootFilesystem"], true);
        assert_eq!(strings(&rights["capabilities"]["drop"]), ["ALL"]);
        let profiles = [rights, &pod["securityContext"]].map(|of| &of["seccompProfile"]["type"]);
        assert!(profiles.contains(&&json!("RuntimeDefault")));
        for (kind, of) in [("requests", ["cpu", "memory"]), ("limits", ["cpu", "memory"])] {
            for what in of {
                assert!(container(&workload)["resources"][kind][what].is_string(), "{kind} {what}");
            }
        }
    }
    for workload in [metrics_api(), policy()] {
        let pod = &workload["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["hostPID"], Value::Null);
    }
    let patient = &patient()["spec"]["template"]["spec"];
    assert_eq!(patient["securityContext"]["runAsNonRoot"], true);
    assert_eq!(patient["hostPID"], Value::Null);
    assert_eq!(patient["automountServiceAccountToken"], false);
}

#[test]
fn nothing_of_the_node_but_the_journal_can_be_written() {
    let agent = only("DaemonSet");
    let pod = &agent["spec"]["template"]["spec"];
    let writable = container(&agent)["volumeMounts"].as_array().unwrap().iter();
    let writable = writable.filter(|mount| mount["readOnly"] != true).collect::<Vec<_>>();
    assert_eq!(writable.len(), 1);
    let volumes = pod["volumes"].as_array().unwrap();
    let volume = volumes.iter().find(|volume| volume["name"] == writable[0]["name"]).unwrap();
    assert_eq!(volume["hostPath"]["path"], "/var/lib/paramedic");
}

#[test]
fn roles_are_bound_to_their_own_account_and_grant_no_wildcard() {
    for (workload, deletable) in [
        (only("DaemonSet"), &[][..]),
        // Its own registration, by name.
        (metrics_api(), &["v1beta1.custom.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io"]),
        (policy(), &[][..]),
    ] {
        let name = workload["metadata"]["name"].as_str().unwrap();
        assert_eq!(workload["spec"]["template"]["spec"]["serviceAccountName"], name);
        let account = named("ServiceAccount", name);
        for kind in ["ClusterRole", "Role"] {
            for rule in named(kind, name)["rules"].as_array().unwrap() {
                for key in ["apiGroups", "resources", "verbs"] {
                    assert!(!strings(&rule[key]).contains(&"*"), "{rule}");
                }
                if strings(&rule["verbs"]).iter().any(|verb| verb.starts_with("delete")) {
                    assert_eq!(strings(&rule["resourceNames"]), deletable, "{rule}");
                }
            }
        }
        for kind in ["ClusterRoleBinding", "RoleBinding"] {
            let mut bindings = of_kind(kind);
            bindings.retain(|binding| binding["metadata"]["name"] == name);
            assert!(!bindings.is_empty());
            for binding in bindings {
                let subjects = binding["subjects"].as_array().unwrap();
                assert_eq!(subjects.len(), 1);
                for key in ["name", "namespace"] {
                    assert_eq!(subjects[0][key], account["metadata"][key]);
                }
                let role = &binding["roleRef"];
                match binding["metadata"]["namespace"].as_str() {
                    Some("kube-system") => {
                        assert_eq!(role["name"], "extension-apiserver-authentication-reader");
                    }
                    _ => assert_eq!(role["name"], name),
                }
            }
        }
    }
}

#[test]
fn the_fence_stands_around_the_agents_account() {
    let account = &named("ServiceAccount", "paramedic-agent")["metadata"];
    let part = |key: &str| account[key].as_str().unwrap().to_owned();
    let user = format!("system:serviceaccount:{}:{}", part("namespace"), part("name"));
    let expression = format!("request.userInfo.username == '{user}'");
    let is_agents = |object: &Value| {
        object["metadata"]["name"].as_str().unwrap().starts_with("paramedic-agent-")
    };
    let all = |kind| of_kind(kind).into_iter().filter(is_agents).collect::<Vec<_>>();
    let policies = all("ValidatingAdmissionPolicy");
    let guarded = policies.iter().map(|policy| {
        strings(&policy["spec"]["matchConstraints"]["resourceRules"][0]["resources"]).concat()
    });
    assert_eq!(guarded.collect::<Vec<_>>(), ["pods/eviction", "pods", "pods/resize"]);
    for policy in &policies {
        let condition = &policy["spec"]["matchConditions"];
        assert_eq!(*condition, json!([{ "name": "only-the-agent", "expression": expression }]));
        assert_eq!(policy["spec"]["failurePolicy"], "Fail");
        let name = policy["metadata"]["name"].as_str().unwrap();
        let binding = named("ValidatingAdmissionPolicyBinding", name);
        assert_eq!(binding["spec"]["policyName"], name);
        assert_eq!(binding["spec"]["validationActions"], json!(["Deny"]));
        // Any narrower selector lets the pods that it leaves out pass.
        let all = match policy["spec"]["paramKind"].is_null() {
            true => Value::Null,
            false => json!({ "selector": {}, "parameterNotFoundAction": "Deny" }),
        };
        assert_eq!(binding["spec"]["paramRef"], all);
    }
    assert_eq!(all("ValidatingAdmissionPolicyBinding").len(), policies.len());
}

/// What the agent writes on pods must be what the fence lets through, and nothing wider.
#[test]
fn the_fence_names_the_labels_of_drains_and_quarantines() {
    let policy = named("ValidatingAdmissionPolicy", "paramedic-agent-pods");
    let rules = &policy["spec"]["matchConstraints"]["resourceRules"];
    let expected = json!([{
        "apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods"],
    }]);
    assert_eq!(*rules, expected);
    let text = policy.to_string();
    for key in ["serving", "drained-until", "quarantined", "give-up", "heal"] {
        assert!(text.contains(&format!("'paramedic.dev/{key}'")), "{key}");
    }
    assert!(text.contains("object.spec == oldObject.spec"));
    let role = named("ClusterRole", "paramedic-agent");
    let writes = role["rules"].as_array().unwrap().iter().filter(|rule| {
        strings(&rule["verbs"]).contains(&"patch") && strings(&rule["resources"]) == ["pods"]
    });
    assert_eq!(writes.count(), 1, "the fence is for this right");
}

#[test]
fn the_fence_of_policies_stands_around_the_controllers_account() {
    let name = "paramedic-policy-pods";
    let policy = &named("ValidatingAdmissionPolicy", name)["spec"];
    let binding = &named("ValidatingAdmissionPolicyBinding", name)["spec"];
    let account = &named("ServiceAccount", "paramedic-policy")["metadata"];
    let part = |key: &str| account[key].as_str().unwrap().to_owned();
    let user = format!("system:serviceaccount:{}:{}", part("namespace"), part("name"));
    let expression = format!("request.userInfo.username == '{user}'");
    let condition = json!([{ "name": "only-the-policy-controller", "expression": expression }]);
    assert_eq!(policy["matchConditions"], condition);
    assert_eq!(policy["failurePolicy"], "Fail");
    assert_eq!(
        strings(&policy["matchConstraints"]["resourceRules"][0]["resources"]),
        ["pods", "pods/*"]
    );
    assert_eq!(binding["policyName"], name);
    assert_eq!(binding["validationActions"], json!(["Deny"]));
    // Its rights over pods are what the fence narrows: no other write reaches any.
    for rule in named("ClusterRole", "paramedic-policy")["rules"].as_array().unwrap() {
        let writes = strings(&rule["verbs"]).iter().any(|verb| !["list", "watch"].contains(verb));
        let told = [json!(["pods"]), json!(["healingpolicies/status"])];
        assert!(!writes || told.contains(&rule["resources"]), "{rule}");
    }
}

/// The agents' fence and the agents know the cap by the same name.
#[test]
fn the_fence_knows_the_cap_of_a_namespace() {
    let policy = named("ValidatingAdmissionPolicy", "paramedic-agent-evictions");
    let variables = policy["spec"]["variables"].as_array().unwrap();
    let cap = variables.iter().find(|variable| variable["name"] == "cap").unwrap();
    let label = "?labels[?'paramedic.dev/heal-at-most'].orValue('evict')";
    assert_eq!(cap["expression"], format!("namespaceObject.metadata.{label}"));
    let validations = policy["spec"]["validations"].as_array().unwrap();
    let expected = json!("!variables.target || variables.cap in variables.suffices");
    assert!(validations.iter().any(|one| one["expression"] == expected));
}

#[test]
fn the_patient_is_as_the_demo_tells() {
    let patient = patient();
    assert_eq!(patient["spec"]["replicas"], 2);
    let labels = &patient["spec"]["template"]["metadata"]["labels"];
    assert_eq!(labels["paramedic.dev/heal"], "restart");
    let probe = |delay: u32, period: u32| {
        json!({ "httpGet": { "path": "/healthz", "port": 5000 }, "initialDelaySeconds": delay,
                "periodSeconds": period, "timeoutSeconds": 3, "failureThreshold": 3 })
    };
    assert_eq!(container(&patient)["livenessProbe"], probe(10, 10));
    assert_eq!(container(&patient)["readinessProbe"], probe(5, 5));
    assert_eq!(named("Service", "patient-app-service")["spec"]["ports"][0]["port"], 5000);
    let hpa = only("HorizontalPodAutoscaler");
    assert_eq!((&hpa["spec"]["minReplicas"], &hpa["spec"]["maxReplicas"]), (&json!(2), &json!(10)));
}

/// The words of a text that may be metrics' names.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
}

#[test]
fn the_way_through_prometheus_names_only_what_there_is() {
    let read = |file: &str| fs::read_to_string(folder().join(file)).unwrap();
    let yaml = |file: &str| objects_in(&folder().join("prometheus").join(file)).remove(0);
    let (exported, served) = (read("../docs/metrics.md"), read("../docs/autoscaling.md"));
    let rules = yaml("rules.yaml");
    let rules = rules["groups"][0]["rules"].as_array().unwrap();
    let mut recorded = Vec::new();
    for rule in rules {
        let (record, expression) = (rule["record"].as_str().unwrap(), &rule["expr"]);
        assert!(served.contains(&format!("\n| `{record}` |")), "{record} is not served");
        let named: Vec<&str> = words(expression.as_str().unwrap())
            .filter(|word| word.starts_with("paramedic_"))
            .collect();
        assert_eq!(named, [format!("paramedic_target_{record}")]);
        assert!(exported.contains(&format!("\n## {}\n", named[0])), "{} is not exported", named[0]);
        recorded.push(record);
    }
    assert_eq!(recorded.len(), 6);

    let adapter = &yaml("adapter.yaml")["rules"][0];
    let series = adapter["seriesQuery"].as_str().unwrap();
    let names = series.split('"').nth(1).unwrap();
    assert_eq!(names.split('|').collect::<Vec<_>>(), recorded);

    let query = yaml("keda.yaml")["spec"]["triggers"][0]["metadata"]["query"].clone();
    let query = query.as_str().unwrap();
    assert!(words(query).any(|word| recorded.contains(&word)), "{query}");

    let scrape = &yaml("scrape.yaml")[0];
    let kept = |rule: usize| scrape["relabel_configs"][rule]["regex"].as_str().unwrap();
    let agent = only("DaemonSet");
    let labels = &agent["spec"]["template"]["metadata"]["labels"];
    assert_eq!(labels["app.kubernetes.io/component"], kept(0));
    let ports = container(&agent)["ports"].as_array().unwrap();
    assert!(ports.iter().any(|port| port["name"] == kept(1)), "{ports:?}");
    let namespaces = &scrape["kubernetes_sd_configs"][0]["namespaces"]["names"];
    assert_eq!(*namespaces, json!([agent["metadata"]["namespace"]]));
}

#[test]
fn overlays_start_from_all_of_the_base() {
    let wanted = yaml_files(&folder()).unwrap();
    let wanted = wanted.iter().map(|file| file.file_name().unwrap().to_str().unwrap());
    let wanted = wanted.map(|name| format!("../../{name}")).collect::<Vec<_>>();
    assert!(!overlays().is_empty());
    for overlay in overlays() {
        let kustomization = &objects_in(&overlay.join("kustomization.yaml"))[0];
        assert_eq!(strings(&kustomization["resources"]), wanted, "{}", overlay.display());
        for patch in kustomization["patches"].as_array().unwrap() {
            let patch = &objects_in(&overlay.join(patch["path"].as_str().unwrap()))[0];
            let patched = base().iter().any(|object| {
                ["kind", "apiVersion"].iter().all(|key| object[key] == patch[key])
                    && object["metadata"]["name"] == patch["metadata"]["name"]
            });
            assert!(patched, "{patch}");
            // kustomize would add a container of another name.
            assert_eq!(container(patch)["name"], container(&only("DaemonSet"))["name"]);
        }
    }
}
