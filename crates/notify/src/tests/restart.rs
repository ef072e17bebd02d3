//! What a restart of the agent keeps.
use std::{path::Path, time::Duration};

use paramedic_core::{
    engine::{Case, Fact},
    guard::Symptom,
    target::{ChannelNames, Remedy, Target},
    verify::Outcome,
};
use paramedic_host::clock::Clock;
use paramedic_record::{SharedJournal, StateLock, journal::Unsent};
use tokio::task::JoinHandle;

use super::{
    delivery::{classifier, shared},
    receiver::{OK, Receiver, Reply},
};
use crate::{channel::Channel, notifier::Notifier, sender::with};

/// One agent process.
struct Agent {
    notifier: Notifier,
    task: JoinHandle<()>,
    journal: SharedJournal,
    _lock: StateLock,
}

impl Agent {
    fn start(state: &Path, urls: &[String]) -> Self {
        let parse = |url: &String| Channel::parse(&format!("webhook={url}"), "here").unwrap();
        Self::start_with(state, urls.iter().map(parse).collect())
    }

    fn start_with(state: &Path, channels: Vec<Channel>) -> Self {
        let lock = StateLock::acquire(state).unwrap();
        let (journal, _) = SharedJournal::open(&lock, Clock::Boot).unwrap();
        let shared = shared(Some(journal.clone()));
        let (notifier, sender) = with(channels, "worker-1", shared, classifier(), Clock::Boot);
        Self {
            notifier,
            task: tokio::spawn(sender.run(std::future::pending())),
            journal,
            _lock: lock,
        }
    }

    fn concluded(&mut self, outcome: Outcome) {
        self.concluded_of(Target::for_tests("web", 1), outcome);
    }

    fn concluded_of(&mut self, target: Target, outcome: Outcome) {
        let fact = Fact::Concluded {
            incident: Some(3),
            remedy: Remedy::Soft,
            symptom: Symptom::Errors,
            outcome,
            took: Duration::from_secs(2),
            detail: None,
            done: true,
            exhausted: false,
        };
        self.notifier.tell(&Case::new(target, false), &fact);
    }

    async fn unsent(&self, count: usize) -> Vec<Unsent> {
        for _ in 0..3000 {
            let unsent = self.journal.unsent_notifications().unwrap();
            if unsent.len() == count {
                return unsent;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?}", self.journal.unsent_notifications());
    }

    /// Ends as a killed process does: nothing more is sent or written.
    async fn dies(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

#[tokio::test]
async fn what_was_not_delivered_is_sent_once_after_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::new(&[Reply::Silence, OK]).await;
    let urls = [receiver.url()];
    let mut first = Agent::start(state.path(), &urls);
    first.concluded(Outcome::NotHealed);
    let trigger = receiver.next().await.json();
    assert_eq!(first.unsent(1).await[0].made, trigger["at"]);
    first.dies().await;

    let second = Agent::start(state.path(), &urls);
    assert_eq!(receiver.next().await.json(), trigger);
    second.unsent(0).await;
    second.dies().await;

    let mut third = Agent::start(state.path(), &urls);
    assert!(receiver.is_left_alone(Duration::from_millis(300)).await, "it was delivered");
    third.concluded(Outcome::Healed);
    let resolve = receiver.next().await.json();
    assert_eq!((&resolve["phase"], &resolve["event"]), (&"resolve".into(), &"healed".into()));
    assert_eq!(resolve["key"], trigger["key"], "the end has the key of the beginning");
    third.unsent(0).await;
    assert_eq!(third.journal.problems().unwrap(), []);
    third.dies().await;
}

#[tokio::test]
async fn one_for_a_channel_that_is_gone_is_dropped() {
    let state = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::new(&[Reply::Silence]).await;
    let mut first = Agent::start(state.path(), &[receiver.url()]);
    first.concluded(Outcome::NotHealed);
    receiver.next().await;
    first.unsent(1).await;
    first.dies().await;
    let mut other = Receiver::new(&[OK]).await;
    let second = Agent::start(state.path(), &[other.url()]);
    second.unsent(0).await;
    assert!(other.is_left_alone(Duration::from_millis(300)).await);
    second.dies().await;
}

#[tokio::test]
async fn a_pause_is_told_once_and_its_end_too() {
    let state = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::new(&[OK]).await;
    let urls = [receiver.url()];
    let mut first = Agent::start(state.path(), &urls);
    first.notifier.switch(true);
    first.notifier.switch(true);
    let paused = receiver.next().await.json();
    assert_eq!((&paused["event"], &paused["target"]), (&"paused".into(), &"".into()));
    first.unsent(0).await;
    first.dies().await;
    let mut second = Agent::start(state.path(), &urls);
    second.notifier.switch(true);
    assert!(receiver.is_left_alone(Duration::from_millis(300)).await);
    second.notifier.switch(false);
    let resumed = receiver.next().await.json();
    assert_eq!((&resumed["event"], &resumed["key"]), (&"resumed".into(), &paused["key"]));
    second.dies().await;
}

#[tokio::test]
async fn a_named_channel_is_told_of_the_targets_that_name_it_until_the_end() {
    let state = tempfile::tempdir().unwrap();
    let (mut all, mut shop) = (Receiver::new(&[OK]).await, Receiver::new(&[OK]).await);
    let specs = [format!("webhook={}", all.url()), format!("shop:webhook={}", shop.url())];
    let channels = || specs.iter().map(|spec| Channel::parse(spec, "here").unwrap()).collect();
    let mut first = Agent::start_with(state.path(), channels());
    first.concluded_of(Target::for_tests("other", 1), Outcome::NotHealed);
    assert_eq!(all.next().await.json()["target"], "other");
    let mut web = Target::for_tests("web", 1);
    web.settings.notify = ChannelNames::read("shop").unwrap();
    first.concluded_of(web, Outcome::NotHealed);
    let trigger = shop.next().await.json();
    assert_eq!(trigger["target"], "web", "it got nothing of the other one");
    assert_eq!(all.next().await.json(), trigger);
    first.unsent(0).await;
    first.dies().await;

    // The setting was removed while no agent ran. A channel that got the problem gets its end too.
    let mut second = Agent::start_with(state.path(), channels());
    second.concluded(Outcome::Healed);
    for receiver in [&mut all, &mut shop] {
        let end = receiver.next().await.json();
        assert_eq!((&end["phase"], &end["key"]), (&"resolve".into(), &trigger["key"]));
    }
    second.unsent(0).await;
    second.dies().await;
}
