//! Where a server is started: its files and ports.
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::strangers::kit::{Kit, Part};

pub(super) struct Place<'a> {
    pub(super) kit: &'a Kit,
    pub(super) folder: &'a Path,
    /// The server's own: one, or one for each protocol.
    pub(super) ports: [u16; 2],
    /// The one of the server behind it.
    pub(super) backend: u16,
}

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("services/", $name)))),*]
    };
}

/// The files of all servers and of the client. In the first ones these words are replaced: `PORT1`,
/// `PORT2`, `BACKEND` and `FOLDER`.
const CONFIGURATIONS: [(&str, &str); 8] = files![
    "nginx.conf",
    "nginx-grpc.conf",
    "haproxy.cfg",
    "haproxy-grpc.cfg",
    "Caddyfile",
    "apache.conf",
    "lighttpd.conf",
    "server.xml",
];
const SOURCES: [(&str, &str); 13] = files![
    "client.py",
    "record.py",
    "http1.py",
    "http2.py",
    "rpc.py",
    "app.py",
    "web.py",
    "served.py",
    "app.js",
    "rpc.js",
    "router.php",
    "answer.jsp",
    "web.xml",
];

impl Place<'_> {
    /// Writes the files, which are few and small.
    pub(super) fn furnish(&self) -> Result<()> {
        let write = |path: PathBuf, text: &[u8]| {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        // Apache's workers are not root.
        fs::set_permissions(self.folder, fs::Permissions::from_mode(0o755))?;
        for (name, text) in CONFIGURATIONS {
            let text = text
                .replace("PORT1", &self.ports[0].to_string())
                .replace("PORT2", &self.ports[1].to_string())
                .replace("BACKEND", &self.backend.to_string())
                .replace("FOLDER", &self.folder.display().to_string());
            let folder = if name == "server.xml" { "conf" } else { "" };
            write(self.folder.join(folder).join(name), text.as_bytes())?;
        }
        for (name, text) in SOURCES {
            let folder = match name {
                "answer.jsp" => "webapps/ROOT",
                "web.xml" => "webapps/ROOT/WEB-INF",
                _ => "",
            };
            write(self.folder.join(folder).join(name), text.as_bytes())?;
        }
        // What servers of files have.
        let www = self.folder.join("www");
        write(www.join("status/200"), b"ok\n")?;
        write(www.join("big"), &[b'x'; 1_000_000])?;
        let lure = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n".repeat(40);
        write(www.join("lure"), lure.as_bytes())
    }

    /// A module of Python's that is a program.
    pub(super) fn python(&self, module: &str) -> Result<Command> {
        let mut command = self.kit.command(Part::Python)?;
        command.args(["-m", module]).env("PYTHONDONTWRITEBYTECODE", "1");
        Ok(command)
    }

    /// A script of ours in Node.js, with the port.
    pub(super) fn node(&self, script: &str) -> Result<Command> {
        let mut command = self.kit.command(Part::Express)?;
        command.arg(script).arg(self.ports[0].to_string());
        command.env("NODE_PATH", self.kit.root(Part::Express)?.join("node_modules"));
        Ok(command)
    }
}
