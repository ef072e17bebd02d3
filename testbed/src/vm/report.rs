//! The report of a machine on its second serial port, step by step.

/// The report so far, or at the end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// The kernel's release.
    pub(super) release: Option<String>,
    /// Controllers in v1 hierarchies, and in cgroup2.
    pub(super) v1: Option<String>,
    pub(super) v2: Option<String>,
    pub(super) steps: Vec<Ran>,
    /// The last word: every step succeeded.
    pub(super) passed: bool,
    /// Why the first process could not go on.
    pub(super) broken: Option<String>,
}

/// One step, begun and perhaps ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ran {
    pub(super) name: String,
    pub(super) output: String,
    /// The exit code, `signal` or `timeout`; none while it runs.
    pub(super) how: Option<String>,
    pub(super) milliseconds: u64,
}

impl Report {
    pub(super) fn parse(text: &str) -> Self {
        let mut report = Self::default();
        // The last line may be under way; a terminal ends lines in two characters.
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            report.line(line.trim_end_matches('\r'));
        }
        report
    }

    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split('\t').collect();
        let running = self.steps.last_mut().filter(|step| step.how.is_none());
        match (running, words.as_slice()) {
            (Some(step), ["@end", name, how, milliseconds]) if step.name == *name => {
                step.how = Some((*how).to_owned());
                step.milliseconds = milliseconds.parse().unwrap_or(0);
            }
            // Within a step only its end is anything but its output.
            (Some(step), _) => {
                step.output.push_str(line);
                step.output.push('\n');
            }
            (None, ["@begin", name]) => {
                self.steps.push(Ran { name: (*name).to_owned(), ..Ran::default() });
            }
            (None, ["@v1", controllers]) => self.v1 = Some((*controllers).to_owned()),
            (None, ["@v2", controllers]) => self.v2 = Some((*controllers).to_owned()),
            (None, ["@passed"]) => self.passed = true,
            (None, [said]) => {
                if let Some(release) = said.strip_prefix("@kernel ") {
                    self.release = Some(release.to_owned());
                } else if let Some(why) = said.strip_prefix("@broken ") {
                    self.broken = Some(why.to_owned());
                }
            }
            (None, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_apart_from_what_they_print() {
        let text = "@v1\tmemory\r\n@v2\tcpu\r\n@kernel 6.1.0-9\r\n@begin\tone\r\nhello\r\n@passed\r\n\
                    \r\n@end\tone\t0\t1200\r\n@begin\ttwo\r\n@end\tone\t0\t1\r\nhalf a l";
        let report = Report::parse(text);
        assert_eq!(report.release.as_deref(), Some("6.1.0-9"));
        assert_eq!((report.v1.as_deref(), report.v2.as_deref()), (Some("memory"), Some("cpu")));
        assert!(!report.passed, "said by a step");
        let one = Ran {
            name: "one".into(),
            output: "hello\n@passed\n\n".into(),
            how: Some("0".into()),
            milliseconds: 1200,
        };
        assert_eq!(report.steps[0], one);
        assert_eq!(report.steps[1].how, None);
        assert_eq!(report.steps[1].output, "@end\tone\t0\t1\n");
    }

    #[test]
    fn the_last_word_counts() {
        assert!(Report::parse("@begin\ta\n@end\ta\t0\t5\n@passed\n").passed);
        assert!(!Report::parse("@begin\ta\n@passed\n").passed);
        let broken = Report::parse("@broken mount x\n").broken;
        assert_eq!(broken.as_deref(), Some("mount x"));
    }
}
