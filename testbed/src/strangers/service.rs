//! A third-party service: its files, its start, and its first answer.
use std::{cell::RefCell, fs, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};

use super::{
    ask::{self, Given},
    clients::Load,
    kit::{Kit, Part},
    resolver::Resolver,
    supervised::Supervised,
};
use crate::stage::Interrupt;

/// A kind of service.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: &'static str,
    pub(super) parts: &'static [Part],
    pub(super) load: Load,
    pub(super) command: fn(&Place<'_>) -> Result<Command>,
}

/// The place in which one is started.
pub(super) struct Place<'a> {
    pub(super) kit: &'a Kit,
    /// Its files; one of them selects its fault.
    pub(super) folder: &'a Path,
    pub(super) port: u16,
    /// The port of the service that it depends on.
    pub(super) upstream: u16,
    /// The name server, if the service resolves names.
    pub(super) resolver: RefCell<Option<Resolver>>,
}

/// Generous: only what hangs takes this long.
const START: Duration = Duration::from_secs(60);
/// A service that has ended this often does not start at all.
const LIVES: u32 = 3;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("services/", $name)))),*]
    };
}

/// The files of each service, with these words replaced: `PORT`, `UPSTREAM` and `FOLDER`.
const CONFIGURATIONS: [(&str, &str); 4] =
    files!["nginx.conf", "haproxy.cfg", "Caddyfile", "server.xml"];
const SOURCES: [(&str, &str); 9] = files![
    "fault.py",
    "shop.py",
    "actuator.py",
    "patroni.py",
    "single.py",
    "holder.py",
    "rpc.py",
    "shop.js",
    "shop.php",
];
const TOMCATS: [(&str, &str); 3] = files!["index.jsp", "health.jsp", "web.xml"];

impl<'a> Place<'a> {
    pub(super) fn new(kit: &'a Kit, folder: &'a Path, port: u16, upstream: u16) -> Self {
        Self { kit, folder, port, upstream, resolver: RefCell::default() }
    }

    /// The same program with a name server of its own, in a mount namespace where it is the only
    /// one. It finds what it depends on by name.
    pub(super) fn with_names(&self, program: &Command) -> Result<Command> {
        let resolver = Resolver::start()?;
        let file = self.folder.join("resolv.conf");
        let options = "options timeout:1 attempts:1";
        fs::write(&file, format!("nameserver {}\n{options}\n", resolver.address))?;
        *self.resolver.borrow_mut() = Some(resolver);
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c"]);
        command.arg("mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"").arg(file);
        Ok(running(command, program))
    }

    /// The same program in a time namespace, whose clocks are ahead by as many seconds as the file
    /// `clock` says at each start. A process moves there when it executes its program, from Linux 6.3
    /// on.
    pub(super) fn with_clock(&self, program: &Command) -> Result<Command> {
        let file = self.folder.join("clock");
        if !file.exists() {
            fs::write(&file, "0")?;
        }
        let mut command = Command::new("sh");
        let ahead = "--monotonic \"$(cat \"$0\")\" --boottime \"$(cat \"$0\")\"";
        command.arg("-c").arg(format!("exec unshare --time {ahead} -- \"$@\"")).arg(file);
        Ok(running(command, program))
    }

    /// The address of the service that it depends on.
    fn url_of_upstream(&self) -> String {
        let host = if self.resolver.borrow().is_some() { "prices.shop.test" } else { "127.0.0.1" };
        format!("http://{host}:{}", self.upstream)
    }

    /// A module of Python's that is a program.
    pub(super) fn python(&self, module: &str) -> Result<Command> {
        let mut command = self.kit.command(Part::Python)?;
        command.args(["-m", module]).env("PYTHONDONTWRITEBYTECODE", "1");
        Ok(command)
    }

    /// A script of ours, with the port.
    pub(super) fn script(&self, script: &str) -> Result<Command> {
        let mut command = self.kit.command(Part::Python)?;
        command.args([script, &self.port.to_string()]);
        Ok(command)
    }

    /// The client of the gRPC service.
    pub(super) fn rpc(&self, per_second: u32) -> Result<Command> {
        let python = self.kit.command(Part::Python)?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(python.get_program());
        command.args(["rpc.py", "call", &self.port.to_string(), &per_second.to_string()]);
        command.current_dir(self.folder).env("STRANGER", self.folder);
        Ok(command)
    }

    /// Writes the files of all services, which are few and small.
    fn furnish(&self) -> Result<()> {
        let write = |name: &str, text: &str| {
            let path = self.folder.join(name);
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        for (name, text) in CONFIGURATIONS {
            // HAProxy takes no URL.
            let scheme = if name == "haproxy.cfg" { "" } else { "http://" };
            let text = text
                .replace("UPSTREAM", &format!("{scheme}127.0.0.1:{}", self.upstream))
                .replace("PORT", &self.port.to_string())
                .replace("FOLDER", &self.folder.display().to_string());
            let folder = if name == "server.xml" { "conf/" } else { "" };
            write(&format!("{folder}{name}"), &text)?;
        }
        for (name, text) in SOURCES {
            write(name, text)?;
        }
        for (name, text) in TOMCATS {
            let folder = if name == "web.xml" { "WEB-INF/" } else { "" };
            write(&format!("webapps/ROOT/{folder}{name}"), text)?;
        }
        for name in ["index.html", "limited"] {
            write(&format!("www/{name}"), "{\"sold\":1}\n")?;
        }
        Ok(())
    }
}

/// A command that ends with the program that it runs.
fn running(mut command: Command, program: &Command) -> Command {
    command.arg(program.get_program()).args(program.get_args());
    for (name, value) in program.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command
}

impl Service {
    /// Writes its files and returns the command that starts it.
    pub(super) fn command(&self, place: &Place<'_>) -> Result<Command> {
        place.furnish()?;
        let mut command = (self.command)(place)?;
        command.current_dir(place.folder).env("STRANGER", place.folder);
        command.env("UPSTREAM", place.url_of_upstream());
        Ok(command)
    }

    /// Waits until it gives its clients any answer.
    pub(super) fn wait_until_up(
        &self,
        port: u16,
        running: &Supervised,
        interrupt: &Interrupt,
    ) -> Result<()> {
        let pause = Duration::from_millis(50);
        let up = interrupt.until("the service answers", START, pause, || {
            if running.ends() >= LIVES {
                return Ok(false);
            }
            let given = match self.load {
                Load::Http(paths) => ask::get(port, paths[0]),
                Load::Redis => ask::ping(port),
                Load::Idle => ask::get(port, "/"),
                Load::Rpc => ask::listens(port),
            };
            ensure!(matches!(given, Given::Status(_)), "{given:?}");
            Ok(true)
        })?;
        ensure!(up, "the service cannot be started");
        Ok(())
    }
}
