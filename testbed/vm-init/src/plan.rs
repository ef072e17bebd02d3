//! What is to be done, as `cargo xtask vm` wrote it: one thing per line, words apart by tabs.
//!
//! `layout v2`, then `hide DIRECTORY` and `run NAME SECONDS CODE PROGRAM ARGUMENT…`, in their order.
use std::time::Duration;

/// How the cgroup hierarchies are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// cgroup2 alone, with every controller.
    V2,
    /// The v1 controllers alone.
    V1,
    /// The v1 controllers, and a cgroup2 with what they leave.
    Hybrid,
}

/// A program to be run to its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step<'a> {
    pub(crate) name: &'a str,
    pub(crate) limit: Duration,
    /// The exit code of success.
    pub(crate) code: &'a str,
    pub(crate) program: &'a str,
    pub(crate) arguments: Vec<&'a str>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action<'a> {
    /// From here on this directory is empty.
    Hide(&'a str),
    Run(Step<'a>),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan<'a> {
    pub(crate) layout: Layout,
    pub(crate) actions: Vec<Action<'a>>,
}

impl<'a> Plan<'a> {
    /// The plan, or the line that makes no sense.
    pub(crate) fn parse(text: &'a str) -> Result<Self, &'a str> {
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let layout = match first {
            "layout\tv2" => Layout::V2,
            "layout\tv1" => Layout::V1,
            "layout\thybrid" => Layout::Hybrid,
            _ => return Err(first),
        };
        let actions = lines.map(|line| action(line).ok_or(line)).collect::<Result<_, _>>()?;
        Ok(Self { layout, actions })
    }
}

fn action(line: &str) -> Option<Action<'_>> {
    let mut words = line.split('\t');
    match words.next()? {
        "hide" => Some(Action::Hide(words.next()?)),
        "run" => Some(Action::Run(Step {
            name: words.next()?,
            limit: Duration::from_secs(words.next()?.parse().ok()?),
            code: words.next()?,
            program: words.next()?,
            arguments: words.collect(),
        })),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_word_by_word() {
        let text =
            "layout\thybrid\nrun\tone\t20\t0\t/bin/sh\t-c\techo a b\nhide\t/sys/kernel/btf\n";
        let step = Step {
            name: "one",
            limit: Duration::from_secs(20),
            code: "0",
            program: "/bin/sh",
            arguments: vec!["-c", "echo a b"],
        };
        let actions = vec![Action::Run(step), Action::Hide("/sys/kernel/btf")];
        assert_eq!(Plan::parse(text), Ok(Plan { layout: Layout::Hybrid, actions }));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        assert_eq!(Plan::parse("layout v2\n"), Err("layout v2"));
        assert_eq!(Plan::parse("layout\tv2\nrun\tx\tsoon\t/x\n"), Err("run\tx\tsoon\t/x"));
        assert_eq!(Plan::parse(""), Err(""));
    }
}
