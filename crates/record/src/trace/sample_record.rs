//! A sample as a line. Most lines are samples, so names are short and counts are positional.
use std::{io, time::Duration};

use agent_common::{AGES, Counters, Latencies, Throttling};
use paramedic_core::{
    boot_time::BootTime,
    engine::Index,
    health::{Component, GrpcError, Health, HealthError, NotJson, Poll, Says, Transport},
    signal::{
        CgroupReading, HostFacts, KernelReading, Polled, ProcessState, Requests, Sample, Trigger,
    },
};
use serde::{Deserialize, Serialize};

use super::line::{Absurd, moment, nanos};

/// Maximum of a count, so that sums of a few do not overflow. Some are nanoseconds of CPU time: 36
/// years.
const MOST: u64 = 1 << 60;
/// Maximum duration of a poll; the agent gives up long before.
const LONGEST_POLL: u64 = 3_600_000_000_000;

/// One sample. All values are cumulative, as read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleRecord {
    /// Index of the target.
    i: Index,
    /// Time at which the counters were read, in nanoseconds since boot.
    t: u64,
    /// What triggered the sample.
    w: Cause,
    /// The kernel's counts: responses by class, requests, upstream 5xx, resets received and sent,
    /// retransmits, OOM kills; throttled periods, nanoseconds, length of a period; responses by
    /// class to the agent's own requests, connections that it gave up; since version 3 also 502,
    /// 503 and 504, requests and responses as a client, failed connects, the 502, 503 and 504 to the
    /// agent's own requests, responses of unknown status, faults in trailers, those
    /// to the agent's own requests, and since version 4 the 401, 403 and 407 that it received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    k: Option<Counts>,
    /// The poll.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    p: Option<Asked>,
    /// Whether it was not polled this time, so that the last poll stands.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    o: bool,
    /// CPU nanoseconds, memory bytes, throttled periods and nanoseconds, length of a period, OOM
    /// kills.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    u: Option<[Option<u64>; 6]>,
    /// Limits: cores, bytes.
    l: (Option<f32>, Option<u64>),
    /// The state of the main process, if it was read and is not the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    s: Option<State>,
    /// Requests that get no response, if there are any: the seconds after which one is overdue,
    /// those that are, those dropped, those given up by their age, and the agent's own among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    c: Option<Left>,
    /// Clients that hold a connection without ending their request, if there are any.
    #[serde(default, skip_serializing_if = "no_clients")]
    r: u32,
    /// Why a restart would not help, according to the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    h: Option<Box<str>>,
    /// Whether its tasks wait for a CPU, if they do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    n: bool,
    /// Whether clients that do not read hold its threads, if they do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    b: bool,
    /// The share of the last 10 s in which one of its tasks waited for a CPU, if it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    e: Option<f32>,
    /// How long its responses took, if that was read: the groups that have any, with their counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    d: Option<Vec<(u8, u64)>>,
}

/// Counts by position; older versions have fewer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Counts {
    Now([u64; 29]),
    WithTrailers([u64; 28]),
    Followed([u64; 27]),
    Third([u64; 25]),
    Before([u64; 20]),
}

impl Counts {
    fn all(&self) -> &[u64] {
        match self {
            Self::Now(counts) => counts,
            Self::WithTrailers(counts) => counts,
            Self::Followed(counts) => counts,
            Self::Third(counts) => counts,
            Self::Before(counts) => counts,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Cause {
    Tick,
    Wakeup,
    Confirm,
    Verify,
}

/// As in `/proc/PID/stat`; the usual state is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    #[serde(rename = "T")]
    Stopped,
    #[serde(rename = "D")]
    Uninterruptible,
}

/// The fields of [`Requests`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Left(Option<u8>, u32, u64, [u64; AGES], u64);

impl Left {
    fn of(requests: &Requests) -> Self {
        let Requests { overdue_after, overdue, dropped, given_up, own, holding: _ } = *requests;
        Self(overdue_after, overdue, dropped, given_up, own)
    }

    fn requests(self, holding: u32) -> Result<Requests, Absurd> {
        let Self(overdue_after, overdue, dropped, given_up, own) = self;
        if given_up.iter().chain([&dropped, &own]).any(|count| *count > MOST) {
            return Err(Absurd::Count);
        }
        Ok(Requests { overdue_after, overdue, dropped, given_up, own, holding })
    }
}

/// A poll of `/health`: nanoseconds, responses to it, and the reading or the name of the error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Asked(u64, Drawn, Told);

/// The responses to a poll by class, and how many of them are faults in trailers, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Drawn {
    Heads([u32; 5]),
    WithLate([u32; 5], u32),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Told {
    Trouble(Trouble),
    /// Percent of CPU and memory, errors, seconds up, and the app's own verdict.
    Said(Option<f32>, Option<f32>, Option<u32>, Option<f64>, Verdict),
    /// The same before version 3, without the verdict.
    Health(Option<f32>, Option<f32>, Option<u32>, Option<f64>),
}

/// The app's verdict on itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Well,
    Warns,
    Ill,
    VaguelyIll,
    Blames(String),
    NotNow,
}

/// The errors of a poll, by their names in the metrics.
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
    /// Before version 3: one absurd field made the whole response unreadable.
    BadField,
    /// Any other unreadable response.
    Unreadable,
}

impl SampleRecord {
    pub(super) const fn index(&self) -> Index {
        self.i
    }

    pub(super) fn of(index: Index, sample: &Sample) -> Self {
        let usage = &sample.usage;
        let used = [
            usage.cpu_usage_ns,
            usage.memory_bytes,
            usage.throttled_periods,
            usage.throttled_ns,
            usage.period_ns,
            usage.oom_kills,
        ];
        let requests = sample.kernel.as_ref().and_then(|kernel| kernel.requests.as_ref());
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
            p: sample.poll.now().map(Asked::of),
            o: matches!(sample.poll, Polled::LastStands),
            u: used.iter().any(Option::is_some).then_some(used),
            l: (usage.cpu_limit, usage.memory_limit_bytes),
            s: match sample.process {
                Some(ProcessState::Stopped) => Some(State::Stopped),
                Some(ProcessState::Uninterruptible) => Some(State::Uninterruptible),
                Some(ProcessState::Active) | None => None,
            },
            c: requests.map(Left::of),
            r: requests.map_or(0, |requests| requests.holding),
            h: sample.host.as_ref().and_then(|host| host.futile.clone()),
            n: sample.host.as_ref().is_some_and(|host| host.starved),
            b: sample.host.as_ref().is_some_and(|host| host.held),
            e: usage.cpu_pressure,
            d: sample.kernel.as_ref().and_then(|kernel| kernel.latencies.as_ref()).map(groups),
        }
    }

    pub(super) fn sample(self) -> Result<Sample, Absurd> {
        let used = self.u.unwrap_or_default();
        let counts = self.k.as_ref().map(Counts::all).unwrap_or_default();
        let mut numbers = counts.iter().chain(used.iter().flatten());
        if numbers.any(|count| *count > MOST) {
            return Err(Absurd::Count);
        }
        if self.l.0.is_some_and(|cores| !(0.0..=1e6).contains(&cores)) {
            return Err(Absurd::Range);
        }
        let [cpu_usage_ns, memory_bytes, throttled_periods, throttled_ns, period_ns, oom_kills] =
            used;
        let (cpu_limit, memory_limit_bytes) = self.l;
        if self.e.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
            return Err(Absurd::Range);
        }
        let latencies = self.d.as_deref().map(latencies).transpose()?;
        let at = moment(self.t)?;
        Ok(Sample {
            at,
            trigger: match self.w {
                Cause::Tick => Trigger::Tick,
                Cause::Wakeup => Trigger::Wakeup,
                Cause::Confirm => Trigger::Confirm,
                Cause::Verify => Trigger::Verify,
            },
            kernel: self
                .k
                .as_ref()
                .map(|counts| {
                    let requests = self.c.map(|left| left.requests(self.r)).transpose()?;
                    Ok(KernelReading { requests, latencies, ..reading(counts.all()) })
                })
                .transpose()?,
            poll: match self.p {
                Some(_) if self.o => return Err(Absurd::Poll),
                Some(asked) => Polled::Now(asked.poll(at)?),
                None if self.o => Polled::LastStands,
                None => Polled::Never,
            },
            usage: CgroupReading {
                cpu_usage_ns,
                cpu_limit,
                memory_bytes,
                memory_limit_bytes,
                throttled_periods,
                throttled_ns,
                period_ns,
                oom_kills,
                cpu_pressure: self.e,
            },
            process: Some(match self.s {
                Some(State::Stopped) => ProcessState::Stopped,
                Some(State::Uninterruptible) => ProcessState::Uninterruptible,
                None => ProcessState::Active,
            }),
            host: (self.h.is_some() || self.n || self.b).then(|| {
                let (futile, starved, held) = (self.h, self.n, self.b);
                Box::new(HostFacts { futile, starved, held, ..HostFacts::default() })
            }),
        })
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn no_clients(clients: &u32) -> bool {
    *clients == 0
}

/// The groups of a histogram that have any responses.
fn groups(latencies: &Latencies) -> Vec<(u8, u64)> {
    let groups = (0_u8..).zip(latencies.buckets);
    groups.filter(|(_, count)| *count > 0).collect()
}

fn latencies(groups: &[(u8, u64)]) -> Result<Latencies, Absurd> {
    let mut latencies = Latencies::default();
    for (group, count) in groups {
        let of_group = latencies.buckets.get_mut(usize::from(*group)).ok_or(Absurd::Range)?;
        *of_group = Some(*count).filter(|count| *count <= MOST).ok_or(Absurd::Count)?;
    }
    Ok(latencies)
}

/// The counts in the order of [`SampleRecord::k`].
fn counts(kernel: &KernelReading) -> Counts {
    let KernelReading { counters: c, throttling: t, own_responses, own_resets, .. } = kernel;
    let mut counts = [0; 29];
    counts[..5].copy_from_slice(&c.responses);
    counts[5..8].copy_from_slice(&[c.requests, c.upstream_5xx, c.resets_received]);
    counts[8..11].copy_from_slice(&[c.resets_sent, c.retransmits, c.oom_kills]);
    counts[11..14].copy_from_slice(&[t.periods, t.nanoseconds, t.period_ns]);
    counts[14..19].copy_from_slice(own_responses);
    counts[19] = *own_resets;
    counts[20..23].copy_from_slice(&[c.unavailable, c.upstream_requests, c.upstream_responses]);
    counts[23..25].copy_from_slice(&[c.connects_failed, kernel.own_unavailable]);
    counts[25..28].copy_from_slice(&[c.unknown, c.in_trailers, kernel.own_in_trailers]);
    counts[28] = c.upstream_denied;
    Counts::Now(counts)
}

/// The counts from that order; counts that an older version lacks are zero.
fn reading(read: &[u64]) -> KernelReading {
    let mut counts = [0; 29];
    for (count, read) in counts.iter_mut().zip(read) {
        *count = *read;
    }
    let five = |from: usize| std::array::from_fn(|i| counts[from + i]);
    KernelReading {
        counters: Counters {
            responses: five(0),
            requests: counts[5],
            upstream_5xx: counts[6],
            resets_received: counts[7],
            resets_sent: counts[8],
            retransmits: counts[9],
            oom_kills: counts[10],
            unavailable: counts[20],
            upstream_requests: counts[21],
            upstream_responses: counts[22],
            upstream_denied: counts[28],
            connects_failed: counts[23],
            unknown: counts[25],
            in_trailers: counts[26],
            // No decision reads the others.
            ..Counters::default()
        },
        throttling: Throttling {
            periods: counts[11],
            nanoseconds: counts[12],
            period_ns: counts[13],
        },
        own_responses: five(14),
        own_resets: counts[19],
        own_unavailable: counts[24],
        own_in_trailers: counts[27],
        latencies: None,
        waiting: None,
        requests: None,
    }
}

impl Asked {
    fn of(poll: &Poll) -> Self {
        let told = match &poll.result {
            Ok(h) => {
                let verdict = if h.is_vague { Verdict::VaguelyIll } else { Verdict::of(&h.says) };
                Told::Said(h.cpu_usage, h.memory_usage, h.error_count, h.uptime, verdict)
            }
            Err(error) => Told::Trouble(Trouble::of(*error)),
        };
        let drawn = match poll.in_trailers {
            0 => Drawn::Heads(poll.responses),
            late => Drawn::WithLate(poll.responses, late),
        };
        Self(nanos(poll.latency), drawn, told)
    }

    fn poll(self, at: BootTime) -> Result<Poll, Absurd> {
        let Self(latency, drawn, told) = self;
        let (responses, in_trailers) = match drawn {
            Drawn::Heads(responses) => (responses, 0),
            Drawn::WithLate(responses, late) => (responses, late),
        };
        if latency > LONGEST_POLL {
            return Err(Absurd::Count);
        }
        let result = match told {
            Told::Trouble(trouble) => Err(trouble.error()),
            Told::Said(cpu, memory, errors, uptime, verdict) => {
                let is_vague = verdict == Verdict::VaguelyIll;
                let health = health((cpu, memory, errors, uptime), verdict.says())?;
                Ok(Health { is_vague, ..health })
            }
            Told::Health(cpu, memory, errors, uptime) => {
                Ok(health((cpu, memory, errors, uptime), Says::Well)?)
            }
        };
        let (latency, path) = (Duration::from_nanos(latency), "/health".into());
        // The poll began before the counters were read, by its duration.
        let at = BootTime::from_nanos(at.as_nanos().saturating_sub(nanos(latency)));
        Ok(Poll { at, latency, responses, unavailable: 0, in_trailers, hung_up: 0, path, result })
    }
}

type Numbers = (Option<f32>, Option<f32>, Option<u32>, Option<f64>);

fn health(numbers: Numbers, says: Says) -> Result<Health, Absurd> {
    let (cpu_usage, memory_usage, error_count, uptime) = numbers;
    let percent = |p: Option<f32>| p.is_none_or(|p| (0.0..=100.0).contains(&p));
    let up = uptime.is_none_or(|s| (0.0..=1e10).contains(&s));
    if !(percent(cpu_usage) && percent(memory_usage) && up) {
        return Err(Absurd::Range);
    }
    Ok(Health { says, cpu_usage, memory_usage, error_count, uptime, ..Health::default() })
}

impl Verdict {
    fn of(says: &Says) -> Self {
        match says {
            Says::Well => Self::Well,
            Says::Warns => Self::Warns,
            Says::Ill => Self::Ill,
            Says::Blames(component) => Self::Blames(component.as_str().to_owned()),
            Says::NotNow => Self::NotNow,
        }
    }

    fn says(self) -> Says {
        match self {
            Self::Well => Says::Well,
            Self::Warns => Says::Warns,
            Self::Ill | Self::VaguelyIll => Says::Ill,
            Self::Blames(component) => Says::Blames(Component::new(&component)),
            Self::NotNow => Says::NotNow,
        }
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
            HealthError::NotFound(_) | HealthError::Grpc(GrpcError::NoService(_)) => Self::NotFound,
            HealthError::Redirect(_) => Self::Redirect,
            HealthError::StatusNotOk(_) => Self::StatusNotOk,
            HealthError::NotJson(_) => Self::NotJson,
            _ => Self::Unreadable,
        }
    }

    /// An error of this name. No decision depends on its details.
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
            Self::StatusNotOk => HealthError::StatusNotOk(400),
            Self::NotJson | Self::BadField | Self::Unreadable => {
                HealthError::NotJson(NotJson::NotObject)
            }
        }
    }
}
