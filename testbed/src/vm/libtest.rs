//! Reads the output of Rust's test harness, test by test.

/// The result of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Failed,
    /// Begun, without a result yet.
    Running,
}

/// The tests in the order in which they began; those that the harness ignored are not among them.
///
/// A result is usually on its test's line. If something else was printed in between, it is on a
/// later line; in doubt the list of failures at the end decides.
pub(super) fn outcomes(output: &str) -> Vec<(String, Outcome)> {
    let mut tests: Vec<(String, Outcome)> = Vec::new();
    let mut failures = false;
    for line in output.lines() {
        if line == "failures:" {
            failures = true;
        } else if line.starts_with("test result: ") {
            settle(&mut tests);
        } else if failures && let Some(name) = line.strip_prefix("    ") {
            fail(&mut tests, name);
        } else if let Some((name, result)) = begun(line) {
            settle(&mut tests);
            if !result.starts_with("ignored") {
                tests.push((name.to_owned(), of(result)));
            }
        } else if let Some((_, outcome @ Outcome::Running)) = tests.last_mut() {
            *outcome = of(line);
        }
    }
    tests
}

fn begun(line: &str) -> Option<(&str, &str)> {
    let (name, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
    (!name.contains(' ')).then_some((name, result))
}

fn of(result: &str) -> Outcome {
    match result {
        "ok" => Outcome::Passed,
        "FAILED" => Outcome::Failed,
        _ => Outcome::Running,
    }
}

/// The harness runs one test after the other. A test without a result when the next begins has
/// passed, unless the list at the end names it.
fn settle(tests: &mut [(String, Outcome)]) {
    if let Some((_, outcome @ Outcome::Running)) = tests.last_mut() {
        *outcome = Outcome::Passed;
    }
}

fn fail(tests: &mut [(String, Outcome)], name: &str) {
    for (test, outcome) in tests {
        if test == name {
            *outcome = Outcome::Failed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_found_wherever_they_stand() {
        let output = "\nrunning 6 tests\ntest a::one ... ok\ntest a::two ... FAILED\n\
            test a::three ... ignored, needs a v1\ntest a::four ... thread 'x' panicked at y:\n\
            oh\nok\ntest a::five ... noise without an end ok\ntest a::six ... noise\n\n\
            failures:\n\n---- a::two stdout ----\n    indented\n\nfailures:\n    a::two\n    \
            a::six\n\ntest result: FAILED. 3 passed; 2 failed; 1 ignored\n";
        let expected = [
            ("a::one", Outcome::Passed),
            ("a::two", Outcome::Failed),
            ("a::four", Outcome::Passed),
            ("a::five", Outcome::Passed),
            ("a::six", Outcome::Failed),
        ];
        let found = outcomes(output);
        let found: Vec<_> = found.iter().map(|(name, outcome)| (name.as_str(), *outcome)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_test_without_an_end_is_running() {
        assert_eq!(outcomes("test a ... "), [("a".to_owned(), Outcome::Running)]);
        assert_eq!(
            outcomes("test a ... ok\ntest b ... \nhm"),
            [("a".to_owned(), Outcome::Passed), ("b".to_owned(), Outcome::Running)]
        );
    }
}
