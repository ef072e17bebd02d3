//! What stands in a line. Short where there are many (looks), plain elsewhere.
//!
//! These types are the file's schema and nothing else: they change only together with [`VERSION`],
//! while those of the engine may change at will.
use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use agent_common::{Counters, Throttling};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::{Deserialize, Serialize};

use super::MOST_TARGETS;
use crate::{
    decide::Action,
    engine::{Event, Index, Remedied},
    guard::{Gate, Policy, Refusal, Why},
    moment::Moment,
    signal::{
        cgroup::CgroupReading,
        health::{Fault, Field, Health, HealthError, NotJson, Poll, Transport},
        sample::{KernelReading, Sample, Trigger},
    },
    target::{Cgroups, Obstacle, Rung, Target, TargetId, pod::PodRef},
    verify::Outcome,
};

/// Version of the lines below; a reader refuses any other.
pub const VERSION: u32 = 1;

/// Counts beyond this are no counts: sums of them must not overflow.
const MOST: u64 = 1 << 53;
/// A poll that takes longer was given up long before.
const LONGEST_POLL: u64 = 3_600_000_000_000;

/// The first line of every part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Always [`VERSION`]; also says what kind of file this is.
    pub paramedic_trace: u32,
    /// Version of the agent that wrote it.
    pub agent: String,
    /// Which run of which boot: parts of one run belong together.
    pub run: String,
    /// Which part of the run, from 0.
    pub part: u32,
    /// Nanoseconds since boot, and seconds since 1970, when the part began.
    pub boot_ns: u64,
    /// The latter.
    pub unix_s: u64,
    /// The strongest remedy that the operator permitted.
    pub max_action: Rung,
    /// Whether nothing was done for real.
    pub dry_run: bool,
    /// Whether rules may restart.
    pub rules_may_restart: bool,
    /// Hard heals per node per minute.
    pub node_budget: u32,
    /// Between two regular looks, in nanoseconds.
    pub tick_ns: u64,
    /// From a remedy to its verdict, in nanoseconds.
    pub verify_window_ns: u64,
}

impl Header {
    /// The policy that was recorded under.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy {
            max_action: self.max_action,
            dry_run: self.dry_run,
            rules_may_restart: self.rules_may_restart,
            node_budget: self.node_budget,
            ..Policy::default()
        }
    }
}

/// One line after the first: nanoseconds since boot, the hour of the day (UTC), and what was told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line(pub u64, pub u8, pub What);

/// What the engine was told, and a little of what the agent did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A look: by far the most lines.
    Look(Box<Look>),
    /// The kernel's wake-up: place, nanoseconds since boot, whether only throttling.
    Woken(Index, u64, bool),
    /// A target was found.
    Added(Index, Box<Who>),
    /// The same in another life, or under other settings.
    Changed(Index, Box<Who>),
    /// At the beginning of a later part: a target that an earlier one told of.
    Known(Index, Box<Who>),
    /// Its process has ended.
    Lost(Index),
    /// It is gone for good.
    Removed(Index),
    /// What the kubelet says of it.
    Ready(Index, bool),
    /// What the cluster answered: place, remedy, and the refusal if there was one.
    Cleared(Index, Rung, Option<Refused>),
    /// What came of a remedy: place, the journal's number, how, and a word about it.
    Treated(Index, Option<i64>, Ended, String),
    /// An intention of a former life: place, number, remedy, verdict, judged instance.
    Recovered(Index, i64, Rung, Action, String),
    /// What a former life did: place, remedy, when, and how and when it ended.
    Recalled(Index, Rung, u64, Option<(Outcome, u64)>),
    /// The pause switch, and whether the journal takes intentions: told when they change.
    Switches(bool, bool),
    /// For comparison: a remedy was given (or, in a dry run, would have been).
    Did(Index, Rung, f32),
    /// So many lines are missing here, because the disk did not keep up.
    Missing(u64),
    /// The recording ended in good order, or goes on in the next part.
    End,
}

/// One sample. Everything is cumulative, as it was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Look {
    /// The target's place.
    i: Index,
    /// When the counters were read, in nanoseconds since boot.
    t: u64,
    /// Why.
    w: Cause,
    /// The kernel's counts: responses by class, requests, upstream 5xx, resets received and sent,
    /// retransmits, OOM kills; throttled periods, nanoseconds, length of a period; responses by
    /// class that the agent drew itself, connections that it gave up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    k: Option<[u64; 20]>,
    /// The poll.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    p: Option<Asked>,
    /// CPU nanoseconds, memory bytes, throttled periods and nanoseconds, length of a period, OOM
    /// kills.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    u: Option<[Option<u64>; 6]>,
    /// Limits: cores, bytes.
    l: (Option<f32>, Option<u64>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Cause {
    Tick,
    Wakeup,
    Confirm,
    Verify,
}

/// A poll of `/health`: nanoseconds, responses drawn, and the reading or the name of the trouble.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Asked(u64, [u32; 5], Told);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Told {
    Trouble(Trouble),
    /// Percent of CPU and memory, errors, seconds up.
    Health(Option<f32>, Option<f32>, Option<u32>, Option<f64>),
}

/// The troubles of a poll by the names that metrics give them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Trouble {
    Timeout,
    ConnectRefused,
    ConnectFailed,
    Reset,
    Closed,
    NotHttp,
    TooLarge,
    Agent,
    NotFound,
    Redirect,
    StatusNotOk,
    NotJson,
    BadField,
}

/// A target, as far as the engine and the reader of a replay care.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Who {
    uid: String,
    instance: String,
    name: String,
    ceiling: Rung,
    min_confidence: f32,
    /// Whether it gets HTTP from the agent.
    polled: bool,
    /// Whether others share its cgroup.
    shared: bool,
    started_ns: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    no_restart: Option<Obstacle>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    no_evict: Option<Obstacle>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<Pod>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pod {
    namespace: String,
    name: String,
    uid: String,
    container: String,
    container_id: String,
    owner: Option<String>,
}

/// A refusal of the cluster: gate, words, nanoseconds until it is asked again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refused(Gate, String, u64);

/// What came of giving a remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It was given.
    Given,
    /// It could not be given.
    Undone,
    /// It went wrong.
    Failed,
    /// It was given, and ended so.
    Ended(Outcome),
}

/// A line that no agent writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Absurd {
    /// Counts are sums of small numbers.
    #[error("a count or a time is absurdly large")]
    Count,
    /// Confidence and percentages.
    #[error("a number is out of its range")]
    Range,
    /// See [`MOST_TARGETS`].
    #[error("more targets than any agent watches")]
    Place,
    /// The hour of the day.
    #[error("the hour is not from 0 to 23")]
    Hour,
}

impl What {
    /// What a trace keeps of an event; passing time is not kept, since whoever replays knows when
    /// the engine wants to be told.
    pub(crate) fn of(event: &Event) -> Option<Self> {
        Some(match event {
            Event::Added(index, target) => Self::Added(*index, Box::new(Who::of(target))),
            Event::Changed(index, target) => Self::Changed(*index, Box::new(Who::of(target))),
            Event::Lost(index) => Self::Lost(*index),
            Event::Removed(index) => Self::Removed(*index),
            Event::Ready(index, ready) => Self::Ready(*index, *ready),
            Event::Cleared { index, rung, answer } => {
                let refused = answer.as_ref().err().map(|(refusal, wait)| {
                    Refused(refusal.gate, refusal.why.to_string(), nanos(*wait))
                });
                Self::Cleared(*index, *rung, refused)
            }
            Event::Woken { index, at, throttled } => Self::Woken(*index, at.as_nanos(), *throttled),
            Event::Looked(index, sample) => Self::Look(Box::new(Look::of(*index, sample))),
            Event::Treated { index, incident, result } => {
                let (ended, detail) = match result {
                    Remedied::Given => (Ended::Given, String::new()),
                    Remedied::Undone(why) => (Ended::Undone, why.clone()),
                    Remedied::Failed(why) => (Ended::Failed, why.clone()),
                    Remedied::Ended(outcome, text) => (Ended::Ended(*outcome), text.clone()),
                };
                Self::Treated(*index, *incident, ended, detail)
            }
            Event::Recovered { index, incident, rung, before, judged } => {
                Self::Recovered(*index, *incident, *rung, *before, judged.clone())
            }
            Event::Recalled { index, rung, treated, ended } => {
                let ended = ended.map(|(outcome, at)| (outcome, at.as_nanos()));
                Self::Recalled(*index, *rung, treated.as_nanos(), ended)
            }
            Event::Tick => return None,
        })
    }

    /// The event to tell an engine; `None` where the line is about the recording itself.
    ///
    /// # Errors
    /// If the line holds what no agent writes.
    pub(crate) fn event(self) -> Result<Option<Event>, Absurd> {
        Ok(Some(match self {
            Self::Added(index, who) => Event::Added(place(index)?, Box::new(who.target()?)),
            Self::Changed(index, who) | Self::Known(index, who) => {
                Event::Changed(place(index)?, Box::new(who.target()?))
            }
            Self::Lost(index) => Event::Lost(place(index)?),
            Self::Removed(index) => Event::Removed(place(index)?),
            Self::Ready(index, ready) => Event::Ready(place(index)?, ready),
            Self::Cleared(index, rung, refused) => {
                let answer = refused.map_or(Ok(()), |Refused(gate, why, wait)| {
                    // The words as they were; which variant they come from does not matter.
                    let refusal = Refusal { gate, why: Why::Budget(why.into()) };
                    Err((refusal, Duration::from_nanos(wait)))
                });
                Event::Cleared { index: place(index)?, rung, answer }
            }
            Self::Woken(index, at, throttled) => {
                Event::Woken { index: place(index)?, at: Moment::from_nanos(at), throttled }
            }
            Self::Look(look) => Event::Looked(place(look.i)?, Box::new(look.sample()?)),
            Self::Treated(index, incident, ended, detail) => {
                let result = match ended {
                    Ended::Given => Remedied::Given,
                    Ended::Undone => Remedied::Undone(detail),
                    Ended::Failed => Remedied::Failed(detail),
                    Ended::Ended(outcome) => Remedied::Ended(outcome, detail),
                };
                Event::Treated { index: place(index)?, incident, result }
            }
            Self::Recovered(index, incident, rung, before, judged) => {
                Event::Recovered { index: place(index)?, incident, rung, before, judged }
            }
            Self::Recalled(index, rung, treated, ended) => Event::Recalled {
                index: place(index)?,
                rung,
                treated: Moment::from_nanos(treated),
                ended: ended.map(|(outcome, at)| (outcome, Moment::from_nanos(at))),
            },
            Self::Switches(..) | Self::Did(..) | Self::Missing(_) | Self::End => return Ok(None),
        }))
    }
}

fn place(index: Index) -> Result<Index, Absurd> {
    if index < MOST_TARGETS { Ok(index) } else { Err(Absurd::Place) }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Look {
    fn of(index: Index, sample: &Sample) -> Self {
        let usage = &sample.usage;
        let used = [
            usage.cpu_usage_ns,
            usage.memory_bytes,
            usage.throttled_periods,
            usage.throttled_ns,
            usage.period_ns,
            usage.oom_kills,
        ];
        Self {
            i: index,
            t: sample.at.as_nanos(),
            w: match sample.trigger {
                Trigger::Tick => Cause::Tick,
                Trigger::Wakeup => Cause::Wakeup,
                Trigger::Confirm => Cause::Confirm,
                Trigger::Verify => Cause::Verify,
            },
            k: sample.kernel.as_ref().map(counts),
            p: sample.poll.as_ref().map(Asked::of),
            u: used.iter().any(Option::is_some).then_some(used),
            l: (usage.cpu_limit, usage.memory_limit_bytes),
        }
    }

    fn sample(self) -> Result<Sample, Absurd> {
        let used = self.u.unwrap_or_default();
        let numbers = self.k.iter().flatten().chain(used.iter().flatten());
        if numbers.chain([&self.t]).any(|count| *count > MOST) {
            return Err(Absurd::Count);
        }
        if self.l.0.is_some_and(|cores| !(0.0..=1e6).contains(&cores)) {
            return Err(Absurd::Range);
        }
        let [cpu_usage_ns, memory_bytes, throttled_periods, throttled_ns, period_ns, oom_kills] =
            used;
        let (cpu_limit, memory_limit_bytes) = self.l;
        let at = Moment::from_nanos(self.t);
        Ok(Sample {
            at,
            trigger: match self.w {
                Cause::Tick => Trigger::Tick,
                Cause::Wakeup => Trigger::Wakeup,
                Cause::Confirm => Trigger::Confirm,
                Cause::Verify => Trigger::Verify,
            },
            kernel: self.k.map(reading),
            poll: self.p.map(|asked| asked.poll(at)).transpose()?,
            usage: CgroupReading {
                cpu_usage_ns,
                cpu_limit,
                memory_bytes,
                memory_limit_bytes,
                throttled_periods,
                throttled_ns,
                period_ns,
                oom_kills,
            },
        })
    }
}

fn counts(kernel: &KernelReading) -> [u64; 20] {
    let Counters { responses: [a, b, c, d, e], requests, upstream_5xx, .. } = kernel.counters;
    let Counters { resets_received, resets_sent, retransmits, oom_kills, .. } = kernel.counters;
    let Throttling { periods, nanoseconds, period_ns } = kernel.throttling;
    let [f, g, h, i, j] = kernel.own_responses;
    let resets = kernel.own_resets;
    [
        a,
        b,
        c,
        d,
        e,
        requests,
        upstream_5xx,
        resets_received,
        resets_sent,
        retransmits,
        oom_kills,
        periods,
        nanoseconds,
        period_ns,
        f,
        g,
        h,
        i,
        j,
        resets,
    ]
}

fn reading(counts: [u64; 20]) -> KernelReading {
    let [
        a,
        b,
        c,
        d,
        e,
        requests,
        upstream_5xx,
        resets_received,
        resets_sent,
        retransmits,
        oom_kills,
        periods,
        nanoseconds,
        period_ns,
        f,
        g,
        h,
        i,
        j,
        own_resets,
    ] = counts;
    KernelReading {
        counters: Counters {
            responses: [a, b, c, d, e],
            requests,
            upstream_5xx,
            resets_received,
            resets_sent,
            retransmits,
            oom_kills,
        },
        throttling: Throttling { periods, nanoseconds, period_ns },
        own_responses: [f, g, h, i, j],
        own_resets,
    }
}

impl Asked {
    fn of(poll: &Poll) -> Self {
        let told = match &poll.result {
            Ok(h) => Told::Health(h.cpu_usage, h.memory_usage, h.error_count, h.uptime),
            Err(error) => Told::Trouble(Trouble::of(*error)),
        };
        Self(nanos(poll.latency), poll.responses, told)
    }

    fn poll(self, at: Moment) -> Result<Poll, Absurd> {
        let Self(latency, responses, told) = self;
        if latency > LONGEST_POLL {
            return Err(Absurd::Count);
        }
        let result = match told {
            Told::Trouble(trouble) => Err(trouble.error()),
            Told::Health(cpu_usage, memory_usage, error_count, uptime) => {
                let percent = |p: Option<f32>| p.is_none_or(|p| (0.0..=100.0).contains(&p));
                let up = uptime.is_none_or(|s| (0.0..=1e10).contains(&s));
                if !(percent(cpu_usage) && percent(memory_usage) && up) {
                    return Err(Absurd::Range);
                }
                Ok(Health { status: None, cpu_usage, memory_usage, error_count, uptime })
            }
        };
        Ok(Poll { at, latency: Duration::from_nanos(latency), responses, result })
    }
}

impl Trouble {
    const fn of(error: HealthError) -> Self {
        match error {
            HealthError::Transport(Transport::Timeout) => Self::Timeout,
            HealthError::Transport(Transport::ConnectRefused) => Self::ConnectRefused,
            HealthError::Transport(Transport::ConnectFailed(_)) => Self::ConnectFailed,
            HealthError::Transport(Transport::Reset) => Self::Reset,
            HealthError::Transport(Transport::Closed) => Self::Closed,
            HealthError::Transport(Transport::NotHttp) => Self::NotHttp,
            HealthError::Transport(Transport::TooLarge) => Self::TooLarge,
            HealthError::Transport(Transport::Agent(_)) => Self::Agent,
            HealthError::NotFound(_) => Self::NotFound,
            HealthError::Redirect(_) => Self::Redirect,
            HealthError::StatusNotOk(_) => Self::StatusNotOk,
            HealthError::NotJson(_) => Self::NotJson,
            HealthError::BadField { .. } => Self::BadField,
        }
    }

    /// An error of this name: what it is about in detail decides nothing.
    const fn error(self) -> HealthError {
        match self {
            Self::Timeout => HealthError::Transport(Transport::Timeout),
            Self::ConnectRefused => HealthError::Transport(Transport::ConnectRefused),
            Self::ConnectFailed => {
                HealthError::Transport(Transport::ConnectFailed(io::ErrorKind::Other))
            }
            Self::Reset => HealthError::Transport(Transport::Reset),
            Self::Closed => HealthError::Transport(Transport::Closed),
            Self::NotHttp => HealthError::Transport(Transport::NotHttp),
            Self::TooLarge => HealthError::Transport(Transport::TooLarge),
            Self::Agent => HealthError::Transport(Transport::Agent("as recorded")),
            Self::NotFound => HealthError::NotFound(404),
            Self::Redirect => HealthError::Redirect(302),
            Self::StatusNotOk => HealthError::StatusNotOk(500),
            Self::NotJson => HealthError::NotJson(NotJson::NotObject),
            Self::BadField => {
                HealthError::BadField { field: Field::Status, fault: Fault::WrongType }
            }
        }
    }
}

impl Who {
    pub(super) fn of(target: &Target) -> Self {
        Self {
            uid: target.id.uid.clone(),
            instance: target.id.instance.clone(),
            name: target.name.clone(),
            ceiling: target.ceiling,
            min_confidence: target.min_confidence,
            polled: target.address.is_some(),
            shared: target.cgroups.shared,
            started_ns: target.started.as_nanos(),
            no_restart: target.no_restart,
            no_evict: target.no_evict,
            pod: target.pod.as_deref().map(|pod| Pod {
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
                uid: pod.uid.clone(),
                container: pod.container.clone(),
                container_id: pod.container_id.clone(),
                owner: pod.owner.as_ref().map(|owner| owner.uid.clone()),
            }),
        }
    }

    /// A target that can be judged, and not be asked or treated: it has no address and no process.
    fn target(self) -> Result<Target, Absurd> {
        // Written so that a NaN is refused.
        if !(0.0..=1.0).contains(&self.min_confidence) {
            return Err(Absurd::Range);
        }
        // Which one decides nothing; that there is one does.
        const SOMEWHERE: SocketAddr =
            SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
        let pod = self.pod.map(|pod| PodRef {
            namespace: pod.namespace,
            name: pod.name,
            uid: pod.uid,
            container: pod.container,
            container_id: pod.container_id,
            owner: pod.owner.map(|uid| OwnerReference { uid, ..OwnerReference::default() }),
            grace: Duration::ZERO,
        });
        Ok(Target {
            id: TargetId { uid: self.uid, instance: self.instance },
            name: self.name,
            ceiling: self.ceiling,
            address: self.polled.then_some(SOMEWHERE),
            host: String::new(),
            health_path: String::new(),
            heal_path: String::new(),
            min_confidence: self.min_confidence,
            cgroups: Cgroups { shared: self.shared, ..Cgroups::default() },
            port: None,
            started: Moment::from_nanos(self.started_ns),
            main: None,
            pod: pod.map(Arc::new),
            no_restart: self.no_restart,
            no_evict: self.no_evict,
        })
    }
}
