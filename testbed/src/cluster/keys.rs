//! The certificates and keys of a cluster. They end with it.
use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use super::layout::{Node, SERVICE};

/// Names of the API server, as pods call it.
const NAMES: [&str; 4] = [
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

/// Clients with a kubeconfig: the name of the file, and the organization and name in the
/// certificate.
pub(super) const CLIENTS: [(&str, &str, &str); 3] = [
    ("admin", "system:masters", "admin"),
    ("controller-manager", "", "system:kube-controller-manager"),
    ("scheduler", "", "system:kube-scheduler"),
];

/// Makes all of them in the folder, for this many nodes.
pub(super) fn make(folder: &Path, nodes: u8) -> Result<()> {
    let ca = Authority::make(folder, "ca")?;
    let front = Authority::make(folder, "front-proxy-ca")?;
    let first = Node::FIRST.address();
    ca.serves(folder, "api-server", "", "kube-apiserver", &NAMES, &[first, SERVICE])?;
    for (name, organization, common) in CLIENTS {
        ca.asks(folder, name, organization, common)?;
    }
    ca.asks(folder, "kubelet-client", "system:masters", "kube-apiserver-kubelet-client")?;
    front.asks(folder, "front-proxy-client", "", "front-proxy-client")?;
    for node in Node::all(nodes) {
        let (name, common) = (node.to_string(), format!("system:node:{node}"));
        ca.asks(folder, &name, "system:nodes", &common)?;
        let server = format!("{node}-server");
        ca.serves(folder, &server, "system:nodes", &common, &[&name], &[node.address()])?;
    }
    let accounts = KeyPair::generate()?;
    put(folder, "service-accounts.key", &accounts.serialize_pem())?;
    put(folder, "service-accounts.pub", &accounts.public_key_pem())
}

struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    fn make(folder: &Path, name: &str) -> Result<Self> {
        let mut params = params("", name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        put(folder, &format!("{name}.crt"), &params.self_signed(&key)?.pem())?;
        put(folder, &format!("{name}.key"), &key.serialize_pem())?;
        Ok(Self(Issuer::new(params, key)))
    }

    /// A certificate of a client.
    fn asks(&self, folder: &Path, file: &str, organization: &str, common: &str) -> Result<()> {
        let mut params = params(organization, common);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(folder, file, &params)
    }

    /// A certificate of a server.
    fn serves(
        &self,
        folder: &Path,
        file: &str,
        organization: &str,
        common: &str,
        names: &[&str],
        addresses: &[Ipv4Addr],
    ) -> Result<()> {
        let mut params = params(organization, common);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        for &name in names {
            params.subject_alt_names.push(SanType::DnsName(name.try_into()?));
        }
        let addresses = addresses.iter().map(|&address| SanType::IpAddress(IpAddr::V4(address)));
        params.subject_alt_names.extend(addresses);
        self.sign(folder, file, &params)
    }

    fn sign(&self, folder: &Path, file: &str, params: &CertificateParams) -> Result<()> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.0)?;
        put(folder, &format!("{file}.crt"), &certificate.pem())?;
        put(folder, &format!("{file}.key"), &key.serialize_pem())
    }
}

fn params(organization: &str, common: &str) -> CertificateParams {
    let mut name = DistinguishedName::new();
    if !organization.is_empty() {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common);
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params
}

fn put(folder: &Path, name: &str, text: &str) -> Result<()> {
    let file = folder.join(name);
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_a_program_is_given_exists() {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path(), 2).unwrap();
        let given = super::super::config::api_server(Path::new("KEYS"));
        let files = given.iter().filter_map(|flag| flag.split_once("=KEYS/"));
        let mut seen = 0;
        for (_, file) in files {
            assert!(folder.path().join(file).is_file(), "{file}");
            seen += 1;
        }
        assert_eq!(seen, 11);
        for node in ["node1.crt", "node2-server.key", "admin.key", "ca.key"] {
            assert!(folder.path().join(node).is_file(), "{node}");
        }
        let public = fs::read_to_string(folder.path().join("service-accounts.pub")).unwrap();
        assert!(public.starts_with("-----BEGIN PUBLIC KEY-----"), "{public}");
    }
}
