//! The servers: how each is started, and which cases it is asked for. A case is missing where a
//! server does not have what it asks for.
use std::process::Command;

use anyhow::{Result, bail};

use super::{
    case::{
        Case::{self, *},
        Protocol::{self, *},
        Row,
    },
    place::Place,
};
use crate::strangers::kit::Part;

/// A server.
#[derive(Debug)]
pub(super) struct Server {
    /// In the names of rows.
    pub(super) name: &'static str,
    /// For people.
    pub(super) title: &'static str,
    parts: &'static [Part],
    pub(super) backend: Option<Backend>,
    pub(super) command: fn(&Place<'_>) -> Result<Command>,
    speaks: &'static [(Protocol, usize, &'static [Case])],
}

/// The server behind a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backend {
    /// hypercorn, in HTTP/1.1 and HTTP/2; for paths below `/api`.
    Web,
    /// grpcio, for all calls.
    Grpc,
}

impl Backend {
    pub(super) fn command(self, place: &Place<'_>) -> Result<Command> {
        match self {
            Self::Web => hypercorn(place, place.backend),
            Self::Grpc => grpcio(place, place.backend),
        }
    }
}

impl Server {
    /// What is needed to play it; the client is in Python.
    pub(super) fn parts(&self) -> impl Iterator<Item = Part> {
        self.parts.iter().copied().chain([Part::Python])
    }

    const fn of(
        name: &'static str,
        title: &'static str,
        parts: &'static [Part],
        command: fn(&Place<'_>) -> Result<Command>,
        speaks: &'static [(Protocol, usize, &'static [Case])],
    ) -> Self {
        Self { name, title, parts, backend: None, command, speaks }
    }

    const fn before(mut self, backend: Backend) -> Self {
        self.backend = Some(backend);
        self
    }
}

const FILES1: &[Case] = &[Mix, Head, Pipelined, First, Lure, Big];
const PROXY1: &[Case] = &[Mix, Head, Pipelined, First, Lure, Continue, Big, PassedOn];
const PROXY2: &[Case] = &[Mix, Streams, Big, PassedOn, Mid];
const APP1: &[Case] = &[Mix, Head, Pipelined, First, Lure, Continue, Big];
const APP2: &[Case] = &[Mix, Streams, Big, Mid];
const UPGRADED: &[Case] = &[Mix, Streams, Big, Upgrade, Mid];
const CALLS: &[Case] = &[Codes, Stream, Bare, Fails, Mid];

static SERVERS: [Server; 17] = [
    Server::of(
        "nginx",
        "nginx",
        &[Part::Nginx],
        |place| nginx(place, "nginx.conf"),
        &[(Http1, 0, PROXY1), (Http2, 1, PROXY2)],
    )
    .before(Backend::Web),
    Server::of(
        "haproxy",
        "HAProxy",
        &[Part::Haproxy],
        |place| haproxy(place, "haproxy.cfg"),
        &[
            // It has no bodies of its own.
            (Http1, 0, &[Mix, Pipelined, First, Continue, PassedOn]),
            (Http2, 1, &[Mix, Streams, PassedOn, Mid]),
        ],
    )
    .before(Backend::Web),
    Server::of(
        "caddy",
        "Caddy (Go)",
        &[Part::Caddy],
        caddy,
        &[(Http1, 0, PROXY1), (Http2, 0, &[Mix, Streams, Big, Upgrade, PassedOn, Mid])],
    )
    .before(Backend::Web),
    // Its listening socket waits for data, so that several requests in a first packet are counted as
    // one. It often ends a connection as soon as it was upgraded.
    Server::of(
        "apache",
        "Apache httpd",
        &[Part::Apache],
        apache,
        &[(Http1, 0, &[Mix, Head, Pipelined, Lure, Big]), (Http2, 0, APP2)],
    ),
    Server::of(
        "lighttpd",
        "lighttpd",
        &[Part::Lighttpd],
        lighttpd,
        &[(Http1, 0, FILES1), (Http2, 0, UPGRADED)],
    ),
    Server::of(
        "tomcat",
        "Tomcat",
        &[Part::Java, Part::Tomcat],
        tomcat,
        &[(Http1, 0, APP1), (Http2, 0, UPGRADED)],
    ),
    Server::of(
        "express",
        "Node.js, Express",
        &[Part::Express],
        |place| place.node("app.js"),
        &[(Http1, 0, APP1)],
    ),
    Server::of("node", "Node.js, `http2`", &[Part::Express], node, &[(Http2, 0, APP2)]),
    Server::of("gunicorn", "gunicorn, Flask", &[], gunicorn, &[(Http1, 0, APP1)]),
    Server::of("uvicorn", "uvicorn", &[], uvicorn, &[(Http1, 0, APP1)]),
    Server::of("granian", "Granian (hyper)", &[], granian, &[(Http2, 0, APP2)]),
    Server::of(
        "hypercorn",
        "Hypercorn",
        &[],
        |place| hypercorn(place, place.ports[0]),
        &[(Http1, 0, APP1), (Http2, 0, UPGRADED)],
    ),
    Server::of("php", "PHP", &[Part::Php], php, &[(Http1, 0, &[Mix, Head, Lure, Big])]),
    Server::of("grpcio", "grpcio", &[], |place| grpcio(place, place.ports[0]), &[(Grpc, 0, CALLS)]),
    Server::of(
        "grpc-js",
        "`@grpc/grpc-js`",
        &[Part::Express],
        |place| place.node("rpc.js"),
        // It refers to the name of the code, so that a new code is unknown as well.
        &[(Grpc, 0, &[Codes, Stream, Bare, Mid])],
    ),
    Server::of(
        "nginx-grpcio",
        "nginx, before grpcio",
        &[Part::Nginx],
        nginx_grpc,
        &[(Grpc, 0, CALLS)],
    )
    .before(Backend::Grpc),
    Server::of(
        "haproxy-grpcio",
        "HAProxy, before grpcio",
        &[Part::Haproxy],
        haproxy_grpc,
        &[(Grpc, 0, CALLS)],
    )
    .before(Backend::Grpc),
];

/// Those whose name contains one of the words; all without words.
pub(super) fn chosen(only: &[String]) -> Result<Vec<Row>> {
    let mut rows = all();
    rows.retain(|row| {
        only.is_empty() || only.iter().any(|word| row.name().contains(word.as_str()))
    });
    if rows.is_empty() {
        bail!("no such case; --list lists them");
    }
    Ok(rows)
}

/// Every case of every server.
pub(super) fn all() -> Vec<Row> {
    let of_server = |server: &'static Server| {
        server.speaks.iter().flat_map(move |&(protocol, port, cases)| {
            cases.iter().map(move |&case| Row { server, protocol, port, case })
        })
    };
    SERVERS.iter().flat_map(of_server).collect()
}

fn nginx(place: &Place<'_>, file: &str) -> Result<Command> {
    let mut command = place.kit.command(Part::Nginx)?;
    command.args(["-e", "stderr", "-p"]).arg(place.folder);
    command.arg("-c").arg(place.folder.join(file));
    Ok(command)
}

fn nginx_grpc(place: &Place<'_>) -> Result<Command> {
    nginx(place, "nginx-grpc.conf")
}

fn haproxy(place: &Place<'_>, file: &str) -> Result<Command> {
    let mut command = place.kit.command(Part::Haproxy)?;
    command.args(["-W", "-f"]).arg(place.folder.join(file));
    Ok(command)
}

fn haproxy_grpc(place: &Place<'_>) -> Result<Command> {
    haproxy(place, "haproxy-grpc.cfg")
}

fn caddy(place: &Place<'_>) -> Result<Command> {
    let mut command = place.kit.command(Part::Caddy)?;
    command.args(["run", "--adapter", "caddyfile", "--config", "Caddyfile"]);
    command.env("HOME", place.folder);
    Ok(command)
}

fn apache(place: &Place<'_>) -> Result<Command> {
    let mut command = place.kit.command(Part::Apache)?;
    // Its modules are below.
    command.arg("-d").arg(place.kit.root(Part::Apache)?.join("usr/lib/apache2"));
    command.arg("-f").arg(place.folder.join("apache.conf")).arg("-DFOREGROUND");
    Ok(command)
}

fn lighttpd(place: &Place<'_>) -> Result<Command> {
    let mut command = place.kit.command(Part::Lighttpd)?;
    command.arg("-m").arg(place.kit.root(Part::Lighttpd)?.join("usr/lib/lighttpd"));
    command.arg("-D").arg("-f").arg(place.folder.join("lighttpd.conf"));
    Ok(command)
}

fn tomcat(place: &Place<'_>) -> Result<Command> {
    let home = place.kit.root(Part::Tomcat)?.join("usr/share/tomcat10");
    let bin = home.join("bin");
    let mut command = place.kit.command(Part::Java)?;
    command.env_remove("LD_LIBRARY_PATH");
    command.args(["-Xmx256m", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp"]);
    command.arg(format!("{0}/bootstrap.jar:{0}/tomcat-juli.jar", bin.display()));
    command.arg(format!("-Dcatalina.home={}", home.display()));
    command.arg(format!("-Dcatalina.base={}", place.folder.display()));
    command.args(["org.apache.catalina.startup.Bootstrap", "start"]);
    Ok(command)
}

fn node(place: &Place<'_>) -> Result<Command> {
    let mut command = place.node("app.js")?;
    command.arg("http2");
    Ok(command)
}

fn gunicorn(place: &Place<'_>) -> Result<Command> {
    let mut command = place.python("gunicorn")?;
    command.args(["--threads", "4", "--no-control-socket", "--keep-alive", "30", "--bind"]);
    command.arg(format!("127.0.0.1:{}", place.ports[0])).arg("web:app");
    Ok(command)
}

fn uvicorn(place: &Place<'_>) -> Result<Command> {
    let mut command = place.python("uvicorn")?;
    command.args(["--host", "127.0.0.1", "--log-level", "warning", "--port"]);
    command.args([&place.ports[0].to_string(), "app:app"]);
    Ok(command)
}

fn granian(place: &Place<'_>) -> Result<Command> {
    let mut command = place.python("granian")?;
    command.args(["--interface", "asgi", "--http", "2", "--host", "127.0.0.1", "--port"]);
    command.args([&place.ports[0].to_string(), "app:app"]);
    Ok(command)
}

fn hypercorn(place: &Place<'_>, port: u16) -> Result<Command> {
    let mut command = place.python("hypercorn")?;
    command.args(["--bind", &format!("127.0.0.1:{port}"), "--keep-alive", "30", "app:app"]);
    Ok(command)
}

fn php(place: &Place<'_>) -> Result<Command> {
    let mut command = place.kit.command(Part::Php)?;
    command.args(["-n", "-d", "display_errors=0", "-S"]);
    command.args([&format!("127.0.0.1:{}", place.ports[0]), "router.php"]);
    Ok(command)
}

fn grpcio(place: &Place<'_>, port: u16) -> Result<Command> {
    let mut command = place.kit.command(Part::Python)?;
    command.args(["served.py", &port.to_string()]).env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(command)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_a_server_is_no_part_of_two_places() {
        let rows = all();
        let names: BTreeSet<String> = rows.iter().map(Row::name).collect();
        assert_eq!(names.len(), rows.len());
        let titles: BTreeSet<&str> = SERVERS.iter().map(|server| server.title).collect();
        assert_eq!(titles.len(), SERVERS.len());
    }

    #[test]
    fn what_begins_in_the_middle_comes_last_and_only_a_proxy_passes_on() {
        for server in &SERVERS {
            for (_, _, cases) in server.speaks {
                let mid = cases.iter().position(|&case| case == Mid);
                assert!(mid.is_none_or(|mid| mid + 1 == cases.len()), "{}", server.name);
                let is_web = server.backend == Some(Backend::Web);
                assert_eq!(cases.contains(&PassedOn), is_web, "{}", server.name);
            }
        }
    }

    #[test]
    fn a_word_chooses_cases_and_an_unknown_one_none() {
        let chosen_by = |word: &str| chosen(&[word.to_owned()]);
        assert!(chosen_by("/grpc/").unwrap().iter().all(|row| row.protocol == Grpc));
        assert_eq!(chosen_by("php/http1/mix").unwrap().len(), 1);
        assert!(chosen_by("iis").is_err());
    }
}
