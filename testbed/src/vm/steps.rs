//! The steps of each machine.
//!
//! There is at least one machine for each layout of cgroups, since a controller can change
//! hierarchies only while it is unused. With cgroup v2 all tests run: those of the kernel side and
//! those of the agent in a machine each, so that no machine takes long. The other machines run the
//! tests that depend on the layout. One more machine, of another job, only loads the programs.
use std::fmt::Write as _;

use super::{
    expected::{BEST, LEFT_OUT},
    judge::expected,
    kernels::Kernel,
    programs::Programs,
};

/// How the machine's cgroups are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    V2,
    Hybrid,
    V1,
}

impl Layout {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::Hybrid => "hybrid",
            Self::V1 => "v1",
        }
    }
}

/// The machines of one kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Machine {
    /// The kernel side, with cgroup v2.
    Signals,
    /// The whole agent, with cgroup v2.
    Agent,
    Hybrid,
    V1,
    /// Loads every program, with cgroup v2, and refuses each in turn.
    Load,
}

impl Machine {
    /// Those of the matrix.
    pub(super) const MATRIX: [Self; 4] = [Self::Signals, Self::Agent, Self::Hybrid, Self::V1];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Signals => "v2",
            Self::Agent => "v2-agent",
            Self::Hybrid => "hybrid",
            Self::V1 => "v1",
            Self::Load => "load",
        }
    }

    /// Counts per CPU take two; the whole agent does not, and is as fast on one, since emulating
    /// two that change each other's code stops both again and again.
    pub(super) const fn cpus(self) -> u8 {
        match self {
            Self::Agent | Self::Load => 1,
            Self::Signals | Self::Hybrid | Self::V1 => 2,
        }
    }

    pub(super) const fn layout(self) -> Layout {
        match self {
            Self::Signals | Self::Agent | Self::Load => Layout::V2,
            Self::Hybrid => Layout::Hybrid,
            Self::V1 => Layout::V1,
        }
    }
}

/// How a step's output is judged, beside its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Test by test; of each of these names at least one must have run.
    Tests { wanted: &'static [&'static str] },
    /// Signal by signal, without these mechanisms, with BTF or without.
    Check { without: &'static [&'static str], btf: bool },
    /// Program by program.
    Load,
    /// Scene by scene.
    Scenes,
}

/// One program to be run.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// The exit code of success.
    pub(super) code: u8,
    arguments: Vec<String>,
}

/// The mechanisms that are refused in turn, until nothing but the files is left.
pub(super) const REFUSED: [&[&str]; 5] =
    [&[], &["fentry"], &["fentry", "kprobe"], &["fentry", "kprobe", "hrtimer"], &["tp_btf"]];

/// One for each kind of remedy. The first two are played beside the others. ("error burst" would
/// not do: under emulation its errors come one by one, and a reset is in time.)
const SCENES: [&str; 4] = ["soft heal", "stubborn errors", "cpu quota", "out of memory"];

/// What depends on where cgroups are: the kernel side with hybrid cgroups, and the agent with v1
/// alone, where no program can be attached. The rest is asked with cgroup v2.
pub(super) const HYBRID: &[&str] =
    &["best_mechanism", "polled", "oom_kills", "of_others", "slices", "narrowed"];
pub(super) const V1: &[&str] = &["process", "v1_alone"];

/// What needs no HTTP, for a kernel that refuses its programs; and what needs no TCP either.
pub(super) const WITHOUT_HTTP: &[&str] = &[
    "resources::",
    "tcp::",
    "whole::",
    "resets_wake",
    "syns_count",
    "refused_connect",
    "the_maps_grow",
    "the_verifier",
    "a_cgroup_may_vanish",
];
pub(super) const WITHOUT_TCP: &[&str] =
    &["resources::", "whole::", "the_maps_grow", "the_verifier", "a_cgroup_may_vanish"];

/// The tests of the kernel side that a kernel can pass; all of them if none is named.
fn possible(kernel: &Kernel) -> &'static [&'static str] {
    let lacks = |signal: &str| expected(kernel, signal, &[], true) == "none";
    match (lacks("http_responses"), lacks("tcp_resets_sent")) {
        (false, _) => &[],
        (true, false) => WITHOUT_HTTP,
        (true, true) => WITHOUT_TCP,
    }
}

/// The steps of one machine; with a filter only tests and scenes whose name contains it.
pub(super) fn of(
    kernel: &Kernel,
    machine: Machine,
    filter: Option<&str>,
    programs: &Programs,
) -> Vec<Step> {
    let tests = |name: &str, wanted: &'static [&'static str], but: &[&str]| {
        let mut step = test_step(name, wanted, filter, programs);
        step.arguments.extend(but.iter().map(|name| format!("--skip={name}")));
        let left_out = LEFT_OUT.iter().filter(|left| left.is_of(kernel, machine.layout()));
        step.arguments.extend(left_out.map(|left| format!("--skip={}", left.tests)));
        step
    };
    let checks = |refused: &[&'static [_]], btf| -> Vec<Step> {
        let refused = if filter.is_none() { refused } else { &[] };
        let check = |without: &&'static [_]| check(kernel, machine, without, btf, programs);
        refused.iter().map(check).collect()
    };
    match machine {
        Machine::Signals => {
            let signals = vec![tests("kernel", possible(kernel), &[])];
            [checks(&REFUSED, true), signals, checks(&REFUSED[..1], false)].concat()
        }
        Machine::Agent => {
            let mut steps = vec![tests("live", &[], &["v1_alone"])];
            steps.extend(scenes(filter, programs));
            steps
        }
        Machine::Hybrid => {
            [checks(&REFUSED[..1], true), vec![tests("kernel", HYBRID, &["whole"])]].concat()
        }
        Machine::Load => {
            vec![load(programs), test_step("kernel", &["refused::"], None, programs)]
        }
        Machine::V1 => [checks(&REFUSED[..1], true), vec![tests("live", V1, &[])]].concat(),
    }
}

/// A check that finds something missing ends with 1, be it cgroup2 or a signal that every target has.
fn check(
    kernel: &Kernel,
    machine: Machine,
    without: &'static [&'static str],
    btf: bool,
    programs: &Programs,
) -> Step {
    let lacks = |signal: &str| expected(kernel, signal, without, btf) == "none";
    let lacks = BEST.iter().any(|(signal, _)| *signal != "tls_responses" && lacks(signal));
    let code = u8::from(lacks || machine.layout() == Layout::V1);
    let mut name = "check".to_owned();
    if !without.is_empty() {
        let _ = write!(name, " without {}", without.join(", "));
    }
    if !btf {
        name += " without BTF";
    }
    let mut arguments = vec![programs.agent.display().to_string()];
    arguments.extend(["check", "--json"].map(str::to_owned));
    arguments.extend(without.iter().map(|mechanism| format!("--without={mechanism}")));
    Step { name, kind: Kind::Check { without, btf }, code, arguments }
}

/// A kernel that lacks a signal makes the check end with 1.
fn load(programs: &Programs) -> Step {
    let script = format!("'{}' check --json --programs; [ $? -le 1 ]", programs.agent.display());
    let arguments = ["/bin/sh", "-c", &script].map(str::to_owned).into();
    Step { name: "load".to_owned(), kind: Kind::Load, code: 0, arguments }
}

fn test_step(
    binary: &str,
    wanted: &'static [&'static str],
    filter: Option<&str>,
    programs: &Programs,
) -> Step {
    let program = if binary == "kernel" { &programs.kernel } else { &programs.live };
    let mut arguments = vec![program.display().to_string()];
    // Several names mean any of them: a filter takes the place of what the layout asks for, and may
    // fit none of the tests.
    let (names, wanted) = match filter {
        None if wanted.is_empty() => (Vec::new(), &[""][..]),
        None => (wanted.to_vec(), wanted),
        Some(filter) => (vec![filter], &[][..]),
    };
    arguments.extend(names.into_iter().map(str::to_owned));
    arguments.extend(["--include-ignored", "--test-threads=1", "--color=never"].map(str::to_owned));
    Step { name: binary.to_owned(), kind: Kind::Tests { wanted }, code: 0, arguments }
}

/// All wanted scenes in one step, two at a time: they wait most of the time.
fn scenes(filter: Option<&str>, programs: &Programs) -> Option<Step> {
    let folder = programs.agent.parent().unwrap_or(&programs.agent);
    let play = |names: &[&str]| {
        let wanted = |name: &&&str| filter.is_none_or(|filter| name.contains(filter));
        let names: String = names.iter().filter(wanted).map(|name| format!(" '{name}'")).collect();
        let (testbed, folder) = (programs.testbed.as_ref()?.display(), folder.display());
        let play = format!("'{testbed}' demo --json '--programs={folder}'{names}");
        (!names.is_empty()).then_some(play)
    };
    let script = match (play(&SCENES[..2]), play(&SCENES[2..])) {
        (Some(one), Some(other)) => format!("{other} & {one}; one=$?; wait $! && exit $one"),
        (one, other) => one.or(other)?,
    };
    let arguments = ["/bin/sh", "-c", &script].map(str::to_owned).into();
    Some(Step { name: "demo".to_owned(), kind: Kind::Scenes, code: 0, arguments })
}

/// The plan that the machine's first process reads.
pub(super) fn plan(layout: Layout, steps: &[Step], seconds: u64) -> String {
    let mut plan = format!("layout\t{}\n", layout.name());
    for step in steps {
        if matches!(step.kind, Kind::Check { btf: false, .. }) {
            plan += "hide\t/sys/kernel/btf\n";
        }
        let Step { name, code, arguments, .. } = step;
        let _ = writeln!(plan, "run\t{name}\t{seconds}\t{code}\t{}", arguments.join("\t"));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Step {
        pub(in crate::vm) fn for_tests(name: &str) -> Self {
            let kind = Kind::Tests { wanted: &[""] };
            Self { name: name.to_owned(), kind, code: 0, arguments: Vec::new() }
        }
    }

    #[test]
    fn a_plan_says_what_success_looks_like() {
        let check = |btf| Step {
            kind: Kind::Check { without: &[], btf },
            code: u8::from(!btf),
            arguments: vec!["/p".into(), "check".into()],
            ..Step::for_tests("check")
        };
        let plan = plan(Layout::Hybrid, &[check(true), check(false)], 90);
        let expected = "layout\thybrid\nrun\tcheck\t90\t0\t/p\tcheck\n\
                        hide\t/sys/kernel/btf\nrun\tcheck\t90\t1\t/p\tcheck\n";
        assert_eq!(plan, expected);
    }
}
