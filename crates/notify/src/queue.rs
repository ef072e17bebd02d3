//! The notifications that wait for one channel. Pure: `now` comes in.
//!
//! Notifications of one problem are sent in their order, so that no end overtakes its beginning.
//! Those of different problems do not wait for each other, unless the receiver as a whole does not
//! answer.
use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::notification::Notification;

/// Maximum number of notifications that wait for one channel.
pub(crate) const MOST: usize = 128;

/// One that waits.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    /// Its number in the queue.
    pub(crate) number: u64,
    /// Its number in the journal, if it is there.
    pub(crate) id: Option<i64>,
    pub(crate) notification: Arc<Notification>,
    /// Attempts so far.
    pub(crate) tries: u32,
    /// Start of the first attempt.
    pub(crate) since: Option<Instant>,
    due: Option<Instant>,
    is_sending: bool,
}

/// What to do now.
#[derive(Debug)]
pub(crate) enum Ready {
    /// Send this one.
    Now(Waiting),
    /// Nothing before this instant.
    At(Instant),
    /// Nothing.
    Never,
}

/// The queue of one channel.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: Vec<Waiting>,
    most: usize,
    numbers: u64,
    /// The receiver is not asked before this instant.
    held_until: Option<Instant>,
}

impl Queue {
    pub(crate) const fn new(most: usize) -> Self {
        Self { waiting: Vec::new(), most, numbers: 0, held_until: None }
    }

    /// Adds one. Returns the one that makes room: the oldest of the same problem, or else the oldest;
    /// never the one that is being sent.
    pub(crate) fn push(
        &mut self,
        id: Option<i64>,
        notification: Arc<Notification>,
    ) -> Option<Waiting> {
        let dropped = (self.waiting.len() >= self.most).then(|| self.make_room(&notification.key));
        let number = self.numbers;
        self.numbers += 1;
        let (since, due) = (None, None);
        let waiting = Waiting { number, id, notification, tries: 0, since, due, is_sending: false };
        self.waiting.push(waiting);
        dropped.flatten()
    }

    fn make_room(&mut self, key: &str) -> Option<Waiting> {
        let is_idle = |waiting: &Waiting| !waiting.is_sending;
        let same = |waiting: &Waiting| is_idle(waiting) && waiting.notification.key == key;
        let at = self.waiting.iter().position(same);
        let at = at.or_else(|| self.waiting.iter().position(is_idle))?;
        Some(self.waiting.remove(at))
    }

    /// One that is due, which counts as being sent from now on. It is the oldest of its problem, and
    /// of these the one with the fewest attempts: one that a receiver never answers does not keep the
    /// others back.
    pub(crate) fn next(&mut self, now: Instant) -> Ready {
        if let Some(until) = self.held_until.filter(|until| *until > now) {
            return if self.waiting.is_empty() { Ready::Never } else { Ready::At(until) };
        }
        let mut keys = HashSet::new();
        let firsts: Vec<usize> = (0..self.waiting.len())
            .filter(|at| keys.insert(self.waiting[*at].notification.key.as_str()))
            .collect();
        let is_due = |at: &&usize| self.waiting[**at].due.is_none_or(|due| due <= now);
        let next = firsts.iter().filter(is_due).min_by_key(|at| self.waiting[**at].tries);
        let Some(&at) = next else {
            let earliest = firsts.iter().filter_map(|at| self.waiting[*at].due).min();
            return earliest.map_or(Ready::Never, Ready::At);
        };
        let waiting = &mut self.waiting[at];
        waiting.tries += 1;
        waiting.since.get_or_insert(now);
        waiting.is_sending = true;
        Ready::Now(waiting.clone())
    }

    /// The attempt has failed: the next one is due `after` this time. If `all`, the receiver is not
    /// asked before.
    pub(crate) fn again(&mut self, number: u64, after: Duration, all: bool, now: Instant) {
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.number == number) {
            waiting.due = Some(now + after);
            waiting.is_sending = false;
        }
        if all {
            self.held_until = Some(now + after);
        }
    }

    /// It was delivered or given up.
    pub(crate) fn remove(&mut self, number: u64) {
        self.waiting.retain(|waiting| waiting.number != number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::notification;

    fn of(key: &str) -> Arc<Notification> {
        Arc::new(Notification { key: key.to_owned(), ..notification() })
    }

    fn sent(queue: &mut Queue, now: Instant) -> Option<u64> {
        match queue.next(now) {
            Ready::Now(waiting) => Some(waiting.number),
            Ready::At(_) | Ready::Never => None,
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_end_of_a_problem_waits_for_its_beginning_and_others_do_not() {
        let (mut queue, now) = (Queue::new(9), Instant::now());
        for key in ["a", "a", "b"] {
            assert!(queue.push(None, of(key)).is_none());
        }
        assert_eq!(sent(&mut queue, now), Some(0));
        queue.again(0, SECOND, false, now);
        assert_eq!(sent(&mut queue, now), Some(2));
        queue.remove(2);
        assert!(matches!(queue.next(now), Ready::At(at) if at == now + SECOND));
        assert_eq!(sent(&mut queue, now + SECOND), Some(0));
        queue.remove(0);
        assert_eq!(sent(&mut queue, now + SECOND), Some(1));
        queue.remove(1);
        assert!(matches!(queue.next(now), Ready::Never));
    }

    #[test]
    fn nothing_is_sent_to_a_receiver_that_asks_for_time() {
        let (mut queue, now) = (Queue::new(9), Instant::now());
        queue.push(None, of("a"));
        queue.push(None, of("b"));
        assert_eq!(sent(&mut queue, now), Some(0));
        queue.again(0, SECOND, true, now);
        assert!(matches!(queue.next(now), Ready::At(at) if at == now + SECOND));
        assert_eq!(sent(&mut queue, now + SECOND), Some(1), "it had no attempt yet");
        queue.remove(1);
        assert_eq!(sent(&mut queue, now + SECOND), Some(0));
    }

    #[test]
    fn the_oldest_of_the_same_problem_makes_room_and_else_the_oldest() {
        let (mut queue, now) = (Queue::new(3), Instant::now());
        for key in ["a", "b", "b"] {
            queue.push(None, of(key));
        }
        assert_eq!(queue.push(None, of("b")).map(|dropped| dropped.number), Some(1));
        assert_eq!(queue.push(None, of("c")).map(|dropped| dropped.number), Some(0));
        assert_eq!(sent(&mut queue, now), Some(2));
        assert_eq!(queue.push(None, of("b")).map(|dropped| dropped.number), Some(3));
        queue.again(2, SECOND, false, now);
        assert_eq!(queue.push(None, of("d")).map(|dropped| dropped.number), Some(2));
    }

    #[test]
    fn attempts_are_counted_from_the_first_one_on() {
        let (mut queue, now) = (Queue::new(3), Instant::now());
        queue.push(Some(7), of("a"));
        for tries in 1..4 {
            let at = now + SECOND * tries;
            let Ready::Now(waiting) = queue.next(at) else { panic!("it is due") };
            assert_eq!((waiting.id, waiting.tries), (Some(7), tries));
            assert_eq!(waiting.since, Some(now + SECOND));
            queue.again(0, SECOND, false, at);
        }
    }
}
