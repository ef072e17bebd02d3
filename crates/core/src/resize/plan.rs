//! By how much: one step from a limit to the next, as data.
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Ceilings, Factor, NoResize, Reason, Resource};

/// Whether a limit grows or shrinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Under stress.
    Up,
    /// After a quiet time.
    Down,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Up, Self::Down];

    /// Its name, as in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// What the rule wants, before anybody was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Of which resource.
    pub resource: Resource,
    /// Up or down.
    pub direction: Direction,
    /// The most that the target has used: since it is quiet, or now.
    pub used: u64,
    /// The limit that its cgroup has; `None` if it has none.
    pub limit: Option<u64>,
    /// What the agent last did to this limit.
    pub last: Option<Step>,
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.direction {
            Direction::Up => "more",
            Direction::Down => "less",
        };
        write!(f, "{verb} {}", self.resource)
    }
}

/// One step of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Of which resource.
    pub resource: Resource,
    /// The limit before.
    pub from: u64,
    /// The limit after.
    pub to: u64,
    /// The owner's own limit: in the template, or of a container as it was first seen.
    pub base: u64,
}

impl Step {
    /// Up or down.
    #[must_use]
    pub const fn direction(&self) -> Direction {
        if self.to > self.from { Direction::Up } else { Direction::Down }
    }

    /// The new limit as Kubernetes writes it.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.resource.text(self.to)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |amount| self.resource.text(amount);
        write!(f, "{} {} → {}", self.resource, text(self.from), text(self.to))
    }
}

/// A quarter beyond what the target uses stays free when a limit shrinks.
const fn with_room(used: u64) -> u64 {
    used.saturating_add(used / 4)
}

fn rounded_up(resource: Resource, amount: u64) -> u64 {
    amount.div_ceil(resource.grain()).saturating_mul(resource.grain())
}

/// The step that a wish leads to, from the present limit and the owner's own.
///
/// # Errors
/// Why no step may be taken.
pub fn step(wish: &Wish, ceilings: &Ceilings, limit: u64, base: u64) -> Result<Step, NoResize> {
    let Some(factor) = ceilings.of(wish.resource) else {
        return Err(NoResize::new(Reason::Mode, "its owner names no factor for it"));
    };
    match wish.direction {
        Direction::Up => up(wish.resource, factor, limit, base),
        Direction::Down => {
            let ours = wish.last.is_some_and(|last| [last.from, last.to].contains(&limit));
            if !ours && limit != base {
                return Err(NoResize::new(Reason::Foreign, wish.resource.text(limit)));
            }
            down(wish.resource, limit, base, wish.used)
        }
    }
}

/// A step up: half as much CPU again, a quarter more memory, to the ceiling at most.
///
/// # Errors
/// The limit is at its ceiling.
pub fn up(resource: Resource, factor: Factor, limit: u64, base: u64) -> Result<Step, NoResize> {
    let ceiling = factor.times(base);
    let more = match resource {
        Resource::Cpu => limit / 2,
        Resource::Memory => limit / 4,
    };
    let to = rounded_up(resource, limit.saturating_add(more.max(1))).min(ceiling);
    if to <= limit {
        let text = format!("{} is {factor} its {}", resource.text(ceiling), resource.text(base));
        return Err(NoResize::new(Reason::AtCeiling, text));
    }
    Ok(Step { resource, from: limit, to, base })
}

/// A step down: half of the way to the owner's own limit, and the whole of a short way; never below
/// five quarters of what the target has used.
///
/// # Errors
/// There is nothing to lower, or it is used.
pub fn down(resource: Resource, limit: u64, base: u64, used: u64) -> Result<Step, NoResize> {
    if limit <= base {
        return Err(NoResize::new(Reason::AtTemplate, resource.text(limit)));
    }
    let way = limit - base;
    let wanted =
        if way <= base / 4 { base } else { rounded_up(resource, limit - way / 2).max(base) };
    let to = wanted.max(rounded_up(resource, with_room(used)));
    if to >= limit {
        let text = format!("{} of {}", resource.text(used), resource.text(limit));
        return Err(NoResize::new(Reason::InUse, text));
    }
    Ok(Step { resource, from: limit, to, base })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn factor(text: &str, resource: Resource) -> Factor {
        Ceilings::read(&format!("{resource}={text}")).unwrap().of(resource).unwrap()
    }

    fn ups(resource: Resource, text: &str, base: u64) -> Vec<u64> {
        let mut limits = vec![base];
        while let Ok(step) = up(resource, factor(text, resource), limits[limits.len() - 1], base) {
            assert_eq!(step.from, limits[limits.len() - 1]);
            limits.push(step.to);
        }
        limits
    }

    #[test]
    fn limits_grow_in_steps_up_to_the_ceiling() {
        assert_eq!(ups(Resource::Cpu, "2x", 500), [500, 750, 1000]);
        assert_eq!(ups(Resource::Cpu, "1.1x", 500), [500, 550]);
        assert_eq!(ups(Resource::Cpu, "3x", 1), [1, 3], "the grain is larger than the limit");
        let mib = ups(Resource::Memory, "2x", 100 * MIB);
        let mib: Vec<u64> = mib.iter().map(|bytes| bytes / MIB).collect();
        assert_eq!(mib, [100, 125, 157, 197, 200]);
        let at = up(Resource::Cpu, factor("2x", Resource::Cpu), 1000, 500).unwrap_err();
        assert_eq!(at.to_string(), "its limit is at its ceiling: 1 is 2x its 500m");
    }

    #[test]
    fn a_limit_above_its_ceiling_does_not_grow() {
        let lowered = up(Resource::Cpu, factor("2x", Resource::Cpu), 1500, 500).unwrap_err();
        assert_eq!(lowered.reason, Reason::AtCeiling);
        let huge = up(Resource::Memory, factor("10x", Resource::Memory), u64::MAX, u64::MAX);
        assert_eq!(huge.unwrap_err().reason, Reason::AtCeiling);
    }

    #[test]
    fn limits_shrink_by_halves_to_the_template() {
        let mut limits = vec![200];
        while let Ok(step) = down(Resource::Cpu, limits[limits.len() - 1], 100, 10) {
            limits.push(step.to);
        }
        assert_eq!(limits, [200, 150, 130, 120, 100]);
        assert_eq!(down(Resource::Cpu, 100, 100, 0).unwrap_err().reason, Reason::AtTemplate);
    }

    #[test]
    fn a_limit_never_shrinks_below_five_quarters_of_what_is_used() {
        let to = |used: u64| down(Resource::Memory, 200 * MIB, 100 * MIB, used * MIB);
        assert_eq!(to(10).unwrap().to, 150 * MIB);
        assert_eq!(to(140).unwrap().to, 175 * MIB);
        assert_eq!(to(160).unwrap_err().reason, Reason::InUse);
        assert_eq!(to(1000).unwrap_err().reason, Reason::InUse);
    }

    #[test]
    fn what_others_have_set_is_not_lowered() {
        let last = Step { resource: Resource::Cpu, from: 500, to: 750, base: 500 };
        let wish = Wish {
            resource: Resource::Cpu,
            direction: Direction::Down,
            used: 100,
            limit: None,
            last: Some(last),
        };
        let ceilings = Ceilings::read("cpu=2x").unwrap();
        assert_eq!(step(&wish, &ceilings, 750, 500).unwrap().to, 630);
        assert_eq!(step(&wish, &ceilings, 900, 500).unwrap_err().reason, Reason::Foreign);
        assert_eq!(step(&wish, &ceilings, 500, 500).unwrap_err().reason, Reason::AtTemplate);
        let unknown = Wish { last: None, ..wish };
        assert_eq!(step(&unknown, &ceilings, 750, 500).unwrap_err().reason, Reason::Foreign);
        let of_memory = Wish { resource: Resource::Memory, ..wish };
        assert_eq!(step(&of_memory, &ceilings, 750, 500).unwrap_err().reason, Reason::Mode);
    }
}
