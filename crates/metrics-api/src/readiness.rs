//! Named conditions that must hold before the metrics API is ready.
use parking_lot::Mutex;

/// A condition of readiness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// It has a certificate to serve with.
    CertificateAuthority,
    /// It has the front-proxy CA of the API server.
    FrontProxy,
    /// It has listed the pods.
    Pods,
    /// Every agent has sent a frame, or the time for it has passed.
    Agents,
}

impl Need {
    const ALL: [Self; 4] = [Self::CertificateAuthority, Self::FrontProxy, Self::Pods, Self::Agents];

    const fn about(self) -> &'static str {
        match self {
            Self::CertificateAuthority => "the certificate authority, from a Secret",
            Self::FrontProxy => {
                "the front-proxy CA, from the ConfigMap \
                 kube-system/extension-apiserver-authentication"
            }
            Self::Pods => "the first list of pods",
            Self::Agents => "the first frames of the agents",
        }
    }
}

/// The pending conditions, or that it is shutting down.
#[derive(Debug)]
pub(super) struct Readiness(Mutex<State>);

#[derive(Debug)]
struct State {
    missing: Vec<Need>,
    leaving: bool,
}

impl Default for Readiness {
    fn default() -> Self {
        Self(Mutex::new(State { missing: Need::ALL.to_vec(), leaving: false }))
    }
}

impl Readiness {
    /// Marks a condition as met.
    pub(super) fn met(&self, need: Need) {
        self.0.lock().missing.retain(|missing| *missing != need);
    }

    /// Marks the process as shutting down: requests must go elsewhere.
    pub(super) fn leave(&self) {
        self.0.lock().leaving = true;
    }

    /// The pending conditions, one per line; empty if ready.
    pub(super) fn pending(&self) -> String {
        let state = self.0.lock();
        if state.leaving {
            return "stopping\n".to_owned();
        }
        state.missing.iter().map(|need| format!("{}: pending\n", need.about())).collect()
    }
}
