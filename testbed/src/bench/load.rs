//! What the agent costs: CPU and memory with 1, 110 and 500 targets at rest, and with 110 under
//! load.
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::{Map, Value};
use tempfile::TempDir;
use xtask::process;

use crate::stage::{
    Interrupt, Programs,
    agent::{Agent, Setup},
    patient::Patient,
};

/// How long each cost is measured.
const SPAN: Duration = Duration::from_secs(30);
/// Before it is: until the agent has found everything, and has polled it often enough to trust it.
pub(super) const SETTLE: Duration = Duration::from_secs(20);
/// Connections that ask without pause.
const CLIENTS: usize = 4;

pub(super) fn measure(programs: &Programs, interrupt: &Interrupt) -> Result<Map<String, Value>> {
    let mut cores = Map::new();
    let mut rss = Map::new();
    let mut per_second = 0.0;
    for (key, targets, loaded) in
        [("1", 1, false), ("110", 110, false), ("110_loaded", 110, true), ("500", 500, false)]
    {
        process::announce(&format!(
            "cost with {targets} targets{}",
            if loaded { ", loaded" } else { "" }
        ));
        let cost = one(programs, interrupt, targets, loaded)?;
        cores.insert(key.to_owned(), ((cost.cores * 1e5).round() / 1e5).into());
        rss.insert(key.to_owned(), cost.rss_bytes.into());
        if loaded {
            per_second = cost.requests_per_s;
        }
    }
    Ok(Map::from_iter([
        ("agent_cpu_cores".to_owned(), Value::Object(cores)),
        ("agent_rss_bytes".to_owned(), Value::Object(rss)),
        ("loaded_requests_per_s".to_owned(), per_second.round().into()),
    ]))
}

struct Cost {
    cores: f64,
    rss_bytes: u64,
    requests_per_s: f64,
}

/// An agent with its targets.
pub(super) struct Watched {
    // Dropped first: what ends before it is a fault to it.
    pub(super) agent: Agent,
    pub(super) patients: Vec<Patient>,
    _state: TempDir,
}

/// So many patients without faults, and an agent that watches them all.
pub(super) fn watched(
    programs: &Programs,
    interrupt: &Interrupt,
    targets: usize,
) -> Result<Watched> {
    let patients = (0..targets)
        .map(|n| {
            interrupt.check()?;
            Patient::start(programs, &format!("bench-{n}"), &["--data-failure-ratio", "0"])
        })
        .collect::<Result<Vec<_>>>()?;
    let state = tempfile::tempdir()?;
    let setup = Setup {
        urls: patients.iter().map(|patient| patient.url.clone()).collect(),
        state_dir: state.path().to_path_buf(),
        arguments: Vec::new(),
    };
    let agent = Agent::start(programs, &setup, |_| ())?;
    Ok(Watched { agent, patients, _state: state })
}

fn one(programs: &Programs, interrupt: &Interrupt, targets: usize, loaded: bool) -> Result<Cost> {
    let Watched { agent, patients, _state } = watched(programs, interrupt, targets)?;
    let load = loaded.then(|| Load::start(&patients));
    pause(SETTLE, interrupt)?;
    let (before, asked, begun) = (cpu_ticks(agent.pid())?, count(load.as_ref()), Instant::now());
    pause(SPAN, interrupt)?;
    let took = begun.elapsed().as_secs_f64();
    let used = (cpu_ticks(agent.pid())? - before) as f64 / ticks_per_second();
    Ok(Cost {
        cores: used / took,
        rss_bytes: rss_bytes(agent.pid())?,
        requests_per_s: (count(load.as_ref()) - asked) as f64 / took,
    })
}

pub(super) fn pause(length: Duration, interrupt: &Interrupt) -> Result<()> {
    let until = Instant::now() + length;
    while Instant::now() < until {
        interrupt.check()?;
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// User and system time of a process, in clock ticks.
pub(super) fn cpu_ticks(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(')').context("no name in stat")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let field = |n: usize| -> Result<u64> { Ok(fields.get(n).context("a short stat")?.parse()?) };
    Ok(field(11)? + field(12)?)
}

pub(super) fn ticks_per_second() -> f64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as f64
}

pub(super) fn rss_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

/// Clients that ask every patient in turn, each over its own kept connections, as fast as the
/// answers come.
struct Load {
    over: Arc<AtomicBool>,
    requests: Arc<AtomicU64>,
    clients: Vec<thread::JoinHandle<()>>,
}

impl Load {
    fn start(patients: &[Patient]) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let requests = Arc::new(AtomicU64::new(0));
        let addresses: Vec<String> =
            patients.iter().map(|p| p.url.trim_start_matches("http://").to_owned()).collect();
        let clients = (0..CLIENTS)
            .map(|n| {
                let (over, requests) = (Arc::clone(&over), Arc::clone(&requests));
                let mine: Vec<String> =
                    addresses.iter().skip(n).step_by(CLIENTS).cloned().collect();
                thread::spawn(move || ask_all(&mine, &over, &requests))
            })
            .collect();
        Self { over, requests, clients }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            let _ = client.join();
        }
    }
}

fn count(load: Option<&Load>) -> u64 {
    load.map_or(0, |load| load.requests.load(Ordering::Relaxed))
}

fn ask_all(addresses: &[String], over: &AtomicBool, requests: &AtomicU64) {
    let mut streams: Vec<TcpStream> =
        addresses.iter().filter_map(|address| TcpStream::connect(address).ok()).collect();
    let mut answer = [0; 4096];
    while !over.load(Ordering::Relaxed) && !streams.is_empty() {
        // One request is under way to each before the first answer is read.
        streams.retain_mut(|stream| {
            stream.write_all(b"GET /data HTTP/1.1\r\nHost: bench\r\n\r\n").is_ok()
        });
        streams.retain_mut(|stream| stream.read(&mut answer).is_ok_and(|n| n > 0));
        requests.fetch_add(streams.len() as u64, Ordering::Relaxed);
    }
}
