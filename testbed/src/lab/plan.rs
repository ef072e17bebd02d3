//! The episodes of a seed. Pure: the same seed gives the same plan on every machine.
use fastrand::Rng;
use serde::{Deserialize, Serialize};

use super::kind::Kind;

/// The traffic behind a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Load {
    /// Two requests a second.
    Idle,
    /// This many requests a second.
    Steady(u32),
    /// This many in two seconds of five, a tenth in the others.
    Bursty(u32),
}

/// One episode, before it is played.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Episode {
    /// Counts from 0 within a seed.
    pub(crate) id: u32,
    pub(crate) kind: Kind,
    /// How bad, 0 to 1; what that means depends on the kind.
    pub(crate) intensity: f64,
    pub(crate) load: Load,
    /// CPU quota in percent of a core. A kind that needs none gets one by chance.
    pub(crate) quota: Option<u32>,
    /// The seed of patient-app.
    pub(crate) seed: u64,
}

/// Episodes that are played together.
pub(crate) type Batch = Vec<Episode>;

/// Faults and healthy targets in a batch, for a total number of faults.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) faults: usize,
    pub(crate) healthy: usize,
}

/// The plan of `seed`: as many batches as it takes for so many faults.
pub(crate) fn plan(seed: u64, faults: usize, shape: Shape) -> Vec<Batch> {
    let mut rng = Rng::with_seed(seed);
    let mut kinds = Vec::new();
    let (mut batches, mut id, mut healthy) = (Vec::new(), 0, 0);
    let mut left = faults;
    while left > 0 {
        let mut batch = Batch::new();
        for _ in 0..shape.faults.min(left) {
            if kinds.is_empty() {
                kinds = Kind::FAULTS.to_vec();
                rng.shuffle(&mut kinds);
            }
            if let Some(kind) = kinds.pop() {
                batch.push(draw(&mut rng, id, kind));
                id += 1;
                left -= 1;
            }
        }
        for _ in 0..shape.healthy {
            batch.push(draw(&mut rng, id, Kind::HEALTHY[healthy % Kind::HEALTHY.len()]));
            (id, healthy) = (id + 1, healthy + 1);
        }
        batches.push(batch);
    }
    batches
}

fn draw(rng: &mut Rng, id: u32, kind: Kind) -> Episode {
    let steady = Load::Steady(rng.u32(4..=16));
    let any = match rng.u8(0..10) {
        0..3 => Load::Idle,
        3..7 => steady,
        _ => Load::Bursty(rng.u32(12..=30)),
    };
    let load = match kind {
        Kind::HealthyIdle | Kind::Quota => Load::Idle,
        Kind::HealthySteady
        | Kind::HealthyRareErrors
        | Kind::HealthyFullCache
        | Kind::LiesSick
        | Kind::CpuBurn
        | Kind::HighLoad
        | Kind::HangUnseen
        | Kind::PoolUsedUp
        | Kind::CutOff
        | Kind::UpstreamSilent
        | Kind::Starved => steady,
        Kind::HealthyBursty => Load::Bursty(rng.u32(15..=40)),
        _ => any,
    };
    let intensity = rng.f64();
    let quota = match kind {
        Kind::CpuBurn | Kind::Leak => Some(20),
        Kind::Quota => Some(8 + (4.0 * (1.0 - intensity)) as u32),
        // The quota is on both it and its neighbour.
        Kind::Starved => None,
        _ if rng.bool() => Some(rng.u32(50..=150)),
        _ => None,
    };
    Episode { id, kind, intensity, load, quota, seed: rng.u64(..) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { faults: 5, healthy: 6 };

    #[test]
    fn a_seed_is_a_plan() {
        assert_eq!(plan(7, 30, SHAPE), plan(7, 30, SHAPE));
        assert_ne!(plan(7, 30, SHAPE), plan(8, 30, SHAPE));
    }

    #[test]
    fn every_kind_has_its_turn_before_any_has_two() {
        let batches = plan(1, 2 * Kind::FAULTS.len(), SHAPE);
        assert_eq!(batches.len(), 10);
        let all: Vec<_> = batches.concat();
        for kind in Kind::FAULTS {
            assert_eq!(all.iter().filter(|e| e.kind == kind).count(), 2, "{}", kind.name());
        }
        assert!(all.iter().enumerate().all(|(i, e)| e.id as usize == i));
    }

    #[test]
    fn a_longer_plan_begins_like_a_shorter_one() {
        assert_eq!(plan(1, 30, SHAPE)[..4], plan(1, 60, SHAPE)[..4]);
    }
}
