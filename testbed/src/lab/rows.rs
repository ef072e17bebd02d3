//! Rows: what `paramedic replay --rows` prints, and what training reads.
use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
};

use anyhow::{Context, Result, ensure};
use flate2::{Compression, write::GzEncoder};

use super::{kind::Remedy, label::Tried};

/// Columns of the replay's rows before the features.
const BEFORE: [&str; 6] = ["at_ns", "boot", "target", "uid", "instance", "trigger"];

/// One row of a replay.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) at: u64,
    /// The target: within one boot a uid belongs to one target.
    pub(crate) boot: String,
    pub(crate) uid: String,
    /// Its name, for people.
    pub(crate) target: String,
    /// As printed: exactly what the model saw.
    pub(crate) features: Vec<String>,
    pub(crate) verdict: String,
}

/// Reads the output of a replay. Names in the test bed hold no commas.
pub(crate) fn parse(csv: &str) -> Result<Vec<Seen>> {
    let mut lines = csv.lines();
    let head = lines.next().context("no rows")?;
    let names: Vec<&str> = head.split(',').collect();
    let schema: Vec<&str> = SCHEMA.split(',').collect();
    let verdict = BEFORE.len() + schema.len();
    // By name and in order: training would take a column that moved for another one.
    let expected = BEFORE.iter().chain(&schema).chain(&["verdict"]);
    ensure!(
        expected.copied().eq(names.iter().copied().take(verdict + 1)),
        "the replay's columns are not those of the schema here: {head}"
    );
    lines
        .map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            ensure!(fields.len() == names.len(), "a row of another length: {line}");
            let features = &fields[BEFORE.len()..verdict];
            Ok(Seen {
                at: fields[0].parse().with_context(|| format!("no time: {line}"))?,
                boot: fields[1].to_owned(),
                target: fields[2].to_owned(),
                uid: fields[3].to_owned(),
                features: features.iter().map(|field| (*field).to_owned()).collect(),
                verdict: fields[verdict].to_owned(),
            })
        })
        .collect()
}

/// One row with its label and origin.
pub(crate) struct Row {
    pub(crate) episode: u32,
    pub(crate) kind: String,
    /// The service, in recordings of more than one.
    pub(crate) service: Option<&'static str>,
    /// The remedy that its subject got.
    pub(crate) arm: Remedy,
    pub(crate) phase: &'static str,
    /// The right remedy; `None` if that is not known yet, or no longer.
    pub(crate) label: Option<Remedy>,
    pub(crate) since_fault_s: f64,
    /// The verdict of the model at the time of the recording.
    pub(crate) verdict: String,
    pub(crate) features: Vec<String>,
}

impl Row {
    /// What was seen of a copy, with its label; `right` as in [`Tried::label`].
    pub(crate) fn of(
        episode: u32,
        kind: String,
        service: Option<&'static str>,
        tried: &Tried,
        right: Option<Remedy>,
        seen: Seen,
    ) -> Self {
        Self {
            episode,
            kind,
            service,
            arm: tried.remedy,
            phase: tried.phase(seen.at),
            label: tried.label(seen.at, right),
            since_fault_s: (seen.at as f64 - tried.fault as f64) / 1e9,
            verdict: seen.verdict,
            features: seen.features,
        }
    }
}

/// The columns of the schema, as `paramedic replay --rows` names them.
const SCHEMA: &str = "cpu_usage,memory_usage,error_count,uptime,hour_of_day,http_5xx_rate,\
                      http_5xx_ratio,http_request_rate,tcp_reset_rate,tcp_retransmit_rate,\
                      cpu_throttled_ratio,health_failures,health_latency,upstream_5xx_rate,\
                      unanswered_ratio,response_time,upstream_waiting_ratio,upstream_refused_rate,\
                      cpu_pressure";

/// The first line of a file that training reads.
pub(crate) fn head() -> String {
    head_of("kind")
}

/// The same with the service.
pub(crate) fn head_with_service() -> String {
    head_of("kind,service")
}

fn head_of(kind: &str) -> String {
    format!("episode,{kind},arm,phase,label,since_fault_s,verdict,{SCHEMA}")
}

/// Writes rows without a head, so that files can be joined.
pub(crate) fn write(path: &Path, rows: &[Row]) -> Result<()> {
    write_lines(
        path,
        rows.iter().map(|row| {
            let Row { episode, arm, phase, since_fault_s, verdict, .. } = row;
            let label = row.label.map_or("", Remedy::name);
            let service = row.service.map_or_else(String::new, |service| format!(",{service}"));
            let kind = format!("{}{service}", row.kind);
            let (arm, features) = (arm.name(), row.features.join(","));
            format!(
                "{episode},{kind},{arm},{phase},{label},{since_fault_s:.3},{verdict},{features}"
            )
        }),
    )
}

/// Writes lines, compressed.
pub(crate) fn write_lines(path: &Path, lines: impl Iterator<Item = String>) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut out = GzEncoder::new(BufWriter::new(file), Compression::best());
    for line in lines {
        writeln!(out, "{line}")?;
    }
    out.finish()?.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_replay_prints_is_read() {
        let features = (0..19).map(|i| i.to_string()).collect::<Vec<_>>().join(",");
        let head = format!("at_ns,boot,target,uid,instance,trigger,{SCHEMA},verdict,a,b,c");
        let csv = format!("{head}\n17,b,ns/x,u-1/app,1@2,tick,{features},no_action,1,0,0");
        let rows = parse(&csv).unwrap();
        let Seen { at, boot, uid, target, .. } = &rows[0];
        assert_eq!((*at, &**boot, &**uid, &**target), (17, "b", "u-1/app", "ns/x"));
        assert_eq!(rows[0].features[13], "13");
        assert_eq!(rows[0].verdict, "no_action");
        assert!(parse("").is_err());
        assert!(parse("a,b\n1,2").is_err());
        assert!(parse(&format!("{head}\n17,x")).is_err());
        let swapped = csv.replace("cpu_usage,memory_usage", "memory_usage,cpu_usage");
        assert!(parse(&swapped).unwrap_err().to_string().contains("columns"), "{swapped}");
    }
}
