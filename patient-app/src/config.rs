//! The command line.
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::illness::{Illness, Name, Ratio};
use crate::upstream;

/// Small HTTP service with injectable faults (illnesses), to try out Paramedic.
#[derive(Parser, Debug)]
#[command(version, after_long_help = teaching())]
pub struct Config {
    /// Port to listen on. With 0 the system chooses one, and the first line of output names it.
    #[arg(long, env = "PORT", default_value_t = 5000)]
    pub(crate) port: u16,

    /// Address to listen on [default: :: for IPv6 and IPv4, or 0.0.0.0 without IPv6].
    #[arg(long, env = "ADDRESS")]
    pub(crate) address: Option<IpAddr>,

    /// Seconds that open requests may take to finish after SIGTERM.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=3600))]
    grace_seconds: u64,

    /// Access log on standard output: one JSON object per request, or none.
    #[arg(long, value_enum, default_value_t = Log::Json)]
    log: Log,

    /// Share of GET /data requests that fail while no illness is active, 0 to 1.
    #[arg(long, default_value = "0.2")]
    pub(crate) data_failure_ratio: Ratio,

    /// CPU time of one GET /data, in microseconds.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=10_000_000))]
    work_microseconds: u64,

    /// Backend of this service: GET /data calls its GET /data first, and answers 502 if that fails.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) upstream: Option<SocketAddr>,

    /// Seed of all random choices, which makes a run repeatable. Without it each run differs.
    #[arg(long)]
    pub(crate) seed: Option<u64>,

    /// Do not serve. Poll /healthz of the service on this port instead, and exit with 0 if it
    /// answers, else with 1. For health checks in images without curl.
    #[arg(long)]
    check: bool,

    /// Illness to start with, with default or given parameters; repeatable.
    #[arg(long, value_name = "NAME[=JSON]", value_parser = parse_illness)]
    pub(crate) illness: Vec<Illness>,
}

impl Config {
    /// Whether to run a health check instead of the service.
    #[must_use]
    pub const fn is_check(&self) -> bool {
        self.check
    }

    /// Whether the service on this port answers.
    pub async fn is_alive(&self) -> bool {
        // A service that listens on all addresses also listens here.
        let own = self.address.filter(|address| !address.is_unspecified());
        let address = own.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        upstream::succeeds((address, self.port).into(), "/healthz").await
    }

    /// Time limit of the drain.
    pub(crate) const fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_seconds)
    }

    /// CPU time of one GET /data.
    pub(crate) const fn work(&self) -> Duration {
        Duration::from_micros(self.work_microseconds)
    }

    /// Whether requests are logged.
    pub(crate) fn logs(&self) -> bool {
        self.log == Log::Json
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Log {
    /// No line per request.
    Off,
    /// One JSON object per request.
    Json,
}

fn parse_illness(text: &str) -> Result<Illness, String> {
    let (name, parameters) = text.split_once('=').unwrap_or((text, ""));
    let name: Name = name.parse().map_err(|e: crate::illness::UnknownName| e.to_string())?;
    Illness::parse(name, parameters.as_bytes()).map_err(|e| e.to_string())
}

/// The text after the options in `--help`: examples, and every illness with its parameters.
fn teaching() -> String {
    let mut text = String::from(
        "Try it:
  patient-app &
  curl localhost:5000/                    the list of endpoints
  curl localhost:5000/simulate-error      one error; from 6 on it is degraded, from 11 critical
  curl localhost:5000/health
  curl localhost:5000/heal -d '{\"action\":\"reset_errors\"}'

Start and end illnesses:
  curl localhost:5000/illness/errors -d '{\"ratio\":0.5}'
  curl -X POST localhost:5000/illness/stuck
  curl localhost:5000/illness             the active illnesses, also under lie
  curl -X DELETE localhost:5000/illness   end all
  patient-app --illness slow --illness 'lie={\"as\":\"healthy\"}'   illnesses from the start

Illnesses:
",
    );
    for name in Name::ALL {
        text.push_str(&format!("  {:<8}{}\n", name.as_str(), name.summary()));
        for (parameter, meaning) in name.expects() {
            text.push_str(&format!("          {parameter}: {meaning}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn clap_accepts_the_command_line() {
        Config::command().debug_assert();
    }

    #[test]
    fn illnesses_parse_with_and_without_parameters() {
        let config = Config::try_parse_from([
            "patient-app",
            "--illness",
            "stuck",
            "--illness",
            r#"errors={"ratio":1}"#,
        ])
        .unwrap();
        let names: Vec<_> = config.illness.iter().map(Illness::name).collect();
        assert_eq!(names, [Name::Stuck, Name::Errors]);
    }

    #[test]
    fn invalid_arguments_are_refused() {
        for bad in [
            ["--illness", "plague"],
            ["--illness", "errors={\"ratio\":2}"],
            ["--illness", "slow={"],
            ["--data-failure-ratio", "1.5"],
            ["--data-failure-ratio", "NaN"],
            ["--port", "65536"],
            ["--address", "somewhere"],
            ["--log", "loud"],
            ["--upstream", "somewhere"],
            ["--work-microseconds", "-1"],
        ] {
            let arguments = ["patient-app"].into_iter().chain(bad);
            assert!(Config::try_parse_from(arguments).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_help_names_every_illness() {
        let help = Config::command().render_long_help().to_string();
        for name in Name::ALL {
            assert!(help.contains(name.summary()), "{} is missing", name.as_str());
        }
    }
}
