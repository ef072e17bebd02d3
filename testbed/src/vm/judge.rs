//! Judges a machine's report: a row for each test, signal and scene.
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    expected::{BEST, LESSER, NO_V1, next, refuses},
    kernels::Kernel,
    libtest::{self, Outcome},
    report::{Ran, Report},
    steps::{Kind, Layout, Step},
};

/// One expectation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It holds; the text is the mechanism, or empty.
    Good(String),
    /// It does not hold; the text is the reason, unless another row has it.
    Bad(String),
    /// Not yet known; at the end this counts as bad.
    Running,
}

/// A signal, its mechanism and its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) signal: String,
    pub(super) mechanism: String,
    pub(super) status: String,
}

/// The rows of all steps that have begun. A step whose end does not fit its rows adds one.
pub(super) fn rows(kernel: &Kernel, layout: Layout, steps: &[Step], report: &Report) -> Vec<Row> {
    let mut rows: Vec<Row> = controllers(&kernel.series, layout, report).into_iter().collect();
    for ran in &report.steps {
        let Some(step) = steps.iter().find(|step| step.name == ran.name) else { continue };
        let found = match step.kind {
            Kind::Tests { wanted } => tests(&step.name, wanted, ran),
            Kind::Check { without, btf } => check(kernel, layout, without, btf, ran),
            Kind::Load => load(kernel, ran),
            Kind::Scenes => scenes(ran),
        };
        let good = |row: &Row| matches!(row.verdict, Verdict::Good(_));
        let all_good = found.iter().all(good);
        rows.extend(found);
        let expected = step.code.to_string();
        match ran.how.as_deref() {
            Some(how) if how != expected && all_good => {
                let why = format!("ended by {how}");
                rows.push(Row { name: step.name.clone(), verdict: Verdict::Bad(why) });
            }
            None if all_good => {
                rows.push(Row { name: step.name.clone(), verdict: Verdict::Running });
            }
            _ => {}
        }
    }
    rows
}

/// Whether the controllers are where the layout wants them.
fn controllers(series: &str, layout: Layout, report: &Report) -> Option<Row> {
    let has = |list: &Option<String>, controller: &str| {
        list.as_deref().is_some_and(|list| list.split(',').any(|one| one == controller))
    };
    report.release.as_ref()?;
    let wrong: Vec<&str> = ["cpu", "memory"]
        .into_iter()
        .filter(|controller| {
            let lacks = |no: &&_| {
                let no: &super::expected::NoV1 = no;
                no.series == series && no.controller == *controller
            };
            let in_v1 = layout != Layout::V2 && NO_V1.iter().find(lacks).is_none();
            let in_v2 = layout != Layout::V1 && !in_v1;
            has(&report.v1, controller) != in_v1 || has(&report.v2, controller) != in_v2
        })
        .collect();
    let verdict = if wrong.is_empty() {
        Verdict::Good(String::new())
    } else {
        let found = (report.v1.as_deref(), report.v2.as_deref());
        Verdict::Bad(format!(
            "{} elsewhere than expected: v1 and v2 have {found:?}",
            wrong.join(", ")
        ))
    };
    Some(Row { name: "cgroup controllers".to_owned(), verdict })
}

/// A row for each test, and a bad one for each expected name without a test.
fn tests(binary: &str, wanted: &[&str], ran: &Ran) -> Vec<Row> {
    let row = |(name, outcome): (String, Outcome)| {
        let name = match name.strip_prefix(&format!("{binary}::")) {
            Some(_) => name,
            None => format!("{binary}::{name}"),
        };
        let verdict = match outcome {
            Outcome::Passed => Verdict::Good(String::new()),
            Outcome::Failed => Verdict::Bad(String::new()),
            Outcome::Running => Verdict::Running,
        };
        Row { name, verdict }
    };
    let mut rows: Vec<Row> = libtest::outcomes(&ran.output).into_iter().map(row).collect();
    let missing = |part: &&&str| !rows.iter().any(|row| row.name.contains(**part));
    let missing: Vec<&str> = match ran.how {
        Some(_) => wanted.iter().filter(missing).copied().collect(),
        None => Vec::new(),
    };
    rows.extend(missing.into_iter().map(|part| Row {
        name: format!("{binary}: {part:?}"),
        verdict: Verdict::Bad("no test with this name has run".to_owned()),
    }));
    rows
}

/// The expected mechanism of a signal; `none` if the signal should be missing.
pub(super) fn expected(kernel: &Kernel, signal: &str, without: &[&str], btf: bool) -> &'static str {
    let best = BEST.iter().find(|(name, _)| *name == signal).map_or("none", |(_, best)| best);
    let lesser = LESSER.iter().find(|lesser| lesser.is_of(kernel, signal));
    let mut mechanism = lesser.map_or(best, |lesser| lesser.mechanism);
    if !btf && !matches!(mechanism, "cgroup_skb" | "uprobe") {
        // Every other program reads structs, whose layout only BTF shows.
        return if matches!(signal, "cpu_throttling" | "oom_kills") { "poll" } else { "none" };
    }
    while without.contains(&mechanism) {
        mechanism = next(signal, mechanism);
    }
    mechanism
}

fn check(kernel: &Kernel, layout: Layout, without: &[&str], btf: bool, ran: &Ran) -> Vec<Row> {
    if ran.how.is_none() {
        return Vec::new();
    }
    let unified = checked(&ran.output)["cgroup2"].as_bool();
    let wrong = (unified != Some(layout != Layout::V1)).then(|| Row {
        name: format!("{}: cgroup2", ran.name),
        verdict: Verdict::Bad(format!("it says {unified:?}")),
    });
    let found = probes(&ran.output);
    let row = |(signal, _): &(&'static str, &str)| {
        let best = expected(kernel, signal, &[], true);
        let expected = expected(kernel, signal, without, btf);
        let probe = found.iter().find(|probe| probe.signal == *signal);
        let live = probe.filter(|probe| probe.status != "unavailable");
        let mechanism = live.map_or("none", |probe| &probe.mechanism);
        let verdict = if probe.is_some() && mechanism == expected {
            Verdict::Good(mechanism.to_owned())
        } else {
            Verdict::Bad(format!("by {mechanism}, expected {expected}"))
        };
        // Signals that a refusal does not affect are in the rows without refusals.
        let new = best != expected || (without.is_empty() && btf);
        let told = new || matches!(verdict, Verdict::Bad(_));
        told.then(|| Row { name: format!("{}: {signal}", ran.name), verdict })
    };
    BEST.iter().filter_map(row).chain(wrong).collect()
}

/// One program, as the verifier judged it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Loaded {
    pub(super) program: String,
    /// None before kernel 5.16, and of a refused program.
    pub(super) instructions: Option<u32>,
    pub(super) milliseconds: Option<u32>,
    /// Why it was refused.
    pub(super) reason: Option<String>,
}

/// The programs in the output of `paramedic check --json --programs`.
pub(super) fn programs(output: &str) -> Vec<Loaded> {
    serde_json::from_value(checked(output)["programs"].take()).unwrap_or_default()
}

/// A row for each program, which must be refused where it is expected to be and nowhere else.
fn load(kernel: &Kernel, ran: &Ran) -> Vec<Row> {
    if ran.how.is_none() {
        return Vec::new();
    }
    let row = |loaded: &Loaded| {
        let expected = refuses(kernel, &loaded.program);
        let verdict = match (&loaded.reason, expected) {
            (None, None) => Verdict::Good(match loaded.instructions {
                Some(instructions) => instructions.to_string(),
                None => "loaded".to_owned(),
            }),
            (Some(_), Some(_)) => Verdict::Good("refused".to_owned()),
            (Some(reason), None) => Verdict::Bad(reason.clone()),
            (None, Some(why)) => Verdict::Bad(format!("loaded, and expected to be refused: {why}")),
        };
        Row { name: format!("load: {}", loaded.program), verdict }
    };
    let rows: Vec<Row> = programs(&ran.output).iter().map(row).collect();
    if rows.is_empty() {
        let verdict = Verdict::Bad("it told of no program".to_owned());
        return vec![Row { name: "load".to_owned(), verdict }];
    }
    rows
}

/// The object that `paramedic check --json` prints.
fn checked(output: &str) -> Value {
    let object = output.lines().find_map(|line| serde_json::from_str::<Value>(line).ok());
    object.unwrap_or_default()
}

/// The signals in the output of `paramedic check --json`.
pub(super) fn probes(output: &str) -> Vec<Probe> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let probe = |probe: &Value| Probe {
        signal: text(&probe["signal"]),
        mechanism: text(&probe["mechanism"]),
        status: text(&probe["status"]),
    };
    checked(output)["probes"]
        .as_array()
        .map(|probes| probes.iter().map(probe).collect())
        .unwrap_or_default()
}

/// What can be read before a remedy.
pub(super) struct Witness {
    pub(super) witness: String,
    pub(super) from: String,
    pub(super) available: bool,
}

/// The witnesses in the output of `paramedic check --json`.
pub(super) fn witnesses(output: &str) -> Vec<Witness> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let witness = |witness: &Value| Witness {
        witness: text(&witness["witness"]),
        from: text(&witness["from"]),
        available: witness["available"].as_bool().unwrap_or_default(),
    };
    checked(output)["witnesses"]
        .as_array()
        .map(|witnesses| witnesses.iter().map(witness).collect())
        .unwrap_or_default()
}

/// The scenes of every demo that was played in this step.
fn scenes(ran: &Ran) -> Vec<Row> {
    let row = |scene: &Value| Row {
        name: format!("demo: {}", scene["name"].as_str().unwrap_or_default()),
        verdict: match scene["pass"].as_bool() {
            Some(true) => Verdict::Good(String::new()),
            _ => Verdict::Bad(scene["problem"].as_str().unwrap_or_default().to_owned()),
        },
    };
    let mut rows = Vec::new();
    for played in ran.output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        rows.extend(played["scenes"].as_array().into_iter().flatten().map(row));
    }
    rows
}

#[cfg(test)]
mod tests {
    use xtask::arch::Arch;

    use super::*;

    fn kernel(series: &str) -> Kernel {
        Kernel::for_tests(series, Arch::Amd64)
    }

    #[test]
    fn mechanisms_are_expected_in_their_order() {
        let throttling =
            |without: &[&str]| expected(&kernel("6.12"), "cpu_throttling", without, true);
        assert_eq!(throttling(&[]), "fentry");
        assert_eq!(throttling(&["fentry"]), "kprobe");
        assert_eq!(throttling(&["fentry", "kprobe", "hrtimer"]), "poll");
        assert_eq!(throttling(&["tp_btf"]), "fentry");
        assert_eq!(expected(&kernel("6.12"), "tcp_resets_sent", &["tp_btf"], true), "tracepoint");
        assert_eq!(expected(&kernel("6.12"), "oom_kills", &[], true), "tp_btf");
        assert_eq!(expected(&kernel("6.1"), "http_requests", &[], false), "cgroup_skb");
        assert_eq!(expected(&kernel("6.1"), "tcp_resets_sent", &[], false), "none");
        assert_eq!(expected(&kernel("6.1"), "oom_kills", &[], false), "poll");
    }

    fn ran(output: &str) -> Ran {
        Ran { name: "check".into(), output: output.into(), how: Some("0".into()), milliseconds: 1 }
    }

    #[test]
    fn another_mechanism_than_expected_is_bad() {
        let output = r#"{"cgroup2":true,"probes":[
            {"signal":"http_responses","mechanism":"cgroup_skb","status":"ready"},
            {"signal":"cpu_throttling","mechanism":"kprobe","status":"attached"},
            {"signal":"tcp_resets_sent","mechanism":"tp_btf","status":"unavailable"}]}"#
            .replace('\n', "");
        let rows = check(&kernel("6.12"), Layout::V2, &[], true, &ran(&output));
        let verdict = |signal: &str| {
            let name = format!("check: {signal}");
            rows.iter().find(|row| row.name == name).unwrap().verdict.clone()
        };
        assert_eq!(verdict("http_responses"), Verdict::Good("cgroup_skb".into()));
        let bad = |why: &str| Verdict::Bad(why.to_owned());
        assert_eq!(verdict("cpu_throttling"), bad("by kprobe, expected fentry"));
        assert_eq!(verdict("tcp_resets_sent"), bad("by none, expected tp_btf"));
        assert_eq!(verdict("oom_kills"), bad("by none, expected tp_btf"));
        assert_eq!(rows.len(), BEST.len());
        let rows = check(&kernel("6.12"), Layout::V1, &[], true, &ran(&output));
        assert_eq!(rows.last().unwrap().name, "check: cgroup2", "it should be missed");
    }

    #[test]
    fn scenes_are_read_from_every_demo() {
        let rows = scenes(&ran(
            "1. soft heal\n{\"pass\":true,\"scenes\":[{\"name\":\"soft heal\",\"pass\":true}]}\n\
             {\"pass\":false,\"scenes\":[\
             {\"name\":\"cpu quota\",\"pass\":false,\"problem\":\"it was healed\"}]}\n",
        ));
        assert_eq!(rows[0].verdict, Verdict::Good(String::new()));
        assert_eq!(rows[1].name, "demo: cpu quota");
        assert_eq!(rows[1].verdict, Verdict::Bad("it was healed".to_owned()));
    }

    #[test]
    fn controllers_are_where_the_kernel_can_have_them() {
        let report = |v1: &str, v2: &str| Report {
            release: Some("x".into()),
            v1: Some(v1.into()),
            v2: Some(v2.into()),
            ..Report::default()
        };
        let good = |series, layout, v1, v2| {
            let row = controllers(series, layout, &report(v1, v2)).unwrap();
            matches!(row.verdict, Verdict::Good(_))
        };
        assert!(good("6.1", Layout::V2, "", "cpu,memory,pids"));
        assert!(!good("6.1", Layout::V2, "", "memory,pids"));
        assert!(good("6.1", Layout::Hybrid, "cpu,cpuacct,memory", ""));
        assert!(good("6.12", Layout::Hybrid, "cpu,cpuacct", "memory"));
        assert!(!good("6.12", Layout::Hybrid, "cpu,cpuacct,memory", ""));
        assert!(good("6.12", Layout::V1, "cpu,cpuacct", ""));
    }

    #[test]
    fn a_test_that_has_another_name_now_is_missed() {
        let ran = ran("test slices::a ... ok\ntest tcp::b ... ok\n");
        assert_eq!(tests("kernel", &["slices", "tcp"], &ran).len(), 2);
        assert_eq!(tests("kernel", &[], &self::ran("")), []);
        let rows = tests("kernel", &["slices", "best"], &ran);
        let bad = Verdict::Bad("no test with this name has run".to_owned());
        assert_eq!(rows[2], Row { name: "kernel: \"best\"".to_owned(), verdict: bad });
        assert_eq!(tests("kernel", &[""], &self::ran("")).len(), 1, "none at all");
        let running = Ran { how: None, ..self::ran("") };
        assert_eq!(tests("kernel", &["slices"], &running), []);
    }

    #[test]
    fn a_step_that_ends_badly_after_good_rows_is_bad() {
        let steps = [Step::for_tests("kernel")];
        let mut ran = ran("test kernel::a ... ok\n");
        ran.name = "kernel".into();
        ran.how = Some("101".into());
        let report = Report { steps: vec![ran], ..Report::default() };
        let rows = rows(&kernel("6.1"), Layout::V2, &steps, &report);
        assert_eq!(rows[0].name, "kernel::a");
        assert_eq!(rows[1].verdict, Verdict::Bad("ended by 101".to_owned()));
    }

    #[test]
    fn a_refused_program_is_bad_unless_the_kernel_is_known_for_it() {
        let output = r#"{"programs":[
            {"program":"period_expired","instructions":155,"milliseconds":1,"reason":null},
            {"program":"throttle_entry","instructions":null,"milliseconds":null,"reason":"no"}]}"#
            .replace('\n', "");
        let rows = load(&kernel("6.12"), &ran(&output));
        assert_eq!(rows[0].verdict, Verdict::Good("155".to_owned()));
        assert_eq!(rows[1].verdict, Verdict::Bad("no".to_owned()));
        let arm64 = Kernel::for_tests("5.10", Arch::Arm64);
        assert_eq!(load(&arm64, &ran(&output))[1].verdict, Verdict::Good("refused".to_owned()));
        assert!(matches!(load(&arm64, &ran(""))[0].verdict, Verdict::Bad(_)));
    }
}
