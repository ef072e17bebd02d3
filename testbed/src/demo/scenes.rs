//! The scenes. Each begins with a healthy patient and an agent that watches it, injects one
//! fault, and says what must and must not happen.
use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::{
    libc,
    sys::socket::{setsockopt, sockopt},
};
use serde_json::json;
use xtask::process::on_path;

use super::{Verdict, story::Story};
use crate::stage::{
    Interrupt, Programs,
    agent::{Agent, Line, Setup},
    boot_ns, free_port, http,
    patient::Patient,
    traffic::Traffic,
};

/// One scene.
pub(super) struct Scene {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) play: fn(&Stage<'_>) -> Result<Verdict>,
}

/// What a scene has: programs, and where to report.
pub(super) struct Stage<'a> {
    pub(super) programs: &'a Programs,
    pub(super) interrupt: &'a Interrupt,
    pub(super) story: &'a Story,
    pub(super) name: &'static str,
}

pub(super) const SCENES: [Scene; 10] = [
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
        about: "Clients reset their connections: an external cause, so no action.",
        play: client_resets,
    },
    Scene {
        name: "cpu quota",
        about: "The CPU quota throttles it: it needs CPU, not a restart.",
        play: cpu_quota,
    },
    Scene {
        name: "out of memory",
        about: "The OOM killer ends it, and its supervisor starts it again: no restart by the agent.",
        play: out_of_memory,
    },
    Scene {
        name: "stubborn errors",
        about: "The reset does not help: the next remedy follows.",
        play: stubborn_errors,
    },
    Scene {
        name: "agent killed",
        about: "The agent dies by SIGKILL in mid-heal: it comes back, neither forgets nor repeats.",
        play: agent_killed,
    },
    Scene {
        name: "foreign server",
        about: "A Python service with no health check: SIGHUP helps, and later only a restart does.",
        play: foreign_server,
    },
];

/// Maximum time from the fault to the outcome of the remedy.
const LIMIT: Duration = Duration::from_secs(45);
/// How long the agent must take no action, in the scenes in which none is right.
const LEFT_ALONE: Duration = Duration::from_secs(10);

/// A healthy process of patient-app, and an agent that has sampled it.
struct Fixture {
    // Dropped in this order: the agent must not see its target vanish.
    agent: Agent,
    patient: Patient,
    setup: Setup,
    _state: tempfile::TempDir,
}

impl Stage<'_> {
    fn fixture(&self, patient_arguments: &[&str]) -> Result<Fixture> {
        let patient =
            Patient::start(self.programs, &self.name.replace(' ', "-"), patient_arguments)?;
        let state = tempfile::tempdir()?;
        let setup = Setup {
            urls: vec![patient.url.clone()],
            state_dir: state.path().to_path_buf(),
            arguments: ["--max-remedy", "restart", "--verify-window", "5"].map(String::from).into(),
        };
        let agent = self.agent(&setup)?;
        Ok(Fixture { agent, patient, setup, _state: state })
    }

    fn agent(&self, setup: &Setup) -> Result<Agent> {
        let story = *self.story;
        Agent::start(self.programs, setup, move |line| story.print_line(line))
    }

    fn tell(&self, what: &str) {
        self.story.tell(what);
    }

    fn wait(&self, agent: &Agent, what: &str, fits: impl Fn(&Line) -> bool) -> Result<Line> {
        agent
            .wait_for(LIMIT, self.interrupt, fits)?
            .with_context(|| format!("within {} s the agent did not say: {what}", LIMIT.as_secs()))
    }

    /// Waits for a remedy and its outcome `healed`.
    fn healed(&self, agent: &Agent, remedy: &str) -> Result<Line> {
        let healing = self.wait(agent, &format!("healing by {remedy}"), |line| {
            line.message() == "healing" && line.text("remedy") == remedy
        })?;
        let ended = self.wait(agent, &format!("{remedy} ended"), |line| {
            line.message() == "treatment ended" && line.text("remedy") == remedy
        })?;
        ensure!(ended.text("outcome") == "healed", "{remedy} ended {}", ended.text("outcome"));
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

    /// The agent must take no action although `feature` stands out, and must log why.
    fn left_alone(&self, fixture: &Fixture, feature: &str) -> Result<Verdict> {
        let healing = fixture
            .agent
            .wait_for(LEFT_ALONE, self.interrupt, |line| line.message() == "healing")?;
        ensure!(healing.is_none(), "it was healed, and nothing was wrong with it");
        let lines = fixture.agent.lines();
        let why = lines
            .iter()
            .find(|line| line.message() == "left alone" && line.text("feature") == feature)
            .with_context(|| format!("the agent never said that it leaves {feature} alone"))?;
        ensure!(fixture.patient.starts() == 1, "the patient was restarted");
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

fn soft_heal(stage: &Stage<'_>) -> Result<Verdict> {
    let fixture = stage.fixture(&[])?;
    stage.tell("eight errors, one a second");
    let mut sixth = 0;
    for n in 1..=8 {
        fixture.patient.errors(1)?;
        if n == 6 {
            sixth = boot_ns();
        }
        thread::sleep(Duration::from_secs(1));
        stage.interrupt.check()?;
    }
    let healing = stage.healed(&fixture.agent, "soft")?;
    ensure!(fixture.patient.starts() == 1, "the patient was restarted");
    let errors = http::number(&format!("{}/health", fixture.patient.url), "error_count")?;
    ensure!(errors <= 5, "{errors} errors are left");
    Ok(stage.verdict("soft", &healing, sixth))
}

fn error_burst(stage: &Stage<'_>) -> Result<Verdict> {
    let fixture = stage.fixture(&[])?;
    stage.tell("fifteen errors at once");
    let fault = fifteen_at_once(&fixture)?;
    let healing = stage.healed(&fixture.agent, "restart")?;
    ensure!(
        fixture.patient.starts() == 2,
        "it was started {} times, not twice",
        fixture.patient.starts()
    );
    Ok(stage.verdict("restart", &healing, fault))
}

fn errors_go_on(stage: &Stage<'_>) -> Result<Verdict> {
    let fixture = stage.fixture(&[])?;
    stage.tell("fifteen errors, two a second");
    let begun = boot_ns();
    for _ in 0..15 {
        // While it restarts it does not answer: that error is lost, as it would be for a client.
        let _ = fixture.patient.errors(1);
        thread::sleep(Duration::from_millis(500));
        stage.interrupt.check()?;
    }
    let healing = stage.healed(&fixture.agent, "restart")?;
    let lines = fixture.agent.lines();
    let soft =
        lines.iter().find(|l| l.message() == "treatment ended" && l.text("remedy") == "soft");
    let soft = soft.context("no reset was tried before the restart")?;
    ensure!(soft.text("outcome") == "not_healed", "the reset ended {}", soft.text("outcome"));
    ensure!(
        fixture.patient.starts() == 2,
        "it was started {} times, not twice",
        fixture.patient.starts()
    );
    Ok(stage.verdict("soft, then restart", &healing, begun))
}

fn lying_health(stage: &Stage<'_>) -> Result<Verdict> {
    let fixture = stage.fixture(&["--data-failure-ratio", "0"])?;
    stage.tell("it begins to lie; half of /data answers 500; 40 requests a second");
    let _traffic = traffic(&fixture, 40);
    fixture.patient.fall_ill("lie", &json!({ "as": "healthy" }))?;
    fixture.patient.fall_ill("errors", &json!({ "ratio": 0.5, "cleared_by": "reset_errors" }))?;
    let fault = boot_ns();
    let healing = stage.healed(&fixture.agent, "soft")?;
    let first = healing.text("reasons");
    ensure!(
        first.starts_with("http_5xx_") || first.starts_with("http_request_rate"),
        "the first reason is no kernel column: {first}"
    );
    Ok(stage.verdict("soft", &healing, fault))
}

fn client_resets(stage: &Stage<'_>) -> Result<Verdict> {
    let fixture = stage.fixture(&["--data-failure-ratio", "0"])?;
    stage.tell("200 clients reset their connections, 40 a second, amid healthy traffic");
    let _traffic = traffic(&fixture, 20);
    let address = fixture.patient.url.trim_start_matches("http://").to_owned();
    for _ in 0..200 {
        reset(&address)?;
        thread::sleep(Duration::from_millis(25));
        stage.interrupt.check()?;
    }
    stage.left_alone(&fixture, "tcp_reset_rate")
}

fn cpu_quota(stage: &Stage<'_>) -> Result<Verdict> {
    let fixture = stage.fixture(&["--data-failure-ratio", "0"])?;
    stage.tell("a quota of 30 % of one core, and work for two");
    fixture.patient.cgroup.limit_cpu(30)?;
    fixture.patient.fall_ill("burn", &json!({ "threads": 2 }))?;
    stage.left_alone(&fixture, "cpu_throttled_ratio")
}

fn out_of_memory(stage: &Stage<'_>) -> Result<Verdict> {
    let fixture = stage.fixture(&["--data-failure-ratio", "0"])?;
    stage.tell("a limit of 64 MiB, and a leak that reaches it at once");
    fixture.patient.cgroup.limit_memory(64 << 20)?;
    let leak = json!({ "mib_per_second": 4096, "max_mib": 256 });
    // It may be killed before it can answer.
    let _ = fixture.patient.fall_ill("leak", &leak);
    let ended = stage.wait(&fixture.agent, "the process ended", |line| {
        line.message().starts_with("the process ended")
    })?;
    // On a slow machine it lives long enough for the agent to try a reset.
    let healing = fixture.agent.wait_for(LEFT_ALONE, stage.interrupt, |line| {
        line.message() == "healing" && line.text("remedy") != "soft"
    })?;
    ensure!(healing.is_none(), "it was restarted, and its supervisor had done that");
    ensure!(fixture.patient.sigterms().is_empty(), "it was asked to end");
    ensure!(
        fixture.patient.starts() == 2,
        "it was started {} times, not twice",
        fixture.patient.starts()
    );
    let targets = http::get(&format!("{}/api/v1/targets", fixture.agent.url))?;
    let watched = targets[0]["id"]["instance"].as_str().unwrap_or_default();
    ensure!(!watched.is_empty() && watched != ended.text("instance"), "{watched} is watched still");
    Ok(Verdict {
        name: stage.name,
        pass: true,
        action: "left to supervisor".to_owned(),
        fault_to_heal_ms: None,
        confidence: None,
        reasons: vec!["killed for want of memory".to_owned()],
        problem: None,
    })
}

fn stubborn_errors(stage: &Stage<'_>) -> Result<Verdict> {
    let fixture = stage.fixture(&["--data-failure-ratio", "0"])?;
    stage.tell("an illness that only a restart clears; eight errors, and more after the reset");
    fixture.patient.fall_ill("errors", &json!({ "ratio": 1.0, "cleared_by": "restart" }))?;
    fixture.patient.errors(8)?;
    let fault = boot_ns();
    stage.wait(&fixture.agent, "healing by soft", |line| {
        line.message() == "healing" && line.text("remedy") == "soft"
    })?;
    let _traffic = traffic(&fixture, 3);
    let soft = stage.wait(&fixture.agent, "soft not healed", |line| {
        line.message() == "treatment ended" && line.text("remedy") == "soft"
    })?;
    let helped = !["not_healed", "worse"].contains(&soft.text("outcome"));
    ensure!(!helped, "the reset ended {}", soft.text("outcome"));
    let healing = stage.healed(&fixture.agent, "restart")?;
    ensure!(
        fixture.patient.starts() == 2,
        "it was started {} times, not twice",
        fixture.patient.starts()
    );
    Ok(stage.verdict("soft, then restart", &healing, fault))
}

fn agent_killed(stage: &Stage<'_>) -> Result<Verdict> {
    let fixture = stage.fixture(&["--grace-seconds", "4"])?;
    stage.tell("a slow request is under way, so the patient takes time to end; fifteen errors");
    fixture.patient.fall_ill("slow", &json!({ "milliseconds": 8000 }))?;
    let slow = format!("{}/data", fixture.patient.url);
    let under_way = thread::spawn(move || http::get(&slow));
    thread::sleep(Duration::from_millis(200));
    fixture.patient.get_well("slow")?;
    let fault = fifteen_at_once(&fixture)?;
    let healing = stage.wait(&fixture.agent, "healing by restart", |line| {
        line.message() == "healing" && line.text("remedy") == "restart"
    })?;
    while fixture.patient.sigterms().is_empty() {
        stage.interrupt.check()?;
        ensure!(boot_ns() - fault < 30_000_000_000, "no SIGTERM within 30 s");
        thread::sleep(Duration::from_millis(5));
    }
    let Fixture { agent, patient, setup, _state } = fixture;
    agent.kill()?;
    ensure!(patient.starts() == 1, "the patient was too quick to end: this was no mid-heal");
    stage.tell("SIGTERM has reached the patient; the agent is killed, and started again");
    let agent = stage.agent(&setup)?;
    stage.wait(&agent, "an intention was found", |line| line.message().contains("intention"))?;
    let ended = stage.wait(&agent, "restart ended", |line| line.message() == "treatment ended")?;
    // The slow request was cut off or answered by the end of its server: either will do.
    let _ = under_way.join();
    ensure!(ended.text("outcome") == "healed", "the restart ended {}", ended.text("outcome"));
    let again = agent.lines().iter().any(|line| line.message() == "healing");
    ensure!(!again, "the remedy was repeated");
    ensure!(patient.sigterms().len() == 1, "{} SIGTERMs, not one", patient.sigterms().len());
    ensure!(patient.starts() == 2, "it was started {} times, not twice", patient.starts());
    Ok(stage.verdict("restart, once", &healing, fault))
}

fn foreign_server(stage: &Stage<'_>) -> Result<Verdict> {
    const LINES: usize = 14;
    let python = on_path("python3").context("this scene needs python3: install it")?;
    let port = free_port()?;
    let cgroup = format!("paramedic-foreign-{}", std::process::id());
    let arguments = ["-c", include_str!("shop.py"), &port.to_string()];
    let server = Patient::supervised(&python, &arguments, port, &cgroup)?;
    let state = tempfile::tempdir()?;
    let arguments = ["--max-remedy", "restart", "--soft", "signal HUP", "--verify-window", "5"]
        .map(String::from);
    let setup = Setup {
        urls: vec![server.url.clone()],
        state_dir: state.path().to_path_buf(),
        arguments: arguments.into(),
    };
    let agent = stage.agent(&setup)?;
    let url = format!("{}/price", server.url);
    let _traffic = Traffic::start(Duration::from_millis(25), move || {
        let _ = http::get(&url);
    });
    thread::sleep(Duration::from_secs(3));

    stage.tell("its memory is spoilt: every response is 500; SIGHUP makes it read that anew");
    let fault = boot_ns();
    http::get(&format!("{}/spoil", server.url))?;
    let healing = stage.healed(&agent, "soft")?;
    ensure!(server.starts() == 1, "it was restarted, and a signal was enough");

    stage.tell("spoilt for good: the signal does not help, so a restart, with evidence first");
    http::get(&format!("{}/spoil-for-good", server.url))?;
    stage.healed(&agent, "restart")?;
    ensure!(server.starts() == 2, "it was started {} times, not twice", server.starts());
    let lines = agent.lines();
    let ended =
        lines.iter().rfind(|line| line.message() == "treatment ended").context("no end of it")?;
    let incident = ended.number("incident").context("the restart has no incident")?;
    let output = Command::new(&stage.programs.agent)
        .args(["incidents", "--evidence", &incident.to_string(), "--state-dir"])
        .arg(state.path())
        .output()?;
    let evidence = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && evidence.contains("python"), "no evidence: {evidence}");
    stage.tell(&format!("the first {LINES} lines of what the restart would have destroyed:"));
    evidence.lines().take(LINES).for_each(|line| println!("            {line}"));
    Ok(stage.verdict("signal, then restart", &healing, fault))
}

/// Sends fifteen errors and returns when the last was answered. The agent is stopped meanwhile: a
/// busy machine could spread them over several samples, the first of which would rightly cause a
/// reset.
fn fifteen_at_once(fixture: &Fixture) -> Result<u64> {
    fixture.agent.while_stopped(|| {
        fixture.patient.errors(15)?;
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

/// Sends this many requests a second, until dropped.
fn traffic(fixture: &Fixture, per_second: u32) -> Traffic {
    let url = format!("{}/data", fixture.patient.url);
    Traffic::start(Duration::from_secs(1) / per_second, move || {
        // A process that is being restarted does not answer; the scene expects that.
        let _ = http::get(&url);
    })
}
