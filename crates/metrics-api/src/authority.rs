//! The certificate authority of the metrics API. The API server learns it from the APIService, and
//! the agents learn it from a ConfigMap.
//!
//! It creates and replaces its root certificates itself. A new root is first published for longer
//! than any reader takes to load it, and only then signs. The old root stays trusted until it
//! expires. The leaf certificates live for a day and are never stored.
//!
//! rcgen makes the certificates. Only this order of publishing and signing is the program's own:
//! cert-manager would do it, but then a cluster needs cert-manager before its first metric.
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};

/// Lifetime of a root, in seconds.
const LIFE: i64 = 90 * DAY;
/// A root's successor is created this long before its end.
const AHEAD: i64 = 30 * DAY;
/// A root is published this long before it signs. A ConfigMap reaches a pod within two minutes.
const KNOWN: i64 = DAY;
/// Lifetime of a leaf certificate.
const LEAF: i64 = DAY;
/// Age at which a leaf certificate is replaced, in seconds.
pub(super) const RENEW: i64 = 12 * 3600;
/// Node clocks differ, so a certificate is valid from this long before it is signed.
const SKEW: i64 = 3600;
const DAY: i64 = 24 * 3600;

/// The roots, as they are stored. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CertificateAuthority {
    /// The signing root.
    current: Root,
    /// The next signing root, already published.
    next: Option<Root>,
    /// The former signing root, still trusted.
    previous: Option<Root>,
}

/// A root certificate.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Root {
    certificate: String,
    key: String,
    since: i64,
    until: i64,
}

/// Never prints the keys.
impl std::fmt::Debug for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Root").field("since", &self.since).finish_non_exhaustive()
    }
}

/// The role of a leaf certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usage {
    /// For a TLS server.
    Server,
    /// For a TLS client.
    Client,
}

/// A certificate and its key.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// Why stored roots cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuthorityError {
    #[error("it is not what was stored: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("its certificate or key cannot be read, or they do not match: {0}")]
    Unreadable(String),
    #[error("cannot create a certificate: {0}")]
    Unmade(#[from] rcgen::Error),
    #[error("its validity times are invalid")]
    Times,
}

impl CertificateAuthority {
    /// Creates an authority with one new root.
    pub(super) fn new(now: i64) -> Result<Self, AuthorityError> {
        Ok(Self { current: Root::new(now)?, next: None, previous: None })
    }

    /// Reads what [`CertificateAuthority::store`] wrote.
    pub(super) fn parse(stored: &[u8]) -> Result<Self, AuthorityError> {
        let authority: Self = serde_json::from_slice(stored)?;
        for root in authority.roots() {
            root.check()?;
        }
        Ok(authority)
    }

    /// Serialises it for the Secret.
    pub(super) fn store(&self) -> Result<Vec<u8>, AuthorityError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// The next step of the rotation, if one is due: create a successor, let it sign, or drop an
    /// expired root.
    pub(super) fn advance(&self, now: i64) -> Result<Option<Self>, AuthorityError> {
        let mut after = self.clone();
        if now >= self.current.until - SKEW {
            // No replica ran in time. A certificate signed now is unknown to its readers until they
            // load the new root.
            let next = after.next.take().filter(|next| now < next.until - AHEAD);
            after = Self { current: next.map_or_else(|| Root::new(now), Ok)?, ..after };
            after.previous = None;
        } else if self.next.as_ref().is_some_and(|next| now >= next.since + KNOWN) {
            if let Some(next) = after.next.take() {
                after.previous = Some(std::mem::replace(&mut after.current, next));
            }
        } else if self.next.is_none() && now >= self.current.until - AHEAD {
            after.next = Some(Root::new(now)?);
        }
        if after.previous.as_ref().is_some_and(|previous| now >= previous.until) {
            after.previous = None;
        }
        Ok((after != *self).then_some(after))
    }

    /// All trusted root certificates, in PEM.
    pub(super) fn bundle(&self) -> String {
        self.roots().map(|root| root.certificate.as_str()).collect()
    }

    fn roots(&self) -> impl Iterator<Item = &Root> {
        [Some(&self.current), self.next.as_ref(), self.previous.as_ref()].into_iter().flatten()
    }

    /// Signs a leaf certificate for these names.
    pub(super) fn sign(
        &self,
        usage: Usage,
        names: &[String],
        now: i64,
    ) -> Result<Leaf, AuthorityError> {
        let mut params = CertificateParams::new(names)?;
        if let Some(name) = names.first() {
            // A common name is limited in length.
            params.distinguished_name.push(DnType::CommonName, name.get(..64).unwrap_or(name));
        }
        set_times(&mut params, now - SKEW, (now + LEAF).min(self.current.until));
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match usage {
            Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.current.issuer()?)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(Leaf { certificate: certificate.der().clone(), key })
    }
}

impl Root {
    fn new(now: i64) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let params = Self::params(now);
        let certificate = params.self_signed(&key)?;
        let key = key.serialize_pem();
        Ok(Self { certificate: certificate.pem(), key, since: now, until: now + LIFE })
    }

    /// Certificate parameters are a function of the start time. So the root certificate can be
    /// rebuilt from its key alone.
    fn params(since: i64) -> CertificateParams {
        let mut params = CertificateParams::default();
        let name = format!("paramedic-metrics-api authority {since}");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_times(&mut params, since - SKEW, since + LIFE);
        params
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, AuthorityError> {
        Ok(Issuer::new(Self::params(self.since), KeyPair::from_pem(&self.key)?))
    }

    /// Someone may have edited the stored value.
    fn check(&self) -> Result<(), AuthorityError> {
        // The year 9999 ends at 253402300799.
        if !(0..250_000_000_000).contains(&self.since) || self.until != self.since + LIFE {
            return Err(AuthorityError::Times);
        }
        let unreadable =
            |error: &dyn std::fmt::Display| AuthorityError::Unreadable(error.to_string());
        let der = CertificateDer::from_pem_slice(self.certificate.as_bytes())
            .map_err(|error| unreadable(&error))?;
        let certificate =
            webpki::EndEntityCert::try_from(&der).map_err(|error| unreadable(&error))?;
        let key = KeyPair::from_pem(&self.key)?;
        if certificate.subject_public_key_info().as_ref() != key.subject_public_key_info() {
            return Err(unreadable(&"the key is not the certificate's"));
        }
        Ok(())
    }
}

fn set_times(params: &mut CertificateParams, from: i64, to: i64) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at = |seconds: i64| epoch + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    params.not_before = at(from);
    params.not_after = at(to);
}

#[cfg(test)]
mod tests {
    use rustls::{
        RootCertStore,
        pki_types::{ServerName, UnixTime},
    };
    use webpki::{EndEntityCert, KeyUsage};

    use super::*;

    const NOW: i64 = 1_764_000_000;

    /// Whether a client that trusts `bundle` accepts the certificate.
    fn accepts(bundle: &str, leaf: &Leaf, name: &str, usage: Usage, now: i64) -> bool {
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_slice_iter(bundle.as_bytes());
        roots.add_parsable_certificates(certificates.map(Result::unwrap));
        let certificate = EndEntityCert::try_from(&leaf.certificate).unwrap();
        let usage = match usage {
            Usage::Server => KeyUsage::server_auth(),
            Usage::Client => KeyUsage::client_auth(),
        };
        let time = UnixTime::since_unix_epoch(Duration::from_secs(now.try_into().unwrap()));
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        let chain = certificate
            .verify_for_usage(algorithms.all, &roots.roots, &[], time, usage, None, None)
            .is_ok();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        chain && certificate.verify_is_valid_for_subject_name(&name).is_ok()
    }

    fn sign(authority: &CertificateAuthority, now: i64) -> Leaf {
        authority.sign(Usage::Server, &["api.ns.svc".to_owned()], now).unwrap()
    }

    #[test]
    fn a_leaf_is_accepted_for_its_usage_names_and_day_only() {
        let authority = CertificateAuthority::new(NOW).unwrap();
        let (bundle, leaf) = (authority.bundle(), sign(&authority, NOW));
        let good = |name, usage, now| accepts(&bundle, &leaf, name, usage, now);
        assert!(good("api.ns.svc", Usage::Server, NOW));
        assert!(good("api.ns.svc", Usage::Server, NOW - SKEW + 1), "clocks differ");
        assert!(!good("api.ns.svc", Usage::Client, NOW));
        assert!(!good("other.ns.svc", Usage::Server, NOW));
        assert!(!good("api.ns.svc", Usage::Server, NOW + LEAF + 1));
        let other = CertificateAuthority::new(NOW).unwrap();
        assert!(!accepts(&other.bundle(), &leaf, "api.ns.svc", Usage::Server, NOW));
    }

    #[test]
    fn a_stored_authority_parses_to_the_same() {
        let authority = CertificateAuthority::new(NOW).unwrap();
        let again = CertificateAuthority::parse(&authority.store().unwrap()).unwrap();
        assert_eq!(again, authority);
        let leaf = sign(&again, NOW);
        assert!(accepts(&authority.bundle(), &leaf, "api.ns.svc", Usage::Server, NOW));
    }

    #[test]
    fn over_a_year_of_rotations_every_leaf_is_accepted() {
        let mut authority = CertificateAuthority::new(NOW).unwrap();
        let mut bundles = vec![(NOW, authority.bundle())];
        let mut signed: Vec<Leaf> = Vec::new();
        let mut roots = 1;
        for hour in 0..365 * 24 {
            let now = NOW + hour * 3600;
            if let Some(after) = authority.advance(now).unwrap() {
                roots += usize::from(after.next.is_some() && authority.next.is_none());
                authority = after;
                bundles.push((now, authority.bundle()));
                assert_eq!(authority.advance(now).unwrap(), None, "one step at a time");
            }
            if hour % 12 != 0 {
                continue;
            }
            signed.push(sign(&authority, now));
            // Certificates in use were signed now or half a day ago. Readers loaded the bundle now
            // or two hours ago.
            let late = bundles.iter().rev().find(|(at, _)| *at <= (now - 7200).max(NOW)).unwrap();
            for leaf in signed.iter().rev().take(2) {
                for bundle in [&authority.bundle(), &late.1] {
                    assert!(accepts(bundle, leaf, "api.ns.svc", Usage::Server, now), "hour {hour}");
                }
            }
        }
        assert!(roots >= 5, "{roots} roots in a year");
    }

    #[test]
    fn after_a_long_absence_a_new_root_signs_at_once() {
        let authority = CertificateAuthority::new(NOW).unwrap();
        let later = NOW + 400 * DAY;
        let after = authority.advance(later).unwrap().unwrap();
        assert_eq!((after.next.as_ref(), after.previous.as_ref()), (None, None));
        let leaf = sign(&after, later);
        assert!(accepts(&after.bundle(), &leaf, "api.ns.svc", Usage::Server, later));
    }

    #[test]
    fn an_edited_authority_is_refused() {
        let authority = CertificateAuthority::new(NOW).unwrap();
        let (good, other) =
            (authority.store().unwrap(), CertificateAuthority::new(NOW + 1).unwrap());
        let edited = |edit: &dyn Fn(&mut serde_json::Value)| {
            let mut value: serde_json::Value = serde_json::from_slice(&good).unwrap();
            edit(&mut value);
            CertificateAuthority::parse(value.to_string().as_bytes())
        };
        assert!(edited(&|_| ()).is_ok());
        let anothers = edited(&|v| v["current"]["key"] = other.current.key.clone().into());
        assert!(matches!(anothers, Err(AuthorityError::Unreadable(_))), "{anothers:?}");
        for field in ["certificate", "key"] {
            assert!(edited(&|v| v["current"][field] = "x".into()).is_err(), "{field}");
        }
        for since in [-1, i64::MAX, NOW + 5] {
            assert!(edited(&|v| v["current"]["since"] = since.into()).is_err(), "{since}");
        }
        for bad in [&b""[..], b"{}", b"[]", &good[..good.len() / 2]] {
            assert!(CertificateAuthority::parse(bad).is_err());
        }
    }
}
