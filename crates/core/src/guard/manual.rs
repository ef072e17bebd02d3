//! The meaning of each gate for operators: the table in `docs/operations.md`.
use std::fmt::Write as _;

use super::Gate;

impl Gate {
    /// The condition for a refusal, in Markdown.
    #[must_use]
    pub const fn refuses_when(self) -> &'static str {
        match self {
            Self::Mode => {
                "the remedy is above the ceiling of the target or the node, it is impossible for \
                 this target, or the rules alone ask for a restart"
            }
            Self::Confidence => "the calibrated confidence is below 0.8",
            Self::Unfamiliar => {
                "a hard remedy is wanted on values that never came together in the recordings that \
                 the model was trained on; the reason names the columns"
            }
            Self::Evidence => {
                "fewer than 2 of 3 samples agree (restart: 3 of 4 over 400 ms, two fresh polls, \
                 and a current symptom)"
            }
            Self::WarmUp => "the instance is new and has not answered well yet",
            Self::Excused => {
                "the cause is elsewhere: the app blames a dependency, its calls fail or get no \
                 answer, it is in maintenance, or only its health check fails while the kernel \
                 sees it serve others"
            }
            Self::Patience => {
                "it has failed to answer for less than 10 s (an option, an annotation, or what \
                 its liveness probe grants), or given twenty errors at most for less than 5 s"
            }
            Self::Resize => {
                "a remedy is wanted for a level of CPU or memory alone, and its owner permits a resize in \
                 place, which is tried first; the remedy waits two minutes at most"
            }
            Self::Cooldown => "it was reset within 10 s, or restarted within 10 min",
            Self::NodeBudget => "two hard remedies were applied on this node within a minute",
            Self::NodeNetwork => {
                "most targets of the node, and at least three, failed a poll within 20 s"
            }
            Self::Exhausted => {
                "every permitted remedy was tried and none helped, until it has been well for 5 \
                 min; or two hard remedies for pods of its workload did not help"
            }
            Self::Futile => {
                "the remedy would not help: a restart did not the last time, the same symptom \
                 came back within 10 min of it, the instance has failed since it started, its \
                 workers are new and fail, a disk is full, or clients that do not read hold its \
                 threads"
            }
            Self::Journal => "the intention cannot be written to disk (hard remedies only)",
            Self::Window => "it is a time at which the owner wants no remedy",
            Self::Approval => "the owner wants to be asked, and nobody has approved this remedy",
            Self::Paused => {
                "the state directory holds a file `paused`, or the agents' namespace has the \
                 annotation `paramedic.dev/paused`"
            }
            Self::ApiServer => {
                "the API server does not answer, or answers too slowly for its answers to be used"
            }
            Self::Identity => "the pod or its container is no longer the one that was judged",
            Self::Rollout => {
                "the workload is rolling out, being scaled or replacing a pod, or some of its \
                 pods that no agent counts as sick have been unready for less than 10 min"
            }
            Self::DisruptionBudget => {
                "a PodDisruptionBudget does not permit an eviction, which the agent also asks for \
                 (as a dry run) before a restart"
            }
            Self::Overload => "most pods of the workload, and at least two, are sick",
            Self::WorkloadLock => {
                "an agent on any node is treating another pod of the workload, or the workload \
                 has used its share: one hard remedy in 10 min, or one for each ten pods"
            }
        }
    }

    /// What to do about a refusal, in Markdown.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Mode => {
                "raise the ceiling, or the cap of the namespace, if you agree with the verdict"
            }
            Self::Confidence => "wait: it rises or the symptom ends",
            Self::Unfamiliar => {
                "look at the service; record it and retrain \
                 ([model.md](model.md#retrain-on-your-own-recordings))"
            }
            Self::Evidence => "wait: it builds up or the symptom ends",
            Self::WarmUp => "wait, or set `--warm-up` or the annotation `paramedic.dev/warm-up`",
            Self::Excused => {
                "look at what the reason names: the dependency, the maintenance, or the health \
                 check ([health.md](health.md))"
            }
            Self::Patience => {
                "wait, or set `--patience` or the annotation `paramedic.dev/patience`"
            }
            Self::Resize => "wait; `paramedic explain` shows the resize ([resize.md](resize.md))",
            Self::Cooldown | Self::WorkloadLock => "wait",
            Self::NodeBudget => "many pods of one node are sick: look at the node",
            Self::NodeNetwork => "the cause is the node, its network or its CPU: look at the node",
            Self::Exhausted => "look at the pod",
            Self::Futile => {
                "look at the service; `paramedic incidents --verbose` lists the earlier remedies"
            }
            Self::Journal => "repair the state directory",
            Self::Window => "wait, or change `paramedic.dev/not-between` or `--not-between`",
            Self::Approval => {
                "look at the service, then `paramedic approve` it ([approval.md](approval.md))"
            }
            Self::Paused => {
                "`kubectl get namespace paramedic-system -o yaml`; remove the annotation or the \
                 file"
            }
            Self::ApiServer => "the agent's log names the cause: RBAC, network, load",
            Self::Identity => "nothing: the pod was replaced",
            Self::Rollout => {
                "wait for it to end, or repair it: `kubectl rollout status`. With `… pods are not \
                 ready yet`, pods are starting; a pod that cannot start (`kubectl get pods`: \
                 Pending, CrashLoopBackOff) delays hard remedies by 10 min"
            }
            Self::DisruptionBudget => "too few pods are ready: `kubectl get pdb`",
            Self::Overload => "scale the workload, or find what its pods share",
        }
    }

    /// All gates, in the order in which they are asked, as a table in Markdown.
    #[must_use]
    pub fn table() -> String {
        let mut table = "| Gate | Refuses when | What to do |\n|---|---|---|\n".to_owned();
        for gate in Self::ALL {
            let (name, when, advice) = (gate.name(), gate.refuses_when(), gate.advice());
            // Writing into a string does not fail.
            let _ = writeln!(table, "| `{name}` | {when} | {advice} |");
        }
        table
    }
}
