//! Records many healthy targets for a long time, to count how often the agent would have applied a
//! remedy to a target that needs none.
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use xtask::{process, workspace::write_if_changed};

use super::{
    kind::Kind,
    plan::{Episode, Load},
    progress::Progress,
    subject::Subject,
};
use crate::stage::{
    Interrupt, Programs,
    agent::{Agent, Setup},
};

/// A soak is played in spells of this many minutes, each with new targets, so that it can be
/// interrupted.
const SPELL_MIN: u64 = 20;
/// Targets that one agent watches: to find a process it reads every other one.
const WATCHED: usize = 65;
/// How often the owner restarts a target, in the kind with deployments.
const DEPLOY: Duration = Duration::from_secs(240);

/// How often the progress of a spell is printed.
const TELL: Duration = Duration::from_secs(10);

/// Records the wanted minutes of healthy targets below `root`, except those that are there.
pub(crate) fn record(
    programs: &Programs,
    root: &Path,
    seed: u64,
    minutes: u64,
    patients: usize,
    interrupt: &Interrupt,
) -> Result<()> {
    let spells = minutes.div_ceil(SPELL_MIN);
    let each = Duration::from_secs(SPELL_MIN * 60);
    let mut progress = Progress::new("soak", spells as usize, each);
    for spell in 0..spells {
        // Each spell has its own seed, so its targets differ from those of another.
        let seed = seed.wrapping_add(spell);
        let folder = root.join(format!("{seed:03}-{patients}"));
        let done = folder.join("done");
        if done.exists() {
            progress.skip();
            continue;
        }
        if folder.exists() {
            fs::remove_dir_all(&folder).context("an interrupted spell")?;
        }
        progress.tell("playing");
        let tell = |text: &str| progress.tell(text);
        let subjects = play(programs, seed, patients, &folder.join("trace"), interrupt, &tell)?;
        write_if_changed(&done, format!("{subjects}\n").as_bytes())?;
        progress.step(&format!("{patients} patients for {SPELL_MIN} min"));
    }
    Ok(())
}

fn play(
    programs: &Programs,
    seed: u64,
    patients: usize,
    trace: &Path,
    interrupt: &Interrupt,
    tell: &dyn Fn(&str),
) -> Result<usize> {
    let mut rng = Rng::with_seed(seed);
    let mut subjects = (0..patients)
        .map(|n| {
            interrupt.check()?;
            let episode = healthy(&mut rng, n);
            let deploys = episode.kind == Kind::HealthyDeploy;
            let subject = Subject::prepare(programs, &episode, &format!("soak-{n}"), None)?;
            let next = Duration::from_secs(rng.u64(20..DEPLOY.as_secs()));
            Ok((subject, deploys.then_some(next)))
        })
        .collect::<Result<Vec<_>>>()?;
    let state = tempfile::tempdir()?;
    let urls: Vec<_> = subjects.iter().map(|(subject, _)| subject.patient.url.clone()).collect();
    let mut agents = Vec::new();
    for (number, urls) in urls.chunks(WATCHED).enumerate() {
        interrupt.check()?;
        let trace = trace.join(number.to_string()).display().to_string();
        let arguments = ["--max-remedy", "observe", "--record-limit", "1024", "--record", &trace];
        let setup = Setup {
            urls: urls.to_vec(),
            state_dir: state.path().join(number.to_string()),
            arguments: arguments.map(str::to_owned).into(),
        };
        agents.push(Agent::start(programs, &setup, |_| ())?);
    }
    subjects.iter_mut().for_each(|(subject, _)| subject.open());
    let begun = Instant::now();
    let mut told = begun;
    while begun.elapsed() < Duration::from_secs(SPELL_MIN * 60) {
        interrupt.check()?;
        thread::sleep(Duration::from_millis(200));
        if told.elapsed() >= TELL {
            told = Instant::now();
            tell(&format!("{} of {SPELL_MIN} min", begun.elapsed().as_secs() / 60));
        }
        for (subject, next) in &mut subjects {
            if let Some(due) = next.filter(|due| begun.elapsed() >= *due) {
                subject.inject()?;
                *next = Some(due + DEPLOY);
            }
        }
    }
    drop(agents);
    Ok(subjects.len())
}

/// Most get one request a second, as most services get few.
fn healthy(rng: &mut Rng, n: usize) -> Episode {
    let kind = Kind::HEALTHY[n % Kind::HEALTHY.len()];
    let load = match kind {
        Kind::HealthyIdle | Kind::HealthyDeploy => Load::Steady(1),
        Kind::HealthyBursty => Load::Bursty(rng.u32(4..=12)),
        Kind::HealthyRareErrors => Load::Steady(rng.u32(2..=5)),
        _ => Load::Steady(rng.u32(1..=3)),
    };
    let quota = rng.bool().then(|| rng.u32(50..=150));
    Episode { id: n as u32, kind, intensity: rng.f64(), load, quota, seed: rng.u64(..) }
}

/// The remedies of an agent that may restart, in all recorded spells.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Soaked {
    /// Time watched, summed over targets.
    pub(crate) pod_minutes: f64,
    /// How many targets.
    pub(crate) pods: u64,
    /// Remedies that the agent would have applied. In a replay a reset changes nothing, so a target
    /// that would have been reset once is reset again and again.
    pub(crate) soft: u64,
    pub(crate) hard: u64,
    /// Targets that would have got a remedy.
    pub(crate) pods_treated: u64,
}

/// Replays every spell below `root` as if restarts were permitted; `arguments` name another model.
pub(crate) fn replay(programs: &Programs, root: &Path, arguments: &[String]) -> Result<Soaked> {
    let mut all = Soaked::default();
    let Ok(spells) = fs::read_dir(root) else { return Ok(all) };
    let mut traces = Vec::new();
    for spell in spells {
        let spell = spell?.path();
        if spell.join("done").exists() {
            let of_agents = fs::read_dir(spell.join("trace"))?;
            traces.extend(of_agents.map(|e| Ok(e?.path())).collect::<Result<Vec<_>>>()?);
        }
    }
    let mut progress = Progress::new("replay", traces.len(), REPLAY_TAKES);
    for trace in traces {
        progress.tell("replaying");
        let replayed = replay_one(programs, &trace, arguments)?;
        all.add(&replayed);
        progress.step(&format!("{} patients would have been treated", replayed.treated()));
    }
    Ok(all)
}

/// What the replay of one agent's trace takes, about.
const REPLAY_TAKES: Duration = Duration::from_secs(10);

/// The replay of one agent's trace.
#[derive(Debug)]
pub(crate) struct Replayed {
    summary: Value,
    /// The remedies that would have been applied.
    pub(crate) remedies: Vec<Given>,
}

/// A remedy that would have been applied, as the replay prints it.
#[derive(Debug, Deserialize)]
pub(crate) struct Given {
    pub(crate) target: String,
    pub(crate) remedy: String,
    pub(crate) why: String,
}

/// Replays the parts of a trace in a folder as if restarts were permitted.
pub(crate) fn replay_one(
    programs: &Programs,
    trace: &Path,
    arguments: &[String],
) -> Result<Replayed> {
    let parts = fs::read_dir(trace)?;
    let mut parts: Vec<PathBuf> = parts.map(|e| Ok(e?.path())).collect::<Result<_>>()?;
    parts.sort();
    ensure!(!parts.is_empty(), "{} holds no trace", trace.display());
    let mut command = Command::new(&programs.agent);
    command.args(["replay", "--json", "--max-remedy", "restart"]).args(arguments).args(parts);
    let told = process::capture(&mut command)?;
    let mut remedies = Vec::new();
    let mut summary = Value::Null;
    for line in told.lines() {
        let mut event: Value = serde_json::from_str(line).context("a replay that is no JSON")?;
        match event["event"].as_str() {
            Some("remedy") => {
                remedies.push(serde_json::from_value(event).context("a remedy of a replay")?);
            }
            Some("summary") => summary = event["summary"].take(),
            _ => {}
        }
    }
    Ok(Replayed { summary, remedies })
}

impl Replayed {
    /// How many targets would have got a remedy.
    pub(crate) fn treated(&self) -> usize {
        self.remedies.iter().map(|given| &given.target).collect::<BTreeSet<_>>().len()
    }

    /// The counts of this replay alone.
    pub(crate) fn counts(&self) -> Soaked {
        let mut counts = Soaked::default();
        counts.add(self);
        counts
    }
}

impl Soaked {
    fn add(&mut self, replayed: &Replayed) {
        let summary = &replayed.summary;
        let given = |remedy: &str| summary["remedies"][remedy].as_u64().unwrap_or_default();
        self.pod_minutes += summary["target_minutes"].as_f64().unwrap_or_default();
        self.pods += summary["targets"].as_u64().unwrap_or_default();
        self.pods_treated += replayed.treated() as u64;
        self.soft += given("soft");
        self.hard += given("restart") + given("evict");
    }
}
