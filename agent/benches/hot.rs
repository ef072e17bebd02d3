//! Benchmarks of the hot paths from within: the forest against tract on the same model, the packet
//! programs by `BPF_PROG_TEST_RUN`, and the path of a wake-up from the kernel to the event loop.
//!
//! Prints one JSON object; `cargo xtask bench` runs it and adds measurements from outside. The
//! numbers are medians over several rounds, because means would include the machine's other work.
use std::{
    fs,
    hint::black_box,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use paramedic_core::{
    decide::{Familiar, Forest, Model},
    features::{FeatureVector, schema::COUNT},
    target::{Cgroups, Kind, Remedy, Settings, Target, TargetId},
};
use paramedic_host::procfs::Tree;
use paramedic_probes::{Kernel, Options};
use paramedic_tract::Tract;
use serde_json::{Value, json};

/// Batch sizes: one target, a small node, a full node, the maximum.
const BATCHES: [usize; 4] = [1, 30, 110, 500];
const ROUNDS: usize = 15;
/// Map sizes are reported for these numbers of targets.
const CAPACITIES: [u32; 3] = [1, 110, 500];
const WAKEUPS: usize = 300;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let bytes = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../model/healing_brain.onnx"))?;
    let model = Model::from_bytes(&bytes, paramedic_tract::load)?;
    let forest = model.forest().context("the shipped model is no forest")?;
    let familiar = model.familiar().context("the shipped model knows no strangers")?;
    let (forest_ns, explain_ns) = (measure_forest(forest), measure_explain(forest));
    let tract_ns = measure_tract(&Tract::from_bytes(&bytes)?)?;
    let mut map_bytes = serde_json::Map::new();
    for capacity in CAPACITIES {
        let kernel = Kernel::load(&Options::new(capacity))?;
        map_bytes.insert(capacity.to_string(), kernel.map_bytes().into());
    }
    println!(
        "{}",
        json!({
            "forest_ns_per_row": forest_ns,
            "explain_ns_per_row": explain_ns,
            "familiar_ns_per_row": measure_familiar(familiar),
            "tract_ns_per_row": tract_ns,
            "bpf_ns": measure_programs()?,
            "bpf_traffic_ns": measure_traffic()?,
            "bpf_verified_instructions": verified()?,
            "bpf_map_bytes": map_bytes,
            "wakeup_us": measure_wakeups().await?,
        })
    );
    Ok(())
}

/// The median of `ROUNDS` rounds, in nanoseconds per row.
fn median_ns(rows: usize, mut round: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            round();
            begun.elapsed().as_nanos() as f64 / rows as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}

/// Rows over the range of real measurements, from a fixed xorshift sequence.
fn rows(n: usize) -> Vec<[f32; COUNT]> {
    const MOST: [f32; COUNT] = [
        100.0, 100.0, 20.0, 1e6, 23.0, 20.0, 1.0, 500.0, 20.0, 20.0, 1.0, 5.0, 1.0, 10.0, 1.0, 2.0,
        1.0, 5.0, 1.0,
    ];
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 24) as f32
    };
    (0..n).map(|_| MOST.map(|most| most * next())).collect()
}

fn measure_forest(forest: &Forest) -> Value {
    let mut measured = serde_json::Map::new();
    for batch in BATCHES {
        let rows = rows(batch.max(500) / batch * batch);
        let mut scores = vec![[0.0; 3]; batch];
        let ns = median_ns(rows.len(), || {
            for chunk in rows.chunks(batch) {
                if let [row] = chunk {
                    black_box(forest.predict(black_box(row)));
                } else {
                    forest.predict_batch(black_box(chunk), &mut scores);
                    black_box(&scores);
                }
            }
        });
        measured.insert(batch.to_string(), ns.round().into());
    }
    Value::Object(measured)
}

fn measure_explain(forest: &Forest) -> Value {
    let rows = rows(5);
    let ns = median_ns(rows.len(), || {
        for row in &rows {
            black_box(forest.shares(black_box(row), 1));
        }
    });
    ns.round().into()
}

/// Whether rows are like any of the training.
fn measure_familiar(familiar: &Familiar) -> Value {
    let rows = rows(500).into_iter().map(FeatureVector::new);
    let rows: Vec<FeatureVector> = rows.collect();
    let ns = median_ns(rows.len(), || {
        for row in &rows {
            black_box(familiar.judge(black_box(row)));
        }
    });
    ns.round().into()
}

fn measure_tract(tract: &Tract) -> Result<Value> {
    let rows = rows(3);
    let mut times = Vec::new();
    for row in &rows {
        let begun = Instant::now();
        black_box(tract.predict(black_box(row))?);
        times.push(begun.elapsed().as_nanos() as f64);
    }
    times.sort_by(f64::total_cmp);
    Ok(json!({ "1": times[times.len() / 2].round() }))
}

/// An Ethernet frame with one TCP segment from port 8080 to 40000.
fn frame(v6: bool, payload: &[u8]) -> Vec<u8> {
    let tcp_len = 20 + payload.len();
    let mut frame = vec![0; 12];
    if v6 {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(u16::try_from(tcp_len).unwrap_or(u16::MAX).to_be_bytes());
        frame.extend([6, 64]);
        frame.extend([0; 15].into_iter().chain([1]));
        frame.extend([0; 15].into_iter().chain([1]));
    } else {
        frame.extend([8, 0, 0x45, 0]);
        frame.extend(u16::try_from(20 + tcp_len).unwrap_or(u16::MAX).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
    }
    frame.extend(8080_u16.to_be_bytes());
    frame.extend(40000_u16.to_be_bytes());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
    frame.extend(payload);
    frame
}

fn measure_programs() -> Result<Value> {
    const REPEAT: u32 = 200_000;
    let mut response = b"HTTP/1.1 200 OK\r\nContent-Length: 1300\r\n\r\n".to_vec();
    response.resize(1400, b'x');
    let mut unavailable =
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 1300\r\n\r\n".to_vec();
    unavailable.resize(1400, b'x');
    let request = b"GET /data HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";
    let bulk = [b'x'; 1400];
    let mut kernel = Kernel::load(&Options::new(1))?;
    let mut measured = serde_json::Map::new();
    for (name, program, packet) in [
        ("http_egress ack", "http_egress", frame(false, b"")),
        ("http_egress bulk 1400 B", "http_egress", frame(false, &bulk)),
        ("http_egress bulk 1400 B IPv6", "http_egress", frame(true, &bulk)),
        ("http_egress 200 OK", "http_egress", frame(false, &response)),
        ("http_egress 503", "http_egress", frame(false, &unavailable)),
        ("http_egress GET, as a client", "http_egress", frame(false, request)),
        ("http_ingress ack", "http_ingress", frame(false, b"")),
        ("http_ingress bulk 1400 B", "http_ingress", frame(false, &bulk)),
        ("http_ingress GET", "http_ingress", frame(false, request)),
        ("http_ingress 200 OK, as a client", "http_ingress", frame(false, &response)),
        ("http_ingress 503, as a client", "http_ingress", frame(false, &unavailable)),
    ] {
        let mut times = Vec::new();
        for _ in 0..5 {
            times.push(kernel.measure(program, &packet, REPEAT)?.as_nanos() as u64);
        }
        times.sort_unstable();
        measured.insert(name.to_owned(), times[2].into());
    }
    Ok(Value::Object(measured))
}

/// Instructions that the verifier looked at, by program, and the time that loading all took.
fn verified() -> Result<Value> {
    let begin = Instant::now();
    let kernel = Kernel::load(&Options::new(1))?;
    let load_ms = begin.elapsed().as_millis() as u64;
    let programs: serde_json::Map<String, Value> =
        kernel.costs().into_iter().map(|cost| (cost.name, cost.verified.into())).collect();
    Ok(json!({ "load_ms": load_ms, "programs": programs }))
}

/// What the packet programs cost on connections that they follow, by the kernel's own statistics
/// of real traffic: the mean of a run, which includes the clock of the statistics.
fn measure_traffic() -> Result<Value> {
    const GET: &[u8] = b"GET /data HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
    let mut response = b"HTTP/1.1 200 OK\r\nContent-Length: 1300\r\n\r\n".to_vec();
    response.resize(1343, b'x');
    // `:status: 200` and four fields that are written out and indexed, as servers send them.
    let mut block = b"\x88\x5f\x10application/json\x61\x1d".to_vec();
    block.extend_from_slice(b"Mon, 21 Oct 2013 20:13:21 GMT\x76\x05nginx\x5c\x0242");
    let indexed = b"\x88\xc1\xc0\xbf\xbe".to_vec();
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend_from_slice(payload);
        frame
    };
    let large = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n".to_vec();
    let cases: [(&str, &[u8], &[u8], Round); 5] = [
        ("HTTP/1 GET and response", b"", b"", Box::new(move |_| (GET.to_vec(), response.clone()))),
        ("HTTP/1 body 1400 B", GET, &large, Box::new(|_| (Vec::new(), vec![b'x'; 1400]))),
        (
            "HTTP/2 HEADERS, 4 fields written out",
            PREFACE,
            SETTINGS,
            Box::new(move |n| {
                (frame(1, 5, 2 * n + 1, b"\x82\x86\x84\x41\x01a"), frame(1, 5, 2 * n + 1, &block))
            }),
        ),
        (
            "HTTP/2 HEADERS, 5 fields indexed",
            PREFACE,
            SETTINGS,
            Box::new(move |n| {
                (frame(1, 5, 2 * n + 1, b"\x82\x86\x84\x41\x01a"), frame(1, 5, 2 * n + 1, &indexed))
            }),
        ),
        (
            "HTTP/2 WINDOW_UPDATE and DATA 1400 B",
            PREFACE,
            SETTINGS,
            Box::new(move |_| (frame(8, 0, 0, b"\0\0\x10\0"), frame(0, 0, 1, &[b'x'; 1400]))),
        ),
    ];
    let mut measured = serde_json::Map::new();
    for (name, asks, begins, round) in cases {
        measured.insert(name.to_owned(), exchange(asks, begins, &round)?);
    }
    Ok(Value::Object(measured))
}

/// What client and server send in round n.
type Round = Box<dyn Fn(u32) -> (Vec<u8>, Vec<u8>)>;

/// Plays rounds between two ends of one connection, whose server is watched, and returns the mean
/// of a run of each program.
fn exchange(asks: &[u8], begins: &[u8], round: &Round) -> Result<Value> {
    const ROUNDS: u32 = 20_000;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut kernel = Kernel::load(&Options::new(1))?;
    kernel.watch(&served_here(address)?)?;
    let mut client = TcpStream::connect(address)?;
    let (mut server, _) = listener.accept()?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let mut pass = |from_client: &[u8], from_server: &[u8]| -> Result<()> {
        let mut buffer = vec![0; from_client.len().max(from_server.len())];
        client.write_all(from_client)?;
        server.read_exact(&mut buffer[..from_client.len()])?;
        server.write_all(from_server)?;
        Ok(client.read_exact(&mut buffer[..from_server.len()])?)
    };
    pass(asks, begins)?;
    let _counted = paramedic_probes::count_runs()?;
    let before = kernel.costs();
    for number in 0..ROUNDS {
        let (ask, answer) = round(number);
        pass(&ask, &answer)?;
    }
    let mut means = serde_json::Map::new();
    for (before, after) in before.iter().zip(kernel.costs()) {
        if ["http_egress", "http_ingress"].contains(&after.name.as_str()) {
            let runs = after.runs - before.runs;
            let time = (after.time - before.time).as_nanos() as u64;
            means.insert(after.name, (time / runs.max(1)).into());
        }
    }
    Ok(Value::Object(means))
}

/// A server in this process and cgroup, told by its port.
fn served_here(address: std::net::SocketAddr) -> Result<Target> {
    let tree = Tree::default();
    let pid = i32::try_from(std::process::id())?;
    let cgroups = Cgroups { shared: true, ..tree.cgroups(&tree.hierarchies()?, pid)? };
    Ok(Target {
        id: TargetId { uid: "bench".to_owned(), instance: "bench".to_owned() },
        name: "bench".to_owned(),
        kind: Kind::Process,
        settings: Settings::up_to(Remedy::Observe),
        address: Some(address),
        host: address.to_string(),
        tls: false,
        cgroups,
        port: Some(address.port()),
        started: paramedic_host::clock::now(),
        main: None,
        version: None,
        no_restart: None,
        no_evict: None,
    })
}

/// A server that answers 500 to everything, in this process and cgroup, watched by its port.
async fn measure_wakeups() -> Result<Value> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            serve_errors(stream);
        }
    });
    let mut kernel = Kernel::load(&Options::new(1))?;
    let mut wakeups = kernel.wakeups()?.context("the wake-ups are taken")?;
    let slot = kernel.watch(&served_here(address)?)?;
    let client = thread::spawn(move || -> Result<()> {
        let mut stream = TcpStream::connect(address)?;
        for _ in 0..WAKEUPS {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: b\r\n\r\n")?;
            let mut answer = [0; 256];
            let _ = stream.read(&mut answer)?;
            thread::sleep(Duration::from_millis(3));
        }
        Ok(())
    });
    let mut delays = Vec::with_capacity(WAKEUPS);
    while let Ok(wake) = tokio::time::timeout(Duration::from_millis(500), wakeups.next()).await {
        delays.push(paramedic_host::clock::now().since(wake?.at).as_secs_f64() * 1e6);
        kernel.rearm(slot)?;
    }
    client.join().map_err(|_| anyhow::anyhow!("the client panicked"))??;
    delays.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = (delays.len() as f64 * share) as usize;
        delays.get(index).copied().map(f64::round)
    };
    Ok(json!({ "n": delays.len(), "p50": at(0.5), "p99": at(0.99) }))
}

fn serve_errors(mut stream: TcpStream) {
    let mut request = [0; 1024];
    while stream.read(&mut request).is_ok_and(|n| n > 0) {
        let answer = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
        if stream.write_all(answer).is_err() {
            return;
        }
    }
}
