//! What stands out in the evidence, in one line.
use paramedic_host::evidence::{descriptors::Descriptors, sockets::Sockets, threads::Threads};

use super::Evidence;

/// Maximum length of the summary, in characters.
const MAX_SUMMARY: usize = 240;
/// Maximum number of groups of threads to name.
const GROUPS: usize = 2;

impl Evidence {
    /// What stands out. Says only what the machine showed, in a fixed order.
    pub(super) fn summarize(&self) -> String {
        let found = &self.found;
        let parts = [
            found.threads.as_ref().map(threads),
            found.sockets.as_ref().and_then(sockets),
            found.descriptors.as_ref().map(descriptors),
            found.log.as_ref().map(|_| "a log".to_owned()),
            found.dump.as_ref().map(|_| "a dump of the app".to_owned()),
        ];
        let summary = parts.into_iter().flatten().collect::<Vec<_>>().join("; ");
        if summary.is_empty() {
            return "nothing could be read".to_owned();
        }
        summary.chars().take(MAX_SUMMARY).collect()
    }
}

fn threads(threads: &Threads) -> String {
    let groups = threads.groups.iter().take(GROUPS).map(|group| {
        let place = group.waits_in.as_deref().or(group.stack.first().map(String::as_str));
        let place = place.map(|place| format!(" in {place}")).unwrap_or_default();
        format!("{} {}{place}", group.count, group.state)
    });
    let groups: Vec<String> = groups.collect();
    let noun = if threads.total == 1 { "thread" } else { "threads" };
    format!("{} {noun}: {}", threads.total, groups.join(", "))
}

fn sockets(sockets: &Sockets) -> Option<String> {
    let serving = &sockets.serving;
    let waiting = (serving.accept_queue > 0)
        .then(|| format!("{} connections wait to be accepted", serving.accept_queue));
    let unread = (serving.unread_connections > 0)
        .then(|| format!("{} with unread data", serving.unread_connections));
    let parts: Vec<String> = waiting.into_iter().chain(unread).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn descriptors(descriptors: &Descriptors) -> String {
    format!("{} descriptors", descriptors.open)
}

#[cfg(test)]
mod tests {
    use super::super::{Found, tests::evidence};

    #[test]
    fn the_largest_groups_and_queues_are_named() {
        assert_eq!(
            evidence(1).summarize(),
            "40 threads: 38 S in futex_wait_queue, 2 D in io_schedule; \
             12 connections wait to be accepted, 9 with unread data"
        );
    }

    #[test]
    fn without_anything_it_says_so() {
        let mut evidence = evidence(1);
        evidence.found = Found::default();
        assert_eq!(evidence.summarize(), "nothing could be read");
    }

    #[test]
    fn a_summary_stays_one_short_line() {
        let mut evidence = evidence(1);
        if let Some(threads) = &mut evidence.found.threads {
            threads.groups[0].waits_in = Some("x".repeat(5000));
        }
        assert_eq!(evidence.summarize().chars().count(), 240);
    }
}
