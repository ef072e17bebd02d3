//! Resizes from the first throttled minute to the last step back, on a clock that is only a number.
use std::{sync::Arc, time::Duration};

use super::*;
use crate::{
    decide::Classifier,
    engine::{Event, Pace},
    guard::{Gate, Policy},
    health::{Health, Poll, Says},
    resize::{Ceilings, Direction, ResizeOutcome, Resource},
    signal::{CgroupReading, KernelReading, Polled, Trigger, Waiting},
    target::Settings,
};

const MIB: u64 = 1 << 20;
const TICK: Duration = Duration::from_secs(2);

/// A target with a cgroup of its own, and what the agent has said of it.
struct Bed {
    engine: Engine,
    now: BootTime,
    counts: KernelReading,
    cpu_ns: u64,
    /// Millicores.
    cpu_limit: u64,
    cpu_used: u64,
    throttled: f32,
    waiting: Option<u32>,
    memory: u64,
    memory_limit: u64,
    /// Whether it has clients.
    traffic: bool,
    /// What its health check says of CPU and memory, in percent.
    level: f32,
    wishes: Vec<Wish>,
    told: Vec<Resizing>,
    healed: Vec<(Duration, Remedy)>,
    gates: Vec<Gate>,
}

impl Bed {
    fn new(ceilings: &str) -> Self {
        Self::with(
            ceilings,
            Policy { rules_may_restart: true, examine: false, ..Policy::default() },
        )
    }

    fn with(ceilings: &str, policy: Policy) -> Self {
        let classifier = Classifier::Rules { reason: "tests".to_owned() };
        let mut bed = Self {
            engine: Engine::new(Arc::new(classifier), policy, Pace::default()),
            now: BootTime::from(Duration::from_secs(10_000)),
            counts: KernelReading::default(),
            cpu_ns: 0,
            cpu_limit: 500,
            cpu_used: 100,
            throttled: 0.0,
            waiting: Some(0),
            memory: 50 * MIB,
            memory_limit: 100 * MIB,
            traffic: true,
            level: 10.0,
            wishes: Vec::new(),
            told: Vec::new(),
            healed: Vec::new(),
            gates: Vec::new(),
        };
        let target = bed.target(1, Some(ceilings));
        bed.handle(Event::Added(0, target));
        bed
    }

    fn target(&self, life: u32, ceilings: Option<&str>) -> Box<Target> {
        let resize = ceilings.map(|text| Ceilings::read(text).unwrap());
        let settings = Settings { resize, ..Settings::up_to(Remedy::Restart) };
        Box::new(Target { settings, ..Target::for_tests("shop", life) })
    }

    fn handle(&mut self, event: Event) {
        let mut out = Vec::new();
        self.engine.handle(self.now, 12, event, &mut out);
        for command in out {
            match command {
                Command::Resize(_, wish) => self.wishes.push(wish),
                Command::Heal(_, permit, _) => {
                    self.healed.push((self.now.since(BootTime::default()), permit.remedy()));
                }
                Command::Tell(_, Fact::Resizing(news)) => self.told.push(*news),
                Command::Tell(_, Fact::Refused { refusal, .. }) => self.gates.push(refusal.gate),
                _ => {}
            }
        }
    }

    fn sample(&mut self) {
        self.now = self.now + TICK;
        self.counts.counters.responses[2] += if self.traffic { 20 } else { 0 };
        self.counts.throttling.periods += (self.throttled * 20.0).round() as u64;
        self.counts.throttling.period_ns = 100_000_000;
        self.counts.waiting = self.waiting.map(|requests| Waiting { requests, oldest: None });
        self.cpu_ns += self.cpu_used * 2_000_000;
        let health = Health {
            says: Says::Well,
            cpu_usage: Some(self.level),
            memory_usage: Some(self.level),
            error_count: Some(0),
            ..Health::default()
        };
        let sample = Sample {
            at: self.now,
            trigger: Trigger::Tick,
            kernel: Some(self.counts),
            poll: Polled::Now(Poll::for_tests(self.now, Ok(health))),
            usage: CgroupReading {
                cpu_usage_ns: Some(self.cpu_ns),
                cpu_limit: Some(self.cpu_limit as f32 / 1000.0),
                memory_bytes: Some(self.memory),
                memory_limit_bytes: Some(self.memory_limit),
                ..CgroupReading::default()
            },
            process: None,
            host: None,
        };
        self.handle(Event::Sampled(0, Box::new(sample)));
    }

    fn seconds(&mut self, seconds: u64) {
        for _ in 0..seconds / TICK.as_secs() {
            self.sample();
        }
    }

    fn answer(&mut self, answer: Answer) {
        self.handle(Event::Resized(0, answer));
    }

    /// The cluster accepts this step, and the kubelet makes it so.
    fn accept(&mut self, step: Step) {
        self.answer(Answer::Given { id: Some(1), step });
        match step.resource {
            Resource::Cpu => self.cpu_limit = step.to,
            Resource::Memory => self.memory_limit = step.to,
        }
    }

    fn refuse(&mut self, reason: Reason) {
        self.answer(Answer::Refused { id: None, no: reason.into() });
    }

    fn throttle(&mut self, waiting: Option<u32>) {
        (self.throttled, self.waiting) = (0.5, waiting);
    }

    /// Memory rises by a MiB per sample, for this long.
    fn leak(&mut self, seconds: u64) {
        for _ in 0..seconds / TICK.as_secs() {
            self.memory += MIB;
            self.sample();
        }
    }

    fn outcomes(&self) -> Vec<ResizeOutcome> {
        let outcome = |news: &Resizing| match news {
            Resizing::Concluded(ended) => Some(ended.outcome),
            _ => None,
        };
        self.told.iter().filter_map(outcome).collect()
    }

    fn refusals(&self) -> Vec<Reason> {
        let reason = |news: &Resizing| match news {
            Resizing::Refused { no, news: true, .. } => Some(no.reason),
            _ => None,
        };
        self.told.iter().filter_map(reason).collect()
    }

    fn detail(&self) -> String {
        let detail = |news: &Resizing| match news {
            Resizing::Concluded(ended) => ended.detail.clone(),
            _ => None,
        };
        self.told.iter().rev().find_map(detail).unwrap_or_default()
    }
}

fn cpu(from: u64, to: u64) -> Step {
    Step { resource: Resource::Cpu, from, to, base: 500 }
}

fn memory(from: u64, to: u64) -> Step {
    Step { resource: Resource::Memory, from: from * MIB, to: to * MIB, base: 100 * MIB }
}

#[test]
fn a_throttled_minute_with_requests_waiting_is_answered_by_one_step_that_is_verified() {
    let mut bed = Bed::new("cpu=2x");
    bed.throttle(Some(3));
    bed.seconds(60);
    assert_eq!(bed.wishes, []);
    bed.seconds(4);
    assert_eq!(bed.wishes.len(), 1);
    let wish = bed.wishes[0];
    assert_eq!((wish.resource, wish.direction), (Resource::Cpu, Direction::Up));
    assert_eq!((wish.used, wish.limit, wish.last), (100, Some(500), None));
    bed.seconds(10);
    assert_eq!(bed.wishes.len(), 1, "asked once");
    bed.accept(cpu(500, 750));
    bed.throttled = 0.0;
    bed.seconds(16);
    assert_eq!(bed.outcomes(), []);
    bed.seconds(4);
    assert_eq!(bed.outcomes(), [ResizeOutcome::Healed]);
    bed.seconds(600);
    assert_eq!(bed.wishes.len(), 1);
    let story = bed.engine.case(0).unwrap().resize_story(bed.now).unwrap();
    assert_eq!(story, "up to cpu=2x; last cpu 500m → 750m (its owner's: 500m)");
}

#[test]
fn without_consent_or_with_foreign_processes_in_the_cgroup_nothing_is_wanted() {
    let mut bed = Bed::new("memory=2x");
    bed.throttle(Some(3));
    bed.seconds(200);
    assert_eq!(bed.wishes, [], "of memory alone");
    let mut shared = Bed::new("cpu=2x,memory=2x");
    let mut target = shared.target(2, Some("cpu=2x,memory=2x"));
    target.cgroups.shared = true;
    shared.handle(Event::Changed(0, target));
    shared.throttle(Some(3));
    shared.leak(90);
    assert_eq!(shared.wishes, []);
    assert_eq!(shared.engine.case(0).unwrap().resize_story(shared.now), None);
}

#[test]
fn each_gate_of_the_node_refuses_and_is_named_once() {
    type Close = fn(&mut Bed);
    let gates: [(Close, Reason); 4] = [
        (|bed| bed.engine.set_journal_writable(false), Reason::Journal),
        (|bed| bed.engine.set_paused(true), Reason::Paused),
        (|bed| bed.handle(Event::NotNow(0, true)), Reason::Window),
        (|bed| bed.waiting = None, Reason::Unseen),
    ];
    for (close, reason) in gates {
        let mut bed = Bed::new("cpu=2x");
        bed.throttle(Some(3));
        close(&mut bed);
        bed.seconds(100);
        assert_eq!((bed.refusals(), bed.wishes.len()), (vec![reason], 0));
        let story = bed.engine.case(0).unwrap().resize_story(bed.now).unwrap();
        assert!(story.contains(reason.name()), "{story}");
    }
    let policy = Policy { max_remedy: Remedy::Observe, ..Policy::default() };
    let mut bed = Bed::with("cpu=2x", policy);
    bed.throttle(Some(3));
    bed.seconds(100);
    assert_eq!((bed.refusals(), bed.wishes.len()), (vec![Reason::Mode], 0));
}

#[test]
fn a_gate_that_opens_lets_the_resize_through_soon() {
    let mut bed = Bed::new("cpu=2x");
    bed.throttle(Some(3));
    bed.engine.set_paused(true);
    bed.seconds(90);
    bed.engine.set_paused(false);
    bed.seconds(8);
    assert_eq!(bed.wishes.len(), 1);
}

#[test]
fn memory_that_rises_to_its_limit_is_raised_before_it_is_full() {
    let mut bed = Bed::new("cpu=2x,memory=1.5x");
    bed.leak(80);
    assert_eq!(bed.memory, 90 * MIB);
    assert_eq!(bed.wishes.len(), 1);
    assert_eq!(bed.wishes[0].resource, Resource::Memory);
    bed.accept(memory(100, 125));
    bed.seconds(20);
    assert_eq!(bed.outcomes(), [ResizeOutcome::Healed]);
    bed.leak(80);
    assert_eq!(bed.wishes.len(), 2, "the next step, more than a minute later");
}

#[test]
fn a_step_that_does_not_help_is_told_and_the_next_one_waits() {
    let mut bed = Bed::new("cpu=3x");
    bed.throttle(Some(3));
    bed.seconds(64);
    bed.accept(cpu(500, 750));
    bed.seconds(20);
    assert_eq!(bed.outcomes(), [ResizeOutcome::NotHealed]);
    assert_eq!(bed.detail(), "it is still throttled");
    bed.seconds(280);
    assert_eq!(bed.wishes.len(), 1);
    assert_eq!(bed.refusals(), [Reason::Cooldown]);
    bed.seconds(90);
    assert_eq!(bed.wishes.len(), 2);
    assert_eq!(bed.wishes[1].last, Some(cpu(500, 750)));
}

#[test]
fn a_limit_that_never_comes_is_a_failure_that_says_what_there_is() {
    let mut bed = Bed::new("cpu=2x");
    bed.throttle(Some(3));
    bed.seconds(64);
    bed.answer(Answer::Given { id: Some(1), step: cpu(500, 750) });
    bed.seconds(28);
    assert_eq!(bed.outcomes(), []);
    bed.seconds(4);
    assert_eq!(bed.outcomes(), [ResizeOutcome::Failed]);
    assert_eq!(bed.detail(), "its cgroup has 500m");
}

#[test]
fn an_act_without_an_answer_is_judged_by_the_cgroup() {
    for came in [true, false] {
        let mut bed = Bed::new("cpu=2x");
        bed.throttle(Some(3));
        bed.seconds(64);
        let why = "no answer in time".to_owned();
        bed.answer(Answer::Unknown { id: Some(1), step: cpu(500, 750), why });
        bed.throttled = 0.0;
        if came {
            bed.cpu_limit = 750;
        }
        bed.seconds(40);
        let expected = if came { ResizeOutcome::Healed } else { ResizeOutcome::Failed };
        assert_eq!(bed.outcomes(), [expected]);
        if !came {
            assert_eq!(bed.detail(), "its cgroup has 500m; no answer in time");
        }
    }
}

#[test]
fn a_refusal_is_remembered_as_long_as_it_lasts() {
    for (reason, wait) in [(Reason::NoRoom, 600), (Reason::Conflict, 5), (Reason::ApiServer, 15)] {
        let mut bed = Bed::new("memory=2x");
        bed.leak(80);
        bed.refuse(reason);
        let asked = |bed: &Bed| bed.wishes.len();
        assert_eq!((asked(&bed), bed.refusals()), (1, vec![reason]));
        bed.memory_limit = 1000 * MIB;
        bed.memory = 900 * MIB;
        bed.leak(wait - wait % 2 - 2);
        assert_eq!(asked(&bed), 1, "{reason:?}");
        bed.leak(6);
        assert_eq!(asked(&bed), 2, "{reason:?}");
        assert_eq!(bed.refusals(), [reason], "told once");
    }
}

#[test]
fn a_lost_answer_does_not_block_for_ever() {
    let mut bed = Bed::new("cpu=2x");
    bed.throttle(Some(3));
    bed.seconds(64);
    bed.seconds(92);
    assert_eq!(bed.wishes.len(), 1);
    bed.seconds(100);
    assert_eq!(bed.wishes.len(), 2);
}

#[test]
fn half_an_hour_of_quiet_takes_half_of_it_back_and_the_rest_later() {
    let mut bed = Bed::new("cpu=2x");
    bed.throttle(Some(3));
    bed.seconds(64);
    bed.accept(cpu(500, 1000));
    bed.throttled = 0.0;
    bed.cpu_used = 300;
    bed.seconds(20);
    bed.seconds(1780);
    assert_eq!(bed.wishes.len(), 1);
    bed.seconds(20);
    assert_eq!(bed.wishes.len(), 2);
    let wish = bed.wishes[1];
    assert_eq!((wish.direction, wish.limit), (Direction::Down, Some(1000)));
    assert!((295..=305).contains(&wish.used), "{wish:?}");
    bed.accept(cpu(1000, 750));
    bed.seconds(20);
    assert_eq!(bed.outcomes(), [ResizeOutcome::Healed; 2]);
    bed.seconds(1800);
    assert_eq!(bed.wishes.len(), 3);
    bed.accept(cpu(750, 500));
    bed.seconds(20);
    bed.seconds(4000);
    assert_eq!(bed.wishes.len(), 3, "it is the owner's own again");
}

#[test]
fn a_little_stress_begins_the_half_hour_anew() {
    let mut bed = Bed::new("cpu=2x");
    bed.throttle(Some(3));
    bed.seconds(64);
    bed.accept(cpu(500, 1000));
    bed.throttled = 0.0;
    bed.seconds(1500);
    bed.throttled = 0.1;
    bed.seconds(4);
    bed.throttled = 0.0;
    bed.seconds(1500);
    assert_eq!(bed.wishes.len(), 1);
    bed.seconds(400);
    assert_eq!(bed.wishes.len(), 2);
}

#[test]
fn what_the_agent_did_not_raise_it_does_not_lower() {
    let mut bed = Bed::new("cpu=2x,memory=2x");
    bed.cpu_limit = 1000;
    bed.seconds(4000);
    assert_eq!(bed.wishes, []);
}

#[test]
fn an_earlier_agents_resize_is_taken_back_and_one_without_outcome_is_verified() {
    let mut bed = Bed::new("cpu=2x");
    bed.cpu_limit = 750;
    let recalled = Recalled { id: 7, step: cpu(500, 750), open: true };
    bed.handle(Event::ResizeRecalled(0, recalled));
    bed.seconds(20);
    assert_eq!(bed.outcomes(), [ResizeOutcome::Healed]);
    bed.seconds(1830);
    assert_eq!(bed.wishes.len(), 1);
    assert_eq!(bed.wishes[0].direction, Direction::Down);
    let mut closed = Bed::new("cpu=2x");
    closed.handle(Event::ResizeRecalled(0, Recalled { id: 7, step: cpu(750, 500), open: false }));
    closed.seconds(4000);
    assert_eq!((closed.wishes.len(), closed.outcomes().len()), (0, 0), "all is back");
    let mut undone = Bed::new("cpu=2x");
    undone.handle(Event::ResizeRecalled(0, Recalled { id: 7, step: cpu(500, 750), open: true }));
    undone.seconds(40);
    assert_eq!(undone.outcomes(), [ResizeOutcome::Failed]);
    assert!(
        undone.detail().contains("an earlier agent process intended it"),
        "{}",
        undone.detail()
    );
}

#[test]
fn a_restart_or_the_end_of_consent_ends_the_verification() {
    type End = fn(&mut Bed);
    let ends: [(End, &str); 3] = [
        (
            |bed| {
                let next = bed.target(2, Some("cpu=2x"));
                bed.handle(Event::Changed(0, next));
            },
            "another container runs by now",
        ),
        (
            |bed| {
                let same = bed.target(1, None);
                bed.handle(Event::Changed(0, same));
            },
            "its owner no longer permits it",
        ),
        (|bed| bed.handle(Event::Removed(0)), "it was removed"),
    ];
    for (end, why) in ends {
        let mut bed = Bed::new("cpu=2x");
        bed.throttle(Some(3));
        bed.seconds(64);
        bed.accept(cpu(500, 750));
        bed.seconds(4);
        end(&mut bed);
        assert_eq!(
            (bed.outcomes(), bed.detail()),
            (vec![ResizeOutcome::Unverified], why.to_owned())
        );
    }
}

#[test]
fn an_answer_after_the_end_of_consent_is_still_concluded() {
    let mut bed = Bed::new("cpu=2x");
    bed.throttle(Some(3));
    bed.seconds(64);
    let same = bed.target(1, None);
    bed.handle(Event::Changed(0, same));
    bed.answer(Answer::Given { id: Some(3), step: cpu(500, 750) });
    assert_eq!(bed.outcomes(), [ResizeOutcome::Unverified]);
}

#[test]
fn a_dry_run_tells_the_step_and_does_not_repeat_it_at_once() {
    let mut bed = Bed::new("cpu=2x");
    bed.throttle(Some(3));
    bed.seconds(64);
    bed.answer(Answer::Withheld(cpu(500, 750)));
    assert_eq!(bed.told, [Resizing::Withheld(cpu(500, 750))]);
    bed.seconds(500);
    assert_eq!((bed.wishes.len(), bed.outcomes().len(), bed.refusals().len()), (1, 0, 0));
}

#[test]
fn advice_about_one_resource_does_not_hold_up_that_about_the_other() {
    let mut bed = Bed::new("cpu=2x,memory=2x");
    bed.throttle(Some(3));
    bed.memory = 85 * MIB;
    bed.leak(10);
    bed.answer(Answer::Withheld(memory(100, 125)));
    bed.leak(8);
    bed.seconds(60);
    let wanted: Vec<Resource> = bed.wishes.iter().map(|wish| wish.resource).collect();
    assert_eq!(wanted, [Resource::Memory, Resource::Cpu]);
}

/// CPU and memory at 95 % by the app's own account: the rules ask for a restart. Its memory is
/// nearly full according to the kernel.
fn level() -> Bed {
    let mut bed = Bed::new("memory=2x");
    bed.traffic = false;
    bed.level = 95.0;
    bed.memory = 95 * MIB;
    bed
}

#[test]
fn a_restart_for_a_level_alone_waits_for_the_resize() {
    let mut bed = level();
    bed.seconds(60);
    assert!(bed.gates.contains(&Gate::Resize), "{:?}", bed.gates);
    assert_eq!((bed.healed.len(), bed.wishes.len()), (0, 0), "its memory does not rise");
    bed.leak(4);
    assert_eq!(bed.wishes.len(), 1);
    bed.seconds(40);
    assert_eq!(bed.healed, [], "while the cluster is asked");
}

#[test]
fn the_restart_no_longer_waits_once_the_resize_is_refused_or_two_minutes_have_passed() {
    let mut refused = level();
    refused.leak(8);
    assert_eq!(refused.wishes.len(), 1);
    refused.refuse(Reason::NoRoom);
    refused.seconds(10);
    assert_eq!(refused.healed.len(), 1);
    let mut flat = level();
    flat.seconds(120);
    assert_eq!(flat.healed, []);
    flat.seconds(10);
    assert_eq!(flat.healed.len(), 1);
}
