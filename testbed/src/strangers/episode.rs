//! One episode: a service, its fault, and the right action.
use super::{
    ask::Given,
    service::Service,
    step::Step,
    truth::{Seen, Truth},
    verdict::Did,
};

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Episode {
    pub(super) service: &'static Service,
    pub(super) fault: &'static str,
    /// The state of the app at its start.
    pub(super) always: Option<&'static str>,
    /// The steps of the fault, by seconds after the healthy phase.
    pub(super) steps: &'static [(u64, Step)],
    /// The right action.
    pub(super) right: &'static [Did],
    /// The effect that its clients must see from then on.
    pub(super) truth: Option<Truth>,
    /// What `/health` must answer from then on.
    pub(super) health: Option<Given>,
    /// How many seconds the agent has, from the fault on.
    pub(super) seconds: u64,
    /// Options of the agent.
    pub(super) arguments: &'static [&'static str],
    /// Part of `--quick`.
    pub(super) quick: bool,
    /// Any verdict but right fails the run.
    pub(super) required: bool,
    /// Must be played alone.
    pub(super) alone: bool,
    /// Its effect depends on the load, which no seed changes.
    pub(super) needs_its_load: bool,
    /// The smallest share of the requests that the fault strikes, if its intensity is that share.
    pub(super) least_share: Option<f64>,
    /// The service may end by itself.
    pub(super) ends: bool,
    /// Its main process only holds the port for another process, and must not end.
    pub(super) holds: bool,
}

/// Long enough for the kernel's counters and `/health` to show a fault.
const SECONDS: u64 = 25;

const NOTHING: &[Did] = &[Did::Nothing];

impl Episode {
    /// A healthy service, which needs no remedy.
    pub(super) const fn healthy(service: &'static Service) -> Self {
        Self::nothing(service, "healthy", &[]).served().required()
    }

    /// A fault that needs no remedy.
    pub(super) const fn nothing(
        service: &'static Service,
        fault: &'static str,
        steps: &'static [(u64, Step)],
    ) -> Self {
        Self {
            service,
            fault,
            always: None,
            steps,
            right: NOTHING,
            truth: None,
            health: None,
            seconds: SECONDS,
            arguments: &[],
            quick: false,
            required: false,
            alone: false,
            needs_its_load: false,
            least_share: None,
            ends: false,
            holds: false,
        }
    }

    /// A fault that a restart ends.
    pub(super) const fn restart(
        service: &'static Service,
        fault: &'static str,
        steps: &'static [(u64, Step)],
    ) -> Self {
        // The longest wait: silence of 10 s, then as much evidence again.
        Self { right: &[Did::Restart], ..Self::nothing(service, fault, steps) }.lasting(40)
    }

    /// A fault that the soft remedy of its owner ends.
    pub(super) const fn soft(
        service: &'static Service,
        fault: &'static str,
        steps: &'static [(u64, Step)],
    ) -> Self {
        Self { right: &[Did::Soft], ..Self::nothing(service, fault, steps) }
    }

    /// A soft remedy counts as right too.
    pub(super) const fn or_soft(self) -> Self {
        Self { right: &[Did::Nothing, Did::Soft], ..self }
    }

    pub(super) const fn always(self, what: &'static str) -> Self {
        Self { always: Some(what), ..self }
    }

    /// At least this percentage of the requests has this result.
    pub(super) const fn sees(self, seen: Seen, least: f64) -> Self {
        Self { truth: Some(Truth::of(seen, least)), ..self }
    }

    pub(super) const fn sees_between(self, seen: Seen, least: f64, most: f64) -> Self {
        Self { truth: Some(Truth::between(seen, least, most)), ..self }
    }

    /// All clients are served as before.
    pub(super) const fn served(self) -> Self {
        self.sees(Seen::Well, 97.0)
    }

    /// `/health` answers with this status.
    pub(super) const fn health(self, status: u16) -> Self {
        Self { health: Some(Given::Status(status)), ..self }
    }

    /// `/health` is not answered.
    pub(super) const fn no_health(self) -> Self {
        Self { health: Some(Given::Silence), ..self }
    }

    pub(super) const fn lasting(self, seconds: u64) -> Self {
        Self { seconds, ..self }
    }

    pub(super) const fn with(self, arguments: &'static [&'static str]) -> Self {
        Self { arguments, ..self }
    }

    pub(super) const fn quick(self) -> Self {
        Self { quick: true, ..self }
    }

    pub(super) const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    pub(super) const fn at_its_load(self) -> Self {
        Self { needs_its_load: true, ..self }
    }

    /// By intensity the fault strikes this share of the requests, or more.
    pub(super) const fn striking(self, least: f64) -> Self {
        Self { least_share: Some(least), ..self }
    }

    pub(super) const fn alone(self) -> Self {
        Self { alone: true, ..self }
    }

    /// The main process must stay alive, whatever happens to its children.
    pub(super) const fn holds(self) -> Self {
        Self { right: &[Did::Nothing, Did::Restart], holds: true, ..self }
    }

    pub(super) const fn ends(self) -> Self {
        Self { ends: true, ..self }
    }

    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.service.name, self.fault)
    }
}
