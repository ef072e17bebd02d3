//! The scenes. Each begins with a healthy patient and an agent that watches it, injects one
//! fault, and says what must and must not happen.
use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::{
    libc,
    sys::socket::{setsockopt, sockopt},
};
use serde_json::json;

use super::{Verdict, story::Story};
use crate::stage::{
    Interrupt, Programs,
    agent::{Agent, Line, Setup},
    boot_ns, http,
    patient::Patient,
    traffic::Traffic,
};

/// One scene.
pub(super) struct Scene {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) play: fn(&Set<'_>) -> Result<Verdict>,
}

/// What a scene plays with.
pub(super) struct Set<'a> {
    pub(super) programs: &'a Programs,
    pub(super) interrupt: &'a Interrupt,
    pub(super) story: &'a Story,
    pub(super) name: &'static str,
}

pub(super) const SCENES: [Scene; 9] = [
    Scene {
        name: "soft heal",
        about: "Eight errors, one a second: reset at the sixth, and that is enough.",
        play: soft_heal,
    },
    Scene {
        name: "error burst",
        about: "Fifteen errors at once: beyond a reset, so a restart.",
        play: error_burst,
    },
    Scene {
        name: "errors go on",
        about: "Fifteen errors, two a second: reset at the sixth, and when they come back, a restart.",
        play: errors_go_on,
    },
    Scene {
        name: "lying health",
        about: "/health says all is well while half the responses are 500: the kernel saw them.",
        play: lying_health,
    },
    Scene {
        name: "client resets",
        about: "Clients reset their connections: nobody's illness here.",
        play: client_resets,
    },
    Scene {
        name: "cpu quota",
        about: "The CPU quota throttles it: it needs CPU, not a restart.",
        play: cpu_quota,
    },
    Scene {
        name: "out of memory",
        about: "The OOM killer ends it, and its supervisor starts it again: a restart is nobody's task.",
        play: out_of_memory,
    },
    Scene {
        name: "stubborn errors",
        about: "The reset does not help: one rung up.",
        play: stubborn_errors,
    },
    Scene {
        name: "agent killed",
        about: "The agent dies by SIGKILL in mid-heal: it comes back, neither forgets nor repeats.",
        play: agent_killed,
    },
];

/// From the fault to the verdict on the remedy, at the most.
const LIMIT: Duration = Duration::from_secs(45);
/// How long a target must be left alone in the scenes where nothing is to be done.
const LEFT_ALONE: Duration = Duration::from_secs(10);

/// A healthy patient and an agent that has looked at it.
struct Cast {
    // Dropped in this order: the agent must not see its patient vanish.
    agent: Agent,
    patient: Patient,
    setup: Setup,
    _state: tempfile::TempDir,
}

impl Set<'_> {
    fn cast(&self, patient_arguments: &[&str]) -> Result<Cast> {
        let patient =
            Patient::start(self.programs, &self.name.replace(' ', "-"), patient_arguments)?;
        let state = tempfile::tempdir()?;
        let setup = Setup {
            urls: vec![patient.url.clone()],
            state_dir: state.path().to_path_buf(),
            arguments: ["--max-action", "restart", "--verify-window", "5"].map(String::from).into(),
        };
        let agent = self.agent(&setup)?;
        Ok(Cast { agent, patient, setup, _state: state })
    }

    fn agent(&self, setup: &Setup) -> Result<Agent> {
        let story = *self.story;
        Agent::start(self.programs, setup, move |line| story.hear(line))
    }

    fn tell(&self, what: &str) {
        self.story.tell(what);
    }

    fn wait(&self, agent: &Agent, what: &str, fits: impl Fn(&Line) -> bool) -> Result<Line> {
        agent
            .wait_for(LIMIT, self.interrupt, fits)?
            .with_context(|| format!("within {} s the agent did not say: {what}", LIMIT.as_secs()))
    }

    /// Waits for a remedy and its good end.
    fn healed(&self, agent: &Agent, rung: &str) -> Result<Line> {
        let healing = self.wait(agent, &format!("healing by {rung}"), |line| {
            line.message() == "healing" && line.text("rung") == rung
        })?;
        let ended = self.wait(agent, &format!("{rung} ended"), |line| {
            line.message() == "treatment ended" && line.text("rung") == rung
        })?;
        ensure!(ended.text("outcome") == "healed", "{rung} ended {}", ended.text("outcome"));
        Ok(healing)
    }

    fn verdict(&self, action: &str, healing: &Line, fault_at: u64) -> Verdict {
        let healing_at = healing.number("boot_ns").unwrap_or(0.0);
        Verdict {
            name: self.name,
            pass: true,
            action: action.to_owned(),
            fault_to_heal_ms: Some((healing_at - fault_at as f64) / 1e6),
            confidence: healing.number("confidence"),
            reasons: healing.text("reasons").split(", ").map(str::to_owned).collect(),
            problem: None,
        }
    }

    /// The target is to be left alone although `feature` stands out, and the agent is to say why.
    fn left_alone(&self, cast: &Cast, feature: &str) -> Result<Verdict> {
        let healing =
            cast.agent.wait_for(LEFT_ALONE, self.interrupt, |line| line.message() == "healing")?;
        ensure!(healing.is_none(), "it was healed, and nothing was wrong with it");
        let lines = cast.agent.lines();
        let why = lines
            .iter()
            .find(|line| line.message() == "left alone" && line.text("feature") == feature)
            .with_context(|| format!("the agent never said that it leaves {feature} alone"))?;
        ensure!(cast.patient.lives() == 1, "the patient was restarted");
        Ok(Verdict {
            name: self.name,
            pass: true,
            action: "left alone".to_owned(),
            fault_to_heal_ms: None,
            confidence: why.number("confidence"),
            reasons: vec![why.text("reason").to_owned()],
            problem: None,
        })
    }
}

fn soft_heal(set: &Set<'_>) -> Result<Verdict> {
    let cast = set.cast(&[])?;
    set.tell("eight errors, one a second");
    let mut sixth = 0;
    for n in 1..=8 {
        cast.patient.errors(1)?;
        if n == 6 {
            sixth = boot_ns();
        }
        thread::sleep(Duration::from_secs(1));
        set.interrupt.check()?;
    }
    let healing = set.healed(&cast.agent, "soft")?;
    ensure!(cast.patient.lives() == 1, "the patient was restarted");
    let errors = http::number(&format!("{}/health", cast.patient.url), "error_count")?;
    ensure!(errors <= 5, "{errors} errors are left");
    Ok(set.verdict("soft", &healing, sixth))
}

fn error_burst(set: &Set<'_>) -> Result<Verdict> {
    let cast = set.cast(&[])?;
    set.tell("fifteen errors at once");
    let fault = fifteen_at_once(&cast)?;
    let healing = set.healed(&cast.agent, "restart")?;
    ensure!(cast.patient.lives() == 2, "it lived {} times, not twice", cast.patient.lives());
    Ok(set.verdict("restart", &healing, fault))
}

fn errors_go_on(set: &Set<'_>) -> Result<Verdict> {
    let cast = set.cast(&[])?;
    set.tell("fifteen errors, two a second");
    let begun = boot_ns();
    for _ in 0..15 {
        // While it restarts nobody answers: that error is lost, as it would be for a client.
        let _ = cast.patient.errors(1);
        thread::sleep(Duration::from_millis(500));
        set.interrupt.check()?;
    }
    let healing = set.healed(&cast.agent, "restart")?;
    let lines = cast.agent.lines();
    let soft = lines.iter().find(|l| l.message() == "treatment ended" && l.text("rung") == "soft");
    let soft = soft.context("no reset was tried before the restart")?;
    ensure!(soft.text("outcome") == "not_healed", "the reset ended {}", soft.text("outcome"));
    ensure!(cast.patient.lives() == 2, "it lived {} times, not twice", cast.patient.lives());
    Ok(set.verdict("soft, then restart", &healing, begun))
}

fn lying_health(set: &Set<'_>) -> Result<Verdict> {
    let cast = set.cast(&["--data-failure-ratio", "0"])?;
    set.tell("it begins to lie; half of /data answers 500; 40 requests a second");
    let _traffic = traffic(&cast, 40);
    cast.patient.fall_ill("lie", &json!({ "as": "healthy" }))?;
    cast.patient.fall_ill("errors", &json!({ "ratio": 0.5, "cleared_by": "reset_errors" }))?;
    let fault = boot_ns();
    let healing = set.healed(&cast.agent, "soft")?;
    let first = healing.text("reasons");
    ensure!(
        first.starts_with("http_5xx_") || first.starts_with("http_request_rate"),
        "the first reason is no kernel column: {first}"
    );
    Ok(set.verdict("soft", &healing, fault))
}

fn client_resets(set: &Set<'_>) -> Result<Verdict> {
    let cast = set.cast(&["--data-failure-ratio", "0"])?;
    set.tell("200 clients reset their connections, 40 a second, amid healthy traffic");
    let _traffic = traffic(&cast, 20);
    let address = cast.patient.url.trim_start_matches("http://").to_owned();
    for _ in 0..200 {
        reset(&address)?;
        thread::sleep(Duration::from_millis(25));
        set.interrupt.check()?;
    }
    set.left_alone(&cast, "tcp_reset_rate")
}

fn cpu_quota(set: &Set<'_>) -> Result<Verdict> {
    let cast = set.cast(&["--data-failure-ratio", "0"])?;
    set.tell("a quota of 30 % of one core, and work for two");
    cast.patient.cgroup.limit_cpu(30)?;
    cast.patient.fall_ill("burn", &json!({ "threads": 2 }))?;
    set.left_alone(&cast, "cpu_throttled_ratio")
}

fn out_of_memory(set: &Set<'_>) -> Result<Verdict> {
    let cast = set.cast(&["--data-failure-ratio", "0"])?;
    set.tell("a limit of 64 MiB, and a leak that reaches it at once");
    cast.patient.cgroup.limit_memory(64 << 20)?;
    let leak = json!({ "mib_per_second": 4096, "max_mib": 256 });
    // It may be killed before it can answer.
    let _ = cast.patient.fall_ill("leak", &leak);
    let ended = set.wait(&cast.agent, "the process ended", |line| {
        line.message().starts_with("the process ended")
    })?;
    // A slow machine lets it live long enough to be asked for a reset.
    let healing = cast.agent.wait_for(LEFT_ALONE, set.interrupt, |line| {
        line.message() == "healing" && line.text("rung") != "soft"
    })?;
    ensure!(healing.is_none(), "it was restarted, and its supervisor had done that");
    ensure!(cast.patient.sigterms().is_empty(), "it was asked to end");
    ensure!(cast.patient.lives() == 2, "it lived {} times, not twice", cast.patient.lives());
    let targets = http::get(&format!("{}/api/v1/targets", cast.agent.url))?;
    let watched = targets[0]["id"]["instance"].as_str().unwrap_or_default();
    ensure!(!watched.is_empty() && watched != ended.text("instance"), "{watched} is watched still");
    Ok(Verdict {
        name: set.name,
        pass: true,
        action: "left to supervisor".to_owned(),
        fault_to_heal_ms: None,
        confidence: None,
        reasons: vec!["killed for want of memory".to_owned()],
        problem: None,
    })
}

fn stubborn_errors(set: &Set<'_>) -> Result<Verdict> {
    let cast = set.cast(&["--data-failure-ratio", "0"])?;
    set.tell("an illness that only a restart clears; eight errors, and more after the reset");
    cast.patient.fall_ill("errors", &json!({ "ratio": 1.0, "cleared_by": "restart" }))?;
    cast.patient.errors(8)?;
    let fault = boot_ns();
    set.wait(&cast.agent, "healing by soft", |line| {
        line.message() == "healing" && line.text("rung") == "soft"
    })?;
    let _traffic = traffic(&cast, 3);
    let soft = set.wait(&cast.agent, "soft not healed", |line| {
        line.message() == "treatment ended" && line.text("rung") == "soft"
    })?;
    let helped = !["not_healed", "worse"].contains(&soft.text("outcome"));
    ensure!(!helped, "the reset ended {}", soft.text("outcome"));
    let healing = set.healed(&cast.agent, "restart")?;
    ensure!(cast.patient.lives() == 2, "it lived {} times, not twice", cast.patient.lives());
    Ok(set.verdict("soft, then restart", &healing, fault))
}

fn agent_killed(set: &Set<'_>) -> Result<Verdict> {
    let cast = set.cast(&["--grace-seconds", "4"])?;
    set.tell("a slow request is under way, so the patient takes time to end; fifteen errors");
    cast.patient.fall_ill("slow", &json!({ "milliseconds": 8000 }))?;
    let slow = format!("{}/data", cast.patient.url);
    let under_way = thread::spawn(move || http::get(&slow));
    thread::sleep(Duration::from_millis(200));
    cast.patient.get_well("slow")?;
    let fault = fifteen_at_once(&cast)?;
    let healing = set.wait(&cast.agent, "healing by restart", |line| {
        line.message() == "healing" && line.text("rung") == "restart"
    })?;
    while cast.patient.sigterms().is_empty() {
        set.interrupt.check()?;
        ensure!(boot_ns() - fault < 30_000_000_000, "no SIGTERM within 30 s");
        thread::sleep(Duration::from_millis(5));
    }
    let Cast { agent, patient, setup, _state } = cast;
    agent.kill()?;
    ensure!(patient.lives() == 1, "the patient was too quick to end: this was no mid-heal");
    set.tell("SIGTERM has reached the patient; the agent is killed, and started again");
    let agent = set.agent(&setup)?;
    set.wait(&agent, "an intention was found", |line| line.message().contains("intention"))?;
    let ended = set.wait(&agent, "restart ended", |line| line.message() == "treatment ended")?;
    // The slow request was cut off or answered by the end of its server: either will do.
    let _ = under_way.join();
    ensure!(ended.text("outcome") == "healed", "the restart ended {}", ended.text("outcome"));
    let again = agent.lines().iter().any(|line| line.message() == "healing");
    ensure!(!again, "the remedy was repeated");
    ensure!(patient.sigterms().len() == 1, "{} SIGTERMs, not one", patient.sigterms().len());
    ensure!(patient.lives() == 2, "it lived {} times, not twice", patient.lives());
    Ok(set.verdict("restart, once", &healing, fault))
}

/// Fifteen errors, and when the last was answered. A busy machine could spread them over several
/// looks, of which the first would rightly ask for a reset.
fn fifteen_at_once(cast: &Cast) -> Result<u64> {
    cast.agent.while_stopped(|| {
        cast.patient.errors(15)?;
        Ok(boot_ns())
    })
}

/// Opens a connection, asks, and resets it.
fn reset(address: &str) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET /data HTTP/1.1\r\nHost: demo\r\n\r\n")?;
    let mut first = [0];
    stream.read_exact(&mut first)?;
    setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
    Ok(())
}

/// So many requests a second, until dropped.
fn traffic(cast: &Cast, per_second: u32) -> Traffic {
    let url = format!("{}/data", cast.patient.url);
    Traffic::start(Duration::from_secs(1) / per_second, move || {
        // A patient that is being restarted does not answer: that is the scene.
        let _ = http::get(&url);
    })
}
