//! What an owner permits: `paramedic.dev/resize: cpu=2x,memory=1.5x`, relative to the template.
use std::fmt;

use super::Resource;

/// How many times the template's value a limit may become, in thousandths: above 1, at most 10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor(u32);

impl Factor {
    const MOST: u32 = 10_000;

    /// Reads `2x` or `1.5x`.
    fn read(text: &str) -> Option<Self> {
        let number = text.strip_suffix('x')?;
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || whole.len() > 2 || part.len() > 3 || !digits(whole) || !digits(part)
        {
            return None;
        }
        let thousandths: u32 = format!("{whole}{part:0<3}").parse().ok()?;
        (thousandths > 1000 && thousandths <= Self::MOST).then_some(Self(thousandths))
    }

    /// This many times an amount, rounded down.
    #[must_use]
    pub fn times(self, amount: u64) -> u64 {
        u64::try_from(u128::from(amount) * u128::from(self.0) / 1000).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 1000, self.0 % 1000);
        if part == 0 {
            return write!(f, "{whole}x");
        }
        write!(f, "{whole}.{}x", format!("{part:03}").trim_end_matches('0'))
    }
}

/// The ceilings of one target; a resource without one is never resized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ceilings([Option<Factor>; 2]);

impl Ceilings {
    /// Reads the annotation.
    ///
    /// # Errors
    /// [`NotCeilings`] if it is something else.
    pub fn read(text: &str) -> Result<Self, NotCeilings> {
        let mut ceilings = Self::default();
        for part in text.split(',') {
            let (name, factor) = part.trim().split_once('=').ok_or(NotCeilings)?;
            let resource = Resource::ALL.into_iter().find(|resource| resource.name() == name);
            let place = &mut ceilings.0[resource.ok_or(NotCeilings)?.index()];
            if place.replace(Factor::read(factor).ok_or(NotCeilings)?).is_some() {
                return Err(NotCeilings);
            }
        }
        Ok(ceilings)
    }

    /// The ceiling of a resource.
    #[must_use]
    pub const fn of(&self, resource: Resource) -> Option<Factor> {
        self.0[resource.index()]
    }
}

impl fmt::Display for Ceilings {
    /// As [`Ceilings::read`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for resource in Resource::ALL {
            if let Some(factor) = self.of(resource) {
                write!(f, "{separator}{resource}={factor}")?;
                separator = ",";
            }
        }
        Ok(())
    }
}

/// A text names no ceilings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", Self::WHY)]
pub struct NotCeilings;

impl NotCeilings {
    /// The reason.
    pub const WHY: &'static str =
        "not of the form cpu=2x,memory=1.5x, with factors above 1x and up to 10x";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceilings_are_read_as_they_are_written() {
        for text in ["cpu=2x", "memory=1.5x", "cpu=2x,memory=1.5x", "cpu=10x,memory=1.025x"] {
            assert_eq!(Ceilings::read(text).unwrap().to_string(), text);
        }
        let spaced = Ceilings::read(" memory=1.50x , cpu=02x").unwrap();
        assert_eq!(spaced.to_string(), "cpu=2x,memory=1.5x");
        assert_eq!(spaced.of(Resource::Cpu).unwrap().times(250), 500);
        assert_eq!(spaced.of(Resource::Memory).unwrap().times(3), 4);
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "2x",
            "cpu",
            "cpu=",
            "cpu=2",
            "cpu=x",
            "cpu=1x",
            "cpu=0.5x",
            "cpu=10.001x",
            "cpu=11x",
            "cpu=100x",
            "cpu=-2x",
            "cpu=+2x",
            "cpu=2x,",
            "cpu=2x,cpu=3x",
            "cpu=2X",
            "gpu=2x",
            "CPU=2x",
            "cpu = 2x",
            "cpu=1.2345x",
            "cpu=1.5.0x",
            "cpu=2x;memory=2x",
        ] {
            assert_eq!(Ceilings::read(text), Err(NotCeilings), "{text:?}");
        }
    }
}
