//! Grades the whole live agent, with guard, heal and verify, on new episodes.
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{
    client::Request,
    kind::{Kind, Remedy},
    plan::Episode,
    record::{self, BEFORE, Measured},
    subject::{self, Subject},
    truth,
};
use crate::stage::{
    Interrupt, Programs,
    agent::{Agent, Setup},
    boot_ns,
    patient::Patient,
};

/// From the fault to the end: a soft heal, its verification, a restart, its verification.
const LIVE: Duration = Duration::from_secs(50);
/// How long an agent may take to answer at the end: its target may have been restarted just now.
const ANSWER: Duration = Duration::from_secs(5);
/// What a batch takes, about.
pub(crate) const TAKES: Duration = Duration::from_secs(72);
const STEP: Duration = Duration::from_millis(50);

/// The result of the agent in one episode.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Graded {
    #[serde(flatten)]
    pub(crate) episode: Episode,
    /// The right remedy, as measured on paired subjects of this kind.
    pub(crate) expected: Remedy,
    pub(crate) verdict: Verdict,
    /// Whether a milder remedy was tried first.
    pub(crate) climbed: bool,
    /// Remedies before the fault, or for a target that needs none and serves its clients well.
    pub(crate) on_healthy: Given,
    /// Seconds from the fault to the first remedy, and until its clients were served again; `None`
    /// where there was none, or they were not served again by the end.
    pub(crate) to_heal_s: Option<f64>,
    pub(crate) to_well_s: Option<f64>,
}

/// Counts of remedies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Given {
    pub(crate) soft: u32,
    pub(crate) hard: u32,
}

/// The result of all remedies of an episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// The right remedy, or rightly no remedy, and its clients are served.
    Right,
    /// A stronger remedy than the right one, or one for a target that needed none.
    Wrong,
    /// Unhealthy, and not healed.
    Missed,
    /// The agent itself no longer answered at the end, so that it took no action proves nothing.
    AgentDied,
}

/// Judges an episode. Pure.
fn judge(expected: Remedy, given: Given, well: bool) -> Verdict {
    let Given { soft, hard } = given;
    let (too_much, cured) = match expected {
        Remedy::NoAction => (soft + hard > 0, true),
        Remedy::ResetErrors => (hard > 0, soft > 0 && well),
        Remedy::RestartService => (false, hard > 0 && well),
    };
    match (too_much, cured) {
        (true, _) => Verdict::Wrong,
        (false, true) => Verdict::Right,
        (false, false) => Verdict::Missed,
    }
}

/// Whether a remedy at `at` went to a healthy target: before the fault, or after a fault that needs
/// no remedy and that no client noticed. Pure.
fn is_needless(kind: Kind, expected: Remedy, requests: &[Request], fault: u64, at: u64) -> bool {
    let felt = || !truth::is_well(requests, fault, at);
    kind.is_healthy() || at < fault || (expected == Remedy::NoAction && !felt())
}

/// The folders of the lab's recordings, in that of the model.
const RECORDED: [&str; 2] = ["data", "data/silence"];

/// The right remedy of each kind: the one measured in most recorded episodes.
pub(crate) fn expected(model: &Path) -> Result<BTreeMap<Kind, Remedy>> {
    let mut counts: BTreeMap<Kind, [usize; 3]> = BTreeMap::new();
    for folder in RECORDED {
        let path = model.join(folder).join("episodes.jsonl");
        let text = fs::read_to_string(&path).with_context(|| {
            format!("{}: what is right is known from recorded episodes", path.display())
        })?;
        for line in text.lines() {
            let measured: Measured = serde_json::from_str(line)
                .with_context(|| format!("{} is not of this lab", path.display()))?;
            counts.entry(measured.episode.kind).or_default()[measured.measure.label as usize] += 1;
        }
    }
    let most = |counts: [usize; 3]| {
        let best = Remedy::ALL.into_iter().rev().max_by_key(|remedy| counts[*remedy as usize]);
        best.unwrap_or(Remedy::NoAction)
    };
    Ok(counts.into_iter().map(|(kind, counts)| (kind, most(counts))).collect())
}

/// A subject with an agent of its own. The targets of one agent share a node's budget of hard
/// remedies, and here each counts as a node.
struct LiveTrial {
    agent: Agent,
    subject: Subject,
    upstream: Option<Patient>,
    starts: u32,
    fault: u64,
    died: bool,
    _state: tempfile::TempDir,
}

/// Plays a batch, every subject with its own live agent.
pub(crate) fn play(
    programs: &Programs,
    batch: &[Episode],
    expected: &BTreeMap<Kind, Remedy>,
    arguments: &[String],
    interrupt: &Interrupt,
) -> Result<Vec<Graded>> {
    let mut stage = Vec::new();
    for episode in batch {
        interrupt.check()?;
        stage.push(prepare(programs, episode, arguments)?);
    }
    stage.iter_mut().for_each(|trial| trial.subject.open());
    record::wait(BEFORE, interrupt)?;
    for (trial, episode) in stage.iter_mut().zip(batch) {
        trial.fault = boot_ns();
        trial.subject.inject()?;
        if let Some(upstream) = &trial.upstream {
            record::fail_upstream(upstream, episode)?;
        }
        trial.starts = trial.subject.patient.starts();
    }
    let (fault, mut before) = (Instant::now(), Duration::ZERO);
    while before < LIVE {
        interrupt.check()?;
        thread::sleep(STEP);
        let since = fault.elapsed();
        for trial in &mut stage {
            let starts = trial.subject.patient.starts();
            if starts == trial.starts {
                // A process that is just ending cannot be made worse.
                let _ = trial.subject.develop(before, since);
            } else {
                trial.subject.after_restart(trial.starts)?;
                trial.starts = starts;
            }
        }
        before = since;
    }
    let end = boot_ns();
    for trial in &mut stage {
        let agent = &trial.agent;
        let answers = interrupt.until("the agent answers", ANSWER, STEP, || {
            ensure!(agent.is_ready(), "it does not");
            Ok(())
        });
        interrupt.check()?;
        trial.died = answers.is_err();
    }
    stage
        .iter()
        .zip(batch)
        .map(|(trial, episode)| {
            let right = expected.get(&episode.kind).with_context(|| {
                format!("no recorded episode tells what is right for {}", episode.kind.name())
            })?;
            Ok(graded(trial, episode, *right, end))
        })
        .collect()
}

fn prepare(programs: &Programs, episode: &Episode, arguments: &[String]) -> Result<LiveTrial> {
    let name = format!("grade-{}", episode.id);
    let upstream = subject::upstream(programs, episode, &name)?;
    let subject = Subject::prepare(programs, episode, &name, upstream.as_ref())?;
    let state = tempfile::tempdir()?;
    let agent = agent(programs, vec![subject.patient.url.clone()], state.path(), arguments)?;
    Ok(LiveTrial { agent, subject, upstream, starts: 1, fault: 0, died: false, _state: state })
}

/// An agent that may apply every remedy that one machine permits.
pub(crate) fn agent(
    programs: &Programs,
    urls: Vec<String>,
    state: &Path,
    arguments: &[String],
) -> Result<Agent> {
    let may = ["--max-remedy", "restart"].map(str::to_owned);
    let arguments = may.into_iter().chain(arguments.iter().cloned()).collect();
    Agent::start(programs, &Setup { urls, state_dir: state.to_path_buf(), arguments }, |_| ())
}

fn graded(trial: &LiveTrial, episode: &Episode, expected: Remedy, end: u64) -> Graded {
    let lines = trial.agent.lines();
    let heals: Vec<(u64, bool)> = lines
        .iter()
        .filter(|line| line.message() == "healing")
        .map(|line| {
            (line.number("boot_ns").unwrap_or_default() as u64, line.text("remedy") != "soft")
        })
        .collect();
    let count = |which: &dyn Fn(u64) -> bool| {
        let all = heals.iter().filter(|(at, _)| which(*at));
        all.fold(Given::default(), |given, (_, hard)| Given {
            soft: given.soft + u32::from(!hard),
            hard: given.hard + u32::from(*hard),
        })
    };
    let fault = trial.fault;
    let (early, given) = (count(&|at| at < fault), count(&|at| at >= fault));
    let requests = trial.subject.clients.requests();
    let well = truth::is_well(&requests, end.saturating_sub(truth::JUDGED_NS), end);
    let seconds = |at: u64| at.saturating_sub(fault) as f64 / 1e9;
    let verdict = match early {
        _ if trial.died => Verdict::AgentDied,
        Given { soft: 0, hard: 0 } => judge(expected, given, well),
        _ => Verdict::Wrong,
    };
    Graded {
        episode: episode.clone(),
        expected,
        verdict,
        climbed: given.soft > 0 && given.hard > 0,
        on_healthy: count(&|at| is_needless(episode.kind, expected, &requests, fault, at)),
        to_heal_s: heals.iter().find(|(at, _)| *at >= fault).map(|(at, _)| seconds(*at)),
        to_well_s: truth::well_since(&requests, fault, end).map(seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remedy_for_a_fault_that_no_client_notices_counts_as_one_on_a_healthy_target() {
        use Remedy::{NoAction, RestartService};
        let served = |good| (0..20).map(|at| Request { at, good }).collect::<Vec<_>>();
        let (well, ill) = (served(true), served(false));
        assert!(is_needless(Kind::LiesSick, NoAction, &well, 5, 15));
        assert!(!is_needless(Kind::Upstream, NoAction, &ill, 5, 15), "wrong, but not healthy");
        assert!(!is_needless(Kind::Leak, RestartService, &well, 5, 15), "in good time");
        assert!(is_needless(Kind::Leak, RestartService, &well, 5, 4), "before the fault");
        assert!(is_needless(Kind::HealthyIdle, NoAction, &ill, 5, 15));
    }

    #[test]
    fn the_whole_ladder_is_judged() {
        use Remedy::{NoAction, ResetErrors, RestartService};
        let given = |soft, hard| Given { soft, hard };
        assert_eq!(judge(NoAction, given(0, 0), false), Verdict::Right, "nothing helps");
        assert_eq!(judge(NoAction, given(1, 0), true), Verdict::Wrong);
        assert_eq!(judge(ResetErrors, given(1, 0), true), Verdict::Right);
        assert_eq!(judge(ResetErrors, given(1, 1), true), Verdict::Wrong);
        assert_eq!(judge(ResetErrors, given(0, 0), false), Verdict::Missed);
        assert_eq!(judge(RestartService, given(1, 1), true), Verdict::Right, "by climbing");
        assert_eq!(judge(RestartService, given(1, 0), false), Verdict::Missed);
        assert_eq!(judge(RestartService, given(0, 1), false), Verdict::Missed);
    }
}
