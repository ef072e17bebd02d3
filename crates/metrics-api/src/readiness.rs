//! What has to be there before the metrics API is ready, each by name.
use parking_lot::Mutex;

/// What is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// Certificates to serve with.
    Authority,
    /// How the API server proves itself.
    FrontProxy,
    /// Which pods there are.
    Pods,
    /// That the agents that there are were heard, or had time enough to be.
    Agents,
}

impl Need {
    const ALL: [Self; 4] = [Self::Authority, Self::FrontProxy, Self::Pods, Self::Agents];

    const fn about(self) -> &'static str {
        match self {
            Self::Authority => "the authority's certificates, from a Secret",
            Self::FrontProxy => {
                "how the API server proves itself, from the ConfigMap \
                 kube-system/extension-apiserver-authentication"
            }
            Self::Pods => "the first list of pods",
            Self::Agents => "the first words of the agents",
        }
    }
}

/// What is still missing, or that it is the end.
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
    /// It is there.
    pub(super) fn met(&self, need: Need) {
        self.0.lock().missing.retain(|missing| *missing != need);
    }

    /// Told to stop: nobody is to ask here any more.
    pub(super) fn leave(&self) {
        self.0.lock().leaving = true;
    }

    /// What is pending, one line each; empty if it is ready.
    pub(super) fn pending(&self) -> String {
        let state = self.0.lock();
        if state.leaving {
            return "stopping\n".to_owned();
        }
        state.missing.iter().map(|need| format!("{}: pending\n", need.about())).collect()
    }
}
