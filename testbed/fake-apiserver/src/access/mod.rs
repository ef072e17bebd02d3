//! Access: tokens, roles, and the fence around an agent's own node.
use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    FakeApi,
    api::{
        json as j,
        status::{About, Status},
    },
    requests::route::Route,
};

mod fence;
mod granted;
pub(crate) mod reviews;

pub use granted::granted_by;
use reviews::Known;

/// The label that carries a pod's consent.
const CONSENT: &str = "paramedic.dev/heal";
/// The label that caps the consent in a namespace.
pub(crate) const AT_MOST: &str = "paramedic.dev/heal-at-most";

/// The annotation that permits resizes.
const RESIZE: &str = "paramedic.dev/resize";

/// The user behind a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Such as `system:serviceaccount:kube-system:paramedic`.
    pub username: String,
    /// The node of the pod that the token is bound to.
    pub node: Option<String>,
    /// What it may do; everything, if `None`.
    pub rules: Option<Vec<Rule>>,
}

impl Identity {
    /// A user that may do everything.
    #[must_use]
    pub fn new(username: impl Into<String>) -> Self {
        Self { username: username.into(), node: None, rules: None }
    }

    /// A ServiceAccount that may do everything.
    #[must_use]
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self::new(format!("system:serviceaccount:{namespace}:{name}"))
    }

    /// With a token bound to a pod on `node`.
    #[must_use]
    pub fn on_node(mut self, node: impl Into<String>) -> Self {
        self.node = Some(node.into());
        self
    }

    /// That may do only this.
    #[must_use]
    pub fn may(mut self, rules: impl IntoIterator<Item = Rule>) -> Self {
        self.rules = Some(rules.into_iter().collect());
        self
    }

    /// Whether the request is granted, beside what every user may.
    pub(crate) fn check(&self, route: &Route, verb: &str) -> Result<(), Status> {
        let Some(rules) = &self.rules else { return Ok(()) };
        let asked = Attributes::of(route, verb);
        if rules.iter().any(|rule| rule.grants(&asked)) {
            return Ok(());
        }
        let Route { group, resource, subresource, namespace, name, .. } = route;
        let slash = if subresource.is_empty() { "" } else { "/" };
        let place = if namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace \"{namespace}\"")
        };
        let why = format!(
            "User \"{}\" cannot {verb} resource \"{resource}{slash}{subresource}\" in API group \
             \"{group}\" {place}",
            self.username
        );
        let denied = Status::forbidden(About { group, resource, name }, &why);
        Err(Status { no_sniff: true, ..denied })
    }
}

/// One rule of a Role, or of a ClusterRole. `*` stands for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The Role's namespace; `None`: the whole cluster.
    pub namespace: Option<String>,
    /// API groups; the empty one is the core.
    pub api_groups: Vec<String>,
    /// Resources, such as `pods` and `pods/eviction`.
    pub resources: Vec<String>,
    /// Names; if empty, all of them.
    pub resource_names: Vec<String>,
    /// Verbs, such as `get`.
    pub verbs: Vec<String>,
}

impl Rule {
    /// A rule for the whole cluster.
    #[must_use]
    pub fn new(api_group: &str, resources: &[&str], verbs: &[&str]) -> Self {
        let owned = |list: &[&str]| list.iter().map(|&item| item.to_owned()).collect();
        Self {
            namespace: None,
            api_groups: vec![api_group.to_owned()],
            resources: owned(resources),
            resource_names: Vec::new(),
            verbs: owned(verbs),
        }
    }

    /// The same in one namespace only.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// The same for these names only.
    #[must_use]
    pub fn named(mut self, names: &[&str]) -> Self {
        self.resource_names = names.iter().map(|&name| name.to_owned()).collect();
        self
    }

    pub(crate) fn grants(&self, asked: &Attributes<'_>) -> bool {
        let has = |list: &[String], item: &str| list.iter().any(|i| i == "*" || i == item);
        let resource = if asked.subresource.is_empty() {
            asked.resource.to_owned()
        } else {
            format!("{}/{}", asked.resource, asked.subresource)
        };
        self.namespace.as_ref().is_none_or(|namespace| namespace == asked.namespace)
            && has(&self.api_groups, asked.group)
            && has(&self.resources, &resource)
            && has(&self.verbs, asked.verb)
            && (self.resource_names.is_empty()
                || self.resource_names.iter().any(|name| name == asked.name))
    }
}

/// What a request does to which resource.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a> {
    pub(crate) verb: &'a str,
    pub(crate) group: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

impl<'a> Attributes<'a> {
    fn of(route: &'a Route, verb: &'a str) -> Self {
        let Route { group, resource, subresource, namespace, name, .. } = route;
        Self { verb, group, resource, subresource, namespace, name }
    }
}

/// The tokens, and the fence.
#[derive(Debug, Default)]
pub(crate) struct Access {
    pub(crate) identities: BTreeMap<String, Identity>,
    /// Tokens that are not for this server, and that only reviews know.
    pub(crate) known: BTreeMap<String, Known>,
    /// What users and groups may do, as far as only reviews tell.
    pub(crate) grants: Vec<(String, Rule)>,
    /// Whether a token is not needed.
    pub(crate) open: bool,
    /// The user whose requests are fenced in.
    pub(crate) fenced: Option<String>,
}

impl Access {
    /// The sender of a request. Without a token it is anonymous and may do nothing.
    pub(crate) fn authenticate(&self, token: Option<&str>) -> Result<Identity, Status> {
        match token.map(|token| (self.identities.get(token), token)) {
            Some((Some(identity), _)) => Ok(identity.clone()),
            Some((None, token)) if self.open => Ok(Identity::new(token)),
            None if self.open => Ok(Identity::new("system:anonymous")),
            Some((None, _)) => Err(Status::unauthorized()),
            None => Ok(Identity::new("system:anonymous").may([])),
        }
    }

    /// The policy `paramedic-own-node`: evictions only of pods of the own node that consent, in
    /// namespaces that permit `at_most` that much.
    /// `pods` are all pods of the namespace; a dry run counts as one only if the query says so,
    /// since admission does not look into the body.
    pub(crate) fn fence_eviction<'a>(
        &self,
        identity: &Identity,
        route: &Route,
        at_most: Option<&str>,
        mut pods: impl Iterator<Item = &'a Value>,
    ) -> Result<(), Status> {
        if self.fenced.as_ref() != Some(&identity.username) {
            return Ok(());
        }
        let deny = |why: &str| Err(denied("paramedic-own-node", &route.name, why, 403));
        let Some(first) = pods.next() else {
            let why = "failed to configure binding: no params found for policy binding with \
                       `Deny` parameterNotFoundAction";
            return Err(denied("paramedic-own-node", &route.name, why, 422));
        };
        let Some(own) = &identity.node else {
            return deny("paramedic: the token is not bound to a pod on a node");
        };
        let target = std::iter::once(first).chain(pods).find(|pod| j::name(pod) == route.name);
        let Some(pod) = target else { return Ok(()) };
        let node = node_of(pod);
        if node != own {
            let Route { namespace, name, .. } = route;
            return deny(&format!(
                "paramedic: pod {namespace}/{name} runs on {node}, the agent on {own}"
            ));
        }
        let suffices = |remedy: Option<&str>| match remedy {
            Some("evict") => true,
            Some("restart") => route.is_dry_run(),
            _ => false,
        };
        if !suffices(pod["metadata"]["labels"][CONSENT].as_str()) {
            return deny("paramedic: the pod does not carry paramedic.dev/heal=evict");
        }
        match at_most {
            Some(most) if !suffices(Some(most)) => {
                deny(&format!("paramedic: the namespace carries {AT_MOST}={most}"))
            }
            _ => Ok(()),
        }
    }

    /// Whether the requests of this user are fenced in.
    pub(crate) fn is_fenced(&self, identity: &Identity) -> bool {
        self.fenced.as_ref() == Some(&identity.username)
    }

    /// The policy `paramedic-agent-resizes`: resizes only of pods of the own node that consent to
    /// remedies and to resizes.
    pub(crate) fn fence_resize(
        &self,
        identity: &Identity,
        route: &Route,
        pod: &Value,
    ) -> Result<(), Status> {
        if self.fenced.as_ref() != Some(&identity.username) {
            return Ok(());
        }
        let deny = |why: &str| Err(denied("paramedic-agent-resizes", &route.name, why, 403));
        let (node, own) = (node_of(pod), identity.node.as_deref().unwrap_or("no known node"));
        let Route { namespace, name, .. } = route;
        if node != own {
            return deny(&format!(
                "paramedic: pod {namespace}/{name} runs on {node}, the agent on {own}"
            ));
        }
        let label = pod["metadata"]["labels"][CONSENT].as_str();
        if !matches!(label, Some("soft" | "restart" | "evict")) {
            return deny("paramedic: the pod's paramedic.dev/heal permits no remedy");
        }
        match pod["metadata"]["annotations"][RESIZE].as_str() {
            Some(_) => Ok(()),
            None => deny("paramedic: the pod does not carry paramedic.dev/resize"),
        }
    }

    /// The policy `paramedic-own-node-delete`: deletions only of pods of the own node.
    pub(crate) fn fence_deletion(&self, identity: &Identity, pod: &Value) -> Result<(), Status> {
        let node = node_of(pod);
        if self.fenced.as_ref() != Some(&identity.username)
            || identity.node.as_deref() == Some(node)
        {
            return Ok(());
        }
        let own = identity.node.as_deref().unwrap_or("no known node");
        let (namespace, name) = (j::namespace(pod), j::name(pod));
        let why = format!("paramedic: pod {namespace}/{name} runs on {node}, the agent on {own}");
        Err(denied("paramedic-own-node-delete", name, &why, 403))
    }
}

/// Access.
impl FakeApi {
    /// Registers the identity behind a token.
    pub fn identity(&self, token: &str, identity: Identity) {
        self.with(|state| state.access.identities.insert(token.to_owned(), identity));
    }

    /// Forgets a token, as happens soon after its pod was deleted.
    pub fn revoke(&self, token: &str) {
        self.with(|state| {
            state.access.identities.remove(token);
            state.access.known.remove(token);
        });
    }

    /// Lets every client do everything, with any token or none, or ends that.
    pub fn open(&self, open: bool) {
        self.with(|state| state.access.open = open);
    }

    /// Fences the evictions, deletions and changes of pods of this user in; `None`: of no user.
    pub fn fence(&self, username: Option<&str>) {
        self.with(|state| state.access.fenced = username.map(str::to_owned));
    }
}

fn node_of(pod: &Value) -> &str {
    match j::text(pod, "/spec/nodeName") {
        "" => "no node",
        node => node,
    }
}

fn denied(policy: &str, name: &str, why: &str, code: u16) -> Status {
    let message = format!(
        "ValidatingAdmissionPolicy '{policy}' with binding '{policy}' denied request: {why}"
    );
    let about = About { group: "", resource: "pods", name };
    let mut denied = Status::forbidden(about, &message);
    if let Some(details) = &mut denied.details {
        details["causes"] = serde_json::json!([{"message": message}]);
    }
    if code != 403 {
        denied.code = code;
        denied.reason = "Invalid";
    }
    denied
}
