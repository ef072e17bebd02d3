//! A separate process to watch: this test binary again, in cgroups created for it, controlled
//! through its standard input.
use std::{
    env,
    fs::File,
    io::{self, BufRead, BufReader, IoSlice, Read, Write, stdin, stdout},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::kernel::cgroups::TestCgroups;
#[cfg(target_arch = "x86_64")]
use crate::kernel::tls;
use nix::sys::socket::{setsockopt, sockopt};
use paramedic_core::target::Cgroups;

const ROLE: &str = "PARAMEDIC_TEST_ROLE";
const HARNESS: [&str; 3] = ["--exact", "kernel::patient::role", "--nocapture"];

pub(super) struct Patient {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    // Last: removed after the process has ended.
    pub(super) home: TestCgroups,
}

impl Patient {
    pub(super) fn start() -> Self {
        Self::start_in(TestCgroups::new())
    }

    pub(super) fn start_in(home: TestCgroups) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(HARNESS)
            .env(ROLE, "patient")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Before it creates a socket: a socket belongs to the cgroup in which it was created.
        home.add(child.id());
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output, home }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn cgroups(&self) -> Cgroups {
        self.home.cgroups()
    }

    /// Tells it to serve at an address.
    pub(super) fn listen(&mut self, at: &str) -> SocketAddr {
        self.ask(&format!("listen {at}")).parse().unwrap()
    }

    /// Sends it a command and waits for its reply.
    pub(super) fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "the patient died");
            // The test harness writes to the same output, sometimes on the same line.
            if let Some((_, answer)) = line.trim_end().split_once('@') {
                return answer.to_owned();
            }
        }
    }

    pub(super) fn tell(&mut self, command: &str) {
        writeln!(self.input, "{command}").unwrap();
    }

    pub(super) fn wait(&mut self) -> std::process::ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Patient {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A keep-alive client.
pub(super) struct Client(BufReader<TcpStream>);

impl Client {
    pub(super) fn connect(address: SocketAddr) -> Self {
        Self(BufReader::new(TcpStream::connect(address).unwrap()))
    }

    /// Sends a request.
    pub(super) fn ask(&mut self, method: &str, path: &str) -> io::Result<()> {
        self.0.get_mut().write_all(format!("{method} {path} HTTP/1.1\r\n\r\n").as_bytes())
    }

    /// Sends a request and returns the status of the complete response.
    pub(super) fn send(&mut self, method: &str, path: &str) -> io::Result<u16> {
        self.ask(method, path)?;
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let mut length = 0;
        while line.trim_end() != "" {
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim_end().parse().unwrap();
            }
            line.clear();
            self.0.read_line(&mut line)?;
        }
        if method != "HEAD" {
            io::copy(&mut (&mut self.0).take(length), &mut io::sink())?;
        }
        status.ok_or_else(|| io::Error::other("no response"))
    }

    pub(super) fn get(&mut self, path: &str) -> u16 {
        self.send("GET", path).unwrap()
    }

    /// Makes the kernel drop everything from the peer from now on.
    pub(super) fn deaf(&self) {
        let mut nothing = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 };
        let filter = libc::sock_fprog { len: 1, filter: &raw mut nothing };
        let size = u32::try_from(size_of_val(&filter)).unwrap();
        // SAFETY: the kernel copies the program, one instruction (return 0), and keeps no pointer.
        let set = unsafe {
            let fd = self.0.get_ref().as_raw_fd();
            let filter = (&raw const filter).cast();
            libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, filter, size)
        };
        assert_eq!(set, 0, "{}", io::Error::last_os_error());
    }

    /// Closes with a reset.
    pub(super) fn reset(self) {
        reset(&self.0.into_inner());
    }
}

pub(super) fn reset(stream: &TcpStream) {
    let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(stream, sockopt::Linger, &at_once).unwrap();
}

/// The commands of the process; as a test of this binary it does nothing.
#[test]
fn role() {
    match env::var(ROLE).as_deref() {
        Err(_) => return,
        Ok("worker") => accept(&stdin().as_fd().try_clone_to_owned().unwrap().into()),
        Ok(_) => {}
    }
    for line in stdin().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["listen", at] => {
                let listener = TcpListener::bind(at).unwrap();
                answer(listener.local_addr().unwrap());
                thread::spawn(move || accept(&listener));
            }
            ["play", at, script] => {
                let listener = TcpListener::bind(at).unwrap();
                let script = Script::read(script);
                answer(listener.local_addr().unwrap());
                thread::spawn(move || {
                    for stream in listener.incoming() {
                        // The client may leave early.
                        let _ = script.play(&mut stream.unwrap(), Part::Server);
                    }
                });
            }
            ["lend", at] => {
                let listener = TcpListener::bind(at).unwrap();
                let address = listener.local_addr().unwrap();
                let mut worker = Command::new(env::current_exe().unwrap());
                worker.args(HARNESS).env(ROLE, "worker").stdout(Stdio::null());
                let worker = worker.stdin(OwnedFd::from(listener)).spawn();
                let mut worker = worker.unwrap();
                answer(format_args!("{address} {}", worker.id()));
                thread::spawn(move || worker.wait());
            }
            ["get", address, path, times] => {
                let mut client = Client::connect(address.parse().unwrap());
                for _ in 0..times.parse().unwrap() {
                    client.get(path);
                }
                answer("done");
            }
            ["refused", address, times] => {
                let address: SocketAddr = address.parse().unwrap();
                let connects = (0..times.parse().unwrap()).map(|_| TcpStream::connect(address));
                answer(connects.filter(is_refused).count());
            }
            ["connect", address] => {
                let address: SocketAddr = address.parse().unwrap();
                thread::spawn(move || TcpStream::connect(address).map(std::mem::forget));
            }
            ["burn", milliseconds] => {
                let end = Duration::from_millis(milliseconds.parse().unwrap());
                let start = Instant::now();
                while start.elapsed() < end {
                    std::hint::spin_loop();
                }
                answer("done");
            }
            ["eat", mebibytes] => {
                let bytes = mebibytes.parse::<usize>().unwrap() << 20;
                answer(vec![1u8; bytes].iter().map(|byte| usize::from(*byte)).sum::<usize>());
            }
            #[cfg(target_arch = "x86_64")]
            ["go", status, times] => {
                let length = if status == "endless" { "x-" } else { "Content-Length: 0\r\nx-" };
                let status = if status == "endless" { "200" } else { status };
                for _ in 0..times.parse().unwrap() {
                    let text = format!("HTTP/1.1 {status} x\r\n{length}: y\r\n\r\n");
                    tls::go::say(77, text.as_bytes());
                    tls::go::end(77);
                }
                answer("done");
            }
            _ => panic!("unknown command {line}"),
        }
    }
    std::process::exit(0);
}

/// Who writes a line of a script, and who reads it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Client,
    Server,
}

/// What two peers write to each other, in order.
#[derive(Default)]
pub(super) struct Script(Vec<(Part, Vec<u8>)>);

impl Script {
    pub(super) fn new(lines: impl IntoIterator<Item = (Part, Vec<u8>)>) -> Self {
        Self(lines.into_iter().collect())
    }

    fn read(path: &str) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let mut rest = bytes.as_slice();
        let mut lines = Vec::new();
        while let Some((head, behind)) = rest.split_at_checked(5) {
            let part = if head[0] == 0 { Part::Client } else { Part::Server };
            let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
            lines.push((part, behind[..length].to_vec()));
            rest = &behind[length..];
        }
        Self(lines)
    }

    pub(super) fn write(&self, path: &std::path::Path) {
        let mut bytes = Vec::new();
        for (part, line) in &self.0 {
            bytes.push(u8::from(*part == Part::Server));
            bytes.extend(u32::try_from(line.len()).unwrap().to_le_bytes());
            bytes.extend(line);
        }
        std::fs::write(path, bytes).unwrap();
    }

    /// Writes one part's lines, one call each, and reads the other's.
    pub(super) fn play(&self, stream: &mut TcpStream, own: Part) -> io::Result<()> {
        stream.set_nodelay(true)?;
        for (part, line) in &self.0 {
            if *part == own {
                stream.write_all(line)?;
            } else {
                stream.read_exact(&mut vec![0; line.len()])?;
            }
        }
        Ok(())
    }
}

fn answer(what: impl std::fmt::Display) {
    let mut out = stdout().lock();
    writeln!(out, "@{what}").and_then(|()| out.flush()).unwrap();
}

fn is_refused(connect: &io::Result<TcpStream>) -> bool {
    connect.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

fn accept(listener: &TcpListener) {
    for stream in listener.incoming() {
        let stream = stream.unwrap();
        thread::spawn(move || serve(stream));
    }
}

/// Serves one connection: `/503` answers 503, `/reset` resets it, `/vector` and `/file` send a head
/// and a large body in one call, and from a file.
fn serve(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        let mut words = line.split(' ');
        let head_only = words.next() == Some("HEAD");
        let path = words.next().unwrap_or_default().to_owned();
        while line.trim_end() != "" {
            line.clear();
            reader.read_line(&mut line)?;
        }
        line.clear();
        match path.as_str() {
            "/reset" => {
                reset(&stream);
                return Ok(());
            }
            "/vector" => send_vector(&mut stream)?,
            "/file" => send_file(&mut stream)?,
            _ => {
                let length = if head_only { 9 } else { 0 };
                let status = &path[1..];
                let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\n\r\n");
                stream.write_all(head.as_bytes())?;
            }
        }
    }
    Ok(())
}

const BODY: usize = 300_000;

fn send_vector(stream: &mut TcpStream) -> io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n");
    let body = vec![b'x'; BODY];
    let sent = stream.write_vectored(&[IoSlice::new(head.as_bytes()), IoSlice::new(&body)])?;
    stream.write_all(&body[sent - head.len()..])
}

/// The whole response from a file, which the standard library sends without copying it.
fn send_file(stream: &mut TcpStream) -> io::Result<()> {
    let path = env::temp_dir().join(format!("paramedic-test-{}", std::process::id()));
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n");
    std::fs::write(&path, [head.as_bytes(), &vec![b'x'; BODY]].concat())?;
    let mut file = File::open(&path)?;
    std::fs::remove_file(&path)?;
    io::copy(&mut file, stream).map(|_| ())
}
