//! What watching costs the watched: the throughput of real servers with and without an agent, in
//! pairs.
//!
//! The server has one CPU for itself and its clients another, as far as there are two: its
//! throughput is then one over its CPU time per request, the kernel's part included. The two
//! measurements of a pair are next to each other and swap their order, so that a slow change of the
//! machine's speed cancels out. nginx serves a file of 10 kB and writes its access log, as it does
//! when it is installed; the others answer with a few bytes.
//!
//! Of the servers with the fastest requests it also measures the floor: what the least costs that
//! anybody could attach to their packets.
use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use xtask::{process, workspace::Workspace};

use crate::{
    stage::{
        Interrupt, Programs,
        agent::{Agent, Setup},
        free_port,
    },
    strangers::{Kit, Part, Supervised, sweep},
};

const PAIRS: usize = 10;
/// Length of one measurement, in seconds.
const SECONDS: &str = "2";
/// From a server's start to its first response.
const START: Duration = Duration::from_secs(30);
const SAMPLE: Duration = Duration::from_millis(200);

/// A server and the way in which it is asked.
struct Case {
    name: &'static str,
    /// The server's command, from its folder and port.
    server: fn(&Kit, &Programs, &Path, u16) -> Result<Command>,
    /// Arguments of h2load.
    asks: &'static [&'static str],
    path: &'static str,
    /// Against what it is compared with nothing at all.
    arms: &'static [Arm],
}

/// What is attached to a server's packets.
#[derive(Clone, Copy)]
enum Arm {
    Agent,
    /// Programs that do nothing.
    Pass,
    /// Programs that find the connection and read the clock.
    Find,
}

impl Arm {
    const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Pass => "pass",
            Self::Find => "find",
        }
    }
}

const CASES: [Case; 4] = [
    Case {
        name: "nginx HTTP/1.1",
        server: |kit, _, folder, port| nginx(kit, folder, port, ""),
        asks: &["--h1", "--clients=8"],
        path: "/page",
        arms: &[Arm::Agent, Arm::Pass, Arm::Find],
    },
    Case {
        name: "nginx HTTP/2",
        server: |kit, _, folder, port| nginx(kit, folder, port, " http2"),
        asks: &["--clients=4", "--max-concurrent-streams=10"],
        path: "/page",
        arms: &[Arm::Agent, Arm::Pass, Arm::Find],
    },
    Case {
        name: "hyper HTTP/1.1",
        server: |_, programs, _, port| {
            let mut command = Command::new(&programs.patient);
            command.args(["--address", "127.0.0.1", "--port", &port.to_string(), "--log", "off"]);
            command.args(["--data-failure-ratio", "0"]);
            Ok(command)
        },
        asks: &["--h1", "--clients=8"],
        path: "/data",
        arms: &[Arm::Agent],
    },
    Case {
        name: "gRPC (grpcio)",
        server: |kit, _, folder, port| {
            fs::write(folder.join("echo.py"), GRPC)?;
            let mut command = kit.command(Part::Python)?;
            command.args(["echo.py", &port.to_string()]);
            Ok(command)
        },
        asks: &[
            "--clients=4",
            "--max-concurrent-streams=10",
            "--data=message",
            "--header=content-type: application/grpc",
            "--header=te: trailers",
        ],
        path: "/bench.Bench/Echo",
        arms: &[Arm::Agent],
    },
];

const GRPC: &str = r#"import sys
from concurrent import futures
import grpc
server = grpc.server(futures.ThreadPoolExecutor(4))
echo = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("bench.Bench", {"Echo": echo})])
server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
server.wait_for_termination()
"#;

fn nginx(kit: &Kit, folder: &Path, port: u16, http2: &str) -> Result<Command> {
    let at = folder.display();
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|of| format!("{of}_temp_path {at}/{of};"))
        .concat();
    let configuration = format!(
        "user root; daemon off; worker_processes 1; pid {at}/pid; error_log stderr;\n\
         events {{ worker_connections 64; }}\n\
         http {{ access_log {at}/access; keepalive_requests 1000000; {paths}\n\
         server {{ listen 127.0.0.1:{port}{http2}; root {at}; }} }}\n"
    );
    fs::write(folder.join("nginx.conf"), configuration)?;
    fs::write(folder.join("page"), [b'x'; 10_000])?;
    let mut command = kit.command(Part::Nginx)?;
    command.args(["-e", "stderr", "-p"]).arg(folder).arg("-c").arg(folder.join("nginx.conf"));
    Ok(command)
}

pub(super) fn measure(
    workspace: &Workspace,
    programs: &Programs,
    interrupt: &Interrupt,
) -> Result<Map<String, Value>> {
    sweep()?;
    let kit = Kit::bring(workspace, &[Part::Nginx, Part::Python, Part::H2load].into())?;
    let mut results = Map::new();
    for (number, case) in CASES.iter().enumerate() {
        process::announce(&format!("throughput of {}: {PAIRS} pairs", case.name));
        let measured = one(&kit, programs, interrupt, case, number)?;
        for (arm, ratios) in &measured {
            let (ratio, added) = (&ratios["median_ratio"], &ratios["added_us_per_request"]);
            println!("{}, {arm}: {ratio}, {added} µs more per request", case.name);
        }
        results.insert(case.name.to_owned(), Value::Object(measured));
    }
    Ok(Map::from_iter([("throughput".to_owned(), Value::Object(results))]))
}

fn one(
    kit: &Kit,
    programs: &Programs,
    interrupt: &Interrupt,
    case: &Case,
    number: usize,
) -> Result<Map<String, Value>> {
    let folder = tempfile::tempdir()?;
    let port = free_port()?;
    let mut command = (case.server)(kit, programs, folder.path(), port)?;
    command.current_dir(folder.path());
    let log = folder.path().join("log");
    let server = Supervised::start(number, &on_cpu(0, &command), &log)?;
    // One message of gRPC, not compressed, of four bytes.
    fs::write(folder.path().join("message"), b"\0\0\0\0\x04well")?;
    interrupt.until("the server answers", START, Duration::from_millis(100), || {
        std::net::TcpStream::connect(("127.0.0.1", port)).context("it does not listen")
    })?;
    let ask = || -> Result<f64> {
        interrupt.check()?;
        per_second(kit, case, folder.path(), port)
    };
    let watched = || -> Result<f64> {
        let state = tempfile::tempdir()?;
        let setup = Setup {
            urls: vec![format!("http://127.0.0.1:{port}")],
            state_dir: state.path().to_owned(),
            arguments: vec!["--max-remedy".to_owned(), "observe".to_owned()],
        };
        let agent = Agent::start(programs, &setup, |_| ())?;
        let result = ask()?;
        let series = format!(
            "paramedic_target_http_responses_total{{class=\"2xx\",namespace=\"\",pod=\"\",\
             target=\"{}\"}}",
            setup.urls[0]
        );
        // The next sample has them.
        interrupt.until("the agent sees the responses", START, SAMPLE, || {
            let seen = agent.metric(&series)?;
            ensure!(seen > result, "it saw {seen} responses of {result} a second");
            Ok(())
        })?;
        Ok(result)
    };
    let floor = |arm: Arm| -> Result<f64> {
        let _attached = Floor::attach(&kit.command(Part::Python)?, arm, server.cgroup.unified()?)?;
        ask()
    };
    let measured = |arm: Arm| match arm {
        Arm::Agent => watched(),
        Arm::Pass | Arm::Find => floor(arm),
    };
    // Warm.
    ask()?;
    let mut results = Map::new();
    for arm in case.arms {
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for pair in 0..PAIRS {
            if pair % 2 == 0 {
                without.push(ask()?);
                with.push(measured(*arm)?);
            } else {
                with.push(measured(*arm)?);
                without.push(ask()?);
            }
        }
        results.insert(arm.name().to_owned(), compared(without, with));
    }
    Ok(results)
}

fn compared(without: Vec<f64>, with: Vec<f64>) -> Value {
    let mut ratios: Vec<f64> =
        with.iter().zip(&without).map(|(with, without)| with / without).collect();
    ratios.sort_by(f64::total_cmp);
    let mut added: Vec<f64> =
        with.iter().zip(&without).map(|(with, without)| 1e6 / with - 1e6 / without).collect();
    added.sort_by(f64::total_cmp);
    let round = |value: f64| (value * 1e3).round() / 1e3;
    let median = |sorted: &[f64]| round(f64::midpoint(sorted[PAIRS / 2 - 1], sorted[PAIRS / 2]));
    let whole = |values: Vec<f64>| values.into_iter().map(f64::round).collect::<Vec<_>>();
    json!({
        "median_ratio": median(&ratios),
        "added_us_per_request": median(&added),
        "ratios": ratios.into_iter().map(round).collect::<Vec<_>>(),
        "without_per_s": whole(without),
        "with_per_s": whole(with),
    })
}

/// Programs that do next to nothing, attached by `floor.py`; gone when dropped.
struct Floor(Child);

impl Floor {
    fn attach(python: &Command, arm: Arm, cgroup: &Path) -> Result<Self> {
        let mut command = Command::new(python.get_program());
        command.args(["-c", include_str!("floor.py"), arm.name()]).arg(cgroup);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut attached = Self(command.spawn().context("cannot run floor.py")?);
        let printed = attached.0.stdout.take().context("floor.py has no output")?;
        let mut line = String::new();
        BufReader::new(printed).read_line(&mut line)?;
        ensure!(line == "attached\n", "floor.py attached nothing: its error is above");
        Ok(attached)
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // Its links end with it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Requests per second that the server answered.
fn per_second(kit: &Kit, case: &Case, folder: &Path, port: u16) -> Result<f64> {
    let mut load = kit.command(Part::H2load)?;
    load.args(["--threads=1", "--duration", SECONDS]).args(case.asks);
    load.arg(format!("http://127.0.0.1:{port}{}", case.path));
    let mut load = on_cpu(1, &load);
    let printed = process::capture(load.current_dir(folder))?;
    let line = |begin: &str| printed.lines().find(|line| line.starts_with(begin));
    let codes = line("status codes:").context("h2load tells no statuses")?;
    ensure!(codes.contains(" 0 4xx, 0 5xx"), "not all is well: {codes}");
    let rate = line("finished in").and_then(|line| line.split(", ").nth(1));
    let rate = rate.and_then(|rate| rate.strip_suffix(" req/s"));
    rate.context("h2load tells no rate")?.parse().context("h2load tells no number")
}

/// The command on one CPU, if there are two.
fn on_cpu(cpu: usize, what: &Command) -> Command {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    if cpus < 2 {
        let mut same = Command::new(what.get_program());
        same.args(what.get_args());
        return with_environment(same, what);
    }
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &cpu.to_string()]).arg(what.get_program()).args(what.get_args());
    with_environment(command, what)
}

fn with_environment(mut command: Command, of: &Command) -> Command {
    for (name, value) in of.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    if let Some(folder) = of.get_current_dir() {
        command.current_dir(folder);
    }
    command
}
