//! Servers to watch: patient-app, and others that know nothing of Paramedic.
use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use crate::agent::{Directory, PARAMEDIC, get, until};
use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use paramedic_host::procfs::Tree;

/// A process, with everything in its process group; killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) url: String,
}

impl Server {
    /// Starts it and reads its port from its first line.
    fn start(command: &mut Command, port_of: impl Fn(&str) -> Option<u16>) -> Self {
        let mut server = Self::spawn(command.stdout(Stdio::piped()), 0);
        let mut line = String::new();
        let stdout = server.child.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        server.at(port_of(&line).unwrap_or_else(|| panic!("no port in {line:?} of {command:?}")));
        server
    }

    fn spawn(command: &mut Command, port: u16) -> Self {
        use std::os::unix::process::CommandExt;
        command.stdin(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut server = Self { child, address: SocketAddr::from(([0; 4], 0)), url: String::new() };
        server.at(port);
        server
    }

    fn at(&mut self, port: u16) {
        self.address = SocketAddr::from(([127, 0, 0, 1], port));
        self.url = format!("http://{}", self.address);
    }

    /// patient-app, which answers every request well unless told otherwise.
    pub(crate) fn patient() -> Self {
        Self::patient_on(0)
    }

    /// patient-app on a port that was another's.
    pub(crate) fn patient_on(port: u16) -> Self {
        Self::start(patient_at(port).args(["--data-failure-ratio", "0"]), |line| {
            let said: serde_json::Value = serde_json::from_str(line).ok()?;
            said["port"].as_u64()?.try_into().ok()
        })
    }

    /// A Python script that first prints its port.
    pub(crate) fn python(script: &str) -> Self {
        Self::start(Command::new("python3").args(["-u", "-c", script]), |line| {
            line.trim().parse().ok()
        })
    }

    /// The common server: `python3 -m http.server`.
    pub(crate) fn python_http_server(root: &Directory) -> Self {
        let mut command = Command::new("python3");
        command.args(["-u", "-m", "http.server", "--bind", "127.0.0.1", "0", "--directory"]);
        Self::start(command.arg(root.path()), |line| {
            let (_, rest) = line.split_once(" port ")?;
            rest.split(' ').next()?.parse().ok()
        })
    }

    /// nginx with one worker, without logs, and with everything else below `root`.
    pub(crate) fn nginx(root: &Directory) -> Self {
        let program = [Path::new("/usr/sbin/nginx"), Path::new("/usr/bin/nginx")];
        let program = program
            .into_iter()
            .find(|path| path.exists())
            .expect("this test needs nginx: apt-get install --no-install-recommends nginx-light");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let configuration = root.file("nginx.conf");
        fs::write(&configuration, nginx_configuration(root.path(), port)).unwrap();
        fs::write(root.file("index.html"), "hello\n").unwrap();
        let mut command = Command::new(program);
        command.args(["-e", "/dev/null", "-p"]).arg(root.path()).arg("-c").arg(configuration);
        let mut server = Self::spawn(command.stdout(Stdio::null()), port);
        until("nginx answers", || {
            assert_eq!(server.child.try_wait().unwrap(), None, "nginx has ended");
            get(server.address, "/").ok()
        });
        server
    }

    /// Sends it this many requests, one after the other.
    pub(crate) fn ask(&self, path: &str, times: usize) {
        for _ in 0..times {
            get(self.address, path).unwrap();
        }
    }

    /// This many errors, one after the other: from the sixth on the app is sick, from the eleventh
    /// critically.
    pub(crate) fn errors(&self, times: usize) {
        self.ask("/simulate-error", times);
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Whether this very process still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it has ended, for any reason.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        until("the server ends", || self.child.try_wait().unwrap())
    }

    /// Accepts connections and answers none of them.
    pub(crate) fn hangs(&self) {
        kill(Pid::from_raw(self.pid()), Signal::SIGSTOP).unwrap();
    }

    /// Dies at once, as if by a bug.
    pub(crate) fn dies(&mut self) {
        self.child.kill().unwrap();
        self.ended();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.pid()), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// A process that the restart command starts, and whose id it writes to a file; killed when
/// dropped.
pub(crate) struct Successor(pub(crate) PathBuf);

impl Successor {
    pub(crate) fn pid(&self) -> Option<i32> {
        let text = match fs::read_to_string(&self.0) {
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            text => text.unwrap(),
        };
        text.trim().parse().ok()
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(pid) = self.pid()
            && Tree::default().stat(pid).is_ok_and(|stat| stat.name == "patient-app")
        {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// The program patient-app, built beside paramedic.
pub(crate) fn patient_program() -> PathBuf {
    let program = Path::new(PARAMEDIC).with_file_name("patient-app");
    assert!(
        program.exists(),
        "{} is missing: run `cargo build --package patient-app`",
        program.display()
    );
    program
}

fn patient_at(port: u16) -> Command {
    let mut command = Command::new(patient_program());
    command.args(["--address", "127.0.0.1", "--log", "off", "--port", &port.to_string()]);
    command
}

fn nginx_configuration(root: &Path, port: u16) -> String {
    let root = root.display();
    let scratch: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {root}/{name};\n"))
        .concat();
    format!(
        "daemon off;\nuser root;\nworker_processes 1;\npid {root}/nginx.pid;\n\
         error_log /dev/null;\nevents {{}}\n\
         http {{\naccess_log off;\n{scratch}\
         server {{ listen 127.0.0.1:{port}; root {root}; }}\n}}\n"
    )
}
