//! Servers that know nothing of Paramedic: it must help them, and never harm them.
use std::{thread, time::Duration};

use crate::{
    agent::{Agent, Directory, until},
    process::Group,
    servers::Server,
};

/// Requests that a test sends, and their rate over the window of 10 s.
const REQUESTS: usize = 30;
const RATE: f64 = 3.0;

/// Watches a server that has neither `/health` nor `/heal`.
fn is_watched_through_the_kernel_alone(server: &mut Server) {
    let state = Directory::new();
    let mut agent = Agent::watch(&[&server.url], &state, &["--max-remedy", "restart"]);
    server.ask("/", REQUESTS);
    // All of them, and none of the agent's own.
    let mut most = 0.0_f64;
    until("all requests are counted", || {
        most = most.max(agent.feature("http_request_rate"));
        (most >= RATE).then_some(())
    });
    // A poll that this machine's stall delayed counts as another client's: one in ten seconds.
    assert!((RATE..RATE + 0.3).contains(&most), "{most}");
    // The metric counts what is on the wire, including the agent's polls.
    let on_the_wire = |class| {
        let labels = format!("class=\"{class}\",namespace=\"\",pod=\"\",target=\"{}\"", server.url);
        agent.metric(&format!("paramedic_target_http_responses_total{{{labels}}}"))
    };
    assert_eq!(on_the_wire("2xx"), REQUESTS as f64);
    assert_eq!(on_the_wire("5xx"), 0.0);
    assert!(on_the_wire("4xx") > 0.0);
    let polls = "paramedic_health_polls_total{result=\"not_found\"}";
    let before = agent.metric(polls);
    until("the requests leave the window", || {
        (agent.feature("http_request_rate") == 0.0).then_some(())
    });
    agent.reaches(polls, before + 4.0);
    assert_eq!(agent.feature("http_request_rate"), 0.0);
    assert_eq!(agent.feature("http_5xx_rate"), 0.0);
    assert_eq!(agent.feature("health_failures"), 0.0);
    assert_eq!(agent.feature("tcp_reset_rate"), 0.0);
    assert_eq!(agent.target()["decision"]["action"], "no_action");
    agent.healed_nothing();
    assert!(agent.is_alive() && server.is_alive());
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_python_server_is_watched_through_the_kernel_alone() {
    let root = Directory::new();
    is_watched_through_the_kernel_alone(&mut Server::python_http_server(&root));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn nginx_is_watched_through_the_kernel_alone() {
    let root = Directory::new();
    is_watched_through_the_kernel_alone(&mut Server::nginx(&root));
}

/// Fails most requests. It does not know `/health` (404) nor POST (501).
const FAILING: &str = r#"
import http.server
class Failing(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error({"/health": 404, "/fine": 204}.get(self.path, 500))
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Failing)
print(server.server_port)
server.serve_forever()
"#;

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_failing_server_without_heal_gets_no_stronger_remedy() {
    let state = Directory::new();
    let mut server = Server::python(FAILING);
    let agent = Agent::watch(&[&server.url], &state, &[]);
    let fails = || {
        server.ask("/", 4);
        server.ask("/fine", 1);
    };
    let incident = until("the soft remedy was tried", || {
        fails();
        agent.incidents().into_iter().find(|incident| !incident["outcome"].is_null())
    });
    assert_eq!(incident["remedy"], "soft");
    assert_eq!(incident["outcome"], "failed");
    assert!(incident["detail"].as_str().unwrap().contains("HTTP 501"), "{incident}");
    // What it does not offer is not tried again, and permits nothing stronger.
    until("it is left alone", || {
        fails();
        thread::sleep(Duration::from_millis(100));
        (agent.said("not healed", &[("gate", "mode")]) > 0).then_some(())
    });
    assert_eq!(agent.said("healing", &[]), 1);
    assert_eq!(agent.incidents().len(), 1);
    assert!(server.is_alive());
}

/// Fails most requests until it is reloaded by SIGHUP.
const RELOADS: &str = r#"
import http.server, signal
failing = True
def reload(*_):
    global failing
    failing = False
signal.signal(signal.SIGHUP, reload)
class Shop(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        fails = failing and self.path != "/fine"
        self.send_error(404 if self.path.startswith("/h") else 500 if fails else 204)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shop)
print(server.server_port)
server.serve_forever()
"#;

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_server_is_reloaded_by_the_signal_that_its_owner_names() {
    let state = Directory::new();
    let mut server = Server::python(RELOADS);
    let agent = Agent::watch(&[&server.url], &state, &["--soft", "signal HUP"]);
    server.ask("/fine", 5);
    let incident = until("it was reloaded", || {
        server.ask("/", 4);
        server.ask("/fine", 1);
        agent.incidents().into_iter().find(|incident| !incident["outcome"].is_null())
    });
    assert_eq!((&incident["remedy"], &incident["outcome"]), (&"soft".into(), &"healed".into()));
    assert_eq!(agent.said("healing", &[("soft", "signal HUP")]), 1);
    let counted = "paramedic_heals_total{means=\"signal\",outcome=\"healed\",remedy=\"soft\"}";
    assert_eq!(agent.metric(counted), 1.0);
    assert!(server.is_alive());
}

/// It does not catch the signal, which would end it.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_server_that_a_signal_would_end_does_not_get_it() {
    let state = Directory::new();
    let mut server = Server::python(FAILING);
    let agent = Agent::watch(&[&server.url], &state, &["--soft", "signal HUP"]);
    server.ask("/fine", 5);
    let incident = until("the signal was considered", || {
        server.ask("/", 4);
        server.ask("/fine", 1);
        agent.incidents().into_iter().find(|incident| !incident["outcome"].is_null())
    });
    assert_eq!(incident["outcome"], "failed");
    assert!(incident["detail"].as_str().unwrap().contains("does not catch SIGHUP"), "{incident}");
    assert!(server.is_alive());
}

/// Reads a request, then does to `c` what `ANSWER` says.
const HOSTILE: &str = r#"
import socket, threading, time
OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
def serve(c):
    try:
        c.recv(4096)
        ANSWER
        c.close()
    except OSError:
        pass
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1])
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"#;

#[test]
#[ignore = "needs root: cargo xtask test"]
fn hostile_health_responses_cause_no_hard_remedy() {
    let answers = [
        ("too_large", "c.sendall(OK + bytes(10_000_000))"),
        ("too_large", r#"c.sendall(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1_000_000)"#),
        ("not_http", "c.sendall(bytes(range(256)) * 100)"),
        ("not_json", "c.sendall(OK + b'[' * 60_000)"),
        ("closed", "pass"),
        ("timeout", "time.sleep(3600)"),
    ];
    // One agent for each: of three that fail together it would suspect the node.
    let start = |(result, answer)| {
        let (server, state) =
            (Server::python(&HOSTILE.replace("ANSWER", answer)), Directory::new());
        let agent = Agent::watch(&[&server.url], &state, &["--max-remedy", "restart"]);
        (agent, server, state, format!("paramedic_health_polls_total{{result=\"{result}\"}}"))
    };
    for (mut agent, mut server, _state, polls) in answers.map(start) {
        agent.reaches(&polls, 6.0);
        assert_eq!(agent.metric("paramedic_health_polls_total{result=\"well\"}"), 0.0);
        assert_eq!(agent.feature("health_failures"), 0.0);
        agent.healed_nothing();
        assert!(agent.is_alive() && server.is_alive());
    }
}

/// Uses TLS with the certificate in FOLDER, and answers everything well.
const SECURE: &str = r#"
import http.server, ssl
class Well(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "15")
        self.end_headers()
        self.wfile.write(b'{"status":"UP"}')
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Well)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("FOLDER/certificate.pem", "FOLDER/key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port)
server.serve_forever()
"#;

/// Such a server, and its URL.
fn secure(folder: &Directory) -> (Server, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned()];
    let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    std::fs::write(folder.file("certificate.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.file("key.pem"), key.serialize_pem()).unwrap();
    let server = Server::python(&SECURE.replace("FOLDER", folder.path().to_str().unwrap()));
    let url = server.url.replace("http://", "https://");
    (server, url)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn responses_in_tls_are_counted_for_a_service_that_opts_in() {
    let (state, folder, group) = (Directory::new(), Directory::new(), Group::new());
    let (server, url) = secure(&folder);
    group.admit(server.pid());
    let agent = Agent::watch(&[&url], &state, &["--tls-probes"]);
    let told = agent.hears("its responses in TLS are counted", &[]);
    assert!(told.text("libraries").contains("libssl"), "{told:?}");
    // The agent's own polls.
    let labels = format!("class=\"2xx\",namespace=\"\",pod=\"\",target=\"{url}\"");
    agent.reaches(&format!("paramedic_target_http_responses_total{{{labels}}}"), 3.0);
    until("its traffic is seen", || agent.target()["blind"].is_null().then_some(()));
    let target = agent.target();
    assert!(target["tls"].as_str().unwrap().starts_with("responses are counted, in libssl"));
    assert!(target["features"]["http_request_rate"].is_number(), "{target}");
    assert!(target["clients"].is_null(), "of requests nothing is known: {target}");
    agent.healed_nothing();
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn why_responses_in_tls_are_not_counted_is_told_once() {
    let (state, folder) = (Directory::new(), Directory::new());
    // It shares the cgroup of this test.
    let (_server, url) = secure(&folder);
    let agent = Agent::watch(&[&url], &state, &["--tls-probes"]);
    let told = agent.hears("its responses in TLS cannot be counted", &[]);
    assert!(told.text("why").contains("its cgroup is shared"), "{told:?}");
    agent.reaches("paramedic_health_polls_total{result=\"well\"}", 4.0);
    assert_eq!(agent.said("its responses in TLS cannot be counted", &[]), 1);
    assert!(agent.target()["tls"].as_str().unwrap().starts_with("not seen: its cgroup is shared"));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_tls_service_is_polled_and_its_traffic_is_missing_not_zero() {
    let (state, folder) = (Directory::new(), Directory::new());
    let (mut server, url) = secure(&folder);
    let agent = Agent::watch(&[&url], &state, &["--max-remedy", "restart"]);
    let heard = agent.hears("health check", &[("result", "well")]);
    assert_eq!(heard.text("path"), "/health");
    let blind =
        agent.hears("the kernel does not see its HTTP: these columns are missing, not zero", &[]);
    assert!(blind.text("reason").contains("TLS"), "{blind:?}");
    agent.reaches(
        &format!("paramedic_target_blind{{namespace=\"\",pod=\"\",target=\"{url}\"}}"),
        1.0,
    );
    let target = agent.target();
    assert!(target["features"]["http_request_rate"].is_null(), "{target}");
    assert!(target["features"]["health_latency"].is_number(), "{target}");
    assert_eq!(target["health"]["result"], "well");
    agent.healed_nothing();
    assert!(server.is_alive());
}
