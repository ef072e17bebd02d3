//! What each workload's load was, and what is expected of it.
//!
//! A workload has few kilobytes here whatever its size, and the number of workloads is bounded.
use std::collections::BTreeMap;

use paramedic_api_server::Workload;
use paramedic_forecast::{Load, Minute, Unknown};
use parking_lot::Mutex;

use super::{ca_store::unix_seconds, store::Unmeasured};

/// A workload without any measurement for this long is forgotten.
const FORGOTTEN: u32 = 7 * 24 * 60;

/// The loads of the workloads that have pods with the label.
#[derive(Debug)]
pub(super) struct Forecasts {
    /// Maximum number of workloads.
    most: usize,
    /// How far a forecast looks ahead, in minutes.
    horizon: u32,
    known: Mutex<Known>,
}

/// By namespace and workload.
type Known = BTreeMap<String, BTreeMap<Workload, Learning>>;

/// A load, and the minute that is being measured.
#[derive(Debug, Default)]
struct Learning {
    load: Load,
    minute: Minute,
    sum: f64,
    samples: u32,
}

/// Why a workload has no forecast.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoForecast {
    #[error("forecasts are off; start the metrics API without `--forecasts 0`")]
    Off,
    #[error("{0}")]
    Unmeasured(#[from] Unmeasured),
    #[error(
        "{0} other workloads have forecasts, and that is the maximum; start the metrics API with a \
         larger `--forecasts`"
    )]
    TooMany(usize),
    #[error("{0}")]
    Unknown(#[from] Unknown),
}

impl Forecasts {
    pub(super) fn new(most: usize, horizon: u32) -> Self {
        Self { most, horizon, known: Mutex::default() }
    }

    /// Whether any workload may have a forecast.
    pub(super) const fn are_on(&self) -> bool {
        self.most > 0
    }

    /// Takes what is measured of every workload now. The mean of a minute is learned when the next
    /// one begins.
    pub(super) fn sample<'a>(
        &self,
        now: Minute,
        measured: impl Iterator<Item = (&'a str, &'a Workload, f32)>,
    ) {
        let mut known = self.known.lock();
        let mut count = number(&known);
        for (namespace, workload, rate) in measured {
            let of_namespace = known.get_mut(namespace);
            if let Some(learning) = of_namespace.and_then(|all| all.get_mut(workload)) {
                learning.sample(now, rate);
            } else if count < self.most {
                count += 1;
                let all = known.entry(namespace.to_owned()).or_default();
                all.entry(workload.clone()).or_default().sample(now, rate);
            }
        }
    }

    /// The most requests per second that are expected of a workload.
    pub(super) fn expect(
        &self,
        namespace: &str,
        workload: &Workload,
        measured: Result<f32, Unmeasured>,
        now: Minute,
    ) -> Result<f32, NoForecast> {
        if !self.are_on() {
            return Err(NoForecast::Off);
        }
        let present = measured?;
        let known = self.known.lock();
        match known.get(namespace).and_then(|all| all.get(workload)) {
            Some(learning) => Ok(learning.load.expect(now, self.horizon, present)?),
            None if number(&known) >= self.most => Err(NoForecast::TooMany(self.most)),
            None => Err(Unknown::Learning { measured: 0 }.into()),
        }
    }

    /// Takes a stored load if more was measured for it than for the one that is known.
    pub(super) fn adopt(&self, namespace: &str, workload: &Workload, load: Load, now: Minute) {
        if is_forgotten(&load, now) {
            return;
        }
        let mut known = self.known.lock();
        let has_room = number(&known) < self.most;
        let all = known.get_mut(namespace);
        match all.and_then(|all| all.get_mut(workload)) {
            Some(learning) if learning.load.measured() < load.measured() => learning.load = load,
            None if has_room => {
                let learning = Learning { load, ..Learning::default() };
                known.entry(namespace.to_owned()).or_default().insert(workload.clone(), learning);
            }
            Some(_) | None => {}
        }
    }

    /// The loads of which anything was measured, as far as they are `wanted`.
    pub(super) fn loads<T>(
        &self,
        wanted: impl Fn(&str, &Workload) -> Option<T>,
    ) -> impl Iterator<Item = (T, Load)> {
        let mut found = Vec::new();
        for (namespace, all) in &*self.known.lock() {
            for (workload, Learning { load, .. }) in all {
                if load.measured() > 0
                    && let Some(wanted) = wanted(namespace, workload)
                {
                    found.push((wanted, load.clone()));
                }
            }
        }
        found.into_iter()
    }

    /// Forgets workloads that have not been measured for long.
    pub(super) fn forget(&self, now: Minute) {
        let mut known = self.known.lock();
        for all in known.values_mut() {
            all.retain(|_, Learning { load, minute, .. }| {
                !is_forgotten(load, now) || minute.saturating_add(FORGOTTEN) >= now
            });
        }
        known.retain(|_, all| !all.is_empty());
    }

    /// The number of workloads.
    pub(super) fn count(&self) -> usize {
        number(&self.known.lock())
    }
}

impl Learning {
    fn sample(&mut self, now: Minute, rate: f32) {
        if self.minute != now {
            if self.samples > 0 {
                self.load.observe(self.minute, (self.sum / f64::from(self.samples)) as f32);
            }
            (self.minute, self.sum, self.samples) = (now, 0.0, 0);
        }
        self.sum += f64::from(rate);
        self.samples += 1;
    }
}

fn number(known: &Known) -> usize {
    known.values().map(BTreeMap::len).sum()
}

/// Whether a load is too old to be of use.
fn is_forgotten(load: &Load, now: Minute) -> bool {
    load.last().saturating_add(FORGOTTEN) < now
}

/// The present minute. Replicas and their successors share the wall clock.
pub(super) fn this_minute() -> Minute {
    Minute::try_from(unix_seconds() / 60).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use paramedic_api_server::Kind;

    const NOW: Minute = 30_000_000;

    fn workload(name: &str) -> Workload {
        Workload { kind: Kind::Deployment, name: name.to_owned() }
    }

    fn sample(forecasts: &Forecasts, minute: Minute, name: &str, rate: f32) {
        forecasts.sample(minute, std::iter::once(("default", &workload(name), rate)));
    }

    fn all(forecasts: &Forecasts) -> Vec<(Workload, Load)> {
        forecasts.loads(|_, workload| Some(workload.clone())).collect()
    }

    /// Forecasts of `web` after so many minutes.
    fn after(minutes: u32) -> Forecasts {
        let forecasts = Forecasts::new(2, 3);
        for minute in NOW - minutes..=NOW {
            for around in [8.0, 10.0] {
                sample(&forecasts, minute, "web", around);
            }
        }
        forecasts
    }

    #[test]
    fn a_workload_has_a_forecast_when_its_day_is_known() {
        let expect = |of: &Forecasts, present| of.expect("default", &workload("web"), present, NOW);
        let learned = after(2880);
        let expected = expect(&learned, Ok(1.0)).unwrap();
        assert!((8.9..9.1).contains(&expected), "{expected}, the mean of both samples");
        assert_eq!(expect(&learned, Ok(50.0)), Ok(50.0));
        let learning = Unknown::Learning { measured: 2879 };
        assert_eq!(expect(&after(2879), Ok(1.0)), Err(learning.into()));
        let unmeasured = Unmeasured::NoReadyPod;
        assert_eq!(expect(&learned, Err(unmeasured)), Err(unmeasured.into()));
        let elsewhere = learned.expect("other", &workload("web"), Ok(1.0), NOW);
        assert_eq!(elsewhere, Err(Unknown::Learning { measured: 0 }.into()));
    }

    #[test]
    fn the_number_of_workloads_is_bounded() {
        let forecasts = after(1);
        for name in ["second", "third"] {
            sample(&forecasts, NOW, name, 1.0);
        }
        assert_eq!(forecasts.count(), 2);
        let third = forecasts.expect("default", &workload("third"), Ok(1.0), NOW);
        assert_eq!(third, Err(NoForecast::TooMany(2)));
        forecasts.adopt("default", &workload("third"), Load::default(), 0);
        assert_eq!(forecasts.count(), 2);
        let off = Forecasts::new(0, 3);
        sample(&off, NOW, "web", 1.0);
        assert_eq!(off.count(), 0);
        let none = off.expect("default", &workload("web"), Ok(1.0), NOW);
        assert_eq!(none, Err(NoForecast::Off));
    }

    #[test]
    fn a_stored_load_is_adopted_if_it_knows_more() {
        let (web, older) = all(&after(3000)).remove(0);
        let young = after(10);
        young.adopt("default", &web, older.clone(), NOW);
        assert_eq!(all(&young), [(web.clone(), older.clone())]);
        let (_, little) = all(&after(5)).remove(0);
        young.adopt("default", &web, little, NOW);
        assert_eq!(all(&young)[0].1, older);
        let empty = Forecasts::new(2, 3);
        empty.adopt("default", &web, older.clone(), NOW + FORGOTTEN + 1);
        assert_eq!(empty.count(), 0);
        empty.adopt("default", &web, older, NOW + FORGOTTEN - 1);
        assert_eq!(empty.count(), 1);
    }

    #[test]
    fn what_was_not_measured_for_long_is_forgotten() {
        let forecasts = after(10);
        sample(&forecasts, NOW, "new", 1.0);
        forecasts.forget(NOW + FORGOTTEN - 1);
        assert_eq!((forecasts.count(), all(&forecasts).len()), (2, 1));
        forecasts.forget(NOW + FORGOTTEN + 1);
        assert_eq!(forecasts.count(), 0);
    }
}
