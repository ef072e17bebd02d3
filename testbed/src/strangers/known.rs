//! The foreign services: how each is started, and what its clients ask for.
use std::process::Command;

use anyhow::Result;

use super::{
    clients::Load,
    kit::Part,
    service::{Place, Service},
};

const FRONT: Load = Load::Http(&["/"]);
/// One in ten is for another page.
const REPORTS: Load = Load::Http(&["/", "/", "/", "/", "/", "/", "/", "/", "/", "/reports"]);

/// Only for what another service has.
const PRICES: Load = Load::Http(&["/prices"]);

const fn python(
    name: &'static str,
    load: Load,
    command: fn(&Place<'_>) -> Result<Command>,
) -> Service {
    Service { name, parts: &[Part::Python], load, command }
}

/// Flask behind gunicorn with threads, `/health` and `/heal` like the original demo's.
pub(super) static GUNICORN: Service = python("gunicorn", FRONT, two_workers);
/// The same with clocks of its own.
pub(super) static GUNICORN_CLOCK: Service =
    python("gunicorn", FRONT, |place| place.with_clock(&two_workers(place)?));

fn two_workers(place: &Place<'_>) -> Result<Command> {
    let mut command = gunicorn(place)?;
    command.args(["--workers", "2", "shop:app"]).env("HEAL", "yes");
    Ok(command)
}

/// The same, with a listening socket for each worker.
pub(super) static REUSEPORT: Service = python("gunicorn-reuseport", FRONT, |place| {
    let mut command = gunicorn(place)?;
    command.args(["--workers", "2", "--reuse-port", "shop:app"]);
    Ok(command)
});
/// Flask's own server, with `/health`.
pub(super) static FLASK: Service = python("flask", FRONT, flask);
/// The same, with one request in ten for `/reports`.
pub(super) static FLASK_REPORTS: Service = python("flask", REPORTS, flask);
pub(super) static FLASK_BARE_REPORTS: Service = python("flask-bare", REPORTS, bare);
/// The same, which asks another service for prices.
pub(super) static FLASK_PRICES: Service = python("flask", PRICES, flask);
/// The same, with a pool of two connections for it.
pub(super) static FLASK_QUOTES: Service = python("flask", Load::Http(&["/quotes"]), flask);
/// The same, which finds that service by its name.
pub(super) static FLASK_NAMES: Service =
    python("flask", PRICES, |place| place.with_names(&flask(place)?));
/// The same, without clients.
pub(super) static FLASK_IDLE: Service = python("flask", Load::Idle, flask);
/// The same with `/heal`.
pub(super) static FLASK_HEAL: Service = python("flask-heal", FRONT, |place| {
    let mut command = flask(place)?;
    command.env("HEAL", "yes");
    Ok(command)
});
/// Flask's own server without `/health`.
pub(super) static FLASK_BARE: Service = python("flask-bare", FRONT, bare);
pub(super) static FLASK_BARE_PRICES: Service = python("flask-bare", PRICES, bare);
/// gunicorn with a socket that another process has opened and keeps. That process has other
/// children too.
pub(super) static HOLDER: Service = python("holder", FRONT, |place| place.script("holder.py"));
/// Granian, in Rust, in front of the same shop.
pub(super) static GRANIAN: Service = python("granian", FRONT, |place| {
    let mut command = place.python("granian")?;
    command.args(["--interface", "wsgi", "--workers", "2", "--host", "127.0.0.1", "--port"]);
    command.args([&place.port.to_string(), "shop:app"]);
    Ok(command)
});
/// Starlette behind uvicorn, with a report like Spring Boot's.
pub(super) static UVICORN: Service = python("uvicorn", FRONT, uvicorn);
pub(super) static UVICORN_IDLE: Service = python("uvicorn", Load::Idle, uvicorn);
/// The same, which asks another service for prices, and may find it by its name.
pub(super) static UVICORN_PRICES: Service = python("uvicorn", PRICES, uvicorn);
pub(super) static UVICORN_NAMES: Service =
    python("uvicorn", PRICES, |place| place.with_names(&uvicorn(place)?));
/// The same, with the report at Spring Boot's path.
pub(super) static ACTUATOR: Service = python("actuator", FRONT, |place| {
    let mut command = uvicorn(place)?;
    command.env("HEALTH_PATH", "/actuator/health");
    Ok(command)
});
pub(super) static PATRONI: Service =
    python("patroni", Load::Http(&["/health", "/cluster"]), |place| place.script("patroni.py"));
/// One connection at a time.
pub(super) static SINGLE: Service = python("single", FRONT, |place| place.script("single.py"));
pub(super) static GRPC: Service = python("grpc", Load::Rpc, |place| place.script("rpc.py"));
/// The same, which asks another service for prices.
pub(super) static GRPC_PRICES: Service = python("grpc", Load::Rpc, |place| {
    let mut command = place.script("rpc.py")?;
    command.env("PRICES", "yes");
    Ok(command)
});

const fn express(load: Load, command: fn(&Place<'_>) -> Result<Command>) -> Service {
    Service { name: "express", parts: &[Part::Express], load, command }
}

fn node(place: &Place<'_>) -> Result<Command> {
    let mut command = place.kit.command(Part::Express)?;
    command.arg("shop.js").arg(place.port.to_string());
    command.env("NODE_PATH", place.kit.root(Part::Express)?.join("node_modules"));
    Ok(command)
}

pub(super) static EXPRESS: Service = express(FRONT, node);
/// The same with clocks of its own.
pub(super) static EXPRESS_CLOCK: Service = express(FRONT, |place| place.with_clock(&node(place)?));
/// The same, which asks another service for prices, and may find it by its name.
pub(super) static EXPRESS_PRICES: Service = express(PRICES, node);
pub(super) static EXPRESS_NAMES: Service = express(PRICES, |place| place.with_names(&node(place)?));

const fn nginx(load: Load) -> Service {
    Service {
        name: "nginx",
        parts: &[Part::Nginx],
        load,
        command: |place| {
            let mut command = place.kit.command(Part::Nginx)?;
            command.args(["-e", "stderr", "-p"]).arg(place.folder);
            command.arg("-c").arg(place.folder.join("nginx.conf"));
            Ok(command)
        },
    }
}

/// nginx with files.
pub(super) static NGINX: Service = nginx(FRONT);
/// nginx as a proxy.
pub(super) static NGINX_PROXY: Service = nginx(Load::Http(&["/api"]));
pub(super) static HAPROXY: Service = Service {
    name: "haproxy",
    parts: &[Part::Haproxy],
    load: FRONT,
    command: |place| {
        let mut command = place.kit.command(Part::Haproxy)?;
        command.args(["-W", "-f"]).arg(place.folder.join("haproxy.cfg"));
        Ok(command)
    },
};
const fn caddy(load: Load) -> Service {
    Service {
        name: "caddy",
        parts: &[Part::Caddy],
        load,
        command: |place| {
            let mut command = place.kit.command(Part::Caddy)?;
            command.args(["run", "--adapter", "caddyfile", "--config", "Caddyfile"]);
            command.env("HOME", place.folder);
            Ok(command)
        },
    }
}

/// A server in Go, with files.
pub(super) static CADDY: Service = caddy(FRONT);
/// The same as a proxy.
pub(super) static CADDY_PROXY: Service = caddy(Load::Http(&["/api"]));
const fn php(load: Load) -> Service {
    Service {
        name: "php",
        parts: &[Part::Php],
        load,
        command: |place| {
            let mut command = place.kit.command(Part::Php)?;
            command.args([
                "-n",
                "-d",
                "display_errors=0",
                "-S",
                &format!("127.0.0.1:{}", place.port),
                "shop.php",
            ]);
            Ok(command)
        },
    }
}

/// PHP's own server.
pub(super) static PHP: Service = php(FRONT);
/// The same, which asks another service for prices.
pub(super) static PHP_PRICES: Service = php(PRICES);
pub(super) static REDIS: Service = Service {
    name: "redis",
    parts: &[Part::Redis],
    load: Load::Redis,
    command: |place| {
        let mut command = place.kit.command(Part::Redis)?;
        command.args(["--bind", "127.0.0.1", "--save", "", "--port", &place.port.to_string()]);
        Ok(command)
    },
};
const fn tomcat(command: fn(&Place<'_>) -> Result<Command>) -> Service {
    Service { name: "tomcat", parts: &[Part::Java, Part::Tomcat], load: FRONT, command }
}

pub(super) static TOMCAT: Service = tomcat(|place| java(place, &["-Xmx128m"]));
/// The same with clocks of its own.
pub(super) static TOMCAT_CLOCK: Service =
    tomcat(|place| place.with_clock(&java(place, &["-Xmx128m"])?));
/// The same with hardly more memory than it needs.
pub(super) static TOMCAT_TIGHT: Service =
    tomcat(|place| java(place, &["-Xmx40m", "-XX:+UseSerialGC"]));

fn java(place: &Place<'_>, memory: &[&str]) -> Result<Command> {
    let home = place.kit.root(Part::Tomcat)?.join("usr/share/tomcat10");
    let bin = home.join("bin");
    let mut command = place.kit.command(Part::Java)?;
    command.env_remove("LD_LIBRARY_PATH");
    command.args(memory).args(["-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp"]);
    command.arg(format!("{0}/bootstrap.jar:{0}/tomcat-juli.jar", bin.display()));
    command.arg(format!("-Dcatalina.home={}", home.display()));
    command.arg(format!("-Dcatalina.base={}", place.folder.display()));
    command.args(["org.apache.catalina.startup.Bootstrap", "start"]);
    Ok(command)
}

fn flask(place: &Place<'_>) -> Result<Command> {
    place.script("shop.py")
}

fn bare(place: &Place<'_>) -> Result<Command> {
    let mut command = flask(place)?;
    command.env("HEALTH", "none");
    Ok(command)
}

fn uvicorn(place: &Place<'_>) -> Result<Command> {
    let mut command = place.python("uvicorn")?;
    command.args(["--host", "127.0.0.1", "--log-level", "warning", "--port"]);
    command.args([&place.port.to_string(), "actuator:app"]);
    Ok(command)
}

fn gunicorn(place: &Place<'_>) -> Result<Command> {
    let mut command = place.python("gunicorn")?;
    command.args(["--threads", "4", "--no-control-socket", "--bind"]);
    command.arg(format!("127.0.0.1:{}", place.port));
    Ok(command)
}
