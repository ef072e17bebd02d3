//! What real servers write into TLS: nginx and Python with the system's OpenSSL, node with its own,
//! and functions as Go calls them.
use std::{
    fs,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use agent_common::Counters;
use paramedic_core::target::Target;
use paramedic_probes::{
    Kernel, Slot,
    tls::{Finder, TlsError},
};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, pki_types::ServerName};

use crate::kernel::{
    DEADLINE, cgroups::TestCgroups, counters, eventually, load, patient::Patient, target,
};

const STATUSES: [u16; 7] = [200, 301, 404, 500, 502, 503, 504];

/// A certificate for `localhost`, in a directory, and those who trust it.
struct Identity {
    directory: tempfile::TempDir,
    roots: RootCertStore,
}

impl Identity {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned()];
        let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("cert.pem"), certificate.pem()).unwrap();
        fs::write(directory.path().join("key.pem"), key.serialize_pem()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        Self { directory, roots }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// A server in cgroups of its own.
struct Server {
    child: Child,
    port: u16,
    identity: Identity,
    // Last: removed after its processes.
    home: TestCgroups,
}

impl Server {
    /// Runs a command, which has the port and the directory of the certificate in its environment.
    fn start(command: &[&str], identity: Identity, port: u16) -> Self {
        let home = TestCgroups::new();
        // It enters its cgroups before it runs.
        let mut child = Command::new("sh")
            .args(["-c", "read go && exec \"$@\"", "sh"])
            .args(command)
            .current_dir(identity.path())
            .env("PORT", port.to_string())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        home.add(child.id());
        writeln!(child.stdin.take().unwrap(), "go").unwrap();
        eventually("a server", || TcpStream::connect(("127.0.0.1", port)).ok());
        Self { child, port, identity, home }
    }

    fn nginx() -> Self {
        let (identity, port) = (Identity::new(), free_port());
        let directory = identity.path().display();
        let returns = STATUSES.map(|s| format!("location = /{s} {{ return {s} \"0123456789\"; }}"));
        let config = format!(
            "daemon off; pid {directory}/pid; error_log {directory}/error.log; user root;
             worker_processes 2;
             events {{}}
             http {{
                 access_log off; keepalive_requests 10000;
                 client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
                 fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi;
                 scgi_temp_path {directory}/scgi;
                 server {{
                     listen 127.0.0.1:{port} ssl http2;
                     ssl_certificate {directory}/cert.pem; ssl_certificate_key {directory}/key.pem;
                     root {directory};
                     {}
                 }}
             }}",
            returns.join("\n")
        );
        fs::write(identity.path().join("nginx.conf"), config).unwrap();
        // The same bytes in each write.
        fs::write(identity.path().join("big"), vec![0; BIG]).unwrap();
        let path = identity.path().join("nginx.conf").display().to_string();
        let errors = identity.path().join("error.log").display().to_string();
        Self::start(&["nginx", "-e", &errors, "-c", &path], identity, port)
    }

    fn python() -> Self {
        let script = "\
import http.server, os, ssl
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        self.send_response(int(self.path[1:]))
        self.send_header('Content-Length', '10')
        self.end_headers()
        self.wfile.write(b'HTTP/1.1 5')
    def log_message(self, *_):
        pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain('cert.pem', 'key.pem')
class Server(http.server.ThreadingHTTPServer):
    def finish_request(self, socket, address):
        super().finish_request(context.wrap_socket(socket, server_side=True), address)
    def handle_error(self, *_):
        pass
Server(('127.0.0.1', int(os.environ['PORT'])), Handler).serve_forever()
";
        Self::start(&["python3", "-c", script], Identity::new(), free_port())
    }

    fn node() -> Self {
        let script = "\
const fs = require('fs');
const pair = { cert: fs.readFileSync('cert.pem'), key: fs.readFileSync('key.pem') };
require('http2').createSecureServer({ ...pair, allowHTTP1: true }, (request, response) => {
    response.writeHead(Number(request.url.slice(1)));
    response.end('0123456789');
}).listen(Number(process.env.PORT), '127.0.0.1');
";
        Self::start(&["node", "-e", script], Identity::new(), free_port())
    }

    fn target(&self) -> Target {
        target(self.home.cgroups(), None)
    }

    fn connect(&self, protocol: &[u8]) -> Client {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let roots = self.identity.roots.clone();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client(StreamOwned::new(session, stream))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const BIG: usize = 3 << 20;

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A client that keeps its connection.
struct Client(StreamOwned<ClientConnection, TcpStream>);

impl Client {
    fn ask(&mut self, method: &str, path: &str) {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.0.write_all(request.as_bytes()).unwrap();
    }

    /// Sends a request of HTTP/1 and reads the whole response.
    fn send(&mut self, method: &str, path: &str) -> u16 {
        self.ask(method, path);
        self.read(method)
    }

    fn get(&mut self, path: &str) -> u16 {
        self.send("GET", path)
    }

    fn read(&mut self, method: &str) -> u16 {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head
            .split("content-length: ")
            .nth(1)
            .map(|rest| rest.lines().next().unwrap().parse::<u64>().unwrap());
        if method != "HEAD" {
            if head.contains("transfer-encoding: chunked") {
                let mut tail = Vec::new();
                while !tail.ends_with(b"0\r\n\r\n") {
                    let mut byte = [0];
                    self.0.read_exact(&mut byte).unwrap();
                    tail.push(byte[0]);
                }
            } else {
                let body = (&mut self.0).take(length.unwrap());
                assert_eq!(io::copy(&mut { body }, &mut io::sink()).unwrap(), length.unwrap());
            }
        }
        head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Sends requests of HTTP/2, many at once, and reads until all streams have ended.
    fn streams(&mut self, paths: &[String]) {
        let mut text = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        text.extend(frame(4, 0, 0, &[]));
        let mut open = Vec::new();
        for (index, path) in paths.iter().enumerate() {
            let stream = 2 * u32::try_from(index).unwrap() + 1;
            // GET, https, the path and the authority.
            let mut block = vec![0x82, 0x87, 0x04, u8::try_from(path.len()).unwrap()];
            block.extend(path.bytes());
            block.extend([0x01, 9]);
            block.extend(b"localhost");
            text.extend(frame(1, 5, stream, &block));
            open.push(stream);
        }
        self.0.write_all(&text).unwrap();
        while !open.is_empty() {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            self.0.read_exact(&mut vec![0; length as usize]).unwrap();
            if matches!(head[3], 0 | 1) && head[4] & 1 != 0 {
                open.retain(|open| *open != stream);
            }
            assert_ne!(head[3], 7, "the server goes away");
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Watches a target with its TLS; panics if there is nothing to attach to.
fn watch(kernel: &mut Kernel, target: &Target) -> Slot {
    let slot = kernel.watch(target).unwrap();
    kernel.watch_tls(slot, target).unwrap();
    attach(kernel, slot, target);
    slot
}

fn attach(kernel: &mut Kernel, slot: Slot, target: &Target) {
    let cgroup = target.cgroups.unified.as_ref().unwrap();
    let findings = Finder::default().look(&cgroup.path);
    assert!(findings.any, "{:?}", findings.why_not);
    let failed = kernel.attach_tls(slot, findings.libraries);
    assert!(failed.is_empty(), "{failed:?}");
}

/// What each path was asked for once counts as.
fn once_each(times: u64) -> Counters {
    let responses = [0, times, times, times, 4 * times];
    Counters { responses, unavailable: 3 * times, ..Counters::default() }
}

/// What of the counters is about responses.
fn responses(kernel: &Kernel, slot: Slot) -> Counters {
    let counted = counters(kernel, slot);
    Counters {
        responses: counted.responses,
        unavailable: counted.unavailable,
        requests: counted.requests,
        unknown: counted.unknown,
        not_understood: counted.not_understood,
        in_trailers: counted.in_trailers,
        ..Counters::default()
    }
}

/// A response counts when its call returns, and its client may have it before.
fn counts(kernel: &Kernel, slot: Slot, expected: Counters) {
    let mut last = Counters::default();
    let deadline = Instant::now() + DEADLINE;
    while last != expected && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
        last = responses(kernel, slot);
    }
    assert_eq!(last, expected);
    thread::sleep(Duration::from_millis(50));
    assert_eq!(responses(kernel, slot), expected, "counted twice");
}

fn in_http1(server: &Server, times: u64) {
    let mut clients = [(); 3].map(|()| server.connect(b"http/1.1"));
    for _ in 0..times {
        for client in &mut clients {
            for status in STATUSES {
                assert_eq!(client.get(&format!("/{status}")), status);
            }
        }
    }
}

fn in_http2(server: &Server, times: usize) {
    for _ in 0..3 {
        let paths = STATUSES.map(|status| format!("/{status}"));
        server.connect(b"h2").streams(&vec![paths; times].concat());
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn responses_of_nginx_in_tls_are_counted_exactly() {
    let (server, mut kernel) = (Server::nginx(), load(1));
    let slot = watch(&mut kernel, &server.target());
    in_http1(&server, 20);
    counts(&kernel, slot, once_each(60));
    in_http2(&server, 20);
    counts(&kernel, slot, once_each(120));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn writes_that_are_repeated_count_once() {
    let (server, mut kernel) = (Server::nginx(), load(1));
    let slot = watch(&mut kernel, &server.target());
    for _ in 0..5 {
        let mut client = server.connect(b"http/1.1");
        // The socket is full before the client reads.
        client.ask("GET", "/big");
        thread::sleep(Duration::from_millis(200));
        assert_eq!(client.read("GET"), 200);
        assert_eq!(client.get("/503"), 503);
        assert_eq!(client.get("/big"), 200);
        assert_eq!(client.get("/500"), 500);
    }
    let expected = Counters { responses: [0, 10, 0, 0, 10], unavailable: 5, ..Counters::default() };
    counts(&kernel, slot, expected);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn responses_to_head_are_not_miscounted() {
    let (server, mut kernel) = (Server::nginx(), load(1));
    let slot = watch(&mut kernel, &server.target());
    let mut client = server.connect(b"http/1.1");
    assert_eq!(client.get("/404"), 404);
    assert_eq!(client.send("HEAD", "/200"), 200);
    for _ in 0..5 {
        assert_eq!(client.get("/500"), 500);
    }
    // One is lost, which is told.
    let expected =
        Counters { responses: [0, 1, 0, 1, 4], not_understood: 1, ..Counters::default() };
    counts(&kernel, slot, expected);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn responses_of_python_in_tls_are_counted_exactly() {
    let (server, mut kernel) = (Server::python(), load(1));
    let slot = watch(&mut kernel, &server.target());
    in_http1(&server, 10);
    counts(&kernel, slot, once_each(30));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn responses_of_node_with_its_own_openssl_are_counted_exactly() {
    let (server, mut kernel) = (Server::node(), load(1));
    let slot = watch(&mut kernel, &server.target());
    in_http1(&server, 10);
    counts(&kernel, slot, once_each(30));
    in_http2(&server, 10);
    counts(&kernel, slot, once_each(60));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn without_consent_no_tls_is_seen_and_none_after_its_end() {
    let (server, mut kernel) = (Server::nginx(), load(2));
    let slot = kernel.watch(&server.target()).unwrap();
    in_http1(&server, 1);
    assert_eq!(responses(&kernel, slot), Counters::default());
    assert_eq!(kernel.tls_files(), 0);

    // From now on, although connections may have been open.
    let mut early = server.connect(b"http/1.1");
    early.get("/500");
    kernel.watch_tls(slot, &server.target()).unwrap();
    attach(&mut kernel, slot, &server.target());
    assert_eq!(kernel.tls_files(), 1);
    assert_eq!(early.get("/503"), 503);
    let once = Counters { responses: [0, 0, 0, 0, 1], unavailable: 1, ..Counters::default() };
    counts(&kernel, slot, once);
    kernel.unwatch_tls(slot).unwrap();
    assert_eq!(kernel.tls_files(), 0);
    assert_eq!(early.get("/503"), 503);
    counts(&kernel, slot, once);
    kernel.unwatch(slot).unwrap();

    let slot = watch(&mut kernel, &server.target());
    assert_eq!(early.get("/503"), 503);
    counts(&kernel, slot, once);
    kernel.unwatch(slot).unwrap();
    assert_eq!(kernel.tls_files(), 0, "detached with its target");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn targets_of_one_library_are_kept_apart_and_neighbours_are_not_counted() {
    let (first, second, neighbour) = (Server::nginx(), Server::nginx(), Server::nginx());
    let mut kernel = load(3);
    let slots = [&first, &second].map(|server| watch(&mut kernel, &server.target()));
    assert_eq!(kernel.tls_files(), 1, "they have the same file");
    in_http1(&first, 1);
    in_http1(&second, 2);
    in_http1(&neighbour, 3);
    counts(&kernel, slots[0], once_each(3));
    counts(&kernel, slots[1], once_each(6));
    kernel.unwatch(slots[0]).unwrap();
    assert_eq!(kernel.tls_files(), 1);
    in_http1(&second, 1);
    counts(&kernel, slots[1], once_each(9));
    kernel.unwatch(slots[1]).unwrap();
    assert_eq!(kernel.tls_files(), 0);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn one_target_of_a_cgroup_has_its_tls() {
    let (server, mut kernel) = (Server::nginx(), load(3));
    let slot = watch(&mut kernel, &server.target());
    let other = target(server.home.cgroups(), Some(1));
    let second = kernel.watch(&other).unwrap();
    assert!(matches!(kernel.watch_tls(second, &other), Err(TlsError::Taken)));
    let mut shared = target(server.home.cgroups(), Some(2));
    shared.cgroups.shared = true;
    let third = kernel.watch(&shared).unwrap();
    assert!(matches!(kernel.watch_tls(third, &shared), Err(TlsError::Shared)));
    kernel.unwatch(slot).unwrap();
    assert!(matches!(kernel.watch_tls(slot, &server.target()), Err(TlsError::NotWatched)));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_library_that_was_deleted_is_found_all_the_same() {
    let identity = Identity::new();
    let copy = identity.path().join("libssl.so.3");
    let library = fs::read_dir("/usr/lib").unwrap().chain(fs::read_dir("/lib").unwrap());
    let library = library.filter_map(|entry| Some(entry.ok()?.path().join("libssl.so.3")));
    let library = library.chain(["/usr/lib/libssl.so.3".into(), "/usr/lib64/libssl.so.3".into()]);
    let library = library.into_iter().find(|path| path.exists()).expect("no libssl.so.3");
    fs::copy(library, &copy).unwrap();
    let script = "import ctypes, os, socket, time
listener = socket.create_server(('127.0.0.1', int(os.environ['PORT'])))
ctypes.CDLL('./libssl.so.3')
os.remove('libssl.so.3')
open('ready', 'w').close()
time.sleep(1000)";
    let ready = identity.path().join("ready");
    let server = Server::start(&["python3", "-c", script], identity, free_port());
    eventually("the library", || ready.exists().then_some(()));
    let mut kernel = load(1);
    let slot = watch(&mut kernel, &server.target());
    // And the system's own, which Python may have loaded.
    assert!(kernel.tls_files() >= 1);
    kernel.unwatch(slot).unwrap();
}

/// The functions of Go as this program has them: with their names, and their arguments in their
/// registers.
#[cfg(target_arch = "x86_64")]
pub(super) mod go {
    use std::arch::asm;

    #[unsafe(export_name = "crypto/tls.(*Conn).Write")]
    #[inline(never)]
    extern "C" fn write() {
        // SAFETY: does nothing, where the compiler cannot leave it out.
        unsafe { asm!("nop") };
    }

    #[unsafe(export_name = "crypto/tls.(*Conn).Close")]
    #[inline(never)]
    extern "C" fn close() {
        // SAFETY: as above; not the same function.
        unsafe { asm!("nop", "nop") };
    }

    /// What the linker of Go writes.
    #[unsafe(link_section = ".go.buildinfo")]
    #[used]
    static VERSION: [u8; 48] = *b"\xff Go buildinf:\x08\x02\
        \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x08go1.22.1\0\0\0\0\0\0\0";

    /// Writes text on a connection, which is a number here.
    pub(in crate::kernel) fn say(connection: u64, text: &[u8]) {
        // SAFETY: the function does nothing, and its registers are given.
        unsafe {
            asm!("mov r12, rbx", "mov rbx, {text}", "call {write}", "mov rbx, r12",
                write = sym write, text = in(reg) text.as_ptr(), in("rax") connection,
                in("rcx") text.len(), out("r12") _, clobber_abi("C"));
        }
    }

    /// Closes it.
    pub(in crate::kernel) fn end(connection: u64) {
        // SAFETY: as in `say`.
        unsafe { asm!("call {close}", close = sym close, in("rax") connection, clobber_abi("C")) };
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
#[ignore = "needs root: cargo xtask test"]
fn functions_of_go_are_seen_where_they_begin() {
    let (mut kernel, mut patient) = (load(1), Patient::start());
    let target = target(patient.cgroups(), None);
    let slot = watch(&mut kernel, &target);
    for status in STATUSES {
        patient.ask(&format!("go {status} 10"));
    }
    counts(&kernel, slot, once_each(10));
    // A body that has no end but the connection's: after `Close` the number is another connection.
    patient.ask("go endless 3");
    let mut expected = once_each(10);
    expected.responses[1] = 13;
    counts(&kernel, slot, expected);
}
