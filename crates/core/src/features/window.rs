//! A sliding window over cumulative counts, which turns samples into rates.
//!
//! Rates are divided by the whole span even while the window is still filling. Just after a start
//! or a remedy that understates them, which is the safe side: one error in the first 100 ms is not
//! ten errors a second. If the window had to reach further back, rates are divided by the longer
//! span.
use std::{collections::VecDeque, time::Duration};

use super::{
    clients::Clients,
    durations::Durations,
    errors::Rise,
    excuse::{Blind, Calls, Excuse},
    load::{self, Load},
    schema::{Feature, FeatureVector},
    service::{Answers, Service},
};
use crate::{
    boot_time::BootTime,
    health::{BUDGET, Health, Heard, Poll, Says},
    signal::{CgroupReading, KernelReading, Polled, Sample, Waiting},
};

/// Span of the window.
pub const SPAN: Duration = Duration::from_secs(10);

/// Samples are at least 100 ms apart, so this many points span at least [`SPAN`]. At rest there are some
/// ten.
const MOST: usize = 128;
const AT_REST: usize = 16;

/// CPU usage and throttling are judged over at least this long. Otherwise a burst, or one throttled
/// period, in the first 100 ms of a window would look permanent.
const LEVEL_MIN: Duration = Duration::from_secs(1);

/// Cumulative counts at one instant, without those of the agent's own polls.
#[derive(Clone, Copy, Debug, Default)]
struct Point {
    at: BootTime,
    responses: u64,
    /// All 5xx, and those among them that were 502, 503 or 504: "a backend fails", or "not now".
    responses_5xx: u64,
    unavailable: u64,
    /// Those of unknown status.
    unknown: u64,
    /// What it did as a client.
    calls: Calls,
    resets: u64,
    retransmits: u64,
    oom_kills: u64,
    throttled_periods: u64,
    /// `None` if it was not read: an old count with a new time would look like a burst.
    cpu_ns: Option<u64>,
}

impl Point {
    /// 5xx responses with a cause of its own.
    const fn own_5xx(&self) -> u64 {
        self.responses_5xx.saturating_sub(self.unavailable)
    }

    /// Responses other than 5xx, as far as their status is known. A head with 200 proves nothing if
    /// the trailers behind it have a fault or an unknown code of gRPC.
    const fn good(&self) -> u64 {
        self.responses.saturating_sub(self.responses_5xx).saturating_sub(self.unknown)
    }
}

/// The recent past of one instance of one target. Its size is bounded, and it grows only for samples in
/// quick succession.
#[derive(Debug)]
pub struct Window {
    /// Oldest first.
    points: VecDeque<Point>,
    /// The last point, kept when the window is refreshed: a value that a sample could not read
    /// stays.
    latest: Point,
    period_ns: u64,
    health: Option<Health>,
    latency: Duration,
    service: Service,
    rise: Rise,
    reported_errors: u32,
    last_error: Option<BootTime>,
    /// The first error of those with less than a window between them.
    first_error: Option<BootTime>,
    last_oom_kill: Option<BootTime>,
    /// The controller's count at its first read, beyond what the kernel side had seen by then:
    /// those kills are old, and the file may be read late.
    old_oom_kills: Option<u64>,
    /// The CPU limit, in cores; 0 if unknown.
    cpu_cores: f32,
    /// Memory as the cgroup counts it, in percent of the limit.
    memory_percent: f32,
    /// The share of the time in which a task waited for a CPU; 0 if unknown.
    cpu_pressure: f32,
    /// Whether the last sample read the kernel's counts of traffic, and the kernel side ever
    /// understood any: it counts nothing of TLS and HTTP/2, which must not be taken for no load.
    sees_traffic: bool,
    understood: bool,
    blind: Option<Blind>,
    /// Whether the last sample read how often the quota throttled the target.
    sees_throttling: bool,
    durations: Durations,
    waiting: Option<Waiting>,
    clients: Clients,
    /// Clients that held a connection without ending their request at the last sample.
    holding: u32,
}

/// Present facts that justify a hard remedy, as opposed to an old cumulative count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Causes {
    /// An error within the last 10 s: a 5xx that the kernel saw, or a count that rose.
    pub recent_error: bool,
    /// It fails: the last poll of `/health` got no response, or the app reported that it is sick, or
    /// clients get no responses.
    pub failed_poll: bool,
    /// Duration for which polls have failed in a row, or clients got no responses.
    pub failing_for: Duration,
    /// Clients get no responses: see [`Clients`].
    pub clients_left: bool,
    /// Errors are so many that they are a fault by themselves, whatever the polls show.
    pub many_errors: bool,
    /// Errors are twenty at most.
    pub few_errors: bool,
    /// For how long there have been errors.
    pub erring_for: Duration,
    /// The OOM killer acted within the last 10 s.
    pub oom_kill: bool,
    /// CPU or memory is at 80 % of its limit or above.
    pub level: bool,
    /// Polls fail or are answered late, by an app that once was prompt.
    pub slow_polls: bool,
    /// Errors were counted within the window or the last minute.
    pub errors: bool,
}

impl Causes {
    /// Whether something happened, as opposed to a constant level.
    #[must_use]
    pub const fn event(self) -> bool {
        self.recent_error || self.failed_poll || self.oom_kill
    }

    /// Whether it may be a pause: only polls fail, and not yet for longer than `patience`.
    #[must_use]
    pub fn is_pause(self, patience: Duration) -> bool {
        self.only_failing() && self.failing_for < patience
    }

    /// Whether it may be a moment: a few errors, and not yet for long. A worker that fails may be
    /// replaced by its master, and to wait costs as few errors more.
    #[must_use]
    pub fn is_moment(&self) -> bool {
        let errors = self.recent_error && self.few_errors && self.erring_for < ERRORS_LAST;
        errors && !self.oom_kill && !self.level
    }

    /// Whether a slow health check is the only symptom.
    #[must_use]
    pub const fn only_slow(self) -> bool {
        self.slow_polls && !self.event() && !self.level && !self.errors
    }

    /// Whether failing polls are the only symptom.
    #[must_use]
    pub const fn only_failing(self) -> bool {
        self.failed_poll && !self.many_errors && !self.oom_kill
    }
}

/// CPU or memory at or above this, in percent of the limit, is a cause by itself.
const LEVEL: f32 = 80.0;
/// This many own 5xx within the window, with this share of all responses, or this many errors
/// reported within a minute, are a fault by themselves.
const MANY: u64 = 5;
const MANY_SHARE: f32 = 0.5;
/// So many errors within a window are few, whatever their share.
const FEW: f32 = 20.0;
/// They must go on for this long before a hard remedy.
pub const ERRORS_LAST: Duration = Duration::from_secs(5);
/// A request without a response for this long is waiting.
const WAITS: Duration = Duration::from_secs(3);
/// The agent concludes that the kernel does not see the responses after this many answered polls.
const KNOWN_ANSWERS: u64 = 3;

impl Default for Window {
    fn default() -> Self {
        Self::new()
    }
}

impl Window {
    /// An empty window.
    #[must_use]
    pub fn new() -> Self {
        Self {
            points: VecDeque::with_capacity(AT_REST),
            latest: Point::default(),
            period_ns: 0,
            health: None,
            latency: Duration::ZERO,
            service: Service::default(),
            rise: Rise::default(),
            reported_errors: 0,
            last_error: None,
            first_error: None,
            last_oom_kill: None,
            old_oom_kills: None,
            cpu_cores: 0.0,
            memory_percent: 0.0,
            cpu_pressure: 0.0,
            sees_traffic: false,
            understood: false,
            blind: None,
            sees_throttling: false,
            durations: Durations::default(),
            waiting: None,
            clients: Clients::default(),
            holding: 0,
        }
    }

    /// Clears the past: after a remedy. The next sample is the base for later ones, so that events
    /// before the remedy took effect never count against it.
    pub fn refresh(&mut self) {
        self.points.clear();
        self.service.forgive();
        self.clients.restart();
        self.rise.restart(self.latest.at);
        self.last_error = None;
        self.first_error = None;
        self.last_oom_kill = None;
    }

    /// The same, with the last sample as the base.
    pub fn refresh_from_here(&mut self) {
        self.refresh();
        self.points.push_back(self.latest);
    }

    /// Takes one sample.
    pub fn push(&mut self, sample: &Sample) {
        if sample.at.since(self.latest.at) >= 2 * SPAN {
            // The node slept, or the agent got no CPU: earlier points say nothing about now.
            self.points.clear();
        }
        let point = self.point(sample, self.latest);
        if let Some(previous) = self.last().copied() {
            if point.own_5xx() > previous.own_5xx() {
                self.erred(sample.at);
            }
            if point.oom_kills > previous.oom_kills {
                self.last_oom_kill = Some(sample.at);
            }
        }
        self.service.take_process(sample.process, sample.at);
        match &sample.poll {
            Polled::Now(poll) => self.take_poll(poll, sample.at),
            Polled::LastStands => {}
            Polled::Never => {
                self.health = None;
                self.service.not_polled(sample.at);
            }
        }
        self.service.take_answers(&self.answers(&point, sample));
        if let Some(latencies) = sample.kernel.as_ref().and_then(|kernel| kernel.latencies) {
            self.durations.push(sample.at, latencies);
        }
        self.waiting = sample.kernel.as_ref().and_then(|kernel| kernel.waiting);
        let requests = sample.kernel.as_ref().and_then(|kernel| kernel.requests);
        self.holding = requests.map_or(0, |requests| requests.holding);
        self.cpu_cores = sample.usage.cpu_limit.unwrap_or(0.0);
        self.memory_percent = memory_percent(&sample.usage);
        self.cpu_pressure = sample.usage.cpu_pressure.unwrap_or(0.0);
        // Responses to the agent's own polls count as evidence, and so do those to the kubelet's
        // probes.
        let counted = |kernel: &KernelReading| kernel.counters.responses.iter().sum::<u64>();
        self.understood |= sample.kernel.as_ref().is_some_and(|kernel| counted(kernel) > 0);
        self.blind = sample.kernel.as_ref().and_then(|kernel| blind(kernel, counted(kernel)));
        self.sees_traffic = sample.kernel.is_some() && self.understood && self.blind.is_none();
        if let Some(mut requests) = requests
            && self.sees_traffic
        {
            // The agent's own poll may be among them.
            let own = u32::from(self.service.heard() == Some(Heard::Silent));
            requests.overdue = requests.overdue.saturating_sub(own);
            self.clients.push(sample.at, point.responses, &requests);
        }
        // A target without its own cpu.stat has no quota either.
        self.sees_throttling = sample.usage.throttled_periods.is_some() || sample.kernel.is_some();
        if self.points.len() == MOST {
            self.points.pop_front();
        }
        self.latest = point;
        self.points.push_back(point);
        // Keep exactly one point older than the span: the base of all differences.
        while self.points.len() > 2 && sample.at.since(self.points[1].at) >= SPAN {
            self.points.pop_front();
        }
    }

    fn take_poll(&mut self, poll: &Poll, at: BootTime) {
        self.latency = poll.latency;
        self.health = poll.result.as_ref().ok().cloned();
        self.service.take_poll(poll);
        if let Some(errors) = self.health.as_ref().and_then(|health| health.error_count) {
            if self.rise.push(at, errors) {
                self.erred(at);
            }
            self.reported_errors = errors;
        }
    }

    fn erred(&mut self, at: BootTime) {
        let goes_on = self.last_error.is_some_and(|last| at.since(last) < SPAN);
        self.first_error = self.first_error.filter(|_| goes_on).or(Some(at));
        self.last_error = Some(at);
    }

    /// Its responses since the previous sample.
    fn answers(&self, point: &Point, sample: &Sample) -> Answers {
        let new = |count: fn(&Point) -> u64| count(point).saturating_sub(count(&self.latest));
        Answers {
            at: sample.at,
            to_agent: sample.poll.now().is_some_and(Poll::is_served),
            says_well: self.service.speaks_well() && !matches!(sample.poll, Polled::LastStands),
            good: new(Point::good),
            errors: new(Point::own_5xx),
            recent_error: self.last_error.is_some_and(|at| sample.at.since(at) < SPAN),
            waiting: point.calls.unanswered(),
        }
    }

    /// The sample's counts. Values that it could not read stay unchanged, so that a gap looks like
    /// silence and never like a jump.
    fn point(&mut self, sample: &Sample, previous: Point) -> Point {
        let mut point = Point { at: sample.at, cpu_ns: sample.usage.cpu_usage_ns, ..previous };
        if let Some(kernel) = &sample.kernel {
            let counters = &kernel.counters;
            let own = &kernel.own_responses;
            // Without the interim 1xx, which are no answers.
            let finals = counters.responses.iter().zip(own).skip(1);
            let finals: u64 = finals.map(|(all, own)| all.saturating_sub(*own)).sum();
            // Trailers of gRPC count beside the head of the same response.
            let in_trailers = counters.in_trailers.saturating_sub(kernel.own_in_trailers);
            point.responses = (finals + counters.unknown).saturating_sub(in_trailers);
            point.unknown = counters.unknown;
            point.responses_5xx = counters.responses[4].saturating_sub(own[4]);
            point.unavailable = counters.unavailable.saturating_sub(kernel.own_unavailable);
            point.calls = Calls::of(counters);
            point.resets =
                (counters.resets_received + counters.resets_sent).saturating_sub(kernel.own_resets);
            point.retransmits = counters.retransmits;
            point.oom_kills = point.oom_kills.max(counters.oom_kills);
            if kernel.throttling.period_ns > 0 {
                self.period_ns = kernel.throttling.period_ns;
                point.throttled_periods = kernel.throttling.periods;
            }
        }
        let usage = &sample.usage;
        // cpu.stat is the same counter as the kernel side's snapshot and never behind it.
        if let Some(periods) = usage.throttled_periods {
            point.throttled_periods = point.throttled_periods.max(periods);
            self.period_ns = usage.period_ns.unwrap_or(self.period_ns);
        }
        if let Some(kills) = usage.oom_kills {
            let unseen = kills.saturating_sub(point.oom_kills);
            let old = *self.old_oom_kills.get_or_insert(unseen);
            point.oom_kills = point.oom_kills.max(kills.saturating_sub(old));
        }
        point
    }

    /// The row that the model sees. `hour` is the hour of the day, UTC; `started` is when the
    /// instance started.
    #[must_use]
    pub fn features(&self, hour: u8, started: BootTime) -> FeatureVector {
        let mut row = FeatureVector::default();
        let (Some(base), Some(last)) = (self.base(), self.last()) else {
            return row;
        };
        let span = last.at.since(base.at).max(SPAN).as_secs_f32();
        let per_second = |count: u64| count as f32 / span;
        let health = self.health.as_ref();
        let errors = last.own_5xx().saturating_sub(base.own_5xx());
        let responses = last.responses.saturating_sub(base.responses);
        let reported = health.and_then(|h| h.error_count).map(|_| self.rise.within_a_minute());

        row[Feature::CpuUsage] =
            health.and_then(|h| h.cpu_usage).unwrap_or_else(|| self.cpu_percent());
        row[Feature::MemoryUsage] =
            health.and_then(|h| h.memory_usage).unwrap_or(self.memory_percent);
        row[Feature::ErrorCount] =
            reported.map_or_else(|| per_second(errors) * SPAN.as_secs_f32(), |n| n as f32);
        row[Feature::Uptime] =
            health.and_then(|h| h.uptime).unwrap_or_else(|| last.at.since(started).as_secs_f64())
                as f32;
        row[Feature::HourOfDay] = f32::from(hour);
        row[Feature::Http5xxRate] = per_second(errors);
        row[Feature::Http5xxRatio] = share(errors, responses);
        row[Feature::HttpRequestRate] = per_second(responses);
        row[Feature::TcpResetRate] = per_second(last.resets.saturating_sub(base.resets));
        row[Feature::TcpRetransmitRate] =
            per_second(last.retransmits.saturating_sub(base.retransmits));
        row[Feature::CpuThrottledRatio] = self.throttled_ratio(base, last);
        row[Feature::HealthFailures] = self.service.failures_or_late() as f32;
        row[Feature::HealthLatency] = self.latency.as_secs_f32();
        row[Feature::Upstream5xxRate] =
            per_second(last.calls.errors.saturating_sub(base.calls.errors));
        row[Feature::UnansweredRatio] = self.clients.left_share();
        row[Feature::ResponseTime] =
            self.durations.percentile(0.95).unwrap_or_default().as_secs_f32();
        let waiting = self.waiting();
        let answered = last.calls.responses.saturating_sub(base.calls.responses);
        row[Feature::UpstreamWaitingRatio] = share(waiting, waiting.saturating_add(answered));
        row[Feature::UpstreamRefusedRate] =
            per_second(last.calls.refused.saturating_sub(base.calls.refused));
        row[Feature::CpuPressure] = self.cpu_pressure;
        row
    }

    /// The work within the window; `None` if the window is too short.
    #[must_use]
    pub fn load(&self) -> Option<Load> {
        let (base, last) = (self.base()?, self.last()?);
        let window = last.at.since(base.at);
        if window < load::MIN {
            return None;
        }
        let responses = last.responses.saturating_sub(base.responses);
        let errors = last.responses_5xx.saturating_sub(base.responses_5xx);
        Some(Load {
            at: last.at,
            window,
            responses_per_second: self
                .sees_traffic
                .then(|| responses as f32 / window.as_secs_f32()),
            ratio_5xx: self.sees_traffic.then(|| share(errors, responses).clamp(0.0, 1.0)),
            throttled_ratio: self.sees_throttling.then(|| self.throttled_since(base, last)),
            p95_seconds: self.sees_traffic.then(|| self.p95(last.at).as_secs_f32()),
            in_flight: self
                .waiting
                .filter(|_| self.sees_traffic)
                .map(|waiting| waiting.requests as f32),
        })
    }

    /// The time that nearly all responses took, else that the oldest request has waited.
    fn p95(&self, now: BootTime) -> Duration {
        let oldest = || self.waiting.and_then(|waiting| waiting.oldest);
        self.durations
            .percentile(0.95)
            .or_else(|| oldest().map(|oldest| now.since(oldest)))
            .unwrap_or_default()
    }

    /// Whether the instance serves, according to its polls and its responses to others.
    #[must_use]
    pub const fn service(&self) -> &Service {
        &self.service
    }

    /// The present facts that would justify a hard remedy.
    #[must_use]
    pub fn causes(&self, row: &FeatureVector) -> Causes {
        let Some(now) = self.last().map(|p| p.at) else { return Causes::default() };
        let recent = |at: Option<BootTime>| at.is_some_and(|at| now.since(at) < SPAN);
        let recent_error = recent(self.last_error);
        let (responses, errors) = self.responses();
        let many = errors >= MANY && share(errors, responses) >= MANY_SHARE;
        Causes {
            recent_error,
            failed_poll: self.service.failing_since().is_some()
                || self.clients.left_since().is_some(),
            failing_for: self.failing_for(),
            clients_left: self.clients.left_since().is_some(),
            few_errors: row[Feature::ErrorCount] <= FEW,
            erring_for: self.first_error.map_or(Duration::ZERO, |first| now.since(first)),
            many_errors: recent_error && (many || row[Feature::ErrorCount] > MANY as f32),
            oom_kill: recent(self.last_oom_kill),
            level: row[Feature::CpuUsage] >= LEVEL || row[Feature::MemoryUsage] >= LEVEL,
            slow_polls: self.service.failures_or_late() > 0,
            errors: row[Feature::ErrorCount] > 0.0,
        }
    }

    /// Duration for which polls have failed in a row, or clients were left, as of the last sample.
    fn failing_for(&self) -> Duration {
        let since = [self.service.failing_since(), self.clients.left_since()];
        match (since.into_iter().flatten().min(), self.last()) {
            (Some(since), Some(last)) => last.at.since(since),
            _ => Duration::ZERO,
        }
    }

    /// Whether its clients get responses.
    #[must_use]
    pub const fn clients(&self) -> &Clients {
        &self.clients
    }

    /// The excuse, if something shows that the cause is outside the target.
    #[must_use]
    pub fn excuse(&self) -> Option<Excuse> {
        let (base, last) = (self.base()?, self.last()?);
        match self.health.as_ref().map(|health| &health.says) {
            Some(Says::NotNow) => return Some(Excuse::NotNow),
            Some(Says::Blames(component)) => return Some(Excuse::Blames(component.clone())),
            _ => {}
        }
        let vague = self.health.as_ref().is_some_and(|health| health.is_vague);
        let errors = last.own_5xx().saturating_sub(base.own_5xx());
        let waiting = self.waiting().saturating_sub(self.service.waiting_when_well());
        last.calls
            .since(&base.calls)
            .excuse(errors, waiting)
            .or_else(|| Excuse::held(self.holding))
            .or_else(|| self.serves())
            .or(vague.then_some(Excuse::Vague))
    }

    /// Requests that have waited for a response for some seconds. Requests just sent are normal.
    fn waiting(&self) -> u64 {
        let Some(last) = self.last() else { return 0 };
        let recent = self.points.iter().rev();
        let recent = recent.take_while(|point| last.at.since(point.at) <= WAITS);
        recent.map(|point| point.calls.unanswered()).min().unwrap_or(0)
    }

    /// Whether other clients get good responses while polls fail: the service itself does not fail.
    fn serves(&self) -> Option<Excuse> {
        if self.clients.left_since().is_some() {
            // Some get good responses, and others get none.
            return None;
        }
        let (since, last) = (self.service.failing_since()?, self.last()?);
        let from = self.points.iter().find(|point| point.at >= since)?;
        let good = last.good().saturating_sub(from.good());
        let errors = last.own_5xx().saturating_sub(from.own_5xx());
        Excuse::serves(good, errors)
    }

    /// 502, 503 and 504 responses per second within the window.
    #[must_use]
    pub fn unavailable_rate(&self) -> f32 {
        match (self.base(), self.last()) {
            (Some(base), Some(last)) => {
                let span = last.at.since(base.at).max(SPAN).as_secs_f32();
                last.unavailable.saturating_sub(base.unavailable) as f32 / span
            }
            _ => 0.0,
        }
    }

    /// How long its responses took.
    #[must_use]
    pub const fn durations(&self) -> &Durations {
        &self.durations
    }

    /// Requests to it without a response, if they were read at the last sample.
    #[must_use]
    pub const fn waiting_clients(&self) -> Option<Waiting> {
        self.waiting
    }

    /// Whether no request of a client has waited for longer than [`BUDGET`]. Also true if there are no
    /// requests, or if they were not read.
    #[must_use]
    pub fn answers_clients(&self) -> bool {
        let oldest = self.waiting.and_then(|waiting| waiting.oldest);
        let waits = oldest.zip(self.last()).map(|(oldest, last)| last.at.since(oldest));
        waits.is_none_or(|waits| waits < BUDGET)
    }

    /// For how long the oldest request to it has waited, if it has sent no response to anyone since.
    #[must_use]
    pub fn silent_to_clients(&self) -> Option<Duration> {
        let (oldest, last) = (self.waiting?.oldest?, self.last()?);
        let before = self.points.iter().rfind(|point| point.at <= oldest)?;
        let is_silent = last.responses == before.responses;
        is_silent.then(|| last.at.since(oldest))
    }

    /// Why the kernel does not see this target's traffic, if the agent's own polls prove that it
    /// does not.
    #[must_use]
    pub const fn blind(&self) -> Option<Blind> {
        self.blind
    }

    /// Whether the kernel sees this target's HTTP; if not, its columns are missing, not zero.
    #[must_use]
    pub const fn sees_traffic(&self) -> bool {
        self.sees_traffic
    }

    /// Responses and own 5xx responses since the window was last refreshed or since the span began.
    #[must_use]
    pub fn responses(&self) -> (u64, u64) {
        match (self.base(), self.last()) {
            (Some(base), Some(last)) => (
                last.responses.saturating_sub(base.responses),
                last.own_5xx().saturating_sub(base.own_5xx()),
            ),
            _ => (0, 0),
        }
    }

    /// Responses other than 5xx in the same time.
    #[must_use]
    pub fn good_responses(&self) -> u64 {
        match (self.base(), self.last()) {
            (Some(base), Some(last)) => last.good().saturating_sub(base.good()),
            _ => 0,
        }
    }

    /// All known errors: the count that `/health` reports, and the kernel's. For comparing two
    /// instants.
    #[must_use]
    pub fn total_errors(&self) -> (u32, u64) {
        (self.reported_errors, self.last().map_or(0, Point::own_5xx))
    }

    /// CPU usage since the first point of the window that knows it, in percent of the limit.
    fn cpu_percent(&self) -> f32 {
        let mut known = self.points.iter().filter_map(|p| Some((p.at, p.cpu_ns?)));
        let (Some((from, before)), Some((to, now))) = (known.next(), known.next_back()) else {
            return 0.0;
        };
        // Two samples 100 ms apart would make a short burst look like a level.
        let elapsed = to.since(from).max(LEVEL_MIN).as_nanos() as f64;
        let capacity = elapsed * f64::from(self.cpu_cores);
        if capacity <= 0.0 {
            return 0.0;
        }
        ((now.saturating_sub(before) as f64 / capacity * 100.0) as f32).clamp(0.0, 100.0)
    }

    /// CPU used, in cores, over the window, but over a second at least; `None` if it was not read
    /// twice.
    #[must_use]
    pub fn cpu_used(&self) -> Option<f32> {
        let mut known = self.points.iter().filter_map(|p| Some((p.at, p.cpu_ns?)));
        let ((from, before), (to, now)) = (known.next()?, known.next_back()?);
        let elapsed = to.since(from).max(LEVEL_MIN).as_nanos() as f64;
        Some((now.saturating_sub(before) as f64 / elapsed) as f32)
    }

    /// Whether the last sample read how often the quota throttled the target.
    #[must_use]
    pub const fn sees_throttling(&self) -> bool {
        self.sees_throttling
    }

    /// Over the whole window or over its last second, whichever is more. Throttling excuses a high
    /// CPU level, and a level shows at once: averaged over ten quiet seconds the excuse would come
    /// too late.
    fn throttled_ratio(&self, base: &Point, last: &Point) -> f32 {
        let recent = self.points.iter().rev().find(|point| last.at.since(point.at) >= LEVEL_MIN);
        let since = |from| self.throttled_since(from, last);
        since(base).max(recent.map_or(0.0, since))
    }

    fn throttled_since(&self, from: &Point, last: &Point) -> f32 {
        let elapsed = last.at.since(from.at).max(LEVEL_MIN).as_nanos() as f64;
        let throttled = last.throttled_periods.saturating_sub(from.throttled_periods) as f64;
        ((throttled * self.period_ns as f64 / elapsed) as f32).clamp(0.0, 1.0)
    }

    fn base(&self) -> Option<&Point> {
        self.points.front()
    }

    fn last(&self) -> Option<&Point> {
        self.points.back()
    }
}

/// The agent knows how many of its own polls were answered. If the kernel did not count these
/// responses, it does not see this target's responses.
fn blind(kernel: &KernelReading, counted: u64) -> Option<Blind> {
    let answered: u64 = kernel.own_responses.iter().sum();
    (answered >= KNOWN_ANSWERS && counted < answered / 2).then_some(Blind::NotCounted)
}

/// The ratio of two counts; 0 if the second is 0.
fn share(part: u64, whole: u64) -> f32 {
    if whole == 0 { 0.0 } else { part as f32 / whole as f32 }
}

/// Memory in percent of the limit; 0 if either is unknown.
fn memory_percent(usage: &CgroupReading) -> f32 {
    match (usage.memory_bytes, usage.memory_limit_bytes) {
        (Some(used), Some(limit)) if limit > 0 => {
            ((used as f64 / limit as f64 * 100.0) as f32).clamp(0.0, 100.0)
        }
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests;
