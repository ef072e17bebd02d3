//! The configurations of the programs. Pure: paths and nodes in, text out.
use std::path::Path;

use serde_json::{Value, json};

use super::layout::{Node, SERVICES};

/// The image of the sandboxes. `up` makes it of the program `pause`.
pub(super) const PAUSE: &str = "docker.io/paramedic/pause:1";
/// Where containerd listens, in the mount namespace of each node.
pub(super) const SOCKET: &str = "/run/containerd/containerd.sock";

/// Where the API server listens.
pub(super) fn server() -> String {
    format!("https://{}:443", Node::FIRST.address())
}

/// etcd, without waits for the disk: what it keeps ends with the cluster.
pub(super) fn etcd(data: &Path) -> Value {
    json!({
        "name": "default",
        "data-dir": data,
        "listen-client-urls": "http://127.0.0.1:2379",
        "advertise-client-urls": "http://127.0.0.1:2379",
        "listen-peer-urls": "http://127.0.0.1:2380",
        "initial-advertise-peer-urls": "http://127.0.0.1:2380",
        "initial-cluster": "default=http://127.0.0.1:2380",
        "unsafe-no-fsync": true,
        "log-level": "error",
    })
}

/// The network of a node's pods.
pub(super) fn cni(node: Node) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": true,
            "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "dataDir": "/var/lib/cni/networks",
                "ranges": [[{ "subnet": node.pods() }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        }],
    })
}

/// containerd 2, as TOML.
pub(super) fn containerd(state: &Path, programs: &Path) -> String {
    let (state, programs) = (state.display(), programs.display());
    format!(
        "version = 3
root = '{state}/containerd'
state = '/run/containerd'
[grpc]
  address = '{SOCKET}'
[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = '{PAUSE}'
[plugins.'io.containerd.cri.v1.runtime']
  # Where root lacks CAP_SYS_RESOURCE, nobody may lower his own.
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
    BinaryName = '{programs}/runc'
    SystemdCgroup = false
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ['{programs}/cni']
  conf_dir = '{state}/net.d'
[plugins.'io.containerd.internal.v1.opt']
  path = '{state}/opt'
"
    )
}

/// The kubelet of a node. `cgroup` is the one below which it makes those of its pods.
pub(super) fn kubelet(node: Node, state: &Path, keys: &Path, cgroup: &str) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": keys.join("ca.crt") },
        },
        "authorization": { "mode": "Webhook" },
        "address": node.address(),
        "tlsCertFile": keys.join(format!("{node}-server.crt")),
        "tlsPrivateKeyFile": keys.join(format!("{node}-server.key")),
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "failCgroupV1": false,
        "clusterDomain": "cluster.local",
        "clusterDNS": ["10.96.0.10"],
        "resolvConf": state.join("resolv.conf"),
        "volumePluginDir": state.join("plugins"),
        // The images are loaded by hand: nothing brings them back.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.inodesFree": "1%",
        },
        "healthzBindAddress": "127.0.0.1",
        "maxPods": 200,
    })
}

/// A configuration of kubectl and of every other client, with a certificate.
pub(super) fn client(keys: &Path, name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "paramedic",
            "cluster": { "server": server(), "certificate-authority": keys.join("ca.crt") },
        }],
        "users": [{
            "name": name,
            "user": {
                "client-certificate": keys.join(format!("{name}.crt")),
                "client-key": keys.join(format!("{name}.key")),
            },
        }],
        "contexts": [{ "name": "paramedic", "context": { "cluster": "paramedic", "user": name } }],
        "current-context": "paramedic",
    })
}

/// The arguments of kube-apiserver.
pub(super) fn api_server(keys: &Path) -> Vec<String> {
    let key = |name: &str| keys.join(name).display().to_string();
    let own = [
        ("advertise-address", Node::FIRST.address().to_string()),
        ("bind-address", "0.0.0.0".to_owned()),
        ("secure-port", "443".to_owned()),
        ("etcd-servers", "http://127.0.0.1:2379".to_owned()),
        ("service-cluster-ip-range", SERVICES.to_owned()),
        ("service-account-issuer", "https://kubernetes.default.svc.cluster.local".to_owned()),
        ("service-account-key-file", key("service-accounts.pub")),
        ("service-account-signing-key-file", key("service-accounts.key")),
        ("tls-cert-file", key("api-server.crt")),
        ("tls-private-key-file", key("api-server.key")),
        ("client-ca-file", key("ca.crt")),
        ("authorization-mode", "Node,RBAC".to_owned()),
        ("enable-admission-plugins", "NodeRestriction".to_owned()),
        ("allow-privileged", "true".to_owned()),
        ("kubelet-client-certificate", key("kubelet-client.crt")),
        ("kubelet-client-key", key("kubelet-client.key")),
        ("kubelet-certificate-authority", key("ca.crt")),
        // The names of the nodes are in no DNS.
        ("kubelet-preferred-address-types", "InternalIP".to_owned()),
        ("requestheader-client-ca-file", key("front-proxy-ca.crt")),
        ("requestheader-allowed-names", "front-proxy-client".to_owned()),
        ("requestheader-username-headers", "X-Remote-User".to_owned()),
        ("requestheader-group-headers", "X-Remote-Group".to_owned()),
        ("requestheader-extra-headers-prefix", "X-Remote-Extra-".to_owned()),
        ("proxy-client-cert-file", key("front-proxy-client.crt")),
        ("proxy-client-key-file", key("front-proxy-client.key")),
        // Without kube-proxy an aggregated API is reached at its pod.
        ("enable-aggregator-routing", "true".to_owned()),
    ];
    flags(&own)
}

/// The arguments of a controller of the control plane, whose certificate has this name.
pub(super) fn controller(state: &Path, name: &str) -> Vec<String> {
    let config = state.join(format!("{name}.conf")).display().to_string();
    flags(&[
        ("kubeconfig", config.clone()),
        ("authentication-kubeconfig", config.clone()),
        ("authorization-kubeconfig", config),
        ("leader-elect", "false".to_owned()),
        ("bind-address", "127.0.0.1".to_owned()),
    ])
}

/// What kube-controller-manager needs besides.
pub(super) fn controller_manager(keys: &Path) -> Vec<String> {
    let key = |name: &str| keys.join(name).display().to_string();
    flags(&[
        ("use-service-account-credentials", "true".to_owned()),
        ("root-ca-file", key("ca.crt")),
        ("service-account-private-key-file", key("service-accounts.key")),
        ("cluster-signing-cert-file", key("ca.crt")),
        ("cluster-signing-key-file", key("ca.key")),
    ])
}

fn flags(pairs: &[(&str, String)]) -> Vec<String> {
    pairs.iter().map(|(name, value)| format!("--{name}={value}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_has_addresses_and_cgroups_of_its_own() {
        let kubelet = |number| {
            kubelet(Node(number), Path::new("/s"), Path::new("/k"), &format!("/c/node{number}"))
        };
        let (one, two) = (kubelet(1), kubelet(2));
        for key in ["address", "cgroupRoot", "tlsCertFile"] {
            assert_ne!(one[key], two[key], "{key}");
        }
        assert_eq!(two["address"], "10.77.0.2");
        assert_eq!(two["tlsCertFile"], "/k/node2-server.crt");
        assert_ne!(cni(Node(1))["plugins"][0]["ipam"], cni(Node(2))["plugins"][0]["ipam"]);
    }

    #[test]
    fn every_program_is_looked_for_in_the_callers_folder() {
        let text = containerd(Path::new("/s/node2"), Path::new("/p"));
        for line in
            ["BinaryName = '/p/runc'", "bin_dirs = ['/p/cni']", "root = '/s/node2/containerd'"]
        {
            assert!(text.contains(line), "{line}");
        }
    }

    #[test]
    fn flags_are_passed_with_their_values() {
        let arguments = api_server(Path::new("/k"));
        assert!(arguments.contains(&"--client-ca-file=/k/ca.crt".to_owned()));
        assert!(arguments.contains(&"--advertise-address=10.77.0.1".to_owned()));
        assert_eq!(controller(Path::new("/s"), "scheduler")[0], "--kubeconfig=/s/scheduler.conf");
    }
}
