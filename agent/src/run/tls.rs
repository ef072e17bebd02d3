//! Lets the kernel see what targets write into TLS, if they opted in.
//!
//! A task finds the libraries, which takes reading a file; the loop attaches to them. Until there is
//! something to attach to it looks again every few seconds, since an app may load its library late;
//! then once in a while, since it may load another.
use std::time::Duration;

use paramedic_core::{boot_time::BootTime, engine::Index, target::Target};
use paramedic_probes::tls::{Finder, Findings};
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::{
    Agent, TaskResult,
    sampler::{Generation, Sampler},
};

/// Between two searches until something is found, and afterwards.
const SEARCH: Duration = Duration::from_secs(10);
const REFRESH: Duration = Duration::from_secs(60);

/// The search for the TLS libraries of one instance.
#[derive(Debug)]
pub(super) struct TlsWatch {
    /// `None` while it looks.
    finder: Option<Finder>,
    due: BootTime,
    /// The names of what was attached to.
    libraries: Vec<String>,
    /// Why there is nothing to attach to.
    why_not: Option<String>,
}

impl TlsWatch {
    /// What it sees, in words.
    fn word(&self) -> String {
        match (&self.why_not, self.libraries.as_slice()) {
            (Some(why), _) => format!("not seen: {why}"),
            (None, []) => "not seen yet: looking for its library".to_owned(),
            (None, libraries) => format!("responses are counted, in {}", libraries.join(", ")),
        }
    }

    /// Tells once why nothing can be seen.
    fn refuse(&mut self, target: &str, why: String) {
        if self.why_not.as_ref() != Some(&why) {
            warn!(target, why, "its responses in TLS cannot be counted");
            self.why_not = Some(why);
        }
    }
}

impl Agent {
    /// A target opted in, or not: begins, or ends what an earlier setting began.
    pub(super) fn set_tls(&mut self, index: Index, target: &Target) {
        self.tls.remove(&index);
        let slot = self.registry.sampler(index).and_then(Sampler::slot);
        let (Some(kernel), Some(slot)) = (self.kernel.as_mut(), slot) else { return };
        if !target.settings.tls_probes {
            if let Err(error) = kernel.unwatch_tls(slot) {
                warn!(target = target.name, %error, "cannot stop counting its responses in TLS");
            }
            return;
        }
        let mut watch =
            TlsWatch { finder: None, due: self.clock.now(), libraries: Vec::new(), why_not: None };
        match kernel.watch_tls(slot, target) {
            Ok(()) => watch.finder = Some(Finder::default()),
            Err(error) => watch.refuse(&target.name, error.to_string()),
        }
        self.tls.insert(index, watch);
        self.look_for_tls(index);
    }

    /// Looks for the libraries of a target, if it is time to.
    pub(super) fn look_for_tls(&mut self, index: Index) {
        let now = self.clock.now();
        let Some(watch) = self.tls.get_mut(&index).filter(|watch| watch.due <= now) else { return };
        let Some(life) = self.registry.sampler(index).map(Sampler::life) else { return };
        let cgroup = self.engine.case(index).and_then(|case| case.target.cgroups.unified.clone());
        let (Some(cgroup), Some(mut finder)) = (cgroup, watch.finder.take()) else { return };
        let done = self.done.0.clone();
        tokio::spawn(async move {
            let looked = spawn_blocking(move || {
                let findings = finder.look(&cgroup.path);
                (finder, findings)
            });
            if let Ok((finder, findings)) = looked.await {
                // The loop is gone only when the agent stops.
                let _ = done.send(TaskResult::TlsFound { index, life, finder, findings }).await;
            }
        });
    }

    /// A search has ended.
    pub(super) fn tls_found(
        &mut self,
        index: Index,
        life: Generation,
        mut finder: Finder,
        findings: Findings,
    ) {
        // The libraries of an earlier instance are not this one's.
        let Some(sampler) = self.registry.sampler_of(index, life) else { return };
        let (Some(watch), Some(slot)) = (self.tls.get_mut(&index), sampler.slot()) else { return };
        let (Some(kernel), Some(case)) = (self.kernel.as_mut(), self.engine.case(index)) else {
            return;
        };
        let name = &case.target.name;
        let mut why_not = findings.why_not;
        let mut new: Vec<_> = findings.libraries.iter().map(|found| found.name.clone()).collect();
        if !new.is_empty() {
            for (inode, library, error) in kernel.attach_tls(slot, findings.libraries) {
                finder.forget(inode);
                new.retain(|name| *name != library);
                why_not = Some(format!("{library}: {error}"));
            }
        }
        if !new.is_empty() {
            info!(target = name, libraries = new.join(", "), "its responses in TLS are counted");
            sampler.sees_from_now(kernel);
            watch.libraries.extend(new);
        }
        match why_not.filter(|_| watch.libraries.is_empty()) {
            Some(why) => watch.refuse(name, why),
            None => watch.why_not = None,
        }
        let pause = if watch.libraries.is_empty() { SEARCH } else { REFRESH };
        watch.due = self.clock.now() + pause;
        watch.finder = Some(finder);
    }

    /// What is seen of a target's TLS, if it opted in.
    pub(super) fn tls_word(&self, index: Index) -> Option<String> {
        self.tls.get(&index).map(TlsWatch::word)
    }
}
