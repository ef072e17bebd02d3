//! The evidence of an incident: what an operator needs to find the cause, and what a hard remedy
//! destroys.
//!
//! It is collected after the intention is in the journal and before the act. Every part is optional:
//! what is missing is listed with its reason. It stays in the state directory, one file for each
//! incident, and the agent never sends it anywhere.
mod print;
mod redact;
mod store;
mod summary;
mod told;

use std::collections::BTreeMap;

use paramedic_core::{
    decide::Action,
    target::{Remedy, TargetId},
};
use paramedic_host::evidence::{
    Missing, cgroup::Files, descriptors::Descriptors, log::Text, processes::Processes,
    sockets::Sockets, threads::Threads,
};
use serde::{Deserialize, Serialize};

pub use redact::{REDACTED, redact};
pub use store::{EVIDENCE_DIR, EvidenceError, EvidenceStore, read};
pub use told::{Summaries, Told};

/// Version of the file's format. A reader refuses newer ones.
pub const VERSION: u32 = 1;

/// Maximum size of a file, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// The evidence of one incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Version of the format: [`VERSION`].
    pub version: u32,
    /// The number of the incident in the journal.
    pub incident: i64,
    /// The id of the boot.
    pub boot: String,
    /// The target and its instance.
    pub target: TargetId,
    /// Readable name of the target.
    pub name: String,
    /// The remedy that was about to be applied.
    pub remedy: Remedy,
    /// When it was collected, in seconds since 1970 UTC.
    pub wall_time: i64,
    /// For how long it was collected, in milliseconds.
    pub took_ms: u64,
    /// What stands out, in one line.
    pub summary: String,
    /// The parts that are missing, with the reasons.
    pub missing: Vec<Missing>,
    /// The rows and verdicts of the instance within the last 60 s, oldest first; at most 128.
    pub samples: Vec<Look>,
    /// What the machine and the app showed.
    pub found: Found,
}

/// A row of features and its verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// Time from the sample to the evidence, in seconds.
    pub seconds_before: f64,
    /// The verdict.
    pub action: Action,
    /// Its confidence, 0–1.
    pub confidence: f32,
    /// `model` or `rules`.
    pub source: String,
    /// The result of the health check, if the target is polled.
    pub health: Option<String>,
    /// The columns by name; `null` for those that the kernel does not see.
    pub features: BTreeMap<String, Option<f32>>,
}

/// What the machine and the app showed; each part may be missing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// The processes of the target.
    pub processes: Option<Processes>,
    /// Its threads by state, wait channel and kernel stack.
    pub threads: Option<Threads>,
    /// Its TCP sockets by state.
    pub sockets: Option<Sockets>,
    /// Its open descriptors by kind.
    pub descriptors: Option<Descriptors>,
    /// The limits of its main process: soft and hard.
    pub limits: Option<BTreeMap<String, String>>,
    /// The files of its cgroup.
    pub cgroup: Option<Files>,
    /// The end of its log.
    pub log: Option<Text>,
    /// The app's own dump.
    pub dump: Option<Text>,
}

impl Found {
    /// Adds the parts of another that are not there yet.
    pub fn add(&mut self, other: Self) {
        fn fill<T>(own: &mut Option<T>, other: Option<T>) {
            if own.is_none() {
                *own = other;
            }
        }
        fill(&mut self.processes, other.processes);
        fill(&mut self.threads, other.threads);
        fill(&mut self.sockets, other.sockets);
        fill(&mut self.descriptors, other.descriptors);
        fill(&mut self.limits, other.limits);
        fill(&mut self.cgroup, other.cgroup);
        fill(&mut self.log, other.log);
        fill(&mut self.dump, other.dump);
    }
}

impl Evidence {
    /// Redacts what others wrote, sets the summary, and leaves out the largest parts until the text
    /// is within [`MAX_BYTES`]. Returns the file's text.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn seal(&mut self) -> serde_json::Result<Vec<u8>> {
        let Found { log, dump, .. } = &mut self.found;
        for text in [log, dump].into_iter().flatten() {
            text.text = redact(&text.text);
        }
        self.summary = self.summarize();
        let mut json = serde_json::to_vec(self)?;
        while json.len() > MAX_BYTES && self.leave_one_out() {
            json = serde_json::to_vec(self)?;
        }
        Ok(json)
    }

    /// Leaves out one part: texts of others first. Returns whether there was one.
    fn leave_one_out(&mut self) -> bool {
        let Found { log, dump, threads, cgroup, sockets, .. } = &mut self.found;
        let part = if dump.take().is_some() {
            "dump"
        } else if log.take().is_some() {
            "log"
        } else if threads.take().is_some() {
            "threads"
        } else if cgroup.take().is_some() {
            "cgroup"
        } else if sockets.take().is_some() {
            "sockets"
        } else if !std::mem::take(&mut self.samples).is_empty() {
            "samples"
        } else {
            return false;
        };
        let why = format!("the evidence would have more than {} KiB", MAX_BYTES >> 10);
        self.missing.push(Missing::new(part, why));
        true
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use paramedic_host::evidence::{
        cgroup::Files,
        sockets::{Peer, Scope, Side, Sockets},
        threads::{Group, Threads},
    };

    use super::*;

    /// Evidence with every part that a summary uses.
    pub(crate) fn evidence(incident: i64) -> Evidence {
        let group = |count, state, waits_in: &str| Group {
            count,
            state,
            waits_in: Some(waits_in.to_owned()),
            stack: vec![waits_in.to_owned(), "do_syscall_64".to_owned()],
            names: [("worker".to_owned(), count)].into(),
            ids: vec![7],
        };
        let serving = Side {
            states: [("established".to_owned(), 40), ("listen".to_owned(), 1)].into(),
            accept_queue: 12,
            unread_connections: 9,
            unread_bytes: 900,
            peers: vec![Peer { address: "10.0.0.9".to_owned(), connections: 40 }],
            peers_total: 1,
            ..Side::default()
        };
        let groups = vec![group(38, 'S', "futex_wait_queue"), group(2, 'D', "io_schedule")];
        let sockets = Sockets { scope: Scope::Own, serving, others: Side::default() };
        Evidence {
            version: VERSION,
            incident,
            boot: "6f1c2a3b-0000-4000-8000-123456789abc".to_owned(),
            target: TargetId { uid: "http://localhost:5000".into(), instance: "41@7".into() },
            name: "http://localhost:5000".to_owned(),
            remedy: Remedy::Restart,
            wall_time: 1_767_323_045,
            took_ms: 41,
            summary: String::new(),
            missing: vec![Missing::new("log", "a plain process")],
            samples: Vec::new(),
            found: Found {
                threads: Some(Threads { total: 40, read: 40, groups, more_groups: 0 }),
                sockets: Some(sockets),
                cgroup: Some(Files {
                    shared: false,
                    files: [("cpu.max".to_owned(), "max 100000".to_owned())].into(),
                }),
                ..Found::default()
            },
        }
    }

    /// A sample with a column of each kind.
    pub(crate) fn look() -> Look {
        Look {
            seconds_before: 2.04,
            action: Action::RestartService,
            confidence: 0.934,
            source: "model".to_owned(),
            health: Some("silent".to_owned()),
            features: [("cpu_usage", Some(0.0)), ("health_failures", Some(3.0)), ("uptime", None)]
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
        }
    }

    fn text(text: String) -> Option<Text> {
        Some(Text { from: "here".to_owned(), cut: false, text })
    }

    #[test]
    fn what_others_wrote_is_redacted() {
        let mut evidence = evidence(1);
        evidence.found.log = text("login with password=hunter2\n".to_owned());
        evidence.found.dump = text("{\"token\": \"hunter3\"}".to_owned());
        let json = String::from_utf8(evidence.seal().unwrap()).unwrap();
        assert!(!json.contains("hunter2") && !json.contains("hunter3"), "{json}");
        assert!(json.contains(REDACTED));
    }

    #[test]
    fn oversized_parts_are_left_out_and_said_to_be() {
        let mut evidence = evidence(1);
        // Each quote takes two bytes in JSON.
        evidence.found.dump = text("\"".repeat(600 << 10));
        evidence.found.log = text("x".repeat(64 << 10));
        let json = evidence.seal().unwrap();
        assert!(json.len() <= MAX_BYTES);
        assert_eq!(evidence.found.dump, None);
        assert!(evidence.found.log.is_some());
        assert!(evidence.missing.iter().any(|one| one.part == "dump"), "{:?}", evidence.missing);
        evidence.found.cgroup = Some(Files {
            shared: false,
            files: (0..4000).map(|n| (n.to_string(), "x".repeat(1000))).collect(),
        });
        let json = evidence.seal().unwrap();
        assert!(json.len() <= MAX_BYTES);
        let back: Evidence = serde_json::from_slice(&json).unwrap();
        assert_eq!(back, evidence);
    }

    #[test]
    fn a_file_is_read_back_as_it_was() {
        let mut evidence = evidence(3);
        evidence.samples.push(look());
        let json = evidence.seal().unwrap();
        assert_eq!(serde_json::from_slice::<Evidence>(&json).unwrap(), evidence);
    }
}
