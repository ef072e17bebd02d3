//! Progress, and the remaining time.
use std::{
    io::{IsTerminal as _, Write as _, stderr},
    time::{Duration, Instant},
};

/// A bar on a terminal, a line per step elsewhere.
pub(crate) struct Progress {
    what: &'static str,
    steps: usize,
    done: usize,
    /// When the first step of this run began; steps of earlier runs take no time.
    begun: Instant,
    /// When the present step began.
    step_begun: Instant,
    skipped: usize,
    expected: Duration,
}

impl Progress {
    /// This many steps; `expected` is the estimate for one until one was measured.
    pub(crate) fn new(what: &'static str, steps: usize, expected: Duration) -> Self {
        let now = Instant::now();
        Self { what, steps, done: 0, begun: now, step_begun: now, skipped: 0, expected }
    }

    /// A step was done by an earlier run.
    pub(crate) fn skip(&mut self) {
        self.skipped += 1;
        self.done += 1;
    }

    /// A step ended; `note` describes its result.
    pub(crate) fn step(&mut self, note: &str) {
        self.done += 1;
        self.step_begun = Instant::now();
        self.show(note, true);
    }

    /// Something happened within a step.
    pub(crate) fn tell(&self, note: &str) {
        self.show(note, false);
    }

    fn show(&self, note: &str, ends_line: bool) {
        let left = text(self.left());
        let Self { what, done, steps, .. } = self;
        if stderr().is_terminal() {
            let bar = bar(*done, *steps);
            eprint!("\r\x1b[K{what} [{bar}] {done}/{steps}, {left} left  {note}");
            if done == steps {
                eprintln!();
            }
            let _ = stderr().flush();
        } else if ends_line {
            eprintln!("{what} {done}/{steps}, {left} left: {note}");
        }
    }

    fn left(&self) -> Duration {
        let taken = (self.done - self.skipped) as u32;
        let each = if taken == 0 { self.expected } else { (self.step_begun - self.begun) / taken };
        let left = (self.steps - self.done) as u32;
        let begun = self.step_begun.elapsed().min(each);
        if left == 0 { Duration::ZERO } else { each * left - begun }
    }
}

fn bar(done: usize, steps: usize) -> String {
    const WIDTH: usize = 24;
    let full = WIDTH * done / steps.max(1);
    format!("{}{}", "=".repeat(full), " ".repeat(WIDTH - full))
}

fn text(left: Duration) -> String {
    match left.as_secs() {
        s @ 0..90 => format!("{s} s"),
        s => format!("{} min", s.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills_up() {
        assert_eq!(bar(0, 4), " ".repeat(24));
        assert_eq!(bar(2, 4).trim_end(), "=".repeat(12));
        assert_eq!(bar(4, 4), "=".repeat(24));
    }

    #[test]
    fn what_was_there_already_does_not_shorten_the_rest() {
        let mut progress = Progress::new("x", 10, Duration::from_secs(60));
        (0..5).for_each(|_| progress.skip());
        let left = progress.left();
        assert!(left > Duration::from_secs(290) && left <= Duration::from_secs(300), "{left:?}");
        assert_eq!(text(left), "5 min");
    }
}
