//! Notifications: a real agent tells a real receiver.
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener},
    sync::mpsc,
    thread,
};

use serde_json::Value;

use crate::{
    agent::{Agent, DEADLINE, Directory, until},
    servers::Server,
};

/// A webhook that accepts everything. It ends with the test's process.
struct Receiver {
    address: SocketAddr,
    bodies: mpsc::Receiver<Value>,
}

impl Receiver {
    fn new() -> Self {
        Self::at(([127, 0, 0, 1], 0).into())
    }

    fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (came, bodies) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let (mut line, mut length) = (String::new(), 0);
                while stream.read_line(&mut line).unwrap() > 2 {
                    let header = line.to_ascii_lowercase();
                    if let Some(value) = header.strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    line.clear();
                }
                let mut body = vec![0; length];
                stream.read_exact(&mut body).unwrap();
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                stream.get_mut().write_all(answer).unwrap();
                if came.send(serde_json::from_slice(&body).unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { address, bodies }
    }

    fn next(&self) -> Value {
        self.bodies.recv_timeout(DEADLINE).expect("nobody was told")
    }
}

const DELIVERED: &str = "paramedic_notifications_total{channel=\"webhook\",result=\"delivered\"}";

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_webhook_is_told_of_a_healed_incident_and_of_a_pause() {
    let (receiver, state) = (Receiver::new(), Directory::new());
    let patient = Server::patient();
    let spec = format!("webhook=http://{}/s3cret", receiver.address);
    let agent = Agent::watch(&[&patient.url], &state, &["--notify", &spec]);
    patient.errors(8);
    let told = receiver.next();
    for (field, value) in [
        ("event", "healed"),
        ("phase", "info"),
        ("severity", "info"),
        ("target", patient.url.as_str()),
        ("outcome", "it is well again"),
    ] {
        assert_eq!(told[field], value, "{told:#}");
    }
    let incident = until("the outcome is in the journal", || {
        agent.incidents().into_iter().find(|incident| incident["outcome"] == "healed")
    });
    assert_eq!(told["incident"], incident["id"]);
    assert!(told["seen"].as_str().unwrap().contains("error_count="), "{told:#}");
    assert!(told["done"][0].as_str().unwrap().starts_with("soft: healed after"), "{told:#}");
    agent.reaches(DELIVERED, 1.0);

    fs::write(state.file("paused"), "").unwrap();
    let paused = receiver.next();
    assert_eq!((&paused["event"], &paused["phase"]), (&"paused".into(), &"trigger".into()));
    fs::remove_file(state.file("paused")).unwrap();
    let resumed = receiver.next();
    assert_eq!((&resumed["event"], &resumed["key"]), (&"resumed".into(), &paused["key"]));
    agent.reaches(DELIVERED, 3.0);
    for page in ["/", "/metrics", "/readyz", "/api/v1/targets"] {
        assert!(!agent.get(page).1.contains("s3cret"), "{page}");
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_a_killed_agent_did_not_deliver_is_sent_by_the_next_one() {
    let state = Directory::new();
    let patient = Server::patient();
    let file = state.file("notify");
    // Nothing listens there any more.
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    fs::write(&file, format!("webhook=http://{nowhere}/\n")).unwrap();
    let option = ["--notify-file", file.to_str().unwrap()];
    let agent = Agent::watch(&[&patient.url], &state, &option);
    patient.errors(8);
    agent.hears("cannot deliver notifications yet; trying again", &[]);
    // It is killed.
    drop(agent);
    let receiver = Receiver::at(nowhere);
    let agent = Agent::watch(&[&patient.url], &state, &option);
    assert_eq!(receiver.next()["event"], "healed");
    agent.reaches(DELIVERED, 1.0);
}
