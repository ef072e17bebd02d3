//! Authenticates requests. The API server names the user in headers and authenticates itself by a
//! client certificate. A ConfigMap, which may change at any time, holds the CA, the permitted names
//! and the names of the headers.
//!
//! Without that certificate a request is anonymous, whatever its headers say.
use std::{collections::BTreeMap, sync::Arc};

use hyper::HeaderMap;
use percent_encoding::percent_decode_str;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use yasna::{
    models::{ObjectIdentifier, TaggedDerValue},
    tags::TAG_SEQUENCE,
};

/// Namespace and name of the ConfigMap.
pub(super) const CONFIG_MAP: (&str, &str) = ("kube-system", "extension-apiserver-authentication");

/// A user, as the API server names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) groups: Vec<String>,
    pub(super) extra: BTreeMap<String, Vec<String>>,
}

/// How the API server authenticates itself and names users.
#[derive(Debug)]
pub(super) struct FrontProxy {
    pub(super) roots: Arc<RootCertStore>,
    /// Permitted common names of its certificate; if empty, any.
    allowed_names: Vec<String>,
    user_headers: Vec<String>,
    uid_headers: Vec<String>,
    group_headers: Vec<String>,
    /// In lower case.
    extra_prefixes: Vec<String>,
}

/// Why a ConfigMap cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    #[error(
        "it has no {0}: the API server runs without an aggregation layer (its flags \
         --requestheader-…, --proxy-client-…)"
    )]
    Missing(&'static str),
    #[error("its {key} is not a JSON list of names: {value:?}")]
    Malformed { key: &'static str, value: String },
    #[error("its requestheader-client-ca-file has no certificate in PEM")]
    NoCertificate,
}

/// Why a request is not authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unauthorized {
    #[error("no client certificate: only the API server may ask, on behalf of its users")]
    NoCertificate,
    #[error("the client certificate is not one of the front proxy's names")]
    NotTheProxy,
    #[error("the API server did not name the user of the request")]
    NoUser,
}

impl FrontProxy {
    /// Parses the data of the ConfigMap.
    pub(super) fn parse(data: &BTreeMap<String, String>) -> Result<Self, Unusable> {
        let authority = "requestheader-client-ca-file";
        let pem = data.get(authority).ok_or(Unusable::Missing(authority))?;
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).flatten();
        roots.add_parsable_certificates(certificates);
        if roots.is_empty() {
            return Err(Unusable::NoCertificate);
        }
        let names = |key| list(data, key);
        let user_headers = names("requestheader-username-headers")?;
        if user_headers.is_empty() {
            return Err(Unusable::Missing("requestheader-username-headers"));
        }
        let mut extra_prefixes = names("requestheader-extra-headers-prefix")?;
        extra_prefixes.iter_mut().for_each(|prefix| prefix.make_ascii_lowercase());
        // An empty prefix would match every header.
        extra_prefixes.retain(|prefix| !prefix.is_empty());
        Ok(Self {
            roots: Arc::new(roots),
            allowed_names: names("requestheader-allowed-names")?,
            user_headers,
            uid_headers: names("requestheader-uid-headers")?,
            group_headers: names("requestheader-group-headers")?,
            extra_prefixes,
        })
    }

    /// The user of a request. The chain of `certificate` was verified against [`FrontProxy::roots`]
    /// when the connection was made.
    pub(super) fn identify(
        &self,
        certificate: Option<&CertificateDer<'_>>,
        headers: &HeaderMap,
    ) -> Result<User, Unauthorized> {
        let certificate = certificate.ok_or(Unauthorized::NoCertificate)?;
        if !self.allowed_names.is_empty() {
            let name = common_name(certificate).ok_or(Unauthorized::NotTheProxy)?;
            if !self.allowed_names.contains(&name) {
                return Err(Unauthorized::NotTheProxy);
            }
        }
        let name = first(headers, &self.user_headers).ok_or(Unauthorized::NoUser)?;
        Ok(User {
            name,
            uid: first(headers, &self.uid_headers).unwrap_or_default(),
            groups: self.group_headers.iter().flat_map(|name| all(headers, name)).collect(),
            extra: self.extra(headers),
        })
    }

    /// The remainder of the header's name is a key, percent-encoded.
    fn extra(&self, headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for name in headers.keys() {
            // Header names are lower-case here, whatever the client sent.
            let name = name.as_str();
            let key = self.extra_prefixes.iter().find_map(|prefix| name.strip_prefix(&**prefix));
            let Some(key) = key.filter(|key| !key.is_empty()) else { continue };
            let key = percent_decode_str(key).decode_utf8_lossy().to_lowercase();
            extra.entry(key).or_default().extend(all(headers, name));
        }
        extra
    }
}

/// A JSON array in a string; missing means empty.
fn list(data: &BTreeMap<String, String>, key: &'static str) -> Result<Vec<String>, Unusable> {
    let Some(value) = data.get(key) else { return Ok(Vec::new()) };
    let malformed = |_| Unusable::Malformed { key, value: value.chars().take(80).collect() };
    serde_json::from_str(value).map_err(malformed)
}

fn all(headers: &HeaderMap, name: &str) -> Vec<String> {
    let values = headers.get_all(name).iter();
    values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
}

/// The first non-empty one of these headers.
fn first(headers: &HeaderMap, names: &[String]) -> Option<String> {
    names.iter().flat_map(|name| all(headers, name)).find(|value| !value.is_empty())
}

/// The common name of a certificate's subject.
fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let content = certificate.subject().to_vec();
    let subject = TaggedDerValue::from_tag_and_bytes(TAG_SEQUENCE, content);
    let subject = yasna::construct_der(|writer| writer.write_tagged_der(&subject));
    let wanted = ObjectIdentifier::from_slice(&[2, 5, 4, 3]);
    // RDNSequence ::= SEQUENCE OF SET OF SEQUENCE { type OID, value ANY } (RFC 5280, 4.1.2.4).
    let mut found = None;
    yasna::parse_der(&subject, |names| {
        names.read_sequence_of(|names| {
            names.read_set_of(|name| {
                name.read_sequence(|name| {
                    let kind = name.next().read_oid()?;
                    let value = name.next().read_tagged_der()?;
                    if kind == wanted {
                        found = String::from_utf8(value.value().to_vec()).ok();
                    }
                    Ok(())
                })
            })
        })
    })
    .ok()?;
    found
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn certificate(name: &str) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::OrganizationName, "front-proxy-client");
        params.distinguished_name.push(DnType::CommonName, name);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn data(changes: &[(&str, Option<&str>)]) -> BTreeMap<String, String> {
        let authority = CertificateParams::new(vec![]).unwrap();
        let pem = authority.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
        let mut data: BTreeMap<String, String> = [
            ("requestheader-client-ca-file", pem.as_str()),
            ("requestheader-allowed-names", r#"["front-proxy-client"]"#),
            ("requestheader-username-headers", r#"["X-Remote-User"]"#),
            ("requestheader-uid-headers", r#"["X-Remote-Uid"]"#),
            ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
            ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        for &(key, value) in changes {
            match value {
                Some(value) => drop(data.insert(key.to_owned(), value.to_owned())),
                None => drop(data.remove(key)),
            }
        }
        data
    }

    fn proxy(changes: &[(&str, Option<&str>)]) -> FrontProxy {
        FrontProxy::parse(&data(changes)).unwrap()
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    const ADMIN: [(&str, &str); 1] = [("X-Remote-User", "admin")];

    #[test]
    fn the_user_is_read_from_the_headers() {
        let asked = headers(&[
            ("X-Remote-User", "system:serviceaccount:a:b"),
            ("X-Remote-Uid", "854e84e6"),
            ("X-Remote-Group", "system:serviceaccounts"),
            ("X-Remote-Group", "system:authenticated"),
            ("X-Remote-Extra-Authentication.kubernetes.io%2fnode-Name", "node1"),
        ]);
        let user = proxy(&[]).identify(Some(&certificate("front-proxy-client")), &asked).unwrap();
        assert_eq!(user.name, "system:serviceaccount:a:b");
        assert_eq!(user.uid, "854e84e6");
        assert_eq!(user.groups, ["system:serviceaccounts", "system:authenticated"]);
        let node = ("authentication.kubernetes.io/node-name".to_owned(), vec!["node1".to_owned()]);
        assert_eq!(user.extra, BTreeMap::from([node]));
    }

    #[test]
    fn other_certificates_are_refused() {
        let proxy = proxy(&[]);
        let spoofed = headers(&ADMIN);
        assert_eq!(proxy.identify(None, &spoofed), Err(Unauthorized::NoCertificate));
        let another = certificate("kubelet");
        assert_eq!(proxy.identify(Some(&another), &spoofed), Err(Unauthorized::NotTheProxy));
        let nameless = certificate("");
        assert_eq!(proxy.identify(Some(&nameless), &spoofed), Err(Unauthorized::NotTheProxy));
        let garbage = CertificateDer::from(vec![0x30, 0x03, 1, 2, 3]);
        assert_eq!(proxy.identify(Some(&garbage), &spoofed), Err(Unauthorized::NotTheProxy));
        let genuine = certificate("front-proxy-client");
        let unsaid = headers(&[("X-Remote-Group", "system:masters")]);
        assert_eq!(proxy.identify(Some(&genuine), &unsaid), Err(Unauthorized::NoUser));
    }

    #[test]
    fn without_allowed_names_every_certificate_of_the_ca_is_accepted() {
        for none in [None, Some("[]")] {
            let proxy = proxy(&[("requestheader-allowed-names", none)]);
            assert!(proxy.identify(Some(&certificate("x")), &headers(&ADMIN)).is_ok());
        }
    }

    #[test]
    fn configured_header_names_are_used() {
        let proxy = proxy(&[("requestheader-username-headers", Some(r#"["X-Who", "X-Else"]"#))]);
        let genuine = certificate("front-proxy-client");
        let asked = headers(&[("X-Remote-User", "root"), ("X-Else", "eve")]);
        assert_eq!(proxy.identify(Some(&genuine), &asked).unwrap().name, "eve");
    }

    #[test]
    fn an_incomplete_config_map_is_refused() {
        let parse = |changes: &[_]| FrontProxy::parse(&data(changes)).err();
        let (authority, users) = ("requestheader-client-ca-file", "requestheader-username-headers");
        assert_eq!(parse(&[(authority, None)]), Some(Unusable::Missing(authority)));
        assert_eq!(parse(&[(authority, Some("-----"))]), Some(Unusable::NoCertificate));
        assert_eq!(parse(&[(users, None)]), Some(Unusable::Missing(users)));
        for bad in ["", "X-Remote-User", "{}", "[1]", "null"] {
            let malformed = parse(&[(users, Some(bad))]);
            assert!(matches!(malformed, Some(Unusable::Malformed { .. })), "{bad}");
        }
        // An empty prefix would match every header.
        let proxy = proxy(&[("requestheader-extra-headers-prefix", Some(r#"[""]"#))]);
        let genuine = certificate("front-proxy-client");
        let user = proxy.identify(Some(&genuine), &headers(&ADMIN)).unwrap();
        assert!(user.extra.is_empty());
    }
}
