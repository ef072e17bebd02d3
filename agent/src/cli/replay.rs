//! `paramedic replay`: runs a recorded trace through features, decide and guard.
use std::{
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::bail;
use clap::Args;
use paramedic_core::{
    boot_time::BootTime,
    decide::{CLASSES, Classifier, Decision, top_reasons},
    engine::{Intent, Preferred},
    features::FEATURES,
    target::Remedy,
};
use paramedic_record::trace::{Header, Reader};
use paramedic_startup::WrongUsage;
use serde_json::json;

use super::{model_file, remedy};
use crate::replay::{ByMemory, Player, Recorded, Seen, Summary, Told, Trial};

/// Replay a recorded trace against a model or a policy: what would have been done, when, and why.
///
/// `--record DIR` of `paramedic watch` and `paramedic agent` records traces. Without further
/// options the replay repeats what the recorded agent did, with the recorded outcomes, and reports
/// any difference. It warns if the trace was recorded under another model. With --model,
/// --max-remedy or --min-confidence it is a dry run: a remedy does not change what was recorded,
/// and the cluster refuses nothing.
///
/// Examples: `paramedic replay DIR/*.trace.gz` prints what happened. With `--max-remedy restart` it
/// prints what an agent that only observed would have done, and with `--model new.onnx` what
/// another model would have decided. `--rows` prints the rows that the model saw, for training.
///
/// Each event of `--json` and each row of `--rows` has its target (`target`, a readable name), its
/// `uid`, and the `boot` that `at_ns` counts from. In `--json`, `recorded_verdict`,
/// `recorded_remedy` and `recorded_outcome` are what the recorded agent decided, did and found.
///
/// A line tells where the outcomes of earlier treatments changed the decision: another remedy went
/// first because it had helped, or the gate futile refused. The summary counts both. In a dry run
/// remedies have no outcomes, so only those before the recording count.
///
/// Exit codes: 0 success; 1 a trace cannot be read, or the remedies differ from the recorded ones
/// although no other model or policy was given; 2 wrong usage.
#[derive(Debug, Args)]
pub(super) struct Replay {
    /// Traces in chronological order: parts of one recording, or several recordings.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// ONNX classifier that replaces the built-in model.
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Replay as if owners and operator permitted remedies up to this one.
    #[arg(long, alias = "max-action", value_parser = remedy::up_to(Remedy::Evict), value_name = "REMEDY")]
    max_remedy: Option<Remedy>,
    /// Replay as if every target required this confidence, 0.5 to 1.
    #[arg(long, value_name = "P")]
    min_confidence: Option<f32>,
    /// Print every row that the model saw and its verdict as CSV. The summary goes to standard
    /// error.
    #[arg(long)]
    rows: bool,
    /// Print one JSON object per event, and a last one with the summary.
    #[arg(long, conflicts_with = "rows")]
    json: bool,
}

impl Replay {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(p) = self.min_confidence.filter(|p| !(0.5..=1.0).contains(p)) {
            let mistake = format!("--min-confidence must be from 0.5 to 1, not {p}");
            return Err(WrongUsage(mistake).into());
        }
        let trial = Trial {
            other_model: self.model.is_some(),
            max_remedy: self.max_remedy,
            min_confidence: self.min_confidence,
        };
        let tried = trial.is_another();
        let classifier = Arc::new(self.classifier()?);
        let mut player = Player::new(Arc::clone(&classifier), trial);
        let out = BufWriter::new(std::io::stdout().lock());
        let mut out = Printer { out, classifier: &classifier, warned: self.model.is_some() };
        let form = match (self.rows, self.json) {
            (true, _) => Form::Rows,
            (_, true) => Form::Json,
            _ => Form::Story,
        };
        let printed = out.all(&self.files, &mut player, form);
        let flushed = out.out.flush();
        // The reader of the output may have closed it.
        let closed = |e: &std::io::Error| e.kind() == std::io::ErrorKind::BrokenPipe;
        match printed {
            Err(error) if error.downcast_ref().is_some_and(closed) => return Ok(ExitCode::SUCCESS),
            other => other?,
        }
        flushed?;
        let summary = player.summary();
        match form {
            Form::Json => println!("{}", json!({ "event": "summary", "summary": summary })),
            Form::Rows => eprintln!("{}", told(summary)),
            Form::Story => println!("{}", told(summary)),
        }
        match summary.difference() {
            Some((given, recorded)) if !tried => {
                let list = |deeds: &[crate::replay::Deed]| {
                    let one = |d: &crate::replay::Deed| format!("{} {}", d.remedy.name(), d.target);
                    deeds.iter().map(one).collect::<Vec<_>>().join(", ")
                };
                bail!(
                    "the replay gave other remedies than the recording ([{}], not [{}]): it may have \
                     been recorded with another version or model",
                    list(given),
                    list(recorded)
                )
            }
            _ => Ok(ExitCode::SUCCESS),
        }
    }

    fn classifier(&self) -> anyhow::Result<Classifier> {
        let classifier = match &self.model {
            Some(path) => model_file::load(path).into(),
            None => Classifier::embedded(),
        };
        match classifier {
            Classifier::Rules { reason } => bail!("the model cannot be used: {reason}"),
            model => Ok(model),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Story,
    Rows,
    Json,
}

/// Printed with each line of a part.
struct Part {
    began: BootTime,
    boot: String,
}

struct Printer<'a, W: Write> {
    out: W,
    classifier: &'a Classifier,
    /// Whether the warning about another model was printed.
    warned: bool,
}

impl<W: Write> Printer<'_, W> {
    fn all(&mut self, files: &[PathBuf], player: &mut Player, form: Form) -> anyhow::Result<()> {
        if form == Form::Rows {
            writeln!(
                self.out,
                "at_ns,boot,target,uid,instance,trigger,{},verdict,{}",
                FEATURES.join(","),
                CLASSES.join(",")
            )?;
        }
        for file in files {
            let mut reader = Reader::open(file)?;
            self.warn_of_another_model(file, &reader.header);
            player.part(&reader.header);
            let part = Part { began: player.began(), boot: reader.header.boot().to_owned() };
            let mut failed = Ok(());
            while let Some(line) = reader.next_line()? {
                let wrong = |why: &dyn std::fmt::Display| reader.wrong(why);
                player.take(line, wrong, &mut |told| {
                    if failed.is_ok() {
                        failed = self.one(&told, &part, form);
                    }
                })?;
                std::mem::replace(&mut failed, Ok(()))?;
            }
            player.ended(reader.is_truncated());
        }
        Ok(())
    }

    /// Warns once: it is the same for all parts.
    fn warn_of_another_model(&mut self, file: &Path, header: &Header) {
        if !self.warned
            && let Some(recorded) = &header.model
            && let Some(present) = self.classifier.sha256().filter(|present| present != recorded)
        {
            self.warned = true;
            eprintln!(
                "warning: {} was recorded with the model of SHA-256 {recorded}, but the \
                 replay uses {present}",
                file.display()
            );
        }
    }

    fn one(&mut self, told: &Told<'_>, part: &Part, form: Form) -> std::io::Result<()> {
        match form {
            Form::Rows => self.row(told, part),
            Form::Story => self.story(told, part),
            Form::Json => self.json(told, part),
        }
    }

    fn row(&mut self, told: &Told<'_>, part: &Part) -> std::io::Result<()> {
        let Seen::Row { trigger, row, decision, .. } = &told.what else { return Ok(()) };
        let id = &told.target.id;
        write!(self.out, "{}", told.at.as_nanos())?;
        for name in [&part.boot, &told.target.name, &id.uid, &id.instance] {
            write!(self.out, ",{}", quoted(name))?;
        }
        write!(self.out, ",{}", trigger.name())?;
        for value in row.values() {
            write!(self.out, ",{value}")?;
        }
        let [a, b, c] = decision.probabilities;
        writeln!(self.out, ",{},{a},{b},{c}", decision.action.name())
    }

    fn story(&mut self, told: &Told<'_>, part: &Part) -> std::io::Result<()> {
        let text = match &told.what {
            // Recorded facts are the story itself, unless something else is tried.
            Seen::Row { news: false, .. } | Seen::Recorded(_) => return Ok(()),
            Seen::Row { row, decision, .. } => {
                let reasons = self.classifier.reasons(row, decision.action, 3);
                format!("verdict {}: {reasons}", verdict(decision))
            }
            Seen::Remedy(intent) => format!("REMEDY {}", self.remedy(intent)),
            Seen::Refused(remedy, refusal, _) => {
                format!("no {}: gate {}: {}", remedy.name(), refusal.gate.name(), refusal.why)
            }
            Seen::Preferred(Preferred { first, otherwise, symptom }) => format!(
                "{} first, not {}: it helped against {} before",
                first.name(),
                otherwise.name(),
                symptom.name()
            ),
            Seen::LeftAlone(why) => format!("left alone: {why}"),
            Seen::Concluded(remedy, outcome) => {
                format!("{} ended: {}", remedy.name(), outcome.name())
            }
            Seen::Another => "continues as another instance, or with other settings".to_owned(),
            Seen::Lost => "its process ended".to_owned(),
        };
        let since = told.at.since(part.began).as_secs_f64();
        writeln!(self.out, "{since:>10.3} s  {}  {text}", told.target.name)
    }

    /// A remedy with its exact reasons.
    fn remedy(&self, intent: &Intent) -> String {
        let shares = self.classifier.explain(&intent.row, intent.decision.action);
        let reasons = top_reasons(&intent.row, intent.decision.action, &shares, 3);
        format!("{} ({}): {reasons}", intent.remedy.name(), verdict(&intent.decision))
    }

    fn json(&mut self, told: &Told<'_>, part: &Part) -> std::io::Result<()> {
        let mut event = match &told.what {
            Seen::Row { news: false, .. } => return Ok(()),
            Seen::Row { row, decision, .. } => {
                json!({ "event": "verdict", "decision": decision, "row": row })
            }
            Seen::Remedy(intent) => json!({
                "event": "remedy", "remedy": intent.remedy, "decision": intent.decision,
                "row": intent.row, "why": self.remedy(intent),
            }),
            Seen::Refused(remedy, refusal, decision) => json!({
                "event": "refused", "remedy": remedy, "gate": refusal.gate.name(),
                "why": refusal.why.to_string(), "by_memory": refusal.is_by_memory(),
                "decision": decision,
            }),
            Seen::Preferred(Preferred { first, otherwise, symptom }) => json!({
                "event": "preferred", "remedy": first, "otherwise": otherwise, "symptom": symptom,
            }),
            Seen::LeftAlone(why) => json!({ "event": "left_alone", "why": why }),
            Seen::Concluded(remedy, outcome) => {
                json!({ "event": "concluded", "remedy": remedy, "outcome": outcome })
            }
            Seen::Another => json!({ "event": "another_instance" }),
            Seen::Lost => json!({ "event": "lost" }),
            Seen::Recorded(Recorded::Verdict(action)) => {
                json!({ "event": "recorded_verdict", "action": action })
            }
            Seen::Recorded(Recorded::Remedy(remedy)) => {
                json!({ "event": "recorded_remedy", "remedy": remedy })
            }
            Seen::Recorded(Recorded::Outcome(remedy, outcome)) => {
                json!({ "event": "recorded_outcome", "remedy": remedy, "outcome": outcome })
            }
        };
        event["at_ns"] = told.at.as_nanos().into();
        event["boot"] = part.boot.clone().into();
        event["since_s"] = told.at.since(part.began).as_secs_f64().into();
        event["target"] = told.target.name.clone().into();
        event["uid"] = told.target.id.uid.clone().into();
        writeln!(self.out, "{event}")
    }
}

fn verdict(decision: &Decision) -> String {
    format!("{} at {:.2}", decision.action.name(), decision.confidence)
}

/// Quotes a CSV field; owners choose the names.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

fn told(summary: &Summary) -> String {
    let list = |counts: &std::collections::BTreeMap<&str, u64>| {
        let each = counts.iter().map(|(name, n)| format!("{n} {name}")).collect::<Vec<_>>();
        if each.is_empty() { "none".to_owned() } else { each.join(", ") }
    };
    let mut text = format!(
        "{} samples of {} targets, {:.1} target-minutes; remedies: {}; refusals: {}",
        summary.samples,
        summary.targets,
        summary.target_minutes,
        list(&summary.remedies),
        list(&summary.refusals)
    );
    let ByMemory { preferred, refused } = summary.memory;
    if preferred + refused > 0 {
        text +=
            &format!("; by earlier outcomes: {preferred} other first remedies, {refused} refusals");
    }
    if summary.missing > 0 {
        text += &format!("; {} lines are missing because the disk was too slow", summary.missing);
    }
    if summary.truncated {
        text += "; a trace ends early: its agent was killed or is still recording";
    }
    if summary.begins_late {
        text += "; earlier parts of the recording are missing";
    }
    text
}
